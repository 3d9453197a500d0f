"""Checks of the exercises of chapter 04."""

import time
from functools import cache

import torch

from minialbert import MiniAlbertConfig, sources
from minialbert.lab import exercises
from minialbert.modeling import FactorisedEmbeddings
from minialbert.starting import load_teacher, truncated_svd


def counted(V, d, r):
    """Parameters of the embedding layer at rank r."""
    with torch.device("meta"):
        config = MiniAlbertConfig(vocab_size=V, hidden_size=d, embedding_size=r)
        return sum(p.numel() for p in FactorisedEmbeddings(config).parameters())


@exercises.check("the break-even of the whole layer")
def check_largest_rank(answer):
    for V, d in ((30522, 768), (2000, 96), (100, 60)):
        r, full = answer(V, d), counted(V, d, d)
        sizes = f"V = {V}, d = {d}"
        assert isinstance(r, int) and 0 < r < d, (
            f"{sizes}: a whole number below d, please, not {r!r}"
        )
        assert counted(V, d, r) < full, f"{sizes}: rank {r} costs {counted(V, d, r) - full:,} more"
        if r + 1 < d:
            assert counted(V, d, r + 1) >= full, f"{sizes}: {r} saves, but so does {r + 1}"


@exercises.check("the rank for an error")
def check_rank_for(answer):
    E = torch.randn(400, 96) * torch.linspace(1, 0.1, 96)  # some directions weigh more
    columns, directions = truncated_svd(E, 96)
    singular_values = columns.norm(dim=0)  # directions have length 1

    def error(r):
        return ((E - columns[:, :r] @ directions[:r]).norm() / E.norm()).item()

    for tolerated in (0.9, 0.58, 0.25, 0.05):
        r = int(answer(singular_values, tolerated))
        asked = f"error {tolerated} asked for, and rank {r}"
        assert error(r) <= tolerated, f"{asked} leaves {error(r):.3f}: errors add up as squares"
        assert error(r - 1) > tolerated, f"{asked} is more than needed, {r - 1} would do"


@cache
def words_and_counts():
    """A word table (V, d), and how often each word stands in sentences (V,): seen, new."""
    teacher, tokenizer = load_teacher("all-MiniLM-L6-v2")
    counts = []
    for split in ("train", "validation"):
        rows = sources.open_dataset("sts-b", split=split)
        ids = tokenizer([*rows["sentence1"], *rows["sentence2"]])["input_ids"]
        pieces = torch.tensor([piece for sentence in ids for piece in sentence])
        counts.append(torch.bincount(pieces, minlength=tokenizer.vocab_size).float())
    return teacher.base_model.embeddings.word_embeddings.weight.detach(), *counts


def error_on_new_sentences(factorise, r=128):
    """Relative error of a factorisation, a row weighted by how often its word is in new text."""
    E, seen, new = words_and_counts()
    begin = time.thread_time()
    E_lr, W = factorise(E.clone(), seen.clone(), r)
    seconds = time.thread_time() - begin
    assert seconds < 5, f"it took {seconds:.0f} seconds, and 5 are allowed"
    shapes = tuple(E_lr.shape), tuple(W.shape)
    wanted = (len(E), r), (r, E.shape[1])
    assert shapes == wanted, f"the factors are {shapes}, not {wanted}"
    squared = new @ (E - E_lr @ W).square().sum(1)
    return (squared / (new @ E.square().sum(1))).sqrt().item()


@exercises.check("a table for the words we use")
def check_factorise(answer):
    yours = error_on_new_sentences(answer)
    baseline = error_on_new_sentences(lambda E, counts, r: truncated_svd(E, r))
    score = f"your error is {yours:.2f}, truncated SVD's {baseline:.2f}"
    assert yours < 0.5, f"{score}: get below 0.5"
    return score
