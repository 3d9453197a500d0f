"""A run's folder and its one record: new, resumed, done, or another's; killed, waited for, read."""

import dataclasses
import hashlib
import json
import signal
import subprocess
import sys
import time

import nbclient
import numpy as np
import pytest
import torch
from conftest import LIGHT
from nbformat.v4 import new_code_cell, new_notebook

from minialbert.lab.run import Run, RunError, load, write_json


@dataclasses.dataclass
class Arguments:
    run_folder: str
    steps: int = 3
    teacher: str = "tiny"


# ... and without this machine's speed and versions, for which torch is imported.
LIGHTER = LIGHT + (
    "machine = sys.modules['minialbert.lab.machine'] = types.ModuleType('machine')\n"
    "machine.code = machine.versions = machine.describe = dict\n"
    "machine.peak_memory_mb = int\n"
)


def record(folder) -> dict:
    return json.loads((folder / "result.json").read_text(encoding="utf8"))


def state(folder) -> dict:
    """What lies in a folder, the lock aside: each file's hash and time."""
    return {
        path: (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


def program(folder, lines):
    """A process that opens the run in `folder` and does these lines; its output is text."""
    opened = (
        f"{LIGHTER}import os, pathlib, signal, time\nfrom minialbert.lab.run import Run\n"
        f"run = Run({str(folder)!r}, 'toy', {{'steps': 3}})\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", opened + lines],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


DIE = "os.kill(os.getpid(), signal.SIGKILL)\n"
kills = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")


# ---- new, resumed, done, another's


def test_a_run_leaves_its_record(tmp_path):
    run = Run(tmp_path / "a", "07_distil", Arguments("a"), {"teacher": "12ab"})
    assert record(run.folder)["status"] == "running"
    series = {"map": np.ones((2, 1)), "loss": [torch.tensor(0.5), float("nan")]}
    run.finish([{"system": "student", 6: np.float32(2)}], series, about="a trial")
    found = record(run.folder)
    assert found["status"] == "done" and found["notebook"] == "07_distil"
    assert found["parameters"] == {"steps": 3, "teacher": "tiny"}, "not where it lies"
    assert found["inputs"] == {"teacher": "12ab"} and found["about"] == "a trial"
    assert found["records"] == [{"system": "student", "6": 2.0}]
    assert found["series"] == {"map": [[1.0], [1.0]], "loss": [0.5, "nan"]}
    assert torch.__version__.startswith(found["versions"]["torch"])  # it may go on: +cu130
    assert len(found["code"]["hash"]) == 16
    assert found["machine"]["threads"] == torch.get_num_threads()
    assert found["peak_memory_mb"] > 50 and found["seconds"] >= 0 and "leg_began" not in found
    assert {path.name for path in run.folder.iterdir()} <= {"result.json", ".lock"}


def test_a_finished_run_is_read_again(tmp_path):
    run = Run(tmp_path, "toy", {"steps": 3})
    run.once({"part": 1}, lambda: {"score": 2})
    run.finish([{"score": 2}])
    before = record(tmp_path)
    again = Run(tmp_path, "toy", {"steps": 3})
    assert again.is_done
    assert again.once({"part": 1}, pytest.fail) == {"score": 2}
    again.finish([{"score": 2}])
    assert record(tmp_path) == before


@pytest.mark.parametrize(
    "notebook, parameters, inputs, said",
    [
        ("other", {"steps": 3}, {}, "notebook was 'toy', is 'other'"),
        ("toy", {"steps": 4}, {}, "steps was 3, is 4"),
        ("toy", {}, {}, "steps was 3, is None"),
        ("toy", {"steps": 3, "rate": 1}, {}, "rate was None, is 1"),
        ("toy", {"steps": 3}, {"teacher": "34"}, "teacher was '12', is '34'"),
    ],
)
@pytest.mark.parametrize("finished", [False, True])
def test_another_runs_folder_is_refused_and_untouched(
    tmp_path, notebook, parameters, inputs, said, finished
):
    run = Run(tmp_path, "toy", {"steps": 3}, {"teacher": "12"})
    if finished:
        run.finish([{"score": 1}])
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/weights").write_bytes(b"weights")
    before = state(tmp_path)
    with pytest.raises(RunError, match=said):
        Run(tmp_path, notebook, parameters, inputs)
    assert state(tmp_path) == before


def test_inputs_that_are_known_late_belong_to_the_run(tmp_path):
    run = Run(tmp_path, "toy", {"steps": 3})
    run.read_inputs(rows="12")
    Run(tmp_path, "toy", {"steps": 3}).read_inputs(rows="12", teacher="56")
    before = state(tmp_path)
    with pytest.raises(RunError, match="rows was '12', is '34'"):
        Run(tmp_path, "toy", {"steps": 3}).read_inputs(rows="34")
    now = state(tmp_path)
    assert now.keys() == before.keys() and record(tmp_path)["inputs"]["rows"] == "12"


# ---- killed, failed, two at a time


@kills
def test_what_was_made_once_is_kept_over_a_kill(tmp_path):
    made = tmp_path / "made.txt"
    lines = (
        f"def make(): open({str(made)!r}, 'a').write('once '); return {{'score': 0.1 + 0.2}}\n"
        "result = run.once({'part': (1, 2)}, make)\n"
    )
    assert program(tmp_path / "run", lines + DIE).wait() == -signal.SIGKILL
    assert record(tmp_path / "run")["status"] == "running"
    process = program(tmp_path / "run", lines + "run.finish([result])\n")
    assert process.wait() == 0, process.stderr.read()
    assert made.read_text() == "once "
    assert record(tmp_path / "run")["records"] == [{"score": 0.1 + 0.2}]


@kills
def test_seconds_are_those_of_all_legs(tmp_path):
    write = "pathlib.Path({0!r}).mkdir(exist_ok=True); pathlib.Path({0!r}, 'a').write_text('a')\n"
    lines = "time.sleep(1.5)\n" + write.format(str(tmp_path / "checkpoints"))
    for _ in range(2):
        assert program(tmp_path, lines + DIE).wait() == -signal.SIGKILL
    time.sleep(1)  # between legs nothing counts
    process = program(tmp_path, "time.sleep(1)\nrun.finish()\n")
    assert process.wait() == 0, process.stderr.read()
    assert record(tmp_path)["seconds"] == pytest.approx(4, abs=0.6)


@kills
def test_a_killed_write_leaves_no_half_file(tmp_path):
    path = tmp_path / "big.json"
    write_json(path, {"numbers": []})
    code = (
        f"{LIGHTER}from minialbert.lab.run import write_json\nprint('begun', flush=True)\n"
        f"while True: write_json({str(path)!r}, {{'numbers': list(range(200_000))}})"
    )
    command = [sys.executable, "-c", code]
    for pause in (0.05, 0.15, 0.3):
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            process.stdout.readline()
            time.sleep(pause)
            process.kill()
        assert len(json.loads(path.read_text())["numbers"]) in (0, 200_000)


@kills
def test_a_second_process_waits_for_the_first(tmp_path):
    sleeping = program(tmp_path, "print('has it', flush=True)\ntime.sleep(60)\n")
    assert sleeping.stdout.readline() == "has it\n"
    with pytest.raises(RunError, match="another process"):
        Run(tmp_path, "toy", {"steps": 3}, patience=0.1)
    second = program(tmp_path, "run.finish()\n")
    assert "waiting for it" in second.stderr.readline()
    assert second.poll() is None
    sleeping.kill()
    assert second.wait(60) == 0 and record(tmp_path)["status"] == "done"


def test_a_refused_folder_is_free_for_its_own_run(tmp_path):
    process = program(tmp_path, "")
    assert process.wait() == 0, process.stderr.read()
    with pytest.raises(RunError) as kept:  # as a notebook keeps its last error
        Run(tmp_path, "toy", {"steps": 4})
    own = program(tmp_path, "run.finish()\n")
    assert own.wait(60) == 0 and kept


def test_a_cell_that_raises_fails_the_run(tmp_path):
    opened = (
        f"{LIGHTER}from minialbert.lab.run import Run\nrun = Run({str(tmp_path)!r}, 'toy', {{}})"
    )
    notebook = new_notebook(cells=[new_code_cell(opened), new_code_cell("1 / 0")])
    with pytest.raises(nbclient.exceptions.CellExecutionError):
        nbclient.NotebookClient(notebook, kernel_name="python3", timeout=120).execute()
    found = record(tmp_path)
    assert found["status"] == "failed" and found["error"] == "ZeroDivisionError: division by zero"
    run = Run(tmp_path, "toy", {})
    run.finish()
    assert record(tmp_path)["status"] == "done" and "error" not in record(tmp_path)


def test_a_run_that_is_left_can_go_on(tmp_path):
    process = program(tmp_path, "time.sleep(0.5)\n")
    assert process.wait() == 0, process.stderr.read()
    found = record(tmp_path)
    assert found["status"] == "running" and found["seconds"] == pytest.approx(0.5, abs=0.3)


# ---- results read


def test_results_are_found_in_a_folder_and_below(tmp_path):
    for name in ("b/c", "a"):
        Run(tmp_path / name, name[-1], {}).finish()
    Run(tmp_path / "open", "open", {})
    (tmp_path / "stored.json").write_text((tmp_path / "a/result.json").read_text())
    (tmp_path / "a/other.json").write_text("[]")
    found = load(tmp_path)
    assert [one["notebook"] for one in found] == ["a", "c", "a"]
    assert found[0]["file"] == str(tmp_path / "a/result.json")
    assert load(tmp_path, notebook="c") == [found[1]]


@pytest.mark.parametrize("text", ["", '{"status": "do', "[1]", "{}", '{"status": "done"}'])
def test_a_file_that_is_no_record_is_named_and_untouched(tmp_path, text):
    (tmp_path / "mine.json").write_text(text)
    with pytest.raises(RunError, match=r"mine\.json"):
        load(tmp_path)
    (tmp_path / "result.json").write_text(text)
    before = state(tmp_path)
    with pytest.raises(RunError, match=r"result\.json"):
        Run(tmp_path, "toy", {})
    assert state(tmp_path) == before
