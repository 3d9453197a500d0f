"""Parameters checked by name and type, from a YAML file, a notebook's cell, or papermill."""

import dataclasses
import subprocess
import sys
from typing import Literal

import pytest
from conftest import LIGHT
from nbformat.v4 import new_code_cell, new_notebook, writes

from minialbert.lab.parameters import (
    ParameterError,
    check,
    notebook_parameters,
    of_notebook,
    read_yaml,
)


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
    rates: list = dataclasses.field(default_factory=list)


def test_defaults_stand_where_nothing_is_given():
    given = {"steps": 3, "learning_rate": 1, "max_articles": 10, "start": 2}
    assert check(given, Arguments) == Arguments(3, 1, max_articles=10, start=2)


@pytest.mark.parametrize("text, number", [("3e-4", 3e-4), ("2.5E3", 2500.0), ("-1e+2", -100.0)])
def test_a_number_that_yaml_takes_for_text_is_a_number(text, number):
    found = check({"steps": 1, "learning_rate": text, "rates": [text, 1.0]}, Arguments)
    assert found.learning_rate == number and found.rates == [number, 1.0]
    assert check({"steps": 1, "teacher": text}, Arguments).teacher == text


@pytest.mark.parametrize(
    "given, said",
    [
        ({"lerning_rate": 1e-3}, "'lerning_rate'; did you mean 'learning_rate'?"),
        ({"zzz": 1}, "unknown parameter 'zzz'; known are steps, learning_rate"),
        ({"steps": True}, "'steps' is True"),
        ({"steps": 1.0}, "'steps' is 1.0"),
        ({"bf16": 1}, "'bf16' is 1"),
        ({"learning_rate": True}, "'learning_rate' is True"),
        ({"learning_rate": "fast"}, "'learning_rate' is 'fast'"),
        ({"teacher": None}, "'teacher' is None"),
        ({"max_articles": "ten"}, "'max_articles' is 'ten'"),
        ({"start": 1.5}, "'start' is 1.5"),
        ({"reduction": "rows"}, "'reduction' is 'rows'"),
        ({"layer_map": "all"}, "'layer_map' is 'all'"),
    ],
)
def test_a_wrong_parameter_is_named(given, said):
    with pytest.raises(ParameterError) as error:
        check({"steps": 1} | given, Arguments)
    assert said in str(error.value)


def test_all_wrong_parameters_are_named_at_once():
    with pytest.raises(ParameterError) as error:
        check({"step": 1, "bf16": "no", "teacher": 2}, Arguments)
    lines = str(error.value).splitlines()
    assert len(lines) == 4
    assert all(f"'{name}'" in str(error.value) for name in ("step", "steps", "bf16", "teacher"))


def test_a_file_is_read(tmp_path):
    path = tmp_path / "distil.yaml"
    path.write_text("# notebook: 07_distil\nsteps: 10\nlearning_rate: 5e-4\n")
    assert check(read_yaml(path), Arguments) == Arguments(10, 5e-4)


@pytest.mark.parametrize("text", ["steps: [1\nb: 2\n", "- steps\n"])
def test_a_file_that_holds_no_parameters_is_named(tmp_path, text):
    path = tmp_path / "distil.yaml"
    path.write_text(text)
    with pytest.raises(ParameterError, match=r"distil\.yaml"):
        read_yaml(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ParameterError, match=r"distill\.yaml"):
        read_yaml(tmp_path / "distill.yaml")


# ---- a notebook's


@pytest.fixture
def notebook(tmp_path):
    """Writes a notebook whose cell `parameters` has this source, and more cells."""

    def write(parameters, *more):
        cells = [new_code_cell(source) for source in ("other = 0", parameters, *more)]
        cells[1].metadata["tags"] = ["parameters"]
        kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
        path = tmp_path / "a.ipynb"
        path.write_text(writes(new_notebook(cells=cells, metadata={"kernelspec": kernel})))
        return path

    return write


CELL = """\
steps: int = 3  # of the optimiser
name: str | None = None  # a name
ranks: list = [128, 32]  # of the table
"""
ANY = "# any other field of minialbert.distillation.DistilArguments may be given too"


def test_a_cell_gives_names_types_and_defaults(notebook):
    known = notebook_parameters(notebook(CELL))
    assert vars(check({}, known)) == {"steps": 3, "name": None, "ranks": [128, 32]}
    assert check({}, known).ranks is not check({}, known).ranks
    with pytest.raises(ParameterError, match="'steps' is 'a'"):
        check({"steps": "a"}, known)


def test_a_cell_may_open_a_dataclass_of_the_method(notebook):
    from minialbert.distillation import DistilArguments

    with pytest.raises(ParameterError, match="unknown parameter 'window'"):
        check({"window": 32}, notebook_parameters(notebook(CELL)))
    found = check({"window": 32}, notebook_parameters(notebook(CELL + ANY)))
    assert isinstance(found, DistilArguments)
    assert (found.window, found.steps, found.batch_size) == (32, 3, DistilArguments.batch_size)


def test_values_come_from_the_notebook_that_runs(notebook):
    path = notebook(CELL)
    history = ["", CELL, "# Parameters\nsteps = 5", "# Parameters of mine: x\nodd = 1"]
    found = of_notebook(path, {"In": history, "steps": 5, "name": None, "ranks": [1], "odd": 1})
    assert vars(found) == {"steps": 5, "name": None, "ranks": [1]}


def test_what_papermill_injected_unasked_is_refused_until_it_is_corrected(notebook):
    path = notebook(CELL)
    history = ["", "# Parameters\nsteps = 5\nstep_size = 'x'"]
    namespace = {"In": history, "steps": 5, "step_size": "x"}
    with pytest.raises(ParameterError, match="'step_size'; did you mean 'steps'"):
        of_notebook(path, namespace)
    history.append("# Parameters\nsteps = 5")
    assert of_notebook(path, namespace).steps == 5


def test_papermills_own_command_ends_in_that_refusal(notebook):
    check = "from minialbert.lab.parameters import of_notebook\nof_notebook('a.ipynb', globals())"
    path = notebook("rate: float = 0.5  # a rate", LIGHT + check)
    command = [sys.executable, "-m", "papermill", path, path.with_name("out.ipynb")]
    result = subprocess.run(
        [*command, "-p", "rat", "1", "--cwd", path.parent], capture_output=True, text=True
    )
    assert result.returncode != 0 and "did you mean 'rate'" in result.stderr
