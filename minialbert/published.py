"""The authors' checkpoints to ours and back.

Their student wraps the library's ALBERT, whose modules carry other names (`albert.albert.encoder...`), and adds
`projector`, `att_adapters`, `mlp_adapters`. Nothing but names differs: every tensor is taken as it is.
"""

import json
import pickle
import re
import warnings
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from . import sources
from .configuration import MiniAlbertConfig

_BLOCK = "albert.albert.encoder.albert_layer_groups.0.albert_layers.0."
_NAMES = [  # theirs, ours; a prefix each
    ("albert.albert.embeddings.", "minialbert.embeddings."),
    ("albert.projector.", "minialbert.embeddings.projection."),
    (_BLOCK + "attention.", "minialbert.encoder.block.attention."),
    (_BLOCK + "ffn.", "minialbert.encoder.block.feed_forward.intermediate."),
    (_BLOCK + "ffn_output.", "minialbert.encoder.block.feed_forward.dense."),
    (_BLOCK + "full_layer_layer_norm.", "minialbert.encoder.block.feed_forward.LayerNorm."),
    ("vocab_transform.", "head.dense."),
    ("vocab_layer_norm.", "head.LayerNorm."),
    ("vocab_projector.", "head.decoder."),
    ("classifier.", "classifier."),
]
_ADAPTERS = {"att_adapters": "attention_adapters", "mlp_adapters": "ffn_adapters"}
_ADAPTER_PARTS = {"block.0": "down", "block.2": "up", "norm": "LayerNorm"}
# Saved by the authors, used by nobody: the pooler's output is never read, position ids are 0, 1, 2, ...
_UNUSED = ("albert.albert.pooler.", "albert.albert.embeddings.position_ids")


class CheckpointError(ValueError):
    """A checkpoint that is truncated, foreign, or not what its name says."""


def _adapter_name(name, theirs_to_ours=True):
    lists, parts = _ADAPTERS, _ADAPTER_PARTS
    prefix, target = "albert.", "minialbert.encoder."
    if not theirs_to_ours:
        lists, parts = ({v: k for k, v in table.items()} for table in (lists, parts))
        prefix, target = target, prefix
    pattern = rf"{re.escape(prefix)}({'|'.join(lists)})\.(\d+)\.({'|'.join(map(re.escape, parts))})\.(weight|bias)"
    match = re.fullmatch(pattern, name)
    return match and f"{target}{lists[match[1]]}.{match[2]}.{parts[match[3]]}.{match[4]}"


def _rename(name, theirs_to_ours):
    if adapter := _adapter_name(name, theirs_to_ours):
        return adapter
    for theirs, ours in _NAMES:
        old, new = (theirs, ours) if theirs_to_ours else (ours, theirs)
        # "embeddings." is a prefix of "embeddings.projection." in our names, which has its own row
        if name.startswith(old) and not (
            old.endswith("embeddings.") and name.startswith(old + "projection.")
        ):
            return new + name[len(old) :]
    raise CheckpointError(
        f"'{name}' is no parameter of a {'published' if theirs_to_ours else 'MiniAlbert'} checkpoint. "
        + (
            "Published ones begin with 'albert.', 'vocab_' or 'classifier.'; a checkpoint of this project is loaded "
            "with from_pretrained."
            if theirs_to_ours
            else "Give the state dict of one of this project's models."
        )
    )


def convert_state_dict(published: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """{their name: tensor} -> {our name: tensor}, for load_state_dict(strict=True). Tensors are shared, not copied.

    Raises:
        CheckpointError: for a name that the published code does not use.
    """
    return {
        _rename(name, True): tensor
        for name, tensor in published.items()
        if not name.startswith(_UNUSED)
    }


def to_published_state_dict(ours: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The way back: {our name: tensor} -> {their name: tensor}; the unused pooler and position ids are not made up."""
    return {_rename(name, False): tensor for name, tensor in ours.items()}


def convert_config(published: dict, **overrides) -> MiniAlbertConfig:
    """Their config.json, as a dictionary, to ours.

    Raises:
        CheckpointError: where a needed entry is missing, as in a config of another architecture.
    """
    same = [
        "vocab_size",
        "embedding_size",
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "intermediate_size",
        "max_position_embeddings",
        "type_vocab_size",
        "layer_norm_eps",
        "hidden_dropout_prob",
        "attention_probs_dropout_prob",
    ]
    missing = [name for name in [*same, "use_adapter"] if name not in published]
    if missing:
        raise CheckpointError(
            f"config.json lacks {', '.join(missing)}: not a published MiniALBERT "
            f"(model_type '{published.get('model_type')}')."
        )
    optional = [
        "hidden_act",
        "initializer_range",
        "pad_token_id",
        "num_labels",
        "id2label",
        "label2id",
    ]
    values = {name: published[name] for name in [*same, *optional] if name in published}
    values["adapter_reduction"] = (
        published.get("reduction_factor", 16) if published["use_adapter"] else None
    )
    values["tie_word_embeddings"] = (
        False  # the library of their time tied by name, and their head's is another one
    )
    return MiniAlbertConfig(**{**values, **overrides})


def _read_weights(folder: Path) -> dict[str, torch.Tensor]:
    """The state dict of a folder, safetensors preferred; a .bin is read as plain tensors, never as code."""
    safe, binary = folder / "model.safetensors", folder / "pytorch_model.bin"
    if safe.exists():
        try:
            return load_file(safe)
        except SafetensorError as error:
            raise CheckpointError(
                f"{safe} is not a safetensors file ({error}). It is truncated, or a pickle under "
                "another name: fetch it again, or name it pytorch_model.bin."
            ) from None
    if not binary.exists():
        raise CheckpointError(
            f"{folder} holds neither model.safetensors nor pytorch_model.bin: name the folder of a "
            "published checkpoint."
        )
    try:
        return torch.load(binary, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(
            f"{binary} cannot be read as plain tensors ({reason}). It is truncated, or holds "
            "more than tensors, which is not loaded for safety: fetch it again."
        ) from None


def load_published(path_or_repo: str | Path, model_class, **config_overrides):
    """A model of this project with a published checkpoint's weights, in eval mode.

    Args:
        path_or_repo: a folder with config.json and pytorch_model.bin or model.safetensors, or a Hub id such as
            "nlpie/miniALBERT-128".
        model_class: one of the MiniAlbert classes. A head that the checkpoint lacks starts at random (with a
            warning); one that the class lacks is left out.
        config_overrides: e.g. num_labels=3 or hidden_dropout_prob=0.

    Raises:
        CheckpointError: for a truncated or foreign checkpoint, naming what is missing or unexpected.
        SourceError: where the folder or the Hub cannot be reached.
    """
    folder = sources.resolve_model(path_or_repo)
    config = convert_config(
        json.loads((folder / "config.json").read_text(encoding="utf8")), **config_overrides
    )
    weights = convert_state_dict(_read_weights(folder))
    model = model_class(config)
    if model_class.base_model_prefix not in dict(
        model.named_children()
    ):  # the bare model has no prefix
        prefix = model_class.base_model_prefix + "."
        weights = {
            name.removeprefix(prefix): t for name, t in weights.items() if name.startswith(prefix)
        }
    expected = model.state_dict()
    heads = ("head.", "classifier.")
    weights = {
        name: t for name, t in weights.items() if name in expected or not name.startswith(heads)
    }
    wrong = [
        f"{name} {tuple(t.shape)} instead of {tuple(expected[name].shape)}"
        for name, t in weights.items()
        if name in expected and t.shape != expected[name].shape
    ]
    missing = [name for name in expected if name not in weights]
    fresh = [name for name in missing if name.startswith(heads)]
    wrong += [f"{name} missing" for name in missing if name not in fresh]
    wrong += [f"{name} unexpected" for name in weights if name not in expected]
    if wrong:
        raise CheckpointError(
            f"{folder} does not fit its own config.json: {'; '.join(wrong[:5])}"
            f"{' ...' if len(wrong) > 5 else ''}. The checkpoint is damaged or another model's."
        )
    if fresh:
        warnings.warn(
            f"the checkpoint has no {fresh[0].split('.')[0]}: it starts at random and must be trained.",
            stacklevel=2,
        )
    model.load_state_dict(weights, strict=not fresh)
    return model.eval()
