"""Kills at random moments, the writing of checkpoints included; minutes, not part of `make test`.

A tiny distillation and a tiny fine-tuning save after every step. Each is killed again and again
with SIGKILL until it has had its share of kills, then left alone: its weights must be those of a
run that nothing disturbed, to the last bit.
"""

# ruff: noqa: F811 (fixtures are taken by their names)
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from test_plans import course, kill_group, plan, records, snakemake  # noqa: F401

ROOT = Path(__file__).resolve().parents[2]
KILLS = int(os.environ.get("KILLS", 14))  # of each of the two

SETUP = """
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, "tests")
from tiny import make_corpus, make_teacher

from minialbert import training

class Tells(training.Progress):
    def on_train_begin(self, args, state, control, **_):
        super().on_train_begin(args, state, control)
        print("begun", flush=True)

training.Progress = Tells
here = Path(sys.argv[1])
if not (here / "teacher").exists():
    make_teacher(here / "teacher")
    make_corpus(here / "corpus.jsonl")
run = here / sys.argv[2]
"""
DISTILLATION = """
from minialbert.distillation import DistilArguments, distil, prepare

arguments = DistilArguments(
    run_folder=str(run), teacher=str(here / "teacher"), corpus=str(here / "corpus.jsonl"),
    head_steps=0, window=16, overlap=4, num_iterations=2, embedding_size=8, adapter_reduction=4,
    steps=400, batch_size=4, masked_share=1.0, dropout=0.3, warmup_steps=2, heldout_windows=8,
    precision="fp32", logging_steps=1, eval_steps=500, save_steps=1,
)
distil(prepare(arguments))
"""
FINE_TUNING = """
import datasets
from minialbert import finetuning, tasks

rows = {"text": [f"the {a} sees a {b}" for a in "cat dog bird man".split() for b in
                 "river house cat dog".split()] * 12}
rows["label"] = [i % 2 for i in range(len(rows["text"]))]
parts = datasets.DatasetDict(train=datasets.Dataset.from_dict(rows),
                             test=datasets.Dataset.from_dict({k: v[:32] for k, v in rows.items()}))
task = tasks.get_task("own", text_columns=["text"], kind="classification")
data = tasks.load_task(task, parts)
arguments = finetuning.TuningArguments(
    run_folder=str(run), model=str(here / "teacher"), task="own", epochs=5, batch_size=8,
    precision="fp32", dropout=0.3, save_steps=1, max_length=32,
)
finetuning.finetune(arguments, data)
"""


def start(script, here, name):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SETUP + script, str(here), name]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def in_a_save(run) -> bool:
    """Whether the newest checkpoint was being written: its marker, written last, is not there."""
    checkpoints = sorted(
        (run / "checkpoints").glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1])
    )
    return bool(checkpoints) and not (checkpoints[-1] / "complete.json").exists()


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    "script, weights",
    [(DISTILLATION, "student/model.safetensors"), (FINE_TUNING, "model/model.safetensors")],
    ids=["distillation", "fine-tuning"],
)
def test_killed_at_random_moments_the_weights_are_the_same(tmp_path, script, weights):
    draw = random.Random(0)
    whole = start(script, tmp_path, "whole")
    assert whole.wait() == 0, whole.stderr.read()[-3000:]
    kills = saves = 0
    while True:
        process = start(script, tmp_path, "killed")
        if kills < KILLS:
            began = process.stdout.readline()
            time.sleep(draw.uniform(0, 1.2))
            if began and process.poll() is None:
                process.send_signal(signal.SIGKILL)
                process.wait()
                kills += 1
                saves += in_a_save(tmp_path / "killed")
                continue
        errors = process.communicate()[1]
        assert process.returncode == 0, errors[-3000:]
        break
    print(f"\n{kills} kills, {saves} of them while a checkpoint was written")
    first, second = (load_file(tmp_path / name / weights) for name in ("whole", "killed"))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.timeout(3600)
def test_a_plan_killed_at_random_moments_makes_each_run_once(plan, course, snakemake):
    """The engine alone and its whole group, in turn."""
    draw, numbers = random.Random(1), list(range(1, 12))
    needs = {"base": "../runs/lab/trial/first", "nap": 2.0}
    first = {"name": "first", "parameters": {"number": 100, "nap": 2.0}}
    plan(runs=[first, {"name": "others", "parameters": needs, "grid": {"number": numbers}}])
    kills = 0
    while kills < KILLS:
        engine = snakemake("--cores", "2", "lab/trial")
        time.sleep(draw.uniform(4, 9))
        if engine.poll() is not None:
            break
        engine.kill() if kills % 2 else kill_group(engine)
        kills += 1
    engine = snakemake("--cores", "2", "lab/trial")
    said = engine.communicate()[0]
    assert engine.returncode == 0, said
    print(f"\n{kills} kills of a plan of 12 runs")
    scores = {name: record["records"][0]["score"] for name, record in records(course).items()}
    assert scores == {"first": 100} | {f"others,number={n}": 100 + n for n in numbers}
    assert [file.read_text() for file in course.rglob("made.txt")] == 12 * ["once\n"]
