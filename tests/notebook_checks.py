"""What is asked of a committed notebook. Each check takes it and returns a list of complaints."""

import ast
import importlib.util
import io
import re
import tokenize

import nbformat
from conftest import ROOT

from minialbert.lab import refresh

# nbval's comparison, a module of the notebooks
_spec = importlib.util.spec_from_file_location("tolerance", ROOT / "notebooks/conftest.py")
tolerance = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(tolerance)

UNCOMPARED = {"nbval-ignore-output", "nbval-skip", "raises-exception"}
SMALLEST_SHARE = 0.4  # of code cells, whose outputs nbval compares; half over the course
LARGEST = 1_500_000  # bytes
MOST_PARAMETERS = 12  # that a chapter talks about; a parameter file may give more


def tags(cell) -> set:
    return set(cell.metadata.get("tags", []))


def code_cells(notebook) -> list:
    return [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]


def name(cell) -> str:
    return f"cell {cell.get('id')} ({cell.source.strip().splitlines()[0][:50]!r})"


def is_compared(cell) -> bool:
    """Whether nbval compares an output of a cell: it skips pictures, and cells without a count."""
    return (
        cell.execution_count is not None
        and not tags(cell) & UNCOMPARED
        and any(
            output.get("name") == "stdout" or "text/plain" in output.get("data", {})
            for output in cell.outputs
        )
    )


def valid(notebook) -> list:
    try:
        nbformat.validate(notebook)
    except nbformat.ValidationError as error:
        return [f"not a valid notebook: {error.message}"]
    return []


def executed(notebook) -> list:
    counts = [cell.execution_count for cell in code_cells(notebook)]
    wanted = list(range(1, len(counts) + 1))
    if counts == wanted:
        return []
    return [f"not run from top to bottom in a fresh kernel, but as {counts}"]


def without_errors(notebook) -> list:
    return [
        f"{name(cell)} raised and is not tagged raises-exception"
        for cell in code_cells(notebook)
        if "raises-exception" not in tags(cell)
        and any("ename" in output for output in cell.outputs)
    ]


def parameters_cell(notebook) -> list:
    cells = [cell for cell in notebook.cells if "parameters" in tags(cell)]
    if len(cells) != 1:
        return [f"{len(cells)} cells are tagged parameters, not one"]
    words = tokenize.generate_tokens(io.StringIO(cells[0].source).readline)
    comments = [word for word in words if word.type == tokenize.COMMENT]
    # A comment stands on the parameter's line, or alone on the line above.
    commented = {word.start[0] + word.line.lstrip().startswith("#") for word in comments}
    nodes = ast.parse(cells[0].source).body
    parameters = [node for node in nodes if isinstance(node, ast.AnnAssign)]
    found = [
        f"not a typed parameter: {ast.unparse(node)}" for node in nodes if node not in parameters
    ]
    found += [
        f"parameter without a comment: {ast.unparse(node)}"
        for node in parameters
        if not commented & set(range(node.lineno, node.end_lineno + 1))
    ]
    if len(parameters) > MOST_PARAMETERS:
        found.append(f"{len(parameters)} parameters, more than {MOST_PARAMETERS}")
    return found


def without_widget_state(notebook) -> list:
    if "widgets" not in notebook.metadata:
        return []
    return ["widget state in the metadata: some viewers refuse it"]


def compared(notebook) -> list:
    """Enough cells whose outputs nbval compares, and every other output declared by a tag."""
    cells = code_cells(notebook)
    share = sum(map(is_compared, cells)) / max(1, len(cells))
    found = []
    if share < SMALLEST_SHARE:
        found.append(f"nbval compares {share:.0%} of the code cells, too few")
    return found + [
        f"{name(cell)} has an output that nbval does not compare and no tag says so"
        for cell in cells
        if cell.outputs and not (is_compared(cell) or tags(cell) & UNCOMPARED)
    ]


def pictures_described(notebook) -> list:
    pictures = re.compile(r"!\[\s*\]\([^)]*\)|<img\b(?![^>]*\balt=[\"'][^\"'])[^>]*>")
    return [
        f"picture without alt text: {found}"
        for cell in notebook.cells
        if cell.cell_type == "markdown"
        for found in pictures.findall(cell.source)
    ]


def canonical(notebook, text) -> list:
    return (
        [] if text == refresh.canonical(notebook) else ["not in canonical form: run `make refresh`"]
    )


def small(notebook, text) -> list:
    size = len(text.encode())
    return [] if size < LARGEST else [f"{size / 1e6:.1f} MB, more than {LARGEST / 1e6:.1f}"]


def complaints(notebook, text) -> list:
    """All of them; text is the notebook's file."""
    checks = [
        valid,
        executed,
        without_errors,
        parameters_cell,
        without_widget_state,
        compared,
        pictures_described,
    ]
    found = [complaint for check in checks for complaint in check(notebook)]
    return found + canonical(notebook, text) + small(notebook, text)
