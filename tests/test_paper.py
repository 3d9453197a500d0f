"""The paper's numbers against themselves, and verdicts that follow the stored results."""

import copy
import json
import math
import re
import shlex
import shutil
from collections import Counter

import pytest
from conftest import ROOT
from minialbert.paper import (
    CLAIMS,
    GLUE,
    NER,
    TABLE_1,
    TABLE_2,
    TABLE_3,
    TABLE_4,
    Beyond,
    Effect,
    Exact,
    Measured,
    ResultError,
    average,
    judge,
    ledger,
    load_results,
    measure_effect,
    operations,
    parameters,
)

from minialbert import batch, lab, paper, tasks

ROWS = [*TABLE_1.values(), *TABLE_2.values()]
VERDICTS = {"exact", "slip", "agrees here", "disagrees here", "needs a run"}


# ---- the tables


@pytest.mark.parametrize(
    "rows, first, last",
    [
        (TABLE_1, "| BERT-base", "| MiniALBERT128†"),
        (TABLE_2, "| DistilBioBERT", "| BioMiniALBERT128†"),
    ],
    ids=["1", "2"],
)
def test_digits_are_the_papers(shared, rows, first, last):
    lines = (shared / "paper/paper-text.txt").read_text(encoding="utf8").splitlines()
    names = [line.partition(" |")[0] for line in lines]
    printed = lines[names.index(first) : names.index(last) + 1]
    assert len(printed) == len(rows) == 17
    for row, line in zip(rows.values(), printed):
        numbers = [
            None if word == "N/A" else float(word) for word in re.findall(r"\d+\.\d\d\b|N/A", line)
        ]
        assert [*row.scores.values(), row.average] == numbers
        assert row.parameters == float(re.search(r"([\d.]+)M", line)[1])
        name = row.name.partition(",")[0] + (str(row.rank) if "Mini" in row.name else "")
        assert re.sub(r"\W", "", line.split("|")[1]) == re.sub(r"\W", "", name)
        assert ("†" in line) == (row.tuning == "adapter") and ("∗" in line) == (
            row.adapters == "added"
        )


def test_digits_of_tables_3_and_4(shared):
    text = (shared / "paper/paper-text.txt").read_text(encoding="utf8")
    label = r"(?:\w+-Only|No-Alignment|Full-rank|Factorised)(?: \+ Loss)?"
    found = re.findall(rf"^\| {label} \| ([-\d.]+) \|", text, re.M)
    assert [float(number) for number in found] == [*TABLE_3.values(), *TABLE_4.values()]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.key)
def test_averages_are_recomputed(row):
    """Cut, not rounded; the two rows with N/A count it as 0."""
    assert average(row, "zero") == row.average
    assert (average(row) == row.average) == (None not in row.scores.values())


def test_average_cuts():
    assert average(TABLE_1["bert-base"]) == 83.81  # 83.8188...
    assert average(TABLE_1["minialbert-768-adapters-added"]) == 76.78


def test_rows_say_what_they_are():
    assert len({row.key for row in ROWS}) == len({row.name for row in ROWS}) == 34
    assert [row.number for row in TABLE_2.values()] == list(range(1, 18))
    assert all(
        tuple(row.scores) == columns
        for rows, columns in ((TABLE_1, GLUE), (TABLE_2, NER))
        for row in rows.values()
    )
    smallest = TABLE_1["minialbert-128"]
    assert (
        smallest.name == "MiniALBERT, rank 128, adapters" and smallest.hub == "nlpie/miniALBERT-128"
    )
    assert (smallest.rank, smallest.iterations) == (128, 6)
    assert (smallest.adapters, smallest.tuning) == ("pre-trained", "full")
    added = TABLE_2["biominialbert-312-adapters-added"]
    assert added.name == "BioMiniALBERT, rank 312, adapters added, adapter tuning"
    assert added.scores["bc2gm"] == 84.65
    assert TABLE_1["minialbert-312-adapters-added"].scores["cola"] is None
    assert TABLE_1["albert-12"].iterations == 12 and TABLE_1["tinybert"].iterations is None
    assert (
        paper.HYPERPARAMETERS[6]["steps"] == 100_000
        and paper.HYPERPARAMETERS[8]["learning_rate"] is None
    )


# ---- what needs no training


@pytest.mark.parametrize(
    "rank, adapters, count",
    [
        (768, False, 30_925_056),
        (768, True, 31_838_016),
        (312, False, 17_012_112),
        (312, True, 17_925_072),
        (128, True, 12_072_768),
        (128, False, 11_159_808),
    ],
)
def test_parameters_of_the_students(rank, adapters, count):
    assert parameters(rank, adapters) == count
    assert parameters(rank, adapters, vocabulary=28996) == count - (30522 - 28996) * rank


def test_parameters_are_those_of_the_models():
    import torch
    from transformers import BertConfig, BertModel

    from minialbert import MiniAlbertConfig, MiniAlbertModel

    def count(model):
        return sum(weight.numel() for weight in model.parameters())

    sizes = dict(vocab_size=99, hidden_size=32, intermediate_size=48, num_attention_heads=2)
    shape = dict(vocabulary=99, hidden=32, inner=48)
    with torch.device("meta"):
        student = MiniAlbertModel(MiniAlbertConfig(embedding_size=8, num_hidden_layers=3, **sizes))
        bert = BertModel(BertConfig(num_hidden_layers=4, **sizes))
    assert parameters(8, True, iterations=3, **shape) == count(student)
    assert parameters(32, layers=4, pooler=True, **shape) == count(bert)


def test_operations():
    assert operations(rank=768, adapters=False) == 6 * (4 * 768**2 + 2 * 768 * 3072)
    assert operations() - operations(adapters=False) == 12 * 2 * 768 * 48


def test_columns_are_called_as_the_tasks_are():
    assert GLUE == tasks.GLUE_COLUMNS and set(NER) <= set(tasks.TASKS)


def test_the_papers_slips_have_their_rows():
    slips = {entry.id: entry.effect for entry in ledger() if entry.verdict == "slip"}
    assert set(slips) == {
        "table 1: baseline sizes",
        "table 1: minialbert-768-adapters-added average",
        "table 1: minialbert-312-adapters-added average",
        "table 2: baseline sizes",
        "table 2: biominialbert-768-plain size",
        "table 2: biominialbert-768 size",
        "table 2: biominialbert-312 size",
    }
    assert slips["table 2: biominialbert-768-plain size"] == "29,753,088"
    assert slips["table 1: minialbert-312-adapters-added average"].startswith("76.51 ")


def test_exact_claims_say_what_came_out():
    effects = {entry.id: entry.effect for entry in ledger() if entry.verdict == "exact"}
    assert effects["discussion: major drop"].startswith("-6.21, -6.25, -1.62, -2.03 ")
    assert effects["discussion: capacity"].startswith(
        "+1.07, +1.13, +0.38, +0.18; in 20 of 26 columns"
    )
    assert effects["embedding ablation: printed"] == "-0.77, -0.17"
    assert effects["discussion: margin"].endswith("+0.72, +1.54")
    assert "best compact baseline: -1.70, -0.37;" in effects["conclusion: competitive"]
    assert effects["discussion: speed"] == "by operations at most 1.48 times"


# ---- effect and agreement


def test_effect_of_one_task():
    found = measure_effect({"a": [3.0, 5.0, 7.0]}, {"a": [1.0, 3.0]})
    pooled = (8 + 2) / 3  # squared deviations over 2 + 1 degrees of freedom
    assert found.value == pytest.approx(3) and found.seeds == 2
    assert found.error == pytest.approx(math.sqrt(pooled / 3 + pooled / 2))


def test_effect_over_tasks_and_of_a_value_alone():
    both = measure_effect({"a": [1.0, 3.0], "b": [10.0, 14.0]})
    assert both.value == 7 and both.error == pytest.approx(math.sqrt(2 / 2 + 8 / 2) / 2)


def test_one_seed_tells_no_spread():
    assert measure_effect({"a": [0.9]}, {"a": [0.1]}).error == math.inf
    with_one = measure_effect(
        {"a": [1.0, 3.0], "b": [10.0, 14.0], "c": [5.0]}
    )  # c borrows b's variance, 8
    assert with_one.error == pytest.approx(math.sqrt(2 / 2 + 8 / 2 + 8) / 3) and with_one.seeds == 1
    assert measure_effect({"a": [0.9]}, {"a": [0.1]}, noise=0.3).error == pytest.approx(
        0.3 * math.sqrt(2)
    )
    assert measure_effect({"a": [0.9, 0.7]}, {"a": [0.1]}).error < 1
    assert judge(Effect(0.8, math.inf, 1)) == "needs a run"


@pytest.mark.parametrize(
    "value, error, low, high, verdict",
    [
        (1.0, 0.49, 0, math.inf, "agrees here"),
        (1.0, 0.51, 0, math.inf, "needs a run"),
        (-1.0, 0.49, 0, math.inf, "disagrees here"),
        (-1.0, 0.51, 0, math.inf, "needs a run"),
        (-0.02, 0.004, -0.03, math.inf, "agrees here"),
        (1.05, 0.01, 0.9, 1.1, "agrees here"),
        (1.3, 0.01, 0.9, 1.1, "disagrees here"),
        (1.1, 0.01, 0.9, 1.1, "needs a run"),
        (0.0, 0.0, 0, 1, "disagrees here"),
        (math.nan, 0.1, 0, 1, "needs a run"),
    ],
)
def test_judge(value, error, low, high, verdict):
    assert judge(Effect(value, error, 3), low, high) == verdict


# ---- the ledger


def record(source, **fields):
    return {"source": source, "file": f"{source}.json", "budget": "9 steps"} | fields


def written(**wanted) -> dict:
    """Fields that fit what a claim wants."""
    return {
        name: value.replace("*", "-128")
        for name, value in wanted.items()
        if value not in ("*", None)
    }


def results_at(check: Measured, value: float) -> list[dict]:
    """Three seeds with hardly any spread whose effect is `value`."""
    base, found = 0.4, []
    for task in check.tasks or ("stsb", "rte"):
        for seed in range(3):
            sides = (
                [(check.of, value + base), (check.minus, base)]
                if check.minus
                else [(check.of, value)]
            )
            for wanted, score in sides:
                measured = {check.measure: score + seed * 1e-6}
                found.append(
                    record(check.source, task=task, seed=seed, **measured, **written(**wanted))
                )
    return found


def check_of(name):
    return next(claim.check for claim in CLAIMS if claim.id == name)


MEASURED = [
    claim for claim in CLAIMS if isinstance(claim.check, Measured) and not claim.check.derive
]


@pytest.mark.parametrize("claim", MEASURED, ids=lambda claim: claim.id)
def test_a_measured_claim_follows_its_results(claim):
    low, high = claim.check.low, claim.check.high
    inside = (max(low, high - 0.02) if math.isfinite(high) else low) + 0.01
    outside = [edge for edge in (low - 0.01, high + 0.01) if math.isfinite(edge)]
    assert outside
    for values, verdict in (([inside], "agrees here"), (outside, "disagrees here")):
        for value in values:
            results = results_at(claim.check, value)
            found = claim.check(results)
            assert (found["verdict"], found["seeds"], found["budget"]) == (verdict, 3, "9 steps")
            assert found["evidence"] == f"{claim.check.source}.json"
            elsewhere = [one | {"source": "elsewhere"} for one in results]
            assert claim.check(elsewhere) == {"verdict": "needs a run"}


def test_without_results_only_computation_decides():
    entries = ledger()
    assert {entry.verdict for entry in entries} == {"exact", "slip", "needs a run"}
    for claim, entry in zip(CLAIMS, entries):
        assert (entry.verdict == "needs a run") == (not isinstance(claim.check, Exact)), entry.id
        assert bool(entry.command) == (entry.verdict == "needs a run"), entry.id
        assert (entry.evidence == "computed") == isinstance(claim.check, Exact)
    commands = {entry.id: entry.command for entry in entries}
    assert commands["abstract: transfer"] == "make run"
    assert commands["table 1: minialbert-128 scores"] == (
        "python -m minialbert.batch plan notebooks/params/paper/glue.yaml --to runs/paper "
        "--only 'minialbert-128,*'"
    )


def test_no_claim_is_missing():
    assert len({claim.id for claim in CLAIMS}) == len(CLAIMS)
    assert Counter(claim.section for claim in CLAIMS) == {
        "abstract": 4,
        "contributions": 7,
        "method": 3,
        "discussion": 18,
        "alignment ablation": 6,
        "embedding ablation": 4,
        "conclusion": 2,
        "limitations": 7,
        "appendix C": 3,
        "table 1": 28,
        "table 2": 26,
        "table 3": 3,
        "table 4": 4,
    }
    scored = {
        claim.only.removeprefix(" --only '").removesuffix(",*'") for claim in CLAIMS if claim.only
    }
    assert scored == {row.key for row in ROWS}


def test_claims_are_in_our_words(shared):
    def plain(text):
        return re.sub(r"\W+", " ", text.lower())

    text = plain((shared / "paper/paper-text.txt").read_text(encoding="utf8"))
    for claim in CLAIMS:
        words = plain(claim.text).split()
        assert not [n for n in range(len(words) - 8) if " ".join(words[n : n + 9]) in text], (
            claim.text
        )


@pytest.fixture
def stored(tmp_path):
    """The stored result of `make run`, alone in a folder."""
    shutil.copy(ROOT / "figures/data/lab.json", tmp_path)
    return tmp_path / "lab.json"


def entry(name, *folders):
    return next(one for one in ledger(load_results(*folders)) if one.id == name)


def test_a_changed_result_changes_the_verdict(stored):
    content = json.loads(stored.read_text())
    student, start = (
        next(one for one in content["runs"] if one["system"] == name)
        for name in ("student", "same start")
    )
    before = entry("abstract: transfer", stored.parent)
    assert before.effect.startswith(f"{student['similarity'] - start['similarity']:.3g} ±")
    assert before.verdict == "agrees here" and before.seeds == 1 and not before.command
    assert before.evidence == stored.as_posix() and before.budget.startswith("950 steps, ")
    student["similarity"] = start["similarity"] - 0.1
    stored.write_text(json.dumps(content))
    assert entry("abstract: transfer", stored.parent).verdict == "disagrees here"
    content["manifest"]["status"] = "running"
    stored.write_text(json.dumps(content))
    assert entry("abstract: transfer", stored.parent).verdict == "needs a run"
    stored.unlink()
    after = entry("abstract: transfer", stored.parent)
    assert (after.verdict, after.evidence, after.command) == ("needs a run", "", "make run")


def test_the_committed_results_are_read():
    verdicts = {one.verdict for one in ledger(load_results(ROOT / "figures/data"))}
    assert verdicts <= VERDICTS and verdicts & {"agrees here", "disagrees here"}
    assert entry("abstract: transfer", ROOT / "figures/data").evidence == "figures/data/lab.json"


def test_too_few_seeds_are_no_verdict():
    check = Measured("glue", {"system": "student"}, {"system": "same start"})
    runs = [
        record("glue", task="stsb", system=system, seed=0, score=score)
        for system, score in (("student", 0.7), ("same start", 0.4))
    ]
    assert check(runs) == {
        "verdict": "needs a run",
        "effect": "30.00 points ± unknown: too few seeds",
        "seeds": 1,
        "budget": "9 steps",
        "evidence": "glue.json",
    }
    runs += [one | {"seed": 1, "score": one["score"] + 0.01} for one in runs]
    assert check(runs)["verdict"] == "agrees here"
    again = [one | {"score": one["score"] + 0.1} for one in runs if one["system"] == "student"]
    twice = check(runs + again)  # the mean of a seed's two scores, and still one seed
    assert twice["seeds"] == 2 and twice["effect"].startswith("35.00 points")
    runs[-1]["score"], runs[-2]["score"] = 0.9, 0.0  # a spread wider than the difference
    assert check(runs)["verdict"] == "needs a run" and check(runs)["effect"].endswith(": undecided")


def test_only_fitting_records_count():
    check = Measured("ner", {"system": "student"}, {"system": "same start"})
    runs = [
        record("ner", task="ncbi_disease", system=system, seed=seed, score=score + seed / 1000)
        for system, score in (("student", 0.7), ("same start", 0.4))
        for seed in (0, 1)
    ]
    other = [
        one | extra
        for one in runs
        for extra in (
            {"protocol": "published", "score": 0.9},
            {"chosen": False, "score": 0.0},
            {"tuning": "adapter", "score": 0.0},
            {"score": "nan"},
        )
    ]
    assert check(runs + other) == check(runs)
    assert check(runs)["effect"].startswith("30.00 points")


def test_all_tasks_must_be_there():
    check = check_of("table 1: minialbert-128 scores")
    runs = [
        record("paper/glue", task=task, row="minialbert-128", seed=42, score=score / 100)
        for task, score in TABLE_1["minialbert-128"].scores.items()
    ]
    assert check(runs)["effect"] == "79.92 points ± 0.60 points"
    assert check(runs)["verdict"] == "agrees here"
    assert check(runs[1:]) == {"verdict": "needs a run"}


def adapter_grid(adapter, full):
    """Scores of two tasks over a grid whose best learning rates are given."""
    return [
        record(
            "adapter_tuning",
            task=task,
            seed=0,
            tuning=tuning,
            learning_rate=rate,
            chosen=rate == best,
            score=0.8 if rate == best else 0.5,
        )
        for task in ("stsb", "sst2")
        for tuning, best in (("adapter", adapter), ("full", full))
        for rate in (5e-5, 5e-4, 1e-3)
    ]


def test_learning_rates():
    higher, best = check_of("discussion: higher rate"), check_of("discussion: best rate")
    paper_like, other = adapter_grid(5e-4, 5e-5), adapter_grid(5e-5, 1e-3)
    assert higher(paper_like)["verdict"] == best(paper_like)["verdict"] == "agrees here"
    assert higher(other)["verdict"] == best(other)["verdict"] == "disagrees here"
    one_rate = [one for one in paper_like if one["chosen"]]
    assert higher(one_rate) == best(one_rate) == {"verdict": "needs a run"}
    unasked = [one for one in paper_like if one["learning_rate"] != 5e-4]
    assert best(unasked) == {"verdict": "needs a run"}  # 5e-4 was not among those tried


@pytest.mark.parametrize("gain, verdict", [(0.1, "agrees here"), (-0.2, "disagrees here")])
def test_hidden_states_alone_on_some_task(gain, verdict):
    runs = [
        record("ablations", task=task, variant=variant, seed=seed, score=score + seed / 1000)
        for task, more in (("stsb", gain), ("rte", -0.3))
        for seed in (0, 1)
        for variant, score in (("both", 0.5), ("hidden", 0.5 + more))
    ]
    assert check_of("alignment ablation: some tasks")(runs)["verdict"] == verdict


@pytest.mark.parametrize("cola, verdict", [(0.2, "agrees here"), (0.55, "disagrees here")])
def test_cola_keeps_least(cola, verdict):
    runs = [
        record("glue", task=task, system=system, seed=seed, score=score + seed / 1000)
        for system, scores in (("teacher", (0.6, 0.8)), ("student", (cola, 0.7)))
        for task, score in zip(("cola", "stsb"), scores)
        for seed in (0, 1)
    ]
    assert check_of("limitations: acceptability, here")(runs)["verdict"] == verdict
    hopeless = [one for one in runs if one["task"] == "cola" or one["system"] == "student"]
    hopeless += [
        record("glue", task="stsb", system="teacher", seed=0, score=0.0)
    ]  # of no share to speak
    assert check_of("limitations: acceptability, here")(hopeless) == {"verdict": "needs a run"}


# ---- results


def put(path, **content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def test_results_of_every_layout(tmp_path):
    put(
        tmp_path / "data/ner.json",
        runs=[{"task": "bc2gm", "seed": 1, "score": 0.8, "tuning": None}],
        parameters={"steps": 2000},
        manifest={"seconds": 90, "status": "done"},
    )
    put(
        tmp_path / "runs/lab/manifest.json",
        status="done",
        seed=3,
        metrics={
            "similarity": {"student": 0.8},
            "alignment": {"student": {"attention_row": 0.3}},
            "seconds": 5,
        },
    )
    name = "minialbert-128-adapter-tuning,task=rte"
    put(
        tmp_path / f"runs/paper/glue/{name}/manifest.json",
        status="done",
        seed=42,
        parameters={"task": "rte", "limit": 100},
        metrics={"score": 0.6, "curve": {"1": 0.5}},
    )
    put(tmp_path / "runs/lab/config.json", no="result")
    ner, lab, glue = load_results(tmp_path / "data", tmp_path / "runs", tmp_path / "nowhere")
    assert ner == {
        "source": "ner",
        "file": str(tmp_path / "data/ner.json"),
        "budget": "2,000 steps, 1.5 minutes",
        "task": "bc2gm",
        "seed": 1,
        "score": 0.8,
    }
    assert {
        name: lab[name] for name in ("source", "seed", "system", "similarity", "attention_row")
    } == {"source": "lab", "seed": 3, "system": "student", "similarity": 0.8, "attention_row": 0.3}
    assert (glue["source"], glue["row"], glue["task"], glue["score"], glue["budget"]) == (
        "paper/glue",
        "minialbert-128-adapter-tuning",
        "rte",
        0.6,
        "100 training examples",
    )


def test_own_runs_stand_for_stored_ones(tmp_path):
    for folder, score in (("data", 0.1), ("runs", 0.9)):
        put(tmp_path / folder / "glue.json", runs=[{"task": "rte", "score": score}] * 2)
    put(tmp_path / "data/ner.json", runs=[{"task": "bc2gm", "score": 0.5}])
    found = load_results(tmp_path / "data", tmp_path / "runs")
    assert [(one["source"], one["score"]) for one in found] == [
        ("glue", 0.9),
        ("glue", 0.9),
        ("ner", 0.5),
    ]


@pytest.mark.parametrize("text", ['{"runs": [', '["runs"]', '{"runs": [1]}', '{"metrics": 3}'])
def test_a_broken_result_is_named(tmp_path, text):
    (tmp_path / "glue.json").write_text(text)
    with pytest.raises(
        ResultError, match=r"glue\.json is no result .+ make it again, or move it away"
    ):
        load_results(tmp_path)


def test_beyond_this_project():
    beyond = [claim for claim in CLAIMS if isinstance(claim.check, Beyond)]
    assert {claim.name for claim in beyond} == {
        "available",
        "first",
        "unlike full models",
        "questions",
    }


# ---- commands that make results, and results that say how they were made


def leaves(part) -> tuple:
    """The source whose result one command writes: (read from figures/data, read from runs)."""
    words = shlex.split(part)
    assert words[:3] == ["python", "-m", "minialbert.batch"]
    given = batch._parser().parse_args(words[3:])
    if given.command == "plan":
        runs = batch.read_plan(ROOT / given.plan)
        stored = {run.parameters.get("store") for run in runs} - {None}
        return stored, (*given.to.split("/")[1:], runs[0].plan)
    values = lab.read_mapping(ROOT / given.parameters) if given.parameters else {}
    values |= dict(given.p)
    lab.check_parameters(values, lab.notebook_parameters(ROOT / given.notebook))
    return {values["store"]}, tuple(given.to.split("/")[1:])


@pytest.mark.parametrize("source", [name for name in paper.COMMANDS if name != "lab"])
def test_a_command_makes_what_the_ledger_reads(source):
    stored, folder = zip(*map(leaves, paper.COMMANDS[source].split(" && ")))
    assert source in {"/".join(one) for one in folder}  # with results of runs/
    if not source.startswith("paper/"):
        assert set().union(*stored) == {f"../figures/data/{source}.json"}


def test_every_source_of_a_claim_has_a_command():
    sources = {claim.check.source for claim in CLAIMS if isinstance(claim.check, Measured)}
    assert (
        sources | {"long"} == paper.COMMANDS.keys()
    )  # the long run is of no claim: notebook 07 shows it
    assert paper.COMMANDS["lab"] == "make run"


def stray(content) -> list:
    """Where the parameters of a stored result are not its notebook's, or not those of a run of its plan."""
    file = ROOT / f"notebooks/{content['notebook']}.ipynb"
    known, plan = lab.notebook_parameters(file), content["plan"] and ROOT / content["plan"]
    names = set()
    if plan and "notebook" in lab.read_mapping(plan):
        planned = [run for run in batch.read_plan(plan) if run.notebook == file]
        runs, names = [run.parameters for run in planned], {run.name for run in planned}
    else:
        runs = [lab.read_parameters(plan, known) if plan else lab.check_parameters({}, known)]
    manifests = content.get("manifests", {})
    parts = manifests.values() if isinstance(manifests, dict) else manifests
    found = []
    for given in [one["parameters"] for one in parts if "parameters" in one] or [
        content["parameters"]
    ]:
        try:
            checked = lab.plain(lab.check_parameters(given, known))
        except lab.ParameterError as error:
            found.append(str(error))
        else:
            kept = sorted(given.keys() - {"data"})  # where the data lies is the machine's matter
            found += min(
                (
                    [
                        f"{name} is {checked[name]!r}, planned {run[name]!r}"
                        for name in kept
                        if run[name] != checked[name]
                    ]
                    for run in runs
                ),
                key=len,
            )
    if isinstance(manifests, dict):
        found += [f"no run named {name}" for name in sorted(manifests.keys() - names)]
    return found


STORED = {
    path.stem: json.loads(path.read_text(encoding="utf8"))
    for path in (ROOT / "figures/data").glob("*.json")
}


@pytest.mark.parametrize("name", sorted(name for name in STORED if not name.endswith("recipe")))
def test_a_stored_result_is_of_its_plan(name):
    assert name in paper.COMMANDS
    assert not stray(STORED[name])


@pytest.mark.parametrize(
    "name, values, complaint",
    [
        ("efficiency", {"rounds": 4}, "rounds is 4, planned 3"),
        ("efficiency", {"rounds": "3"}, "must be int"),
        ("efficiency", {"round": 3}, "unknown parameter 'round'"),
        ("lab", {"steps": 951}, "steps is 951, planned 950"),
        ("lab", {"dropout": 0.1}, "dropout is 0.1, planned 0.0"),
        ("ner", {"epochs": 9}, "epochs is 9"),
    ],
)
def test_a_result_that_was_made_otherwise_is_found(name, values, complaint):
    content = copy.deepcopy(STORED[name])
    next(iter(content.get("manifests", {"": content}).values()))["parameters"] |= values
    assert any(complaint in one for one in stray(content))


def test_a_task_that_no_plan_has_is_found():
    content = copy.deepcopy(STORED["glue"])
    content["manifests"]["wnli"] = content["manifests"]["stsb"]
    assert stray(content) == ["no run named wnli"]
