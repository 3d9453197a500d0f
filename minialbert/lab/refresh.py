"""Notebooks run in place and written in canonical form.

    python -m minialbert.lab.refresh [NOTEBOOK ...]

Without a name, all of notebooks/ and its solutions, by this environment's own Python.
"""

import copy
import os
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WIDGET = "application/vnd.jupyter.widget-view+json"


def read_notebook(path):
    """A notebook file, as nbformat's version 4."""
    import nbformat

    return nbformat.read(path, as_version=4)


def canonical(notebook) -> str:
    """The one text of an executed notebook: two refreshes of one without chance are byte-identical.

    Of cell metadata only the tags stay; no stderr, no widget state, no line that a carriage return
    overwrote; of an error only its last line.
    """
    import nbformat
    from nbconvert.preprocessors import CoalesceStreamsPreprocessor

    notebook = copy.deepcopy(notebook)
    for cell in notebook.cells:
        # Not nbconvert's ClearMetadataPreprocessor, which leaves a text cell's metadata as it is.
        tags = cell.metadata.get("tags", [])
        cell.metadata = {"tags": tags} if tags else {}
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
        for output in cell.get("outputs", ()):
            if output.output_type == "error":  # the rest of a traceback names this machine's paths
                output.traceback = [f"{output.ename}: {output.evalue}"]
            elif WIDGET in output.get("data", {}):  # a random id, of a state that nobody keeps
                output.data = {"text/plain": output.data.get("text/plain", "")}
    notebook, _ = CoalesceStreamsPreprocessor().preprocess(notebook, {})
    python = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    notebook.metadata = {"kernelspec": python, "language_info": {"name": "python"}}
    return nbformat.writes(nbformat.from_dict(notebook)) + "\n"


def course() -> list[Path]:
    """The chapters, then the solutions of their exercises."""
    folders = ROOT / "notebooks", ROOT / "notebooks/solutions"
    return [path for folder in folders for path in sorted(folder.glob("*.ipynb"))]


def refresh(*paths):
    """Runs notebooks, by default all, in their own folders and writes them in canonical form.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell without the tag `raises-exception` raised;
            that file is left as it was. DeadKernelError: likewise.
    """
    import nbclient
    from traitlets.config import Config

    encrypted = Config(KernelManager={"transport_encryption": "auto"})  # a kernel warns of less
    for path in map(Path, paths or course()):
        began, notebook = time.perf_counter(), read_notebook(path)
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
        print(f"{path.name:<40}", end="", flush=True)
        nbclient.NotebookClient(
            notebook,
            kernel_name="python3",
            timeout=7200,
            resources={"metadata": {"path": str(path.parent)}},
            config=encrypted,
        ).execute()
        path.write_text(canonical(notebook), encoding="utf8")
        print(f"{time.perf_counter() - began:7.1f} s", flush=True)


if __name__ == "__main__":
    os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"
    os.environ.pop("MPLBACKEND", None)  # pictures belong into the notebook
    refresh(*sys.argv[1:])
