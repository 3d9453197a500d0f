"""Tasks: the rows, splits and labels they promise, what they refuse, metrics as the libraries'."""

import random

import numpy as np
import pytest
import scipy.stats
import seqeval.metrics
import sklearn.metrics
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

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


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIALBERT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


# --- GLUE's layouts ---

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
    """One task of a folder as the Hub has it; a card lists its files."""
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


def test_the_hub_is_asked_for_the_configuration(monkeypatch):
    asked = []

    def open_dataset(*args):
        asked.append(args)
        return DatasetDict(
            {split: glue_rows("rte", split) for split in ("train", "validation", "test")}
        )

    monkeypatch.setattr(sources, "open_dataset", open_dataset)
    assert len(load_task("rte").train) == 12 and asked == [("nyu-mll/glue", "rte")]


def test_labels_in_another_order_are_put_right_by_name():
    rows = glue_rows("mnli", "train", names=GLUE["mnli"][1][::-1])
    data = load_task("mnli", DatasetDict({"train": rows, "validation_matched": rows}))
    assert data.train["label"][:4] == [2, 1, 0, 2]


def test_splits_given_directly_and_a_folder_of_save_to_disk(tmp_path):
    parts = DatasetDict({split: glue_rows("cola", split) for split in ("train", "validation")})
    parts.save_to_disk(tmp_path / "saved")
    for source in (parts, tmp_path / "saved"):
        assert load_task("cola", source).train["label"][:] == parts["train"]["label"][:]
    rows = Dataset.from_dict({"words": [["a", "b", "c"]], "tags": [["O", "I", "I"]], "more": [1]})
    data = load_task(get_task("silver_chemicals"), DatasetDict({"train": rows, "test": rows}))
    assert data.train.to_list() == [{"words": ["a", "b", "c"], "tags": [0, 1, 2]}]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
def test_labels_as_names_or_ids_in_plain_files(tmp_path, suffix):
    for labels in (["entailment", "not_entailment"], [0, 1]):
        rows = [{"sentence1": 'it "is"', "sentence2": "b", "label": label} for label in labels]
        for split in ("train", "dev"):
            write(tmp_path / f"{split}{suffix}", rows)
        data = load_task("rte", tmp_path)
        assert data.train["label"][:] == [0, 1] and data.train[0]["sentence1"] == 'it "is"'


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


SPLIT_OF_REVIEWS = [[2, 3, 7, 9, 11, 22, 24], [20, 30, 33, 38]]


def test_one_piece_is_divided_by_its_texts(tmp_path):
    data = load_task("rotten_tomatoes", reviews(tmp_path / "a.jsonl"), keep_apart=0.1)
    parts = [data.train, data.selection, data.evaluation["test"]]
    texts = [{tasks._normalised(row["text"]) for row in rows} for rows in parts]
    assert sum(map(len, parts)) == 399 == len(set.union(*texts)), (
        "no text twice, none that contradicts"
    )
    assert "review 7" in set.union(*texts) and "review 8" not in set.union(*texts)
    assert len(parts[0]) / 399 == pytest.approx(0.8, abs=0.06) and min(map(len, parts)) > 25
    # the split is fixed: the hash of a text says where it is, whatever stands around it
    assert [
        [n for n in range(40) if f"review {n}" in part] for part in texts[1:]
    ] == SPLIT_OF_REVIEWS
    fewer = load_task("rotten_tomatoes", reviews(tmp_path / "b.jsonl", rows=200), seed=5)
    assert set(fewer.evaluation["test"]["text"]) < set(data.evaluation["test"]["text"])


# --- your own data ---


def write(path, rows):
    table = Dataset.from_list(rows)
    if path.suffix == ".tsv":
        cells = [list(rows[0])] + [[str(value) for value in row.values()] for row in rows]
        path.write_text("".join("\t".join(line) + "\n" for line in cells))
    elif path.suffix == ".csv":
        table.to_csv(path, index=False)
    else:
        table.to_json(path)


def own(tmp_path, rows, **options):
    """Load rows as one's own data: a folder whose train and validation are both `rows`."""
    for split in ("train", "validation"):
        write(tmp_path / f"{split}.jsonl", rows)
    return load_task("own", tmp_path, **{"text_columns": ["text"], **options})


def rows_of(labels, text="a text"):
    return [{"text": f"{text} {n}", "label": label} for n, label in enumerate(labels)]


@pytest.mark.parametrize(
    "labels, options, names, ids",
    [
        (["no", "yes", "no"], {}, ("no", "yes"), [0, 1, 0]),
        (["no", "yes", "no"], {"labels": ["yes", "no"]}, ("yes", "no"), [1, 0, 1]),
        ([1, 10, 3], {}, ("1", "3", "10"), [0, 2, 1]),
        ([True, False, True], {}, ("False", "True"), [1, 0, 1]),
        ([0.5, 1, 7.25], {"kind": "regression"}, (), [0.5, 1.0, 7.25]),
    ],
)
def test_labels_of_own_data(tmp_path, labels, options, names, ids):
    data = own(tmp_path, rows_of(labels), **options)
    assert (data.task.labels, data.train["label"][:]) == (names, ids)


def test_own_test_split_is_reported_and_validation_kept_for_choosing(tmp_path):
    for split, size in (("train", 10), ("dev", 6), ("test", 8)):
        write(tmp_path / f"{split}.csv", rows_of([0, 1] * (size // 2)))
    data = load_task("own", tmp_path, text_columns="text", keep_apart=0.5)
    assert (len(data.train), len(data.selection), len(data.evaluation["test"])) == (10, 6, 8)
    assert len(load_task("own", tmp_path, text_columns="text").selection) == 0


def test_own_tags(tmp_path):
    make_tsv(tmp_path, train="a\tB-x\nb\tI-x\nc\tO\n", test="a\tB-x\n")
    data = load_task("own", tmp_path, kind="tagging", labels=["O", "B-x", "I-x"])
    assert data.train.to_list() == [{"words": ["a", "b", "c"], "tags": [1, 2, 0]}]


# --- what is refused ---


@pytest.mark.parametrize(
    "labels, options, message",
    [
        ([0, 1], {"text_columns": "txt"}, r"no column \['txt'\]"),
        ([0, 1, 2], {"labels": ("no", "yes")}, "label 2; wanted are no, yes"),
        ([0, 1, -1], {"labels": ("no", "yes")}, "label -1; wanted are no, yes"),
        (["no", "mabye"], {"labels": ("no", "yes")}, "mabye"),
        ([0.0, 1.0, 0.5], {}, 'give kind="regression"'),
        (["a", "b", "c"], {"kind": "regression"}, "wanted are numbers"),
        ([0.5, 5.5, 1.0], {"kind": "regression", "limits": (0, 5)}, "it holds .5.5"),
        ([0, 1], {"kind": "classify"}, "kind='classify'"),
        ([0, 1], {"text_columns": None}, "needs text_columns"),
        ([0, 1], {"limit": 0}, "limit="),
        ([0, 1], {"keep_apart": 1.0}, "keep_apart="),
        ([0, 1], {"keep_apart": 0.01}, "keep_apart="),
    ],
)
def test_own_data_that_cannot_be(tmp_path, labels, options, message):
    with pytest.raises(TaskError, match=message):
        own(tmp_path, rows_of(labels), **options)


def test_splits_and_names_that_cannot_be(tmp_path):
    rows = glue_rows("sst2", "train")
    other = glue_rows("sst2", "train", names=["bad", "good"])
    for parts, message in (
        ({"validation": rows}, "no split 'train'"),
        ({"train": rows, "test": rows}, "no validation split"),
        ({"train": rows, "validation": rows.select([])}, "is empty"),
        ({"train": rows.select(range(2))}, "is empty"),  # to divide
        ({"train": other, "validation": other}, "bad; wanted are negative, positive"),
    ):
        with pytest.raises(TaskError, match=message):
            load_task("sst2", DatasetDict(parts))
    with pytest.raises(sources.SourceError, match="'rte' not found"):
        load_task("rte", make_glue(tmp_path, "cola"))
    with pytest.raises(TaskError, match="needs source=.*BC2GM"):
        load_task("bc2gm")
    with pytest.raises(TaskError, match="unknown task 'sst-2'.*'sst2'"):
        load_task("sst-2")
    untagged = Dataset.from_dict({"words": [["a", "b"]], "tags": [["O"]]})
    with pytest.raises(TaskError, match="not one tag for each word"):
        load_task("bc2gm", DatasetDict({"train": untagged, "test": untagged}))


@pytest.mark.parametrize(
    "content, message",
    [
        ("a\tO\nb O\n", "train.tsv, line 2: 'b O' is no token"),
        ("a\tO\n\nb\t\n", "line 3"),
        ("a\tO\n\tB\n", "line 2"),
        ("a\tO\nb\tB-Gene\n", "B-Gene; wanted are O, B, I"),
        (" \n\n", "split train (is empty|has no column)"),
    ],
)
def test_tsv_that_cannot_be_read(tmp_path, content, message):
    with pytest.raises(TaskError, match=message):
        load_task("bc2gm", make_tsv(tmp_path, train=content, test=SENTENCES))


# --- tsv as BioBERT distributes it ---

SENTENCES = "Gout\tB\nis\tO\nbad\tO\n\nLung\tB\ncancer\tI\ntoo\tO\n\n"
NER = TASKS["ncbi_disease"]


def make_tsv(folder, **contents):
    folder.mkdir(parents=True, exist_ok=True)
    for split, content in contents.items():
        (folder / f"{split}.tsv").write_bytes(
            content if isinstance(content, bytes) else content.encode()
        )
    return folder


def test_a_corpus_folder_or_the_one_above(tmp_path):
    contents = dict(train=SENTENCES, devel=SENTENCES[:19], test=SENTENCES * 2)
    make_tsv(tmp_path / "BC2GM", **contents, train_dev=SENTENCES + SENTENCES[:19])
    for source in (tmp_path, tmp_path / "BC2GM"):
        data = load_task("bc2gm", source, keep_apart=0.1)
        assert data.train.to_list() == [
            {"words": ["Gout", "is", "bad"], "tags": [1, 0, 0]},
            {"words": ["Lung", "cancer", "too"], "tags": [1, 2, 0]},
        ]
        assert (len(data.selection), len(data.evaluation["test"])) == (1, 4)


def test_train_dev_stands_in_for_a_missing_train_and_devel_is_then_not_apart(tmp_path):
    make_tsv(tmp_path, devel=SENTENCES, test=SENTENCES, train_dev=SENTENCES * 5)
    data = load_task("bc2gm", tmp_path, keep_apart=0.2)
    assert (len(data.train), len(data.selection)) == (8, 2)


@pytest.mark.parametrize(
    "content",
    [
        SENTENCES.replace("\n", "\r\n"),
        b"\xef\xbb\xbf" + SENTENCES.encode(),
        SENTENCES.replace("\n\n", "\n \t \n\n\n").rstrip("\n"),
        SENTENCES.replace("\tO", "\tO\tNN\t"),
    ],
    ids=["crlf", "bom", "spaces", "columns"],
)
def test_tsv_as_it_comes(tmp_path, content):
    rows = tasks.read_tsv(make_tsv(tmp_path, train=content) / "train.tsv", NER)
    assert rows["words"][:] == [["Gout", "is", "bad"], ["Lung", "cancer", "too"]]
    assert rows["tags"][:] == [["B", "O", "O"], ["B", "I", "O"]]


def test_an_i_without_a_b_begins_an_entity(tmp_path):
    content = "a\tO\nb\tI\nc\tI\n\nd\tI\ne\tO\n\nf\tB\ng\tI\n"
    data = load_task("bc2gm", make_tsv(tmp_path, train=content, test=SENTENCES))
    assert data.train["tags"][:] == [[0, 1, 2], [1, 0], [1, 2]]
    labels = ("O", "B-x", "I-x", "B-y", "I-y")
    rows = Dataset.from_dict({"words": [list("abcd")], "tags": [["B-x", "I-y", "I-y", "B-y"]]})
    task = get_task("own", kind="tagging", labels=labels)
    data = load_task(task, DatasetDict({"train": rows, "test": rows}))
    assert [labels[tag] for tag in data.train["tags"][0]] == ["B-x", "B-y", "I-y", "B-y"]


# --- encoding ---

TAGGED = Dataset.from_dict(
    {"words": [["the", "zyxwv", "\u200b", "cat"], ["a", "dog"]], "tags": [[0, 1, 2, 2], [0, 1]]}
)


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


# --- metrics ---


@pytest.mark.parametrize("seed", range(3))
def test_metrics_equal_the_libraries(seed):
    draws = np.random.default_rng(seed)
    predictions, references = draws.integers(0, 2, (2, 60))
    expected = {
        "accuracy": sklearn.metrics.accuracy_score(references, predictions),
        "f1": sklearn.metrics.f1_score(references, predictions),
        "matthews": sklearn.metrics.matthews_corrcoef(references, predictions),
    }
    logits = np.eye(2)[predictions] + draws.uniform(0, 0.5, (60, 2))
    for name in ("mrpc", "cola", "sst2"):
        wanted = {metric: expected[metric] for metric in TASKS[name].metrics}
        for given in (predictions, logits):
            assert compute_metrics(TASKS[name], given, references) == pytest.approx(wanted)
    scores = draws.normal(size=(60, 2))
    assert compute_metrics(TASKS["stsb"], scores[:, :1], scores[:, 1]) == pytest.approx(
        {
            "pearson": scipy.stats.pearsonr(*scores.T).statistic,
            "spearman": scipy.stats.spearmanr(*scores.T).statistic,
        }
    )
    classes = draws.integers(0, 3, (2, 60))
    macro = sklearn.metrics.f1_score(classes[1], classes[0], average="macro")
    assert compute_metrics(get_task("mnli", metrics=("f1",)), *classes)["f1"] == macro


@pytest.mark.parametrize(
    "task, predictions, references",
    [
        ("sst2", [], []),
        ("sst2", [0, 1], [0]),
        ("stsb", [0.0, float("nan")], [0, 1]),
        ("ncbi_disease", [[0]], [[0, 1]]),
    ],
)
def test_predictions_that_cannot_be(task, predictions, references):
    with pytest.raises(TaskError):
        compute_metrics(TASKS[task], predictions, references)


def test_degenerate_predictions_have_scores():
    same, mixed = np.zeros(4, int), np.array([0, 1, 1, 0])
    for pair in ((same, mixed), (mixed, same)):
        assert compute_metrics(TASKS["cola"], *pair) == {"matthews": 0.0}
        assert compute_metrics(TASKS["stsb"], *pair) == {"pearson": 0.0, "spearman": 0.0}
    assert compute_metrics(TASKS["mrpc"], same, mixed) == {"f1": 0.0, "accuracy": 0.5}
    assert compute_metrics(TASKS["mrpc"], same, same) == {"f1": 0.0, "accuracy": 1.0}
    assert compute_metrics(NER, [[0, 0]], [[0, 0]]) == {"f1": 0, "precision": 0, "recall": 0}


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
    with pytest.raises(TaskError, match="words or published"):
        entity_f1(NER, once, first, protocol="word")


@pytest.mark.parametrize("seed", range(3))
def test_entity_f1_equals_seqeval_on_words(tiny_tokenizer, seed):
    draws = np.random.default_rng(seed)
    tags = [draws.choice(3, size, p=[0.6, 0.25, 0.15]).tolist() for size in [3, 8, 1, 9] * 5]
    words = [draws.choice(["the", "zyxwv", "teachers"], len(row)).tolist() for row in tags]
    encoded = encode(Dataset.from_dict({"words": words, "tags": tags}), NER, tiny_tokenizer)
    logits = [draws.normal(size=(row["length"], 3)) for row in encoded]
    predicted, lost = tasks.tag_words(logits, encoded)
    truth, typed = (
        [[["O", "B-X", "I-X"][tag] for tag in row] for row in rows] for rows in (tags, predicted)
    )
    scores = entity_f1(NER, logits, encoded)
    assert lost == 0 and scores == compute_metrics(NER, predicted, tags)
    for name in ("f1", "precision", "recall"):
        expected = getattr(seqeval.metrics, f"{name}_score")(truth, typed)
        assert scores[name] == pytest.approx(expected) and expected > 0


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


def test_missing_scores_are_handled_openly():
    assert glue_average(dict.fromkeys(tasks.GLUE_COLUMNS, 57.05)) == 57.05  # in binary below it
    scores = {name: row for name, row, _ in table_1()}["768-dagger-star"]
    with pytest.raises(TaskError, match="no score for cola"):
        glue_average(scores)
    assert glue_average(scores, missing="skip") == 76.78  # so the paper's 68.25 is 8.53 too low
    with pytest.raises(TaskError, match="no score for"):
        glue_average(dict.fromkeys(scores), missing="skip")
    with pytest.raises(TaskError, match="mnli"):
        glue_average({"mnli": 80})
    with pytest.raises(TaskError, match="fractions"):
        glue_average(dict.fromkeys(tasks.GLUE_COLUMNS, 0.8))


# --- the real data, where it is ---


@pytest.mark.parametrize(
    "name, sizes",
    [
        ("sst2", (67349, 872)),
        ("cola", (8551, 1043)),
        ("mrpc", (3668, 408)),
        ("stsb", (5749, 1379)),
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


def test_what_chooses_and_what_is_reported(tmp_path):
    """STS-B has test labels in its package, and none in GLUE."""
    rows = Dataset.from_dict(
        {"sentence1": ["a"] * 10, "sentence2": ["b"] * 10, "label": [1.0] * 10}
    )
    hidden = rows.select(range(3)).map(lambda row: {"label": -1.0})
    parts = {"train": rows, "validation": rows.select(range(5)), "test": rows.select(range(4))}
    data = load_task("stsb", DatasetDict(parts), keep_apart=0.2)
    assert {part: len(one) for part, one in data.evaluation.items()} == {"test": 4}
    assert (len(data.train), len(data.selection)) == (10, 5)
    data = load_task("stsb", DatasetDict(parts | {"test": hidden}), keep_apart=0.2)
    assert {part: len(one) for part, one in data.evaluation.items()} == {"validation": 5}
    assert (len(data.train), len(data.selection)) == (8, 2)
    data = load_task("stsb", DatasetDict(parts), protocol="published")
    assert {part: len(one) for part, one in data.evaluation.items()} == {"validation": 5}
    assert (len(data.train), len(data.selection)) == (10, 5)
    with pytest.raises(TaskError, match="use held-out or published"):
        load_task("stsb", DatasetDict(parts), protocol="mine")
