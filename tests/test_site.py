"""The course as a web site: its links lead somewhere, its pages live and ask no other host."""

import functools
import html.parser
import http.server
import os
import re
import shutil
import subprocess
import sys
import threading
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
from conftest import ROOT
from filelock import FileLock
from test_browser import SCREENSHOTS, chromium, page, token, visible_lines, watched  # noqa: F401

for needed in ("sphinx", "myst_nb", "sphinx_book_theme", "mathjax"):
    pytest.importorskip(needed, reason="needs the site's packages: pip install -e '.[site]'")
needs_make = pytest.mark.skipif(not shutil.which("make"), reason="needs make")
CHAPTERS = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))


def run(*command):
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The site, as `make site` builds it; once for all of `make test`'s workers."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "site"
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            run("make", "site", f"SITE={folder}", f"PYTHON={sys.executable}", "INSTALLED=")
    return folder


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def serve():
    """Serves a folder; gives its address."""
    servers = []

    def start(folder):
        handler = functools.partial(Quiet, directory=folder)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def address(site, serve):
    return serve(site)


class Page(html.parser.HTMLParser):
    """What a page names, and what it points at."""

    def __init__(self, path):
        super().__init__()
        self.names, self.targets = set(), set()
        self.feed(path.read_text(encoding="utf8"))

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.names |= {attributes.get("id"), attributes.get("name")}
        self.targets |= {attributes.get("href"), attributes.get("src")} - {None}


@needs_make
def test_every_link_leads_somewhere(site):
    pages = {path: Page(path) for path in site.rglob("*.html") if "_static" not in path.parts}
    assert {path.stem for path in pages} >= {"index", "search", "teaching", *CHAPTERS}
    lost, followed = [], 0
    for path, read in pages.items():
        for target in read.targets:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            followed += 1
            aim = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            known = pages[aim].names if aim in pages else {""}
            if not aim.exists() or (aim in pages and parts.fragment not in known | {""}):
                lost.append(f"{path.relative_to(site)}: {target}")
    assert followed > 500 and not lost, lost


@needs_make
def test_a_picture_has_words(site):
    for name in CHAPTERS:
        chapter = (site / f"notebooks/{name}.html").read_text(encoding="utf8")
        for picture in re.findall(r"<img [^>]+>", chapter):
            words = re.search(r'alt="([^"]*)"', picture)
            assert words and " " in words[1], f"{name}: {picture[:200]}"
    assert 'alt="Five rows of chapters' in (site / "notebooks/00_start_here.html").read_text("utf8")


@needs_make
@pytest.mark.parametrize("width, scheme", [(1280, "light"), (400, "dark")])
def test_pages_fit_and_ask_no_other_host(page, address, width, scheme):  # noqa: F811
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=scheme)
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    chapters = [f"notebooks/{CHAPTERS[n]}" for n in (2, 5, 8, 10, 14)]
    for name in ("index", "CONTRIBUTING", "docs/teaching", *chapters):
        page.goto(f"{address}/{name}.html", wait_until="load")
        if name in chapters:
            page.locator("mjx-container").first.wait_for()
        assert page.locator("mjx-merror").count() == 0, "an equation that MathJax cannot read"
        assert page.evaluate("document.documentElement.scrollWidth") <= width, f"{name} is wider"
        shown = name.rpartition("/")[2]
        page.screenshot(path=SCREENSHOTS / f"site_{shown}_{width}_{scheme}.png", full_page=True)


@needs_make
def test_search_finds_a_word(page, address):  # noqa: F811
    page.goto(f"{address}/search.html?q=bottleneck")
    page.locator("#search-results li a", has_text="Bottleneck adapters").first.click()
    assert page.locator("h1").first.inner_text().startswith("03")


@needs_make
@pytest.mark.parametrize("width", [1280, 400])
def test_attention_is_hovered(page, address, width):  # noqa: F811
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(f"{address}/notebooks/08_attention_maps.html")
    element = page.locator("iframe[title*='head view']")
    element.scroll_into_view_if_needed()
    frame = page.frame_locator("iframe[title*='head view']")
    token(frame, "student", "book").hover()
    heads, tokens = 12, 12
    assert visible_lines(frame, "student") == heads * tokens == visible_lines(frame, "teacher")
    element.screenshot(path=SCREENSHOTS / f"site_head_view_{width}.png")
    page.locator("iframe[title*='model view']").screenshot(
        path=SCREENSHOTS / f"site_model_view_{width}.png"
    )


# -- outputs that move


def moving():
    """A notebook with an animation of three frames, as matplotlib writes it, and a widget."""
    import matplotlib.animation
    import matplotlib.figure

    figure = matplotlib.figure.Figure(figsize=(2, 1))
    axis = figure.subplots()
    animation = matplotlib.animation.FuncAnimation(
        figure, lambda frame: axis.plot([0, frame]), frames=3
    )
    shown = {"text/html": animation.to_jshtml(), "text/plain": "<animation>"}
    new = nbformat.v4
    outputs = [
        new.new_output("display_data", data)
        for data in (shown, {"text/plain": "interactive(children=(IntSlider(value=1),))"})
    ]
    cell = new.new_code_cell("animation", outputs=outputs, execution_count=1)
    python = {"language_info": {"name": "python"}}
    return new.new_notebook(cells=[new.new_markdown_cell("# Moving"), cell], metadata=python)


def test_an_animation_moves(page, tmp_path, serve):  # noqa: F811
    pages = tmp_path / "pages"
    pages.mkdir()
    nbformat.write(moving(), pages / "moving.ipynb")
    (pages / "index.md").write_text("# Front\n\n```{toctree}\nmoving\n```\n", encoding="utf8")
    sphinx = (sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning", "-c", "docs")
    run(*sphinx, str(pages), str(tmp_path / "site"))
    page.goto(serve(tmp_path / "site") + "/moving.html")
    slider = page.locator(".animation input[type=range]")
    slider.wait_for()
    page.locator(".animation button[title=Pause]").click()
    slider.press("Home")
    before = page.locator(".animation img").get_attribute("src")
    slider.press("End")
    after = page.locator(".animation img").get_attribute("src")
    assert before.startswith("data:image/png") and before != after
    assert page.get_by_text("Run this notebook to move the sliders").count() == 1
    page.screenshot(path=SCREENSHOTS / "site_animation.png")
