"""The course's drawings: each function returns a Figure, measured in inches, with a text `alt` for
readers who cannot see it (diagrams.yaml).
"""

import re
from base64 import b64decode, b64encode
from io import BytesIO
from pathlib import Path
from textwrap import fill

import pandas as pd
import yaml
from IPython.display import HTML
from matplotlib import animation
from matplotlib import pyplot as plt
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.layout_engine import PlaceHolderLayoutEngine
from matplotlib.patches import FancyBboxPatch
from PIL import Image

from minialbert.lab.figures import COLOURS, TERMS

CHAPTERS = pd.read_csv(Path(__file__).with_name("chapters.csv"))  # minutes to read, seconds to run
ALTS = yaml.safe_load(Path(__file__).with_name("diagrams.yaml").read_text(encoding="utf8"))
INK, FAINT = "#222222", "#777777"


class Diagram(Figure):
    """A figure that a notebook shows together with its `alt`."""

    alt = ""

    def _repr_mimebundle_(self, include=None, exclude=None):
        return {}, {"image/png": {"alt": self.alt}}  # the picture itself is drawn as any figure's


def _canvas(height, alt="", width=9.2):
    layout = PlaceHolderLayoutEngine(True, True)  # "none" is the style's own after a first save
    figure = plt.figure(FigureClass=Diagram, figsize=(width, height), layout=layout)
    plt.close(figure)  # shown once, where a notebook's cell ends with it
    figure.alt = alt
    axis = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height))
    axis.axis("off")
    return figure, axis


def _say(axis, x, y, text, **look):
    axis.text(x, y, text, **{"ha": "center", "va": "center", "color": INK, "fontsize": 9.5} | look)


def _box(axis, x, y, width, height, text, colour, strength=0.25):
    """A box by its lower left corner, its text in the middle."""
    colour = COLOURS.get(colour, colour)
    paint = {"fc": to_rgba(colour, strength), "ec": to_rgba(colour, min(1, 3 * strength))}
    shape = {"boxstyle": "round,pad=0,rounding_size=0.06", "lw": 1.4}
    axis.add_patch(FancyBboxPatch((x, y), width, height, **shape, **paint))
    _say(axis, x + width / 2, y + height / 2, text)


def _arrow(axis, *points, colour=INK, head="-|>"):
    """A line through the points, with a head at the last one."""
    axis.plot(*zip(*points[:-1]), color=colour, lw=1.3)
    line = {"arrowstyle": head, "color": colour, "lw": 1.3, "shrinkA": 0, "shrinkB": 0}
    axis.annotate("", points[-1], points[-2], arrowprops=line)


def _chain(axis, x, y, height, boxes, gap=0.28):
    """Boxes (width, text, colour) from left to right, arrows between them; gives their middles."""
    middles = []
    for width, text, colour in boxes:
        if middles:
            _arrow(axis, (x - gap, y + height / 2), (x, y + height / 2))
        _box(axis, x, y, width, height, text, colour)
        middles.append(x + width / 2)
        x += width + gap
    return middles


def course():
    """The chapters in five parts, and what each part ends with."""
    figure, axis = _canvas(5.5, ALTS["course"])
    ends = ["a student, untrained", "a student, distilled", "scores and their cost"]
    ends += ["which claims hold here", "less work, fewer bytes"]
    parts = CHAPTERS[1:].groupby("part", sort=False)
    colours = ("student", "teacher", "extra", "violet", "sky")
    for row, ((part, chapters), colour, end) in enumerate(zip(parts, colours, ends)):
        y = 4.55 - 1.1 * row
        _say(axis, 0.15, y + 0.4, fill(part, 9), ha="left", weight="bold")
        texts = chapters["notebook"].str[:2] + " " + chapters["title"]
        middles = _chain(axis, 1.3, y, 0.8, [(1.2, fill(text, 15), colour) for text in texts])
        _arrow(axis, (middles[-1] + 0.6, y + 0.4), (7.55, y + 0.4), colour=FAINT)
        _say(axis, 8.3, y + 0.4, fill(end, 13))
        if row:
            path = [(8.3, y + 1.25), (8.3, y + 0.95), (1.9, y + 0.95), (1.9, y + 0.8)]
            _arrow(axis, *path, colour=FAINT)
    return figure


def transformer_layer(T=16, d=384, heads=12, inner=1536):
    """Equation 1: a layer, with the shapes of what flows through it."""
    figure, axis = _canvas(4, ALTS["transformer_layer"])
    state = f"\n{T} × {d}"
    attention = [
        (1, "$X_{l-1}$" + state, "teacher"),
        (1.6, f"query, key, value\n3 × {heads} × {T} × {d // heads}", "extra"),
        (1.6, f"maps $A$, softmax\n{heads} × {T} × {T}", "extra"),
        (1.6, "mixed values, $W_o$" + state, "extra"),
        (1.5, "add, LayerNorm" + state, "random"),
    ]
    feed_forward = [
        (2.3, f"$W_1$, GELU: wide\n{T} × {inner}", "student"),
        (1.6, "$W_2$: narrow" + state, "student"),
        (1.5, "add, LayerNorm" + state, "random"),
        (1, "$X_l$" + state, "teacher"),
    ]
    top = _chain(axis, 0.4, 2.5, 0.75, attention)
    low = _chain(axis, 0.9, 0.4, 0.75, feed_forward)
    _arrow(axis, (top[0], 3.25), (top[0], 3.6), (top[4], 3.6), (top[4], 3.25), colour=FAINT)
    _arrow(axis, (top[4], 2.5), (top[4], 1.95), (low[0], 1.95), (low[0], 1.15))
    _arrow(axis, (low[0], 1.5), (low[2], 1.5), (low[2], 1.15), colour=FAINT)
    _say(axis, 4.6, 3.8, "attention: each token looks at all of them; the input is added back")
    _say(axis, 4.6, 0.18, "feed-forward: each token alone; the input is added back")
    return figure


def _draw_recursion(axis, K, adapters, visit, step=None):
    """The block at a visit, counted from 1; strong colours at a step of it (None: at all)."""
    names = ["BA att", "MHA", "BA ffn", "FFN"] if adapters else ["MHA", "FFN"]
    pitch = 6.6 / len(names)
    end = (0.95, 1.75)
    for number, name in enumerate(names):
        x, here = 1.5 + pitch * number, step in (None, number)
        y, width = 1.75, pitch - 0.55
        if name.startswith("BA"):
            for k in range(1, K + 1):
                low = 2.75 - (2 * k - 0.2) / K
                strength = 0.12 if k != visit else 0.7 if here else 0.35
                _box(axis, x, low, width, 1.6 / K, f"{name} {k}", "extra", strength)
            y = 2.75 - (2 * visit - 1) / K
        else:
            _box(axis, x, 1, width, 1.5, f"{name}\n(shared)", "student", 0.5 if here else 0.2)
        _arrow(axis, end, (x, y))
        end = (x + width, y)
    _arrow(axis, end, (8.1, 1.75))
    _say(axis, 0.6, 1.75, f"$X_{{{visit - 1}}}$", fontsize=13)
    _say(axis, 8.5, 1.75, f"$X_{{{visit}}}$", fontsize=13)
    if visit < K:
        _arrow(axis, (8.5, 1.5), (8.5, 0.4), (0.6, 0.4), (0.6, 1.5), colour=FAINT)
        _say(axis, 4.55, 0.2, "into the same block again")
    _say(axis, 4.55, 3.1, f"visit {visit} of {K}", fontsize=13, weight="bold")


def recursion(K=3, visit=2, adapters=True):
    """Equations 2 and 4: one block, and the way through it at one of its K visits."""
    values = {"K": K, "visit": visit, "before": visit - 1}
    alt = " ".join([ALTS["recursion"], ALTS["adapters"]][: 1 + adapters]).format(**values)
    figure, axis = _canvas(3.4, alt)
    _draw_recursion(axis, K, adapters, visit)
    return figure


def _smaller(found) -> str:
    """A PNG in base64, with 64 colours for its thousands."""
    picture = Image.open(BytesIO(b64decode(found[0])))
    picture.convert("RGB").quantize(64).save(reduced := BytesIO(), "png", optimize=True)
    return b64encode(reduced.getvalue()).decode()


def moving_recursion(K=3, adapters=True) -> HTML:
    """`recursion` in steps, played by its buttons: letters, since a page asks no other host."""
    figure, axis = _canvas(3.4)
    frames = [(visit, step) for visit in range(1, K + 1) for step in range(4 if adapters else 2)]

    def draw(frame):
        axis.clear()
        axis.set(xlim=(0, 9.2), ylim=(0, 3.4))
        axis.axis("off")
        _draw_recursion(axis, K, adapters, *frame)

    with plt.rc_context({"savefig.dpi": 90}):
        moving = animation.FuncAnimation(figure, draw, frames)
        page = re.sub("<link[^>]*>", "", moving.to_jshtml(fps=1, default_mode="once"))
    page = re.sub('(?<=base64,)[^"]+', _smaller, page)
    signs = iter("− « ‹ ◀ ‖ ▶ › » +".split())
    page = re.sub('<i class="fa.*?</i>', lambda _: next(signs), page)
    chance = re.search("_anim_img([0-9a-f]+)", page)[1]  # another text in each run, otherwise
    return HTML(page.replace(chance, f"recursion{K}"))


def adapter(d=768, reduction=16):
    """Equation 3 as published: the parts of one adapter."""
    narrow = d // reduction
    figure, axis = _canvas(1.8, ALTS["adapter"].format(d=d, narrow=narrow))
    parts = [
        (1, f"$X$\n{d}", "random"),
        (1.6, f"$W_{{down}}$\n{d} → {narrow}", "extra"),
        (0.9, f"GELU\n{narrow}", "extra"),
        (1.6, f"$W_{{up}}$\n{narrow} → {d}", "extra"),
        (1.6, f"add, LayerNorm\n{d}", "extra"),
    ]
    first, *_, last = _chain(axis, 0.5, 0.25, 0.7, parts, gap=0.375)
    _arrow(axis, (first, 0.95), (first, 1.25), (last, 1.25), (last, 0.95), colour=FAINT)
    size = 2 * d * narrow + narrow + d + 2 * d
    _say(axis, 4.6, 1.5, f"one adapter: {size:,} parameters; its input is added back")
    return figure


def factorisation(V=30522, d=768, r=128):
    """Equation 5 as areas: a word table, and the two tables that replace it."""
    figure, axis = _canvas(3.4, ALTS["factorisation"].format(V=V, d=d, r=r))
    inch = 2.4 / d
    thin = r * inch
    right = 4.6 + thin + 0.9
    tables = [("E", 0.9, 2.4, 2.5, V, d, "sky"), ("E_{lr}", 4.6, thin, 2.5, V, r, "student")]
    tables += [("W", right, 2.4, thin, r, d, "extra")]
    for name, x, width, height, rows, columns, colour in tables:
        y = 1.9 - height / 2
        _box(axis, x, y, width, height, "", colour)
        size = f"${name}$: {rows:,} × {columns}\n{rows * columns / 1e6:.1f} M"
        _say(axis, x + width / 2, y - 0.28, size)
        if rows == V:
            axis.plot([x, x + width], [2.8, 2.8], color=INK, lw=3, solid_capstyle="butt")
    _say(axis, 3.95, 1.9, "=", fontsize=16)
    _say(axis, right - 0.45, 1.9, "×", fontsize=16)
    _say(axis, 0.45, 2.8, "a word")
    scale = f"rows are drawn {V * inch / 2.5:.0f} times too thin"
    _say(axis, right + 1.2, 0.37, scale, color=FAINT)
    return figure


def layer_map(K=3, L=6):
    """The teacher layer each visit is compared with, g(k) = k L / K."""
    goals = [k * L // K for k in range(1, K + 1)]
    pairs = ", ".join(f"{k} to {layer}" for k, layer in enumerate(goals, 1))
    figure, axis = _canvas(2.6, ALTS["layer_map"].format(K=K, L=L, pairs=pairs))
    wide = 7.4 / L
    for y, text in ((2, "teacher"), (0.6, "student")):
        _say(axis, 0.2, y, text, ha="left", weight="bold")
    _say(axis, 0.2, 1.3, "$g(k) = kL/K$", ha="left")
    for layer in range(1, L + 1):
        x, strength = 1.5 + wide * (layer - 1), 0.35 if layer in goals else 0.08
        _box(axis, x, 1.7, wide - 0.12, 0.6, f"{layer}", "teacher", strength)
        if layer in goals:
            k = goals.index(layer) + 1
            _box(axis, x, 0.3, wide - 0.12, 0.6, f"$k$ = {k}", "student", 0.35)
            middle = x + wide / 2 - 0.06
            _arrow(axis, (middle, 0.9), (middle, 1.7), head="<|-|>")
    return figure


def loss_flow():
    """Equation 11: what each loss compares."""
    figure, axis = _canvas(4.2, ALTS["loss_flow"])
    _box(axis, 0.15, 1.8, 1.1, 0.7, "masked\ntext", "random")
    for y, edge, who, what in ((2.9, 2.5, "teacher", "layers"), (0.8, 1.8, "student", "visits")):
        _arrow(axis, (0.85, edge), (0.85, y + 0.3), (1.5, y + 0.3))
        names = [
            (1.25, f"{who}'s\nembeddings"),
            (2.9, f"{who}'s {what}"),
            (1.3, f"{who}'s\nguesses"),
        ]
        _chain(axis, 1.5, y, 0.6, [(*one, who) for one in names], gap=0.25)
    for name, x in (("attention", 3.05), ("hidden", 4.5), ("output", 6.15)):
        text, colour = TERMS[name]
        for y, end in ((2.9, 2.5), (1.4, 1.8)):
            _arrow(axis, (x + 0.65, y), (x + 0.65, end))
        _box(axis, x, 1.8, 1.3, 0.7, text.replace(" (", "\n("), colour)
    text, colour = TERMS["mlm"]
    _box(axis, 7.8, 0.8, 1.25, 0.6, text.replace(" (", "\n("), colour)
    _arrow(axis, (7.45, 1.1), (7.8, 1.1))
    _arrow(axis, (0.45, 1.8), (0.45, 0.45), (8.4, 0.45), (8.4, 0.8), colour=FAINT)
    _say(axis, 4.6, 0.25, "the words that were hidden")
    total = r"$\lambda_1\,$masked words $+\ \lambda_2\sum_k\,$(attention maps + hidden states)$_k$"
    _say(axis, 4.6, 3.85, total + r"$\ +\ \lambda_3\,$outputs", fontsize=11)
    return figure


def windows(window=256, overlap=128):
    """From an article to windows, and from a window to what the model sees and is asked."""
    body, step = window - 2, window - 2 - overlap
    alt = ALTS["windows"].format(window=window, step=step, overlap=overlap)
    figure, axis = _canvas(4.4, alt)
    inch = 8.6 / (body + 3.5 * step)
    _box(axis, 0.3, 3.8, 8.6, 0.35, "an article, in word pieces", "random")
    for number in range(3):
        x, y = 0.3 + number * step * inch, 3.3 - 0.42 * number
        _box(axis, x, y, body * inch, 0.35, f"[CLS] + {body} + [SEP]", "sky")
    say = f"each starts {step} after the last,\nneighbours share {overlap}"
    _say(axis, 0.3, 2.63, say, ha="left", color=FAINT)
    rows = {
        "text": "[CLS] the old dog slept by the fire [SEP]",
        "seen": "[CLS] the old [MASK] slept by the river [SEP]",
        "label": "-100 -100 -100 dog -100 by -100 fire -100",
    }
    chosen = {3: "student", 5: "extra", 7: "violet"}
    for y, (name, words) in zip((1.6, 1, 0.4), rows.items()):
        _say(axis, 0.3, y + 0.22, name, ha="left", weight="bold")
        for place, word in enumerate(words.split()):
            colour = chosen.get(place, "random")
            strength = 0.1 if place not in chosen else 0.25
            _box(axis, 0.95 + 0.89 * place, y, 0.79, 0.45, word, colour, strength)
    return figure
