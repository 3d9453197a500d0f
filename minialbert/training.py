"""What every training here shares: the library's Trainer with one bar, a stop at NaN, and resume; its memory."""

import json
import weakref
from pathlib import Path

import torch
from safetensors.torch import load_model
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from tqdm import tqdm
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback


class TrainingError(ValueError):
    """A training that cannot start as asked; the message names the fix."""


class NotFiniteError(FloatingPointError):
    """A loss or a weight became NaN or infinite; training stopped and the last good checkpoint is kept."""


def bf16_is_fast() -> bool:
    """Whether this machine multiplies matrices in bfloat16 natively: its GPU, else avx512_bf16 or amx."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    has = torch.cpu.get_capabilities()
    return bool(has.get("avx512_bf16") or has.get("amx_bf16") or has.get("bf16"))


def autocast(device, bf16: bool | None = None):
    """A context in which matrix products run in bfloat16; with None, where that is fast (`bf16_is_fast`)."""
    return torch.autocast(
        torch.device(device).type, torch.bfloat16, enabled=bf16_is_fast() if bf16 is None else bf16
    )


def use_bf16(precision: str) -> bool:
    """Whether matrix products run in bfloat16: "bf16", "fp32", or "auto", bf16 where the processor has it.

    Raises:
        TrainingError: for an unknown precision.
    """
    choices = {"auto": None, "bf16": True, "fp32": False}
    if precision not in choices:
        raise TrainingError(f"unknown precision '{precision}': choose one of {', '.join(choices)}.")
    return bf16_is_fast() if choices[precision] is None else choices[precision]


def training_arguments(
    folder, *, batch_size, learning_rate, seed, bf16=None, **choices
) -> TrainingArguments:
    """The library's arguments as every training here wants them; further ones by their names."""
    return TrainingArguments(
        **{
            "output_dir": str(folder),
            "per_device_train_batch_size": batch_size,
            "learning_rate": learning_rate,
            "seed": seed,
            "bf16": bf16_is_fast() if bf16 is None else bf16,
            "use_cpu": not torch.cuda.is_available(),
            "lr_scheduler_type": "linear",
            "report_to": "none",
            "remove_unused_columns": False,
            "disable_tqdm": True,
            "logging_nan_inf_filter": False,
            "label_names": ["labels"],
            "dataloader_pin_memory": torch.cuda.is_available(),
            "logging_strategy": "steps",
            "logging_steps": 20,
            **choices,
        }
    )


class Progress(TrainerCallback):
    """One bar for the whole run: steps, loss, time left. Plain text, so that logs and notebooks show the same."""

    def __init__(self, description, show=True):
        self.description, self.show, self.bar = description, show, None

    def on_train_begin(self, args, state, control, **_):
        if state.is_world_process_zero and self.show:
            self.bar = tqdm(
                total=state.max_steps,
                initial=state.global_step,
                desc=self.description,
                unit="step",
                mininterval=5,
                dynamic_ncols=False,
                ncols=100,
            )

    def on_step_end(self, args, state, control, **_):
        if self.bar is not None:
            self.bar.update(state.global_step - self.bar.n)

    def on_log(self, args, state, control, logs=None, **_):
        if self.bar is not None and "loss" in (logs or {}):
            self.bar.set_postfix_str(f"loss {logs['loss']:.3f}", refresh=False)

    def on_train_end(self, args, state, control, **_):
        if self.bar is not None:
            self.bar.close()


class CarefulTrainer(Trainer):
    """The library's trainer with one bar, an `evaluate` of ours, and a stop before a NaN reaches a checkpoint.

    Args:
        evaluate: a function without arguments that returns numbers, called where the arguments ask for evaluation.
    """

    def __init__(
        self,
        model,
        arguments,
        dataset,
        collator,
        *,
        tokenizer=None,
        evaluate=None,
        description="training",
        show=True,
        callbacks=(),
    ):
        super().__init__(
            model,
            arguments,
            data_collator=collator,
            train_dataset=dataset,
            eval_dataset=dataset if evaluate else None,
            processing_class=tokenizer,
            callbacks=[Progress(description, show), *callbacks],
        )
        self.remove_callback(PrinterCallback)
        self.measure = evaluate

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        output = model(**inputs)
        if not torch.isfinite(output.loss):
            raise NotFiniteError(
                f"the loss is {output.loss.item()} at step {self.state.global_step + 1}. {self._last_checkpoint()} "
                "Lower learning_rate, lengthen warmup_steps, or set precision to 'fp32', and run again."
            )
        self.record(output)
        return (output.loss, output) if return_outputs else output.loss

    def record(self, output):
        """What a trainer keeps of each batch besides the loss."""

    @property
    def kept(self):
        """The model that is saved."""
        return self.model

    def _last_checkpoint(self):
        last = last_checkpoint(self.args.output_dir)
        return (
            f"The last good checkpoint is kept: {last}."
            if last
            else "There is no checkpoint before it."
        )

    def evaluate(self, *_, metric_key_prefix="eval", **__):
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in self.measure().items()}
        self.log({name: value for name, value in metrics.items() if not isinstance(value, list)})
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    def _save(self, output_dir=None, state_dict=None):
        broken = [name for name, p in self.kept.named_parameters() if not torch.isfinite(p).all()]
        if broken:
            raise NotFiniteError(
                f"{broken[0]} is not finite after step {self.state.global_step}: nothing was saved. "
                f"{self._last_checkpoint()} Lower learning_rate and run again."
            )
        self.kept.save_pretrained(output_dir)
        if self.processing_class is not None:
            self.processing_class.save_pretrained(output_dir)

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None):
        load_model(
            self.kept, Path(resume_from_checkpoint) / "model.safetensors"
        )  # each tensor in its own precision


def last_checkpoint(folder) -> Path | None:
    """The newest complete checkpoint of a run: one whose trainer state, written last, can be read."""
    found = sorted(
        Path(folder).glob("checkpoint-*"), key=lambda path: -int(path.name.split("-")[1])
    )
    for path in found:
        try:
            json.loads((path / "trainer_state.json").read_text(encoding="utf8"))
            return path
        except (OSError, json.JSONDecodeError):  # killed while it was written
            continue
    return None


class MemoryAccount(TorchDispatchMode):
    """Bytes of the tensors made inside `with MemoryAccount(*known)` that are alive: `now`, and at `most` so far.

    Every operation is watched, and each new tensor counted until it is freed: exact, and blind to what Python and its
    libraries occupy. Storage of the known tensors (weights, an optimiser's moments) is not counted.
    """

    def __init__(self, *known: torch.Tensor):
        super().__init__()
        self.now = self.most = 0
        self.known = {tensor.untyped_storage().data_ptr() for tensor in known}

    def _free(self, address, size):
        self.now -= size
        self.known.discard(address)

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        result = function(*arguments, **(options or {}))
        for tensor in tree_leaves(result):
            if (
                isinstance(tensor, torch.Tensor)
                and tensor.untyped_storage().data_ptr() not in self.known
            ):
                storage = tensor.untyped_storage()
                self.known.add(storage.data_ptr())
                self.now += storage.nbytes()
                weakref.finalize(storage, self._free, storage.data_ptr(), storage.nbytes())
        self.most = max(self.now, self.most)
        return result
