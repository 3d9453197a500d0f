"""Notebooks refreshed in place, in canonical form."""

import json
import os
import subprocess
import sys

import pytest
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from minialbert.lab.refresh import canonical, course, read_notebook, refresh


def written(path, *cells):
    """A notebook file of code cells, each (source, *tags)."""
    cells = [new_code_cell(source, metadata={"tags": tags}) for source, *tags in cells]
    path.write_text(canonical(new_notebook(cells=cells)))
    return path


@pytest.mark.parametrize("path", course(), ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_the_courses_notebooks_are_in_canonical_form(path):
    assert canonical(read_notebook(path)) == path.read_text(encoding="utf8")


def test_two_refreshes_are_byte_identical_and_by_this_python(tmp_path, capfd):
    kernel = tmp_path / "jupyter/kernels/python3"  # a user's own "python3", which must not be taken
    kernel.mkdir(parents=True)
    specification = {"argv": ["false"], "display_name": "x", "language": "python"}
    (kernel / "kernel.json").write_text(json.dumps(specification))
    path = written(
        tmp_path / "a.ipynb",
        ("import sys, pathlib\nprint(pathlib.Path().resolve().name)",),
        ("print('x', file=sys.stderr); sys.executable == " + repr(sys.executable),),
        ("1 / 0", "raises-exception"),
        ("1 + 1",),
    )
    command = [sys.executable, "-m", "minialbert.lab.refresh", str(path)]
    user = {"JUPYTER_DATA_DIR": str(tmp_path / "jupyter"), "MPLBACKEND": "Agg"}
    subprocess.run(command, env=os.environ | user, check=True)
    first = path.read_text()
    refresh(path)
    assert path.read_text() == first == canonical(read_notebook(path))
    cells = json.loads(first)["cells"]
    assert [cell["execution_count"] for cell in cells] == [1, 2, 3, 4]
    assert cells[0]["outputs"][0]["text"] == [f"{tmp_path.name}\n"]
    assert [output["data"]["text/plain"] for output in cells[1]["outputs"]] == [["True"]]
    out, err = capfd.readouterr()
    assert out.count("a.ipynb") == 2 and err == ""


def test_a_failed_refresh_leaves_the_file(tmp_path):
    path = written(tmp_path / "a.ipynb", ("1 / 0",))
    before = path.read_text()
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        refresh(path)
    assert path.read_text() == before


def test_canonical_form():
    def stream(name, text):
        return new_output("stream", name=name, text=text)

    view = {
        "application/vnd.jupyter.widget-view+json": {"model_id": "x1"},
        "text/plain": "interactive()",
    }
    traceback = ["File a.py", "KeyError: 'a'"]
    outputs = [
        stream("stderr", "warning"),
        stream("stdout", "1 %\r2 %\na\n"),
        stream("stderr", "more"),
        stream("stdout", "b\n"),
        new_output("display_data", data=view),
        new_output("error", ename="KeyError", evalue="'a'", traceback=traceback),
    ]
    metadata = {"tags": ["exercise"], "execution": {"at": "noon"}}
    notebook = new_notebook(
        metadata={"widgets": {}, "papermill": {}},
        cells=[
            new_code_cell("x", id="a", outputs=outputs, execution_count=1, metadata=metadata),
            new_markdown_cell("x", id="b", metadata={"editable": True}),
        ],
    )
    text = canonical(notebook)
    code, prose = json.loads(text)["cells"]
    assert code["metadata"] == {"tags": ["exercise"]}
    assert prose["metadata"] == {}
    shown = [output.get("text") for output in code["outputs"]]
    assert shown == [["2 %\n", "a\n", "b\n"], None, None]
    assert code["outputs"][1]["data"] == {"text/plain": ["interactive()"]}
    assert code["outputs"][2]["traceback"] == ["KeyError: 'a'"]
    assert set(json.loads(text)["metadata"]) == {"kernelspec", "language_info"}
    assert text.endswith("}\n")
    assert notebook.cells[0].metadata["execution"], "the notebook itself is left alone"
