"""Every exercise of every notebook: its stub fails its check, its solution passes it, and nbval
compares both.

An exercise is a card (markdown) and five code cells in this order: the check (tag `check`), the
stub (tag `exercise`), the check tried, the solution (tag `solution`), the check tried again. The
committed outputs of the two tries say "not yet" and "passed". test_notebooks runs every notebook
again and compares these lines, if their cells are compared at all; that they are is asked here, so
no exercise needs to be run a second time.
"""

import ast
import re

import nbformat
import notebook_checks as checks
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from test_notebooks import NOTEBOOKS

from minialbert.lab import exercises
from minialbert.lab.refresh import read_notebook

# notebook: exercises at least
WANTED = {"01": 2, "02": 2, "03": 2, "04": 2, "05": 2, "06": 2, "08": 1}
CARD = re.compile(r"^### Exercise (\d+)\.(\d+) · \S.*\n+\*[●○]+ · \d+ minutes?\*\n+\S", re.M)
TAGS = {"check", "exercise", "solution"}
ORDER = ["check", "exercise", "try", "solution", "try"]


def defined(source) -> set:
    """Names that a cell defines at its top level."""
    found = set()
    for node in ast.parse(source).body:
        targets = node.targets if isinstance(node, ast.Assign) else [node]
        found |= {getattr(target, "name", getattr(target, "id", None)) for target in targets}
    return found


def tried(cell):
    """(check, answer) of a cell that is `_ = exercises.try_check(check, answer)`, else None."""
    match = re.fullmatch(r"_ = exercises\.try_check\((\w+), (\w+)\)", cell.source.strip())
    return match and match.groups()


def kind(cell) -> str:
    found = TAGS & checks.tags(cell)
    return found.pop() if len(found) == 1 else "try" if tried(cell) else "other"


def in_check(cell) -> tuple:
    """(function, its exercise's name, complaints) of a cell that defines a check."""
    functions = [node for node in ast.parse(cell.source).body if isinstance(node, ast.FunctionDef)]
    named = [
        (f.name, d.args[0].value)
        for f in functions
        for d in f.decorator_list
        if isinstance(d, ast.Call) and ast.unparse(d.func) == "exercises.check"
    ]
    if len(named) != 1:
        return None, None, [f"{len(named)} functions have the decorator exercises.check, not one"]
    asserts = [node for node in ast.walk(ast.parse(cell.source)) if isinstance(node, ast.Assert)]
    found = [] if asserts else ["the check asserts nothing"]
    found += [f"line {node.lineno} asserts without a message" for node in asserts if not node.msg]
    return *named[0], found


def printed(cell) -> str:
    return "".join(output.get("text", "") for output in cell.outputs)


def in_exercise(card, cells) -> list:
    """Complaints about one exercise: the text before it and the code cells from its check on."""
    check, stub, first, solution, second = cells[:5]
    found = []
    if not CARD.search(card):
        found.append("no card before it: '### Exercise 1.1 · Title', '*●●○ · 5 minutes*', the task")
    function, name, wrong = in_check(check)
    found += wrong
    if tried(first) != tried(second) or tried(first)[0] != function:
        found.append(
            f"both tries must call exercises.try_check({function}, the answer), as _ = ..."
        )
    answer = tried(first)[1]
    for what, cell in {"stub": stub, "solution": solution}.items():
        if answer not in defined(cell.source):
            found.append(f"the {what} does not define {answer}")
    reason = re.fullmatch(rf"not yet: {re.escape(str(name))}: (\S.*)\n", printed(first), re.S)
    if not reason:
        found.append(f"the stub does not fail: {printed(first)!r}")
    elif reason[1].startswith("this does not hold"):
        found.append(f"the stub's failure is not explained: {printed(first)!r}")
    if printed(second) != f"passed: {name}\n":
        found.append(f"the solution does not pass: {printed(second)!r}")
    for what, cell in {"first": first, "second": second}.items():
        if not checks.is_compared(cell):
            found.append(f"nbval does not compare the {what} try")
    return found


def all_exercises(notebook) -> tuple:
    """(the numbers on the cards, complaints) of a notebook as read."""
    numbers, found = [], []
    cells = [cell for cell in notebook.cells if cell.source.strip()]
    code = [cell for cell in cells if cell.cell_type == "code"]
    used = set()
    for place, cell in enumerate(code):
        if kind(cell) != "check":
            continue
        following = code[place : place + 5]
        if (order := [kind(one) for one in following]) != ORDER:
            found.append(f"{checks.name(cell)}: the cells from here on are {order}, not {ORDER}")
            continue
        used |= set(range(place, place + 5))
        before = cells[cells.index(cell) - 1]
        card = before.source if before.cell_type == "markdown" else ""
        found += [f"{checks.name(cell)}: {one}" for one in in_exercise(card, following)]
        numbers += [match.groups() for match in CARD.finditer(card)]
    orphans = [
        cell for place, cell in enumerate(code) if kind(cell) != "other" and place not in used
    ]
    return numbers, found or [
        f"{checks.name(cell)}: a {kind(cell)} outside an exercise" for cell in orphans
    ]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_exercise_is_sound(path):
    numbers, found = all_exercises(read_notebook(path))
    assert not found
    wanted = [(str(int(path.stem[:2])), str(number)) for number in range(1, len(numbers) + 1)]
    assert numbers == wanted, "number them 5.1, 5.2, .. in notebook 05"


def test_the_notebooks_have_their_exercises():
    there = {path.stem[:2]: len(all_exercises(read_notebook(path))[0]) for path in NOTEBOOKS}
    lacking = {
        number: f"{there.get(number, 'not there')} of {least}"
        for number, least in WANTED.items()
        if there.get(number, 0) < least
    }
    assert not lacking


# What follows holds the checks above to account.

CHECK = """@exercises.check("double it")
def check_double(answer):
    assert answer(3) == 6, f"twice 3 is not {answer(3)}"
"""
BARE = CHECK.replace(', f"twice 3 is not {answer(3)}"', "")


def good():
    """A notebook with one exercise that nothing is wrong with."""

    def code(source, count, *tags, text=None):
        outputs = [new_output("stream", name="stdout", text=text)] if text else []
        return new_code_cell(
            source, execution_count=count, outputs=outputs, metadata={"tags": list(tags)}
        )

    attempt = "_ = exercises.try_check(check_double, double)"
    return nbformat.from_dict(
        new_notebook(
            cells=[
                new_markdown_cell(
                    "So far.\n\n### Exercise 1.1 · Double it\n\n*●○○ · 1 minute*\n\nTwice as much."
                ),
                code(CHECK, 1, "check"),
                code("def double(x):\n    return x + 2", 2, "exercise"),
                code(attempt, 3, text="not yet: double it: twice 3 is not 5\n"),
                new_markdown_cell("Solution (folded)"),
                code("def double(x):\n    return 2 * x", 4, "solution"),
                code(attempt, 5, text="passed: double it\n"),
            ]
        )
    )


def test_a_good_exercise_passes():
    assert all_exercises(good()) == ([("1", "1")], [])


def test_its_outputs_are_what_try_check_prints(capsys):
    """The lines asked for above are those that a run gives, so nbval compares what is meant."""
    space = {"exercises": exercises}
    for cell in good().cells:
        if cell.cell_type == "code":
            exec(compile(cell.source, cell.get("id"), "exec"), space)
            assert capsys.readouterr().out == printed(cell)


def test_an_unexplained_failure_is_told_apart(capsys, tmp_path):
    (file := tmp_path / "cell.py").write_text(BARE)
    exec(compile(BARE, str(file), "exec"), space := {"exercises": exercises})
    exercises.try_check(space["check_double"], lambda x: x)
    assert "not yet: double it: this does not hold" in capsys.readouterr().out


@pytest.mark.parametrize(
    "place, part, value, complaint",
    [
        (3, "text", "passed: double it\n", "the stub does not fail"),
        (3, "text", "not yet: double it: \n", "the stub does not fail"),
        (3, "text", "not yet: double it: this does not hold: answer(3) == 6\n", "not explained"),
        (6, "text", "not yet: double it: twice 3 is not 5\n", "the solution does not pass"),
        (6, "text", "passed: halve it\n", "the solution does not pass"),
        (3, "tags", ["nbval-ignore-output"], "not compare the first try"),
        (6, "tags", ["nbval-ignore-output"], "not compare the second try"),
        (6, "tags", ["nbval-skip"], "not compare the second try"),
        (6, "execution_count", None, "not compare the second try"),
        (5, "tags", [], "the cells from here on"),
        (2, "tags", [], "the cells from here on"),
        (1, "tags", [], "outside an exercise"),
        (5, "source", "def twice(x):\n    return 2 * x", "the solution does not define double"),
        (2, "source", "pass", "the stub does not define double"),
        (6, "source", "_ = exercises.try_check(check_double, twice)", "both tries"),
        (6, "source", "print('passed: double it')", "the cells from here on"),
        (1, "source", CHECK.replace("check_double", "check_other"), "both tries"),
        (
            1,
            "source",
            CHECK.replace("@exercises.check", "@check"),
            "0 functions have the decorator",
        ),
        (1, "source", BARE, "asserts without a message"),
        (1, "source", BARE.replace("assert", "return"), "asserts nothing"),
        (0, "source", "Double it", "no card"),
        (0, "source", "### Exercise 1.1 · Double it\n\nTwice as much, please.", "no card"),
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
    _, found = all_exercises(notebook)
    assert any(re.search(complaint, one) for one in found), found


@pytest.mark.parametrize("gone", [2, 3, 5, 6])
def test_a_missing_cell_is_found(gone):
    notebook = good()
    del notebook.cells[gone]
    assert all_exercises(notebook)[1]


# ---- the module's try_check


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
def test_try_check(answer, said, capsys):
    assert exercises.try_check(counts, answer) is said.startswith("passed")
    assert capsys.readouterr().out == said


def test_try_check_shows_where_the_readers_code_broke(capsys):
    def answer(n):
        return n[0]

    assert exercises.try_check(counts, answer) is False
    line = answer.__code__.co_firstlineno + 1
    said = capsys.readouterr().out
    assert said.startswith("not yet: count to n: TypeError: 'int' object is not")
    assert said.endswith(f"(line {line}: return n[0])\n")
