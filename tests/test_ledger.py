"""The paper's numbers against themselves, and verdicts that follow the stored results."""

import json
import math
import re
import shutil
from collections import Counter, defaultdict
from dataclasses import replace
from statistics import fmean, stdev

import pytest
from conftest import ROOT

from minialbert.lab import costs, ledger, paper, plans
from minialbert.lab.ledger import (
    Claim,
    Effect,
    decide,
    judge,
    load_results,
    measure_effect,
    together,
)
from minialbert.lab.parameters import read_yaml
from minialbert.lab.run import RunError
from minialbert.tasks import TASKS

CLAIMS = {claim.id: claim for claim in ledger.claims()}
MEASURED = [claim for claim in CLAIMS.values() if claim.kind == "measured"]
BEYOND = [claim for claim in CLAIMS.values() if claim.is_beyond]
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
        bert = BertModel(BertConfig(num_hidden_layers=4, **sizes), add_pooling_layer=False)
    assert paper.parameters(8, True, iterations=3, **shape) == student.num_parameters()
    assert paper.parameters(32, layers=4, **shape) == bert.num_parameters()


def test_a_gap_is_over_the_columns_that_both_rows_have():
    assert paper.gap("minialbert-768-adapters-added", "minialbert-768-plain") == pytest.approx(
        paper.table(1)
        .loc[["minialbert-768-adapters-added", "minialbert-768-plain"], paper.GLUE]
        .drop(columns="cola")
        .mean(axis="columns")
        .diff()
        .iloc[1]
        * -1
    )
    assert paper.gap("hidden", "attention", ["average"]) == pytest.approx(2.77)


def test_what_the_papers_own_numbers_decide():
    found = {one.id: one for one in ledger.ledger() if one.evidence == "computed"}
    verdicts = {name: one.verdict for name, one in found.items()}
    names = defaultdict(set)
    for name, verdict in verdicts.items():
        names[verdict].add(name)
    assert names["slip"] == {"sizes, Table 2", "averages"}
    assert names["mixed"] == {"major drop"}
    assert names["exact"] == {"sizes, Table 1"}
    assert verdicts.keys() == {claim.id for claim in CLAIMS.values() if claim.kind != "measured"}
    assert found["major drop"].effect == "-6.21, -6.25, -1.62, -2.03"
    assert found["averages"].effect.startswith("32 of 34 rows; ")
    assert found["sizes, Table 2"].effect.startswith("29.75 M, printed 31; ")


# ---- effect and agreement


def test_an_effect_is_of_paired_seeds():
    """Student's t of their differences; 4.303 is its quantile for three seeds."""
    of, minus = {0: 0.9, 1: 0.5, 2: 0.7}, {2: 0.4, 1: 0.3, 0: 0.5, 9: 0.0}
    found = measure_effect({"a": of}, {"a": minus})  # differences 0.4, 0.2, 0.3
    assert found.value == pytest.approx(0.3) and found.seeds == 3
    assert found.half == pytest.approx(4.303 * 0.1 / math.sqrt(3), rel=1e-3)
    assert (found.low + found.high) / 2 == pytest.approx(0.3)
    in_order = measure_effect({"a": [0.9, 0.5, 0.7]}, {"a": [0.5, 0.3, 0.4]})
    assert in_order.half == pytest.approx(found.half)


def test_an_effect_over_tasks_is_of_a_seeds_mean():
    both = measure_effect({"a": [1.0, 3.0], "b": [10.0, 14.0]})
    assert both.value == 7 and both.seeds == 2
    assert both.half == pytest.approx(12.706 * stdev([5.5, 8.5]) / math.sqrt(2), rel=1e-3)


def test_one_seed_tells_no_spread():
    one = measure_effect({"a": [0.9]}, {"a": [0.1]})
    assert (one.half, one.seeds) == (math.inf, 1) and judge(one) == "undecided"
    none = measure_effect({"a": {0: 0.9}}, {"a": {1: 0.1}})
    assert none.seeds == 0 and judge(none) == "undecided"


@pytest.mark.parametrize(
    "value, half, low, high, verdict",
    [
        (1.0, 0.9, 0, math.inf, "agrees here"),
        (1.0, 1.1, 0, math.inf, "undecided"),
        (-1.0, 0.9, 0, math.inf, "disagrees here"),
        (-1.0, 1.1, 0, math.inf, "undecided"),
        (-0.02, 0.008, -0.03, math.inf, "agrees here"),
        (1.05, 0.02, 0.9, 1.1, "agrees here"),
        (1.3, 0.02, 0.9, 1.1, "disagrees here"),
        (1.1, 0.02, 0.9, 1.1, "undecided"),
        (0.0, 0.0, 0, 1, "disagrees here"),
        (math.nan, 0.1, 0, 1, "undecided"),
    ],
)
def test_judge(value, half, low, high, verdict):
    assert judge(Effect(value, value - half, value + half, 3), low, high) == verdict


@pytest.mark.parametrize(
    "verdicts, verdict",
    [
        (["agrees here", "agrees here"], "agrees here"),
        (["disagrees here"], "disagrees here"),
        (["agrees here", "undecided"], "undecided"),
        (["agrees here", "undecided", "disagrees here"], "mixed"),
        ([], "undecided"),
    ],
)
def test_opposite_tasks_are_mixed(verdicts, verdict):
    assert together(verdicts) == verdict


# ---- claims


def test_there_are_about_thirty_claims_and_a_few_beyond():
    assert len(CLAIMS) == len(ledger.claims()) and len(BEYOND) <= 10
    assert 25 <= len(CLAIMS) - len(BEYOND) <= 35
    assert {claim.kind for claim in CLAIMS.values()} == {"exact", "recomputed", "measured"}


def test_no_number_is_counted_twice():
    cells = [cell for claim in CLAIMS.values() if not claim.check for cell in claim.cells()]
    assert cells and len(cells) == len(set(cells))


def test_a_second_claim_of_the_same_numbers_would_be_seen():
    """The other way round, too: a pair has no order."""
    claim = CLAIMS["loss works, GLUE"]
    again = replace(claim, id="viable", a=claim.b, b=claim.a, tasks=["stsb"])
    assert again.cells() < claim.cells()
    assert not replace(claim, metric="spearman").cells() & claim.cells()


def test_quotes_are_the_papers_words_and_few(text):
    def plain(words):
        return re.sub(r"\W+", " ", words.lower()).strip()

    for claim in CLAIMS.values():
        assert claim.is_beyond != (plain(claim.quote) in plain(text)), claim.quote
        assert claim.is_beyond or len(plain(claim.quote).split()) <= 8, claim.quote


def test_amendments_have_a_date_and_a_reason():
    rules = ledger._file()["rules"]
    for claim in CLAIMS.values():
        dates = [claim.stated, *(one["date"] for one in claim.amended)]
        assert dates == sorted(dates), claim.id
    for one in rules + [one for claim in CLAIMS.values() for one in claim.amended]:
        assert one.keys() == {"date", "what", "why"} and one["what"] and one["why"]


def test_what_was_changed_after_it_was_seen_is_told():
    told = {claim.id: " ".join(map(str, claim.amended)) for claim in CLAIMS.values()}
    assert "5e-4" in told["best rate"] and "the verdict was seen first" in told["best rate"]
    assert "a day after its result was stored" in told["memory, working"]
    bounded = [claim for claim in CLAIMS.values() if claim.rows]
    assert bounded and all("tables in sight" in told[claim.id] for claim in bounded)


def test_no_claim_looks_older_than_its_results():
    """What was stated after its results began says that it was amended, or added, later."""
    records = load_results(ROOT / "figures/data")
    began = {one["run"]["file"]: one["run"]["started"] for one in records}
    for claim in MEASURED:
        files = list(filter(began.get, decide(claim, records).evidence.split(", ")))
        if any(began[file][:10] < claim.stated for file in files):
            assert claim.amended, claim.id
    for claim in BEYOND:
        assert decide(claim, records).evidence, claim.id
        assert "stated after its results were seen" in claim.amended[0]["why"], claim.id
        assert claim.place.startswith(f"Beyond the paper, notebook {claim.notebook[:2]}")


def test_what_is_said_of_the_verdicts_beyond_the_paper():
    """By notebooks 14 and 15."""
    records = load_results(ROOT / "figures/data")
    agree = {claim.id for claim in BEYOND if decide(claim, records).verdict == "agrees here"}
    assert agree == {"where the head reads", "int8 keeps the score", "one block in the file"}
    others = {decide(claim, records).verdict for claim in BEYOND if claim.id not in agree}
    assert others == {"undecided"}


@pytest.mark.parametrize("way, reads", [("all", "mean"), ("usual", "first")])
def test_runs_whose_heads_read_otherwise_are_not_averaged(way, reads):
    """Nor those of other students, with three visits or with six."""
    wanted = {"way": way, "head_pooling": reads, "iterations": 3, "policy": "fixed", "setting": 2}
    records = [one for one in load_results(ROOT / "figures/data") if one.get("way") == way]
    found = ledger.scores_of(records, wanted)["rotten_tomatoes"]
    of_file = {"mean": "stop_early-rotten_tomatoes-mean", "first": "stop_early-rotten_tomatoes"}
    run = json.loads((ROOT / f"figures/data/{of_file[reads]}.json").read_text(encoding="utf8"))
    fixed = {"way": way, "part": "scored", "policy": "fixed", "setting": 2}
    own = [one for one in run["records"] if fixed.items() <= one.items()]
    assert found == {one["seed"]: one["score"] for one in own} and len(found) == 3
    for other in ({"iterations": 6}, {"student": "../runs/lab/student"}):
        more = [one | other | {"score": 0.0} for one in records]
        assert ledger.scores_of(records + more, wanted)["rotten_tomatoes"] == found


def test_a_command_names_a_run_there_is():
    known = plans.targets(plans.read_plans(ROOT))
    for one in ledger.ledger():
        assert bool(one.command) == (one.verdict == "not run"), one.id
        if one.command.startswith("snakemake "):
            assert all(target in known for target in one.command.split()[1:]), one.command
        if one.command.startswith("papermill "):
            assert (ROOT / one.command.split()[1]).exists(), one.command


@pytest.mark.parametrize("number, key", ROWS)
def test_a_row_of_the_tables_has_its_runs_and_their_cost(planned_runs, number, key):
    runs = plans.targets(planned_runs)[f"paper/table{number}/{key}"]
    assert all(costs.gpu_hours(one, planned_runs, 50) > 0 for one in runs)


@pytest.fixture(scope="module")
def planned_runs():
    return plans.read_plans(ROOT)


# ---- claims and records


def record(source, parameters=None, weights="", **fields):
    run = {"file": f"{source}.json", "seconds": 540, "parameters": parameters or {}}
    return {"source": source, "run": run, "weights": weights} | fields


def results_at(claim, value) -> list[dict]:
    """Three seeds with hardly any spread whose effect is `value`."""
    base, found = 0.4, []
    for task in claim.tasks or ("stsb", "rte"):
        for seed in range(3):
            scores = [value + base, base] if claim.b else [value]
            for wanted, score in zip(claim.sides, scores, strict=True):
                fields = {name: word for name, word in wanted.items() if word != "*"}
                fields |= {"task": task, "seed": seed, claim.metric: score + seed * 1e-6}
                fields |= dict.fromkeys(claim.interval, score)
                found.append(record(claim.notebook, **fields))
    return found


@pytest.mark.parametrize("claim", MEASURED, ids=lambda claim: claim.id)
def test_a_measured_claim_follows_its_results(claim):
    low, high = claim.bounds
    inside = {low + 0.01, high - 0.01} - {math.inf, -math.inf}
    outside = {low - 0.01, high + 0.01} - {math.inf, -math.inf}
    assert inside and outside
    verdicts = dict.fromkeys(inside, "agrees here") | dict.fromkeys(outside, "disagrees here")
    for value, verdict in verdicts.items():
        found = decide(claim, results_at(claim, value))
        assert (found.verdict, found.budget) == (verdict, "at least 9 minutes")
        assert found.evidence == f"{claim.notebook}.json" and not found.unknown
        elsewhere = [one | {"source": "elsewhere"} for one in results_at(claim, value)]
        assert decide(claim, elsewhere) == decide(claim)
        assert decide(claim).verdict == "not run"


BETTER = Claim(
    "better",
    "students are better",
    "a section",
    "measured",
    "2026-11-26",
    notebook="09_glue",
    a={"system": "student"},
    b={"system": "same start"},
    expects="more",
    worth=0.02,
)


def glue_runs(*seeds, task="stsb", gain=0.3, **fields):
    scores = {"student": 0.4 + gain, "same start": 0.4}
    return [
        record("09_glue", task=task, seed=seed, system=system, score=score + seed / 100, **fields)
        for seed in seeds
        for system, score in scores.items()
    ]


def test_too_few_seeds_are_no_verdict():
    found = decide(BETTER, glue_runs(0))
    assert (found.verdict, found.seeds) == ("undecided", "1")
    assert found.effect == "stsb +30.0, one seed" and found.command == "snakemake lab/glue"
    runs = glue_runs(0, 1)
    assert decide(BETTER, runs).verdict == "agrees here"
    higher = [one | {"score": one["score"] + 0.1} for one in runs if one["system"] == "student"]
    twice = decide(BETTER, runs + higher)  # the mean of a seed's two scores, and still one seed
    assert twice.seeds == "2" and twice.effect.startswith("stsb +35.0")
    runs[0]["score"], runs[1]["score"] = 0.0, 0.9  # a spread wider than the difference
    assert decide(BETTER, runs).verdict == "undecided"


def test_each_task_is_judged_by_itself():
    """A large gain on one task does not hide a loss on another; a single seed judges none."""
    gains, losses = glue_runs(0, 1), glue_runs(0, 1, task="cola", gain=-0.05)
    assert decide(BETTER, gains + losses).verdict == "mixed"
    found = decide(BETTER, gains + [one for one in losses if one["seed"] == 0])
    assert found.verdict == "agrees here" and found.effect.endswith("cola -5.0, one seed")


def test_a_record_without_a_seed_is_no_seed():
    runs = [{name: one[name] for name in one if name != "seed"} for one in glue_runs(0, 1)]
    assert decide(BETTER, runs) == decide(BETTER)


def test_only_fitting_records_count():
    runs = glue_runs(0, 1)
    others = [
        {"protocol": "published", "score": 0.9},
        {"chosen": False, "score": 0.0},
        {"tuning": "adapter", "score": 0.0},
        {"score": "nan"},
    ]
    more = [one | other for one in runs for other in others]
    assert decide(BETTER, runs + more).effect == decide(BETTER, runs).effect
    assert decide(BETTER, runs).effect.startswith("stsb +30.0")


# ---- one model a name


def from_file(name, runs):
    return [one | {"run": one["run"] | {"file": name}} for one in runs]


def test_unknown_weights_are_shown_marked_and_not_averaged():
    known, unknown = glue_runs(0, 1, weights="abc"), glue_runs(0, 1, gain=0.1, weights=None)
    assert (
        decide(BETTER, known).effect.startswith("stsb +30.0") and not decide(BETTER, known).unknown
    )
    assert (
        decide(BETTER, unknown).effect.startswith("stsb +10.0") and decide(BETTER, unknown).unknown
    )
    both = from_file("a.json", unknown) + from_file("b.json", known)
    assert decide(BETTER, both).effect.startswith("stsb +30.0")
    older = from_file("a.json", glue_runs(0, 1, gain=0.9, weights=None))
    assert decide(BETTER, older + from_file("b.json", unknown)).effect.startswith("stsb +10.0")


@pytest.fixture
def glue(tmp_path):
    """Stores a result of notebook 09 whose student has these weights."""

    def put_one(name, weights, system="student", notebook="09_glue"):
        records = [{"task": name, "system": system, "seed": 0, "score": 0.7}]
        put(tmp_path / f"{name}.json", notebook, records, inputs={system: weights})

    return put_one


def test_a_student_with_other_weights_is_refused(tmp_path, glue):
    glue("stsb", "aaa")
    glue("rte", "aaa")
    glue("bc2gm", "aaa", notebook="10_biomedical_ner")
    glue("mrpc", None)  # not known: kept, and marked
    glue("cola", "bbb", system="shipped student")
    weights = {one["task"]: one["weights"] for one in load_results(tmp_path)}
    assert weights == {"stsb": "aaa", "rte": "aaa", "bc2gm": "aaa", "mrpc": None, "cola": "bbb"}
    glue("ncbi_disease", "ccc", notebook="10_biomedical_ner")
    with pytest.raises(RunError, match=r"two models are called 'student': .*bc2gm\.json \(aaa\)"):
        load_results(tmp_path)


def test_the_papers_rows_have_a_model_a_table(tmp_path, glue):
    glue("stsb", "aaa", system="published-128")
    glue("bc2gm", "bbb", system="published-128", notebook="10_biomedical_ner")
    assert {one["source"] for one in load_results(tmp_path)} == {
        "paper/09_glue",
        "paper/10_biomedical_ner",
    }


# ---- results


def put(path, notebook, records, parameters=None, status="done", inputs=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"status": status, "notebook": notebook, "parameters": parameters or {}}
    content |= {"seconds": 60, "inputs": inputs or {}, "records": records}
    path.write_text(json.dumps(content))


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
    stored, claim = tmp_path / "glue-stsb.json", replace(CLAIMS["loss works, GLUE"], tasks=["stsb"])
    shutil.copy(ROOT / "figures/data/glue-stsb.json", stored)
    content = json.loads(stored.read_text(encoding="utf8"))
    scores = {(one["system"], one["seed"]): one for one in content["records"]}
    before = decide(claim, load_results(tmp_path))
    gains = [
        scores["student", seed]["score"] - scores["same start", seed]["score"]
        for seed in content["parameters"]["seeds"]
    ]
    assert before.effect.startswith(f"stsb {100 * fmean(gains):+.1f} ±")
    assert (before.verdict, before.evidence) == ("agrees here", str(stored))
    for (system, seed), one in scores.items():
        if system == "student":
            one["score"] = scores["same start", seed]["score"] - 0.1 + seed / 1000
    stored.write_text(json.dumps(content))
    assert decide(claim, load_results(tmp_path)).verdict == "disagrees here"
    stored.write_text(json.dumps(content | {"status": "running"}))
    after = decide(claim, load_results(tmp_path))
    assert (after.verdict, after.evidence, after.command) == ("not run", "", "snakemake lab/glue")


def test_the_longest_runs_decide(tmp_path):
    """Those of other lengths are not mixed in, and serve where the longest lack a side."""
    claim = Claim("", "", "", "measured", "", notebook="12_ablations", a={"variant": "both"})
    claim = replace(claim, b={"variant": "none"}, expects="more")

    def record(variant, score):
        return {"task": "stsb", "seed": 0, "variant": variant, "score": score}

    short, long = [record("both", 0.3), record("none", 0.2)], [record("both", 0.9)]
    put(tmp_path / "short/result.json", "12_ablations", short, {"steps": 150})
    put(tmp_path / "long/result.json", "12_ablations", long, {"steps": 960})
    assert decide(claim, load_results(tmp_path)).effect == "stsb +10.0, one seed"
    put(tmp_path / "long/result.json", "12_ablations", [*long, record("none", 0.4)], {"steps": 960})
    after = decide(claim, load_results(tmp_path))
    assert after.effect == "stsb +50.0, one seed" and "long" in after.evidence


def test_the_stored_results_decide():
    """One model a name among them, or they would be refused."""
    entries = ledger.ledger(load_results(ROOT / "figures/data"))
    assert {one.verdict for one in entries} <= set(ledger.VERDICTS)
    measured = [one for one in entries if one.effect and one.evidence != "computed"]
    assert measured and all("figures/data" in one.evidence.replace("\\", "/") for one in measured)


STORED = sorted((ROOT / "figures/data").rglob("*.json"))


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
        run = "lab/" + name.replace("-", "/", 1)
        run = run if run in runs else run.replace("seed", "seeds=")
        if run in runs:
            return runs[run].parameters
        file = {"lab": "distil"}.get(name, name)
        return read_yaml(ROOT / f"notebooks/params/lab/{file}.yaml")

    return find


@pytest.mark.parametrize(
    "path",
    [path for path in STORED if path.stem not in ("recipe", "recipe_equal_cost")],
    ids=lambda path: path.stem,
)
def test_a_stored_result_is_of_its_plan(planned, path):
    def plain(value):  # where the student without adapters lay before
        text = json.dumps(value)
        return json.loads(text.replace("../runs/lab/adapter_tuning/", "../runs/adapter_tuning/"))

    made = json.loads(path.read_text(encoding="utf8"))["parameters"]
    made, plan = plain(made), plain(planned(path.stem))
    shared = made.keys() & plan.keys()
    assert shared and not [name for name in shared if made[name] != plan[name]]
