"""Figures that claim a scale keep it."""

import pytest

from minialbert import figures


def test_bodies_and_files_are_drawn_to_scale():
    files = {"one": 400_000, "two": 900_000}
    axis = figures.body_and_files(20_000_000, files, whole=21_000_000).axes[0]
    areas = [patch.get_width() * patch.get_height() for patch in axis.patches]
    assert areas == pytest.approx([20e6, 400e3, 900e3, 21e6, 21e6])  # the body, its files, a whole model a task
    assert "21.3 MB for one body, 42.0 MB otherwise" in axis.get_title(loc="left")


def test_tuning_scores_are_shown_against_the_first():
    axis = figures.tuning_scores({"all": [80.0, 82.0], "adapters": [78.0]}, "accuracy", "title", within=3).axes[0]
    assert [text.get_text().strip() for text in axis.texts] == ["81.0", "78.0"]
    shade = axis.patches[0]
    assert (shade.get_x(), shade.get_width()) == (78.0, 3.0)
