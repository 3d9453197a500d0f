"""What holds of the repository as a whole: one list of packages, two wings, no machine's paths."""

import ast
import csv
import os
import re
import shutil
import subprocess
import sys
import tomllib
from statistics import fmean, stdev

import pytest
import yaml
from conftest import ROOT

from minialbert.lab import ledger, paper, plans
from minialbert.lab.parameters import check, notebook_parameters, read_yaml
from minialbert.lab.refresh import read_notebook
from minialbert.lab.run import load

METHOD = sorted((ROOT / "minialbert").glob("*.py"))
WING = sorted((ROOT / "minialbert/lab").glob("*.py"))
METHOD_MOST, WING_MOST, FILE_MOST = 3810, 2550, 400  # lines; the plan: 2200, 1500, 400
BEYOND = {"early_exit.py", "quantisation.py"}  # the paper: a room a chapter, below 200 lines each
PARAMETER_FILES = sorted((ROOT / "notebooks/params").glob("**/*.yaml"))


def text(name) -> str:
    return (ROOT / name).read_text(encoding="utf8")


def course() -> list:
    """The rows of chapters.csv."""
    return list(csv.DictReader(text("minialbert/lab/chapters.csv").splitlines()))


def committed() -> list:
    """Files git knows or would add."""
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        pytest.skip("needs git and a checkout: which files belong to the project is git's to say")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


# ---- packages


def package(requirement) -> str:
    """dask[distributed]>=1 -> dask"""
    return re.match(r"[\w.-]+", requirement)[0].lower().replace("_", "-")


def wanted() -> set:
    """The direct dependencies of pyproject.toml, extras included."""
    project = tomllib.loads(text("pyproject.toml"))["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    return {package(one) for group in groups for one in group} - {"minialbert"}


def test_environment_lists_what_pyproject_does():
    lines = yaml.safe_load(text("environment.yml"))["dependencies"][-1]["pip"]
    assert lines[0] == "-c constraints.txt" and lines[-1] == "-e .[all]"
    assert {package(line) for line in lines if not line.startswith("-")} == wanted()


def test_environment_says_why_each_is_there():
    lines = [
        line for line in text("environment.yml").splitlines() if re.match(r"      - (?!-c )", line)
    ]
    assert len(lines) > 20 and not [line for line in lines if " # " not in line]


def test_all_brings_every_extra():
    extras = tomllib.loads(text("pyproject.toml"))["project"]["optional-dependencies"]
    (all_of_them,) = extras.pop("all")
    assert set(re.findall(r"[a-z]+", all_of_them.partition("[")[2])) == set(extras)


def test_constraints_pin_every_direct_dependency():
    lines = [
        line for line in text("constraints.txt").splitlines() if line and not line.startswith("#")
    ]
    assert all(re.fullmatch(r"[\w.-]+==[\d.]+", line) for line in lines), "exact, and without +cpu"
    assert {package(line) for line in lines} == wanted()


def test_version_is_said_once():
    version = re.search(r'__version__ = "(.+)"', text("minialbert/__init__.py"))[1]
    assert yaml.safe_load(text("CITATION.cff"))["version"] == version


# ---- commands and style


@pytest.mark.parametrize("words", [["format", "--check"], ["check"]], ids=" ".join)
def test_ruff_is_content(words):
    pytest.importorskip("ruff", reason="needs ruff: pip install -e '.[tests]'")
    command = [sys.executable, "-m", "ruff", *words, "--no-cache"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


TARGETS = ["taste", "run", "test", "runs", "lab", "figures", "refresh", "site", "bench", "clean"]


@pytest.mark.skipif(not shutil.which("make"), reason="needs make")
@pytest.mark.parametrize("target", TARGETS)
def test_make_knows(target):
    shown = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    told = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True)
    assert re.search(rf"^  make {target} +\S", told.stdout, re.M)


def test_readme_shows_every_picture_and_says_what_it_shows():
    shown = re.findall(r"!\[([^]]*)\]\((\S+?)\)", text("README.md"))
    assert "<img" not in text("README.md") and all(len(alt) > 20 for alt, _ in shown)
    assert sorted(file for _, file in shown) == sorted(
        f"figures/{path.name}" for path in (ROOT / "figures").glob("*.png")
    )


MEASURED = {  # task: its name and score in README's table, in this order; each from a stored result
    "stsb": "STS-B, Pearson",
    "sst2": "SST-2, accuracy; 4,000 rows",
    "mrpc": "MRPC, F1",
    "qnli": "QNLI, accuracy; 3,000 rows",
    "mnli_matched": "MNLI, accuracy; 6,000 rows",
    "cola": "CoLA, Matthews",
    "ncbi_disease": "NCBI-disease, F1 of entities",
    "bc5cdr_chem": "BC5CDR-chem, F1 of entities",
}
SYSTEMS = ("teacher", "shipped student", "student", "same start", "random start")


def readme_row(task, runs):
    records = [record for run in runs for record in run["records"]]
    cells = []
    for system in SYSTEMS:
        scores = [
            100 * one["score"]
            for one in records
            if (one.get("task"), one.get("system")) == (task, system)
            and one.get("protocol") in (None, "word")
        ]
        mean = f"{fmean(scores):.1f}" if scores else ""
        cells.append(mean + (f" ± {stdev(scores):.1f}" if len(scores) > 1 else ""))
    run = next(run for run in runs if any(one.get("task") == task for one in run["records"]))
    guess = run["baselines"]["dictionary"] if "baselines" in run else run["cheapest_guess"]
    cells.append(f"{100 * next(iter(guess.values())):.1f}")
    return f"| {MEASURED[task]} | {' | '.join(cells)} |"


def stored(notebook) -> dict:
    """{file name: its record} of a notebook's stored results."""
    found = load(ROOT / "figures/data", notebook=notebook)
    return {os.path.basename(one["file"]).partition(".")[0]: one for one in found}


def test_readmes_scores_are_the_stored_ones():
    runs = [*stored("09_glue").values(), *stored("10_biomedical_ner").values()]
    rows = "\n".join(readme_row(task, runs) for task in MEASURED)
    header = f"| percent | {' | '.join(SYSTEMS)} | no model |\n|---|---|---|---|---|---|---|\n"
    assert header + rows in text("README.md")


def test_readmes_run_is_the_stored_one():
    run = {one["system"]: one for one in stored("07_distil")["lab"]["records"]}
    names = ("hidden", "attention_row", "similarity")
    shown = [" ".join(line.split()) for line in text("README.md").splitlines()]
    for system in run:  # a teacher is no distance from itself
        assert " ".join([system, *(f"{run[system].get(name) or 0:.3f}" for name in names)]) in shown


def test_readme_says_in_words_what_is_stored():
    runs = stored("09_glue")
    words = " ".join(text("README.md").split())
    distilled = stored("07_distil")
    untuned = {one["system"]: one["similarity"] for one in distilled["lab"]["records"]}
    found = {one["system"]: one for one in distilled["shipped"]["records"]}
    untuned["shipped student"] = found["student"]["similarity"]
    records = runs["glue-stsb"]["records"] + runs["glue-stsb-shipped"]["records"]
    for system in SYSTEMS:
        tuned = fmean(one["score"] for one in records if one["system"] == system)
        assert f"{system} {untuned[system]:.2f} and {tuned:.2f}" in words


def test_the_words_on_ablations_are_what_is_stored():
    """Of README, its picture's words, and notebook 12's paragraph."""
    runs = ledger.load_results(ROOT / "figures/data")
    runs = [one for one in runs if one["run"]["parameters"].get("steps") == 960]

    def change(task, of, minus=("both", "published")):
        sides = [dict(zip(("variant", "reduction"), pair)) for pair in (of, minus)]
        found = [ledger.scores_of(runs, {"task": task, **side}) for side in sides]
        effect = ledger.measure_effect(*found)
        return f"{100 * effect.value:+.1f}", f"{100 * effect.half:.1f}"

    readme = " ".join(text("README.md").split())
    value, half = change("stsb", ("both", "row"), ("hidden", "published"))
    told = f"{value.lstrip('+')} ± {half} points"
    assert told in readme and told in text("notebooks/12_ablations.ipynb")
    value, half = change("stsb", ("relations", "published"), ("hidden", "published"))
    assert f"like MiniLMv2's {value.lstrip('+')} ± {half}" in readme
    variants = {
        "hidden states alone": ("hidden", "published"),
        "maps alone": ("attention", "published"),
        "maps alone by a row's KL": ("attention", "row"),
        "both by a row's KL": ("both", "row"),
        "states and relations": ("relations", "published"),
        "no alignment": ("start", "published"),
    }
    untuned = [f"{name} {change('similarity', of)[0]}" for name, of in variants.items()]
    assert ", ".join(untuned) in readme
    assert ", ".join(change("stsb", of)[0] for of in variants.values()) in readme
    films = [float(change("rotten_tomatoes", of)[0]) for of in variants.values()]
    assert f"between {min(films)} and {max(films)}" in readme


def test_the_rows_beyond_the_paper_are_what_is_stored():
    """Of README, on chapters 15 and 16: each seed against the same seed, mean and deviation."""
    runs = ledger.load_results(ROOT / "figures/data")

    def scores(task, metric="score", **wanted):
        return ledger.scores_of(runs, {"task": task, **wanted}, metric)[task]

    def told(numbers, form):
        return f"{fmean(numbers):{form}} ± {stdev(numbers):{form.lstrip('+')}}"

    def points(task, of, minus):
        of, minus = scores(task, **of), scores(task, **minus)
        assert len(of) == len(minus) == 3
        return told([100 * (of[seed] - minus[seed]) for seed in of], "+.1f")

    two = ("rotten_tomatoes", "stsb")
    every = {"way": "all", "iterations": 3, "head_pooling": "mean", "policy": "fixed", "setting": 2}
    usual, depth = every | {"way": "usual", "setting": 3}, every | {"way": "depth"}
    sure = {name: every[name] for name in ("way", "iterations", "head_pooling")}
    sure |= {"policy": "chosen confidence"}
    fewer = {
        told([1 / share for share in scores(task, "operations", **every).values()], ".2f")
        for task in two
    }
    assert fewer == {"1.49 ± 0.00"} and "all: 1.49 times fewer operations" in text("README.md")
    films = [points("rotten_tomatoes", of, usual) for of in (every, sure)]
    pairs = [points("stsb", of, usual) for of in (every, depth)]
    share = scores("rotten_tomatoes", "operations", **sure)
    saved = told([1 / one for one in share.values()], ".2f")
    bytes_lost = [points(task, {"form": "int8"}, {"form": "fp32"}) for task in two]
    sizes = {one["form"]: one["file_mb"] for one in runs if one.get("model") == "student"}
    rows = [
        f"fewer operations | {films[0]} | {pairs[0]}, or {pairs[1]} tuned with a random depth |",
        f"| leaves when its answer is sure: {saved} times fewer | {films[1]} |",
        f"| one byte a weight: {sizes['ONNX fp32']:.1f} MB become {sizes['ONNX int8']:.1f} |"
        f" {bytes_lost[0]} | {bytes_lost[1]} |",
    ]
    assert not [row for row in rows if row not in text("README.md")], rows


@pytest.mark.parametrize("chapter", course(), ids=lambda chapter: chapter["notebook"][:2])
def test_minutes_to_read_are_reckoned(chapter):
    """150 words or 12 lines of code a minute, as 00 says, to five minutes."""
    cells = read_notebook(ROOT / f"notebooks/{chapter['notebook']}.ipynb").cells
    words = sum(len(cell.source.split()) for cell in cells if cell.cell_type == "markdown")
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    lines = sum(bool(line.strip()) for line in code.splitlines())
    assert abs(int(chapter["read"]) - (words / 150 + lines / 12)) <= 5
    if chapter["notebook"][:2] != "00":
        assert f"about {chapter['read']} minutes to read" in cells[0].source


def test_the_shipped_students_card_says_what_is_stored():
    shipped = {one["system"]: one for one in stored("07_distil")["shipped"]["records"]}
    told = {name: f"{shipped['student'][name]:.3f}" for name in ("similarity", "hidden")}
    card = text("minialbert/students/minialbert-lab/README.md")
    assert f"| STS-B validation | {told['similarity']} |" in card
    assert f"hidden loss (1 - cosine) {told['hidden']}" in " ".join(card.split())
    assert f"similarity {told['similarity']}" in text("README.md")


def test_license_is_the_one_declared():
    assert "Apache License" in text("LICENSE") and "Version 2.0" in text("LICENSE")
    assert tomllib.loads(text("pyproject.toml"))["project"]["license"] == "Apache-2.0"


def test_ci_runs_the_tests():
    assert (ROOT / ".ci/run").stat().st_mode & 0o111
    assert text(".ci/run").endswith("exec make test\n")


# ---- nothing of a machine

FORBIDDEN = {
    "a machine's path": r"(?<![\w.])/(?:work|root|home/\w+|tmp/\w+|Users/\w+)/|file:/{3}",
    "a registry's host": (
        r"\b(?:pypi|pythonhosted|download\.pytorch|conda\.anaconda)\.org|registry\.npmjs"
    ),
}


@pytest.mark.parametrize(
    "what, line",  # ~ for /, lest this file itself be found
    [
        ("a machine's path", "cd ~home~me~minialbert"),
        ("a machine's path", "file:~~~data"),
        ("a machine's path", '"~work~main~a.py"'),
        ("a registry's host", "https:~~pypi.org~simple"),
    ],
    ids=["home", "file", "work", "host"],
)
def test_the_patterns_find(what, line):
    assert re.search(FORBIDDEN[what], line.replace("~", "/"))


BINARY = {".png", ".gz", ".safetensors", ".npz", ".arrow"}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_file_names(what):
    found = []
    for path in committed():
        if path.suffix in BINARY or path.stat().st_size > 5e6 or path.name == "test_repository.py":
            continue
        lines = path.read_text(encoding="utf8", errors="ignore").splitlines()
        for number, line in enumerate(lines, 1):
            if "image/png" not in line and re.search(FORBIDDEN[what], line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}")
    assert not found, f"{what}:\n" + "\n".join(found)


def test_loading_weights_runs_no_code():
    calls = [
        ast.unparse(node)
        for path in METHOD + WING
        for node in ast.walk(ast.parse(path.read_text(encoding="utf8")))
        if isinstance(node, ast.Call)
    ]
    for call in calls:
        assert not call.startswith(("torch.load(", "pickle.load")) or "weights_only=True" in call
        assert "trust_remote_code=True" not in call


# ---- parameter files


@pytest.mark.parametrize(
    "path", PARAMETER_FILES, ids=lambda path: f"{path.parent.name}-{path.stem}"
)
def test_parameter_file_fits_its_notebook(path):
    """A plan's runs are checked as `read_plans` reads them."""
    notebook = re.match(r"# notebook: (\w+)\n", path.read_text(encoding="utf8"))
    assert notebook, "the first line must name its notebook, as in '# notebook: 07_distil'"
    content = read_yaml(path)
    if "notebook" in content:
        assert content["notebook"] == notebook[1]
    else:
        check(content, notebook_parameters(ROOT / f"notebooks/{notebook[1]}.ipynb"))


@pytest.mark.parametrize("number", [1, 2])
def test_every_row_of_a_table_can_be_run(number):
    """On every task, as the table says that the row was made."""
    table, columns = paper.table(number), paper.GLUE if number == 1 else paper.NER
    tasks = {name.removesuffix("_matched").removesuffix("_mismatched") for name in columns}
    prefix = f"paper/table{number}/"
    runs = {name: run for name, run in plans.read_plans(ROOT).items() if name.startswith(prefix)}
    authors = {name for name in runs if "/published-" in name}  # the checkpoint of rows 12 and 17
    rows = [key for key in table.index if key != "distilbert-base"]  # which nobody can make
    made = {f"{prefix}{key},task={task}" for key in rows for task in tasks}
    assert set(runs) == made | authors and len(authors) == 2 * len(tasks)
    for name in made:
        run = runs[name]
        ((key, system),) = run.parameters["systems"].items()
        row = table.loc[key]
        assert run.row == prefix + key
        assert system.get("tuning", "full") == row["tuning"]
        assert ("adapters" in system) == (row["adapters"] == "added")
        if "albert" in system["model"]:
            assert system.get("num_iterations", row["iterations"]) == row["iterations"]
        assert row.isna()["hub"] or row["hub"] == system["model"] or "minialbert" in key


# ---- the house


def lines(files) -> int:
    return sum(len(path.read_text(encoding="utf8").splitlines()) for path in files)


def test_the_house_stays_small():
    """As `ruff format` leaves it."""
    rooms = [path for path in METHOD if path.name in BEYOND]
    method, wing = lines(METHOD) - lines(rooms), lines(WING)
    print(f"the method has {method} lines, the lab {wing}")
    assert method <= METHOD_MOST and wing <= WING_MOST
    assert max(lines([path]) for path in rooms) < 200
    assert not [path.name for path in METHOD if lines([path]) > FILE_MOST]


def imported(source) -> set:
    """Full names of what a file of the method imports, however it is written."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ["minialbert"] * bool(node.level) + [node.module] * bool(node.module)
            found |= {".".join([*base, alias.name]) for alias in node.names}
    return found


def of_the_lab(source) -> list:
    return [name for name in imported(source) if f"{name}.".startswith("minialbert.lab.")]


@pytest.mark.parametrize("path", METHOD, ids=lambda path: path.stem)
def test_the_method_imports_nothing_of_the_lab(path):
    assert not of_the_lab(path.read_text(encoding="utf8"))


@pytest.mark.parametrize(
    "source",
    [
        "from .lab import run",
        "from .lab.run import Run",
        "from . import lab",
        "def f():\n    import minialbert.lab.run",
        "from minialbert import lab",
    ],
)
def test_an_import_of_the_lab_is_seen(source):
    assert of_the_lab(source)
    assert not of_the_lab("from . import tasks\nimport torch\nfrom .labels import lab")


def test_everything_can_be_imported_on_windows():
    """What only some systems have is imported, or called, within a function that asks first."""
    found = []
    for path in METHOD + WING:
        tree = ast.parse(path.read_text(encoding="utf8"))
        outside = [node for node in tree.body if not isinstance(node, ast.FunctionDef)]
        names = imported(ast.unparse(ast.Module(outside, [])))
        found += [(path.name, name) for name in names & {"resource", "fcntl", "pwd", "termios"}]
        calls = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        found += [(path.name, name) for name in calls & {"os.killpg", "os.fork", "os.setsid"}]
    assert not found


@pytest.mark.parametrize("path", METHOD + WING, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_public_names_have_docstrings(path):
    """But for exact checks: the claims that name them say what they are."""
    tree = ast.parse(path.read_text(encoding="utf8"))
    claims = text("minialbert/lab/claims.yaml")
    mute = [
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
        and not (path.stem == "paper" and re.search(rf"\b{node.name}\b", claims))
    ]
    assert ast.get_docstring(tree) and not mute
