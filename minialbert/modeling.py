"""The student: one transformer block run K times, told apart by adapters, on factorised embeddings.

Shapes: B batch, T tokens with padding, d hidden size, r embedding rank, V vocabulary, K iterations, N_h heads.
Importing this file registers "minialbert" with the library's Auto classes.
"""

import torch
from torch import nn
from torch.nn import functional as F
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedModel,
)
from transformers.activations import ACT2FN
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import (
    BaseModelOutput,
    MaskedLMOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .configuration import MiniAlbertConfig


class FactorisedEmbeddings(nn.Module):
    """X_0 = Drop(LN_r(E_word + E_type + E_pos)) W^T + b (equation 5, as published): (B, T) ids -> (B, T, d).

    Word, type and position tables, the LayerNorm and the dropout live at rank r; one projection lifts to d.
    Where r = d there is no projection.
    """

    def __init__(self, config: MiniAlbertConfig):
        super().__init__()
        r = config.embedding_size
        self.word_embeddings = nn.Embedding(config.vocab_size, r, padding_idx=config.pad_token_id)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, r)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, r)
        self.LayerNorm = nn.LayerNorm(r, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.projection = nn.Linear(r, config.hidden_size) if config.is_factorised else None

    def forward(self, input_ids, token_type_ids, position_ids, inputs_embeds=None):
        words = (
            self.word_embeddings(input_ids) if inputs_embeds is None else inputs_embeds
        )  # (B, T, r)
        x = (
            words
            + self.token_type_embeddings(token_type_ids)
            + self.position_embeddings(position_ids)
        )
        x = self.dropout(self.LayerNorm(x))
        return x if self.projection is None else self.projection(x)  # (B, T, d)


class BottleneckAdapter(nn.Module):
    """BA(x) = LayerNorm(W_up GELU(W_down x + b1) + b2 + x), (B, T, d) -> (B, T, d) (equation 3, as published)."""

    def __init__(self, config: MiniAlbertConfig):
        super().__init__()
        self.down = nn.Linear(config.hidden_size, config.adapter_size)
        self.up = nn.Linear(config.adapter_size, config.hidden_size)
        self.LayerNorm = (
            nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
            if config.adapter_layer_norm
            else nn.Identity()
        )

    def forward(self, x):
        return self.LayerNorm(self.up(F.gelu(self.down(x))) + x)


def eager_attention(module, query, key, value, attention_mask, scaling, dropout=0.0, **_):
    """Attention that also returns its map: A = softmax(Q K^T scaling + mask), taken before dropout.

    query, key, value: (B, N_h, T, d / N_h). Returns the values (B, T, N_h, d / N_h) and A (B, N_h, T, T).
    """
    scores = query @ key.transpose(2, 3) * scaling
    if attention_mask is not None:
        scores = scores + attention_mask
    probabilities = scores.softmax(-1)
    mixed = F.dropout(probabilities, dropout, module.training) @ value
    return mixed.transpose(1, 2), probabilities


class SelfAttention(nn.Module):
    """MHA(x) = LN(x + Drop(W_o [Drop(A) V] + b_o)), the first half of the block (equation 1)."""

    is_causal = False  # the library's attention functions ask

    def __init__(self, config: MiniAlbertConfig):
        super().__init__()
        d = config.hidden_size
        self.config = config
        self.query, self.key, self.value, self.dense = (nn.Linear(d, d) for _ in range(4))
        self.LayerNorm = nn.LayerNorm(d, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.head_size = d // config.num_attention_heads

    def forward(self, x, attention_mask=None, output_attentions=False):
        heads = (*x.shape[:-1], -1, self.head_size)
        query, key, value = (
            p(x).view(heads).transpose(1, 2) for p in (self.query, self.key, self.value)
        )
        attend = (
            eager_attention
            if output_attentions
            else ALL_ATTENTION_FUNCTIONS.get_interface(
                self.config._attn_implementation, eager_attention
            )
        )
        mixed, attention = attend(
            self,
            query,
            key,
            value,
            attention_mask,
            scaling=self.head_size**-0.5,
            dropout=self.config.attention_probs_dropout_prob if self.training else 0.0,
        )
        mixed = mixed.reshape(x.shape)  # heads side by side: d
        return self.LayerNorm(
            x + self.dropout(self.dense(mixed))
        ), attention if output_attentions else None


class FeedForward(nn.Module):
    """FFN(x) = LN(x + Drop(W_2 GELU(W_1 x + b_1) + b_2)), the second half of the block (equation 1)."""

    def __init__(self, config: MiniAlbertConfig):
        super().__init__()
        self.intermediate = nn.Linear(config.hidden_size, config.intermediate_size)
        self.activation = ACT2FN[config.hidden_act]
        self.dense = nn.Linear(config.intermediate_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, x):
        return self.LayerNorm(x + self.dropout(self.dense(self.activation(self.intermediate(x)))))


class SharedBlock(GradientCheckpointingLayer):
    """The one block: X_k = FFN(BA_ffn(MHA(BA_att(X_{k-1})))) (equation 4, as published).

    Each adapter stands before its half, and that half's residual starts from the adapter's output.
    """

    def __init__(self, config: MiniAlbertConfig):
        super().__init__()
        self.attention = SelfAttention(config)
        self.feed_forward = FeedForward(config)

    def forward(
        self,
        x,
        attention_mask=None,
        attention_adapter=None,
        ffn_adapter=None,
        output_attentions=False,
    ):
        if attention_adapter is not None:
            x = attention_adapter(x)
        x, attention = self.attention(x, attention_mask, output_attentions)
        if ffn_adapter is not None:
            x = ffn_adapter(x)
        return self.feed_forward(x), attention


class RecursiveEncoder(nn.Module):
    """X_k = block(X_{k-1}), k = 1..K, the same block each time (equation 2), a pair of adapters per iteration."""

    def __init__(self, config: MiniAlbertConfig):
        super().__init__()
        self.block = SharedBlock(config)
        adapters = 0 if config.adapter_reduction is None else config.num_hidden_layers
        self.attention_adapters = nn.ModuleList(BottleneckAdapter(config) for _ in range(adapters))
        self.ffn_adapters = nn.ModuleList(BottleneckAdapter(config) for _ in range(adapters))
        self.num_iterations = config.num_hidden_layers

    def forward(
        self,
        x,
        attention_mask=None,
        num_iterations=None,
        output_attentions=False,
        output_hidden_states=True,
    ):
        """Returns the K+1 hidden states (B, T, d), [0] being x, and the K maps (B, N_h, T, T) or None each.

        With output_hidden_states=False only the last state, so that the others are freed on the way.
        """
        iterations = self.num_iterations if num_iterations is None else num_iterations
        if not 1 <= iterations <= self.num_iterations:
            raise ValueError(
                f"num_iterations={iterations}: this model has K = {self.num_iterations} iterations; "
                f"ask for 1 to {self.num_iterations}."
            )
        hidden_states, attentions = [x], []
        for k in range(iterations):
            adapters = (
                (self.attention_adapters[k], self.ffn_adapters[k])
                if self.attention_adapters
                else (None, None)
            )
            x, attention = self.block(x, attention_mask, *adapters, output_attentions)
            hidden_states = [*hidden_states, x] if output_hidden_states else [x]
            attentions.append(attention)
        return hidden_states, attentions


class MiniAlbertPreTrainedModel(PreTrainedModel):
    """What the four models share: weights' initialisation, loading, saving."""

    config_class = MiniAlbertConfig
    base_model_prefix = "minialbert"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True
    _no_split_modules = ["FactorisedEmbeddings", "SharedBlock"]


class MiniAlbertModel(MiniAlbertPreTrainedModel):
    """Embeddings and the recursive encoder, without a head."""

    def __init__(self, config: MiniAlbertConfig):
        super().__init__(config)
        self.embeddings = FactorisedEmbeddings(config)
        self.encoder = RecursiveEncoder(config)
        self.post_init()

    def get_input_embeddings(self):
        return self.embeddings.word_embeddings

    def set_input_embeddings(self, value):
        self.embeddings.word_embeddings = value

    def forward(
        self,
        input_ids=None,
        attention_mask=None,
        token_type_ids=None,
        position_ids=None,
        inputs_embeds=None,
        output_hidden_states=None,
        output_attentions=None,
        num_iterations=None,
        return_dict=None,
    ):
        """Runs the student.

        Args:
            input_ids: (B, T) word pieces, or inputs_embeds (B, T, r): word vectors at rank r.
            attention_mask: (B, T), 1 for a token and 0 for padding, on either side. Positions count from the
                first token, so a sentence padded on the left gives what it gives padded on the right.
            token_type_ids, position_ids: (B, T), by default 0 and the token's place.
            output_hidden_states: return K+1 tensors (B, T, d), [0] the embeddings after the projection.
            output_attentions: return K maps (B, N_h, T, T), probabilities before dropout; runs eager attention.
            num_iterations: stop after 1..K iterations.

        Raises:
            ValueError: for neither or both of input_ids and inputs_embeds, for more tokens than positions, and
                for num_iterations outside 1..K.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("Give exactly one of input_ids and inputs_embeds.")
        shape = input_ids.shape if input_ids is not None else inputs_embeds.shape[:-1]
        device = self.embeddings.LayerNorm.weight.device
        if shape[1] > self.config.max_position_embeddings:
            raise ValueError(
                f"{shape[1]} tokens, but the model has max_position_embeddings = "
                f"{self.config.max_position_embeddings}: tokenize with truncation=True, "
                f"max_length={self.config.max_position_embeddings}."
            )
        if token_type_ids is None:
            token_type_ids = torch.zeros(shape, dtype=torch.long, device=device)
        if position_ids is None:
            position_ids = torch.arange(shape[1], device=device).expand(shape)
            if attention_mask is not None and attention_mask.dim() == 2:
                padding_before = attention_mask.long().argmax(1, keepdim=True)
                position_ids = (position_ids - padding_before).clamp_min(0)

        output_attentions = (
            self.config.output_attentions if output_attentions is None else output_attentions
        )
        output_hidden_states = (
            self.config.output_hidden_states
            if output_hidden_states is None
            else output_hidden_states
        )
        x = self.embeddings(input_ids, token_type_ids, position_ids, inputs_embeds)
        hidden_states, attentions = self.encoder(
            x,
            self._mask(x, attention_mask, output_attentions),
            num_iterations,
            output_attentions,
            output_hidden_states,
        )
        output = BaseModelOutput(
            last_hidden_state=hidden_states[-1],
            hidden_states=tuple(hidden_states) if output_hidden_states else None,
            attentions=tuple(attentions) if output_attentions else None,
        )
        return output if _as_dict(self.config, return_dict) else output.to_tuple()

    def _mask(self, x, attention_mask, eager):
        """The mask in the form that the attention to be used understands; None where nothing is hidden."""
        if not eager:
            return create_bidirectional_mask(
                self.config, inputs_embeds=x, attention_mask=attention_mask
            )
        if attention_mask is None or attention_mask.dim() == 4:
            return attention_mask
        hidden = ~attention_mask.to(device=x.device, dtype=torch.bool)[:, None, None, :]
        dtype = (
            torch.get_autocast_dtype(x.device.type)
            if torch.is_autocast_enabled(x.device.type)
            else x.dtype
        )
        return torch.zeros(hidden.shape, dtype=dtype, device=x.device).masked_fill(
            hidden, torch.finfo(dtype).min
        )


class MaskedLMHead(nn.Module):
    """Dense, GELU, LayerNorm, then scores over the vocabulary: (..., d) -> (..., V).

    Tied, the decoder is the factorised table itself, E = E_lr W: first W (the embeddings' projection), then E_lr.
    """

    def __init__(self, config: MiniAlbertConfig):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        rank = config.embedding_size if config.tie_word_embeddings else config.hidden_size
        self.decoder = nn.Linear(rank, config.vocab_size)

    def forward(self, hidden_states, projection=None):
        x = self.LayerNorm(F.gelu(self.dense(hidden_states)))
        return self.decoder(x if projection is None else F.linear(x, projection.weight.T))


class MiniAlbertForMaskedLM(MiniAlbertPreTrainedModel):
    """The student with a masked-LM head, what distillation trains."""

    _tied_weights_keys = {"head.decoder.weight": "minialbert.embeddings.word_embeddings.weight"}

    def __init__(self, config: MiniAlbertConfig):
        super().__init__(config)
        self.minialbert = MiniAlbertModel(config)
        self.head = MaskedLMHead(config)
        self.post_init()

    def get_output_embeddings(self):
        return self.head.decoder

    def set_output_embeddings(self, value):
        self.head.decoder = value

    def predict(self, hidden_states):
        """Vocabulary scores (..., V) of any selection of last hidden states (..., d)."""
        tied = self.config.tie_word_embeddings
        return self.head(hidden_states, self.minialbert.embeddings.projection if tied else None)

    def forward(
        self,
        input_ids=None,
        attention_mask=None,
        token_type_ids=None,
        position_ids=None,
        inputs_embeds=None,
        labels=None,
        output_hidden_states=None,
        output_attentions=None,
        num_iterations=None,
        return_dict=None,
    ):
        """As MiniAlbertModel, with logits (B, T, V); labels (B, T), -100 where nothing is asked, give the loss of
        equation 6, 0 where nothing is labelled."""
        output = self.minialbert(
            input_ids,
            attention_mask,
            token_type_ids,
            position_ids,
            inputs_embeds,
            output_hidden_states,
            output_attentions,
            num_iterations,
            return_dict=True,
        )
        logits = self.predict(output.last_hidden_state)
        result = MaskedLMOutput(
            loss=None if labels is None else _token_loss(logits, labels),
            logits=logits,
            hidden_states=output.hidden_states,
            attentions=output.attentions,
        )
        return result if _as_dict(self.config, return_dict) else result.to_tuple()


class MiniAlbertForSequenceClassification(MiniAlbertPreTrainedModel):
    """Classification or regression from the first token's last state; no pooler, as in the paper's 0.9M count."""

    def __init__(self, config: MiniAlbertConfig):
        super().__init__(config)
        self.num_labels = config.num_labels
        self.minialbert = MiniAlbertModel(config)
        self.dropout = nn.Dropout(_classifier_dropout(config))
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def forward(
        self,
        input_ids=None,
        attention_mask=None,
        token_type_ids=None,
        position_ids=None,
        inputs_embeds=None,
        labels=None,
        output_hidden_states=None,
        output_attentions=None,
        num_iterations=None,
        return_dict=None,
    ):
        """As MiniAlbertModel, with logits (B, num_labels); labels (B,) give cross-entropy, or the squared error
        where num_labels is 1. The first token is the first one that is not padding."""
        output = self.minialbert(
            input_ids,
            attention_mask,
            token_type_ids,
            position_ids,
            inputs_embeds,
            output_hidden_states,
            output_attentions,
            num_iterations,
            return_dict=True,
        )
        states = output.last_hidden_state
        if attention_mask is None or attention_mask.dim() != 2:
            first = states[:, 0]
        else:
            first = states[
                torch.arange(len(states), device=states.device), attention_mask.long().argmax(1)
            ]
        logits = self.classifier(self.dropout(first))
        loss = (
            None
            if labels is None
            else self.loss_function(labels=labels, pooled_logits=logits, config=self.config)
        )
        result = SequenceClassifierOutput(
            loss=loss,
            logits=logits,
            hidden_states=output.hidden_states,
            attentions=output.attentions,
        )
        return result if _as_dict(self.config, return_dict) else result.to_tuple()


class MiniAlbertForTokenClassification(MiniAlbertPreTrainedModel):
    """A label for every token, as in named-entity recognition."""

    def __init__(self, config: MiniAlbertConfig):
        super().__init__(config)
        self.num_labels = config.num_labels
        self.minialbert = MiniAlbertModel(config)
        self.dropout = nn.Dropout(_classifier_dropout(config))
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def forward(
        self,
        input_ids=None,
        attention_mask=None,
        token_type_ids=None,
        position_ids=None,
        inputs_embeds=None,
        labels=None,
        output_hidden_states=None,
        output_attentions=None,
        num_iterations=None,
        return_dict=None,
    ):
        """As MiniAlbertModel, with logits (B, T, num_labels); labels (B, T), -100 = ignored, give cross-entropy."""
        output = self.minialbert(
            input_ids,
            attention_mask,
            token_type_ids,
            position_ids,
            inputs_embeds,
            output_hidden_states,
            output_attentions,
            num_iterations,
            return_dict=True,
        )
        logits = self.classifier(self.dropout(output.last_hidden_state))
        result = TokenClassifierOutput(
            loss=None if labels is None else _token_loss(logits, labels),
            logits=logits,
            hidden_states=output.hidden_states,
            attentions=output.attentions,
        )
        return result if _as_dict(self.config, return_dict) else result.to_tuple()


def _classifier_dropout(config):
    return (
        config.hidden_dropout_prob
        if config.classifier_dropout is None
        else config.classifier_dropout
    )


def _token_loss(logits, labels):
    """Mean cross-entropy over labelled tokens; 0, not NaN, where nothing is labelled."""
    labels = labels.to(logits.device)
    logits = logits if logits.dtype == torch.float64 else logits.float()
    total = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum")
    return total / (labels != -100).sum().clamp_min(1)


def _as_dict(config, return_dict):
    return config.return_dict if return_dict is None else return_dict


AutoConfig.register("minialbert", MiniAlbertConfig)
AutoModel.register(MiniAlbertConfig, MiniAlbertModel)
AutoModelForMaskedLM.register(MiniAlbertConfig, MiniAlbertForMaskedLM)
AutoModelForSequenceClassification.register(MiniAlbertConfig, MiniAlbertForSequenceClassification)
AutoModelForTokenClassification.register(MiniAlbertConfig, MiniAlbertForTokenClassification)
