"""What holds of the repository as a whole: one list of packages, floors kept, no machine's paths."""

import ast
import json
import re
import shutil
import subprocess
import tomllib
from statistics import fmean, stdev

import pytest
import yaml
from conftest import ROOT

from minialbert import batch, lab, paper

MODULES = sorted(path for path in (ROOT / "minialbert").glob("*.py") if path.stem != "__init__")
PARAMETER_FILES = sorted((ROOT / "notebooks/params").glob("**/*.yaml"))


def text(name) -> str:
    return (ROOT / name).read_text(encoding="utf8")


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


# ---- commands

TARGETS = ["run", "test", "lab", "figures", "refresh", "bench", "clean"]


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
    "sst2": "SST-2, accuracy; 6,400 rows",
    "mrpc": "MRPC, F1",
    "cola": "CoLA, Matthews",
    "qnli": "QNLI, accuracy; 2,000 rows",
    "mnli_matched": "MNLI matched, accuracy; 3,000 rows",
    "ncbi_disease": "NCBI-disease, F1 of entities",
    "bc5cdr_chem": "BC5CDR-chem, F1 of entities",
}
SYSTEMS = ("teacher", "long student", "student", "same start", "random start")


def readme_row(task, records):
    cells = []
    for system in SYSTEMS:
        scores = [
            100 * one["score"]
            for one in records
            if one["task"] == task
            and one.get("protocol") in (None, "word")
            and one["system"] == system
        ]
        cells.append(
            (f"{fmean(scores):.1f}" if scores else "")
            + (f" ± {stdev(scores):.1f}" if len(scores) > 1 else "")
        )
    return f"| {MEASURED[task]} | {' | '.join(cells)} |"


def test_readmes_scores_are_the_stored_ones():
    files = [
        json.loads((ROOT / f"figures/data/{name}.json").read_text(encoding="utf8"))
        for name in ("glue", "ner")
    ]
    rows = [
        readme_row(task, [record for file in files for record in file["runs"]]) for task in MEASURED
    ]
    header = f"| percent | {' | '.join(SYSTEMS)} |\n|---|---|---|---|---|---|\n"
    assert header + "\n".join(rows) in text("README.md")


def stored_runs(name) -> dict:
    runs = json.loads((ROOT / f"figures/data/{name}.json").read_text(encoding="utf8"))["runs"]
    return {one["system"]: one for one in runs}


def test_readmes_run_is_the_stored_one():
    found = stored_runs("lab")
    names = ("hidden", "attention_row", "masked_accuracy", "similarity")
    shown = [" ".join(line.split()) for line in text("README.md").splitlines()]
    for system in found:  # a teacher is no distance from itself
        assert " ".join([system, *(f"{found[system].get(name, 0):.3f}" for name in names)]) in shown
    longer = stored_runs("long")["student"]
    assert f"hidden loss {longer['hidden']:.3f}, similarity {longer['similarity']:.3f}" in " ".join(
        text("README.md").split()
    )


def test_license_is_the_one_declared():
    assert "Apache License" in text("LICENSE") and "Version 2.0" in text("LICENSE")
    assert tomllib.loads(text("pyproject.toml"))["project"]["license"] == "Apache-2.0"


def test_ci_runs_the_tests():
    assert (ROOT / ".ci/run").stat().st_mode & 0o111 and text(".ci/run").endswith(
        "exec make test\n"
    )


# ---- nothing of a machine

FORBIDDEN = {
    "a machine's path": r"(?<![\w.])/(?:work|root|home/\w+|tmp/\w+|Users/\w+)/|file:/{3}",
    "a registry's host": r"\b(?:pypi|pythonhosted|download\.pytorch|conda\.anaconda)\.org|registry\.npmjs",
    "code from the Hub": r"trust_remote_code\s*=\s*True",
}


@pytest.mark.parametrize(
    "what, line",
    [
        ("a machine's path", "cd /home/me/minialbert"),
        ("a machine's path", "file:///data"),
        ("a machine's path", '"/work/main/a.py"'),
        ("a registry's host", "https://pypi.org/simple"),
        ("code from the Hub", "from_pretrained(name, trust_remote_code = True)"),
    ],
    ids=["home", "file", "work", "host", "hub"],
)
def test_the_patterns_find(what, line):
    assert re.search(FORBIDDEN[what], line)


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_file_names(what):
    found = []
    for path in committed():
        if (
            path.suffix not in {".png", ".gz", ".safetensors", ".npz", ".arrow"}
            and path.stat().st_size < 5e6
        ):
            for number, line in enumerate(
                path.read_text(encoding="utf8", errors="ignore").splitlines(), 1
            ):
                if "image/png" not in line and re.search(FORBIDDEN[what], line):
                    found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}")
    assert not found, f"{what}:\n" + "\n".join(found)


def test_loading_weights_runs_no_code():
    calls = [
        node
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf8")))
        if isinstance(node, ast.Call)
    ]
    assert not [
        call
        for call in map(ast.unparse, calls)
        if call.startswith(("torch.load(", "pickle.load")) and "weights_only=True" not in call
    ]


# ---- parameter files


@pytest.mark.parametrize(
    "path", PARAMETER_FILES, ids=lambda path: f"{path.parent.name}-{path.stem}"
)
def test_parameter_file_fits_its_notebook(path):
    notebook = re.match(r"# notebook: (\w+)\n", path.read_text(encoding="utf8"))
    assert notebook, "the first line must name its notebook, as in '# notebook: 07_distil'"
    if "notebook" in (content := lab.read_mapping(path)):  # a plan: each of its runs is checked
        assert content["notebook"] == notebook[1] and batch.read_plan(path)
    else:
        lab.read_parameters(
            path, lab.notebook_parameters(ROOT / "notebooks" / f"{notebook[1]}.ipynb")
        )


@pytest.mark.parametrize("table, plan", [(paper.TABLE_1, "glue"), (paper.TABLE_2, "ner")])
def test_every_row_of_a_table_can_be_run(table, plan):
    path = ROOT / f"notebooks/params/paper/{plan}.yaml"
    tasks = {
        task.replace("mnli_matched", "mnli").replace("mnli_mismatched", "mnli")
        for row in table.values()
        for task in row.scores
    }
    runs = {run.name: run.parameters for run in batch.read_plan(path)}
    assert set(runs) == {f"{key},task={task}" for key in table for task in tasks}
    for key, row in table.items():
        for task in tasks:
            ((system, fields),) = runs[f"{key},task={task}"]["systems"].items()
            assert system == key and fields.get("tuning", "full") == row.tuning
            assert (
                fields.get("num_iterations", row.iterations) == row.iterations
                or "albert" not in fields["model"]
            )
            assert ("adapters" in fields) == (row.adapters == "added")
            assert row.hub in (None, fields["model"]) or "minialbert" in key


# ---- the house

FLOORS = [
    "configuration",
    "sources",
    "lab",
    "modeling",
    "published",
    "losses",
    "corpus",
    "training",
    "tasks",
    "distillation",
    "finetuning",
    "attention",
    "figures",
    "paper",
    "batch",
]
STRANGERS = {
    ("sources", "configuration"),
    ("lab", "configuration"),
    ("losses", "modeling"),
    ("losses", "published"),
    ("corpus", "modeling"),
    ("corpus", "published"),
    ("distillation", "tasks"),
    ("finetuning", "distillation"),
    ("attention", "distillation"),
    ("attention", "finetuning"),
}  # below, yet none of their business


def imported(source) -> set:
    """The rooms a room imports from, however it writes it."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = "minialbert." * bool(node.level) + (node.module or "")
            names = [f"{base.rstrip('.')}.{alias.name}" for alias in node.names]
        else:
            continue
        found |= {name.split(".")[1] for name in names if name.startswith("minialbert.")}
    return found


def trespasses(room, source) -> list:
    if room not in FLOORS:
        return [f"{room} has no floor: give it one in FLOORS"]
    below = FLOORS[: FLOORS.index(room)]
    return [
        f"{room} imports {other}"
        for other in sorted(imported(source))
        if other not in below or (room, other) in STRANGERS
    ]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_a_room_imports_only_from_below(path):
    assert not trespasses(path.stem, path.read_text(encoding="utf8"))


@pytest.mark.parametrize(
    "room, source",
    [
        ("losses", "from .corpus import windows"),
        ("losses", "from . import modeling"),
        ("losses", "def f():\n    import minialbert.batch"),
        ("losses", "from minialbert import tasks"),
        ("attention", "from minialbert.finetuning import evaluate"),
        ("attic", ""),
    ],
)
def test_trespass_is_seen(room, source):
    assert trespasses(room, source)
    assert not trespasses(
        "batch", "import torch\nfrom . import lab\nfrom minialbert.tasks import task"
    )


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_public_names_have_docstrings(path):
    tree = ast.parse(path.read_text(encoding="utf8"))
    mute = [
        node.name
        for node in tree.body
        if isinstance(node, (ast.FunctionDef, ast.ClassDef))
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
    ]
    assert ast.get_docstring(tree) and not mute
