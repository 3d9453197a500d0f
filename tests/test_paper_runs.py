"""The paper's plans: what they read is made by another, and a run of each goes through the engine.

At toy size, with local folders for the Hub; all kinds: tests/benchmarks/test_paper_plans.py.
"""

import json
import subprocess
import sys

import pandas as pd
import pytest
import torch
import yaml
from conftest import ROOT
from tiny import TOKENIZER, make_corpus, make_teacher, teacher_config
from transformers import AutoTokenizer

from minialbert import MiniAlbertForMaskedLM, tasks
from minialbert.lab import plans
from minialbert.published import as_ours, to_published_state_dict
from minialbert.starting import student_config

RANKS = {768: 32, 312: 16, 128: 8}
TOY = {
    "07_distil": {
        "steps": 2, "epochs": None, "window": 16, "overlap": 4, "num_iterations": 2,
        "heldout_windows": 4, "batch_size": 4, "device_batch_size": 2, "warmup_steps": 1,
        "num_workers": 0, "num_proc": None, "save_steps": 2,
    },
    "08_attention_maps": {"sentences": 4, "layer_map": [1, 2]},
    "09_glue": {"limit": 12, "evaluation_limit": 8, "max_length": 32, "batch_sizes": [4]},
    "10_biomedical_ner": {"limit": 12, "evaluation_limit": 8, "max_length": 32, "epochs": 1.0},
    "12_ablations": {"steps": 2, "finetune": ["rte"]},
}  # fmt: skip


def runs_of_paper() -> dict:
    """{name: run} of notebooks/params/paper."""
    found = plans.read_plans(ROOT)
    return {name: run for name, run in found.items() if name.startswith("paper/")}


def published(folder, teacher):
    """A random student in the authors' layout."""
    sizes = {"num_hidden_layers": 2, "embedding_size": 8, "adapter_reduction": 4}
    config = student_config(teacher_config(num_hidden_layers=2), tie_word_embeddings=False, **sizes)
    student = MiniAlbertForMaskedLM(config)
    folder.mkdir()
    torch.save(to_published_state_dict(student.state_dict()), folder / "pytorch_model.bin")
    theirs = config.to_dict() | {"model_type": "albert", "use_adapter": True, "reduction_factor": 4}
    (folder / "config.json").write_text(json.dumps(theirs))
    words = AutoTokenizer.from_pretrained(TOKENIZER).get_vocab()
    (folder / "vocab.txt").write_text("\n".join(sorted(words, key=words.get)))
    return folder


def glue(folder, name):
    """A task in the Hub's layout: sixteen rows of each split."""
    task = tasks.TASKS[name]
    where = folder / (task.config or name)
    where.mkdir(parents=True)
    rows = {text: [f"the cat likes a dog {n}" for n in range(16)] for text in task.texts}
    rows[task.label] = [n % max(1, len(task.labels)) for n in range(16)]
    if not task.labels:
        rows[task.label] = [n % 5 + 0.5 for n in range(16)]
    validation = (
        ["validation_matched", "validation_mismatched"] if name == "mnli" else ["validation"]
    )
    for split in ["train", *validation]:
        pd.DataFrame(rows).to_parquet(where / f"{split}-00000-of-00001.parquet")


def ner(folder, name):
    """A corpus in the form that BioBERT distributes."""
    where = folder / tasks.TASKS[name].config
    where.mkdir(parents=True)
    for part in ("train", "devel", "test"):
        (where / f"{part}.tsv").write_text(16 * "the\tO\ncat\tB\nlikes\tO\n\n")


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """A checkout whose plans are the paper's, each run at toy size; returns its folder."""
    root = tmp_path_factory.mktemp("paper")
    local = root / "local"
    local.mkdir()
    for name in ("notebooks", "figures", "minialbert"):
        (root / name).mkdir()
    for there in [ROOT / "figures", ROOT / "minialbert"]:
        (root / there.name).rmdir()
        (root / there.name).symlink_to(there)
    read = [ROOT / "notebooks/checks", *ROOT.glob("notebooks/*.ipynb")]
    for there in [*read, ROOT / "Snakefile", ROOT / "profiles"]:
        (root / there.relative_to(ROOT)).symlink_to(there)
    for name in tasks.TASKS:
        if tasks.TASKS[name].kind == "tagging" and tasks.TASKS[name].config:
            ner(local / "ner", name)
        elif tasks.TASKS[name].source == "nyu-mll/glue":
            glue(local / "glue", name)
    glue(local / "glue", "stsb")
    teacher = make_teacher(local / "teacher", num_hidden_layers=2)
    models = {
        "model": teacher,
        "narrow": make_teacher(local / "narrow", num_hidden_layers=2, hidden_size=16),
        "published": published(local / "published", teacher),
        "corpus": make_corpus(local / "corpus.jsonl"),
        "albert": albert(local / "albert"),
    }
    for plan, runs in by_plan().items():
        file = root / f"notebooks/params/{plan}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        entries = [
            {"name": run.name.removeprefix(f"{plan}/"), "notebook": run.notebook.stem}
            | {"parameters": toy(run.notebook.stem, run.given, models, local)}
            for run in runs
        ]
        file.write_text(yaml.safe_dump({"notebook": "07_distil", "runs": entries}))
    return root


def albert(folder):
    from transformers import AlbertConfig, AlbertForMaskedLM

    tokenizer = AutoTokenizer.from_pretrained(TOKENIZER)
    sizes = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 64}
    config = AlbertConfig(vocab_size=len(tokenizer), embedding_size=8, **sizes)
    AlbertForMaskedLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def by_plan() -> dict:
    found = {}
    for run in runs_of_paper().values():
        found.setdefault(run.plan, []).append(run)
    return found


def toy(notebook, given, models, local):
    """The same parameters with little of everything, and folders for what the Hub has."""

    def here(value):
        if isinstance(value, dict):
            return {key: here(one) for key, one in value.items()}
        if not isinstance(value, str) or "/" not in value or value.startswith("../runs"):
            return value
        near = {"tiny": "narrow", "TinyBERT": "narrow", "miniALBERT": "published"}
        near |= {"albert-base": "albert", "wikipedia": "corpus", "pubmed": "corpus"}
        folders = {"data/ner": local / "ner", "glue": local / "glue"}
        folders |= {word: models[key] for word, key in near.items()}
        fits = [folder for word, folder in folders.items() if word in value]
        return str(fits[0] if fits else models["model"])

    small = here(given) | TOY[notebook]
    for grid in ("learning_rates", "epochs_tried", "seeds"):
        if grid in small:
            small[grid] = [1.0] if grid == "epochs_tried" else small[grid][:2]
    for inner in (small, small.get("recipe", {}), small.get("full_rank", {})):
        if "embedding_size" in inner:
            inner["embedding_size"] = RANKS[inner["embedding_size"]]
        if inner.get("corpus_name"):
            inner["corpus_name"] = None
    if "recipe" in small:
        small["recipe"] |= TOY["07_distil"]
        for name in ("steps", "epochs"):
            del small["recipe"][name]
        small["tuning"] |= {"epochs": 1, "max_length": 32}
    return small


def make(course, target):
    """One target by the engine; what it says where it fails."""
    command = [sys.executable, "-m", "snakemake", "--cores", "1", target]
    result = subprocess.run(command, cwd=course, capture_output=True, text=True)
    assert result.returncode == 0, (result.stdout + result.stderr)[-6000:]
    record = json.loads((course / "runs" / target / "result.json").read_text("utf8"))
    assert record["status"] == "done" and record["records"]
    return record


# ---- in every `make test`


def test_what_a_run_of_the_paper_reads_another_makes():
    for run in runs_of_paper().values():
        reads = [text for text in plans._texts(run.given) if text.startswith("../runs/")]
        assert bool(reads) == bool(run.needs), run.name


def test_hours_of_every_row():
    runs = runs_of_paper()
    table = plans.hours(runs, 50)
    row = table.loc["paper/table1/minialbert-128"]
    student = table.loc["paper/distil_students/minialbert-128", "GPU hours"]
    assert row["with what it needs"] == pytest.approx(row["GPU hours"] + student, abs=0.02)
    assert table.loc["paper/table1", "runs"] == 18 * 8 and row["GPU hours"] > 1


def test_a_published_checkpoint_as_ours(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIALBERT_CACHE", str(tmp_path / "cache"))
    theirs = published(tmp_path / "theirs", None)
    ours = as_ours(theirs)
    assert ours != theirs and as_ours(theirs) == as_ours(ours) == ours
    assert len(AutoTokenizer.from_pretrained(ours)("the cat")["input_ids"]) == 4


def test_the_authors_checkpoint_goes_through_the_engine_by_papermill(course):
    """The cheapest replication: of one task."""
    target = "paper/table1/published-128,task=rte"
    record = make(course, target)
    assert {one["task"] for one in record["records"]} == {"rte"}
