"""Checks of the exercises of chapter 13."""

import time

import torch

from minialbert import MiniAlbertConfig, MiniAlbertModel
from minialbert.lab import exercises


@exercises.check("where attention overtakes")
def check_even_length(answer):
    for d, f in ((768, 3072), (384, 1536), (512, 512)):
        wanted = (2 * (4 * d**2 + 2 * d * f)) / (4 * d)
        got = answer(d, f)
        assert got is not None, "it returns None: return the number of tokens"
        assert abs(got - wanted) < 0.5, (
            f"d = {d}, f = {f}: you say {got:,.0f} tokens, where scores and mixing make "
            f"{4 * got * d:,.0f} operations and the products with weights {4 * wanted * d:,.0f}"
        )


def mixed_lengths(count):
    """Texts as lists of word pieces, most of them short and a few long, as real ones are."""
    lengths = (4 + 12 * torch.empty(count).exponential_()).clamp(max=128).int().tolist()
    lengths[:: count // 4] = [128] * len(lengths[:: count // 4])
    return [torch.randint(1, 999, (length,)).tolist() for length in lengths]


@torch.no_grad()
def as_they_come(model, texts, batch_size=32):
    """Mean states of each text (N, d), in batches as the texts come."""
    vectors = []
    for start in range(0, len(texts), batch_size):
        some = texts[start : start + batch_size]
        longest = max(map(len, some))
        ids = torch.tensor([text + [0] * (longest - len(text)) for text in some])
        mask = (ids > 0).long()
        states = model(ids, attention_mask=mask).last_hidden_state
        vectors.append((states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True))
    return torch.cat(vectors)


@torch.no_grad()
def speed_up(answer):
    """(how many times as fast as batches as they come, the smallest cosine with their vectors)."""
    config = MiniAlbertConfig(vocab_size=999, embedding_size=64, hidden_size=384)
    config.update(dict(intermediate_size=1536, num_hidden_layers=3))
    model, texts = MiniAlbertModel(config).eval(), mixed_lengths(96)
    seconds = {as_they_come: [], answer: []}
    vectors, threads = {}, torch.get_num_threads()
    torch.set_num_threads(1)  # and in turn, the best of three: other work on the machine disturbs
    try:
        for _ in range(3):
            for way in (as_they_come, answer):
                begin = time.perf_counter()
                vectors[way] = way(model, texts)
                seconds[way].append(time.perf_counter() - begin)
    finally:
        torch.set_num_threads(threads)
    wanted, got = vectors[as_they_come], vectors[answer]
    assert got.shape == wanted.shape, f"vectors are {tuple(got.shape)}, not {tuple(wanted.shape)}"
    cosine = torch.cosine_similarity(got.float(), wanted, dim=-1)
    worst = int(cosine.argmin())
    assert cosine.min() > 0.999, (
        f"text {worst} has another vector now (cosine {cosine.min():.3f}): are they in their order?"
    )
    return min(seconds[as_they_come]) / min(seconds[answer]), float(cosine.min())


@exercises.check("faster, and the same")
def check_faster(answer):
    faster, _ = speed_up(answer)
    assert faster > 2, "the vectors are right, but it is not twice as fast yet: see speed_up"
