"""The student behaves as the library's users expect, and as the paper counts."""

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from minialbert import (
    MiniAlbertConfig,
    MiniAlbertForMaskedLM,
    MiniAlbertForSequenceClassification,
    MiniAlbertForTokenClassification,
    MiniAlbertModel,
)
from minialbert.finetuning import adapter_state_dict, mark_only_adapters_trainable

TINY = dict(
    vocab_size=99,
    embedding_size=8,
    hidden_size=24,
    num_hidden_layers=3,
    num_attention_heads=3,
    intermediate_size=40,
    adapter_reduction=4,
    max_position_embeddings=16,
    initializer_range=0.3,
)
MODELS = [
    MiniAlbertModel,
    MiniAlbertForMaskedLM,
    MiniAlbertForSequenceClassification,
    MiniAlbertForTokenClassification,
]


def tiny(model_class=MiniAlbertModel, **changes):
    torch.manual_seed(0)
    return model_class(MiniAlbertConfig(**{**TINY, **changes})).eval()


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(5, 99, (4, 10), generator=generator)
    mask = (torch.arange(10) < torch.tensor([[10], [7], [3], [1]])).long()
    return dict(
        input_ids=ids * mask,
        attention_mask=mask,
        token_type_ids=(torch.arange(10) > 2).long().expand(4, 10),
    )


def count(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    "rank, reduction, total",
    [  # the paper's table, to the unit
        (768, None, 30_925_056),
        (768, 16, 31_838_016),
        (312, None, 17_012_112),
        (312, 16, 17_925_072),
        (128, None, 11_159_808),
        (128, 16, 12_072_768),
    ],
)
def test_parameter_table(rank, reduction, total):
    with torch.device("meta"):
        model = MiniAlbertModel(MiniAlbertConfig(embedding_size=rank, adapter_reduction=reduction))
    assert count(model) == total
    assert count(model.encoder.block) == 7_087_872
    assert count(model.encoder.attention_adapters) + count(
        model.encoder.ffn_adapters
    ) == 912_960 * bool(reduction)
    assert (0 if rank == 768 else count(model.embeddings.projection)) == {
        768: 0,
        312: 240_384,
        128: 99_072,
    }[rank]


def test_adapter_tuning_trains_914_498_parameters():
    with torch.device("meta"):
        model = MiniAlbertForSequenceClassification(MiniAlbertConfig(num_labels=2))
        assert mark_only_adapters_trainable(model) == 914_498
        assert sum(t.numel() for t in adapter_state_dict(model).values()) == 914_498
        # the published masked-LM model counts an unused pooler of d^2 + d besides
        assert count(MiniAlbertForMaskedLM(MiniAlbertConfig())) + 768 * 769 == 36_726_906


@pytest.mark.parametrize("model_class", MODELS)
def test_saved_and_loaded_by_the_auto_classes(model_class, tmp_path, batch):
    auto = {
        MiniAlbertModel: AutoModel,
        MiniAlbertForMaskedLM: AutoModelForMaskedLM,
        MiniAlbertForSequenceClassification: AutoModelForSequenceClassification,
        MiniAlbertForTokenClassification: AutoModelForTokenClassification,
    }[model_class]
    model = tiny(model_class)
    model.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").exists() and not list(tmp_path.glob("*.bin"))
    config = AutoConfig.from_pretrained(tmp_path)
    assert (
        type(config) is MiniAlbertConfig and {name: getattr(config, name) for name in TINY} == TINY
    )
    again = auto.from_pretrained(tmp_path)
    assert type(again) is model_class
    assert torch.equal(again(**batch)[0], model(**batch)[0])


def test_states_and_maps(batch):
    model = tiny()
    output = model(**batch, output_hidden_states=True, output_attentions=True)
    assert len(output.hidden_states) == 4 and len(output.attentions) == 3
    assert output.attentions[0].shape == (4, 3, 10, 10)
    assert torch.equal(output.hidden_states[-1], output.last_hidden_state)
    assert torch.equal(
        output.hidden_states[0],
        model.embeddings(
            batch["input_ids"], batch["token_type_ids"], torch.arange(10).expand(4, 10)
        ),
    )
    padded = batch["attention_mask"][:, None, None, :] == 0
    for attention in output.attentions:
        torch.testing.assert_close(attention.sum(-1), torch.ones(4, 3, 10))
        assert (attention.masked_select(padded) == 0).all()
    model.train()  # maps are taken before dropout: rows still sum to 1
    attention = model(**batch, output_attentions=True).attentions[0]
    torch.testing.assert_close(attention.sum(-1), torch.ones(4, 3, 10))


def test_sdpa_is_the_default_and_equals_eager(batch):
    model = tiny()
    assert model.config._attn_implementation == "sdpa"
    states = model(**batch).last_hidden_state
    assert model(**batch).attentions is None
    torch.testing.assert_close(model(**batch, output_attentions=True).last_hidden_state, states)
    model.set_attn_implementation("eager")
    torch.testing.assert_close(model(**batch).last_hidden_state, states)


def test_padding_changes_nothing_on_either_side(batch):
    model = tiny(MiniAlbertForSequenceClassification)
    output = model(**batch, output_hidden_states=True)
    for row, length in enumerate([10, 7, 3, 1]):
        alone = model(
            batch["input_ids"][row : row + 1, :length],
            output_hidden_states=True,
            token_type_ids=batch["token_type_ids"][row : row + 1, :length],
        )
        torch.testing.assert_close(
            output.hidden_states[-1][row, :length], alone.hidden_states[-1][0]
        )
        torch.testing.assert_close(output.logits[row], alone.logits[0])
    to_left = {
        name: torch.stack([t.roll(10 - n) for t, n in zip(tensor, [10, 7, 3, 1])])
        for name, tensor in batch.items()
    }
    torch.testing.assert_close(model(**to_left).logits, output.logits)


def test_iterations_can_stop_early(batch):
    model = tiny()
    states = model(**batch, output_hidden_states=True).hidden_states
    for k in (1, 2, 3):
        early = model(**batch, num_iterations=k, output_hidden_states=True)
        assert len(early.hidden_states) == k + 1
        assert torch.equal(early.last_hidden_state, states[k])
    for k in (0, 4, -1):
        with pytest.raises(ValueError, match=f"num_iterations={k}.*1 to 3"):
            model(**batch, num_iterations=k)


def test_the_block_is_shared_and_each_iteration_has_its_own_adapters(batch):
    model = tiny()
    calls = []
    for name, module in model.named_modules():
        module.register_forward_hook(lambda *_, name=name: calls.append(name))
    model(**batch)
    assert calls.count("encoder.block") == 3
    for k in range(3):
        assert (
            calls.count(f"encoder.attention_adapters.{k}")
            == calls.count(f"encoder.ffn_adapters.{k}")
            == 1
        )
    assert count(tiny(adapter_reduction=None, num_hidden_layers=12)) == count(
        tiny(adapter_reduction=None)
    )


def test_an_adapter_of_the_papers_form_can_be_an_identity(batch):
    plain, adapted = tiny(adapter_reduction=None), tiny(adapter_layer_norm=False)
    missing, unexpected = adapted.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected and all("_adapters." in name for name in missing)
    assert not torch.allclose(adapted(**batch)[0], plain(**batch)[0])
    for name, parameter in adapted.named_parameters():
        if "adapters" in name and ".up." in name:
            parameter.data.zero_()
    torch.testing.assert_close(adapted(**batch)[0], plain(**batch)[0])


def test_a_tied_head_goes_through_the_factorised_table(tmp_path, batch):
    model = tiny(MiniAlbertForMaskedLM, tie_word_embeddings=True)
    embeddings = model.minialbert.embeddings
    assert model.head.decoder.weight is embeddings.word_embeddings.weight
    hidden = torch.randn(5, 24)
    transformed = model.head.LayerNorm(torch.nn.functional.gelu(model.head.dense(hidden)))
    table = embeddings.word_embeddings.weight @ embeddings.projection.weight.T  # E = E_lr W, (V, d)
    torch.testing.assert_close(
        model.predict(hidden), transformed @ table.T + model.head.decoder.bias
    )
    model.save_pretrained(tmp_path)
    again = AutoModelForMaskedLM.from_pretrained(tmp_path)
    assert again.head.decoder.weight is again.minialbert.embeddings.word_embeddings.weight
    assert torch.equal(again(**batch).logits, model(**batch).logits)
    assert count(tiny(MiniAlbertForMaskedLM)) - count(model) == 99 * 24


@pytest.mark.parametrize(
    "changes",
    [{}, {"embedding_size": 24}, {"adapter_reduction": None}, {"tie_word_embeddings": True}],
)
def test_gradient_checkpointing_gives_the_same_gradients(changes, batch):
    model = tiny(
        MiniAlbertForMaskedLM, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, **changes
    ).train()
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    gradients = []
    for checkpointing in (False, True):
        if checkpointing:
            model.activation_checkpointing_enable()
        model.zero_grad()
        model(**batch, labels=labels).loss.backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    assert all(gradient is not None for gradient in gradients[0].values())
    for name in gradients[0]:
        torch.testing.assert_close(gradients[0][name], gradients[1][name])


@pytest.mark.parametrize("model_class", MODELS)
def test_bf16(model_class, batch):
    model = tiny(model_class)
    reference = model(**batch)[0]
    with torch.autocast("cpu", torch.bfloat16):
        mixed = model(**batch, output_attentions=True)[0]
    pure = model.bfloat16()(**batch)[0]
    assert pure.dtype == torch.bfloat16
    scale = reference.abs().max()
    assert (mixed - reference).abs().max() < 0.08 * scale and (
        pure - reference
    ).abs().max() < 0.08 * scale


def test_inputs_embeds(batch):
    model = tiny()
    words = model.get_input_embeddings()(batch.pop("input_ids"))
    assert words.shape == (4, 10, 8)
    full = model(inputs_embeds=words, **batch).last_hidden_state
    batch["input_ids"] = torch.zeros(4, 10, dtype=torch.long)
    with pytest.raises(ValueError, match="exactly one"):
        model(inputs_embeds=words, **batch)
    with pytest.raises(ValueError, match="exactly one"):
        model()
    assert not torch.allclose(full, model(**batch).last_hidden_state)


def test_a_tuple_where_one_is_asked_for(batch):
    model = tiny(MiniAlbertForMaskedLM)
    logits, states, maps = model(
        **batch, output_hidden_states=True, output_attentions=True, return_dict=False
    )
    assert logits.shape == (4, 10, 99) and len(states) == 4 and len(maps) == 3


def test_losses_of_the_heads(batch):
    none = torch.full((4, 10), -100)
    for model_class in (MiniAlbertForMaskedLM, MiniAlbertForTokenClassification):
        loss = tiny(model_class)(**batch, labels=none).loss
        assert loss.item() == 0 and loss.requires_grad
    regression = tiny(MiniAlbertForSequenceClassification, num_labels=1)
    scores = torch.tensor([0.5, 1.0, 2.0, 3.0])
    output = regression(**batch, labels=scores)
    torch.testing.assert_close(output.loss, (output.logits[:, 0] - scores).square().mean())
    classes = tiny(MiniAlbertForSequenceClassification, num_labels=3)
    output = classes(**batch, labels=torch.tensor([0, 1, 2, 1]))
    torch.testing.assert_close(
        output.loss, torch.nn.functional.cross_entropy(output.logits, torch.tensor([0, 1, 2, 1]))
    )


def test_resized_vocabulary(batch):
    model = tiny(MiniAlbertForMaskedLM)
    before = model(**batch).logits
    model.resize_token_embeddings(105)
    assert model.config.vocab_size == 105 and model(**batch).logits.shape == (4, 10, 105)
    torch.testing.assert_close(model(**batch).logits[..., :99], before)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"num_attention_heads": 5}, "not a multiple of num_attention_heads"),
        ({"embedding_size": 25}, "embedding_size 25 exceeds hidden_size 24"),
        ({"adapter_reduction": 0}, "adapter_reduction must be in"),
        ({"adapter_reduction": 25}, "adapter_reduction must be in"),
        ({"num_hidden_layers": 0}, "num_hidden_layers must be at least 1"),
    ],
)
def test_a_configuration_that_cannot_be(changes, message):
    with pytest.raises(ValueError, match=message):
        MiniAlbertConfig(**{**TINY, **changes})


def test_more_tokens_than_positions():
    with pytest.raises(
        ValueError, match="17 tokens.*max_position_embeddings = 16.*truncation=True"
    ):
        tiny()(torch.ones(1, 17, dtype=torch.long))


def test_adapter_tuning_needs_adapters():
    with pytest.raises(ValueError, match="no adapters"):
        mark_only_adapters_trainable(
            tiny(MiniAlbertForSequenceClassification, adapter_reduction=None)
        )
