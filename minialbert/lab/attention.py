"""Attention maps of student and teacher (appendix C, figure 3): their agreement, and views of both.

Shapes: T tokens, N_h heads, K iterations; iterations, teacher layers and heads are counted from 1.
The views are bertviz's own and work offline: their JavaScript is read from installed packages when
a view is shown, and is never stored in a notebook.
"""

import html
import json
import re
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
import yaml

from ..losses import EPS


class AttentionError(ValueError):
    """A sentence, models, layer map, iteration or head that do not fit; says what to do."""


@dataclass(frozen=True)
class Maps:
    """The attention of two models on one sentence; a row is a query and sums to 1."""

    tokens: list[str]  # T word pieces
    special: np.ndarray  # (T,) bool: [CLS] and [SEP]
    student: np.ndarray  # (K, N_h, T, T), float64
    teacher: np.ndarray  # (K, N_h, T, T), of the layers in layer_map
    layer_map: list[int]  # the teacher layer, 1..L, that each iteration was compared with

    def without_special(self) -> "Maps":
        """The words alone: rows and columns of special tokens dropped, rows scaled to sum to 1."""
        words = self._only(np.flatnonzero(~self.special))
        student, teacher = words.student + EPS, words.teacher + EPS  # EPS: a row may have no words
        student /= student.sum(-1, keepdims=True)
        teacher /= teacher.sum(-1, keepdims=True)
        return replace(words, student=student, teacher=teacher)

    def save(self, path):
        """Keeps them as JSON, weights to three digits: what a view shows."""
        kept = {
            "tokens": self.tokens,
            "special": self.special.tolist(),
            "student": self.student.round(3).tolist(),
            "teacher": self.teacher.round(3).tolist(),
            "layer_map": self.layer_map,
        }
        Path(path).write_text(json.dumps(kept, separators=(",", ":")) + "\n", encoding="utf8")

    @classmethod
    def load(cls, path) -> "Maps":
        """What `save` kept."""
        kept = json.loads(Path(path).read_text(encoding="utf8"))
        arrays = {name: np.array(kept.pop(name)) for name in ("special", "student", "teacher")}
        return cls(**kept, **arrays)

    def _only(self, places: np.ndarray) -> "Maps":
        """Some tokens' rows and columns."""
        return replace(
            self,
            tokens=[self.tokens[place] for place in places],
            special=self.special[places],
            student=self.student[..., places[:, None], places],
            teacher=self.teacher[..., places[:, None], places],
        )


@torch.no_grad()
def attention_maps(student, teacher, tokenizer, sentence, layer_map) -> Maps:
    """The maps of a sentence: the student's K iterations, and a teacher layer for each.

    Both models run in eval mode with eager attention and are left as they were. `layer_map` has K
    teacher layers, 1..L, as in `distillation.default_layer_map`.

    Raises:
        AttentionError: no words; more tokens than positions; a word piece that a model lacks; a
            layer map that does not fit.
    """
    configs = (student.config, teacher.config)
    iterations, layers = (config.num_hidden_layers for config in configs)
    if len(layer_map) != iterations or not all(1 <= layer <= layers for layer in layer_map):
        wanted = f"give {iterations} teacher layers, each in 1..{layers}"
        raise AttentionError(f"layer_map {list(layer_map)}: {wanted}.")
    encoding = tokenizer(
        sentence, return_tensors="pt", return_special_tokens_mask=True, verbose=False
    )
    special = encoding.pop("special_tokens_mask")[0].bool().numpy()
    ids = encoding["input_ids"][0].tolist()
    positions = min(config.max_position_embeddings for config in configs)
    vocabulary = min(config.vocab_size for config in configs)
    if special.all():
        raise AttentionError(f"the sentence {sentence!r} has no words: type at least one.")
    if len(ids) > positions:
        raise AttentionError(f"{len(ids)} word pieces for {positions} positions: shorten it.")
    if max(ids) >= vocabulary:
        raise AttentionError(
            f"the tokenizer gives word piece {max(ids)}, a model knows {vocabulary}: "
            "take the tokenizer that both models were trained with."
        )
    return Maps(
        tokens=tokenizer.convert_ids_to_tokens(ids),
        special=special,
        student=_maps_of(student, encoding),
        teacher=_maps_of(teacher, encoding)[[layer - 1 for layer in layer_map]],
        layer_map=list(layer_map),
    )


def _maps_of(model, encoding) -> np.ndarray:
    """The maps of all layers, (L, N_h, T, T) in float64."""
    with _eager(model):
        output = model.base_model(**encoding.to(model.device), output_attentions=True)
    maps = torch.cat(output.attentions)
    return maps.float().cpu().double().numpy()  # Apple's GPUs have no float64


@contextmanager
def _eager(model):
    """Eval mode, and eager attention, the only one that gives maps; afterwards all is as it was."""
    implementation = model.config._attn_implementation
    modes = {module: module.training for module in model.modules()}
    try:
        model.eval().set_attn_implementation("eager")
        yield
    finally:
        model.set_attn_implementation(implementation)
        for module, mode in modes.items():
            module.training = mode


def agreement(maps: Maps, measure="kl") -> np.ndarray:
    """How far each student head is from the teacher's of the same number: (K, N_h) in nats.

    Args:
        measure: "kl", KL(A_t || A_s), the mean over rows, as in equation 7 reduced by "row"; or
            "js", the Jensen-Shannon divergence, symmetric and at most ln 2 = 0.693.

    Raises:
        AttentionError: for models with different numbers of heads, or an unknown measure.
    """
    ours, theirs = maps.student.shape[1], maps.teacher.shape[1]
    if ours != theirs:
        raise AttentionError(f"the student has {ours} heads, the teacher {theirs}: compare equals.")
    student, teacher = maps.student + EPS, maps.teacher + EPS
    if measure == "kl":
        return _kl(teacher, student)
    if measure == "js":
        middle = (student + teacher) / 2
        return (_kl(teacher, middle) + _kl(student, middle)) / 2
    raise AttentionError(f"unknown measure '{measure}': choose kl or js.")


def _kl(p, q):
    return (p * np.log(p / q)).sum(-1).mean(-1)


def best_and_worst(divergence) -> tuple[tuple[int, int], tuple[int, int]]:
    """(iteration, head) of the smallest and of the largest value of an `agreement`, from 1."""
    places = np.unravel_index([divergence.argmin(), divergence.argmax()], divergence.shape)
    best, worst = (np.transpose(places) + 1).tolist()
    return tuple(best), tuple(worst)


# -- views of bertviz

# The JavaScript that a view needs, in packages that carry it; bertviz knows d3 5 alone
LIBRARIES = [("mpld3", "js/d3.v5.min.js"), ("xstatic.pkg.jquery", "data/jquery.min.js")]


@dataclass(frozen=True, repr=False)
class View:
    """An interactive view: `page`, HTML that needs nothing else, in a sandboxed frame.

    It is shown as a widget, and widgets are not stored: an executed notebook keeps `label` alone.
    """

    page: str
    height: int  # pixels
    label: str

    def __repr__(self):
        return self.label

    @property
    def frame(self) -> str:
        """The page as HTML's element iframe."""
        return (
            f'<iframe sandbox="allow-scripts" width="100%" height="{self.height}" '
            f'style="border: 0" title="{html.escape(self.label)}" '
            f'srcdoc="{html.escape(self.page)}"></iframe>'
        )

    def _repr_mimebundle_(self, include=None, exclude=None):
        from ipywidgets import HTML

        return HTML(self.frame)._repr_mimebundle_() | {"text/plain": self.label}


def head_view(maps: Maps, iteration=1, heads=None, max_tokens=24) -> View:
    """bertviz's head view of student and teacher, an iteration next to its teacher layer.

    Hover over a token to see its lines alone; click tokens on the left to keep the lines of
    several. A coloured square is a head: click to add or remove it, double-click for it alone. The
    lists choose the iteration, for both.

    Args:
        iteration, heads: shown first, counted from 1; heads None: all.
        max_tokens: more are cut off, with a message: a page grows with their square.

    Raises:
        AttentionError: for an iteration or a head that is not there.
    """
    _check_chosen(maps, [iteration], heads)
    maps = _first(maps, max_tokens)
    iterations = list(range(1, len(maps.layer_map) + 1))
    look = {"heads": [head - 1 for head in heads] if heads else None}
    layer = maps.layer_map[iteration - 1]
    student = _bertviz("head_view", maps, "student", iterations, layer=iteration, **look)
    teacher = _bertviz("head_view", maps, "teacher", iterations, layer=layer, **look)
    return _view("head view", maps, student, teacher, 90 + 22.5 * len(maps.tokens))


def model_view(maps: Maps, iterations=None, heads=None, max_tokens=24) -> View:
    """bertviz's model view of student and teacher: every iteration next to its teacher layer.

    Click a head to see its tokens, in both models at once. Arguments and errors as in `head_view`;
    iterations and heads choose what is shown at all.
    """
    iterations = list(iterations or range(1, len(maps.layer_map) + 1))
    _check_chosen(maps, iterations, heads)
    maps = _first(maps, max_tokens)
    look = {"display_mode": "light", "include_heads": heads}
    student = _bertviz("model_view", maps, "student", iterations, **look)
    teacher = _bertviz("model_view", maps, "teacher", iterations, **look)
    row = 7 * 12 / (maps.student.shape[1] + 1) * len(maps.tokens) + 10
    height = 80 + max(len(iterations) * row, 20 + 18 * len(maps.tokens))
    return _view("model view", maps, student, teacher, height)


def _check_chosen(maps, iterations, heads):
    heads_of_both = min(maps.student.shape[1], maps.teacher.shape[1])
    known = {"iteration": len(maps.layer_map), "head": heads_of_both}
    for name, chosen in (("iteration", iterations), ("head", heads or ())):
        for one in chosen:
            if not 1 <= one <= known[name]:
                raise AttentionError(f"no {name} {one}: choose from 1..{known[name]}.")


def _first(maps, count):
    """The first tokens; a row then sums to less than 1, as what it looks at is cut too."""
    length = len(maps.tokens)
    if length <= count:
        return maps
    print(f"showing the first {count} of {length} tokens; max_tokens={length} shows all")
    return maps._only(np.arange(count))


def _bertviz(view, maps, side, iterations, **choices) -> str:
    """One model's page as bertviz makes it, changed as pair.yaml says; weights have 3 digits."""
    import bertviz

    weights = np.round(getattr(maps, side), 3)
    if view == "model_view":  # its heads count from 0: the one put there is never shown
        choices["include_heads"] = choices["include_heads"] or list(range(1, weights.shape[1] + 1))
        weights = np.insert(weights, 0, 0, axis=1)
    numbers = [k if side == "student" else maps.layer_map[k - 1] for k in iterations]
    layers = [torch.zeros(1, *weights.shape[1:])] * (max(numbers) + 1)
    for k, number in zip(iterations, numbers, strict=True):
        layers[number] = torch.from_numpy(weights[k - 1])[None]
    choices |= {"include_layers": numbers, "html_action": "return"}
    page = getattr(bertviz, view)(layers, maps.tokens, **choices).data
    page = re.sub(r"bertviz-[0-9a-f]{32}", side, page)  # a random name
    changes = yaml.safe_load(_beside("pair.yaml"))
    for _, pattern, replacement in changes["both"] + changes.get(side, []):
        page = re.sub(pattern, replacement, page)
    return page


def _view(name, maps, student, teacher, height) -> View:
    style, script = _beside("pair.css"), _beside("pair.js")
    page = (
        f'<!doctype html><meta charset="utf-8"><style>{style}</style>\n{_libraries()}<main>'
        f"<section><h4>student: iterations</h4>{student}</section>\n"
        f"<section><h4>teacher: the layers they are compared with</h4>{teacher}</section>\n"
        f"</main><script>{script}</script>"
    )
    label = f"<{name} of student and teacher, {len(maps.tokens)} tokens: run the cell to use it>"
    return View(page, round(height), label)


def _beside(name) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf8")


@cache
def _libraries() -> str:
    """d3 and jQuery, and what bertviz expects of require.js."""
    scripts = [(files(package) / name).read_text(encoding="utf8") for package, name in LIBRARIES]
    scripts.append("const requirejs = (names, run) => run(jQuery, d3);")
    return "".join(f"<script>{script}</script>\n" for script in scripts)
