"""Plans read and refused; and the Snakefile: a plan killed twice, each of its runs made once.

Of twelve runs, and killed more often: tests/benchmarks/test_kills.py.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import yaml
from conftest import ROOT
from nbformat import write
from nbformat.v4 import new_code_cell, new_notebook

from minialbert.lab import plans
from minialbert.lab.parameters import ParameterError

PARAMETERS = """\
run_folder: str = "../runs/toy"
number: int = 0
nap: float = 0.0
base: str | None = None
layers: list | None = None
"""
RUN = """\
import json, os, time
from pathlib import Path
from minialbert.lab.run import Run

given = {"number": number, "nap": nap, "base": base}
run = Run(run_folder, "toy", given)
Path(run_folder, "kernel.txt").write_text(str(os.getpid()))
"""
MAKE = """\
def make():
    time.sleep(nap)
    with open(run.path("made.txt"), "a") as file:
        file.write("once\\n")
    before = json.loads(Path(base, "result.json").read_text())["records"] if base else []
    return {"score": number + sum(record["score"] for record in before)}
"""
FINISH = """\
if number < 0:
    raise ValueError("as asked")
run.finish([run.once({"part": 1}, make)])
"""


@pytest.fixture
def course(tmp_path):
    """A folder like the checkout, with one notebook that makes a record."""
    cells = [new_code_cell(source) for source in (PARAMETERS, RUN, MAKE, FINISH)]
    cells[0].metadata["tags"] = ["parameters"]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    (tmp_path / "notebooks/params/lab").mkdir(parents=True)
    write(
        new_notebook(cells=cells, metadata={"kernelspec": kernel}), tmp_path / "notebooks/toy.ipynb"
    )
    return tmp_path


@pytest.fixture
def plan(course):
    """Writes the plan lab/trial, of that notebook."""

    def write_plan(name="trial", **content):
        text = yaml.safe_dump({"notebook": "toy"} | content, sort_keys=False)
        (course / f"notebooks/params/lab/{name}.yaml").write_text(text)

    return write_plan


# ---- what a plan says


def test_runs_are_named_by_what_varies(plan, course):
    params = course / "notebooks/params/lab"
    (params / "long.yaml").write_text("run_folder: elsewhere\nnumber: 9\n")  # no plan: no notebook
    plan(
        parameters={"nap": 0.5},
        grid={"number": [1, 0]},
        runs=[
            {"grid": {"base": ["a", "b c/d"]}},
            {"parameters": {"layers": [2, 4]}},
            {"name": "slow", "parameters": {"nap": 9}},
        ],
    )
    plan("other", runs=[{"name": "one", "parameters": "long.yaml"}])
    plan("plain")
    runs = plans.read_plans(course)
    assert list(runs) == [
        "lab/other/one",
        "lab/plain/toy",
        "lab/trial/base=a,number=1",
        "lab/trial/base=b-c-d,number=1",
        "lab/trial/base=a,number=0",
        "lab/trial/base=b-c-d,number=0",
        "lab/trial/layers=2-4,number=1",
        "lab/trial/layers=2-4,number=0",
        "lab/trial/slow,number=1",
        "lab/trial/slow,number=0",
    ]
    run = runs["lab/trial/base=b-c-d,number=1"]
    assert run.given == {"nap": 0.5, "number": 1, "base": "b c/d"}
    assert run.parameters == run.given | {"layers": None}
    assert run.folder == course / "runs/lab/trial/base=b-c-d,number=1"
    assert runs["lab/other/one"].given == {"number": 9}
    found = plans.targets(runs)
    assert [run.name for run in found["lab/trial/slow"]] == list(runs)[-2:]
    assert len(found["lab/trial"]) == 8 and found["lab/plain/toy"] == [runs["lab/plain/toy"]]


@pytest.mark.parametrize(
    "content, said",
    [
        ({"grids": {}}, "unknown key 'grids'; did you mean 'grid'?"),
        ({"runs": [{"nmae": "a"}]}, "run 1:\nunknown key 'nmae'; did you mean 'name'?"),
        ({"runs": [{"runs": []}]}, "unknown key 'runs'"),
        ({"grid": {"number": 1}}, "key 'grid' is 1"),
        ({"grid": {"number": [0, 1, 0]}}, "two runs are called 'number=0'"),
        ({"runs": [{"name": "A"}, {"name": "a"}]}, "two runs are called 'a'"),
        ({"runs": [{"name": "../a"}]}, "'../a' cannot name a folder"),
        ({"parameters": {"number": 1}, "grid": {"number": [2]}}, "'number' is a parameter and in"),
        ({"notebook": "tyo"}, "no notebook 'tyo'; did you mean 'toy'?"),
        (
            {
                "runs": [
                    {"name": "a", "parameters": {"base": "../runs/lab/trial/b/student"}},
                    {"name": "b", "parameters": {"base": "../runs/lab/trial/a/"}},
                ]
            },
            "runs need each other: lab/trial/",
        ),
    ],
)
def test_a_wrong_plan_is_refused(plan, course, content, said):
    plan(**content)
    with pytest.raises(plans.PlanError) as error:
        plans.read_plans(course)
    assert said in str(error.value)


def test_wrong_parameters_are_named_all_at_once(plan, course):
    plan(grid={"number": [1, "2"]}, runs=[{"parameters": {"naps": 1.0}}])
    plan("other", runs=[{"name": "bad", "parameters": {"nap": "soon"}}])
    with pytest.raises(ParameterError) as error:
        plans.read_plans(course)
    said = str(error.value)
    assert "lab/trial/naps=1.0,number=1:\nunknown parameter 'naps'; did you mean 'nap'?" in said
    assert "parameter 'number' is '2'" in said and "lab/other/bad:\nparameter 'nap'" in said


def test_the_courses_plans_can_be_run_and_know_what_they_need():
    runs = plans.read_plans(ROOT)
    row = plans.targets(runs)["paper/table1/minialbert-128"]
    assert len(row) == 8
    assert {need for run in row for need in run.needs} == {"paper/distil_students/minialbert-128"}
    seeds = [f"lab/recipe/chosen,seed={seed}" for seed in (0, 1, 2)]  # a "{seed}" in a path
    assert set(seeds) < set(runs["lab/recipe_tuned/stsb"].needs)
    assert len(plans.targets(runs)["paper/table1"]) == 18 * 8
    assert len(plans.targets(runs)["paper/table2"]) == 19 * 4
    costs = [plans.costs.gpu_hours(run, runs, 50) for run in runs.values()]
    assert None not in costs and min(costs) > 0
    student = plans.costs.gpu_hours(runs["paper/distil_students/minialbert-128"], runs, 50)
    # about 25 million windows of 256 tokens through 12 layers of the teacher's and 6 of its own
    assert student == pytest.approx(25e6 * 256 * 4.7e8 / 50e12 / 3600, rel=0.1)


# ---- the Snakefile


@pytest.fixture
def snakemake(course, monkeypatch):
    """Starts snakemake in that folder, as one types it; none outlives the test.

    Kernels and snakemake find a stand-in for the package that imports no torch: half a minute less.
    """
    shutil.copy(ROOT / "Snakefile", course)
    shutil.copytree(ROOT / "profiles", course / "profiles")
    light = course / "light/minialbert"
    light.mkdir(parents=True)
    (light / "__init__.py").write_text(
        "import sys, types\n"
        f"__path__ = [{str(ROOT / 'minialbert')!r}]\n"
        "machine = types.ModuleType('minialbert.lab.machine')\n"
        "machine.code = machine.versions = machine.describe = dict\n"
        "machine.peak_memory_mb = int\n"
        "sys.modules['minialbert.lab.machine'] = machine\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(light.parent))
    processes = []

    def start(*arguments):
        processes.append(
            subprocess.Popen(
                [sys.executable, "-m", "snakemake", *arguments],
                cwd=course,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        )
        return processes[-1]

    yield start
    for process in processes:
        kill_group(process)
        process.wait()
        process.stdout.close()


def kill_group(process):
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def until(condition, seconds=60):
    """Waits for what condition returns."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
    return found


def records(course) -> dict:
    files = course.glob("runs/lab/trial/*/result.json")
    return {file.parent.name: json.loads(file.read_text("utf8")) for file in files}


def having(course, status) -> list[str]:
    return [name for name, record in records(course).items() if record["status"] == status]


posix = pytest.mark.skipif(sys.platform == "win32", reason="kills process groups")


@posix
def test_runs_of_a_plan_killed_twice_are_each_made_once(plan, course, snakemake):
    numbers = list(range(1, 6))
    needs = {"base": "../runs/lab/trial/first", "nap": 0.2}
    plan(
        gpu_hours=0.25,
        runs=[
            {"name": "first", "parameters": {"number": 100, "nap": 1.0}},
            {"name": "others", "parameters": needs, "grid": {"number": numbers}},
        ],
    )
    listed = snakemake("-n", "lab/trial").communicate()[0]
    for name in ["first", *(f"others,number={number}" for number in numbers)]:
        assert f"lab/trial/{name}: about 0.25 GPU hours at 50 TFLOP/s" in listed
    assert "lab/trial: 6 runs to make, about 1.50 GPU hours at 50 TFLOP/s" in listed
    assert not (course / "runs").exists()

    engine = snakemake("--cores", "2", "lab/trial")
    until(lambda: "first" in having(course, "running"))
    engine.kill()  # alone: what it started goes on, and the next engine has to wait for it
    engine = snakemake("--cores", "2", "lab/trial")
    until(lambda: len(having(course, "done")) >= 2 and having(course, "running"))
    kill_group(engine)
    kept = {name: records(course)[name] for name in having(course, "done")}
    assert 2 <= len(kept) < 6

    engine = snakemake("--cores", "2", "lab/trial")
    said = engine.communicate()[0]
    assert engine.returncode == 0, said
    scores = {name: record["records"][0]["score"] for name, record in records(course).items()}
    assert scores == {"first": 100} | {f"others,number={n}": 100 + n for n in numbers}
    assert {record["status"] for record in records(course).values()} == {"done"}
    assert all(records(course)[name] == record for name, record in kept.items())
    made = [file.read_text() for file in course.glob("runs/lab/trial/*/made.txt")]
    assert made == 6 * ["once\n"]
    given = (course / "runs/lab/trial/first/parameters.yaml").read_text()
    assert list(yaml.safe_load(given))[:2] == ["number", "nap"]  # in the plan's order


@posix
def test_a_failed_run_keeps_its_record_and_another_runs_folder_is_refused(plan, course, snakemake):
    plan(
        runs=[
            {"name": "bad", "parameters": {"number": -1}},
            {"name": "good", "parameters": {"number": 1}},
            {"name": "after", "parameters": {"base": "../runs/lab/trial/bad"}},
        ]
    )
    engine = snakemake("lab/trial")
    said = engine.communicate()[0]
    assert engine.returncode != 0 and "ValueError: as asked" in said
    found = records(course)
    assert {name: record["status"] for name, record in found.items()} == {
        "bad": "failed",
        "good": "done",
    }
    assert found["bad"]["error"] == "ValueError: as asked"
    assert "as asked" in (course / "runs/lab/trial/bad/log.txt").read_text()

    plan(runs=[{"name": "good", "parameters": {"number": 2}}])
    engine = snakemake("lab/trial")
    said = engine.communicate()[0]
    assert engine.returncode != 0 and "number was 1, is now 2" in said
    assert records(course) == found
