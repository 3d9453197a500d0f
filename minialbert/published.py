"""The authors' checkpoints to ours and back.

Their student wraps the library's ALBERT, whose modules carry other names, and adds `projector`,
`att_adapters` and `mlp_adapters`. Nothing but names differs: every tensor is taken as it is.
"""

import hashlib
import json
import os
import pickle
import warnings
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import BertTokenizerFast

from . import sources
from .configuration import MiniAlbertConfig
from .modeling import MiniAlbertForMaskedLM

BLOCK = "albert.albert.encoder.albert_layer_groups.0.albert_layers.0."
PREFIXES = [  # theirs, ours: the first that fits counts
    ("albert.projector.", "minialbert.embeddings.projection."),
    ("albert.albert.embeddings.", "minialbert.embeddings."),
    (BLOCK + "attention.", "minialbert.encoder.block.attention."),
    (BLOCK + "ffn.", "minialbert.encoder.block.feed_forward.intermediate."),
    (BLOCK + "ffn_output.", "minialbert.encoder.block.feed_forward.dense."),
    (BLOCK + "full_layer_layer_norm.", "minialbert.encoder.block.feed_forward.LayerNorm."),
    ("albert.att_adapters.", "minialbert.encoder.attention_adapters."),
    ("albert.mlp_adapters.", "minialbert.encoder.ffn_adapters."),
    ("vocab_transform.", "head.dense."),
    ("vocab_layer_norm.", "head.LayerNorm."),
    ("vocab_projector.", "head.decoder."),
    ("classifier.", "classifier."),
]
ADAPTER_PARTS = [(".block.0.", ".down."), (".block.2.", ".up."), (".norm.", ".LayerNorm.")]
# Saved by the authors, used by nobody: the pooler's output is never read, position ids are 0, 1, ..
UNUSED = ("albert.albert.pooler.", "albert.albert.embeddings.position_ids")
HEADS = ("head.", "classifier.")
NEEDED = (
    "vocab_size embedding_size hidden_size num_hidden_layers num_attention_heads intermediate_size "
    "max_position_embeddings type_vocab_size layer_norm_eps hidden_dropout_prob "
    "attention_probs_dropout_prob use_adapter"
).split()
OPTIONAL = "hidden_act initializer_range pad_token_id num_labels id2label label2id".split()


class CheckpointError(ValueError):
    """A checkpoint that is truncated, foreign, or not what its name says."""


def convert_state_dict(published: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """{their name: tensor} -> {our name: tensor}, for load_state_dict(strict=True); no copies.

    Raises CheckpointError for a name that the published code does not use.
    """
    used = {name: tensor for name, tensor in published.items() if not name.startswith(UNUSED)}
    return {_rename(name, PREFIXES, ADAPTER_PARTS): tensor for name, tensor in used.items()}


def to_published_state_dict(ours: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The way back, {our name: tensor} -> {their name: tensor}, without what nobody uses."""
    prefixes = [(new, old) for old, new in PREFIXES]
    parts = [(new, old) for old, new in ADAPTER_PARTS]
    return {_rename(name, prefixes, parts): tensor for name, tensor in ours.items()}


def _rename(name, prefixes, adapter_parts):
    for old, new in prefixes:
        if name.startswith(old):
            renamed = new + name.removeprefix(old)
            if "_adapters." in renamed:
                for part, other in adapter_parts:
                    renamed = renamed.replace(part, other)
            return renamed
    raise CheckpointError(f"{name!r} is no parameter of a MiniALBERT, theirs or ours")


def convert_config(published: dict, **overrides) -> MiniAlbertConfig:
    """Their config.json, as a dictionary, to ours; CheckpointError where it is another model's."""
    if missing := [name for name in NEEDED if name not in published]:
        raise CheckpointError(f"not a published MiniALBERT: config.json lacks {missing}")
    values = {name: published[name] for name in [*NEEDED, *OPTIONAL] if name in published}
    reduction = published.get("reduction_factor", 16)
    values["adapter_reduction"] = reduction if values.pop("use_adapter") else None
    return MiniAlbertConfig(**values | overrides)


def as_ours(folder: Path) -> Path:
    """A model's folder as the Auto classes read it: a published checkpoint's is converted, once,
    into the cache; any other's is the folder itself. A checkpoint without a tokenizer has that of
    its teacher, BERT's."""
    config = json.loads((folder / "config.json").read_text(encoding="utf8"))
    if "use_adapter" not in config:
        return folder
    stamps = sorted((str(file.resolve()), file.stat().st_mtime_ns) for file in folder.iterdir())
    known = hashlib.sha256(json.dumps(stamps).encode()).hexdigest()[:16]
    converted = sources.cache_dir() / "published" / known
    if not converted.exists():
        aside = converted.with_name(f"{known}-{os.getpid()}.part")
        load_published(folder, MiniAlbertForMaskedLM).save_pretrained(aside)
        own = folder if (folder / "vocab.txt").exists() else None
        cased = config["vocab_size"] == 28_996
        bert = f"google-bert/bert-base-{'cased' if cased else 'uncased'}"
        tokenizer = BertTokenizerFast.from_pretrained(own or bert, do_lower_case=not cased)
        tokenizer.save_pretrained(aside)
        aside.rename(converted)
    return converted


def load_published(path_or_repo: str | Path, model_class, **config_overrides):
    """A model of this project with a published checkpoint's weights, in eval mode.

    Args:
        path_or_repo: a folder with config.json and model.safetensors or pytorch_model.bin (read as
            plain tensors, never as code), or a Hub id such as "nlpie/miniALBERT-128".
        model_class: one of the MiniAlbert classes. A head that the checkpoint lacks starts at
            random, with a warning; one that the class lacks is left out.
        config_overrides: e.g. num_labels=3 or hidden_dropout_prob=0.

    Raises:
        CheckpointError: truncated, foreign, or weights that are not its config.json's.
        SourceError: not reached, or no model there.
    """
    folder = sources.resolve_model(path_or_repo)
    safe = folder / "model.safetensors"
    try:
        published = json.loads((folder / "config.json").read_text(encoding="utf8"))
        if safe.exists():
            weights = load_file(safe)
        else:
            pickled = folder / "pytorch_model.bin"
            weights = torch.load(pickled, map_location="cpu", weights_only=True)
        model = model_class(convert_config(published, **config_overrides))
        weights = convert_state_dict(weights)
        if not hasattr(model, "minialbert"):  # the bare model: its names have no prefix
            weights = {name.removeprefix("minialbert."): weights[name] for name in weights}
        missing, unexpected = model.load_state_dict(weights, strict=False)
    except (RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"{folder} cannot be read or loaded: {error}") from error
    if foreign := [name for name in (*missing, *unexpected) if not name.startswith(HEADS)]:
        raise CheckpointError(f"{folder}: config.json and weights differ in {foreign}")
    if missing:
        warnings.warn(f"{folder} lacks {missing}: random, to be trained", stacklevel=2)
    return model.eval()
