"""The course's drawings: nothing empty, nothing overlaps, each has its words; one moves."""

import itertools
import re
import warnings
from types import SimpleNamespace

import IPython
import matplotlib
import pytest
from conftest import ROOT
from IPython.core import pylabtools
from matplotlib.patches import FancyBboxPatch
from matplotlib.transforms import Bbox

from minialbert.lab import diagrams
from minialbert.lab.refresh import read_notebook

DRAWINGS = {
    "course": diagrams.course,
    "layer": diagrams.transformer_layer,
    "block": lambda: diagrams.recursion(6, 6, adapters=False),
    "adapters": diagrams.recursion,
    "adapters, paper": lambda: diagrams.recursion(6, 1),
    "adapter": diagrams.adapter,
    "factorisation": diagrams.factorisation,
    "factorisation, lab": lambda: diagrams.factorisation(d=384),
    "map": diagrams.layer_map,
    "map, paper": lambda: diagrams.layer_map(6, 12),
    "losses": diagrams.loss_flow,
    "windows": diagrams.windows,
}


def outlines(figure):
    """({text: its outline}, the boxes' outlines), in pixels."""
    figure.canvas.draw()
    (axis,) = figure.axes
    texts = [text for text in axis.texts if text.get_text()]
    boxes = [patch for patch in axis.patches if isinstance(patch, FancyBboxPatch)]
    shapes = [box.get_path().get_extents(box.get_transform()) for box in boxes]
    named = {
        f"{number}: {text.get_text()}": text.get_window_extent()
        for number, text in enumerate(texts)
    }
    return named, shapes


def faults(figure) -> list:
    texts, boxes = outlines(figure)
    pairs = itertools.combinations(texts.items(), 2)
    found = [
        f"{one!r} lies on {other!r}" for (one, a), (other, b) in pairs if Bbox.intersection(a, b)
    ]
    for text, outline in texts.items():
        for box in [*boxes, figure.bbox]:
            shared = Bbox.intersection(outline, box)
            within = shared is not None and shared.size == pytest.approx(outline.size)
            if not within and (shared is not None or box is figure.bbox):
                found.append(f"{text!r} crosses an edge")
    return found


@pytest.mark.parametrize("name", DRAWINGS)
def test_a_drawing_is_in_order(name):
    figure = DRAWINGS[name]()
    texts, boxes = outlines(figure)
    assert len(texts) >= 4 and len(boxes) >= 2
    assert not faults(figure)
    assert len(figure.alt) > 80 and "{" not in figure.alt
    assert not matplotlib.pyplot.get_fignums(), "a figure left open is shown twice"


@pytest.mark.parametrize(
    "x, text, fault",
    [(2.4, "crossing", "crosses an edge"), (1.6, "on it", "lies on"), (9.1, "outside", "crosses")],
)
def test_each_fault_is_found(x, text, fault):
    figure, axis = diagrams._canvas(1)
    diagrams._box(axis, 1, 0.2, 1.5, 0.6, "in order", "teacher")
    assert not faults(figure)
    diagrams._say(axis, x, 0.5, text)
    assert any(fault in one for one in faults(figure))


def test_a_notebook_gets_the_words_with_the_picture():
    formatter = IPython.core.formatters.DisplayFormatter()
    pylabtools.select_figure_formats(SimpleNamespace(display_formatter=formatter), "png")
    with matplotlib.style.context("minialbert.lab.course"), warnings.catch_warnings():
        warnings.simplefilter("error")
        data, about = formatter.format(diagrams.layer_map(2, 4))
    assert data["image/png"]
    assert about["image/png"]["alt"].endswith(
        "Each visit has an arrow to its layer: 1 to 2, 2 to 4."
    )


def test_the_recursion_moves_and_asks_no_other_host():
    pages = [diagrams.moving_recursion().data for _ in range(2)]
    assert pages[0] == pages[1], "the same text in each run"
    frames = re.findall(r'frames\[\d+\] = "data:image/png;base64,([^"]+)"', pages[0])
    assert len(frames) == len(set(frames)) == 3 * 4
    assert not re.search("https?://", pages[0]) and len(pages[0].encode()) < 300_000
    assert re.findall(r"<button[^>]*>\s*(\S)\s*</button>", pages[0]) == list("−«‹◀‖▶›»+")


def test_every_chapter_has_its_minutes():
    """To read: what its words and lines of code make, give or take ten minutes."""
    chapters = diagrams.CHAPTERS.set_index("notebook")
    paths = sorted((ROOT / "notebooks").glob("*.ipynb"))
    assert list(chapters.index) == [path.stem for path in paths]
    for path in paths:
        kinds = {"markdown": "", "code": ""}
        for cell in read_notebook(path).cells:
            kinds[cell.cell_type] += cell.source + "\n"
        words = len(re.findall(r"\w[\w'’-]*", kinds["markdown"]))
        lines = sum(bool(line.strip()) for line in kinds["code"].splitlines())
        estimate = words / 180 + lines / 12
        assert abs(chapters.loc[path.stem, "read"] - estimate) <= 10, f"{path.stem}: {estimate:.0f}"
    assert (chapters["run"] > 0).all()
