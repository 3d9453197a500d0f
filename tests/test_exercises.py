"""Every exercise: its stub fails its check and says why, its solution passes, nobody leans on it.

In a chapter an exercise is a card (markdown), the stub (tag `exercise`) and the try, a call of its
check in `notebooks/checks/`. The committed output of the try says "not yet", and nbval compares it
each time it runs the chapter. The solutions, in `notebooks/solutions/`, are run here.
"""

import ast
import importlib
import re

import nbformat
import notebook_checks as asked
import pytest
import torch
from conftest import ROOT
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from minialbert.lab import exercises
from minialbert.lab.refresh import read_notebook

# chapter: exercises at least
WANTED = {
    "01": 3,
    "02": 3,
    "03": 3,
    "04": 3,
    "05": 3,
    "06": 3,
    "07": 2,
    "08": 3,
    "09": 2,
    "10": 2,
    "11": 2,
    "12": 2,
    "13": 2,
    "15": 3,
    "16": 3,
}
NOTEBOOKS = ROOT / "notebooks"
CHAPTERS = [NOTEBOOKS / path.name for path in sorted(NOTEBOOKS.glob("solutions/*.ipynb"))]
CARD = re.compile(r"^### Exercise (\d+)\.(\d+) · \S.*\n+\*[●○]+ · \d+ minutes?\*\n+\S", re.M)
OURS = re.compile(r"\b[Oo]urs? [^.]*?reaches [^.]*?(\d\.\d+)")  # what a card says of a solution
CALL = re.compile(r"chapter_\d\d\.(check_\w+)\((\w+)\)")

each_chapter = pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)


def checks_of(path, monkeypatch) -> dict:
    """{function: the exercise's name} of a chapter's checks, in their order."""
    monkeypatch.syspath_prepend(NOTEBOOKS)
    module = importlib.import_module(f"checks.chapter_{path.stem[:2]}")
    return {
        name: function.exercise
        for name, function in vars(module).items()
        if hasattr(function, "exercise")
    }


def printed(cell) -> str:
    return "".join(output.get("text", "") for output in cell.outputs)


def names(source) -> tuple:
    """(defined, only read): a cell's names at its top level, and those that it does not define."""
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)]
    stored = {node.id for node in nodes if isinstance(node.ctx, ast.Store)}
    stored |= {node.name for node in ast.parse(source).body if hasattr(node, "name")}
    return stored, {node.id for node in nodes} - stored


def in_chapter(notebook, checks) -> tuple:
    """(the numbers on the cards, complaints) of a chapter as read, whose checks are given."""
    cells = [cell for cell in notebook.cells if cell.source.strip()]
    numbers, found, tried = [], [], []
    for place, stub in enumerate(cells):
        if "exercise" not in asked.tags(stub):
            continue
        before, after = cells[place - 1], cells[place + 1]
        card, call = CARD.search(before.source), CALL.fullmatch(after.source.strip())
        if not card:
            found.append(f"{asked.name(stub)}: no card before it: '### Exercise 1.1 · Title' ..")
            continue
        if not call:
            found.append(f"{asked.name(stub)}: no call of its check follows")
            continue
        numbers.append(card.groups())
        check, answer = call.groups()
        tried.append(check)
        if answer not in names(stub.source)[0]:
            found.append(f"{asked.name(stub)}: the stub does not define {answer}")
        said = re.fullmatch(
            rf"not yet: {re.escape(str(checks.get(check)))}: (\S.*)\n", printed(after)
        )
        if not said or said[1].startswith("this does not hold"):
            found.append(f"{asked.name(stub)}: the stub fails without a reason: {printed(after)!r}")
        if not asked.is_compared(after):
            found.append(f"{asked.name(after)}: nbval does not compare it")
        found += [
            f"{asked.name(later)} leans on the reader's {answer}"
            for later in cells[place + 2 :]
            if later.cell_type == "code" and answer in names(later.source)[1]
        ]
    if tried != list(checks):
        found.append(f"the chapter tries {tried}, its checks are {list(checks)}")
    return numbers, found


def test_every_chapter_with_exercises_has_checks_and_solutions():
    stems = {path.stem for path in CHAPTERS}
    assert stems == {
        path.stem for path in NOTEBOOKS.glob("*.ipynb") if '"exercise"' in path.read_text("utf8")
    }
    assert {stem[:2] for stem in stems} == set(WANTED)
    assert {path.stem for path in NOTEBOOKS.glob("checks/*.py")} == {f"chapter_{n}" for n in WANTED}


@each_chapter
def test_every_stub_fails_with_a_reason(path, monkeypatch):
    numbers, found = in_chapter(read_notebook(path), checks_of(path, monkeypatch))
    assert not found
    chapter = path.stem[:2]
    wanted = [(str(int(chapter)), str(number)) for number in range(1, len(numbers) + 1)]
    assert numbers == wanted, "number them 5.1, 5.2, .. in notebook 05"
    assert len(numbers) >= WANTED[chapter]
    assert f"](solutions/{path.name})" in path.read_text("utf8"), "a link to the solutions"


@each_chapter
def test_every_solution_passes(path, monkeypatch, capsys):
    wanted = [f"passed: {name}" for name in checks_of(path, monkeypatch).values()]
    file = NOTEBOOKS / "solutions" / path.name
    notebook = read_notebook(file)
    # as asked of every notebook, but that it has no parameters
    without = ["0 cells are tagged parameters, not one"]
    assert asked.complaints(notebook, file.read_text(encoding="utf8")) == without
    monkeypatch.chdir(file.parent)
    space, said = {}, []
    for cell in asked.code_cells(notebook):
        exec(compile(cell.source, cell.id, "exec"), space)
        said.append(capsys.readouterr().out)
        assert asked.tolerance.agree(said[-1], printed(cell))
    reached = "".join(said)
    assert re.findall(r"^passed: .*?(?=: |$)", reached, re.M) == wanted
    cards = [cell.source for cell in read_notebook(path).cells if CARD.search(cell.source)]
    quoted = [number for card in cards for number in OURS.findall(card)]
    assert all(number in reached for number in quoted), f"a card says that ours reaches {quoted}"


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("checks/*.py")), ids=lambda path: path.stem)
def test_checks_assert_with_words(path):
    found = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Assert)]
    assert found and not [node.lineno for node in found if not node.msg]


# What follows holds the checks above to account.


def good():
    """A chapter with one exercise that nothing is wrong with."""
    said = "not yet: double it: twice 3 is not 5\n"
    outputs = [new_output("stream", name="stdout", text=said)]
    stub = "def double(x):\n    return x + 2"
    card = "### Exercise 1.1 · Double it\n\n*●○○ · 1 minute*\n\nTwice as much."
    cells = [
        new_markdown_cell(card),
        new_code_cell(stub, execution_count=1, metadata={"tags": ["exercise"]}),
        new_code_cell("chapter_01.check_double(double)", execution_count=2, outputs=outputs),
        new_code_cell("print(2 * 3)", execution_count=3),
    ]
    return nbformat.from_dict(new_notebook(cells=cells))


CHECKS = {"check_double": "double it"}


def test_a_good_exercise_passes():
    assert in_chapter(good(), CHECKS) == ([("1", "1")], [])


@pytest.mark.parametrize(
    "place, part, value, complaint",
    [
        (0, "source", "### Exercise 1.1 · Double it\n\nTwice as much.", "no card"),
        (1, "tags", [], "the chapter tries"),
        (1, "source", "def twice(x):\n    return x + 2", "does not define double"),
        (2, "source", "print('not yet')", "no call of its check"),
        (2, "source", "chapter_01.check_other(double)", "the chapter tries"),
        (2, "text", "passed: double it\n", "without a reason"),
        (2, "text", "not yet: halve it: twice 3 is not 5\n", "without a reason"),
        (2, "text", "not yet: double it: this does not hold: x\n", "without a reason"),
        (2, "tags", ["nbval-ignore-output"], "does not compare"),
        (3, "source", "print(double(3))", "leans on the reader's double"),
    ],
)
def test_each_fault_is_found(place, part, value, complaint):
    notebook = good()
    cell = notebook.cells[place]
    if part == "text":
        cell.outputs[0].text = value
    elif part == "tags":
        cell.metadata.tags = value
    else:
        cell[part] = value
    _, found = in_chapter(notebook, CHECKS)
    assert any(complaint in one for one in found), found


# ---- the decorator of a check


@exercises.check("count to n")
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
def test_a_check_says_what_it_finds(answer, said, capsys):
    assert counts(answer) is None
    assert capsys.readouterr().out == said


def test_a_check_shows_where_the_readers_code_broke(capsys):
    def answer(n):
        return n[0]

    counts(answer)
    line = answer.__code__.co_firstlineno + 1
    said = capsys.readouterr().out
    assert said.startswith("not yet: count to n: TypeError: 'int' object is not")
    assert said.endswith(f"(line {line}: return n[0])\n")


def test_a_check_draws_the_same_numbers_and_none_of_the_notebooks():
    drawn = []
    attempt = exercises.check("draw")(lambda answer: drawn.append(torch.rand(1).item()))
    before = torch.get_rng_state()
    attempt(None)
    torch.manual_seed(5)
    attempt(None)
    assert drawn[0] == drawn[1]
    torch.set_rng_state(before)
    attempt(None)
    assert torch.equal(torch.get_rng_state(), before)
