"""The committed notebooks: what is asked of each, and each run again and compared by nbval."""

import os
import re
import shutil
import subprocess
import sys
from contextlib import suppress

import nbformat
import notebook_checks as checks
import pytest
from conftest import ROOT, slowness
from filelock import FileLock
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from minialbert import sources
from minialbert.lab.refresh import canonical, read_notebook

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
CELL_SECONDS = 300  # a cell's limit, on a machine as fast as the reference; slower ones have more
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def test_the_course_is_there():
    """Numbered without a gap, at least to 08, and every link between them leads somewhere."""
    names = [path.name for path in NOTEBOOKS]
    assert [name[:2] for name in names] == [f"{number:02}" for number in range(len(names))]
    assert len(names) >= 9
    links = {
        path.name: set(re.findall(r"\]\((\w+\.ipynb)\)", path.read_text(encoding="utf8")))
        for path in NOTEBOOKS
    }
    assert set().union(*links.values()) <= set(names)
    assert links["00_start_here.ipynb"] == set(names[1:]), "the map links every notebook"
    for before, after in zip(names, names[1:]):
        assert after in links[before] and before in links[after] | {names[0]}


@each_notebook
def test_notebook_is_as_asked(path):
    assert not checks.complaints(read_notebook(path), path.read_text(encoding="utf8"))


@each_notebook
def test_a_notebook_leaves_the_parameters_it_is_given(path):
    """Where it changes one by itself, its plan takes the record for another run's."""
    code = "\n".join(cell.source for cell in checks.code_cells(read_notebook(path)))
    set_to = re.findall(r"^P(?:\.\w+)? = (\w+)", code, re.M)
    assert set(set_to) <= {"of_notebook"}


def test_nbval_compares_half_of_all_code_cells():
    cells = [cell for path in NOTEBOOKS for cell in checks.code_cells(read_notebook(path))]
    assert sum(map(checks.is_compared, cells)) >= len(cells) / 2


def nbval(path):
    environment = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}
    seconds = round(CELL_SECONDS * max(1, slowness()))
    options = ["--nbval", "--nbval-current-env", f"--nbval-cell-timeout={seconds}", "--color=no"]
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, path.name],
        cwd=path.parent,
        env=environment,
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="session")
def course(tmp_path_factory):
    """The notebooks beside an empty runs/, so that no reader's run is touched.

    One folder for all of `make test`'s workers.
    """
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "course"
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            # A first fetch shows a bar, which would be an output like any other. Where it fails,
            # the notebook that needs it says what to do.
            for name in sources.WHEELS:
                with suppress(sources.SourceError):
                    sources.fetch(name, quiet=True)
            (folder / "runs").mkdir(parents=True)
            (folder / "figures").symlink_to(ROOT / "figures")
            shutil.copytree(
                ROOT / "notebooks", folder / "notebooks", ignore=shutil.ignore_patterns(".*")
            )
    return folder


@each_notebook
def test_notebook_gives_its_committed_outputs(path, course):
    result = nbval(course / "notebooks" / path.name)
    words = result.stdout + result.stderr
    assert result.returncode == 0, f"{path.name} under nbval:\n{words[-6000:]}"


# What follows holds the checks themselves to account.


def good():
    """A small notebook nothing is wrong with."""
    shown = [new_output("stream", name="stdout", text="2\n")]
    return nbformat.from_dict(
        new_notebook(
            cells=[
                new_markdown_cell("# Title\n![what it shows](a.png)", id="title"),
                new_code_cell(
                    "seed: int = 1  # for all",
                    execution_count=1,
                    id="p",
                    metadata={"tags": ["parameters"]},
                ),
                new_code_cell("print(1 + seed)", execution_count=2, outputs=shown, id="one"),
                new_code_cell("print(seed + 1)", execution_count=3, outputs=shown, id="two"),
            ]
        )
    )


def picture():
    return new_output("display_data", data={"image/png": "iVBORw0KGgo="})


def change(notebook, *path_and_value):
    *path, last, value = path_and_value
    for step in path:
        notebook = notebook[step]
    notebook[last] = value


def test_a_good_notebook_passes():
    assert not checks.complaints(good(), canonical(good()))


@pytest.mark.parametrize(
    "path, value, complaint",
    [
        (("cells", 2, "execution_count"), None, "not run from top to bottom"),
        (("cells", 3, "execution_count"), 7, "not run from top to bottom"),
        (("cells", 2, "outputs"), [], "compares 33%"),
        (("cells", 2, "metadata", "tags"), ["nbval-ignore-output"], "compares 33%"),
        (("cells", 1, "outputs"), [picture()], "no tag says so"),
        (("cells", 2, "outputs"), [new_output("error", ename="E")], "cell one .* raised"),
        (("cells", 1, "metadata", "tags"), [], "0 cells are tagged"),
        (("cells", 2, "metadata", "tags"), ["parameters"], "2 cells are tagged"),
        (("cells", 1, "source"), "seed: int = 1", "without a comment: seed: int = 1"),
        (("cells", 1, "source"), "seed = 1  # for all", "not a typed parameter: seed = 1"),
        (("cells", 1, "source"), "seed: int = 1  # for all\n" * 13, "13 parameters, more than 12"),
        (("cells", 0, "source"), "![](a.png)", "without alt text"),
        (("cells", 0, "source"), "<img src='a.png' alt=''>", "without alt text"),
        (("cells", 0, "source"), "x" * 1_500_000, "1.5 MB"),
        (("metadata", "widgets"), {}, "widget state"),
        (("metadata", "authors"), [], "not in canonical form"),
        (("cells", 0, "mood"), "fine", "not a valid notebook"),
    ],
)
def test_each_fault_is_found(path, value, complaint):
    notebook = good()
    change(notebook, *path, value)
    text = nbformat.writes(notebook) if "authors" in path else canonical(notebook)
    found = checks.complaints(notebook, text)
    assert any(re.search(complaint, one) for one in found), found


def test_a_declared_picture_is_no_fault():
    notebook = good()
    notebook.cells[1].outputs = [picture()]
    notebook.cells[1].metadata.tags.append("nbval-ignore-output")
    assert not checks.compared(notebook)


def test_nbval_sees_a_changed_output(tmp_path):
    """Numbers by the course's own tolerance, which a notebook anywhere else does not have."""
    notebook = good()

    def shows(value, committed, *tags):
        outputs = [new_output("stream", name="stdout", text=f"{committed}\n")]
        count, metadata = len(notebook.cells), {"tags": list(tags)}
        cell = new_code_cell(
            f"print({value!r})", execution_count=count, outputs=outputs, metadata=metadata
        )
        notebook.cells.append(nbformat.from_dict(cell))

    shows("loss 0.13", "loss 0.12")
    shows("loss 0.14", "loss 0.12", "tolerance-0.02")
    shows("loss 0.14", "loss 0.12")
    shows("3 layers", "2 layers")
    shutil.copy(ROOT / "notebooks/conftest.py", tmp_path)
    path = tmp_path / "changed.ipynb"
    path.write_text(canonical(notebook))
    result = nbval(path)
    assert result.returncode == 1 and "2 failed, 5 passed" in result.stdout, result.stdout
    assert "Cell 5" in result.stdout and "Cell 6" in result.stdout
