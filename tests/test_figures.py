"""The plots that notebooks share show the numbers they are given."""

import subprocess
import sys

import ipywidgets
import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_hex

from minialbert.lab import figures


def bars(axis):
    """{colour: lengths} of an axis's horizontal bars."""
    found = {}
    for patch in axis.patches:
        found.setdefault(to_hex(patch.get_facecolor()).upper(), []).append(patch.get_width())
    return found


def test_importing_changes_no_setting_and_the_style_is_chosen_by_name():
    code = (
        "import matplotlib; before = dict(matplotlib.rcParams);"
        "from minialbert.lab import figures; assert dict(matplotlib.rcParams) == before;"
        "figures.use_style(); assert not matplotlib.rcParams['axes.spines.top']"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_system_has_its_colour_by_its_whole_name():
    assert figures.system_colour("teacher") == figures.COLOURS["teacher"]
    assert figures.system_colour("shipped student") != figures.system_colour("student")
    assert figures.system_colour("my teacher's friend") == figures.COLOURS["student"]


def test_a_control_has_a_name_and_its_picture_follows():
    drawn, sliders = [], [ipywidgets.IntSlider(1), ipywidgets.IntSlider(2, description="layer l")]
    figures.explore(lambda **chosen: drawn.append(chosen), head=sliders[0], layer=sliders[1])
    assert [slider.description for slider in sliders] == ["head", "layer l"]
    sliders[0].value = 3
    assert drawn == [{"head": 1, "layer": 2}, {"head": 3, "layer": 2}]


def test_parameter_bars_stack_what_each_model_has():
    axis = figures.parameter_bars(
        {"A": {"embeddings": 2e6, "blocks": 3e6}, "B": {"embeddings": 1e6, "adapters": 5e5}}
    ).axes[0]
    assert bars(axis) == {
        figures.COLOURS["sky"]: pytest.approx([2, 1]),
        figures.COLOURS["student"]: pytest.approx([3, 0], nan_ok=True),
        figures.COLOURS["extra"]: pytest.approx([0, 0.5], nan_ok=True),
    }
    assert [text.get_text().strip() for text in axis.texts] == ["5.00 M", "1.50 M"]


def test_stacked_shares_are_written_in_where_there_is_room():
    axis = figures.stacked_bars({"a": {"x": 0.97, "y": 0.03}}, "share", "title", True).axes[0]
    assert [text.get_text() for text in axis.texts] == ["97%", ""]


def test_loss_curves_show_means_over_iterations():
    history = [
        {"step": 1, "loss": 9.0, "hidden": 3.0, "mlm": 6.0},
        {"step": 2, "loss": 5.0, "hidden": 1.5, "mlm": 3.0},
        {"step": 2, "eval_hidden": 0.4},
    ]
    left, right = figures.loss_curves(history, iterations=3).axes
    training, held_out = left.lines
    assert training.get_ydata().tolist() == pytest.approx([1.0, 0.5])
    assert held_out.get_ydata().tolist() == [0.4] and left.get_ylabel() == "1 - cosine"
    assert [line.get_label() for line in right.lines] == ["training, masked words (eq. 6)"]
    assert right.lines[0].get_ydata().tolist() == [6.0, 3.0]
    assert len(figures.loss_curves(history, 3, {"mlm": 0}).axes) == 1  # not trained: not drawn


def test_agreement_maps_frame_the_closest_head():
    axis = figures.agreement_maps({"student": np.array([[0.9, 0.2], [0.5, 0.7]])}, [1, 4]).axes[0]
    assert [text.get_text() for text in axis.texts] == ["0.90", "0.20", "0.50", "0.70"]
    assert axis.patches[0].get_xy() == (1, 0)
    assert [label.get_text() for label in axis.get_yticklabels()][1] == "iteration 2\nlayer 4"


def test_scores_are_shown_by_mean_and_seed():
    scores = {"teacher": [0.9], "student": [0.7, 0.8]}
    panels, guess = {"Fine-tuned": ("Pearson", scores)}, {"Fine-tuned": (0.6, "counting")}
    axis = figures.scores_side_by_side(panels, guess).axes[0]
    assert bars(axis) == {
        figures.COLOURS["teacher"]: pytest.approx([0.9]),
        figures.COLOURS["student"]: pytest.approx([0.75]),
    }
    assert axis.lines[0].get_xdata() == pytest.approx([0.7, 0.8])
    assert [0.6, 0.6] in [list(line.get_xdata()) for line in axis.lines]
    assert axis.get_xlabel() == "Pearson\n(dotted: counting, 0.60)"


def test_effects_tell_the_papers_values_from_ours():
    here = {"hidden only": (-1.0, 0.5, [-1.2, -0.8])}
    paper = {"hidden only": (-2.0, None, [])}
    left, right = figures.effects({"Here": ("points", here), "Paper": ("points", paper)}, "T").axes
    dots = [axis.containers[0].lines[0] for axis in (left, right)]
    assert [dot.get_xdata()[0] for dot in dots] == [-1.0, -2.0]
    assert dots[0].get_color() == figures.COLOURS["student"] != dots[1].get_color()
    assert left.get_xlim() == right.get_xlim()  # a point is as wide in both


def test_points_lie_where_the_numbers_say():
    averages = {"BERT-base": (110, 80.0), "MiniALBERT, rank 128, adapters": (12, 76.5)}
    left, right = figures.score_against_parameters(
        averages, "stsb", averages, {"student": (6, 79.0)}
    ).axes
    assert [line.get_xydata()[0].tolist() for line in left.lines] == [[110, 80], [12, 76.5]]
    assert right.lines[-1].get_xydata().tolist() == [[6, 79]]
    models = {"DistilBERT": (66, 1.0, 0.9, 1.1), "MiniALBERT 128 + adapters": (12, 1.2, 1.1, 1.4)}
    axis = figures.size_against_latency(models).axes[0]
    assert [text.get_text() for text in axis.texts] == ["DistilBERT", "rank 128"]
    points = [container.lines[0].get_xydata()[0].tolist() for container in axis.containers]
    assert points == [[66, 1.0], [12, 1.2]]


def test_no_figure_is_left_open():
    figures.parameter_bars({"A": {"blocks": 1}})
    assert not matplotlib.pyplot.get_fignums()
