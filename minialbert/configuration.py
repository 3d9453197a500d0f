"""The student's configuration, in the library's terms."""

from typing import Literal

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

# A saved model carries its code, for whoever loads it with trust_remote_code=True where this
# package is not installed; these are the classes found in it.
AUTO_MAP = {
    "AutoConfig": "configuration.MiniAlbertConfig",
    "AutoModel": "modeling.MiniAlbertModel",
    "AutoModelForMaskedLM": "modeling.MiniAlbertForMaskedLM",
    "AutoModelForSequenceClassification": "modeling.MiniAlbertForSequenceClassification",
    "AutoModelForTokenClassification": "modeling.MiniAlbertForTokenClassification",
}


@strict
class MiniAlbertConfig(PreTrainedConfig):
    """Shape of a MiniALBERT student; by default the paper's smallest model, 12.07 M parameters.

    Args:
        vocab_size: V, word pieces. hidden_size: d.
        embedding_size: r, the rank of the embedding table (section 3.4); d: no factorisation.
        num_hidden_layers: K, how often the one block runs (section 3.2).
        num_attention_heads, intermediate_size, hidden_act: the shared block, as in BERT.
        adapter_reduction: the adapters' bottleneck is d // adapter_reduction; None: no adapters.
        adapter_layer_norm: True, the published adapter LN(up(GELU(down(x))) + x); False, equation 3
            as printed, without the LayerNorm. Only the latter can start as an exact identity.
        head_pooling: what the head of a sentence reads, its "first" token or the "mean" of all.
        visit_heads: a classifier of its own for each visit before the last (`early_exit`).
        tie_word_embeddings: the masked-LM head's decoder is the factorised table, E = E_lr W.

    Raises:
        ValueError: where the sizes do not fit each other; the message says which to change.
    """

    model_type = "minialbert"

    vocab_size: int = 30522
    embedding_size: int = 128
    hidden_size: int = 768
    num_hidden_layers: int = 6
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    adapter_reduction: int | None = 16
    adapter_layer_norm: bool = True
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    layer_norm_eps: float = 1e-12
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    classifier_dropout: float | None = None
    initializer_range: float = 0.02
    head_pooling: Literal["first", "mean"] = "first"
    visit_heads: bool = False
    tie_word_embeddings: bool = False
    pad_token_id: int | None = 0

    @property
    def adapter_size(self) -> int | None:
        """Width of the adapters' bottleneck; None where there are no adapters."""
        return self.adapter_reduction and self.hidden_size // self.adapter_reduction

    @property
    def is_factorised(self) -> bool:
        """Whether embeddings live at a rank below hidden_size and are projected up."""
        return self.embedding_size != self.hidden_size

    @property
    def head_dropout(self) -> float:
        """Dropout before a classifier; where none is chosen, that of the hidden states."""
        chosen = self.classifier_dropout
        return self.hidden_dropout_prob if chosen is None else chosen

    def __post_init__(self, **kwargs):
        super().__post_init__(**{"auto_map": dict(AUTO_MAP), **kwargs})
        for name in ("hidden_size", "embedding_size", "num_hidden_layers", "num_attention_heads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")
        d, heads, rank = self.hidden_size, self.num_attention_heads, self.embedding_size
        if d % heads:
            raise ValueError(f"hidden_size {d} is not a multiple of num_attention_heads {heads}.")
        if rank > d:
            raise ValueError(f"embedding_size {rank} exceeds hidden_size {d}: lower it.")
        if self.adapter_reduction is not None and not 1 <= self.adapter_reduction <= d:
            raise ValueError(f"adapter_reduction must be in 1..{d}, or None for no adapters.")
