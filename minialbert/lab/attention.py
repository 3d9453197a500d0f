"""Attention maps of student and teacher (appendix C, figure 3): their agreement, and views of both.

Shapes: T tokens, N_h heads, K iterations; iterations, teacher layers and heads are counted from 1.
The views are bertviz's own and work offline: their JavaScript is read from installed packages when
a view is shown, and is never stored in a notebook.
"""

import html
import re
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files

import numpy as np
import torch

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
        words = np.flatnonzero(~self.special)

        def of_words(maps):
            kept = maps[..., words[:, None], words] + EPS  # a row may look at special tokens only
            return kept / kept.sum(-1, keepdims=True)

        return replace(
            self,
            tokens=[self.tokens[i] for i in words],
            special=self.special[words],
            student=of_words(self.student),
            teacher=of_words(self.teacher),
        )


@torch.no_grad()
def attention_maps(student, teacher, tokenizer, sentence, layer_map) -> Maps:
    """The maps of a sentence: the student's K iterations, and a teacher layer for each.

    Both models run in eval mode with eager attention and are left as they were.

    Args:
        student: a MiniALBERT, with or without head; teacher: a library model.
        tokenizer: that of both.
        layer_map: K teacher layers, 1..L, as in `distillation.default_layer_map`.

    Raises:
        AttentionError: no words; more tokens than positions; a word piece that a model lacks; a
            layer map that does not fit.
    """
    models = (student, teacher)
    iterations, layers = (model.config.num_hidden_layers for model in models)
    if len(layer_map) != iterations or not all(1 <= layer <= layers for layer in layer_map):
        raise AttentionError(
            f"layer_map {list(layer_map)}: give {iterations} teacher layers, one per iteration, "
            f"each in 1..{layers}."
        )
    encoding = tokenizer(
        sentence, return_tensors="pt", return_special_tokens_mask=True, verbose=False
    )
    special = encoding.pop("special_tokens_mask")[0].bool().numpy()
    ids = encoding["input_ids"][0].tolist()
    if special.all():
        raise AttentionError(f"the sentence {sentence!r} has no words: type at least one.")
    positions = min(model.config.max_position_embeddings for model in models)
    if len(ids) > positions:
        raise AttentionError(
            f"the sentence has {len(ids)} word pieces, special tokens included, and the models "
            f"have {positions} positions: shorten it."
        )
    vocabulary = min(model.config.vocab_size for model in models)
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
    if maps.student.shape != maps.teacher.shape:
        raise AttentionError(
            f"the student has {maps.student.shape[1]} heads, the teacher {maps.teacher.shape[1]}: "
            "heads can be compared one to one only where both have equally many."
        )
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

    def place(flat):
        iteration, head = np.unravel_index(flat, divergence.shape)
        return int(iteration) + 1, int(head) + 1

    return place(divergence.argmin()), place(divergence.argmax())


# -- views of bertviz

# The JavaScript that a view needs, in packages that carry it; bertviz knows d3 5 alone
LIBRARIES = [("mpld3", "js/d3.v5.min.js"), ("xstatic.pkg.jquery", "data/jquery.min.js")]
# What is changed in the page that bertviz makes: (why, the pattern, what takes its place)
CHANGES = [
    ("require.js would come from the network", r"(?s)<script src=.*?</script>", ""),
    ("and so would the libraries it names", r"(?s)require\.config\(\{.*?\}\);", ""),
    ("a comment repeats all weights", r"// HACK: .*", ""),
    ("room for two models", r"\bDIV_WIDTH = \d+", "DIV_WIDTH = 425"),  # as in pair.css
    ("room for two models", r"\bDETAIL_WIDTH = \d+", "DETAIL_WIDTH = 200"),
    ("room for two models", r"\bDETAIL_ATTENTION_WIDTH = \d+", "DETAIL_ATTENTION_WIDTH = 50"),
    ("room for two models", r"\bDETAIL_BOX_WIDTH = \d+", "DETAIL_BOX_WIDTH = 75"),
    ("one colour for iteration and layer", r"config\.layers\[layer\] % 10", "layer % 10"),
]
STUDENT_CHANGES = [
    ("the list of a head view", r"\bLayer: ", "Iteration: "),
    ("the axis of a model view", r'"Layers"', '"Iterations"'),
    ("the title of a head in a model view", r"'Layer '", "'Iteration '"),
]


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

    def _repr_mimebundle_(self, include=None, exclude=None):
        from ipywidgets import HTML

        frame = (
            f'<iframe sandbox="allow-scripts" width="100%" height="{self.height}" '
            f'style="border: 0" title="{html.escape(self.label)}" '
            f'srcdoc="{html.escape(self.page)}"></iframe>'
        )
        return HTML(frame)._repr_mimebundle_() | {"text/plain": self.label}


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
    maps = _first(maps, max_tokens)
    _check_chosen(maps, [iteration], heads)
    iterations = range(1, len(maps.layer_map) + 1)
    heads = [head - 1 for head in heads] if heads else None
    layer = maps.layer_map[iteration - 1]
    student = _bertviz("head_view", maps, "student", iterations, heads=heads, layer=iteration)
    teacher = _bertviz("head_view", maps, "teacher", iterations, heads=heads, layer=layer)
    return _view("head view", maps, student, teacher, 90 + 22.5 * len(maps.tokens))


def model_view(maps: Maps, iterations=None, heads=None, max_tokens=24) -> View:
    """bertviz's model view of student and teacher: every iteration next to its teacher layer.

    Click a head to see its tokens, in both models at once. Arguments and errors as in `head_view`;
    iterations and heads choose what is shown at all.
    """
    maps = _first(maps, max_tokens)
    iterations = list(iterations or range(1, len(maps.layer_map) + 1))
    _check_chosen(maps, iterations, heads)
    look = {"display_mode": "light", "include_heads": heads}
    student = _bertviz("model_view", maps, "student", iterations, **look)
    teacher = _bertviz("model_view", maps, "teacher", iterations, **look)
    row = 7 * 12 / (maps.student.shape[1] + 1) * len(maps.tokens) + 10
    height = 80 + max(len(iterations) * row, 20 + 18 * len(maps.tokens))
    return _view("model view", maps, student, teacher, height)


def _check_chosen(maps, iterations, heads):
    last = len(maps.layer_map)
    for one in iterations:
        if not 1 <= one <= last:
            raise AttentionError(f"no iteration {one}: choose from 1..{last}.")
    last = min(maps.student.shape[1], maps.teacher.shape[1])
    for one in heads or ():
        if not 1 <= one <= last:
            raise AttentionError(f"no head {one}: choose from 1..{last}.")


def _first(maps, count):
    """The first tokens; a row then sums to less than 1, as what it looks at is cut too."""
    length = len(maps.tokens)
    if length <= count:
        return maps
    print(f"showing the first {count} of {length} tokens; max_tokens={length} shows all")
    return replace(
        maps,
        tokens=maps.tokens[:count],
        special=maps.special[:count],
        student=maps.student[..., :count, :count],
        teacher=maps.teacher[..., :count, :count],
    )


def _bertviz(view, maps, side, iterations, **choices) -> str:
    """One model's page as bertviz makes it, changed by CHANGES; weights have 3 digits."""
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
    changes = CHANGES + STUDENT_CHANGES if side == "student" else CHANGES
    for _, pattern, replacement in changes:
        page = re.sub(pattern, replacement, page)
    return page


def _view(name, maps, student, teacher, height) -> View:
    here = files("minialbert.lab")
    style = (here / "pair.css").read_text(encoding="utf8")
    script = (here / "pair.js").read_text(encoding="utf8")
    page = (
        f'<!doctype html><meta charset="utf-8"><style>{style}</style>\n{_libraries()}<main>'
        f"<section><h4>student: iterations</h4>{student}</section>\n"
        f"<section><h4>teacher: the layers they are compared with</h4>{teacher}</section>\n"
        f"</main><script>{script}</script>"
    )
    label = f"<{name} of student and teacher, {len(maps.tokens)} tokens: run the cell to use it>"
    return View(page, round(height), label)


@cache
def _libraries() -> str:
    """d3 and jQuery, and what bertviz expects of require.js."""
    scripts = [(files(package) / name).read_text(encoding="utf8") for package, name in LIBRARIES]
    scripts.append("const requirejs = (names, run) => run(jQuery, d3);")
    return "".join(f"<script>{script}</script>\n" for script in scripts)
