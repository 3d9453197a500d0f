"""Figures that claim a scale keep it."""

from collections import Counter

import pytest
from conftest import ROOT
from matplotlib.colors import to_hex

from minialbert import batch, figures, paper


def test_bodies_and_files_are_drawn_to_scale():
    files = {"one": 400_000, "two": 900_000}
    axis = figures.body_and_files(20_000_000, files, whole=21_000_000).axes[0]
    areas = [patch.get_width() * patch.get_height() for patch in axis.patches]
    assert areas == pytest.approx(
        [20e6, 400e3, 900e3, 21e6, 21e6]
    )  # the body, its files, a whole model a task
    assert "21.3 MB for one body, 42.0 MB otherwise" in axis.get_title(loc="left")


def test_tuning_scores_are_shown_against_the_first():
    axis = figures.tuning_scores(
        {"all": [80.0, 82.0], "adapters": [78.0]}, "accuracy", "title", within=3
    ).axes[0]
    assert [text.get_text().strip() for text in axis.texts] == ["81.0", "78.0"]
    shade = axis.patches[0]
    assert (shade.get_x(), shade.get_width()) == (78.0, 3.0)


def test_every_claim_is_a_square_of_its_verdicts_colour():
    axis = figures.ledger_squares({"one": ["exact", "needs a run", "exact"], "two": ["slip"]}).axes[
        0
    ]
    colours = Counter(to_hex(patch.get_facecolor()).upper() for patch in axis.patches)
    wanted = {"exact": 2, "needs a run": 1, "slip": 1}
    assert colours == {figures.VERDICTS[verdict][0]: count for verdict, count in wanted.items()}
    assert [text.get_text() for text in axis.texts] == ["=", "=", "", "!"]


def test_the_architecture_is_drawn_to_scale():
    shared = {"embeddings": 20e6, "block": 10e6, "total": 80e6}
    axis = figures.architecture(
        shared | {"layers": 6}, {**shared, "embeddings": 5e6, "visits": 3}
    ).axes[0]
    areas = [
        patch.get_width() * patch.get_height()
        for patch in axis.patches
        if to_hex(patch.get_facecolor()) != figures.COLOURS["extra"].lower()
    ]
    assert areas == pytest.approx(
        [2, *[1] * 6, 0.5, *[1] * 3]
    )  # in blocks: table, layers; table, visits


def test_make_figures_draws_the_committed_pictures(tmp_path):
    recipe = (
        (ROOT / "Makefile")
        .read_text(encoding="utf8")
        .partition("\nfigures:")[2]
        .partition("\n\n")[0]
    )
    assert "run notebooks/14_results.ipynb -p pictures ../figures --to" in recipe
    batch.run_notebook(
        ROOT / "notebooks/14_results.ipynb",
        {"pictures": str(tmp_path / "drawn")},
        tmp_path,
        quiet=True,
    )
    drawn, committed = (
        sorted(path.name for path in folder.glob("*"))
        for folder in (tmp_path / "drawn", ROOT / "figures")
    )
    assert drawn == [name for name in committed if name != "data"]
    assert all(path.stat().st_size > 10_000 for path in (tmp_path / "drawn").iterdir())
    verdicts = (tmp_path / "ledger.csv").read_text(encoding="utf8").count("\n")
    assert verdicts > len(paper.CLAIMS)  # and a line of names
