"""What trainings share: where and how precisely to compute, and a careful Trainer."""

import math
import sys
import time
from collections import Counter
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import load_model
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback
from transformers.utils import logging

from .checkpoints import TrainingError, newest_checkpoint, seal

SECONDS_BETWEEN_LINES = 10


class NotFiniteError(FloatingPointError):
    """A loss or a weight became NaN or infinite; the last good checkpoint is kept."""


def best_device() -> torch.device:
    """Where models run fastest here: CUDA, Apple's MPS, or the processor."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def matrix_speed() -> dict[str, int]:
    """{"fp32": GFLOP/s, "bf16": GFLOP/s} of products of two 1024 x 1024 matrices on this processor,
    the best of a few: a fifth of a second in all. Of 256 x 256, where these are slow already."""
    formats = {"fp32": torch.float32, "bf16": torch.bfloat16}
    best = {name: max(_speed(dtype, 256) for _ in range(2)) for name, dtype in formats.items()}
    for _ in range(5):  # taking turns, so that other programs disturb both
        for name, dtype in formats.items():
            if best[name] > 20:  # else there are no instructions, and one product takes seconds
                best[name] = max(best[name], _speed(dtype, 1024))
    return {name: round(speed) for name, speed in best.items()}


def _speed(dtype, size):
    matrix, began = torch.ones(size, size, dtype=dtype), time.perf_counter()
    matrix @ matrix
    return 2 * size**3 / (time.perf_counter() - began) / 1e9


@cache
def bf16_is_fast() -> bool:
    """Whether bfloat16 pays on the best device: a GPU that has it, or a processor on which it was
    tried and is faster. Not every processor with the instructions gains by them."""
    if best_device().type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    has = torch.cpu.get_capabilities() if best_device().type == "cpu" else {}
    if not any(has.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16")):
        return False
    speed = matrix_speed()
    return speed["bf16"] > 1.3 * speed["fp32"]


def use_bf16(precision: str) -> bool:
    """Whether matrix products run in bfloat16: "bf16", "fp32", or "auto", bf16 where it is fast.

    Raises:
        TrainingError: for an unknown precision.
    """
    if precision not in ("auto", "bf16", "fp32"):
        raise TrainingError(f"precision '{precision}': choose one of auto, bf16, fp32.")
    return bf16_is_fast() if precision == "auto" else precision == "bf16"


def autocast(device, bf16: bool | None = None):
    """A context in which matrix products run in bfloat16; with None, where that is fast."""
    enabled = bf16_is_fast() if bf16 is None else bf16
    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=enabled)


@contextmanager
def quiet_library():
    """Without transformers' bars and warnings meanwhile: we look ourselves at what is missing."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


# -- the trainer -----------------------------------------------------------------------------------


def training_arguments(folder, *, batch_size, learning_rate, seed, bf16=None, **choices):
    """The library's TrainingArguments as every training here wants them, and further ones."""
    device = best_device().type
    ours = {
        "output_dir": str(folder),
        "per_device_train_batch_size": batch_size,
        "learning_rate": learning_rate,
        "seed": seed,
        "bf16": bf16_is_fast() if bf16 is None else bf16,
        "use_cpu": device == "cpu",
        "report_to": "none",
        "remove_unused_columns": False,
        "disable_tqdm": True,  # `Progress` shows the run
        "train_sampling_strategy": "sequential",  # rows come shuffled: a resume sees the same
        "logging_nan_inf_filter": False,
        "label_names": ["labels"],
        "dataloader_pin_memory": device == "cuda",
        "logging_steps": 20,
    }
    return TrainingArguments(**(ours | choices))


class Progress(TrainerCallback):
    """A line every ten seconds: steps, loss, time left; the same in notebook, terminal and log.

    stage: (which, of how many) trainings of equal length; the time left is then also that of all.
    """

    def __init__(self, description="training", show=True, stage=(1, 1)):
        self.description, self.show, self.stage = description, show, stage

    def on_train_begin(self, args, state, control, **_):
        self.began = self.said = time.monotonic()
        self.first = state.global_step

    def on_step_end(self, args, state, control, **_):
        if time.monotonic() - self.said >= SECONDS_BETWEEN_LINES:
            self.on_train_end(args, state, control)

    def on_train_end(self, args, state, control, **_):
        self.said = time.monotonic()
        if not (self.show and state.is_world_process_zero):
            return
        a_step = (self.said - self.began) / max(1, state.global_step - self.first)
        left = a_step * (state.max_steps - state.global_step)
        which, of = self.stage
        text = f"{self.description}: step {state.global_step} of {state.max_steps}"
        if losses := [entry["loss"] for entry in state.log_history if "loss" in entry]:
            text += f", loss {losses[-1]:.3f}"
        text += f", {_duration(left)} left"
        if of > 1:
            whole = left + a_step * state.max_steps * (of - which)
            text += f" ({which} of {of}; {_duration(whole)} for all)"
        print(text, file=sys.stderr, flush=True)


def _duration(seconds) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


class CarefulTrainer(Trainer):
    """The library's Trainer with lines of progress, an `evaluate` of ours, a stop before a NaN
    reaches a checkpoint, and a marker on each checkpoint.

    A log entry also says `seconds`, what the training has taken so far, killed legs included, and
    with the loss the means of the model's `terms`, where it returns such.

    Args:
        evaluate: a function without arguments that returns numbers, called where the arguments ask
            for evaluation. kept: the part of the model that is saved. told: see `Progress`.
    """

    def __init__(
        self, model, arguments, data, collate, *, kept=None, tokenizer=None, evaluate=None, **told
    ):
        callbacks = told.pop("callbacks", [])
        super().__init__(
            model,
            arguments,
            data_collator=collate,
            train_dataset=data,
            eval_dataset=data if evaluate else None,
            processing_class=tokenizer,
            callbacks=[Progress(**told), *callbacks],
        )
        self.remove_callback(PrinterCallback)
        self.kept, self.measure = model if kept is None else kept, evaluate
        self.sums, self.batches = Counter(), 0
        self.began, self.seconds_before = time.monotonic(), None

    @property
    def seconds(self) -> float:
        """How long the training has taken so far, killed legs included (up to their last log)."""
        if self.seconds_before is None:  # the history of earlier legs is there once training began
            told = [entry["seconds"] for entry in self.state.log_history if "seconds" in entry]
            self.seconds_before = max(told, default=0.0)
        return self.seconds_before + time.monotonic() - self.began

    def log(self, logs, start_time=None):
        if "loss" in logs:
            for name, total in self.sums.items():
                mean = self.accelerator.reduce(total, "mean").item() / self.batches
                if not math.isnan(mean):
                    logs[name] = mean
            self.sums, self.batches = Counter(), 0
        super().log(logs | {"seconds": round(self.seconds, 1)}, start_time)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        output = model(**inputs)
        if not torch.isfinite(output.loss):
            raise self._not_finite(f"the loss is {output.loss.item()}", self.state.global_step + 1)
        self.sums.update(output.get("terms", {}))
        self.batches += 1
        return (output.loss, output) if return_outputs else output.loss

    def evaluate(self, *_, metric_key_prefix="eval", **__):
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in self.measure().items()}
        self.log({name: value for name, value in metrics.items() if not isinstance(value, list)})
        how = self.args, self.state, self.control
        self.control = self.callback_handler.on_evaluate(*how, metrics)
        return metrics

    def _not_finite(self, what, step):
        last = newest_checkpoint(self.args.output_dir)
        kept = f"the last good checkpoint is kept: {last}" if last else "there is no checkpoint yet"
        return NotFiniteError(
            f"{what} at step {step}; {kept}. Lower learning_rate, lengthen warmup_steps, or set "
            "precision to 'fp32', and run again."
        )

    def _save(self, output_dir=None, state_dict=None):
        broken = [n for n, p in self.kept.named_parameters() if not torch.isfinite(p).all()]
        if broken:
            raise self._not_finite(f"{broken[0]} is not finite", self.state.global_step)
        with quiet_library():
            self.kept.save_pretrained(output_dir)
        if self.processing_class is not None:
            self.processing_class.save_pretrained(output_dir)

    def _save_checkpoint(self, model, trial):
        super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()  # each process writes its own random state
        if self.is_world_process_zero():
            folder = Path(self._get_output_dir(trial=trial))
            seal(folder / f"checkpoint-{self.state.global_step}")

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None):
        # each tensor in its own precision
        load_model(self.kept, Path(resume_from_checkpoint) / "model.safetensors")
