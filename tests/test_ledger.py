"""The paper's numbers against themselves, and verdicts that follow the stored results."""

import json
import math
import re
import shutil
from collections import Counter

import pytest
from conftest import ROOT

from minialbert.lab import ledger, paper, plans
from minialbert.lab.ledger import Claim, Effect, decide, judge, load_results, measure_effect
from minialbert.lab.parameters import read_yaml
from minialbert.lab.run import RunError
from minialbert.tasks import TASKS

CLAIMS = {claim.id: claim for claim in ledger.claims()}
MEASURED = [claim for claim in CLAIMS.values() if claim.kind == "measured"]
ROWS = [
    (number, key)
    for number in (1, 2)
    for key in paper.table(number).index
    if key != "distilbert-base"
]


def columns_of(number):
    return paper.GLUE if number == 1 else paper.NER


# ---- the tables


@pytest.fixture(scope="module")
def text(shared):
    return (shared / "paper/paper-text.txt").read_text(encoding="utf8")


@pytest.mark.parametrize(
    "number, first, last",
    [(1, "| BERT-base", "| MiniALBERT128†"), (2, "| DistilBioBERT", "| BioMiniALBERT128†")],
)
def test_digits_are_the_papers(text, number, first, last):
    lines = text.splitlines()
    names = [line.partition(" |")[0] for line in lines]
    printed = lines[names.index(first) : names.index(last) + 1]
    rows = paper.table(number)
    assert len(printed) == len(rows) == 17
    for (_, row), line in zip(rows.iterrows(), printed, strict=True):
        found = re.findall(r"\d+\.\d\d\b|N/A", line)
        ours = [f"{score:.2f}" for score in row[[*columns_of(number), "average"]]]
        assert [score.replace("nan", "N/A") for score in ours] == found
        assert row["parameters"] == float(re.search(r"([\d.]+)M", line)[1])
        name = row["name"].partition(",")[0] + (str(row["rank"]) if "Mini" in row["name"] else "")
        assert re.sub(r"\W", "", line.split("|")[1]) == re.sub(r"\W", "", name)
        assert ("†" in line) == (row["tuning"] == "adapter")
        assert ("∗" in line) == (row["adapters"] == "added")


def test_digits_of_tables_3_and_4(text):
    label = r"(?:\w+-Only|No-Alignment|Full-rank|Factorised)(?: \+ Loss)?"
    found = re.findall(rf"^\| {label} \| ([-\d.]+) \|", text, re.M)
    ours = [*paper.table(3)["average"], *paper.table(4)["average"]]
    assert [float(score) for score in found] == ours


@pytest.mark.parametrize("number, key", ROWS)
def test_averages_are_recomputed(number, key):
    """Cut, not rounded; the two rows with N/A count it as 0."""
    row = paper.table(number).loc[key]
    assert paper.average(row, "zero") == row["average"]
    has_all = row[columns_of(number)].notna().all()
    assert (paper.average(row) == row["average"]) == has_all


def test_averages_leave_out_what_is_not_there():
    rows = paper.table(1)
    assert paper.average(rows.loc["bert-base"]) == 83.81  # 83.8188...
    assert paper.average(rows.loc["minialbert-768-adapters-added"]) == 76.78
    assert set(paper.NER) <= set(TASKS)


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
    assert paper.parameters(rank, adapters) == count
    cased = paper.parameters(rank, adapters, vocabulary=28996)
    assert cased == count - (30522 - 28996) * rank


def test_parameters_are_those_of_the_models():
    import torch
    from transformers import BertConfig, BertModel

    from minialbert import MiniAlbertConfig, MiniAlbertModel

    sizes = dict(vocab_size=99, hidden_size=32, intermediate_size=48, num_attention_heads=2)
    shape = dict(vocabulary=99, hidden=32, inner=48)
    with torch.device("meta"):
        student = MiniAlbertModel(MiniAlbertConfig(embedding_size=8, num_hidden_layers=3, **sizes))
        bert = BertModel(BertConfig(num_hidden_layers=4, **sizes))
    assert paper.parameters(8, True, iterations=3, **shape) == student.num_parameters()
    assert paper.parameters(32, layers=4, pooler=True, **shape) == bert.num_parameters()


def test_operations():
    plain = paper.operations(rank=768, adapters=False)
    assert plain == 6 * (4 * 768**2 + 2 * 768 * 3072)
    assert paper.operations() - paper.operations(adapters=False) == 12 * 2 * 768 * 48


def effects(verdict):
    return {one.id: one.effect for one in ledger.ledger() if one.verdict == verdict}


def test_the_papers_slips_have_their_rows():
    slips = effects("slip")
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
    found = effects("exact")
    assert found["discussion: major drop"].startswith("-6.21, -6.25, -1.62, -2.03 ")
    assert found["discussion: capacity"].startswith("+1.07, +1.13, +0.38, +0.18; in 20 of 26 ")
    assert found["embedding ablation: printed"] == "-0.77, -0.17"
    assert found["discussion: margin"].endswith("+0.72, +1.54")
    assert "best compact baseline: -1.70, -0.37;" in found["conclusion: competitive"]
    assert found["discussion: speed"] == "by operations at most 1.48 times"


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
    one, other = {"a": [0.9]}, {"a": [0.1]}
    assert measure_effect(one, other).error == math.inf
    assert measure_effect(one, other, noise=0.3).error == pytest.approx(0.3 * math.sqrt(2))
    assert measure_effect({"a": [0.9, 0.7]}, other).error < 1
    assert judge(Effect(0.8, math.inf, 1)) == "needs a run"
    borrowed = measure_effect({"a": [1.0, 3.0], "b": [10.0, 14.0], "c": [5.0]})  # c takes b's 8
    assert borrowed.error == pytest.approx(math.sqrt(2 / 2 + 8 / 2 + 8) / 3)
    assert borrowed.seeds == 1


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


# ---- claims


def test_no_claim_is_missing():
    assert Counter(claim.section for claim in CLAIMS.values()) == {
        "abstract": 4,
        "contributions": 7,
        "method": 3,
        "discussion": 18,
        "alignment ablation": 6,
        "embedding ablation": 4,
        "conclusion": 2,
        "limitations": 7,
        "appendix C": 3,
        "table 1": 27,
        "table 2": 26,
        "table 3": 3,
        "table 4": 4,
    }
    assert {claim.kind for claim in CLAIMS.values()} == {"exact", "measured", "beyond"}


@pytest.mark.parametrize("number, key", ROWS)
def test_a_row_is_met_within_a_point_of_its_average(number, key):
    claim, row = CLAIMS[f"table {number}: {key} scores"], paper.table(number).loc[key]
    edges = [paper.average(row) / 100 - 0.01, paper.average(row) / 100 + 0.01]
    assert [claim.low, claim.high] == pytest.approx(edges)
    assert claim.tasks == [name for name in columns_of(number) if not math.isnan(row[name])]
    assert claim.of["system"] == key and claim.quote.startswith(f"{row['name']}: {row['average']} ")


@pytest.mark.parametrize("number", [3, 4])
def test_an_ablation_is_met_within_a_point(number):
    for variant, points in paper.table(number)["average"].items():
        claim = CLAIMS[f"table {number}: {variant}"]
        assert [claim.low, claim.high] == pytest.approx([points / 100 - 0.01, points / 100 + 0.01])
        assert claim.tasks == paper.GLUE and f": {points}; " in claim.quote


def test_claims_are_in_our_words(text):
    def plain(words):
        return re.sub(r"\W+", " ", words.lower())

    for claim in CLAIMS.values():
        words = plain(claim.quote).split()
        nines = [" ".join(words[n : n + 9]) for n in range(len(words) - 8)]
        assert not [nine for nine in nines if nine in plain(text)], claim.quote


def test_a_command_names_a_run_there_is():
    known = plans.targets(plans.read_plans(ROOT))
    for one in ledger.ledger():
        assert bool(one.command) == (one.verdict == "needs a run"), one.id
        if one.command.startswith("snakemake "):
            assert all(target in known for target in one.command.split()[1:]), one.command
        if one.command.startswith("papermill "):
            assert (ROOT / one.command.split()[1]).exists(), one.command


# ---- claims and records


def record(source, parameters=None, **fields):
    run = {"file": f"{source}.json", "seconds": 540, "parameters": parameters or {}}
    return {"source": source, "run": run} | fields


def results_at(claim, value) -> list[dict]:
    """Three seeds with hardly any spread whose effect is `value`."""
    base, found = 0.4, []
    for task in claim.tasks or ("stsb", "rte"):
        for seed in range(3):
            scores = [value + base, base] if claim.minus else [value]
            for wanted, score in zip(claim.sides, scores, strict=True):
                fields = {name: text.replace("*", "-128") for name, text in wanted.items()}
                fields = {name: text for name, text in fields.items() if text != "-128"}
                fields |= {"task": task, "seed": seed, claim.measure: score + seed * 1e-6}
                found.append(record(claim.source, claim.where, **fields))
    return found


@pytest.mark.parametrize(
    "claim", [claim for claim in MEASURED if not claim.derive], ids=lambda claim: claim.id
)
def test_a_measured_claim_follows_its_results(claim):
    low, high = claim.low, claim.high
    inside = (max(low, high - 0.02) if math.isfinite(high) else low) + 0.01
    outside = [edge for edge in (low - 0.01, high + 0.01) if math.isfinite(edge)]
    assert outside
    verdicts = {inside: "agrees here"} | dict.fromkeys(outside, "disagrees here")
    for value, verdict in verdicts.items():
        results = results_at(claim, value)
        found = decide(claim, results)
        assert (found.verdict, found.seeds, found.budget) == (verdict, 3, "9.0 minutes")
        assert found.evidence == f"{claim.source}.json"
        elsewhere = [one | {"source": "elsewhere"} for one in results]
        assert decide(claim, elsewhere) == decide(claim)


BETTER = Claim(
    "a section",
    "better",
    "students are better",
    "measured",
    source="09_glue",
    of={"system": "student"},
    minus={"system": "same start"},
    low=0,
)


def glue_runs(*seeds, **fields):
    scores = {"student": 0.7, "same start": 0.4}
    return [
        record("09_glue", task="stsb", seed=seed, system=system, score=score + seed / 100, **fields)
        for seed in seeds
        for system, score in scores.items()
    ]


def test_too_few_seeds_are_no_verdict():
    found = decide(BETTER, glue_runs(0))
    assert found.verdict == "needs a run" and found.seeds == 1
    assert found.effect == "30.00 points ± unknown: too few seeds"
    runs = glue_runs(0, 1)
    assert decide(BETTER, runs).verdict == "agrees here"
    higher = [one | {"score": one["score"] + 0.1} for one in runs if one["system"] == "student"]
    twice = decide(BETTER, runs + higher)  # the mean of a seed's two scores, and still one seed
    assert twice.seeds == 2 and twice.effect.startswith("35.00 points")
    runs[0]["score"], runs[1]["score"] = 0.0, 0.9  # a spread wider than the difference
    assert decide(BETTER, runs).verdict == "needs a run"
    assert decide(BETTER, runs).effect.endswith(": undecided")


def test_only_fitting_records_count():
    runs = glue_runs(0, 1)
    others = [
        {"protocol": "published", "score": 0.9},
        {"chosen": False, "score": 0.0},
        {"tuning": "adapter", "score": 0.0},
        {"score": "nan"},
    ]
    more = [one | other for one in runs for other in others]
    assert decide(BETTER, runs + more) == decide(BETTER, runs)
    assert decide(BETTER, runs).effect.startswith("30.00 points")


def test_a_run_made_otherwise_does_not_count():
    claim = CLAIMS["abstract: transfer"]
    runs = results_at(claim, 0.3)
    long = [one | {"run": one["run"] | {"parameters": {"corpus": "other"}}} for one in runs]
    assert decide(claim, runs).verdict == "agrees here"
    assert decide(claim, long).verdict == "needs a run"


def test_all_tasks_must_be_there():
    claim, row = CLAIMS["table 1: minialbert-128 scores"], paper.table(1).loc["minialbert-128"]
    runs = [
        record("paper/09_glue", task=task, system="minialbert-128", seed=42, score=row[task] / 100)
        for task in paper.GLUE
    ]
    assert decide(claim, runs).effect == "79.92 points ± 0.60 points"
    assert decide(claim, runs).verdict == "agrees here"
    assert decide(claim, runs[1:]).command == "snakemake paper/table1/minialbert-128"


def adapter_grid(adapter, full):
    """Scores of two tasks over a grid whose best learning rates are given."""
    return [
        record(
            "11_adapter_tuning",
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
    higher, best = CLAIMS["discussion: higher rate"], CLAIMS["discussion: best rate"]
    paper_like, other = adapter_grid(5e-4, 5e-5), adapter_grid(5e-5, 1e-3)
    for claim in (higher, best):
        assert decide(claim, paper_like).verdict == "agrees here"
        assert decide(claim, other).verdict == "disagrees here"
        assert decide(claim, [one for one in paper_like if one["chosen"]]) == decide(claim)
    without = [one for one in paper_like if one["learning_rate"] != 5e-4]
    assert decide(best, without) == decide(best)  # 5e-4 was not among those tried


@pytest.mark.parametrize("gain, verdict", [(0.1, "agrees here"), (-0.2, "disagrees here")])
def test_hidden_states_alone_on_some_task(gain, verdict):
    runs = [
        record("12_ablations", task=task, variant=variant, seed=seed, score=score + seed / 1000)
        for task, more in (("stsb", gain), ("rte", -0.3))
        for seed in (0, 1)
        for variant, score in (("both", 0.5), ("hidden", 0.5 + more))
    ]
    assert decide(CLAIMS["alignment ablation: some tasks"], runs).verdict == verdict


@pytest.mark.parametrize("cola, verdict", [(0.2, "agrees here"), (0.55, "disagrees here")])
def test_cola_keeps_least(cola, verdict):
    claim = CLAIMS["limitations: acceptability, here"]
    runs = [
        record("09_glue", task=task, system=system, seed=seed, score=score + seed / 1000)
        for system, scores in (("teacher", (0.6, 0.8)), ("student", (cola, 0.7)))
        for task, score in zip(("cola", "stsb"), scores, strict=True)
        for seed in (0, 1)
    ]
    assert decide(claim, runs).verdict == verdict
    hopeless = [one | {"score": 0.0} if one["task"] == "stsb" else one for one in runs]
    assert decide(claim, hopeless) == decide(claim)  # nothing is no share of nothing


# ---- results


def put(path, notebook, records, parameters=None, status="done"):
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"status": status, "notebook": notebook, "parameters": parameters or {}}
    path.write_text(json.dumps(content | {"seconds": 60, "records": records}))


def test_a_result_is_known_by_its_notebook(tmp_path):
    score = {"task": "stsb", "system": "student", "score": 0.7, "tuning": None}
    put(tmp_path / "runs/stsb/result.json", "09_glue", [score])
    put(tmp_path / "runs/a/b/result.json", "09_glue", [score | {"system": "minialbert-128"}])
    bert = {"recipe": {"teacher": "google-bert/bert-base-uncased"}}
    put(tmp_path / "runs/c/result.json", "12_ablations", [{"variant": "both"}], bert)
    put(tmp_path / "runs/d/result.json", "12_ablations", [{"variant": "both"}], {"recipe": {}})
    put(tmp_path / "runs/e/result.json", "09_glue", [score], status="running")
    put(tmp_path / "runs/f/other.json", "09_glue", [score])
    found = load_results(tmp_path / "runs", tmp_path / "nowhere")
    assert Counter(one["source"] for one in found) == Counter(
        ["09_glue", "paper/09_glue", "12_ablations", "paper/12_ablations"]
    )
    (lab,) = [one for one in found if one["source"] == "09_glue"]
    assert "tuning" not in lab and lab["run"]["file"].endswith("result.json")


def test_own_runs_stand_for_stored_ones(tmp_path):
    for folder, score in (("data", 0.1), ("runs", 0.9)):
        put(tmp_path / folder / "one.json", "09_glue", [{"task": "rte", "score": score}] * 2)
    put(tmp_path / "data/two.json", "10_biomedical_ner", [{"task": "bc2gm", "score": 0.5}])
    found = load_results(tmp_path / "data", tmp_path / "runs")
    assert [one["score"] for one in found if one["source"] == "09_glue"] == [0.9, 0.9]
    assert len(found) == 3


@pytest.mark.parametrize("text", ['{"records": [', '["records"]', '{"records": []}'])
def test_a_broken_result_is_named(tmp_path, text):
    (tmp_path / "glue.json").write_text(text)
    with pytest.raises(RunError, match=r"glue\.json is no record of a run"):
        load_results(tmp_path)


def test_a_changed_result_changes_the_verdict(tmp_path):
    stored, claim = tmp_path / "lab.json", CLAIMS["abstract: transfer"]
    shutil.copy(ROOT / "figures/data/lab.json", stored)
    content = json.loads(stored.read_text(encoding="utf8"))
    systems = {one["system"]: one for one in content["records"]}
    student, start = systems["student"], systems["same start"]
    before = decide(claim, load_results(tmp_path))
    assert before.effect.startswith(f"{student['similarity'] - start['similarity']:.3g} ±")
    assert (before.verdict, before.seeds, before.command) == ("agrees here", 1, "")
    assert before.evidence == str(stored)
    student["similarity"] = start["similarity"] - 0.1
    stored.write_text(json.dumps(content))
    assert decide(claim, load_results(tmp_path)).verdict == "disagrees here"
    stored.write_text(json.dumps(content | {"status": "running"}))
    after = decide(claim, load_results(tmp_path))
    assert (after.verdict, after.evidence, after.command) == ("needs a run", "", "make run")


def test_the_stored_results_decide():
    entries = ledger.ledger(load_results(ROOT / "figures/data"))
    verdicts = Counter(one.verdict for one in entries)
    assert set(verdicts) == set(ledger.VERDICTS)
    measured = [one for one in entries if one.effect and one.evidence != "computed"]
    assert all("figures/data/" in one.evidence.replace("\\", "/") for one in measured)


STORED = sorted((ROOT / "figures/data").glob("*.json"))


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_a_stored_result_is_whole(path):
    result = json.loads(path.read_text(encoding="utf8"))
    assert result["status"] == "done" and result["records"]
    assert (ROOT / f"notebooks/{result['notebook']}.ipynb").exists()
    names = {"about", "parameters", "inputs", "code", "versions", "machine", "started", "seconds"}
    assert names <= result.keys()


@pytest.fixture(scope="module")
def planned():
    """What a stored result was made with, by its name: lab/glue/stsb for glue-stsb."""
    runs = plans.read_plans(ROOT)

    def find(name):
        run = "lab/" + name.replace("-", "/", 1).replace("seed", "seeds=")
        if run in runs:
            return runs[run].parameters
        file = {"lab": "before"}.get(name, name)
        return read_yaml(ROOT / f"notebooks/params/lab/{file}.yaml")

    return find


@pytest.mark.parametrize(
    "path", [path for path in STORED if "recipe" not in path.stem], ids=lambda path: path.stem
)
def test_a_stored_result_is_of_its_plan(planned, path):
    def plain(value):  # where the student without adapters lay before
        text = json.dumps(value)
        return json.loads(text.replace("../runs/lab/adapter_tuning/", "../runs/adapter_tuning/"))

    made = json.loads(path.read_text(encoding="utf8"))["parameters"]
    made, plan = plain(made), plain(planned(path.stem))
    shared = made.keys() & plan.keys()
    assert shared and not [name for name in shared if made[name] != plan[name]]
