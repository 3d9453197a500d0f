"""The student: one transformer block run K times, told apart by adapters, on factorised embeddings.

Shapes: B batch, T tokens with padding, d hidden size, r embedding rank, V vocabulary,
K iterations, N_h heads. A saved model carries a copy of this file and of the configuration, so that
it can be loaded elsewhere: nothing else of the project may be imported here.
"""

import torch
from torch import nn
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers import modeling_outputs as outputs
from transformers.activations import ACT2FN
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.utils.generic import can_return_tuple

from .configuration import MiniAlbertConfig


class Projection(nn.Linear):
    """x W^T + b from rank r to d; `back`, for a tied head, x W from d to r."""

    def forward(self, x, back=False):
        return F.linear(x, self.weight.T) if back else super().forward(x)


class FactorisedEmbeddings(nn.Module):
    """X_0 = Drop(LN_r(E_word + E_type + E_pos)) W^T + b (equation 5): ids -> (B, T, d).

    As published, tables, LayerNorm and dropout live at rank r; where r = d nothing is projected.
    """

    def __init__(self, config: MiniAlbertConfig):
        super().__init__()
        r = config.embedding_size
        self.word_embeddings = nn.Embedding(config.vocab_size, r, padding_idx=config.pad_token_id)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, r)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, r)
        self.LayerNorm = nn.LayerNorm(r, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.projection = Projection(r, config.hidden_size) if config.is_factorised else None

    def forward(self, input_ids, token_type_ids, position_ids, inputs_embeds=None):
        words = self.word_embeddings(input_ids) if inputs_embeds is None else inputs_embeds
        types = self.token_type_embeddings(token_type_ids)
        x = words + types + self.position_embeddings(position_ids)  # (B, T, r)
        x = self.dropout(self.LayerNorm(x))
        return x if self.projection is None else self.projection(x)  # (B, T, d)


class BottleneckAdapter(nn.Module):
    """BA(x) = LN(W_up GELU(W_down x + b1) + b2 + x), (B, T, d) (equation 3, as published)."""

    def __init__(self, config: MiniAlbertConfig):
        super().__init__()
        d = config.hidden_size
        self.down = nn.Linear(d, config.adapter_size)
        self.up = nn.Linear(config.adapter_size, d)
        normed = config.adapter_layer_norm
        self.LayerNorm = nn.LayerNorm(d, eps=config.layer_norm_eps) if normed else nn.Identity()

    def forward(self, x):
        return self.LayerNorm(self.up(F.gelu(self.down(x))) + x)


def eager_attention(module, query, key, value, attention_mask, scaling, dropout=0.0, **_):
    """Attention that also returns its map: A = softmax(Q K^T scaling + mask), taken before dropout.

    query, key, value: (B, N_h, T, d / N_h); attention_mask: added, or None.
    Returns the values (B, T, N_h, d / N_h) and A (B, N_h, T, T).
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

    def forward(self, x, mask=None, output_attentions=False):
        def heads(projection):  # (B, T, d) -> (B, N_h, T, d / N_h)
            return projection(x).view(*x.shape[:-1], -1, self.head_size).transpose(1, 2)

        query, key, value = heads(self.query), heads(self.key), heads(self.value)
        attend, scaling = eager_attention, self.head_size**-0.5
        if not output_attentions:
            chosen = self.config._attn_implementation
            attend = ALL_ATTENTION_FUNCTIONS.get_interface(chosen, eager_attention)
        dropout = self.config.attention_probs_dropout_prob if self.training else 0.0
        mixed, attention = attend(self, query, key, value, mask, scaling=scaling, dropout=dropout)
        mixed = self.dropout(self.dense(mixed.reshape(x.shape)))  # heads side by side: d
        return self.LayerNorm(x + mixed), attention if output_attentions else None


class FeedForward(nn.Module):
    """FFN(x) = LN(x + Drop(W_2 GELU(W_1 x + b_1) + b_2)), the block's second half (equation 1)."""

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

    def forward(self, x, mask=None, output_attentions=False, adapt_attention=None, adapt_ffn=None):
        if adapt_attention is not None:
            x = adapt_attention(x)
        x, attention = self.attention(x, mask, output_attentions)
        if adapt_ffn is not None:
            x = adapt_ffn(x)
        return self.feed_forward(x), attention


class RecursiveEncoder(nn.Module):
    """X_k = block(X_{k-1}), k = 1..K: one block (equation 2), a pair of adapters per iteration."""

    def __init__(self, config: MiniAlbertConfig):
        super().__init__()
        self.block = SharedBlock(config)
        adapters = 0 if config.adapter_reduction is None else config.num_hidden_layers
        self.attention_adapters = nn.ModuleList(BottleneckAdapter(config) for _ in range(adapters))
        self.ffn_adapters = nn.ModuleList(BottleneckAdapter(config) for _ in range(adapters))
        self.num_iterations = config.num_hidden_layers

    def visit(self, k, x, mask=None, output_attentions=False):
        """Visit k + 1 to the block, with its adapters: the next (B, T, d), and its map or None."""
        adapters = ()
        if self.attention_adapters:  # as functions: accelerate moves modules in arguments
            adapters = (self.attention_adapters[k].__call__, self.ffn_adapters[k].__call__)
        return self.block(x, mask, output_attentions, *adapters)

    def forward(
        self, x, mask=None, num_iterations=None, output_attentions=False, output_hidden_states=True
    ):
        """Returns K+1 hidden states (B, T, d), [0] being x, and K maps (B, N_h, T, T) or None each;
        a state before the last that is not asked for is None, and freed."""
        iterations = self.num_iterations if num_iterations is None else num_iterations
        if not 1 <= iterations <= self.num_iterations:
            raise ValueError(f"num_iterations={iterations}: ask for 1 to {self.num_iterations}.")
        wanted = selected_states(output_hidden_states, iterations + 1) | {iterations}
        hidden_states, attentions = [x if 0 in wanted else None], []
        for k in range(iterations):
            x, attention = self.visit(k, x, mask, output_attentions)
            hidden_states.append(x if k + 1 in wanted else None)
            attentions.append(attention)
        return hidden_states, attentions


def selected_states(asked, count):
    """Which of `count` hidden states to return: all, none, or those listed, as in the library."""
    if not asked or asked is True:
        return set(range(count)) if asked else set()
    listed = [asked] if isinstance(asked, int) else asked
    return {index % count for index in listed if -count <= index < count}


class MiniAlbertPreTrainedModel(PreTrainedModel):
    """What the four models tell the library."""

    config_class = MiniAlbertConfig
    base_model_prefix = "minialbert"
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = False  # a loss is a batch's mean: the Trainer shall divide it itself
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _input_embed_layer = "word_embeddings"
    _no_split_modules = ["FactorisedEmbeddings", "SharedBlock"]


class MiniAlbertModel(MiniAlbertPreTrainedModel):
    """Embeddings and the recursive encoder, without a head."""

    def __init__(self, config: MiniAlbertConfig):
        super().__init__(config)
        self.embeddings = FactorisedEmbeddings(config)
        self.encoder = RecursiveEncoder(config)
        self.post_init()

    @can_return_tuple
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
        exit_policy=None,
    ):
        """The student run on a batch.

        Args:
            input_ids: (B, T) word pieces, or inputs_embeds (B, T, r): word vectors at rank r.
            attention_mask: (B, T), 1 for a token, 0 for padding on either side: positions count
                from the first token. Or (B, 1, T, T): true where a query sees a key, or added.
            token_type_ids, position_ids: (B, T), by default 0 and the token's place.
            output_hidden_states: return K+1 tensors (B, T, d), [0] the embeddings after the
                projection; or a list of their indices, as [0, -1]: the others are None.
            output_attentions: return K maps (B, N_h, T, T) before dropout; runs eager attention.
            num_iterations: stop after 1..K iterations.
            exit_policy: of `early_exit`: each text stops when it is ready, and says when.

        Raises:
            ValueError: neither or both of input_ids and inputs_embeds; too many tokens, iterations.
        """
        given = input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds
        if exit_policy is not None:
            return exit_policy(self, *given)
        config, asked = self.config, output_hidden_states
        asked = config.output_hidden_states if asked is None else asked
        eager = config.output_attentions if output_attentions is None else output_attentions
        x, mask = self.embed(*given, eager)
        states, attentions = self.encoder(x, mask, num_iterations, eager, asked)
        wanted = selected_states(asked, len(states))
        chosen = tuple(state if k in wanted else None for k, state in enumerate(states))
        maps = tuple(attentions) if eager else None
        return outputs.BaseModelOutput(states[-1], chosen if asked else None, maps)

    def embed(self, input_ids, mask, token_type_ids, position_ids, inputs_embeds, eager):
        """X_0 (B, T, d) of a batch as `forward` takes it, and the mask as its attention does."""
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("Give exactly one of input_ids and inputs_embeds.")
        given = input_ids if input_ids is not None else inputs_embeds
        shape, device = given.shape[:2], given.device  # an offloaded weight has no device
        T, most = shape[1], self.config.max_position_embeddings
        if T > most:
            raise ValueError(f"{T} tokens, max_position_embeddings = {most}: use truncation=True.")
        if token_type_ids is None:
            token_type_ids = torch.zeros(shape, dtype=torch.long, device=device)
        if position_ids is None:
            position_ids = torch.arange(T, device=device).expand(shape)
            if mask is not None and mask.dim() == 2:
                padding_before = mask.long().argmax(1, keepdim=True)
                position_ids = (position_ids - padding_before).clamp_min(0)
        x = self.embeddings(input_ids, token_type_ids, position_ids, inputs_embeds)
        if not eager and (mask is None or mask.dim() == 2):
            return x, create_bidirectional_mask(self.config, x, mask)
        if mask is None or mask.dim() == 4 and mask.is_floating_point():
            return x, mask
        visible = mask if mask.dim() == 4 else mask[:, None, None, :]
        hidden, least = ~visible.to(x.device, torch.bool), torch.finfo(x.dtype).min
        return x, torch.zeros_like(hidden, dtype=x.dtype).masked_fill(hidden, least)


class MiniAlbertWithHead(MiniAlbertPreTrainedModel):
    """What the models with a head share; the head is that of token classification."""

    output_class = outputs.TokenClassifierOutput

    def __init__(self, config: MiniAlbertConfig):
        super().__init__(config)
        self.minialbert = MiniAlbertModel(config)
        self.make_head(config)
        self.post_init()

    def make_head(self, config):
        self.num_labels = config.num_labels
        self.dropout = nn.Dropout(config.head_dropout)
        sizes = config.hidden_size, config.num_labels
        self.classifier = nn.Linear(*sizes)
        earlier = config.num_hidden_layers - 1 if config.visit_heads else 0
        self.visit_classifiers = nn.ModuleList(nn.Linear(*sizes) for _ in range(earlier))

    @can_return_tuple
    def forward(
        self,
        input_ids=None,
        attention_mask=None,
        token_type_ids=None,
        position_ids=None,
        inputs_embeds=None,
        labels=None,
        **options,
    ):
        """As MiniAlbertModel, whose other arguments `options` are, with logits and a loss."""
        given = input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds
        if (exit_policy := options.pop("exit_policy", None)) is not None:
            return exit_policy(self, *given, labels, **options)
        output = self.minialbert(*given, **options)
        logits = self.predict(output[0], attention_mask, options.get("num_iterations"))
        loss = None if labels is None else self.compare(logits, labels)
        return self.output_class(loss, logits, output.hidden_states, output.attentions)

    def predict(self, hidden_states, attention_mask=None, visits=None):
        """Scores (..., num_labels) of hidden states (..., d) after so many visits; None: all."""
        own = dict(enumerate(self.visit_classifiers, 1))  # of the earlier visits
        return own.get(visits, self.classifier)(self.dropout(hidden_states))

    def compare(self, logits, labels):
        """losses.mlm_loss, whose choice of rows is quicker, but breaks torch.compile's graph."""
        labels = labels.to(logits.device)
        logits = logits if logits.dtype == torch.float64 else logits.float()
        total = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum")
        return total / (labels != -100).sum().clamp_min(1)


class MiniAlbertForTokenClassification(MiniAlbertWithHead):
    """A label for every token: logits (B, T, num_labels); labels (B, T), -100 where ignored."""


class MiniAlbertForSequenceClassification(MiniAlbertWithHead):
    """Classification or regression from the first token (or the mean); the paper counts no pooler.
    Logits (B, num_labels); labels (B,) give cross-entropy, or the squared error if num_labels is 1.
    """

    output_class = outputs.SequenceClassifierOutput

    def predict(self, hidden_states, attention_mask=None, visits=None):
        """Scores (B, num_labels) from each row's first token that is not padding, or its mean."""
        is_given = attention_mask is not None and attention_mask.dim() == 2
        mask = attention_mask if is_given else torch.ones_like(hidden_states[..., 0])
        if self.config.head_pooling == "mean":
            mean = (mask[..., None] * hidden_states).sum(1) / mask.sum(1, keepdim=True)
            return super().predict(mean, visits=visits)
        rows = torch.arange(hidden_states.shape[0], device=hidden_states.device)
        first = hidden_states[rows, mask.long().argmax(1).to(rows.device)]
        return super().predict(first, visits=visits)

    def compare(self, logits, labels):
        return self.loss_function(labels=labels, pooled_logits=logits, config=self.config)


class MaskedLMHead(nn.Module):
    """Dense, GELU, LayerNorm, then scores over the vocabulary: (..., d) -> (..., V).

    Tied, the decoder is the factorised table E = E_lr W: first the embeddings' W, then E_lr.
    """

    def __init__(self, config: MiniAlbertConfig):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        rank = config.embedding_size if config.tie_word_embeddings else config.hidden_size
        self.decoder = nn.Linear(rank, config.vocab_size)

    def forward(self, hidden_states, lower=None):
        x = self.LayerNorm(F.gelu(self.dense(hidden_states)))
        return self.decoder(x if lower is None else lower(x))


class MiniAlbertForMaskedLM(MiniAlbertWithHead):
    """The student with a masked-LM head, what distillation trains.

    Logits (B, T, V); labels (B, T), -100 where nothing is asked, give the loss of equation 6.
    """

    output_class = outputs.MaskedLMOutput
    _tied_weights_keys = {"head.decoder.weight": "minialbert.embeddings.word_embeddings.weight"}

    def make_head(self, config):
        self.head = MaskedLMHead(config)

    def get_output_embeddings(self):
        return self.head.decoder

    def set_output_embeddings(self, value):
        self.head.decoder = value

    def predict(self, hidden_states, attention_mask=None, visits=None):
        """Vocabulary scores (..., V) of any selection of last hidden states (..., d)."""
        projection = self.minialbert.embeddings.projection
        if projection is None or not self.config.tie_word_embeddings:
            return self.head(hidden_states)
        return self.head(hidden_states, lambda x: projection(x, back=True))
