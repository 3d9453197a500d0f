"""Fine-tuning, full and of adapters: what is trained, kept, resumed, refused; many systems."""

import csv
import json
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy.stats import pearsonr, spearmanr
from tiny import SUBJECTS, TOKENIZER, VERBS
from transformers import (
    AlbertConfig,
    AutoModel,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    MobileBertConfig,
)

from minialbert import (
    MiniAlbertConfig,
    MiniAlbertForMaskedLM,
    MiniAlbertForSequenceClassification,
    MiniAlbertModel,
    comparison,
    tasks,
)
from minialbert.checkpoints import TrainingError
from minialbert.comparison import ComparisonArguments, compare, tune
from minialbert.finetuning import (
    FinetuningError,
    TuningArguments,
    adapter_state_dict,
    evaluate,
    finetune,
    frozen_in_bf16,
    load_adapters,
    load_for_task,
    mark_only_adapters_trainable,
    near_lengths,
    predict,
    save_adapters,
    sentence_embeddings,
    sentence_similarity,
)

PAIRS = {
    "sentence1": [
        "the cat sees a dog.",
        "my sister likes the river",
        "a bird",
        "the teacher knows our house.",
    ],
    "sentence2": [
        "a dog sees the cat.",
        "my sister likes the river",
        "the old man wants it",
        "a house",
    ],
    "label": [4.0, 5.0, 0.5, 2.0],
}


@pytest.fixture
def model(tiny_tokenizer):
    torch.manual_seed(0)
    return MiniAlbertModel(
        MiniAlbertConfig(
            vocab_size=len(tiny_tokenizer),
            embedding_size=8,
            hidden_size=24,
            num_hidden_layers=2,
            num_attention_heads=3,
            intermediate_size=32,
            max_position_embeddings=40,
            initializer_range=0.3,
        )
    )


def test_embeddings_are_means_over_tokens(model, tiny_tokenizer):
    sentences = PAIRS["sentence1"]
    together = sentence_embeddings(model, tiny_tokenizer, sentences, batch_size=3, bf16=False)
    for sentence, vector in zip(sentences, together, strict=True):
        alone = model(**tiny_tokenizer(sentence, return_tensors="pt")).last_hidden_state[0].mean(0)
        np.testing.assert_allclose(vector, alone.detach().numpy(), atol=1e-5)


def test_similarity_is_the_rank_correlation_of_cosines(model, tiny_tokenizer):
    first, second = (
        torch.tensor(sentence_embeddings(model, tiny_tokenizer, PAIRS[name], bf16=False))
        for name in ("sentence1", "sentence2")
    )
    expected = spearmanr(torch.cosine_similarity(first, second), PAIRS["label"]).statistic
    score = sentence_similarity(model, tiny_tokenizer, PAIRS, bf16=False)
    assert score == pytest.approx(expected) and -1 <= score <= 1


def test_a_long_sentence_is_cut_to_the_positions(model, tiny_tokenizer):
    assert np.isfinite(
        sentence_embeddings(model, tiny_tokenizer, ["the cat " * 60], bf16=False)
    ).all()


def test_adapters_alone_carry_a_task():
    config = dict(
        vocab_size=50,
        embedding_size=8,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=32,
        num_labels=3,
        adapter_reduction=4,
    )
    torch.manual_seed(0)
    body, tuned = (
        MiniAlbertForSequenceClassification(MiniAlbertConfig(**config)).eval() for _ in range(2)
    )
    tuned.minialbert.load_state_dict(body.minialbert.state_dict())
    trained = mark_only_adapters_trainable(tuned)
    assert trained == 4 * (2 * 24 * 6 + 6 + 24 + 48) + 3 * 25
    optimizer = torch.optim.SGD([p for p in tuned.parameters() if p.requires_grad], lr=0.5)
    ids = torch.arange(1, 9)[None]
    tuned(ids, labels=torch.tensor([2])).loss.backward()
    optimizer.step()
    assert not torch.allclose(tuned(ids).logits, body(ids).logits)
    missing, unexpected = body.load_state_dict(adapter_state_dict(tuned), strict=False)
    assert not unexpected and "minialbert.encoder.block.attention.query.weight" in missing
    torch.testing.assert_close(body(ids).logits, tuned(ids).logits)
    assert not any(t.requires_grad for t in adapter_state_dict(tuned).values())


# -- a task, a student, a run ----------------------------------------------------------------------


def sentences(rows, seed):
    """Simple sentences of several lengths, positive where the verb is one of four."""
    draw = random.Random(seed)
    for number in range(rows):
        kind = number % 2
        verb = draw.choice(VERBS[:4] if kind else VERBS[4:])
        yield {
            "text": f"{draw.choice(SUBJECTS)} {verb} {draw.choice(SUBJECTS)}"
            + " the river" * draw.randint(0, 6),
            "label": ["no", "yes"][kind],
        }


def write(path, rows):
    rows = list(rows)
    with open(path, "w", newline="", encoding="utf8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINIALBERT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write(folder / "train.csv", sentences(320, 0))
    write(folder / "validation.csv", sentences(80, 1))
    return tasks.load_task(
        "own", folder, text_columns=["text"], keep_apart=0.25, kind="classification"
    )


CONFIG = dict(
    embedding_size=8,
    hidden_size=32,
    num_hidden_layers=3,
    num_attention_heads=4,
    intermediate_size=64,
    adapter_reduction=2,
    max_position_embeddings=64,
    initializer_range=0.1,
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
)


def save(folder, model):
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(TOKENIZER).save_pretrained(folder)
    return str(folder)


def student(folder, seed=0, **changes):
    torch.manual_seed(seed)
    vocabulary = len(AutoTokenizer.from_pretrained(TOKENIZER))
    return save(
        folder,
        MiniAlbertForMaskedLM(MiniAlbertConfig(**{"vocab_size": vocabulary, **CONFIG, **changes})),
    )


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return student(tmp_path_factory.mktemp("student"))


@pytest.fixture
def arguments(checkpoint, tmp_path):
    return TuningArguments(
        str(tmp_path / "run"),
        checkpoint,
        task="own",
        learning_rate=3e-3,
        batch_size=16,
        epochs=3,
        max_length=32,
        precision="fp32",
    )


@pytest.mark.parametrize("tuning, rate", [("full", 3e-3), ("adapter", 1e-2)])
def test_a_task_is_learned(arguments, data, tuning, rate):
    arguments = replace(arguments, tuning=tuning, learning_rate=rate, epochs=6)
    result = finetune(arguments, data, quiet=True)
    assert (
        result["metrics"]["validation"]["accuracy"] > {"full": 0.9, "adapter": 0.7}[tuning]
    )  # the majority has 0.5
    assert result["train_rows"] == 240 and result["steps"] == 6 * 15
    folder = Path(arguments.run_folder)
    kept = {"full": "model", "adapter": "adapters.safetensors"}[tuning]
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        ["owner.json", "predictions", kept]
    )
    written = [
        json.loads(line)
        for line in (folder / "predictions/validation.jsonl").read_text().splitlines()
    ]
    assert [row["label"] for row in written] == data.evaluation["validation"]["label"]
    assert (
        np.mean([r["label"] == r["prediction"] for r in written])
        == result["metrics"]["validation"]["accuracy"]
    )


def test_adapter_tuning_changes_nothing_else(arguments, data, checkpoint):
    result = finetune(replace(arguments, tuning="adapter"), data, quiet=True)
    body, tuned = (
        load_file(Path(checkpoint) / "model.safetensors"),
        load_file(Path(arguments.run_folder) / "adapters.safetensors"),
    )
    assert {name.split(".")[0] for name in tuned} == {"minialbert", "classifier"}
    assert all("_adapters." in name or name.startswith("classifier.") for name in tuned)
    assert sum(t.numel() for t in tuned.values()) == result["trained_parameters"]
    shared = [name for name in tuned if name in body]
    assert len(shared) == 3 * 2 * 6 and any(
        not torch.equal(body[name], tuned[name]) for name in shared
    )


def everything(folder):
    return {path: path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


@pytest.mark.parametrize("changes", [{"learning_rate": 1e-4}, {"tuning": "adapter"}, {"seed": 1}])
def test_another_runs_folder_is_refused_untouched(arguments, data, changes):
    finetune(replace(arguments, epochs=0.1), data, quiet=True)
    before = everything(arguments.run_folder)
    (name,) = changes
    with pytest.raises(TrainingError, match=f"another training.*{name} was"):
        finetune(replace(arguments, epochs=0.1, **changes), data, quiet=True)
    assert everything(arguments.run_folder) == before


def test_a_folder_of_other_files_is_refused_untouched(arguments, data, checkpoint):
    folder = Path(arguments.run_folder)
    for name in ("checkpoints/checkpoint-5/model.safetensors", "model/config.json"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text("a distillation's")
    before = everything(folder)
    with pytest.raises(TrainingError, match="does not say which training wrote them"):
        finetune(arguments, data, quiet=True)
    assert everything(folder) == before


def test_other_rows_and_a_student_distilled_anew_are_another_training(arguments, data, tmp_path):
    arguments = replace(arguments, model=student(tmp_path / "mine"), epochs=0.1)
    finetune(arguments, data, quiet=True)
    fewer = replace(data, train=data.train.select(range(100)))
    with pytest.raises(TrainingError, match="rows was"):
        finetune(arguments, fewer, quiet=True)
    student(tmp_path / "mine", seed=1)
    with pytest.raises(TrainingError, match="weights was"):
        finetune(arguments, data, quiet=True)


def driven(folder):
    """The data that DRIVER reads."""
    own = {"text_columns": ["text"], "kind": "classification"}
    return tasks.load_task("own", folder, keep_apart=0.25, **own)


DRIVER = """
import json, os, signal, sys
from minialbert import tasks, training
from minialbert.finetuning import TuningArguments, finetune

class KillsItself(training.Progress):
    def on_step_end(self, args, state, control, **_):
        if state.global_step == int(sys.argv[3]):
            os.kill(os.getpid(), signal.SIGKILL)

training.Progress = KillsItself
own = {"text_columns": ["text"], "kind": "classification"}
data = tasks.load_task("own", sys.argv[1], keep_apart=0.25, **own)
finetune(TuningArguments(**json.loads(sys.argv[2])), data)
"""


@pytest.mark.parametrize("tuning", ["full", "adapter"])
def test_killed_and_resumed_gives_the_same(arguments, tmp_path, tuning):
    write(tmp_path / "train.csv", sentences(320, 0))
    write(tmp_path / "validation.csv", sentences(80, 1))
    arguments = replace(arguments, tuning=tuning, dropout=0.2, precision="bf16", save_steps=15)

    def run(folder, kill):
        given = json.dumps(vars(replace(arguments, run_folder=str(tmp_path / folder))))
        command = [sys.executable, "-c", DRIVER, str(tmp_path), given, str(kill)]
        return subprocess.run(command, capture_output=True, text=True)

    finetune(replace(arguments, run_folder=str(tmp_path / "whole")), driven(tmp_path), quiet=True)
    assert run("killed", 38).returncode == -9
    assert not (tmp_path / "killed/predictions").exists()
    if tuning == "full":  # the newest checkpoint cut off: the one before it is taken
        weights = tmp_path / "killed/checkpoints/checkpoint-30/model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-100])
    resumed = run("killed", 0)
    assert resumed.returncode == 0
    assert ("checkpoint-30 is passed over: model.saf" in resumed.stderr) == (tuning == "full")
    name = {"full": "model/model.safetensors", "adapter": "adapters.safetensors"}[tuning]
    whole, killed = (load_file(tmp_path / folder / name) for folder in ("whole", "killed"))
    assert whole.keys() == killed.keys()
    assert all(torch.equal(whole[key], killed[key]) for key in whole)
    assert not (tmp_path / "killed/checkpoints").exists()


def test_patience_stops_and_takes_the_best(arguments, data):
    result = finetune(
        replace(arguments, epochs=12, patience=1, learning_rate=1e-6), data, quiet=True
    )
    assert result["steps"] < 12 * 15 and 0 <= result["best_selection_score"] <= 1
    nothing_apart = replace(data, selection=data.selection.select([]))
    with pytest.raises(FinetuningError, match="keep_apart=0.1"):
        finetune(replace(arguments, patience=1), nothing_apart, quiet=True)


def test_a_grid_chooses_on_what_is_kept_apart(arguments, data, monkeypatch):
    arguments = replace(arguments, epochs=2)
    kept, made = {}, []

    def once(key, make):
        text = json.dumps(key)
        if text not in kept:
            made.append(key)
            kept[text] = make()
        return kept[text]

    grid = {"learning_rate": [1e-6, 5e-3]}
    given = {"seeds": [0, 1], "system": "ours", "once": once, "quiet": True}
    result = tune(arguments, data, grid, **given)
    slow, fast = (one["metrics"]["selection"]["accuracy"] for one in result["tried"])
    assert fast > slow
    used = [run["arguments"] for run in result["runs"]]
    assert [(one["learning_rate"], one["seed"]) for one in used] == [(5e-3, 0), (5e-3, 1)]
    assert all("validation" in run["metrics"] for run in result["runs"])
    setting = {"learning_rate": 5e-3}
    about = {"system": "ours", "task": "own"}
    assert made[1:] == [about | {"seed": seed, "setting": setting} for seed in (0, 1)]
    monkeypatch.setattr(comparison, "finetune", None)
    assert tune(arguments, data, grid, **given) == result and len(made) == 3


def test_a_grid_needs_a_part_kept_apart(arguments, data):
    with pytest.raises(FinetuningError, match="keep_apart=0.1"):
        nothing_apart = replace(data, selection=data.selection.select([]))
        tune(arguments, nothing_apart, {"batch_size": [8, 16]})
    assert not Path(arguments.run_folder).exists()


# -- order and evaluation --------------------------------------------------------------------------


def test_batches_of_near_lengths():
    lengths = random.Random(0).choices(range(5, 60), k=330)
    order = near_lengths(lengths, 16, 2, seed=3)
    assert (
        sorted(order[:330]) == sorted(order[330:]) == list(range(330))
        and order[:330] != order[330:]
    )
    assert order == near_lengths(lengths, 16, 2, seed=3) != near_lengths(lengths, 16, 2, seed=4)
    assert len(near_lengths(lengths, 16, 0.5, seed=3)) == 165

    def padding(indices):
        batches = [[lengths[i] for i in indices[k : k + 16]] for k in range(0, 320, 16)]
        return sum(max(batch) * len(batch) - sum(batch) for batch in batches)

    assert padding(order) < 0.3 * padding(range(330))
    first = [lengths[i] for i in order[:320:16]]
    assert first != sorted(first, reverse=True)  # batches are shuffled, not read from long to short


def test_predictions_are_those_of_each_row_alone(data, checkpoint):
    model, tokenizer = load_for_task(checkpoint, data.task)
    encoded = tasks.encode(data.evaluation["validation"], data.task, tokenizer, 32, positions=64)
    together = predict(
        model, encoded, tasks.collator(data.task, tokenizer), batch_size=7, bf16=False
    )
    assert model.training is False or model.train()
    for row, logits in zip(encoded, together, strict=True):
        padded = row["input_ids"] + [0] * (64 - len(row["input_ids"]))
        mask = torch.arange(64)[None] < len(row["input_ids"])
        alone = model.eval()(torch.tensor([padded]), attention_mask=mask.long()).logits[0]
        np.testing.assert_allclose(logits, alone.detach(), atol=1e-5)


def test_metrics_of_a_regression_and_of_a_tagger(checkpoint, tmp_path):
    pairs = [
        {
            "a": f"{SUBJECTS[i % 8]} sees a dog",
            "b": f"{SUBJECTS[i * 3 % 8]} sees a dog",
            "label": i % 6 - 0.5,
        }
        for i in range(40)
    ]
    write(tmp_path / "train.csv", pairs)
    write(tmp_path / "validation.csv", pairs)
    scored = tasks.load_task("own", tmp_path, text_columns=["a", "b"], kind="regression")
    model, tokenizer = load_for_task(checkpoint, scored.task)
    metrics, rows = evaluate(
        model, tokenizer, scored.task, scored.evaluation["validation"], bf16=False, max_length=64
    )
    written = [[row["prediction"] for row in rows], [row["label"] for row in rows]]
    assert metrics["pearson"] == pytest.approx(pearsonr(*written).statistic, abs=1e-5)
    assert metrics["spearman"] == pytest.approx(spearmanr(*written).statistic, abs=1e-5)

    (tmp_path / "train.tsv").write_text(
        "".join("the\tO\nsister\tB\nlikes\tO\n\n" for _ in range(8))
    )
    (tmp_path / "test.tsv").write_text("the\tO\nsister\tB\n\u200b\tI\nlikes\tO\n\n" * 4)
    (tmp_path / "train.csv").unlink(), (tmp_path / "validation.csv").unlink()
    tagged = tasks.load_task("ncbi_disease", tmp_path)
    model, tokenizer = load_for_task(checkpoint, tagged.task)
    metrics, rows = evaluate(
        model, tokenizer, tagged.task, tagged.evaluation["test"], bf16=False, max_length=64
    )
    names = [
        [[tagged.task.labels[tag] for tag in row[key]] for row in rows]
        for key in ("label", "prediction")
    ]
    from seqeval.metrics import f1_score

    assert metrics["f1"] == f1_score(*names, zero_division=0) and metrics["lost_words"] == 4
    assert "published_f1" in metrics and all(len(row["prediction"]) == 4 for row in rows)


# -- one body, many tasks --------------------------------------------------------------------------


def test_switching_tasks_on_one_body(arguments, data, tmp_path, checkpoint):
    arguments = replace(arguments, tuning="adapter", learning_rate=1e-2)
    finetune(arguments, data, quiet=True)
    binary, tokenizer = load_for_task(checkpoint, data.task)
    three = replace(data.task, name="three", labels=("a", "b", "c"))
    model, _ = load_for_task(checkpoint, three, seed=5)
    save_adapters(model, tmp_path / "three.safetensors", task="three")
    batch = tokenizer(["the cat likes our house"], return_tensors="pt")
    expected = model.eval()(**batch).logits
    file = Path(arguments.run_folder, "adapters.safetensors")
    assert (
        load_adapters(binary, tmp_path / "three.safetensors") == "three"
        and binary.config.num_labels == 3
    )
    torch.testing.assert_close(binary.eval()(**batch).logits, expected)
    assert load_adapters(binary, file) == "own" and binary.config.id2label == {0: "no", 1: "yes"}
    rows = [
        json.loads(line)
        for line in Path(arguments.run_folder, "predictions/validation.jsonl")
        .read_text()
        .splitlines()
    ]
    again, _ = evaluate(
        binary, tokenizer, data.task, data.evaluation["validation"], max_length=32, bf16=False
    )
    assert again["accuracy"] == np.mean([row["label"] == row["prediction"] for row in rows])
    assert file.stat().st_size < 0.6 * Path(checkpoint, "model.safetensors").stat().st_size


@pytest.mark.parametrize(
    "changes, message",
    [
        ({}, "another model .body: "),  # another seed
        ({"num_hidden_layers": 4}, "num_hidden_layers: 4, here 3"),
        ({"adapter_reduction": 8}, "adapter_reduction: 8, here 2"),
        ({"adapter_layer_norm": False}, "adapter_layer_norm: False, here True"),
    ],
)
def test_adapters_of_another_body_are_refused(data, tmp_path, checkpoint, changes, message):
    other, _ = load_for_task(student(tmp_path / "other", seed=9, **changes), data.task)
    file = save_adapters(other, tmp_path / "other.safetensors")
    model, _ = load_for_task(checkpoint, data.task)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(FinetuningError, match=message):
        load_adapters(model, file)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_what_is_no_adapter_file(data, tmp_path, checkpoint):
    model, _ = load_for_task(checkpoint, data.task)
    (tmp_path / "text").write_text("hello, this is a text and no weights")
    for file in (tmp_path / "nowhere", tmp_path / "text", Path(checkpoint, "model.safetensors")):
        with pytest.raises(FinetuningError, match="no adapter file.*save_adapters"):
            load_adapters(model, file)
    tagger, _ = load_for_task(checkpoint, tasks.get_task("bc2gm"))
    with pytest.raises(
        FinetuningError,
        match="class: MiniAlbertForSequenceClassification, here MiniAlbertForTokenClassification",
    ):
        load_adapters(tagger, save_adapters(model, tmp_path / "mine.safetensors"))


def test_frozen_weights_in_bf16_compute_what_autocast_computes(data, checkpoint):
    model, tokenizer = load_for_task(checkpoint, data.task)
    mark_only_adapters_trainable(model.eval())
    batch = tokenizer(["the cat likes our house", "a dog"], padding=True, return_tensors="pt")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with torch.autocast("cpu", torch.bfloat16):
        plain = model(**batch).logits
        with frozen_in_bf16(model):
            assert model.minialbert.encoder.block.attention.query.weight.dtype == torch.bfloat16
            assert model.minialbert.encoder.ffn_adapters[0].down.weight.dtype == torch.float32
            halved = model(**batch).logits
    assert torch.equal(plain, halved)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


# -- what a task may start from --------------------------------------------------------------------


def test_added_adapters_start_as_identity_or_as_published(data, tmp_path, tiny_tokenizer):
    plain = student(tmp_path / "plain", adapter_reduction=None)
    batch = tiny_tokenizer(["the cat likes our house"], return_tensors="pt")
    without, _ = load_for_task(plain, data.task, seed=1)
    states = without.minialbert.eval()(**batch).last_hidden_state
    for adapters, same in (("identity", True), ("published", False)):
        model, _ = load_for_task(plain, data.task, adapters=adapters, seed=1)
        assert mark_only_adapters_trainable(model) > 0
        assert torch.equal(model.minialbert.eval()(**batch).last_hidden_state, states) == same
    for name, message in (
        ("identity", "has some or cannot have any"),
        ("some", "unknown adapters 'some'"),
    ):
        with pytest.raises(FinetuningError, match=message):
            load_for_task(student(tmp_path / "with"), data.task, adapters=name)


BASELINES = {
    "bert": BertConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16
    ),
    "distilbert": DistilBertConfig(dim=16, n_layers=2, n_heads=2, hidden_dim=16),
    "albert": AlbertConfig(
        embedding_size=8,
        hidden_size=16,
        num_hidden_layers=12,
        num_attention_heads=2,
        intermediate_size=16,
    ),
    "mobilebert": MobileBertConfig(
        hidden_size=16,
        embedding_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        intra_bottleneck_size=8,
        num_feedforward_networks=1,
    ),
}


@pytest.mark.parametrize("name", BASELINES)
def test_the_papers_baselines_by_the_same_code(arguments, data, tmp_path, name):
    config = BASELINES[name]
    config.vocab_size = len(AutoTokenizer.from_pretrained(TOKENIZER))
    folder = save(tmp_path / name, AutoModel.from_config(config))
    iterations = 6 if name == "albert" else None
    arguments = replace(arguments, model=folder, epochs=0.2, num_iterations=iterations)
    result = finetune(arguments, data, quiet=True)
    assert result["steps"] == 3 and result["trained_parameters"] == result["parameters"]
    if iterations:
        assert (
            json.loads(Path(arguments.run_folder, "model/config.json").read_text())[
                "num_hidden_layers"
            ]
            == 6
        )
    with pytest.raises(FinetuningError, match="no adapters"):
        finetune(replace(arguments, tuning="adapter", run_folder=str(tmp_path / "a")), data)
    with pytest.raises(FinetuningError, match="a MiniALBERT that has none"):
        load_for_task(folder, data.task, adapters="identity")


def test_a_checkpoint_that_does_not_fit(data, tmp_path, checkpoint, tiny_tokenizer):
    config = BertConfig(
        vocab_size=len(tiny_tokenizer),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        num_labels=3,
    )
    three = save(tmp_path / "three", BertForSequenceClassification(config))
    with pytest.raises(FinetuningError, match="holds classifier.*tuned for other labels"):
        load_for_task(three, data.task)
    with pytest.raises(FinetuningError, match="is a bert:"):
        load_for_task(three, data.task, num_iterations=1)
    for changes, message in (
        ({"start": "zero"}, "unknown start 'zero'"),
        ({"adapters": "x"}, "unknown"),
    ):
        with pytest.raises(FinetuningError, match=message):
            load_for_task(checkpoint, data.task, **changes)
    with pytest.raises(FinetuningError, match="unknown tuning 'half'"):
        finetune(TuningArguments("nowhere", checkpoint, tuning="half"), data)
    half = tmp_path / "half"
    config = MiniAlbertConfig.from_pretrained(checkpoint)
    config.adapter_reduction = None
    save(half, MiniAlbertForSequenceClassification(config))
    config.adapter_reduction = 2
    config.save_pretrained(half)
    with pytest.raises(FinetuningError, match="lacks 36 weights of a minialbert"):
        load_for_task(str(half), data.task)


def test_a_random_start_has_the_same_shape_and_other_weights(data, checkpoint):
    trained, _ = load_for_task(checkpoint, data.task)
    fresh, _ = load_for_task(checkpoint, data.task, start="random", seed=5)
    ours, theirs = trained.state_dict(), fresh.state_dict()
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}
    name = "minialbert.encoder.block.attention.query.weight"
    assert not torch.equal(ours[name], theirs[name])
    assert torch.equal(ours[name], load_file(Path(checkpoint, "model.safetensors"))[name])


# -- systems side by side --------------------------------------------------------------------------


def shared(tmp_path, **changes):
    return ComparisonArguments(run_folder=str(tmp_path / "systems"), **changes)


def test_systems_are_compared_by_the_same_rules(data, checkpoint, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        comparison, "tune", lambda a, *given, **how: seen.append((a, given[1], how)) or a.model
    )
    systems = {
        "teacher": {"model": "all-MiniLM-L6-v2", "learning_rate": "5e-5"},
        "random start": {"model": checkpoint, "start": "random"},
    }
    grid = {"learning_rates": [1e-4, 3e-4], "epochs_tried": [1, 2]}
    arguments = shared(tmp_path, batch_size=8, seeds=[3, 4], **grid)
    assert compare(arguments, systems, data) == {
        "teacher": "all-MiniLM-L6-v2",
        "random start": checkpoint,
    }
    (teacher, hers, _), (other, its, how) = seen
    assert (teacher.learning_rate, other.learning_rate) == (5e-5, 3e-4)
    assert teacher.batch_size == other.batch_size == 8 and other.start == "random"
    assert [Path(a.run_folder).name for a in (teacher, other)] == ["teacher", "random-start"]
    assert hers == {"epochs": [1, 2]} and its == {"learning_rate": [1e-4, 3e-4], "epochs": [1, 2]}
    assert how["seeds"] == [3, 4] and how["system"] == "random start"
    assert teacher.task == other.task == "own"


@pytest.mark.parametrize(
    "systems, message",
    [
        ({"a": {"model": "m", "learning_rat": 1.0}}, "system 'a'.*mean 'learning_rate'"),
        ({"a": {"model": "m"}, "b": {"model": "m", "epochs": "two"}}, "(?s)system 'b'.*epochs"),
        ({"a": {}}, "(?s)system 'a'.*model.*required"),
        ({"a": {"model": "m", "seed": 1}}, "system 'a'.*'seed' is nothing a system can set"),
        ({"a b": {"model": "m"}, "a-b": {"model": "m"}}, "share a folder"),
    ],
)
def test_a_wrong_system_is_refused_before_any_training(data, tmp_path, systems, message):
    with pytest.raises(FinetuningError, match=message):
        compare(shared(tmp_path), systems, data)
    assert not list(tmp_path.iterdir())


def test_a_comparison_trains_each_system(data, checkpoint, tmp_path):
    arguments = shared(tmp_path, epochs=0.3, max_length=32, precision="fp32", seeds=[0, 1])
    systems = {
        "student": {"model": checkpoint},
        "random start": {"model": checkpoint, "start": "random"},
    }
    result = compare(arguments, systems, data, quiet=True)
    assert list(result) == list(systems)
    assert all(len(one["runs"]) == 2 and not one["tried"] for one in result.values())
    predictions = tmp_path / "systems/random-start/seed-1/predictions/validation.jsonl"
    assert len(predictions.read_text().splitlines()) == len(data.evaluation["validation"])
