"""Mistakes to plant in the method: small ones that somebody could really make.

`tests/benchmarks/test_mistakes.py` plants each in a copy of the project, where the notebook or test
named with it must then fail. `tests/test_mistakes.py` asks that they can still be planted.
"""

import os
import shutil
import subprocess
import sys
from typing import NamedTuple

from conftest import ROOT

LOSSES, MODELING = "tests/test_losses.py", "tests/test_modeling.py"
TASKS = "tests/test_tasks.py"
LOOP = "notebooks/02_recursive_student.ipynb"
EXITS, STOPS = "tests/test_early_exit.py", "notebooks/15_stop_early.ipynb"
ADAPTERS = "notebooks/03_bottleneck_adapters.ipynb"
FACTORS = "notebooks/04_embedding_factorisation.ipynb"
OF_LOSSES = "notebooks/05_distillation_losses.ipynb"
OF_CORPUS = "notebooks/06_corpus_and_masking.ipynb"
GLUE = "notebooks/09_glue.ipynb"
NER = "notebooks/10_biomedical_ner.ipynb"
ABLATIONS = "notebooks/12_ablations.ipynb"
RESULTS = "notebooks/14_results.ipynb"
SMALL = "notebooks/16_stay_small.ipynb"


class Mistake(NamedTuple):
    file: str  # of minialbert/
    right: str  # stands there once
    wrong: str
    seen_by: str  # a notebook, whose outputs then change, or a test


MISTAKES = [
    # KL the wrong way round; divided by T in the wrong form; padding counted; tau forgotten
    Mistake(
        "losses.py",
        "teacher * (teacher.log() - student.log())",
        "student * (student.log() - teacher.log())",
        OF_LOSSES,
    ),
    Mistake("losses.py", 'if reduction == "published"', 'if reduction == "row"', OF_LOSSES),
    Mistake(
        "losses.py",
        "rows = attention_mask.sum().clamp_min(1)",
        "rows = attention_mask.numel()",
        OF_LOSSES,
    ),
    Mistake("losses.py", "divergence * attention_mask[:, None, :]", "divergence", OF_LOSSES),
    Mistake("losses.py", "(distance * attention_mask).sum()", "distance.sum()", OF_LOSSES),
    Mistake("losses.py", "divergence * temperature**2", "divergence * temperature", OF_LOSSES),
    Mistake("losses.py", "chosen = labels != -100", "chosen = labels != 0", OF_LOSSES),
    Mistake("losses.py", "/ x.shape[-1] ** 0.5", "/ x.shape[-1]", LOSSES),
    Mistake(
        "losses.py",
        "F.kl_div(student, _log_softmax(teacher),",
        "F.kl_div(_log_softmax(teacher), student,",
        OF_LOSSES,
    ),
    # no residual, another bend, another scale; one pair of adapters for all; never stopping early;
    # no types; positions of padding; queries hidden for keys; the word table not shared
    Mistake("modeling.py", "F.gelu(self.down(x))) + x)", "F.gelu(self.down(x))))", ADAPTERS),
    Mistake("modeling.py", "F.gelu(self.down(x))", "F.relu(self.down(x))", ADAPTERS),
    Mistake("modeling.py", "self.head_size**-0.5", "x.shape[-1] ** -0.5", ADAPTERS),
    Mistake("modeling.py", "self.attention_adapters[k]", "self.attention_adapters[0]", ADAPTERS),
    Mistake("modeling.py", "self.ffn_adapters[k]", "self.ffn_adapters[-1]", ADAPTERS),
    Mistake("modeling.py", "LayerNorm(x + mixed)", "LayerNorm(mixed)", ADAPTERS),
    Mistake(
        "modeling.py", "for k in range(iterations)", "for k in range(self.num_iterations)", LOOP
    ),
    Mistake("modeling.py", "x = words + types +", "x = words +", FACTORS),
    Mistake(
        "modeling.py", "(position_ids - padding_before).clamp_min(0)", "position_ids", MODELING
    ),
    Mistake("modeling.py", "mask[:, None, None, :]", "mask[:, None, :, None]", OF_LOSSES),
    Mistake("modeling.py", "_tied_weights_keys = {", "_not_tied = {", FACTORS),
    # eighty per cent are ninety; tails kept; starts two too far apart; one mask for all epochs;
    # special tokens put in; one order for all epochs; the share that is not masked
    Mistake("corpus.py", "action < 0.8", "action < 0.9", OF_CORPUS),
    Mistake("corpus.py", "3 if keep_tails else window", "3", OF_CORPUS),
    Mistake("corpus.py", "n * (window - 2 - overlap)", "n * (window - overlap)", OF_CORPUS),
    Mistake("corpus.py", "default_rng([seed, *key])", "default_rng([seed, key[1]])", OF_CORPUS),
    Mistake(
        "corpus.py",
        "np.setdiff1d(np.arange(len(tokenizer)), special)",
        "np.arange(len(tokenizer))",
        OF_CORPUS,
    ),
    Mistake("corpus.py", "default_rng([seed, epoch])", "default_rng(seed)", OF_CORPUS),
    Mistake("corpus.py", "rng.random() >= share", "rng.random() < share", OF_CORPUS),
    # a sum for an average; the next layer; the smallest singular values; positions left random
    Mistake("starting.py", "torch.stack(tensors).mean(0)", "torch.stack(tensors).sum(0)", ADAPTERS),
    Mistake("starting.py", "layers[start - 1]", "layers[start - 2]", ADAPTERS),
    Mistake("starting.py", "vectors.flip(1)[:, :rank]", "vectors[:, :rank]", FACTORS),
    Mistake("starting.py", "for name in TABLES[1:]", "for name in TABLES[2:]", OF_LOSSES),
    # the layer below; the state before; weights left out; a mean for a sum; visible tokens asked
    Mistake(
        "objective.py",
        "theirs.hidden_states[layer], attention_mask",
        "theirs.hidden_states[layer - 1], attention_mask",
        OF_LOSSES,
    ),
    Mistake(
        "objective.py",
        "zip(ours.hidden_states[1:], layer_map)",
        "zip(ours.hidden_states, layer_map)",
        OF_LOSSES,
    ),
    Mistake(
        "objective.py", "theirs.attentions[layer - 1]", "theirs.attentions[layer - 2]", OF_LOSSES
    ),
    Mistake(
        "objective.py", '"hidden": self.alignment * self.hidden', '"hidden": self.hidden', OF_LOSSES
    ),
    Mistake("objective.py", "sum(attention)", "sum(attention) / len(attention)", OF_LOSSES),
    Mistake("objective.py", "masked = labels != -100", "masked = labels == -100", OF_LOSSES),
    Mistake(
        "objective.py", "for k in range(1, iterations + 1)", "for k in range(iterations)", OF_LOSSES
    ),
    # later pieces count; one text in two splits; the first rows for a draw; contradictions kept; an
    # I that begins an entity
    Mistake("tasks.py", "word < 0 or (word == before and not all_pieces)", "word < 0", NER),
    Mistake("tasks.py", "parts == 0", "parts <= 1", ABLATIONS),
    Mistake(
        "tasks.py",
        "np.random.default_rng(seed).permutation(len(rows))",
        "np.arange(len(rows))",
        NER,
    ),
    Mistake("tasks.py", "keys[classes == 1]", "keys[classes >= 1]", TASKS),
    Mistake("tasks.py", 'before == "O" or before[1:] != name[1:]', 'before == "O"', TASKS),
    # one correlation for the other; a word's last piece counts; rounded where the paper cuts
    Mistake("metrics.py", 'if metric == "pearson"', 'if metric == "spearman"', GLUE),
    Mistake("metrics.py", "tags.setdefault(word, int(tag))", "tags[word] = int(tag)", NER),
    Mistake("metrics.py", "math.trunc(round(mean * 100, 6))", "round(mean * 100)", RESULTS),
    # nothing is frozen; half of the adapters; no head
    Mistake("adapters.py", "requires_grad_(name in trained)", "requires_grad_(True)", ADAPTERS),
    Mistake("adapters.py", 'if "_adapters." in name', 'if "ffn_adapters." in name', ADAPTERS),
    Mistake(
        "adapters.py", 'name.startswith("classifier.")', 'name == "classifier.weight"', ADAPTERS
    ),
    # the last visit learns from the others; other texts' masks; one repetition is enough
    Mistake("early_exit.py", "last.detach()", "last", EXITS),
    Mistake("early_exit.py", "else hidden[stay]", "else hidden[: len(x)]", EXITS),
    Mistake("early_exit.py", "[-self.times :]", "[-1:]", EXITS),
    # one visit too many; answers before each visit, not after it; the doubtful leave
    Mistake("early_exit.py", "len(answers) >= self.visits", "len(answers) > self.visits", STOPS),
    Mistake("early_exit.py", "hidden_states[1:]", "hidden_states[:-1]", STOPS),
    Mistake("early_exit.py", "amax(-1) >= self.threshold", "amax(-1) < self.threshold", STOPS),
    # int8: a step too short for a byte; one scale for all outputs, or all words
    Mistake("quantisation.py", "clamp_min(1e-12) / 127", "clamp_min(1e-12) / 255", SMALL),
    Mistake("quantisation.py", "* self.scale + bias", "* self.scale.max() + bias", SMALL),
    Mistake("quantisation.py", "* self.scale[x, None]", "* self.scale.mean()", SMALL),
]


def planted(mistake) -> str:
    """The file's text with the mistake in it."""
    text = (ROOT / "minialbert" / mistake.file).read_text(encoding="utf8")
    assert text.count(mistake.right) == 1, f"{mistake.file}: {mistake.right!r} is not there once"
    return text.replace(mistake.right, mistake.wrong)


def copy_project(folder):
    """A copy in which mistakes can be made: package, tests, notebooks."""
    for name in ("minialbert", "tests", "notebooks"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns(".*", "__pyc*"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    for name in ("figures", "Snakefile", "Makefile"):
        (folder / name).symlink_to(ROOT / name)


def run(folder, target):
    """A notebook compared by nbval, or a test, in a copy of the project without runs."""
    shutil.rmtree(folder / "runs", ignore_errors=True)  # a finished run is read, not made again
    options = ["--nbval", "--nbval-current-env"] if target.endswith(".ipynb") else []
    environment = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *options, target],
        cwd=folder,
        env=environment | {"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
    )
