"""Every plot of the course, in one style. A figure is given numbers and returns a matplotlib Figure."""

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.colors import LinearSegmentedColormap

# Okabe and Ito's palette: told apart by readers with any colour vision
COLOURS = dict(
    teacher="#0072B2",
    student="#D55E00",
    start="#E69F00",
    random="#999999",
    extra="#009E73",
    violet="#CC79A7",
    sky="#56B4E9",
    long="#8B3A00",
)
TERMS = {
    "mlm": ("masked words (eq. 6)", COLOURS["sky"]),
    "attention": ("attention maps (eq. 7)", COLOURS["extra"]),
    "hidden": ("hidden states (eq. 8)", COLOURS["student"]),
    "output": ("outputs (eq. 10)", COLOURS["teacher"]),
    "embedding": ("embeddings (eq. 12)", COLOURS["violet"]),
}
STYLE = {
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "axes.axisbelow": True,
    "figure.constrained_layout.use": True,
    "figure.dpi": 100,
    "savefig.dpi": 130,
    "legend.frameon": False,
    "figure.facecolor": "white",
}


plt.rcParams.update(STYLE)


def _axes(columns=1, width=7.5, height=3.4, **options):
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
    axis.set(
        xlabel="parameters (millions)",
        title="Where the parameters are",
        xlim=(0, left.max() * 1.16),
    )
    axis.invert_yaxis()
    axis.grid(axis="y", visible=False)
    figure.legend(ncols=len(parts), loc="outside lower center", fontsize=9)
    return figure


def loss_curves(history: list[dict], iterations: int):
    """The terms of equation 11 during training and, right, on held-out text, from the trainer's log.

    Attention and hidden losses are shown per iteration (the log holds their sums over K = `iterations`).
    """
    figure, (left, right) = _axes(2, width=9, height=3.9)
    train = [entry for entry in history if "loss" in entry]
    for term, (label, colour) in TERMS.items():
        points = [(entry["step"], entry[term]) for entry in train if term in entry]
        if points:
            steps, values = np.array(points).T
            per = iterations if term in ("attention", "hidden") else 1
            left.plot(steps, values / per, color=colour, label=label)
    left.set(xlabel="step", ylabel="loss (weights not applied)", yscale="log", title="Training")
    figure.legend(
        *left.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8.5
    )
    held_out = [entry for entry in history if "eval_hidden" in entry]
    names = {
        "eval_hidden": ("hidden states, 1 - cosine", COLOURS["student"]),
        "eval_attention_row": ("attention, KL of a row (nats)", COLOURS["extra"]),
    }
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
    panels = [
        ("hidden_per_iteration", "1 - cosine", "Hidden states"),
        ("attention_row_per_iteration", "KL of a row (nats)", "Attention maps"),
    ]
    panels = [panel for panel in panels if all(panel[0] in result for result in models.values())]
    figure, axes = _axes(len(panels), width=9, squeeze=False)
    colours = [COLOURS[name] for name in ("random", "start", "student", "extra")]
    places, width = np.arange(len(layer_map)), 0.8 / len(models)
    for axis, (name, unit, title) in zip(axes[0], panels):
        for column, (model, result) in enumerate(models.items()):
            axis.bar(
                places + (column - (len(models) - 1) / 2) * width,
                result[name],
                width,
                label=model,
                color=colours[column],
            )
        axis.set_xticks(
            places, [f"iteration {k}\nlayer {layer}" for k, layer in enumerate(layer_map, 1)]
        )
        axis.set(ylabel=f"{unit}, lower is closer", title=f"{title}, held-out text")
        axis.grid(axis="x", visible=False)
    figure.legend(
        *axes[0][0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=len(models),
        fontsize=9,
    )
    return figure


def score_bars(scores: dict[str, float], title: str, unit: str, limits=(0, 1)):
    """One bar a model, its value beside it: {model: score}; a model's colour follows from its name."""
    figure, axis = _axes(height=0.9 + 0.5 * len(scores))
    for model, score in scores.items():
        axis.barh(model, score - limits[0], left=limits[0], color=COLOURS[_kind(model)], height=0.6)
        axis.text(score, model, f" {score:.3f}", va="center")
    axis.set(xlabel=unit, title=title, xlim=(limits[0], limits[1]))
    axis.grid(axis="y", visible=False)
    axis.invert_yaxis()
    return figure


# -- notebooks 01 and 02

PATTERNS = {
    "previous": COLOURS["teacher"],
    "next": COLOURS["extra"],
    "itself": COLOURS["violet"],
    "[CLS]": COLOURS["student"],
    "[SEP]": COLOURS["start"],
}


def head_maps(maps: dict, tokens: list[str]):
    """Attention maps beside each other: {title: (T, T) probabilities}, a row per query, a column per key."""
    figure, axes = _axes(
        len(maps), width=1.2 + 3.5 * len(maps), height=4.5, squeeze=False, sharey=True
    )
    places = range(len(tokens))
    for axis, (title, values) in zip(axes[0], maps.items()):
        image = axis.imshow(values, cmap="Blues", vmin=0, vmax=1)
        axis.set_xticks(places, tokens, rotation=90, fontsize=9)
        axis.set_yticks(places, tokens, fontsize=9)
        axis.set(title=title, xlabel="is looked at (key)")
        axis.grid(visible=False)
    axes[0][0].set_ylabel("looks (query)")
    figure.colorbar(image, ax=axes[0], label="attention", shrink=0.7)
    return figure


def head_census(scores: dict):
    """What each head looks at most: {pattern of PATTERNS: (L, N_h) share of a word's attention}."""
    names, values = list(scores), np.stack([np.asarray(share) for share in scores.values()])
    best, strength = values.argmax(0), values.max(0)
    layers, heads = best.shape
    figure, axis = _axes(width=8.6, height=1.4 + 0.42 * layers)
    for layer, head in np.ndindex(layers, heads):
        colour, share = PATTERNS[names[best[layer, head]]], strength[layer, head]
        corner = (head + 0.54, layer + 0.54)
        axis.add_patch(plt.Rectangle(corner, 0.92, 0.92, color=colour, alpha=share, lw=0))
        axis.text(
            head + 1,
            layer + 1,
            f"{share:.2f}",
            ha="center",
            va="center",
            fontsize=9,
            color="white" if share > 0.9 else "black",
        )
    for name in names:
        axis.add_patch(plt.Rectangle((0, 0), 0, 0, color=PATTERNS[name], label=name))
    axis.set(
        xlim=(0.5, heads + 0.5),
        ylim=(layers + 0.5, 0.5),
        xlabel="head",
        ylabel="layer",
        xticks=range(1, heads + 1),
        yticks=range(1, layers + 1),
        title="Where a word's attention goes, head by head",
    )
    axis.grid(visible=False)
    axis.legend(
        ncols=1, loc="center left", bbox_to_anchor=(1, 0.5), fontsize=9, title="most of it to"
    )
    return figure


def unrolled_loop(iterations: int):
    """A stack of different layers (equation 1) above one block that is visited again and again (equation 2)."""
    figure, axis = _axes(width=9, height=2.5)
    palette = [colour for name, colour in COLOURS.items() if name != "student"]
    stack = [palette[number % len(palette)] for number in range(iterations)]
    rows = [
        (1.8, "BERT", stack, [f"layer {k}" for k in range(1, iterations + 1)]),
        (0.5, "student", [COLOURS["student"]] * iterations, ["block"] * iterations),
    ]
    for height, name, colours, labels in rows:
        axis.text(-1.1, height, name, va="center", weight="bold")
        for k, (colour, label) in enumerate(zip(colours, labels)):
            axis.annotate(
                "", (k + 0.14, height), (k - 0.14, height), arrowprops={"arrowstyle": "->"}
            )
            axis.text(k, height + 0.24, f"$X_{{{k}}}$", ha="center", fontsize=10)
            box = plt.Rectangle(
                (k + 0.16, height - 0.36), 0.68, 0.72, color=colour, alpha=0.8, lw=0
            )
            axis.add_patch(box)
            axis.text(k + 0.5, height, label, ha="center", va="center", fontsize=10)
        axis.annotate(
            "",
            (iterations + 0.14, height),
            (iterations - 0.14, height),
            arrowprops={"arrowstyle": "->"},
        )
        axis.text(iterations, height + 0.24, f"$X_{{{iterations}}}$", ha="center", fontsize=10)
    axis.annotate(
        "",
        (0.3, -0.05),
        (iterations - 0.3, -0.05),
        arrowprops={
            "arrowstyle": "->",
            "color": COLOURS["student"],
            "connectionstyle": "arc3,rad=-0.06",
        },
    )
    axis.text(
        iterations / 2,
        -0.62,
        "the same weights, visited again",
        ha="center",
        color=COLOURS["student"],
    )
    axis.set(xlim=(-1.2, iterations + 0.3), ylim=(-0.8, 2.4))
    axis.axis("off")
    return figure


def drift(losses: dict[str, list[float]]):
    """The distance from a teacher, layer by layer: {start: K+1 values of 1 - cosine, [0] the embeddings}."""
    figure, axis = _axes()
    colours = [COLOURS[name] for name in ("student", "teacher", "random", "extra")]
    for (start, values), colour in zip(losses.items(), colours):
        axis.plot(range(len(values)), values, "o-", color=colour, label=start)
    axis.set(
        xlabel="iteration k, compared with the teacher's layer k",
        ylabel="1 - cosine, lower is closer",
        title="A teacher folded into a loop",
        ylim=(-0.03, 1),
    )
    axis.legend(fontsize=9)
    return figure


# -- notebook 08


def _shades(colour):
    return LinearSegmentedColormap.from_list("shades", ["white", colour])


def attention_lines(tokens: list[str], maps: dict, chosen=None):
    """Who looks at whom, as lines between two columns of tokens: {title: (T, T) probabilities}, a panel each.

    A line's strength is its weight; `chosen` places of tokens (queries, from 0) show their lines alone.
    """
    chosen = range(len(tokens)) if chosen is None else chosen
    figure, axes = _axes(
        len(maps), width=4 * len(maps), height=0.7 + 0.24 * len(tokens), squeeze=False
    )
    for axis, (title, values) in zip(axes[0], maps.items()):
        colour = COLOURS[
            "teacher" if "teacher" in title else "start" if "start" in title else "student"
        ]
        for query in chosen:
            for key in np.flatnonzero(values[query] > 0.02):  # fainter ones cannot be seen
                axis.plot(
                    [0, 1], [query, key], color=colour, alpha=min(values[query, key], 1), lw=1.6
                )
        for place, token in enumerate(tokens):
            weight = "bold" if len(chosen) < len(tokens) and place in chosen else "normal"
            axis.text(-0.04, place, token, ha="right", va="center", weight=weight)
            axis.text(1.04, place, token, ha="left", va="center")
        axis.set(title=title, xlim=(-0.7, 1.7), ylim=(len(tokens) - 0.4, -0.6))
        axis.axis("off")
    return figure


def attention_grid(student, teacher, layer_map: list[int], heads=None):
    """Every head's map, an iteration above the teacher layer it was mapped to: (K, N_h, T, T) each.

    `heads`, counted from 1, are shown; by default all. A row of a map is a query, a column a key.
    """
    heads = list(heads or range(1, student.shape[1] + 1))
    size, gap = student.shape[-1], 2
    columns = len(heads) * (size + gap) - gap
    figure, axis = _axes(
        width=9, height=0.7 + 18.6 * len(layer_map) * (size + gap) / columns * 0.95
    )
    labels = []
    for k, layer in enumerate(layer_map):
        for row, (name, maps) in enumerate((("student", student), ("teacher", teacher))):
            top = (2 * k + row) * (size + gap) + k * 2 * gap
            labels.append(
                (
                    top + size / 2,
                    f"iteration {k + 1}" if row == 0 else f"layer {layer}",
                    COLOURS[name],
                )
            )
            for column, head in enumerate(heads):
                left = column * (size + gap)
                axis.imshow(
                    np.sqrt(maps[k, head - 1]),
                    cmap=_shades(COLOURS[name]),
                    vmin=0,
                    vmax=1,
                    extent=(left, left + size, top + size, top),
                    interpolation="nearest",
                )
                axis.add_patch(
                    plt.Rectangle((left, top), size, size, fill=False, lw=0.5, color="#bbbbbb")
                )
    axis.set_yticks([place for place, *_ in labels], [label for _, label, _ in labels])
    for tick, (_, _, colour) in zip(axis.get_yticklabels(), labels):
        tick.set_color(colour)
    axis.set_xticks([column * (size + gap) + size / 2 for column in range(len(heads))], heads)
    axis.set(
        xlabel="head",
        xlim=(-1, columns + 1),
        ylim=(labels[-1][0] + size / 2 + 1, -1),
        aspect="equal",
        title="Attention maps, student above teacher (shade: square root of the weight)",
    )
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)
    axis.grid(visible=False)
    return figure


def agreement_maps(divergences: dict, layer_map: list[int], unit="KL of a row, nats"):
    """How far each head is from its teacher's: {model: (K, N_h)}, one scale; dark is far, the best has a frame."""
    figure, axes = _axes(
        len(divergences), width=9, height=1.5 + 0.42 * len(layer_map), squeeze=False, sharey=True
    )
    largest = max(values.max() for values in divergences.values())
    for axis, (model, values) in zip(axes[0], divergences.items()):
        image = axis.imshow(values, cmap=_shades("#555555"), vmin=0, vmax=largest, aspect="auto")
        for k, head in np.ndindex(*values.shape):
            axis.text(
                head,
                k,
                f"{values[k, head]:.1f}",
                ha="center",
                va="center",
                fontsize=8,
                color="white" if values[k, head] > 0.6 * largest else "black",
            )
        k, head = np.unravel_index(values.argmin(), values.shape)
        axis.add_patch(
            plt.Rectangle(
                (head - 0.5, k - 0.5), 1, 1, fill=False, lw=2, color=COLOURS["extra"], clip_on=False
            )
        )
        axis.set_xticks(range(values.shape[1]), range(1, values.shape[1] + 1), fontsize=9)
        axis.set(title=model, xlabel="head")
        axis.grid(visible=False)
    axes[0][0].set_yticks(
        range(len(layer_map)), [f"iteration {k}\nlayer {g}" for k, g in enumerate(layer_map, 1)]
    )
    figure.colorbar(image, ax=axes[0], label=unit)
    return figure


def divergence_parts(
    models: dict, layer_map: list[int], parts=("between [CLS], [SEP] and words", "among the words")
):
    """A divergence in two parts that add up: {model: (two arrays of K values)}, stacked bars an iteration."""
    figure, axis = _axes(height=3.6)
    places, width = np.arange(len(layer_map)), 0.8 / len(models)
    for column, (model, values) in enumerate(models.items()):
        x = places + (column - (len(models) - 1) / 2) * width
        first, second = map(np.asarray, values)
        for bottom, height, part, colour in (
            (0, first, parts[0], "sky"),
            (first, second, parts[1], "violet"),
        ):
            axis.bar(
                x,
                height,
                width * 0.92,
                bottom=bottom,
                color=COLOURS[colour],
                label=None if column else part,
            )
        for place, total in zip(x, first + second):
            axis.text(place, total, f" {model}", ha="center", va="bottom", fontsize=8.5)
    axis.set_xticks(
        places, [f"iteration {k}, layer {layer}" for k, layer in enumerate(layer_map, 1)]
    )
    axis.set(ylabel="KL of a word's row (nats)", title="Where student and teacher differ")
    axis.grid(axis="x", visible=False)
    axis.legend(fontsize=9)
    return figure


# -- notebooks 03 and 04


def _similarity_map(axis, values, title, low):
    values = np.asarray(values)
    picture = axis.imshow(values, vmin=low, vmax=1, cmap="viridis")
    for (j, k), value in np.ndenumerate(values):
        axis.text(
            k,
            j,
            f"{value:.2f}".lstrip("0"),
            ha="center",
            va="center",
            fontsize=7.5,
            color="white" if value < (low + 2) / 3 else "black",
        )
    names = [f"$X_{k}$" for k in range(len(values))]
    axis.set_xticks(range(len(values)), names, fontsize=9)
    axis.set_yticks(range(len(values)), names, fontsize=9)
    axis.set_title(title, fontsize=10.5)
    axis.grid(visible=False)
    return picture


def similarity_maps(maps: dict, low=0.3):
    """How alike the hidden states of one model are: {model: (K+1, K+1) cosines}, one panel a model."""
    figure, axes = _axes(len(maps), width=0.8 + 2.45 * len(maps), height=2.85, squeeze=False)
    for axis, (name, values) in zip(axes[0], maps.items()):
        picture = _similarity_map(axis, values, name, low)
    figure.colorbar(picture, ax=list(axes[0]), label="cosine, mean over tokens", shrink=0.85)
    return figure


def _successive(axis, curves: dict):
    styles = {"teacher": ("teacher", "o-"), "no": ("random", "s--"), "one": ("start", "^-")}
    for name, values in curves.items():
        colour, style = styles.get(name.split()[0], ("student", "D-"))
        axis.plot(range(1, len(values) + 1), values, style, color=COLOURS[colour], label=name)
    axis.set_xticks(
        range(1, len(values) + 1), [f"$X_{k - 1}, X_{k}$" for k in range(1, len(values) + 1)]
    )
    axis.set(ylabel="cosine, mean over tokens", ylim=(None, 1.01))
    axis.legend(fontsize=9, loc="lower left")


def turned_adapters(values, references: dict, strength: float):
    """Left the similarity of a model's states, its adapters turned to `strength`; right the cosines of
    neighbouring states, beside those of the `references`, {name: [..]}."""
    figure, (left, right) = _axes(2, width=9, height=3.6, gridspec_kw={"width_ratios": [1, 1.5]})
    _similarity_map(left, values, f"adapters at {strength:.0%}", 0.3)
    _successive(right, references | {f"adapters at {strength:.0%}": np.diagonal(values, 1)})
    right.set(title="Neighbouring iterations", ylim=(0.35, 1.02))
    return figure


def steps_to_rest(steps: dict):
    """How far each visit of a block moves the states: {name: [step / length of the states]}, log scale."""
    figure, axis = _axes()
    colours = [COLOURS[name] for name in ("random", "extra", "teacher")]
    for (name, values), colour in zip(steps.items(), colours):
        axis.semilogy(
            range(1, len(values) + 1), values, "o-", markersize=4, color=colour, label=name
        )
    axis.set(
        xlabel="iteration k",
        ylabel="step / length of the states",
        title="How far each visit moves the states",
    )
    axis.legend(fontsize=9)
    return figure


def parameters_against_rank(vocabulary: int, hidden: int, ranks):
    """V r + r d against the rank r, the full table V d, and where the two meet; `ranks` are marked."""
    figure, axis = _axes()
    line, full = np.arange(1, hidden + 1), vocabulary * hidden
    axis.plot(
        line,
        line * (vocabulary + hidden) / 1e6,
        color=COLOURS["student"],
        label="factorised, Vr + rd",
    )
    axis.axhline(full / 1e6, color=COLOURS["teacher"], linestyle="--", label="one table, Vd")
    meet = full / (vocabulary + hidden)
    axis.axvline(meet, color=COLOURS["random"], linewidth=1)
    axis.text(
        meet - 8,
        0.4,
        f"break-even, r = {meet:.1f}",
        rotation=90,
        ha="right",
        va="bottom",
        fontsize=9,
    )
    for rank in ranks:
        count = rank * (vocabulary if rank == hidden else vocabulary + hidden) / 1e6
        axis.plot(rank, count, "o", color=COLOURS["extra"], markersize=9)
        axis.annotate(
            f"r = {rank}: {count:.1f} M",
            (rank, count),
            (10, -13) if rank < hidden else (0, 9),
            textcoords="offset points",
            ha="left" if rank < hidden else "right",
        )
    axis.set(
        xlabel="rank r",
        ylabel="parameters (millions)",
        title="What a word table costs",
        xlim=(0, hidden * 1.03),
        ylim=(0, full * 1.2 / 1e6),
    )
    axis.legend(fontsize=9, loc="upper left", bbox_to_anchor=(0, 0.84))
    return figure


def kept_against_rank(ranks, kept: dict):
    """What a cut to a rank keeps: {what: [share at each rank]}, in per cent."""
    figure, axis = _axes()
    colours = [COLOURS[name] for name in ("random", "extra", "student")]
    for (name, values), colour in zip(kept.items(), colours):
        axis.plot(ranks, 100 * np.asarray(values), "o-", markersize=4, color=colour, label=name)
    axis.set(xlabel="rank r", ylabel="kept (%)", title="What is left of the table", ylim=(0, 103))
    axis.legend(fontsize=9, loc="lower right")
    return figure


def rank_view(singular_values, rank: int, word: str, neighbours: list, full: list):
    """Left the spectrum, cut at a rank; right a word's nearest words there, [(word, cosine)]: green those that
    are among `full`, its nearest words in the whole table."""
    figure, (left, right) = _axes(2, width=9, height=3.7, gridspec_kw={"width_ratios": [1.25, 1]})
    values = np.asarray(singular_values)
    places = np.arange(1, len(values) + 1)
    energy = (values[:rank] ** 2).sum() / (values**2).sum()
    left.fill_between(
        places[:rank], values[:rank], color=COLOURS["student"], alpha=0.75, linewidth=0
    )
    left.plot(places, values, color="black", linewidth=1)
    left.axvline(rank, color=COLOURS["student"])
    left.set(
        xlabel="direction, strongest first",
        ylabel="singular value",
        title=f"rank {rank}: {energy:.0%} of the squares",
        xlim=(0, len(values) + 1),
        ylim=(0, None),
    )
    known_words = sum(name in full for name, _ in neighbours)
    for place, (name, cosine) in enumerate(neighbours):
        known = name in full
        right.barh(place, cosine, color=COLOURS["extra" if known else "random"], height=0.75)
        right.text(
            0.02,
            place,
            name,
            va="center",
            color="white" if known else "black",
            fontweight="bold" if known else "normal",
        )
    right.set(
        xlabel="cosine at this rank",
        xlim=(0, 1),
        yticks=[],
        title=f"nearest to “{word}”: {known_words} of {len(neighbours)} kept",
    )
    right.invert_yaxis()
    right.grid(axis="y", visible=False)
    return figure


# -- notebook 05


def _map(axis, weights, tokens, title, **options):
    """One attention map: a row for each query, a column for each key."""
    image = axis.imshow(
        weights, **{"cmap": "Blues", "vmin": 0, "vmax": 1, "aspect": "auto", **options}
    )
    axis.set_xticks(
        range(len(tokens)), tokens, rotation=60, ha="right", rotation_mode="anchor", fontsize=8
    )
    axis.set_yticks(range(len(tokens)), tokens, fontsize=8)
    axis.grid(visible=False)
    axis.set_title(title, fontsize=11)
    return image


def temperature_view(words, probabilities, temperature, temperatures, norms):
    """Left, the teacher's first guesses at one temperature; right, the size of the student's gradient.

    Args:
        words, probabilities: the likeliest word pieces and their probabilities at `temperature`.
        temperatures, norms: {label: gradient norm at each temperature}.
    """
    figure, (left, right) = _axes(2, width=9, height=3.6)
    left.barh(words, probabilities, color=COLOURS["teacher"], height=0.65)
    left.set(
        xlabel="probability", xlim=(0, 0.6), title=f"What the teacher says at τ = {temperature:g}"
    )
    left.invert_yaxis()
    left.grid(axis="y", visible=False)
    for (label, values), colour in zip(norms.items(), (COLOURS["random"], COLOURS["student"])):
        right.plot(temperatures, values, "o-", ms=4, color=colour, label=label)
    right.axvline(temperature, color="black", lw=1, ls=":")
    right.set_xscale("log", base=2)
    right.set_xticks(temperatures, [f"{one:g}" for one in temperatures])
    right.set(
        xlabel="temperature τ",
        ylabel="norm of the gradient",
        yscale="log",
        title="How hard the loss pulls",
    )
    right.legend(fontsize=9)
    return figure


def layer_heat(panels: dict, chosen):
    """A loss between every iteration (row) and every teacher layer (column): {title: (K, L) array}.

    chosen: the teacher layer of each iteration, 1..L, framed; their losses add up in the title.
    """
    figure, axes = _axes(len(panels), width=9, height=1.7 + 0.42 * len(chosen), squeeze=False)
    for axis, (title, table) in zip(axes[0], panels.items()):
        axis.imshow(table, cmap="viridis_r", aspect="auto")
        dark = (table.min() + table.max()) / 2
        for (row, column), value in np.ndenumerate(table):
            axis.text(
                column,
                row,
                f"{value:.2f}",
                ha="center",
                va="center",
                fontsize=10,
                color="white" if value > dark else "black",
            )
        for row, layer in enumerate(chosen):
            axis.add_patch(
                plt.Rectangle(
                    (layer - 1.48, row - 0.48),
                    0.96,
                    0.96,
                    fill=False,
                    lw=3.5,
                    ec=COLOURS["student"],
                )
            )
        total = sum(table[row, layer - 1] for row, layer in enumerate(chosen))
        axis.set_xticks(range(table.shape[1]), range(1, table.shape[1] + 1))
        axis.set_yticks(range(table.shape[0]), range(1, table.shape[0] + 1))
        axis.set(xlabel="teacher layer", ylabel="iteration", title=f"{title}: sum {total:.2f}")
        axis.grid(visible=False)
    return figure


def what_losses_see(alphas, curves: dict, alpha, weights, tokens):
    """Left, each loss on the way from the teacher to noise; right, an attention map at `alpha` of the way.

    curves: {label: (values at alphas, colour, line style)}, each as a share of its value for pure noise.
    """
    figure, (left, right) = _axes(2, width=9.4, height=4.3, width_ratios=(1.45, 1))
    for label, (values, colour, style) in curves.items():
        left.plot(alphas, values, style, color=colour, lw=2.2, label=label)
        left.plot([alpha], np.interp([alpha], alphas, values), "o", color=colour, ms=8)
    left.axvline(alpha, color="black", lw=1, ls=":")
    left.set(
        xlabel="alpha: 0 is the teacher itself, 1 is noise",
        ylabel="loss, as a share of its value at 1",
        title="What each loss sees",
        ylim=(-0.04, 1.06),
    )
    left.legend(fontsize=8.5, loc="upper left", frameon=True, framealpha=1, edgecolor="none")
    _map(right, weights, tokens, f"attention map at alpha = {alpha:g}", vmax=0.5)
    return figure


def term_shares(shares: dict):
    """Stacked bars: {row: {term of equation 11: its share}}, each row adding up to 1."""
    figure, axis = _axes(width=9, height=1.1 + 0.55 * len(shares))
    left = np.zeros(len(shares))
    for term in next(iter(shares.values())):
        label, colour = TERMS[term]
        widths = np.array([row[term] for row in shares.values()])
        axis.barh(list(shares), widths, left=left, color=colour, label=label, height=0.62)
        for place, (start, width) in enumerate(zip(left, widths)):
            if width > 0.035:
                axis.text(
                    start + width / 2, place, f"{width:.0%}", ha="center", va="center", fontsize=9
                )
        left += widths
    axis.set(xlim=(0, 1), title="Who is heard: shares of equation 11's weighted terms")
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axis.invert_yaxis()
    axis.grid(axis="y", visible=False)
    axis.legend(ncols=4, loc="upper center", bbox_to_anchor=(0.45, -0.16), fontsize=9)
    return figure


def dropout_zeros(teacher, student, loss, tokens):
    """Two maps after dropout (exact zeros in black) and the loss of each entry, in nats: (T, T) arrays."""
    figure, axes = _axes(3, width=9.6, height=3.7)
    titles = "teacher's map, dropped", "student's map, dropped"
    for axis, weights, title in zip(axes, (teacher, student), titles):
        colours = plt.get_cmap("Blues").copy()
        colours.set_bad("black")
        _map(axis, np.ma.masked_equal(weights, 0), tokens, title, cmap=colours, vmax=0.5)
    image = _map(axes[2], loss, tokens, "loss of each entry (nats)", cmap="OrRd", vmax=3)
    for axis in axes[1:]:
        axis.set_yticks([])
    figure.colorbar(image, ax=axes[2], shrink=0.8)
    return figure


# -- notebook 06

MASKING = {
    "kept": ("as it was", "#FFFFFF"),
    "special": ("special, never asked", "#D9D9D9"),
    "mask": ("[MASK]", COLOURS["student"]),
    "random": ("a random word piece", COLOURS["violet"]),
    "unchanged": ("asked, yet unchanged", COLOURS["extra"]),
}


def window_ruler(length: int, body: int, starts, drawn):
    """An article's windows, one under the other, those drawn in colour; above, how often a place is seen.

    length, body: word pieces of the article and of a window; starts, drawn: where windows begin.
    """
    with plt.rc_context(STYLE):
        figure, (top, axis) = plt.subplots(2, figsize=(9, 4.6), sharex=True, height_ratios=(1, 2.6))
    plt.close(figure)
    for chosen, name, label in ((starts, "random", "all windows"), (drawn, "teacher", "drawn")):
        edges = np.zeros(length + 1)
        for start in chosen:
            edges[start] += 1
            edges[start + body] -= 1
        top.step(
            np.arange(length), edges.cumsum()[:-1], color=COLOURS[name], label=label, where="post"
        )
    top.set(ylabel="times seen", yticks=range(4), ylim=(0, 3.2), title="The windows of one article")
    top.legend(fontsize=9, ncols=2, loc="upper right", bbox_to_anchor=(1, 1.45))
    for row, start in enumerate(starts):
        colour = COLOURS["teacher"] if start in drawn else "#CCCCCC"
        axis.barh(row, body, left=start, height=0.8, color=colour)
    axis.axvline(length, color="black", lw=1.2)
    axis.set(
        xlabel="word pieces of the article (line: its end)",
        ylabel="window",
        xlim=(0, length * 1.01),
    )
    axis.invert_yaxis()
    return figure


def token_strip(tokens: list[str], kinds: list[str], width=104):
    """Word pieces as coloured text, line by line; kinds: a key of MASKING for each."""
    lines, column = [[]], 0
    for token, kind in zip(tokens, kinds):
        if column + len(token) > width:
            lines, column = lines + [[]], 0
        lines[-1].append((column, token, kind))
        column += len(token) + 1.6
    figure, axis = _axes(width=9.6, height=0.75 + 0.31 * len(lines))
    for row, line in enumerate(lines):
        for column, token, kind in line:
            axis.text(
                column,
                row,
                token,
                family="monospace",
                fontsize=9.5,
                va="center",
                color="white" if kind in ("mask", "random", "unchanged") else "black",
                bbox={"boxstyle": "round,pad=0.2", "fc": MASKING[kind][1], "ec": "none"},
            )
    axis.set(xlim=(-1, width + 2), ylim=(len(lines) - 0.3, -0.8))
    axis.axis("off")
    handles = [
        plt.Rectangle((0, 0), 1, 1, fc=colour, ec="#999999", label=label)
        for label, colour in MASKING.values()
    ]
    axis.legend(
        handles=handles, ncols=len(handles), fontsize=9, loc="lower left", bbox_to_anchor=(0, 1)
    )
    return figure


def mask_raster(chosen, seen: dict):
    """Left, which tokens (columns) of one window are asked in each epoch (rows); right, the share of tokens
    asked at least once: {label: share after 1, 2, .. epochs}."""
    figure, (left, right) = _axes(2, width=9.2, height=3.6, width_ratios=(1.5, 1))
    left.imshow(chosen, cmap="Oranges", vmax=1.3, aspect="auto", interpolation="nearest")
    left.set(
        xlabel="token of the window",
        ylabel="epoch",
        title="The masks of one window",
        yticks=range(0, len(chosen), 5),
    )
    left.grid(visible=False)
    for (label, shares), colour in zip(
        seen.items(), (COLOURS["student"], "black", COLOURS["random"])
    ):
        style = ":" if colour == "black" else "-"
        right.plot(range(1, len(shares) + 1), shares, style, color=colour, label=label)
    right.set(xlabel="epochs", ylim=(0, 1), title="Asked at least once")
    right.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    right.legend(fontsize=8.5, loc="center right")
    return figure


def batch_prints(runs: dict, killed: int):
    """Batches as squares coloured by content: {way of masking: {run: [a number for each batch]}}; a line where
    the run was killed. A cross marks a batch that differs from the same batch of the group's first run."""
    rows = [
        (f"{way}: {run}", prints, next(iter(group.values())))
        for way, group in runs.items()
        for run, prints in group.items()
    ]
    figure, axis = _axes(width=9, height=1.1 + 0.5 * len(rows))
    for row, (_, prints, wanted) in enumerate(rows):
        for column, value in enumerate(prints):
            colour = plt.cm.turbo(value % 1009 / 1009)
            axis.add_patch(plt.Rectangle((column, row - 0.4), 0.94, 0.8, fc=colour))
            if value != wanted[column]:
                axis.text(
                    column + 0.47,
                    row,
                    "×",
                    ha="center",
                    va="center",
                    fontsize=17,
                    fontweight="bold",
                )
    batches = len(rows[0][1])
    axis.axvline(killed - 0.03, color="black", lw=2)
    axis.set_xticks(np.arange(batches) + 0.47, range(1, batches + 1))
    axis.set_yticks(range(len(rows)), [label for label, *_ in rows])
    axis.set(
        xlim=(-0.1, batches),
        ylim=(len(rows) - 0.4, -0.6),
        xlabel="batch (line: the run was killed here)",
        title="Does a resumed run see what it would have seen?",
    )
    axis.grid(visible=False)
    return figure


# -- notebook 13

MODELS = {
    "BERT-base": COLOURS["teacher"],
    "DistilBERT": "black",
    "MobileBERT": COLOURS["sky"],
    "ALBERT-base": COLOURS["start"],
    "MiniALBERT": COLOURS["student"],
}


def _of_model(name):
    """A model's colour, and whether it has adapters."""
    return next(
        colour for start, colour in MODELS.items() if name.startswith(start)
    ), "adapters" in name


def size_against_latency(models: dict):
    """Time against size: {model: (millions of parameters, time in DistilBERT's, least, most)}."""
    figure, axis = _axes(width=8.2, height=4.3)
    axis.axhline(1, color="black", lw=1, ls=":")
    for name, (millions, ratio, least, most) in models.items():
        colour, adapters = _of_model(name)
        filled = adapters or not name.startswith("MiniALBERT")
        axis.errorbar(
            millions,
            ratio,
            yerr=[[ratio - least], [most - ratio]],
            fmt="o",
            ms=9,
            color=colour,
            mfc=colour if filled else "white",
            mew=1.8,
            capsize=3,
            zorder=3,
        )
        if not name.startswith("MiniALBERT"):
            axis.annotate(name, (millions, ratio), (0, 12), textcoords="offset points", ha="center")
        elif adapters:
            rank = name.removeprefix("MiniALBERT ").partition(" ")[0]
            axis.annotate(
                f"rank {rank}", (millions, 1), (-4, -22), textcoords="offset points", ha="center"
            )
    for label, face in (
        ("MiniALBERT, no adapters", "white"),
        ("MiniALBERT, adapters", COLOURS["student"]),
    ):
        axis.plot([], [], "o", ms=9, mew=1.8, color=COLOURS["student"], mfc=face, label=label)
    axis.set(
        xscale="log",
        xlim=(8, 150),
        ylim=(0, 1.25 * max(most for *_, most in models.values())),
        xlabel="parameters (millions, logarithmic)",
        ylabel="time of a forward pass,\nDistilBERT = 1",
        title="Smaller is not faster",
    )
    axis.set_xticks([10, 20, 30, 50, 70, 110], labels=["10", "20", "30", "50", "70", "110"])
    axis.minorticks_off()
    axis.legend(loc="upper left", bbox_to_anchor=(0.22, 1), fontsize=9)
    return figure


def ratio_lines(panels: dict):
    """Times as multiples of DistilBERT's: {panel: {model: [(tokens, ratio, least, most), ..]}}."""
    figure, axes = _axes(len(panels), width=9.2, height=4, squeeze=False, sharey=True)
    for axis, (title, models) in zip(axes[0], panels.items()):
        axis.axhline(1, color="black", lw=1, ls=":")
        for name, points in models.items():
            (tokens, ratio, least, most), (colour, adapters) = np.array(points).T, _of_model(name)
            dashed = name.startswith("MiniALBERT") and not adapters
            axis.plot(tokens, ratio, "o--" if dashed else "o-", color=colour, ms=4, label=name)
            axis.fill_between(tokens, least, most, color=colour, alpha=0.15, lw=0)
        axis.set_xscale("log", base=2)
        axis.set_xticks(tokens, [f"{length:.0f}" for length in tokens])
        axis.set(xlabel="tokens in a sentence", title=title)
    axes[0][0].set(ylabel="time, DistilBERT = 1", ylim=(0, None))
    figure.legend(
        *axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=9
    )
    return figure


def scaling(panels: dict):
    """Measured times beside predicted ones: {panel: (axis label, [(value, ms, predicted ms), ..])}."""
    figure, axes = _axes(len(panels), width=9.6, height=3.5, squeeze=False)
    for axis, (title, (label, points)) in zip(axes[0], panels.items()):
        values, measured, predicted = np.array(points).T
        axis.plot(values, predicted, "--", color=COLOURS["random"], label="by the operation count")
        axis.plot(values, measured, "o", color=COLOURS["student"], label="measured")
        axis.set(xlabel=label, ylabel="ms", title=title, xlim=(0, None), ylim=(0, None))
    figure.legend(
        *axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=9
    )
    return figure


def stacked_bars(rows: dict, unit: str, title: str, shares=False):
    """{row: {part: number}}; colours follow the parts' order. Shares are written in, in percent."""
    figure, axis = _axes(width=8.6, height=1.5 + 0.42 * len(rows))
    names = list(dict.fromkeys(part for parts in rows.values() for part in parts))
    palette = [
        COLOURS[name]
        for name in ("sky", "teacher", "extra", "student", "start", "violet", "random")
    ]
    left = np.zeros(len(rows))
    for name, colour in zip(names, palette):
        widths = np.array([parts.get(name, 0) for parts in rows.values()])
        axis.barh(list(rows), widths, left=left, color=colour, label=name, height=0.66)
        for place, (start, width) in enumerate(zip(left, widths)):
            if shares and width > 0.035:
                axis.text(
                    start + width / 2, place, f"{width:.0%}", ha="center", va="center", fontsize=9
                )
        left += widths
    axis.set(xlabel=unit, title=title, xlim=(0, 1 if shares else None))
    if shares:
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axis.invert_yaxis()
    axis.grid(axis="y", visible=False)
    figure.legend(ncols=4, loc="outside lower center", fontsize=9)
    return figure


# -- notebook 10

TAGS = {"O": "#FFFFFF", "B": COLOURS["start"], "I": "#F7D48A", None: "#E4E4E4"}


def piece_labels(
    words: list[str], tags: list[str], pieces: list[str], word_ids: list, labels: list
):
    """A sentence in three rows: its words with their tags, the pieces they are cut into, the labels of those.

    word_ids: of each piece, None for a special token; labels: a tag each, None where nothing is predicted.
    """
    widths = np.array([max(len(piece), 4) + 1.5 for piece in pieces])
    ends = widths.cumsum()
    figure, axis = _axes(width=9.6, height=2.6)

    def box(left, right, row, text, colour):
        axis.add_patch(
            plt.Rectangle(
                (left + 0.2, row - 0.4), right - left - 0.4, 0.8, fc=colour, ec="#999999", lw=0.7
            )
        )
        axis.text(
            (left + right) / 2,
            row,
            text,
            ha="center",
            va="center",
            fontsize=9.5,
            family="monospace",
        )

    for place, (piece, label) in enumerate(zip(pieces, labels)):
        left, right = ends[place] - widths[place], ends[place]
        box(left, right, 1, piece, TAGS[None] if word_ids[place] is None else "white")
        box(left, right, 0, "-100" if label is None else label, TAGS[label])
    for word, (text, tag) in enumerate(zip(words, tags)):
        own = [place for place, number in enumerate(word_ids) if number == word]
        if own:
            box(ends[own[0]] - widths[own[0]], ends[own[-1]], 2, f"{text}\n{tag}", TAGS[tag])
    axis.set_yticks([2, 1, 0], ["words, tags", "word pieces", "labels"])
    axis.set(xlim=(0, ends[-1]), ylim=(-0.5, 2.5), xticks=[])
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)
    axis.grid(visible=False)
    return figure


def tagged_sentence(readings: dict, width=90):
    """One sentence as each reader sees it, entities in colour: {reader: (words, tags)}; tags begin with O, B or I."""
    figure, axis = _axes(width=9.6)
    row, places = 0, []
    for reader, (words, tags) in readings.items():
        places.append((row, reader))
        column, inside = 0, False
        for word, tag in zip(words, tags):
            if column + len(word) > width:
                row, column, inside = row + 1, 0, False
            if tag[0] != "O":  # what belongs together touches
                start = column - (1 if inside and tag[0] == "I" else 0)
                axis.add_patch(
                    plt.Rectangle(
                        (start - 0.3, row - 0.38),
                        column + len(word) - start + 0.3,
                        0.76,
                        fc="#F2BE57",
                        lw=0,
                    )
                )
            axis.text(column, row, word, family="monospace", fontsize=10, va="center")
            column, inside = column + len(word) + 1, tag[0] != "O"
        row += 1.5
    figure.set_figheight(0.5 + 0.3 * row)
    axis.set_yticks([place for place, _ in places], [reader for _, reader in places])
    axis.set(xlim=(-1, width + 4), ylim=(row - 0.9, -0.7), xticks=[])
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)
    axis.grid(visible=False)
    return figure


def two_protocols(scores: dict):
    """Entity F1 in percent, counted over words and over word pieces: {system: (words, pieces)}, a mean each."""
    figure, axis = _axes(width=8.2, height=1.3 + 0.52 * len(scores))
    for side, label, colour in (
        (0, "words: the standard", COLOURS["teacher"]),
        (1, "word pieces: as published", COLOURS["sky"]),
    ):
        values = [pair[side] for pair in scores.values()]
        places = np.arange(len(scores)) + (side - 0.5) * 0.38
        axis.barh(places, values, 0.36, color=colour, label=label)
        for place, value in zip(places, values):
            axis.text(value, place, f" {value:.1f}", va="center", fontsize=9.5)
    axis.set_yticks(range(len(scores)), list(scores))
    axis.set(
        xlabel="entity F1 (percent)", xlim=(0, 108), title="The same predictions, counted twice"
    )
    axis.grid(axis="y", visible=False)
    axis.invert_yaxis()
    figure.legend(ncols=2, loc="outside lower center", fontsize=9)
    return figure


# -- notebook 12

VARIANTS = {
    "both": COLOURS["sky"],
    "hidden": COLOURS["student"],
    "attention": COLOURS["extra"],
    "none": COLOURS["random"],
    "start": COLOURS["start"],
}


def alignment_plane(points: dict):
    """Hidden against attention loss on held-out text, the teacher at 0: {(variant, reduction): [(x, y) a seed]}.

    Reduction "row" is drawn hollow; None: the variant compares no maps.
    """
    figure, axis = _axes(width=8.6, height=4.4)
    axis.plot(0, 0, "*", ms=16, color=COLOURS["teacher"], label="teacher", clip_on=False, zorder=3)
    for (variant, reduction), seeds in points.items():
        x, y = np.array(seeds, float).T
        colour, hollow = VARIANTS.get(variant, COLOURS["violet"]), reduction == "row"
        axis.plot(
            x,
            y,
            "o",
            ms=10,
            color=colour,
            mfc="white" if hollow else colour,
            mew=2,
            alpha=0.85,
            label=variant + f", {reduction}" * bool(reduction),
        )
    axis.set(
        xlabel="hidden states, 1 - cosine (lower is closer)",
        xlim=(0, None),
        ylim=(0, None),
        ylabel="attention, KL of a row (nats)",
        title="What each loss pulls towards the teacher",
    )
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=9)
    return figure


def effects(panels: dict, title: str):
    """Differences with their spread, a row each: {panel: (unit, {row: (value, whisker or None, [a dot a seed])})}.

    Rows are those of the first panel; where another has none, its place stays empty.
    """
    rows = list(next(iter(panels.values()))[1])
    figure, axes = _axes(
        len(panels), width=9, height=1.5 + 0.42 * len(rows), squeeze=False, sharey=True
    )
    for axis, (panel, (unit, values)) in zip(axes[0], panels.items()):
        colour = COLOURS["teacher" if "Paper" in panel else "student"]
        axis.axvline(0, color="black", lw=1)
        for row, (value, whisker, seeds) in values.items():
            place = rows.index(row)
            axis.plot(seeds, [place + 0.22] * len(seeds), "|", ms=7, color=colour, alpha=0.6)
            axis.errorbar(value, place, xerr=whisker, fmt="o", ms=8, capsize=4, color=colour)
        axis.set(title=panel, xlabel=unit, ylim=(len(rows) - 0.5, -0.5))
        axis.grid(axis="y", visible=False)
    axes[0][0].set_yticks(range(len(rows)), rows)
    figure.suptitle(title, x=0.01, ha="left", weight="bold")
    return figure


# -- notebook 09


def _kind(system):
    """What a system's colour follows from: its name."""
    return next(
        (kind for kind in ("teacher", "random", "start", "long") if kind in system.lower()),
        "student",
    )


def scores_side_by_side(panels: dict):
    """A bar a system, a dot a seed where there are several: {title: (unit, {system: [a score a seed]})}."""
    systems = list(next(iter(panels.values()))[1])
    figure, axes = _axes(
        len(panels), width=9, height=1.1 + 0.48 * len(systems), squeeze=False, sharey=True
    )
    for axis, (title, (unit, scores)) in zip(axes[0], panels.items()):
        for system, seeds in scores.items():
            mean = float(np.mean(seeds))
            axis.barh(system, mean, color=COLOURS[_kind(system)], height=0.62)
            if len(seeds) > 1:
                axis.plot(seeds, [system] * len(seeds), ".", color="black", ms=5)
            axis.text(max([mean, 0, *seeds]), system, f" {mean:.2f}", va="center")
        axis.axvline(0, color="black", lw=0.8)
        least = min([0, *(score for seeds in scores.values() for score in seeds)])
        axis.set(xlabel=unit, title=title, xlim=(least, 1))
        axis.grid(axis="y", visible=False)
    axes[0][0].invert_yaxis()
    return figure


def tuning_curves(losses: dict, unit: str, idle: tuple[str, float] | None = None):
    """Training losses against passes over the data: {system: (epochs, [[step, loss], ..])}; idle: a named level."""
    figure, axis = _axes(width=8.2, height=3.5)
    for system, (epochs, points) in losses.items():
        steps, values = np.array(points, float).T
        axis.plot(
            epochs * steps / steps[-1], values, "-", color=COLOURS[_kind(system)], label=system
        )
    if idle:
        axis.axhline(idle[1], color="black", ls=":", lw=1.2, label=idle[0])
    axis.set(xlabel="passes over the training set", ylabel=unit, ylim=(0, None), title="Learning")
    axis.set_ylim(top=min(axis.get_ylim()[1], 2.5 * idle[1]) if idle else None)
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=9)
    return figure


def _paper_points(axis, points):
    marks = {
        "MiniALBERT": ("student", "D"),
        "ALBERT": ("start", "s"),
        "BERT-base": ("teacher", "o"),
    }
    for name, (millions, score) in points.items():
        colour, mark = next(
            (found for start, found in marks.items() if name.startswith(start)), ("random", "o")
        )
        axis.plot(millions, score, mark, ms=7, color=COLOURS[colour], mec="white", mew=0.5)


def score_against_parameters(
    averages: dict, column: str = "", paper: dict | None = None, ours: dict | None = None
):
    """Score against size, {model: (millions, percent)}: left the paper's averages; right, where a column is named,
    that task's, the paper's (faint) and our systems'."""
    figure, axes = _axes(1 + bool(column), width=9.2, height=4, squeeze=False)
    _paper_points(axes[0][0], averages)
    for name, (millions, score) in averages.items():
        if not name.startswith("MiniALBERT"):
            axes[0][0].annotate(
                name,
                (millions, score),
                (0, -13),
                textcoords="offset points",
                ha="center",
                fontsize=8.5,
            )
    best = max(
        (point for name, point in averages.items() if name.startswith("MiniALBERT")),
        key=lambda point: point[1],
    )
    axes[0][0].annotate(
        "MiniALBERT",
        best,
        (8, 6),
        textcoords="offset points",
        fontsize=8.5,
        color=COLOURS["student"],
    )
    axes[0][0].set(
        title="The paper: average of nine columns",
        ylabel="percent",
        ylim=(min(score for _, score in averages.values()) - 1.2, None),
    )
    if column:
        axis = axes[0][1]
        for millions, score in (paper or {}).values():
            axis.plot(millions, score, "o", ms=5, color="#bbbbbb")
        axis.plot([], [], "o", ms=5, color="#bbbbbb", label="the paper's models")
        for system, (millions, score) in (ours or {}).items():
            axis.plot(
                millions,
                score,
                "*",
                ms=15,
                color=COLOURS[_kind(system)],
                mec="black",
                mew=0.5,
                label=f"{system}, here",
            )
        axis.set(
            title=f"The column {column}",
            ylim=(min([0, *(score for _, score in (ours or {}).values())]) - 3, 100),
        )
        axis.legend(fontsize=8.5, loc="lower right")
    for axis in axes[0]:
        axis.set(xscale="log", xlabel="parameters (millions, logarithmic)", xlim=(4, 160))
        axis.set_xticks([5, 10, 20, 50, 100], labels=["5", "10", "20", "50", "100"])
        axis.minorticks_off()
    return figure


# -- notebook 11


def body_and_files(body: int, files: dict, whole: int):
    """One body and its tasks' files as squares, areas to scale; dashed, what a whole model a task would take.

    body, whole: bytes of the weights that tasks share, and of one model's file; files: {task: bytes}.
    """
    side, places = body**0.5, list(files.items())
    figure, axis = _axes(width=9, height=4.2)
    axis.add_patch(plt.Rectangle((0, 0), side, side, fc=COLOURS["teacher"], alpha=0.85, lw=0))
    axis.text(
        side / 2,
        side / 2,
        f"one body\n{body / 1e6:.1f} MB",
        color="white",
        ha="center",
        va="center",
        fontsize=14,
        weight="bold",
    )
    for number, ((task, size), colour) in enumerate(
        zip(places, ("student", "extra", "start", "violet"))
    ):
        low, edge = side * (1 - (number + 0.5) / len(places)), size**0.5
        axis.add_patch(
            plt.Rectangle((1.12 * side, low - edge / 2), edge, edge, fc=COLOURS[colour], lw=0)
        )
        axis.text(
            1.12 * side + 1.3 * edge, low, f"{task}\n{size / 1e6:.2f} MB", va="center", fontsize=11
        )
    left, edge = 2.05 * side, whole**0.5
    for number in reversed(range(len(places))):
        shift = number * 0.12 * side
        axis.add_patch(
            plt.Rectangle(
                (left + shift, -shift * 0.5),
                edge,
                edge,
                fc="white",
                ec=COLOURS["random"],
                lw=1.5,
                ls="--",
            )
        )
    axis.text(
        left + edge / 2,
        edge / 2,
        f"fully tuned:\n{len(places)} models\n{whole / 1e6:.1f} MB each",
        ha="center",
        va="center",
        color="#666666",
        fontsize=12,
    )
    together = (body + sum(files.values())) / 1e6
    axis.set(
        xlim=(-0.02 * side, left + 1.3 * edge),
        ylim=(-0.16 * side, 1.05 * edge),
        aspect="equal",
        title=f"{len(places)} tasks: {together:.1f} MB for one body, {len(places) * whole / 1e6:.1f} MB otherwise",
    )
    axis.axis("off")
    return figure


def tuning_scores(rows: dict, unit: str, title: str, within: float):
    """A large dot a system, a small one a seed: {system: scores}; lines show the way down from the first's mean,
    the shade what lies at most `within` below it."""
    figure, axis = _axes(width=9, height=1.4 + 0.5 * len(rows))
    first, lowest = np.mean(next(iter(rows.values()))), min(map(min, rows.values()))
    axis.axvspan(
        first - within,
        first,
        color=COLOURS["teacher"],
        alpha=0.12,
        lw=0,
        label=f"at most {within:g} points below full tuning",
    )
    for place, (name, scores) in enumerate(rows.items()):
        colour = COLOURS[
            "teacher" if name.startswith("all") else "start" if "new" in name else "student"
        ]
        axis.plot([first, np.mean(scores)], [place, place], color=colour, lw=3, alpha=0.6)
        axis.plot(scores, [place + 0.22] * len(scores), "|", ms=8, color=colour)
        axis.plot(np.mean(scores), place, "o", ms=11, color=colour)
        axis.text(
            np.mean(scores),
            place - 0.17,
            f"{np.mean(scores):.1f}",
            ha="center",
            va="bottom",
            fontsize=9,
        )
    axis.set_yticks(range(len(rows)), rows)
    axis.set(
        xlabel=unit,
        title=title,
        xlim=(lowest - 0.2 * (first - lowest) - 1.5, max(map(max, rows.values())) + 1),
        ylim=(len(rows) - 0.5, -0.6),
    )
    axis.grid(axis="y", visible=False)
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", fontsize=9)
    return figure


# -- notebook 14

VERDICTS = {
    "exact": (COLOURS["teacher"], "="),
    "agrees here": (COLOURS["sky"], "+"),
    "slip": (COLOURS["start"], "!"),
    "disagrees here": (COLOURS["student"], "×"),
    "needs a run": ("#DDDDDD", ""),
}


def ledger_squares(sections: dict):
    """Every claim a square, by its verdict: {section: [a verdict of VERDICTS a claim]}; a mark beside each colour."""
    order, together = list(VERDICTS), sum(sections.values(), [])
    figure, axis = _axes(width=9, height=0.8 + 0.265 * len(sections))
    for row, verdicts in enumerate(sections.values()):
        for place, verdict in enumerate(sorted(verdicts, key=order.index)):
            colour, mark = VERDICTS[verdict]
            axis.add_patch(plt.Rectangle((place + 0.06, row - 0.44), 0.88, 0.88, fc=colour, lw=0))
            axis.text(
                place + 0.5,
                row,
                mark,
                ha="center",
                va="center_baseline",
                weight="bold",
                color="white" if verdict in ("exact", "disagrees here") else "black",
            )
    handles = [
        plt.Rectangle(
            (0, 0), 1, 1, fc=colour, label=f"{mark} {verdict}: {together.count(verdict)}".strip()
        )
        for verdict, (colour, mark) in VERDICTS.items()
    ]
    figure.legend(
        handles=handles,
        ncols=len(handles),
        loc="outside lower center",
        fontsize=9.5,
        handlelength=1,
        handleheight=1,
    )
    axis.set_yticks(
        range(len(sections)),
        [f"{section}  {len(verdicts)}" for section, verdicts in sections.items()],
    )
    axis.set(
        xlim=(0, max(map(len, sections.values()))),
        ylim=(len(sections) - 0.5, -0.5),
        xticks=[],
        aspect="equal",
        title=f"What became of {len(together)} claims, a square each",
    )
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)
    axis.grid(visible=False)
    return figure


def architecture(teacher: dict, student: dict):
    """A teacher's layers above one block and its visits; areas are parameters, but for the adapters, drawn wider.

    teacher, student: {"layers", or "visits": how many; "embeddings", "block", "total": parameters}.
    """
    unit, layers, visits = teacher["block"], teacher["layers"], student["visits"]
    figure, axis = _axes(width=9, height=3.7)
    first, top, low = (
        teacher["embeddings"] / unit,
        2.5,
        0.2,
    )  # where layer 1 begins; heights of the two rows

    def box(left, width, height, colour, **look):
        axis.add_patch(
            plt.Rectangle(
                (left, height), width, 1, **{"fc": colour, "ec": "white", "lw": 1.5, **look}
            )
        )

    def say(x, y, text, colour, **look):
        axis.text(
            x, y, text, color=colour, **{"ha": "center", "va": "center", "fontsize": 10, **look}
        )

    box(0, first, top, COLOURS["teacher"], alpha=0.75)
    say(first / 2, top + 0.5, f"word table\n{teacher['embeddings'] / 1e6:.1f} M", "white")
    for layer in range(1, layers + 1):
        box(first + layer - 1, 1, top, COLOURS["teacher"])
        say(first + layer - 0.5, top + 0.5, layer, "white")
    own = student["embeddings"] / unit
    box(first + 0.2 - own, own, low, COLOURS["student"], alpha=0.75)
    say(
        first - own,
        low + 0.5,
        f"word table\n{student['embeddings'] / 1e6:.1f} M",
        COLOURS["student"],
        ha="right",
    )
    for visit in range(1, visits + 1):
        left = first + visit * layers / visits - 1
        again = {"fc": "white", "ec": COLOURS["student"], "ls": "--"} if visit > 1 else {}
        box(left, 1, low, COLOURS["student"], **again)
        say(
            left + 0.5,
            low - 0.3,
            "again" if visit > 1 else f"{unit / 1e6:.1f} M",
            COLOURS["student"],
        )
        for place in (left - 0.13, left + 1 / 3):  # before the attention, before the FFN
            axis.add_patch(
                plt.Rectangle((place, low - 0.08), 0.1, 1.16, fc=COLOURS["extra"], lw=0, zorder=3)
            )
        axis.annotate(
            "",
            (left + 0.5, top - 0.03),
            (left + 0.5, low + 1.1),
            arrowprops={"arrowstyle": "<->", "ls": ":", "color": "#777777"},
        )
        axis.annotate(
            "",
            (left - 0.15, low + 0.5),
            (left - (0.75 if visit == 1 else layers / visits - 1), low + 0.5),
            arrowprops={"arrowstyle": "->", "shrinkA": 0, "shrinkB": 0},
        )
    say(
        0,
        top + 1.35,
        f"BERT-base: {layers} layers of {unit / 1e6:.1f} M each, {teacher['total'] / 1e6:.0f} M parameters",
        COLOURS["teacher"],
        ha="left",
        weight="bold",
        fontsize=12,
    )
    say(
        0,
        low - 0.9,
        f"MiniALBERT: one block, visited {visits} times, {student['total'] / 1e6:.0f} M parameters",
        COLOURS["student"],
        ha="left",
        weight="bold",
        fontsize=12,
    )
    say(
        0,
        low - 1.35,
        "green: each visit's own two adapters, drawn wider than to scale",
        COLOURS["extra"],
        ha="left",
    )
    say(
        0,
        (top + low + 1) / 2,
        "distillation brings maps\nand states together",
        "#555555",
        ha="left",
    )
    axis.set(xlim=(-0.05, first + layers + 0.05), ylim=(low - 1.6, top + 1.6))
    axis.axis("off")
    return figure
