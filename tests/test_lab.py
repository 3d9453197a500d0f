"""Parameters, runs, exercises, environment, and the text of notebooks."""

import dataclasses
import json
import subprocess
import sys
from typing import Literal

import numpy as np
import pytest
import torch
from nbformat.v4 import new_code_cell, new_notebook, new_output

from minialbert import lab


@dataclasses.dataclass
class Arguments:
    steps: int
    learning_rate: float = 5e-4
    bf16: bool = False
    teacher: str = "tiny"
    max_articles: int | None = None
    start: str | int = "average"
    reduction: Literal["published", "row"] = "published"
    layer_map: list | None = None
    ranks: tuple = (128, 312)


# ---- parameters


def test_defaults_stand_where_nothing_is_given():
    values = lab.check_parameters(
        {"steps": 3, "learning_rate": 1, "max_articles": 10, "start": 2}, Arguments
    )
    assert values == dataclasses.asdict(Arguments(3, 1.0, max_articles=10, start=2))
    assert isinstance(values["learning_rate"], float)
    assert lab.check_parameters({"b": "any"}, {"a": 1, "b": None}) == {"a": 1, "b": "any"}


@pytest.mark.parametrize(
    "given, said",
    [
        (
            {"lerning_rate": 1e-3},
            "unknown parameter 'lerning_rate'; did you mean 'learning_rate'?\nKnown: ",
        ),
        ({"zzz": 1}, "unknown parameter 'zzz'\n"),
        ({"steps": True}, "'steps' must be int, not bool True"),
        ({"steps": 1.0}, "'steps' must be int, not float 1.0"),
        ({"bf16": 1}, "'bf16' must be bool, not int 1"),
        ({"learning_rate": True}, "'learning_rate' must be float, not bool"),
        ({"learning_rate": "5e-4"}, "not str '5e-4': YAML takes it for text, write 5.0e-4"),
        ({"learning_rate": "2.5e3"}, "write 2.5e+3"),
        ({"teacher": None}, "'teacher' must be str, not NoneType None"),
        ({"max_articles": "ten"}, "'max_articles' must be int | None, not str 'ten'"),
        ({"start": 1.5}, "'start' must be str | int"),
        ({"reduction": "rows"}, "'reduction' must be "),
        ({"layer_map": "all"}, "'layer_map' must be list | None"),
        ({}, "parameter 'steps' has no default: give it"),
    ],
)
def test_a_wrong_parameter_is_named_with_its_mending(given, said):
    with pytest.raises(lab.ParameterError) as error:
        lab.check_parameters({"steps": 1} | given if given else {}, Arguments)
    assert said in str(error.value)


def test_all_wrong_parameters_are_named_at_once():
    with pytest.raises(lab.ParameterError) as error:
        lab.check_parameters({"step": 1, "bf16": "no", "teacher": 2}, Arguments)
    assert all(f"'{name}'" in str(error.value) for name in ("step", "steps", "bf16", "teacher"))


def test_read_parameters(tmp_path):
    path = tmp_path / "distil.yaml"
    path.write_text("# notebook: 07_distil\nsteps: 10\nlearning_rate: 5.0e-4\n")
    assert lab.read_parameters(path, Arguments)["steps"] == 10


@pytest.mark.parametrize(
    "text, said",
    [
        ("steps: [1\nb: 2\n", "distil.yaml, line 2: not YAML"),
        ("- steps\n", "distil.yaml: must be lines of 'name: value', got a list"),
        ("step: 1\n", "distil.yaml:\nunknown parameter 'step'; did you mean 'steps'?"),
        ("steps: 1\nlearning_rate: 5e-4\n", "write 5.0e-4"),
    ],
)
def test_read_parameters_names_the_file(tmp_path, text, said):
    path = tmp_path / "distil.yaml"
    path.write_text(text)
    with pytest.raises(lab.ParameterError) as error:
        lab.read_parameters(path, Arguments)
    assert said in str(error.value)


def test_a_missing_file_brings_the_nearest(tmp_path):
    (tmp_path / "distil.yaml").touch()
    with pytest.raises(lab.ParameterError, match="distill.yaml; the nearest is .*distil.yaml"):
        lab.read_parameters(tmp_path / "distill.yaml", Arguments)


def test_parameters_come_from_the_notebook():
    history = ["", "steps = 1", "# Parameters\nsteps = 5", "# Parameters of mine: x\nodd = 1"]
    assert lab.parameters(Arguments, {"In": history, "steps": 5, "other": 1}) == Arguments(5)
    assert lab.parameters({"steps": 1}, {"steps": 5, "other": 1}) == {"steps": 5}


def test_parameters_refuse_what_papermill_injected_unasked():
    history = ["", "# Parameters\nsteps = 5\nstart_form: str = 'x'"]
    namespace = {"In": history, "steps": 5, "start_form": "x"}
    with pytest.raises(lab.ParameterError, match="unknown parameter 'start_form'"):
        lab.parameters(Arguments, namespace)
    assert lab.parameters(Arguments, namespace, "start_form") == Arguments(5)
    history.append("# Parameters\nsteps = 5")  # mended and run again
    assert lab.parameters(Arguments, namespace) == Arguments(5)


# ---- a run


def manifest(folder):
    return json.loads((folder / "manifest.json").read_text())


def test_a_run_leaves_its_manifest(tmp_path):
    with lab.Run(tmp_path / "runs" / "a", parameters=Arguments(3), seed=7) as run:
        assert manifest(run.folder)["status"] == "running"
        run.finish(
            {
                "loss": torch.tensor(0.5),
                "map": np.ones((2, 1)),
                6: np.float32(2),
                "nan": float("nan"),
            }
        )
    found = manifest(run.folder)
    assert found["status"] == "done" and found["seed"] == 7
    assert found["parameters"] == json.loads(json.dumps(dataclasses.asdict(Arguments(3))))
    assert found["metrics"] == {"loss": 0.5, "map": [[1.0], [1.0]], "6": 2.0, "nan": "nan"}
    assert found["versions"]["torch"] == torch.__version__
    assert found["machine"]["threads"] == torch.get_num_threads()
    assert found["peak_memory_mb"] > 50 and found["seconds"] >= 0
    assert found["started"].endswith("+00:00") and found["command"]
    assert {path.name for path in run.folder.iterdir()} == {
        "manifest.json"
    }  # nothing half-written is left
    assert run.path("a.png") == run.folder / "a.png"


def test_a_stored_result_says_how_it_was_made(tmp_path):
    run = lab.Run(
        tmp_path / "a", parameters={"steps": 3, "run_folder": "a", "store": "x", "data": "/home"}
    )
    run.finish()
    for name, plan in (("glue", "glue"), ("lab", "distil"), ("mine", None)):
        run.store(tmp_path / f"{name}.json", "09_glue", [{"score": 1}], "of scores", history=[2])
        found = json.loads((tmp_path / f"{name}.json").read_text())
        assert found["plan"] == (plan and f"notebooks/params/lab/{plan}.yaml")
        assert found["parameters"] == {"steps": 3} and found["manifest"]["status"] == "done"
        assert found["machine"] == run.manifest["machine"] and found["history"] == [2]
        assert found["runs"] == [{"score": 1}] and found["what"].endswith(": of scores.")


def test_parts_of_a_stored_result_do_not_touch_each_other(tmp_path):
    def store(name, score, **record):
        run = lab.Run(tmp_path / name, parameters={"task": record["task"]})
        run.finish()
        run.manifest["seconds"] = 1.5
        run.store(tmp_path / "glue.json", "09_glue", [record | {"score": score}], part=True)
        return json.loads((tmp_path / "glue.json").read_text())

    store("a", 1, task="cola", system="student")
    store("b", 2, task="cola", system="long student")
    store("c", 3, task="mrpc", system="student")
    found = store("a", 4, task="cola", system="student")
    assert sorted((one["task"], one["system"], one["score"]) for one in found["runs"]) == [
        ("cola", "long student", 2),
        ("cola", "student", 4),
        ("mrpc", "student", 3),
    ]
    assert {name: part["parameters"] for name, part in found["manifests"].items()} == {
        "a": {"task": "cola"},
        "b": {"task": "cola"},
        "c": {"task": "mrpc"},
    }
    assert found["manifest"] == {"status": "done", "seconds": 4.5}
    store("c", 5, task="mrpc")  # of no system, as notebook 11's ratio of two steps
    assert [one["score"] for one in store("c", 6, task="mrpc")["runs"] if "system" not in one] == [
        6
    ]


def test_a_failed_run_says_so(tmp_path):
    with pytest.raises(KeyError), lab.Run(tmp_path):
        raise KeyError("gone")
    assert (
        manifest(tmp_path)["status"] == "failed"
        and manifest(tmp_path)["error"] == "KeyError: 'gone'"
    )


def test_a_run_that_ends_well_is_done(tmp_path):
    with lab.Run(tmp_path):
        pass
    assert manifest(tmp_path)["status"] == "done"


def test_require(tmp_path):
    assert lab.require(str(tmp_path)) == tmp_path
    with pytest.raises(lab.NotYetRun, match=r"student; run notebook 07_distil first \(about 9 min"):
        lab.require(tmp_path / "student", minutes=9)


@pytest.mark.parametrize(
    "bf16, dtype",
    [
        (True, torch.bfloat16),
        (False, torch.float32),
        (None, torch.bfloat16 if lab.bf16_is_fast() else torch.float32),
    ],
)
def test_autocast(bf16, dtype):
    with lab.autocast("cpu", bf16):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


# ---- exercises


@lab.check("count to n")
def counts(answer):
    if answer(2) != [1, 2]:  # no assert: pytest would write its own words into it
        raise AssertionError(f"answer(2) is {answer(2)}")
    if answer(0):
        raise AssertionError


def stub(n):
    raise NotImplementedError


@pytest.mark.parametrize(
    "answer, said",
    [
        (lambda n: list(range(1, n + 1)), "passed: count to n\n"),
        (stub, "not yet: count to n: the stub is still empty\n"),
        (lambda n: [n], "not yet: count to n: answer(2) is [2]\n"),
        (lambda n: [1, 2], "not yet: count to n: this does not hold: raise AssertionError\n"),
    ],
)
def test_try_check(answer, said, capsys):
    assert lab.try_check(counts, answer) is said.startswith("passed")
    assert capsys.readouterr().out == said


def test_try_check_shows_where_the_readers_code_broke(capsys):
    def answer(n):
        return json.loads(n)

    assert lab.try_check(counts, answer) is False
    line = answer.__code__.co_firstlineno + 1
    said = capsys.readouterr().out
    assert said.startswith("not yet: count to n: TypeError: the JSON object must be")
    assert f"(line {line}: return json.loads(" in said


# ---- environment


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A checkout of nothing but constraints: torch as installed, another pandas, a package nobody has."""
    (tmp_path / "constraints.txt").write_text(
        f"# why\ntorch=={torch.__version__.partition('+')[0]}\npandas==1.0.0\nno-such-package==1.2\n"
    )
    monkeypatch.setattr(lab, "ROOT", tmp_path)
    monkeypatch.setenv("MINIALBERT_CACHE", str(tmp_path / "cache"))
    return tmp_path


def test_environment_says_what_to_mend(machine, capsys):
    assert lab.print_environment() is False
    said = capsys.readouterr().out.splitlines()
    assert f"OK    torch {torch.__version__}" in said
    fix = "fix: pip install -c constraints.txt -e '.[all]'"
    assert f"FAIL  no-such-package is missing: {fix}" in said
    pandas = next(line for line in said if "pandas" in line)
    assert pandas.startswith("FAIL  pandas ") and pandas.endswith(f" is not the tried 1.0.0: {fix}")
    assert "INFO  the lab's teacher: fetched at its first use (83 MB)" in said
    assert said[-1] == "2 to mend"


def test_environment_without_versions_is_the_same_everywhere(machine, capsys):
    (machine / "constraints.txt").write_text(f"torch=={torch.__version__.partition('+')[0]}\n")
    assert lab.print_environment(versions=False) is True
    assert capsys.readouterr().out.splitlines() == [
        "OK    Python",
        "OK    torch",
        "OK    a cache to write to",
        "OK    1 GB free for the cache",
        "OK    4 GB of memory",
        "ready",
    ]


def test_environment_needs_a_cache_it_can_write(machine, monkeypatch, capsys):
    monkeypatch.setenv("MINIALBERT_CACHE", str(machine / "constraints.txt" / "cache"))
    lab.print_environment(versions=False)
    assert "FAIL  a cache to write to: fix: set MINIALBERT_CACHE" in capsys.readouterr().out


def test_environment_can_be_asked_where_torch_is_missing():
    program = (
        "import sys; sys.modules['torch'] = None\nfrom minialbert import lab\n"
        "lab.print_environment(versions=False)\nfrom minialbert import MiniAlbertModel"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=lab.ROOT, capture_output=True, text=True
    )
    assert result.stdout.startswith("OK    Python\n")
    assert (
        "ImportError: minialbert.MiniAlbertModel needs torch, which is not installed"
        in result.stderr
    )


# ---- notebooks


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


def test_notebook_parameters(tmp_path):
    source = "steps: int | None = None  # cap\nname = 'a'  # a name\nranks = [1]\nhere = len(name)"
    path = written(tmp_path / "a.ipynb", ("other = 0",), (source, "parameters"))
    known = lab.notebook_parameters(path)
    assert lab.check_parameters({}, known) == {
        "steps": None,
        "name": "a",
        "ranks": [1],
        "here": None,
    }
    with pytest.raises(lab.ParameterError, match="'steps' must be int | None"):
        lab.check_parameters({"steps": "a", "here": "anything"}, known)


def test_ids_are_kept_and_made_once(tmp_path):
    path = tmp_path / "a.ipynb"
    content = dict(new_notebook())
    content["cells"] = [
        {"cell_type": "markdown", "metadata": {}, "source": "a"} | name
        for name in ({"id": "cell-4"}, {"id": "twice"}, {"id": "twice"}, {})
    ]
    path.write_text(json.dumps(content))
    assert [cell.id for cell in lab.read_notebook(path).cells] == [
        "cell-4",
        "twice",
        "cell-3",
        "cell-5",
    ]


def test_canonical_form():
    def stream(name, text):
        return new_output("stream", name=name, text=text)

    view = {
        "application/vnd.jupyter.widget-view+json": {"model_id": "x1"},
        "text/plain": "interactive()",
    }
    outputs = [
        stream("stderr", "warning"),
        stream("stdout", "a\n"),
        stream("stderr", "more"),
        stream("stdout", "b\n"),
        new_output("display_data", data=view),
        new_output(
            "error", ename="KeyError", evalue="'a'", traceback=["File a.py", "KeyError: 'a'"]
        ),
    ]
    metadata = {"tags": ["solution"], "execution": {"at": "noon"}}
    notebook = new_notebook(
        metadata={"widgets": {}, "papermill": {}},
        cells=[new_code_cell("x", id="a", outputs=outputs, execution_count=1, metadata=metadata)],
    )
    text = lab.canonical(notebook)
    cell = json.loads(text)["cells"][0]
    assert cell["metadata"] == {"jupyter": {"source_hidden": True}, "tags": ["solution"]}
    assert [output.get("text") for output in cell["outputs"]] == [["a\n", "b\n"], None, None]
    assert cell["outputs"][1]["data"] == {"text/plain": ["interactive()"]}
    assert cell["outputs"][2]["traceback"] == ["KeyError: 'a'"]
    assert set(json.loads(text)["metadata"]) == {"kernelspec", "language_info"}
    assert text.endswith("}\n")
    assert notebook.cells[0].metadata["execution"], "the notebook itself is left alone"


def test_papermill_cannot_inject_what_a_notebook_does_not_know(tmp_path):
    """The whole way: papermill's own command, which only warns, and `lab.parameters` in the notebook."""
    # A stand-in for the package, so that the kernel need not import torch.
    light = (
        "import sys, types\nsys.modules['minialbert'] = types.ModuleType('minialbert')\n"
        f"sys.modules['minialbert'].__path__ = [{str(lab.ROOT / 'minialbert')!r}]\n"
    )
    path = written(
        tmp_path / "a.ipynb",
        ("rate = 0.5  # a rate", "parameters"),
        (light + "from minialbert import lab\nlab.parameters({'rate': 0.5}, globals())",),
    )
    result = subprocess.run(
        [
            sys.executable,
            "-m",
            "papermill",
            str(path),
            str(tmp_path / "out.ipynb"),
            "-p",
            "rat",
            "1",
        ],
        capture_output=True,
        text=True,
    )
    assert result.returncode != 0 and "did you mean 'rate'" in result.stderr


def test_a_cell_run_out_of_order_says_what_to_run():
    import nbclient

    notebook = new_notebook(
        cells=[
            new_code_cell(source)
            for source in (
                "from minialbert import lab\n_ = lab.parameters({}, globals())",
                "print(made_above + 1)",
                "print(2)",
            )
        ]
    )
    nbclient.NotebookClient(notebook, allow_errors=True, timeout=60).execute()
    error, hint = notebook.cells[1].outputs
    assert error["ename"] == "NameError"
    assert (
        "'made_above' is not defined" in hint["text"]
        and "Run All Above Selected Cell" in hint["text"]
    )
    assert notebook.cells[2].outputs[0]["text"] == "2\n"
