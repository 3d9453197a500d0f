"""Checks of the exercises of chapter 04."""

import torch

from minialbert import MiniAlbertConfig
from minialbert.lab import exercises
from minialbert.modeling import FactorisedEmbeddings
from minialbert.starting import truncated_svd


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
