"""Every plot of the course, in one style. A figure is given numbers and returns a matplotlib Figure."""

import numpy as np
from matplotlib import pyplot as plt

# Okabe and Ito's palette: told apart by readers with any colour vision
COLOURS = dict(teacher="#0072B2", student="#D55E00", start="#E69F00", random="#999999", extra="#009E73",
               violet="#CC79A7", sky="#56B4E9")
TERMS = {"mlm": ("masked words (eq. 6)", COLOURS["sky"]), "attention": ("attention maps (eq. 7)", COLOURS["extra"]),
         "hidden": ("hidden states (eq. 8)", COLOURS["student"]), "output": ("outputs (eq. 10)", COLOURS["teacher"]),
         "embedding": ("embeddings (eq. 12)", COLOURS["violet"])}
STYLE = {"font.size": 11, "axes.titlesize": 12, "axes.titleweight": "bold", "axes.titlelocation": "left",
         "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.25,
         "axes.axisbelow": True, "figure.constrained_layout.use": True, "figure.dpi": 100, "savefig.dpi": 130,
         "legend.frameon": False, "figure.facecolor": "white"}


def _axes(columns=1, width=7.5, height=3.4, **options):
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, columns, figsize=(width, height), **options)
    plt.close(figure)  # shown once, where a notebook's cell ends with it
    return figure, axes


def parameter_bars(models: dict[str, dict[str, int]]):
    """Stacked bars of parameter counts: {model: {part: count}}, in millions."""
    figure, axis = _axes(height=1.2 + 0.6 * len(models))
    parts = list(dict.fromkeys(part for counts in models.values() for part in counts))
    colours = [COLOURS[name] for name in ("sky", "student", "extra", "violet", "start", "random")]
    left = np.zeros(len(models))
    for part, colour in zip(parts, colours):
        widths = np.array([counts.get(part, 0) / 1e6 for counts in models.values()])
        axis.barh(list(models), widths, left=left, label=part, color=colour, height=0.6)
        left += widths
    for row, total in enumerate(left):
        axis.text(total, row, f" {total:.2f} M", va="center")
    axis.set(xlabel="parameters (millions)", title="Where the parameters are", xlim=(0, left.max() * 1.16))
    axis.invert_yaxis()
    axis.grid(axis="y", visible=False)
    axis.legend(ncols=len(parts), loc="upper center", bbox_to_anchor=(0.5, -0.28 - 0.1 / len(models)), fontsize=9)
    return figure


def loss_curves(history: list[dict], iterations: int):
    """The terms of equation 11 during training and, right, on held-out text, from the trainer's log.

    Attention and hidden losses are shown per iteration (the log holds their sums over K = `iterations`).
    """
    figure, (left, right) = _axes(2, width=9)
    train = [entry for entry in history if "loss" in entry]
    for term, (label, colour) in TERMS.items():
        points = [(entry["step"], entry[term]) for entry in train if term in entry]
        if points:
            steps, values = np.array(points).T
            per = iterations if term in ("attention", "hidden") else 1
            left.plot(steps, values / per, color=colour, label=label)
    left.set(xlabel="step", ylabel="loss (weights not applied)", yscale="log", title="Training")
    left.legend(fontsize=8.5)
    held_out = [entry for entry in history if "eval_hidden" in entry]
    names = {"eval_hidden": ("hidden states, 1 - cosine", COLOURS["student"]),
             "eval_attention_row": ("attention, KL of a row (nats)", COLOURS["extra"])}
    for name, (label, colour) in names.items():
        points = [(entry["step"], entry[name]) for entry in held_out if name in entry]
        if points:
            right.plot(*np.array(points).T, "o-", color=colour, label=label)
    right.set(xlabel="step", ylabel="mean over iterations", title="Held-out text")
    right.set_ylim(bottom=0)
    right.legend(fontsize=8.5)
    return figure


def alignment_bars(models: dict[str, dict], layer_map: list[int]):
    """Held-out hidden and attention losses, iteration by iteration: {model: result of evaluate_alignment}."""
    panels = [("hidden_per_iteration", "1 - cosine", "Hidden states"),
              ("attention_row_per_iteration", "KL of a row (nats)", "Attention maps")]
    panels = [panel for panel in panels if all(panel[0] in result for result in models.values())]
    figure, axes = _axes(len(panels), width=9, squeeze=False)
    colours = [COLOURS[name] for name in ("random", "start", "student", "extra")]
    places, width = np.arange(len(layer_map)), 0.8 / len(models)
    for axis, (name, unit, title) in zip(axes[0], panels):
        for column, (model, result) in enumerate(models.items()):
            axis.bar(places + (column - (len(models) - 1) / 2) * width, result[name], width, label=model,
                     color=colours[column])
        axis.set_xticks(places, [f"iteration {k}\nlayer {layer}" for k, layer in enumerate(layer_map, 1)])
        axis.set(ylabel=f"{unit}, lower is closer", title=f"{title}, held-out text")
        axis.grid(axis="x", visible=False)
    axes[0][0].legend(fontsize=9)
    return figure


def score_bars(scores: dict[str, float], title: str, unit: str, limits=(0, 1)):
    """One bar a model, its value beside it: {model: score}; a model's colour follows from its name."""
    figure, axis = _axes(height=0.9 + 0.5 * len(scores))
    for model, score in scores.items():
        kind = next((kind for kind in ("teacher", "random", "start") if kind in model.lower()), "student")
        axis.barh(model, score - limits[0], left=limits[0], color=COLOURS[kind], height=0.6)
        axis.text(score, model, f" {score:.3f}", va="center")
    axis.set(xlabel=unit, title=title, xlim=(limits[0], limits[1]))
    axis.grid(axis="y", visible=False)
    axis.invert_yaxis()
    return figure
