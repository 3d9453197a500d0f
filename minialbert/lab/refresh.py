"""Notebooks run in place and written in canonical form."""

import copy
import itertools
import json
from pathlib import Path


def _tags(cell) -> list:
    return cell.metadata.get("tags", [])


def read_notebook(path):
    """A notebook file, with an id for each cell: its own, or cell-<number>."""
    import nbformat

    content = json.loads(Path(path).read_text(encoding="utf8"))
    taken, seen = {cell.get("id") for cell in content["cells"]}, {None}
    for number, cell in enumerate(content["cells"], 1):
        if cell.get("id") in seen:
            cell["id"] = next(
                name for n in itertools.count(number) if (name := f"cell-{n}") not in taken
            )
        taken.add(cell["id"])
        seen.add(cell["id"])
    return nbformat.reads(json.dumps(content | {"nbformat_minor": 5}), as_version=4)


def _canonical_outputs(cell) -> list:
    kept = []
    for output in cell.outputs:
        if output.output_type == "stream":
            if output.name == "stderr":
                continue
            if kept and kept[-1].output_type == "stream":
                kept[-1].text += output.text
                continue
        elif output.output_type == "error":  # the rest of a traceback names this machine's paths
            output.traceback = [f"{output.ename}: {output.evalue}"]
        elif (
            "application/vnd.jupyter.widget-view+json" in output.data
        ):  # a random id of a state nobody keeps
            output.data = {"text/plain": output.data.get("text/plain", "")}
        kept.append(output)
    return kept


def canonical(notebook) -> str:
    """The one text of an executed notebook: two refreshes of a deterministic notebook are byte-identical.

    Of cell metadata only the tags stay (a cell tagged `solution` is folded); no stderr, no widget state, of a
    traceback only its last line.
    """
    import nbformat

    notebook = copy.deepcopy(notebook)
    for cell in notebook.cells:
        tags, cell.metadata = _tags(cell), {}
        if tags:
            cell.metadata["tags"] = tags
        if "solution" in tags:
            cell.metadata["jupyter"] = {"source_hidden": True}
        if cell.cell_type == "code":
            cell.outputs = _canonical_outputs(cell)
    notebook.metadata = {
        "kernelspec": {
            "display_name": "Python 3 (ipykernel)",
            "language": "python",
            "name": "python3",
        },
        "language_info": {"name": "python"},
    }
    return nbformat.writes(nbformat.from_dict(notebook)) + "\n"
