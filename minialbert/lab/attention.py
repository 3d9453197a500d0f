"""Attention maps of student and teacher side by side (appendix C, figure 3): how close they are, and views of them.

Shapes: T tokens, N_h heads, K iterations; iterations, teacher layers and heads are counted from 1. The views are
bertviz's own and work offline: their JavaScript is read from installed packages when a view is shown, and is never
stored in a notebook.
"""

import html
import importlib.metadata
import re
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch

from .losses import EPS


class AttentionError(ValueError):
    """A sentence, two models and a layer map that do not fit each other, or a package missing; names the fix."""


# -- maps ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Maps:
    """The attention of two models on one sentence; a row is a query and sums to 1."""

    tokens: list[str]  # T word pieces
    special: np.ndarray  # (T,) bool: [CLS] and [SEP]
    student: np.ndarray  # (K, N_h, T, T), float64
    teacher: np.ndarray  # (K, N_h, T, T), of the layers in layer_map
    layer_map: list[int]  # the teacher layer, 1..L, that each iteration was compared with

    def without_special(self) -> "Maps":
        """The words alone: rows and columns of special tokens dropped, rows renormalised to sum to 1."""
        words = np.flatnonzero(~self.special)

        def of_words(maps):
            kept = (
                maps[..., words[:, None], words] + EPS
            )  # EPS: a row may look at special tokens only
            return kept / kept.sum(-1, keepdims=True)

        return replace(
            self,
            tokens=[self.tokens[i] for i in words],
            special=self.special[words],
            student=of_words(self.student),
            teacher=of_words(self.teacher),
        )


@contextmanager
def _eager(model):
    """Eval mode, and eager attention, the only one that gives maps; afterwards all is as it was."""
    implementation, modes = (
        model.config._attn_implementation,
        {m: m.training for m in model.modules()},
    )
    try:
        model.eval().set_attn_implementation("eager")
        yield
    finally:
        model.set_attn_implementation(implementation)
        for module, mode in modes.items():
            module.training = mode


def _maps_of(model, encoding) -> list[np.ndarray]:
    device = next(model.parameters()).device
    with _eager(model):
        output = model.base_model(
            **{name: tensor.to(device) for name, tensor in encoding.items()}, output_attentions=True
        )
    if not output.attentions or any(one is None for one in output.attentions):
        raise AttentionError(
            f"{type(model).__name__} gave no attention maps: load it with "
            "attn_implementation='eager'."
        )
    return [one[0].double().cpu().numpy() for one in output.attentions]


@torch.no_grad()
def attention_maps(student, teacher, tokenizer, sentence, layer_map) -> Maps:
    """The maps of a sentence: the student's K iterations, and the teacher layers they are compared with.

    Both models run in eval mode with eager attention and are left as they were.

    Args:
        student: a MiniALBERT, with or without head. teacher: a library model; tokenizer: theirs both.
        layer_map: K teacher layers, 1..L, as in `distillation.default_layer_map`.

    Raises:
        AttentionError: no words; more tokens than positions; word pieces the student lacks; a map that does not fit.
    """
    iterations, layers = student.config.num_hidden_layers, teacher.config.num_hidden_layers
    if len(layer_map) != iterations or not all(1 <= layer <= layers for layer in layer_map):
        raise AttentionError(
            f"layer_map {list(layer_map)}: give {iterations} teacher layers, one per iteration, "
            f"each in 1..{layers}."
        )
    encoding = tokenizer(
        sentence, return_tensors="pt", return_special_tokens_mask=True, verbose=False
    )
    special = encoding.pop("special_tokens_mask")[0].bool().numpy()
    if special.all():
        raise AttentionError(f"the sentence {sentence!r} has no words: type at least one.")
    limit = min(model.config.max_position_embeddings for model in (student, teacher))
    if len(special) > limit:
        raise AttentionError(
            f"the sentence has {len(special)} word pieces, special tokens included, and the models "
            f"have {limit} positions: shorten it."
        )
    size = min(model.config.vocab_size for model in (student, teacher))
    if encoding["input_ids"].max() >= size:
        raise AttentionError(
            f"the tokenizer gives word piece {encoding['input_ids'].max()}, a model knows {size}: "
            "take the tokenizer that both models were trained with."
        )
    theirs = _maps_of(teacher, encoding)
    return Maps(
        tokenizer.convert_ids_to_tokens(encoding["input_ids"][0].tolist()),
        special,
        np.stack(_maps_of(student, encoding)),
        np.stack([theirs[layer - 1] for layer in layer_map]),
        list(layer_map),
    )


def agreement(maps: Maps, measure="kl") -> np.ndarray:
    """How far each student head is from the teacher's head of the same number: (K, N_h), nats, 0 = equal.

    Args:
        measure: "kl", KL(A_t || A_s), the mean over rows, as in equation 7 reduced by "row"; "js", the
            Jensen-Shannon divergence, symmetric and at most ln 2 = 0.693.

    Raises:
        AttentionError: for models with different numbers of heads, or an unknown measure.
    """
    if maps.student.shape != maps.teacher.shape:
        raise AttentionError(
            f"the student has {maps.student.shape[1]} heads, the teacher {maps.teacher.shape[1]}: "
            "heads can be compared one to one only where both have equally many."
        )
    if measure not in ("kl", "js"):
        raise AttentionError(f"unknown measure '{measure}': choose kl or js.")
    student, teacher = maps.student + EPS, maps.teacher + EPS
    if measure == "kl":
        return _kl(teacher, student)
    middle = (student + teacher) / 2
    return (_kl(teacher, middle) + _kl(student, middle)) / 2


def _kl(p, q):
    return (p * np.log(p / q)).sum(-1).mean(-1)


def best_and_worst(divergence) -> tuple[tuple[int, int], tuple[int, int]]:
    """(iteration, head) of the smallest and of the largest value of an `agreement`, counted from 1."""
    places = (
        np.unravel_index(flat, divergence.shape)
        for flat in (divergence.argmin(), divergence.argmax())
    )
    return tuple((int(k) + 1, int(head) + 1) for k, head in places)


# -- views -----------------------------------------------------------------------------------------------------------

PAIR_WIDTH = 425  # pixels a model: two fit beside each other in JupyterLab on a screen of 1280
SIZES = {
    "DIV_WIDTH": PAIR_WIDTH,
    "DETAIL_WIDTH": 200,
    "DETAIL_ATTENTION_WIDTH": 50,
    "DETAIL_BOX_WIDTH": 75,
}
SCRIPTS = {
    "mpld3": "d3.v5.min.js",
    "XStatic-jQuery": "jquery.min.js",
}  # installed package: the file it carries
STYLE = (
    """body {margin: 0; font: 14px sans-serif} main {display: flex; gap: 12px}
section {flex: none; width: %dpx} h4 {margin: 4px 0; font-size: 14px}
#left text {cursor: pointer !important} #left .kept text {font-weight: bold}
.some line {visibility: hidden} .some line.kept {visibility: visible}"""
    % PAIR_WIDTH
)
# What bertviz lacks: what is done to one model's view is done to the other's; tokens that are clicked keep their lines.
TOGETHER = """
const roots = [...document.querySelectorAll('section > div')], kept = new Set();
let echo = false;
function twin(element) {
  const path = [];
  for (; !roots.includes(element); element = element.parentNode)
    path.push([...element.parentNode.children].indexOf(element));
  return path.reduceRight((at, i) => at && at.children[i], roots[1 - roots.indexOf(element)]);
}
for (const kind of ['mouseover', 'mouseleave', 'click', 'dblclick', 'change'])
  document.addEventListener(kind, event => {
    const other = !echo && roots.some(root => root.contains(event.target)) && twin(event.target);
    if (!other) return;
    if (kind === 'change') other.selectedIndex = event.target.selectedIndex;
    echo = true;
    other.dispatchEvent(new Event(kind, {bubbles: kind !== 'mouseleave'}));
    echo = false;
  }, true);
const tokens = root => [...root.querySelectorAll('#left > g:last-child > g')];
function keep(event) {
  const clicked = tokens(event.target.closest('section')).indexOf(event.target.parentNode);
  if (!echo && event.type === 'click' && clicked >= 0) kept.delete(clicked) || kept.add(clicked);
  for (const root of roots) {
    root.classList.toggle('some', kept.size > 0);
    tokens(root).forEach((token, i) => token.classList.toggle('kept', kept.has(i)));
    for (const line of root.querySelectorAll('line'))
      line.classList.toggle('kept', kept.has(+line.getAttribute('left-token-index')));
  }
}
for (const kind of ['click', 'change']) document.querySelector('main').addEventListener(kind, keep);"""


@dataclass(frozen=True, repr=False)
class View:
    """An interactive view in a notebook: `page`, HTML that needs nothing else, in a sandboxed frame.

    It is shown as a widget, and widgets are not stored: of a view, an executed notebook keeps `label` alone.
    """

    page: str
    height: int  # pixels
    label: str

    def __repr__(self):
        return self.label

    def _repr_mimebundle_(self, include=None, exclude=None):
        from ipywidgets import HTML

        frame = (
            f'<iframe sandbox="allow-scripts" width="100%" height="{self.height}" style="border: 0" '
            f'title="{html.escape(self.label)}" srcdoc="{html.escape(self.page)}"></iframe>'
        )
        return HTML(frame)._repr_mimebundle_() | {"text/plain": self.label}


def head_view(maps: Maps, iteration=1, heads=None, max_tokens=24) -> View:
    """bertviz's head view of student and teacher, an iteration beside its teacher layer.

    Hover a token to see its lines alone; click tokens on the left to keep the lines of several; a coloured square
    is a head: click to add or remove it, double-click for it alone. The lists choose the iteration, for both.

    Args:
        iteration, heads: shown first, counted from 1; heads None: all.
        max_tokens: more are cut off, with a message: a page grows with their square.

    Raises:
        AttentionError: for an iteration or a head that is not there, or a package that is missing.
    """
    maps = _first(maps, max_tokens)
    _check_chosen(maps, [iteration], heads)
    chosen = [head - 1 for head in heads] if heads else None
    sides = [
        _bertviz(
            "head_view",
            maps,
            side,
            range(1, len(maps.layer_map) + 1),
            heads=chosen,
            layer=iteration if side == "student" else maps.layer_map[iteration - 1],
        )
        for side in ("student", "teacher")
    ]
    return _view("head view", maps, sides, 90 + 22.5 * len(maps.tokens))


def model_view(maps: Maps, iterations=None, heads=None, max_tokens=24) -> View:
    """bertviz's model view of student and teacher: every iteration beside its teacher layer, every head.

    Click a head to see its tokens, in both models at once. Arguments and errors as in `head_view`; iterations
    and heads choose what is shown at all.
    """
    maps = _first(maps, max_tokens)
    iterations = list(iterations or range(1, len(maps.layer_map) + 1))
    _check_chosen(maps, iterations, heads)
    sides = [
        _bertviz(
            "model_view",
            maps,
            side,
            iterations,
            display_mode="light",
            include_heads=list(heads or range(1, getattr(maps, side).shape[1] + 1)),
        )
        for side in ("student", "teacher")
    ]
    rows = len(iterations) * (7 * 12 / (maps.student.shape[1] + 1) * len(maps.tokens) + 10)
    return _view("model view", maps, sides, 80 + max(rows, 20 + 18 * len(maps.tokens)))


def _check_chosen(maps, iterations, heads):
    for name, chosen, last in (
        ("iteration", iterations, len(maps.layer_map)),
        ("head", heads or (), min(maps.student.shape[1], maps.teacher.shape[1])),
    ):
        if wrong := [one for one in chosen if not 1 <= one <= last]:
            raise AttentionError(f"no {name} {wrong[0]}: choose from 1..{last}.")


def _first(maps, count):
    """The first tokens only, where there are more; rows then sum to less than 1, as what they look at is cut too."""
    if len(maps.tokens) <= count:
        return maps
    print(
        f"showing the first {count} of {len(maps.tokens)} tokens; max_tokens={len(maps.tokens)} shows all"
    )
    return replace(
        maps,
        tokens=maps.tokens[:count],
        special=maps.special[:count],
        student=maps.student[..., :count, :count],
        teacher=maps.teacher[..., :count, :count],
    )


def _bertviz(view, maps, side, iterations, **choices) -> str:
    """One model's view as bertviz makes it, less its CDN, with weights of 3 digits and labels counted from 1."""
    try:
        import bertviz
    except ImportError as error:
        raise _missing(error.name) from None
    array = np.round(getattr(maps, side), 3)
    if view == "model_view":  # bertviz counts from 0: what stands at 0 is never shown
        array = np.insert(array, 0, 0, axis=1)
    labels = [k if side == "student" else maps.layer_map[k - 1] for k in iterations]
    attention = [torch.zeros(1, *array.shape[1:])] * (max(labels) + 1)
    for label, k in zip(labels, iterations):
        attention[label] = torch.from_numpy(array[k - 1])[None]
    page = getattr(bertviz, view)(
        attention, maps.tokens, include_layers=labels, html_action="return", **choices
    ).data
    page = re.sub(r"<script src=.*?</script>|require\.config\(\{.*?\}\);", "", page, flags=re.S)
    page = re.sub("// HACK: .*", "", page)  # a comment that repeats all weights
    page = re.sub(r"bertviz-[0-9a-f]{32}", side, page)  # its id is random
    page = page.replace(
        "config.layers[layer] % 10", "layer % 10"
    )  # one colour for an iteration and its layer
    for name, size in SIZES.items():
        page = re.sub(rf"\b{name} = \d+", f"{name} = {size}", page)
    if side == "student":
        for word in ("Layer: ", '"Layers"', "'Layer '"):
            page = page.replace(word, word.replace("Layer", "Iteration"))
    return page


@cache
def _libraries() -> str:
    """d3 5 and jQuery, and what bertviz expects of require.js."""
    scripts = []
    for package, name in SCRIPTS.items():
        try:
            files = importlib.metadata.files(package) or ()
            scripts.append(next(file for file in files if file.name == name).read_text())
        except (importlib.metadata.PackageNotFoundError, StopIteration, OSError):
            raise _missing(package) from None
    scripts.append("const requirejs = (names, run) => run(jQuery, d3);")
    return "".join(f"<script>{script}</script>\n" for script in scripts)


def _missing(package):
    return AttentionError(
        f"the view needs {package}, which is not installed or not whole; "
        "run: pip install -c constraints.txt -e '.[notebooks]'"
    )


def _view(name, maps, sides, height) -> View:
    titles = ("student: iterations", "teacher: the layers they are compared with")
    both = "".join(
        f"<section><h4>{title}</h4>{side}</section>\n" for title, side in zip(titles, sides)
    )
    page = (
        f'<!doctype html><meta charset="utf-8"><style>{STYLE}</style>\n{_libraries()}<main>{both}</main>'
        f"<script>{TOGETHER}</script>"
    )
    label = f"<{name} of student and teacher, {len(maps.tokens)} tokens: run the cell to use it>"
    return View(page, round(height), label)
