"""Notebooks refreshed and run by parameters; plans of runs that are killed, fail, change, or are spread."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time

import pytest
import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from minialbert import batch, lab


@pytest.fixture(autouse=True)
def environment():
    """As it was, after each test: dask sets OMP_NUM_THREADS=1 for good, and what runs later would have one thread."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def written(path, *cells):
    """A notebook file of code cells, each (source, *tags)."""
    path.write_text(
        lab.canonical(
            new_notebook(
                cells=[new_code_cell(source, metadata={"tags": tags}) for source, *tags in cells]
            )
        )
    )
    return path


# ---- one notebook


def test_two_refreshes_are_byte_identical(tmp_path, monkeypatch, capfd):
    kernel = tmp_path / "jupyter/kernels/python3"  # a user's own "python3", which must not be taken
    kernel.mkdir(parents=True)
    specification = {"argv": ["false"], "display_name": "x", "language": "python"}
    (kernel / "kernel.json").write_text(json.dumps(specification))
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "jupyter"))
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "0")
    path = written(
        tmp_path / "a.ipynb",
        ("import sys, pathlib\nprint(pathlib.Path().resolve().name)",),
        ("print('x', file=sys.stderr); sys.executable == " + repr(sys.executable),),
        ("1 / 0", "raises-exception"),
        ("1 + 1",),
    )
    batch.refresh([path])
    first = path.read_text()
    batch.refresh([path])
    assert path.read_text() == first == lab.canonical(lab.read_notebook(path))
    cells = json.loads(first)["cells"]
    assert [cell["execution_count"] for cell in cells] == [1, 2, 3, 4]
    assert cells[0]["outputs"][0]["text"] == [f"{tmp_path.name}\n"]
    assert [output["data"]["text/plain"] for output in cells[1]["outputs"]] == [["True"]]
    out, err = capfd.readouterr()
    assert out.count("a.ipynb") == 2 and err == ""


def test_a_failed_refresh_leaves_the_file(tmp_path, capsys):
    path = written(tmp_path / "a.ipynb", ("1 / 0",))
    before = path.read_text()
    assert batch.main(["refresh", str(path)]) == 1
    assert path.read_text() == before and "ZeroDivisionError" in capsys.readouterr().err


@pytest.fixture
def runnable(tmp_path):
    (tmp_path / "notebooks").mkdir()
    return written(
        tmp_path / "notebooks" / "a.ipynb",
        (
            "run_folder = 'here'  # results\nrate = 0.5  # a rate\nfail = False  # break",
            "parameters",
        ),
        ("from pathlib import Path\nprint('rate', rate, Path().resolve().name)",),
        ("1 / 0", "raises-exception"),
        ("if fail:\n    raise ValueError('as asked')",),
        (
            "Path(run_folder, 'report.txt').write_text('all is well')\nPath(run_folder, 'b.png').touch()",
        ),
    )


def test_a_notebook_is_run_by_parameters(runnable, tmp_path, capsys):
    (tmp_path / "p.yaml").write_text("rate: 2\n")
    to = tmp_path / "runs" / "one"
    assert (
        batch.main(
            ["run", str(runnable), "--parameters", str(tmp_path / "p.yaml"), "--to", str(to)]
        )
        == 0
    )
    said = capsys.readouterr().out
    assert "rate 2 notebooks" in said and "all is well" in said and "b.png" in said
    executed = lab.read_notebook(to / "a.ipynb")
    assert [cell.execution_count for cell in executed.cells] == list(range(1, 7))
    assert "papermill-error" not in (to / "a.ipynb").read_text()
    log = (to / "log.txt").read_text()
    assert "rate 2 notebooks" in log and "Executing Cell 6" in log


def test_a_failing_cell_is_shown(runnable, tmp_path, capsys):
    assert (
        batch.main(["run", str(runnable), "-p", "fail", "true", "--to", str(tmp_path / "two")]) == 1
    )
    said = capsys.readouterr().err
    assert (
        "In [5], raised ValueError" in said
        and "if fail:" in said
        and "ValueError: as asked" in said
    )
    assert f"The executed notebook: {tmp_path / 'two' / 'a.ipynb'}" in said


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["-p", "rat", "1"], "did you mean 'rate'"),
        (["-p", "rate", "5e-4"], "write 5.0e-4"),
        (["--parameters", "none.yaml"], "no parameter file none.yaml"),
    ],
)
def test_nothing_starts_with_wrong_parameters(runnable, tmp_path, capsys, arguments, said):
    assert batch.main(["run", str(runnable), *arguments, "--to", str(tmp_path / "three")]) == 1
    assert said in capsys.readouterr().err and not (tmp_path / "three").exists()


def test_a_dead_kernel_is_told(tmp_path):
    path = written(tmp_path / "a.ipynb", ("import os\nos._exit(1)",))
    with pytest.raises(batch.NotebookFailed, match="the kernel died"):
        batch.run_notebook(path, {}, tmp_path / "out")


# ---- plans

STEPS = """
step_file = Path(run_folder, "step.txt")  # a checkpoint
began = int(step_file.read_text()) if step_file.exists() else 0
Path(run_folder, "kernel.txt").write_text(f"{os.getpid()} {os.getppid()}")
for step in range(began, steps):
    time.sleep(nap if not began else 0)  # what goes on is in a hurry
    step_file.write_text(str(step + 1))
"""


@pytest.fixture
def notebook(tmp_path):
    """A notebook that counts its steps, goes on from the last one, and fails if told to."""
    return written(
        tmp_path / "tiny.ipynb",
        (
            "run_folder: str = 'here'\nseed: int = 0\nkind: str = 'a'\nsteps: int = 1\nnap: float = 0.0\n"
            "layer_map: list | None = None",
            "parameters",
        ),
        ("import json, os, time\nfrom pathlib import Path",),
        ("if kind == 'bad':\n    raise ValueError('as asked')",),
        (STEPS,),
        (
            "metrics = {'score': 10 * seed + len(kind), 'began': began}\n"
            "_ = Path(run_folder, 'metrics.json').write_text(json.dumps(metrics))",
        ),
    )


@pytest.fixture
def plan(tmp_path, notebook):
    """Writes a plan of that notebook; its runs go to tmp_path / "runs" / "trial"."""

    def write(**content):
        path = tmp_path / "trial.yaml"
        path.write_text(yaml.safe_dump({"notebook": "tiny", **content}, sort_keys=False))
        return path

    return write


@pytest.fixture
def go(tmp_path):
    """Makes a plan as the command line does; returns the exit status."""
    return lambda path, *options: batch.main(
        ["plan", str(path), "--to", str(tmp_path / "runs"), *options]
    )


@pytest.fixture
def light(tmp_path, monkeypatch):
    """Other processes find a stand-in for the package that does not import torch: seconds less for each."""
    package = tmp_path / "light" / "minialbert"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(f"__path__ = [{str(lab.ROOT / 'minialbert')!r}]\n")
    monkeypatch.setenv("PYTHONPATH", str(package.parent))
    monkeypatch.syspath_prepend(package.parent)  # a cluster's workers are given this process's


@pytest.fixture
def started(tmp_path, light):
    """Starts a plan in a process of its own; none outlives the test."""
    processes = []

    def start(path):
        command = [
            sys.executable,
            "-m",
            "minialbert.batch",
            str(path),
            "--to",
            str(tmp_path / "runs"),
        ]
        processes.append(
            subprocess.Popen(  # Ctrl-C must reach it even where this process does not hear it
                command,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )
        )
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def until(condition, seconds=60):
    """Waits for what condition returns."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)
    return found


def processes_of(folder) -> list:
    """The kernel of a run that is being made, and the process that started it; [] if there are none."""
    file, result = folder / "kernel.txt", folder / "result.json"
    if not file.exists() or b'"running"' not in result.read_bytes():
        return []
    return [int(word) for word in file.read_text().split()]


def results(tmp_path) -> dict:
    found = (
        json.loads(file.read_text("utf8")) for file in tmp_path.glob("runs/trial/*/result.json")
    )
    return {result["name"]: result for result in found}


def test_runs_are_named_by_what_varies(plan, tmp_path):
    (tmp_path / "long.yaml").write_text("run_folder: elsewhere\nsteps: 9\n")
    path = plan(
        parameters={"nap": 0.5, "steps": 2},
        grid={"seed": [1, 0]},
        runs=[
            {"grid": {"kind": ["a", "b c/d"]}},
            {"parameters": {"layer_map": [2, 4]}},
            {"name": "undistilled", "parameters": {"steps": 0}},
            {"parameters": "long.yaml", "notebook": "tiny.ipynb"},
        ],
    )
    runs = batch.read_plan(path, tmp_path / "runs")
    assert [run.name for run in runs] == [
        "kind=a,seed=1",
        "kind=b-c-d,seed=1",
        "kind=a,seed=0",
        "kind=b-c-d,seed=0",
        "layer_map=2-4,seed=1",
        "layer_map=2-4,seed=0",
        "undistilled,seed=1",
        "undistilled,seed=0",
        "long,seed=1",
        "long,seed=0",
    ]
    assert runs[1].given == {"nap": 0.5, "steps": 2, "seed": 1, "kind": "b c/d"}
    assert runs[1].parameters == {**runs[1].given, "layer_map": None}
    assert [run.given["steps"] for run in runs[-4:]] == [0, 0, 9, 9] and "run_folder" not in runs[
        -1
    ].given
    assert runs[1].folder == tmp_path / "runs" / "trial" / "kind=b-c-d,seed=1"
    (only,) = batch.read_plan(plan(name="other"), tmp_path)
    assert only.folder == tmp_path / "other" / "tiny"


@pytest.mark.parametrize(
    "content, said",
    [
        ({"grids": {}}, "unknown key 'grids'; did you mean 'grid'?"),
        ({"runs": [{"seed": 1}]}, "run 1: unknown key 'seed'"),
        ({"runs": [{"runs": []}]}, "run 1: unknown key 'runs'"),
        ({"runs": ["a"]}, "run 1: must be a mapping"),
        ({"grid": {"seed": 1}}, "grid: 'seed' must be a list of values, as in seed: [1]"),
        ({"grid": {"seed": []}}, "grid: 'seed' must be a list of values"),
        ({"grid": [1]}, "'grid' cannot be [1]"),
        ({"grid": {"seed": [0, 1, 0]}}, "two runs are called 'seed=0'"),
        ({"runs": [{"name": "A"}, {"name": "a"}]}, "two runs are called 'a'"),
        ({"runs": [{"name": "../a"}]}, "'../a' cannot name a folder"),
        (
            {"parameters": {"seed": 1}, "grid": {"seed": [2]}},
            "'seed' stands under parameters and in the grid",
        ),
        ({"parameters": "tinny.yaml"}, "no parameter file"),
        ({"notebook": "tinny"}, "no notebook 'tinny'; did you mean 'tiny'?"),
        ({"notebook": None}, "'notebook' cannot be None"),
        ({"grid": {"steps": [1, "2"]}}, "run steps=2:\nparameter 'steps' must be int, not str '2'"),
        ({"parameters": {"nap": "5e-4"}, "grid": {"seed": [0, 1, 2]}}, "run seed=0 and 2 more:\n"),
    ],
)
def test_a_wrong_plan_is_named_with_its_mending(plan, go, tmp_path, capsys, content, said):
    assert go(plan(**content)) == 1
    assert said in capsys.readouterr().err and not (tmp_path / "runs").exists()


def test_a_plan_needs_a_notebook(tmp_path):
    (tmp_path / "trial.yaml").write_text("grid: {seed: [0]}\n")
    with pytest.raises(batch.PlanError, match="which notebook"):
        batch.read_plan(tmp_path / "trial.yaml")


def test_a_misspelt_parameter_of_the_last_run_stops_before_the_first(plan, go, tmp_path, capsys):
    path = plan(runs=[{"grid": {"seed": [0, 1, 2]}}, {"parameters": {"sead": 3}}])
    assert go(path) == 1
    assert "run sead=3:\nunknown parameter 'sead'; did you mean 'seed'?" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_a_failing_run_is_told_and_the_others_are_made(plan, go, notebook, tmp_path, capsys):
    path = plan(grid={"kind": ["a", "bad", "bbb"]})
    assert go(path) == 1
    out, err = capsys.readouterr()
    assert "[3/3] kind=bbb  done" in out and "2 of 3 runs are done" in out
    assert (
        "failed: kind=bad\n    cell 4, In [4], raised ValueError:\n    ValueError: as asked\n"
        in err
    )
    assert "tiny.ipynb" in err
    found = results(tmp_path)
    assert {name: result["status"] for name, result in found.items()} == {
        "kind=a": "done",
        "kind=bad": "failed",
        "kind=bbb": "done",
    }
    assert (
        found["kind=bbb"]["metrics"] == {"score": 3, "began": 0}
        and found["kind=bad"]["metrics"] == {}
    )
    folder = tmp_path / "runs" / "trial" / "kind=bad"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["status"] == "failed" and manifest["seed"] == 0
    assert manifest["parameters"]["kind"] == "bad"
    assert "threads" not in manifest["machine"], "those of the kernel are not known here"
    assert "Executing Cell 4" in (folder / "log.txt").read_text()

    before = (tmp_path / "runs/trial/kind=a/result.json").read_bytes()
    notebook.write_text(notebook.read_text().replace("kind == 'bad'", "kind == 'worse'"))  # mended
    assert go(path, "--only", "kind=bad") == 0
    assert results(tmp_path)["kind=bad"]["starts"] == 2
    assert (tmp_path / "runs/trial/kind=a/result.json").read_bytes() == before
    assert go(path) == 1
    assert "kind=a: the code of tiny.ipynb was another" in capsys.readouterr().err


def test_what_was_made_otherwise_is_not_passed_off(plan, go, notebook, tmp_path, capsys):
    assert go(plan(runs=[{"name": "one", "parameters": {"steps": 2}}])) == 0
    folder = tmp_path / "runs" / "trial" / "one"
    before = (folder / "result.json").read_bytes()
    changed = plan(runs=[{"name": "one", "parameters": {"steps": 4}}, {"name": "two"}])
    assert go(changed) == 1
    said = capsys.readouterr().err
    assert "one: steps was 2, now 4" in said and "--again" in said
    assert (folder / "result.json").read_bytes() == before and not (
        tmp_path / "runs/trial/two"
    ).exists()
    assert go(changed, "--dry-run") == 0
    assert (
        "one  tiny  made otherwise  steps was 2, now 4\ntwo  tiny  to do\n"
        == capsys.readouterr().out
    )
    assert go(changed, "--again", "--only", "one") == 0
    assert (folder / "step.txt").read_text() == "4"
    assert results(tmp_path)["one"]["metrics"]["began"] == 0, "the old checkpoint is gone"
    content = lab.read_notebook(notebook)
    content.cells.append(new_markdown_cell("Prose may change."))
    notebook.write_text(lab.canonical(content))
    assert go(changed, "--dry-run", "--only", "o*") == 0
    assert "one  tiny  done" in capsys.readouterr().out


def test_a_manifest_of_the_notebooks_own_stays(tmp_path, plan, go):
    """Its metrics are the run's; what it left at "running" is closed."""
    manifest = {"status": "running", "metrics": {"loss": 0.5}, "own": True}
    written(
        tmp_path / "own.ipynb",
        ("run_folder = '.'", "parameters"),
        (
            f"import json\nfrom pathlib import Path\n"
            f"_ = Path(run_folder, 'manifest.json').write_text(json.dumps({manifest!r}))",
        ),
    )
    path = plan(notebook="own")
    assert go(path) == 0
    stored = json.loads((tmp_path / "runs/trial/own/manifest.json").read_text())
    assert stored["own"] and stored["status"] == "done" and "seconds" in stored
    assert results(tmp_path)["own"]["metrics"] == {"loss": 0.5}
    (run,) = batch.read_plan(path, tmp_path / "runs")  # as a worker that is given a task again
    assert (
        batch.make(run, "session") == results(tmp_path)["own"]
        and results(tmp_path)["own"]["starts"] == 1
    )


def test_dry_run_prints_a_table_and_does_nothing(plan, go, tmp_path, capsys):
    path = plan(grid={"seed": [0, 1]}, runs=[{"grid": {"kind": ["a", "bad"]}}])
    assert go(path, "--dry-run") == 0
    names = [f"kind={kind},seed={seed}" for seed in (0, 1) for kind in ("a", "bad")]
    assert capsys.readouterr().out == "".join(f"{name:<15}  tiny  to do\n" for name in names)
    assert not (tmp_path / "runs").exists()
    assert go(path, "--dry-run", "--only", "*,seed=1") == 0
    assert capsys.readouterr().out.split()[::4] == ["kind=a,seed=1", "kind=bad,seed=1"]
    assert go(path, "--only", "kind=bat,seed=1") == 1
    assert "did you mean 'kind=bad,seed=1'?" in capsys.readouterr().err


# ---- plans, killed, stopped and spread

TWELVE = {
    "parameters": {"steps": 2, "nap": 0.05},
    "grid": {"seed": [0, 1, 2, 3, 4, 5], "kind": ["a", "bb"]},
}
SCORES = {
    f"kind={kind},seed={seed}": 10 * seed + len(kind) for seed in range(6) for kind in ("a", "bb")
}


def scores(tmp_path) -> dict:
    found = results(tmp_path)
    assert {result["status"] for result in found.values()} == {"done"}
    return {name: result["metrics"]["score"] for name, result in found.items()}


def test_twelve_runs_killed_twice_are_each_made_once(plan, go, started, tmp_path):
    path, moments, kept = plan(**TWELVE), random.Random(0), {}

    def done():
        return {
            file: file.read_bytes()
            for file in (tmp_path / "runs").glob("*/*/result.json")
            if b'"status": "done"' in file.read_bytes()
        }

    for _ in range(2):
        process, more = started(path), moments.randint(1, 4)
        until(lambda: len(done()) >= len(kept) + more or process.poll() is not None)
        time.sleep(moments.uniform(0, 1))
        process.kill()
        assert process.wait() == -signal.SIGKILL
        kept = done()
    assert 2 <= len(kept) < 12
    assert go(path) == 0
    assert scores(tmp_path) == SCORES
    assert all(file.read_bytes() == content for file, content in kept.items()), (
        "what was done was made again"
    )
    assert sum(result["starts"] for result in results(tmp_path).values()) <= 12 + 2
    assert go(path) == 0 and len(done()) == 12


def test_workers_make_the_same_even_if_one_is_lost(plan, go, light, tmp_path):
    """A LocalCluster of two processes, one of them killed in the middle of a run."""
    runs, lost = tmp_path / "runs" / "trial", []

    def kill_one():
        while not lost:
            folder, (_, worker) = until(
                lambda: next(
                    (
                        (path, found)
                        for path in runs.glob("*")
                        if len(found := processes_of(path)) == 2
                    ),
                    None,
                )
            )
            assert worker != os.getpid()
            os.kill(worker, signal.SIGKILL)
            if processes_of(folder):  # it was in time
                lost.append(folder.name)

    killer = threading.Thread(target=kill_one)
    killer.start()
    assert go(plan(**TWELVE | {"parameters": {"steps": 2, "nap": 0.2}}), "--workers", "2") == 0
    killer.join()
    assert scores(tmp_path) == SCORES
    assert results(tmp_path)[lost[0]]["starts"] == 2


def test_a_scheduler_is_used_by_its_address(plan, go, tmp_path):
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None
    ) as cluster:
        address = cluster.scheduler_address
        assert go(plan(grid={"seed": [0, 1]}), "--scheduler", address, "--workers", "1") == 0
    assert scores(tmp_path) == {"seed=0": 1, "seed=1": 11}


def test_no_scheduler_is_told(plan, go, capsys):
    assert go(plan(), "--scheduler", "nowhere") == 1
    assert "no Dask scheduler answers at nowhere" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_kernel_and_leaves_the_run_resumable(plan, go, started, tmp_path, number):
    path, folder = plan(parameters={"steps": 9, "nap": 0.5}), tmp_path / "runs" / "trial" / "tiny"
    process = started(path)
    until(lambda: (folder / "step.txt").exists())
    process.send_signal(number)
    assert (
        "the same command goes on" in process.communicate(timeout=30)[1]
        and process.returncode == 130
    )
    with pytest.raises(ProcessLookupError):
        os.kill(processes_of(folder)[0], 0)
    assert results(tmp_path)["tiny"]["status"] == "running"
    if number == signal.SIGTERM:
        assert go(path) == 0
        stored = results(tmp_path)["tiny"]
        assert stored["starts"] == 2 and 0 < stored["metrics"]["began"] < 9


def test_no_two_make_one_run(plan, go, started, tmp_path, monkeypatch, capsys):
    """The kernel of a killed batch keeps the run's lock until it ends."""
    monkeypatch.setattr(batch, "PATIENCE", 0)
    path, folder = plan(parameters={"steps": 9, "nap": 0.5}), tmp_path / "runs" / "trial" / "tiny"
    process = started(path)
    kernel = until(lambda: processes_of(folder))[0]
    os.kill(kernel, signal.SIGSTOP)
    try:
        assert go(path) == 1
        assert "busy: tiny\n    another process makes it" in capsys.readouterr().err
        process.kill()
        process.wait()
        assert go(path) == 1
        assert "busy: tiny" in capsys.readouterr().err
    finally:
        os.kill(kernel, signal.SIGKILL)
    monkeypatch.setattr(batch, "PATIENCE", 10)
    assert go(path) == 0 and results(tmp_path)["tiny"]["starts"] == 2
