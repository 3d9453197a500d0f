"""The course as a web site, by `make site`: README and notebooks as committed; nothing is run.

Its readers' browsers ask this site alone: MathJax comes along from an installed package.
"""

import json
import re
import shutil
import textwrap
from importlib.resources import files
from pathlib import Path

ROOT = Path(__file__).parents[1]
project = "MiniALBERT Lab"
extensions = ["myst_nb", "sphinx.ext.mathjax"]
exclude_patterns = ["README.md"]  # index.md includes it

nb_execution_mode = "off"
nb_ipywidgets_js = {}  # from another host, otherwise
nb_merge_streams = True
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 4

html_theme = "sphinx_book_theme"
html_title = project
html_static_path = [str(Path(__file__).with_name("site.css"))]
html_css_files = ["site.css"]
html_favicon = str(Path(__file__).with_name("favicon.svg"))
html_context = {"default_mode": "auto"}  # light or dark, as the reader's system is
html_copy_source = True
html_sourcelink_suffix = ""  # a notebook's download is a notebook
html_theme_options = {
    "footer_content_items": [],
    "navbar_persistent": [],  # the sidebar has the search
    "show_toc_level": 2,
    "use_fullscreen_button": False,
}
mathjax_path = "mathjax/tex-mml-chtml.js"
MATHJAX = ["tex-mml-chtml.js", "output/chtml/fonts", "input/tex/extensions"]

SLIDERS = "*Run this notebook to move the sliders and use the controls.*"
ELSEWHERE = r'<link[^>]*\shref="https?://[^>]*>'  # matplotlib's animations ask for an icon font
MOVING = '<img alt="An animation: the picture above it, step by step" id="_anim_img'


def folded(line):
    """A long sentence in lines that fit the page; what stands in columns is left alone."""
    if "  " in line.strip():
        return line
    return textwrap.fill(line, 100, subsequent_indent="    ")


def without_kernel(output):
    """A notebook's output as a page can show it: a widget is one line, a progress bar nothing."""
    if "text" in output:
        lines = "".join(output["text"]).split("\n")
        return [output | {"text": "\n".join(map(folded, lines))}]
    data = {kind: "".join(text) for kind, text in output.get("data", {}).items()}
    if "text/html" in data:
        data["text/html"] = re.sub(ELSEWHERE, "", data["text/html"])
        data["text/html"] = data["text/html"].replace('<img id="_anim_img', MOVING)
    if data.keys() == {"text/plain"}:
        if re.search(r"\?(it| examples)/s\]", data["text/plain"]):
            return []
        if data["text/plain"].startswith(("interactive(", "VBox(", "HBox(")):
            data = {"text/markdown": SLIDERS}
    return [output | {"data": data} if data else output]


def alt(cell, heading):
    """The words of a cell's picture: those of lab/diagrams.py, its title, or its section's."""
    pictures = [output for output in cell["outputs"] if "image/png" in output.get("data", {})]
    own = [picture.get("metadata", {}).get("image/png", {}).get("alt") for picture in pictures]
    titles = re.findall(r'title[=(]"([^"]+)"', "".join(cell["source"]))
    words = filter(None, [*own, *(f"A plot: {title}" for title in titles), f"A plot: {heading}"])
    return next(words) if pictures else None


def view(source):
    """A view of bertviz as notebook 08's cell makes it, from the attention that views.py kept."""
    from minialbert.lab import attention

    maps = attention.Maps.load(ROOT / "figures/attention_maps.json")
    names = vars(attention) | {"maps": maps, "heads": maps.student.shape[1]}
    return eval(source, names).frame


def prepare(app, name, source):
    """Called with each page's source before it is parsed."""
    if app.env.doc2path(name).suffix != ".ipynb":
        return
    notebook, heading = json.loads(source[0]), ""
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            heading = ([heading] + re.findall(r"(?m)^#+ (.+)", "".join(cell["source"])))[-1]
        if cell["cell_type"] == "code":
            cell["outputs"] = [new for old in cell["outputs"] for new in without_kernel(old)]
            if words := alt(cell, heading):
                cell["metadata"]["mystnb"] = {"image": {"alt": words}}
        for output in cell.get("outputs", []):
            if re.match("<(head|model) view", output.get("data", {}).get("text/plain", "")):
                output["data"]["text/html"] = view("".join(cell["source"]))
    source[0] = json.dumps(notebook)


def copy_mathjax(app, error):
    """Called when all pages are written."""
    here = files("mathjax") / "static/mathjax/es5"
    for name in MATHJAX:
        target = Path(app.outdir, "_static/mathjax", name)
        target.parent.mkdir(parents=True, exist_ok=True)
        if (here / name).is_dir():
            shutil.copytree(here / name, target, dirs_exist_ok=True)
        else:
            shutil.copy(here / name, target)


def setup(app):
    app.connect("source-read", prepare)
    app.connect("build-finished", copy_mathjax)
