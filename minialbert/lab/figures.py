"""The plots that two or more notebooks share: given numbers, each returns a matplotlib Figure."""

import io
from contextlib import redirect_stdout
from html import escape
from pathlib import Path

import ipywidgets
import numpy as np
import pandas as pd
import seaborn as sns
import yaml
from matplotlib import pyplot as plt
from matplotlib.ticker import MaxNLocator

_LOOKS = yaml.safe_load(Path(__file__).with_name("colours.yaml").read_text(encoding="utf8"))
COLOURS = _LOOKS["colours"]
SYSTEM_COLOURS = {name: COLOURS.get(colour, colour) for name, colour in _LOOKS["systems"].items()}
TERMS = {name: (label, COLOURS[colour]) for name, (label, colour) in _LOOKS["terms"].items()}


def use_style():
    """Draws in the course's style from now on: for a notebook's set-up cell."""
    plt.style.use("minialbert.lab.course")  # course.mplstyle, next to this file


def explore(draw, **controls):
    """Sliders and the like above a picture that follows them: `interact` without its Output widget,
    for which a notebook that nobody watches (papermill, refresh) can wait for ever.

    Args:
        draw: a function that draws with matplotlib; what it prints stands above the picture.
        controls: {an argument of draw: a widget with a `value`}; it has that name if no other.
    """
    text, picture = ipywidgets.HTML(), ipywidgets.Image(format="png")

    def show(_=None):
        printed, drawn = io.StringIO(), io.BytesIO()
        with redirect_stdout(printed):
            figure = draw(**{name: control.value for name, control in controls.items()})
        figure = figure or plt.gcf()
        figure.savefig(drawn)
        plt.close(figure)
        text.value = f"<pre>{escape(printed.getvalue())}</pre>"
        picture.value = drawn.getvalue()

    show()
    for name, control in controls.items():
        control.description = control.description or name
        control.observe(show, "value")
    box = ipywidgets.VBox([*controls.values(), text, picture])
    return box.add_class("explore")


def system_colour(system: str) -> str:
    """The colour of SYSTEM_COLOURS; a student's for a name that is not in it."""
    return SYSTEM_COLOURS.get(system, COLOURS["student"])


def _axes(columns=1, width=7.5, height=3.4, **options):
    """A figure and its row of axes, always as an array."""
    figure, axes = plt.subplots(
        1, columns, figsize=(width, height), squeeze=False, layout="constrained", **options
    )
    plt.close(figure)  # shown once, where a notebook's cell ends with it
    return figure, axes[0]


def _stack(axis, table: pd.DataFrame, colours: list[str], width: float):
    """A bar for each row of the table, the first on top, made of its columns."""
    palette = [COLOURS[name] for name in colours]
    table.plot.barh(stacked=True, ax=axis, color=palette, width=width, legend=False)
    axis.set_ylabel("")
    axis.invert_yaxis()
    axis.grid(axis="y", visible=False)


def parameter_bars(models: dict[str, dict[str, int]]):
    """Stacked bars of parameter counts: {model: {part: count}}, in millions."""
    figure, (axis,) = _axes(height=1.2 + 0.6 * len(models))
    millions = pd.DataFrame(models).T / 1e6
    _stack(axis, millions, ["sky", "student", "extra", "violet", "start", "random"], 0.6)
    totals = millions.sum(axis=1)
    for row, total in enumerate(totals):
        axis.text(total, row, f" {total:.2f} M", va="center")
    axis.set(xlabel="parameters (millions)", title="Where the parameters are")
    axis.set_xlim(0, totals.max() * 1.16)
    figure.legend(ncols=millions.shape[1], loc="outside lower center", fontsize=9)
    return figure


def stacked_bars(rows: dict[str, dict[str, float]], unit: str, title: str, shares=False):
    """{row: {part: number}}; colours follow the parts' order. Shares (0..1) are written in."""
    figure, (axis,) = _axes(width=8.6, height=1.5 + 0.42 * len(rows))
    table = pd.DataFrame(rows).T
    _stack(axis, table, ["sky", "teacher", "extra", "student", "start", "violet", "random"], 0.66)
    axis.set(xlabel=unit, title=title)
    if shares:
        for bars in axis.containers:
            shown = [f"{share:.0%}" if share > 0.035 else "" for share in bars.datavalues]
            axis.bar_label(bars, shown, label_type="center", fontsize=9)
        axis.set_xlim(0, 1)
        axis.xaxis.set_major_formatter("{x:.0%}")
    figure.legend(ncols=4, loc="outside lower center", fontsize=9)
    return figure


def size_and_score(millions: dict[str, float], scores: dict[str, float], score: str):
    """A point for each system: its parameters, in millions, against a score from 0 to 1."""
    figure, (axis,) = _axes(height=3.2)
    for name, value in scores.items():
        axis.scatter(millions[name], value, s=130, color=system_colour(name), zorder=3)
        text = f"{name}\n{value:.2f}"
        axis.annotate(
            text, (millions[name], value), (9, 0), textcoords="offset points", va="center"
        )
    axis.set(xlabel="parameters (millions)", ylabel=score, xlim=(0, 1.25 * max(millions.values())))
    axis.margins(y=0.3)
    return figure


CURVES = {  # a panel of loss_curves: (unit, terms of the training log, term on held-out text)
    "hidden states": ("1 - cosine", ("hidden",), "eval_hidden"),
    "attention maps": ("KL (nats)", ("attention",), "eval_attention_row"),
    "words and embeddings": ("loss", ("mlm", "output", "embedding"), ""),
}


def loss_curves(history: list[dict], iterations: int, weights: dict | None = None):
    """The terms of equation 11, a panel for each unit, from the trainer's log: in training (lines)
    and on held-out text (dots). Panels that nothing was logged for are left out.

    The log sums attention and hidden losses over K = `iterations`; shown is their mean. A term
    whose weight in `weights` is 0 is not drawn: nothing was trained by it.
    """
    log = pd.DataFrame(history).set_index("step")
    trained = [term for term in TERMS if term in log and (weights or {}).get(term, 1)]
    panels = {}
    for title, (unit, terms, held_out) in CURVES.items():
        drawn = [term for term in terms if term in trained]
        if drawn or held_out in log:
            panels[title] = unit, drawn, held_out
    figure, axes = _axes(len(panels), width=9, height=3.6)
    for axis, (title, (unit, terms, held_out)) in zip(axes, panels.items(), strict=True):
        for term in terms:
            label, colour = TERMS[term]
            values = log[term].dropna() / (iterations if term in ("attention", "hidden") else 1)
            axis.plot(values.index, values, color=colour, label=f"training, {label}")
        if held_out in log:
            values, colour = log[held_out].dropna(), TERMS[held_out.split("_")[1]][1]
            axis.plot(values.index, values, "o", color=colour, mec="black", label="held-out text")
        axis.set(title=title, xlabel="step", ylabel=unit, ylim=(0, None))
        axis.legend(fontsize=8.5)
    return figure


def agreement_maps(divergences: dict, layer_map: list[int], unit="KL of a row, nats"):
    """How far each head is from its teacher's: {model: (K, N_h)}; the closest has a frame."""
    figure, axes = _axes(len(divergences), width=9, height=1.5 + 0.42 * len(layer_map))
    largest = max(values.max() for values in divergences.values())
    shades = sns.blend_palette(["white", "#555555"], as_cmap=True)
    rows = [f"iteration {k}\nlayer {layer}" for k, layer in enumerate(layer_map, 1)]
    for axis, (model, values) in zip(axes, divergences.items(), strict=True):
        table = pd.DataFrame(values, rows, range(1, values.shape[1] + 1))
        style = {"cmap": shades, "vmin": 0, "vmax": largest, "annot_kws": {"fontsize": 7}}
        sns.heatmap(table, annot=True, fmt=".2f", cbar=False, ax=axis, **style)
        k, head = np.unravel_index(values.argmin(), values.shape)
        frame = {"fill": False, "lw": 2, "color": COLOURS["extra"], "clip_on": False}
        axis.add_patch(plt.Rectangle((head, k), 1, 1, **frame))
        axis.tick_params(labelsize=9, rotation=0, labelleft=axis is axes[0])
        axis.set(title=model, xlabel="head (green frame: the closest one)")
    figure.colorbar(axes[0].collections[0], ax=axes, label=unit)
    return figure


def effects(panels: dict, title: str):
    """Differences, their spread: {panel: (unit, {row: (value, whisker or None, [seeds' values])})}.

    A value without seeds is the paper's. Rows are those of the first panel; where another panel has
    none, its place stays empty. All panels have one scale, on which every value and seed fits; a
    whisker may leave it.
    """
    rows = list(next(iter(panels.values()))[1])
    effects = [effect for _, values in panels.values() for effect in values.values()]
    shown = [0, *(number for value, _, seeds in effects for number in (value, *seeds))]
    least, most = min(shown), max(shown)
    margin = 0.08 * (most - least)
    size = {"width": 2.4 + 2.2 * len(panels), "height": 1.7 + 0.42 * len(rows)}
    figure, axes = _axes(len(panels), **size, sharey=True)
    for axis, (panel, (unit, values)) in zip(axes, panels.items(), strict=True):
        axis.axvline(0, color="black", lw=1)
        for row, (value, whisker, seeds) in values.items():
            place = rows.index(row)
            colour = COLOURS["student" if seeds else "teacher"]
            axis.plot(seeds, [place + 0.22] * len(seeds), "|", ms=7, color=colour, alpha=0.6)
            axis.errorbar(value, place, xerr=whisker, fmt="o", ms=8, capsize=4, color=colour)
            _note(axis, f"{round(value, 1) + 0.0:+.1f}", (value, place), (0, 7), ha="center")
        axis.set(title=panel, xlabel=unit, ylim=(len(rows) - 0.5, -0.5))
        axis.set_xlim(least - margin, most + margin)
        axis.xaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10]))
        axis.grid(axis="y", visible=False)
    axes[0].set_yticks(range(len(rows)), rows)
    figure.suptitle(title, x=0.01, ha="left", weight="bold")
    return figure


def scores_side_by_side(panels: dict, guesses: dict | None = None):
    """A bar a system, a dot a seed where it has several: {title: (unit, {system: [scores]})}.

    guesses: {title: (score, words)} of what needs no model, a dotted line each.
    """
    systems = list(next(iter(panels.values()))[1])
    figure, axes = _axes(len(panels), width=9, height=1.1 + 0.48 * len(systems), sharey=True)
    for axis, (title, (unit, scores)) in zip(axes, panels.items(), strict=True):
        for system, seeds in scores.items():
            mean = float(np.mean(seeds))
            axis.barh(system, mean, color=system_colour(system), height=0.62)
            if len(seeds) > 1:
                axis.plot(seeds, [system] * len(seeds), ".", color="black", ms=5)
            axis.text(max([mean, 0, *seeds]), system, f" {mean:.2f}", va="center")
        axis.axvline(0, color="black", lw=0.8)
        least = min(0, *(min(seeds) for seeds in scores.values()))
        axis.set(xlabel=unit, title=title, xlim=(least, 1))
        axis.grid(axis="y", visible=False)
        if title in (guesses or {}):
            score, words = guesses[title]
            axis.axvline(score, color="black", ls=":")
            axis.set_xlabel(f"{unit}\n(dotted: {words}, {score:.2f})")
    axes[0].invert_yaxis()
    return figure


MARKS = {"MiniALBERT": "D", "ALBERT-6": "s", "ALBERT-12": "s"}  # of families in Table 1; else a dot


def score_against_parameters(averages: dict, column="", paper=None, ours=None):
    """Score against size, {model: (millions, percent)}: left the paper's averages; right, where a
    column is named, that task's: the paper's models, and as stars our systems."""
    figure, axes = _axes(1 + bool(column), width=9.2, height=4)
    left = axes[0]
    _papers_models(left, averages)
    for name, point in averages.items():
        if not name.startswith("MiniALBERT"):
            _note(left, name, point, (0, -13), ha="center")
    students = [point for name, point in averages.items() if name.startswith("MiniALBERT")]
    best = max(students, key=lambda point: point[1])
    _note(left, "MiniALBERT", best, (8, 6), color=COLOURS["student"])
    left.set(title="The paper: average of nine columns", ylabel="percent")
    left.set_ylim(bottom=min(score for _, score in averages.values()) - 1.2)
    if column:
        _ours_beside_the_papers(axes[1], column, paper or {}, ours or {})
    for axis in axes:
        axis.set(xlabel="parameters (millions, logarithmic)")
        _log_ticks(axis, [5, 10, 20, 50, 100], (4, 160))
    return figure


def _papers_models(axis, points):
    """The paper's models, each family with its mark and colour: {name: (millions, percent)}."""
    for name, (millions, score) in points.items():
        family = name.partition(",")[0]  # "MiniALBERT, rank 128, adapters"
        known = family in MARKS or family == "BERT-base"
        colour = system_colour(family) if known else COLOURS["random"]
        axis.plot(millions, score, MARKS.get(family, "o"), ms=7, color=colour, mec="white", mew=0.5)


def _ours_beside_the_papers(axis, column, paper, ours):
    _papers_models(axis, paper)
    for system, (millions, score) in ours.items():
        look = {"color": system_colour(system), "mec": "black", "mew": 0.5}
        _note(axis, f"{system} {score:.1f}", (millions, score), (9, -3))
        axis.plot(millions, score, "*", ms=11, **look)
    least = min([70, *(score for _, score in ours.values())])
    axis.set(title=f"{column}: stars are ours, marks as on the left", ylim=(least - 6, 94))


def size_against_latency(models: dict, measured=""):
    """Time against size: {model: (millions of parameters, time in DistilBERT's, least, most)}.

    measured: in words, what was timed, as "one sentence of 128 tokens, one thread".

    Students are named "MiniALBERT 128" (their rank), with " + adapters" where they have some.
    """
    figure, (axis,) = _axes(width=8.2, height=4.3)
    axis.axhline(1, color="black", lw=1, ls=":")
    for name, (millions, ratio, least, most) in models.items():
        bare, _, adapters = name.partition(" + ")
        family, _, rank = bare.partition(" ")
        colour = system_colour(family)
        look = {"color": colour, "mfc": "white" if rank and not adapters else colour, "mew": 1.8}
        spread = [[ratio - least], [most - ratio]]
        axis.errorbar(millions, ratio, spread, fmt="o", ms=9, capsize=3, zorder=3, **look)
        if not rank:
            shift = (0, -36) if 0.8 < ratio < 0.95 else (0, 12)  # below the ranks
            _note(axis, name, (millions, ratio), shift, ha="center", fontsize=11)
        elif adapters:
            _note(axis, f"rank {rank}", (millions, 1), (-4, -22), ha="center", fontsize=11)
    for label, face in (("no adapters", "white"), ("adapters", COLOURS["student"])):
        look = {"color": COLOURS["student"], "mfc": face, "mew": 1.8}
        axis.plot([], [], "o", ms=9, label=f"MiniALBERT, {label}", **look)
    axis.set(xlabel="parameters (millions, logarithmic)", title="Smaller is not faster")
    axis.set_ylabel("time of a forward pass,\nDistilBERT = 1")
    axis.set_title(measured, loc="right", fontsize=10, weight="normal")
    axis.set_ylim(0, 1.25 * max(most for *_, most in models.values()))
    _log_ticks(axis, [10, 20, 30, 50, 70, 110], (8, 150))
    axis.legend(loc="upper left", bbox_to_anchor=(0.22, 1), fontsize=9)
    return figure


def _note(axis, text, point, shift, **look):
    """A text beside a point, moved by `shift` in points."""
    look = {"fontsize": 8.5, **look}
    axis.annotate(text, point, shift, textcoords="offset points", **look)


def _log_ticks(axis, ticks: list[int], limits: tuple[float, float]):
    axis.set(xscale="log", xlim=limits)
    axis.set_xticks(ticks, [str(tick) for tick in ticks])
    axis.minorticks_off()
