"""Fine-tuning, full and of adapters: what is trained, kept, resumed, refused; many systems."""

import json
import random
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from kills import run_and_kill
from safetensors.torch import load_file
from scipy.stats import pearsonr, spearmanr
from seqeval.metrics import f1_score
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
from minialbert.checkpoints import TrainingError, claim
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
    pd.DataFrame(rows).to_csv(path, index=False)


def write_data(folder):
    write(folder / "train.csv", sentences(320, 0))
    write(folder / "validation.csv", sentences(80, 1))


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINIALBERT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_data(folder)
    return tasks.load_task("own", folder, text_columns=["text"], keep_apart=0.25)


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
    vocabulary = {"vocab_size": len(AutoTokenizer.from_pretrained(TOKENIZER))}
    return save(folder, MiniAlbertForMaskedLM(MiniAlbertConfig(**(vocabulary | CONFIG | changes))))


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
    accuracy = result["metrics"]["validation"]["accuracy"]
    assert accuracy > {"full": 0.9, "adapter": 0.7}[tuning]  # the majority has 0.5
    assert result["train_rows"] == 240 and result["steps"] == 6 * 15
    folder = Path(arguments.run_folder)
    kept = {"full": "model", "adapter": "adapters.safetensors"}[tuning]
    assert {path.name for path in folder.iterdir()} == {"owner.json", "predictions", kept}
    written = predictions(folder)
    assert [row["label"] for row in written] == data.evaluation["validation"]["label"]
    assert np.mean([row["label"] == row["prediction"] for row in written]) == accuracy


def predictions(folder):
    lines = Path(folder, "predictions/validation.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


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


def test_a_choice_that_is_new_and_not_made_belongs_to_the_same_training(tmp_path):
    claim(tmp_path, {"seed": 0})
    (tmp_path / "checkpoint-5").mkdir()
    claim(tmp_path, {"seed": 0, "head_pooling": None})
    with pytest.raises(TrainingError, match="head_pooling was None, is 'mean'"):
        claim(tmp_path, {"seed": 0, "head_pooling": "mean"})


def test_a_folder_of_other_files_is_refused_untouched(arguments, data, checkpoint):
    folder = Path(arguments.run_folder)
    for name in ("checkpoints/checkpoint-5/model.safetensors", "model/config.json"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text("a distillation's")
    before = everything(folder)
    with pytest.raises(TrainingError, match="holds files"):
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


def finetune_on(folder, given):
    """In a process of its own."""
    finetune(given, tasks.load_task("own", folder, keep_apart=0.25, text_columns=["text"]))


@pytest.mark.parametrize("tuning", ["full", "adapter"])
def test_killed_and_resumed_gives_the_same(arguments, tmp_path, tuning):
    write_data(tmp_path)
    drawn = "depth" if tuning == "full" else None  # how many visits: drawn at each step
    arguments = replace(arguments, tuning=tuning, dropout=0.2, precision="bf16", save_steps=15)
    arguments = replace(arguments, every_visit=drawn)

    told = tmp_path / "told.txt"

    def run(folder, at=None):
        given = replace(arguments, run_folder=str(tmp_path / folder))
        return run_and_kill(finetune_on, tmp_path, given, at=at, told=told)

    assert run("whole") == 0
    assert run("killed", at=38) == -signal.SIGKILL
    assert not (tmp_path / "killed/predictions").exists()
    if tuning == "full":  # the newest checkpoint cut off: the one before it is taken
        weights = tmp_path / "killed/checkpoints/checkpoint-30/model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-100])
    assert run("killed") == 0, told.read_text()
    assert ("checkpoint-30 is passed over: model.saf" in told.read_text()) == (tuning == "full")
    name = {"full": "model/model.safetensors", "adapter": "adapters.safetensors"}[tuning]
    whole, killed = (load_file(tmp_path / folder / name) for folder in ("whole", "killed"))
    assert whole.keys() == killed.keys()
    assert all(torch.equal(whole[key], killed[key]) for key in whole)
    assert not (tmp_path / "killed/checkpoints").exists()


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
    with pytest.raises(FinetuningError, match="keep_apart=0.1"):
        tune(arguments, replace(data, selection=data.selection.select([])), grid)


# -- order and evaluation --------------------------------------------------------------------------


def test_batches_of_near_lengths():
    lengths = random.Random(0).choices(range(5, 60), k=330)
    order = near_lengths(lengths, 16, 2, seed=3)
    assert sorted(order[:330]) == sorted(order[330:]) == list(range(330))
    assert order[:330] != order[330:]
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
    collator = tasks.collator(data.task, tokenizer)
    together = predict(model, encoded, collator, batch_size=7, bf16=False)
    for row, logits in zip(encoded, together, strict=True):
        padded = row["input_ids"] + [0] * (64 - len(row["input_ids"]))
        mask = torch.arange(64)[None] < len(row["input_ids"])
        alone = model.eval()(torch.tensor([padded]), attention_mask=mask.long()).logits[0]
        np.testing.assert_allclose(logits, alone.detach(), atol=1e-5)


def test_embeddings_are_means_over_tokens(checkpoint, tiny_tokenizer):
    model = MiniAlbertModel.from_pretrained(checkpoint).eval()
    sentences = ["the cat sees a dog.", "a bird", "my sister likes the river", "the cat " * 60]
    together = sentence_embeddings(model, tiny_tokenizer, sentences, batch_size=3, bf16=False)
    for sentence, vector in zip(sentences, together, strict=True):
        cut = tiny_tokenizer(sentence, return_tensors="pt", truncation=True, max_length=64)
        alone = model(**cut).last_hidden_state[0].mean(0)
        np.testing.assert_allclose(vector, alone.detach().numpy(), atol=1e-5)
    pairs = {"sentence1": sentences, "sentence2": sentences[::-1], "label": [4.0, 5.0, 0.5, 2.0]}
    vectors = torch.tensor(together)
    expected = spearmanr(torch.cosine_similarity(vectors, vectors.flip(0)), pairs["label"])
    score = sentence_similarity(model, tiny_tokenizer, pairs, bf16=False)
    assert score == pytest.approx(expected.statistic)


def test_metrics_of_a_regression_and_of_a_tagger(checkpoint, tmp_path):
    pairs = [(f"{SUBJECTS[i % 8]} sees", f"{SUBJECTS[i * 3 % 8]} sees") for i in range(40)]
    rows = [{"a": a, "b": b, "label": i % 6 - 0.5} for i, (a, b) in enumerate(pairs)]
    write(tmp_path / "train.csv", rows)
    write(tmp_path / "validation.csv", rows)
    scored = tasks.load_task("own", tmp_path, text_columns=["a", "b"], kind="regression")
    model, tokenizer = load_for_task(checkpoint, scored.task)
    rows = scored.evaluation["validation"]
    metrics, rows = evaluate(model, tokenizer, scored.task, rows, bf16=False, max_length=64)
    written = [[row["prediction"] for row in rows], [row["label"] for row in rows]]
    assert metrics["pearson"] == pytest.approx(pearsonr(*written).statistic, abs=1e-5)
    assert metrics["spearman"] == pytest.approx(spearmanr(*written).statistic, abs=1e-5)

    folder = tmp_path / "tagged"
    folder.mkdir()
    (folder / "train.tsv").write_text("the\tO\nsister\tB\nlikes\tO\n\n" * 8)
    (folder / "test.tsv").write_text("the\tO\nsister\tB\n\u200b\tI\nlikes\tO\n\n" * 4)
    tagged = tasks.load_task("ncbi_disease", folder)
    model, tokenizer = load_for_task(checkpoint, tagged.task)
    rows = tagged.evaluation["test"]
    metrics, rows = evaluate(model, tokenizer, tagged.task, rows, bf16=False, max_length=64)
    names = [
        [[tagged.task.labels[tag] for tag in row[key]] for row in rows]
        for key in ("label", "prediction")
    ]
    assert metrics["f1"] == f1_score(*names, zero_division=0) and metrics["lost_words"] == 4
    assert "published_f1" in metrics and all(len(row["prediction"]) == 4 for row in rows)


# -- one body, many tasks --------------------------------------------------------------------------


def test_adapters_alone_carry_a_task(checkpoint, data):
    body, tuned = (load_for_task(checkpoint, data.task, seed=seed)[0].eval() for seed in (0, 1))
    trained = mark_only_adapters_trainable(tuned)
    assert trained == 3 * 2 * (2 * 32 * 16 + 16 + 32 + 64) + 2 * 33
    optimizer = torch.optim.SGD([p for p in tuned.parameters() if p.requires_grad], lr=0.5)
    ids = torch.arange(1, 9)[None]
    tuned(ids, labels=torch.tensor([1])).loss.backward()
    optimizer.step()
    own = adapter_state_dict(tuned)
    assert sum(t.numel() for t in own.values()) == trained
    assert not torch.allclose(tuned(ids).logits, body(ids).logits)
    missing, unexpected = body.load_state_dict(own, strict=False)
    assert not unexpected and "minialbert.encoder.block.attention.query.weight" in missing
    torch.testing.assert_close(body(ids).logits, tuned(ids).logits)
    assert not any(t.requires_grad for t in own.values())


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
    assert load_adapters(binary, tmp_path / "three.safetensors") == "three"
    assert binary.config.num_labels == 3
    torch.testing.assert_close(binary.eval()(**batch).logits, expected)
    assert load_adapters(binary, file) == "own" and binary.config.id2label == {0: "no", 1: "yes"}
    _, again = evaluate(binary, tokenizer, data.task, data.evaluation["validation"], 32, False)
    assert again == predictions(arguments.run_folder)
    assert file.stat().st_size < 0.6 * Path(checkpoint, "model.safetensors").stat().st_size


@pytest.mark.parametrize(
    "changes, message",
    [
        ({}, "another model .*body: "),  # another seed
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
    with pytest.raises(FinetuningError, match="class: .*, here MiniAlbertForTokenClassification"):
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
    for name, message in (("identity", "that has none"), ("some", "unknown adapters 'some'")):
        with pytest.raises(FinetuningError, match=message):
            load_for_task(student(tmp_path / "with"), data.task, adapters=name)


SMALL = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16)
NARROW = dict(embedding_size=8, intra_bottleneck_size=8, num_feedforward_networks=1)
BASELINES = {
    "bert": BertConfig(**SMALL),
    "distilbert": DistilBertConfig(dim=16, n_layers=2, n_heads=2, hidden_dim=16),
    "albert": AlbertConfig(**SMALL | dict(embedding_size=8, num_hidden_layers=12)),
    "mobilebert": MobileBertConfig(**SMALL | NARROW),
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
        assert AlbertConfig.from_pretrained(arguments.run_folder + "/model").num_hidden_layers == 6
    with pytest.raises(FinetuningError, match="no adapters"):
        finetune(replace(arguments, tuning="adapter", run_folder=str(tmp_path / "a")), data)
    with pytest.raises(FinetuningError, match="a MiniALBERT that has none"):
        load_for_task(folder, data.task, adapters="identity")


def test_a_checkpoint_that_does_not_fit(data, tmp_path, checkpoint, tiny_tokenizer):
    config = BertConfig(vocab_size=len(tiny_tokenizer), num_labels=3, **SMALL)
    three = save(tmp_path / "three", BertForSequenceClassification(config))
    with pytest.raises(FinetuningError, match=r"classifier.*\(3,.*tuned for other labels"):
        load_for_task(three, data.task)
    with pytest.raises(FinetuningError, match="num_iterations is of models that share"):
        load_for_task(three, data.task, num_iterations=1)
    with pytest.raises(FinetuningError, match="unknown start 'zero'"):
        load_for_task(checkpoint, data.task, start="zero")
    with pytest.raises(FinetuningError, match="unknown tuning 'half'"):
        finetune(TuningArguments("nowhere", checkpoint, tuning="half"), data)
    half = tmp_path / "half"
    config = MiniAlbertConfig.from_pretrained(checkpoint)
    config.adapter_reduction = None
    save(half, MiniAlbertForSequenceClassification(config))
    config.adapter_reduction = 2
    config.save_pretrained(half)
    with pytest.raises(FinetuningError, match="is missing; 36 such weights.*minialbert"):
        load_for_task(str(half), data.task)


# -- systems side by side --------------------------------------------------------------------------


def shared(tmp_path, **changes):
    return ComparisonArguments(run_folder=str(tmp_path / "systems"), **changes)


def test_a_comparison_trains_each_system_by_the_same_rules(data, checkpoint, tmp_path):
    grid = {"learning_rates": [1e-4, 3e-4], "batch_sizes": [32, 64]}
    small = {"epochs": 0.1, "max_length": 32, "precision": "fp32"}
    arguments = shared(tmp_path, seeds=[3, 4], **small, **grid)
    systems = {
        "ours": {"model": checkpoint, "learning_rate": "5e-5"},
        "random start": {"model": checkpoint, "start": "random", "batch_size": 64},
    }
    result = compare(arguments, systems, data, quiet=True)
    assert list(result) == list(systems)
    ours, other = ([run["arguments"] for run in one["tried"]] for one in result.values())
    assert [(a["learning_rate"], a["batch_size"]) for a in ours] == [(5e-5, 32), (5e-5, 64)]
    assert [(a["learning_rate"], a["batch_size"]) for a in other] == [(1e-4, 64), (3e-4, 64)]
    for one, start in zip(result.values(), ("weights", "random"), strict=True):
        assert [run["arguments"]["seed"] for run in one["runs"]] == [3, 4]
        assert all(run["arguments"]["start"] == start for run in one["runs"])
    last = Path(result["random start"]["runs"][1]["arguments"]["run_folder"])
    assert last.parent == tmp_path / "systems/random-start"
    assert len(predictions(last)) == len(data.evaluation["validation"])


@pytest.mark.parametrize(
    "systems, message",
    [
        ({"a": {"model": "m", "learning_rat": 1.0}}, "(?s)system 'a'.*learning_rat"),
        ({"a": {"model": "m"}, "b": {"model": "m", "epochs": "two"}}, "(?s)system 'b'.*epochs"),
        ({"a": {}}, "(?s)system 'a'.*model.*required"),
        ({"a": {"model": "x", "taught_by": "b"}, "b": {"model": "x"}}, "'a' must stand below 'b'"),
    ],
)
def test_a_wrong_system_is_refused_before_any_training(data, tmp_path, systems, message):
    with pytest.raises(FinetuningError, match=message):
        compare(shared(tmp_path), systems, data)
    assert not list(tmp_path.iterdir())


def test_a_taught_student_learns_from_the_system_tuned_before_it(data, checkpoint, tmp_path):
    systems = {
        "teacher": {"model": checkpoint, "learning_rate": 3e-3},
        "taught": {"model": checkpoint, "taught_by": "teacher", "taught_alignment": 0.1},
    }
    small = {"epochs": 0.1, "max_length": 32, "precision": "fp32"}
    arguments = shared(tmp_path, seeds=[0, 1], **small)
    results = compare(arguments, systems, data, quiet=True)
    tuned = tmp_path / "systems/teacher/seed-0/model"
    for run in results["taught"]["runs"]:
        assert run["arguments"]["taught_by"] == str(tuned)
    assert tuned.is_dir() and not (tmp_path / "systems/taught/seed-0/model").exists()


def test_a_seed_of_distillation_is_the_partner_of_one_of_tuning(data, tmp_path):
    for seed in (0, 1):
        student(tmp_path / f"student-{seed}", seed=seed)
    systems = {"student": {"model": str(tmp_path / "student-{seed}")}}
    small = {"epochs": 0.1, "max_length": 32, "precision": "fp32"}
    arguments = shared(tmp_path / "run", seeds=[0, 1], **small)
    runs = compare(arguments, systems, data, quiet=True)["student"]["runs"]
    used = [run["arguments"]["model"] for run in runs]
    assert used == [str(tmp_path / "student-0"), str(tmp_path / "student-1")]
