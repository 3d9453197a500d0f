"""Evaluation without fine-tuning, and what adapter tuning trains."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from minialbert import MiniAlbertConfig, MiniAlbertForSequenceClassification, MiniAlbertModel
from minialbert.finetuning import (adapter_state_dict, mark_only_adapters_trainable, sentence_embeddings,
                                   sentence_similarity)

PAIRS = {"sentence1": ["the cat sees a dog.", "my sister likes the river", "a bird", "the teacher knows our house."],
         "sentence2": ["a dog sees the cat.", "my sister likes the river", "the old man wants it", "a house"],
         "label": [4.0, 5.0, 0.5, 2.0]}


@pytest.fixture
def model(tiny_tokenizer):
    torch.manual_seed(0)
    return MiniAlbertModel(MiniAlbertConfig(
        vocab_size=len(tiny_tokenizer), embedding_size=8, hidden_size=24, num_hidden_layers=2, num_attention_heads=3,
        intermediate_size=32, max_position_embeddings=40, initializer_range=0.3))


def test_embeddings_are_means_over_tokens(model, tiny_tokenizer):
    sentences = PAIRS["sentence1"]
    together = sentence_embeddings(model, tiny_tokenizer, sentences, batch_size=3, bf16=False)
    for sentence, vector in zip(sentences, together):
        alone = model(**tiny_tokenizer(sentence, return_tensors="pt")).last_hidden_state[0].mean(0)
        np.testing.assert_allclose(vector, alone.detach().numpy(), atol=1e-5)


def test_similarity_is_the_rank_correlation_of_cosines(model, tiny_tokenizer):
    first, second = (torch.tensor(sentence_embeddings(model, tiny_tokenizer, PAIRS[name], bf16=False))
                     for name in ("sentence1", "sentence2"))
    expected = spearmanr(torch.cosine_similarity(first, second), PAIRS["label"]).statistic
    score = sentence_similarity(model, tiny_tokenizer, PAIRS, bf16=False)
    assert score == pytest.approx(expected) and -1 <= score <= 1


def test_a_long_sentence_is_cut_to_the_positions(model, tiny_tokenizer):
    assert np.isfinite(sentence_embeddings(model, tiny_tokenizer, ["the cat " * 60], bf16=False)).all()


def test_adapters_alone_carry_a_task():
    config = dict(vocab_size=50, embedding_size=8, hidden_size=24, num_hidden_layers=2, num_attention_heads=3,
                  intermediate_size=32, num_labels=3, adapter_reduction=4)
    torch.manual_seed(0)
    body, tuned = (MiniAlbertForSequenceClassification(MiniAlbertConfig(**config)).eval() for _ in range(2))
    tuned.minialbert.load_state_dict(body.minialbert.state_dict())
    trained = mark_only_adapters_trainable(tuned)
    assert trained == 4 * (2 * 24 * 6 + 6 + 24 + 48) + 3 * 25
    optimizer = torch.optim.SGD([p for p in tuned.parameters() if p.requires_grad], lr=0.5)
    ids = torch.arange(1, 9)[None]
    tuned(ids, labels=torch.tensor([2])).loss.backward()
    optimizer.step()
    assert not torch.allclose(tuned(ids).logits, body(ids).logits)
    missing, unexpected = body.load_state_dict(adapter_state_dict(tuned), strict=False)
    assert not unexpected and "minialbert.encoder.block.attention.query.weight" in missing
    torch.testing.assert_close(body(ids).logits, tuned(ids).logits)
    assert not any(t.requires_grad for t in adapter_state_dict(tuned).values())
