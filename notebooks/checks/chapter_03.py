"""Checks of the exercises of chapter 03."""

import torch

from minialbert import MiniAlbertConfig, MiniAlbertModel
from minialbert.lab import exercises
from minialbert.modeling import BottleneckAdapter

K = 6
SIZES = dict(vocab_size=9, hidden_size=32, embedding_size=8, num_attention_heads=2)


@exercises.check("an adapter that starts as nothing")
def check_start_as_nothing(answer):
    adapter = BottleneckAdapter(MiniAlbertConfig(**SIZES, adapter_layer_norm=False))
    x = torch.randn(7, 32)
    answer(adapter)
    y = adapter(x)
    change = ((y - x).norm() / x.norm()).item()
    assert torch.allclose(y, x), f"it changes x by {change:.1%}: what W_up adds to x must be 0"
    y.square().sum().backward()
    reached = [name for name, p in adapter.named_parameters() if p.grad.abs().sum() > 0]
    assert "up.weight" in reached, (
        f"gradients reach only {reached}: a constant, nothing that sees x"
    )


@exercises.check("count the calls")
@torch.no_grad()
def check_count_calls(answer):
    model = MiniAlbertModel(MiniAlbertConfig(**SIZES, num_hidden_layers=K)).eval()
    inputs = {"input_ids": torch.tensor([[1, 2, 3]])}
    adapters = [
        (f"encoder.{kind}_adapters.{k}", k) for kind in ("attention", "ffn") for k in range(K)
    ]
    for stop in (K, 4):
        got = answer(model, inputs, num_iterations=stop)
        wanted = {"encoder.block": stop} | {name: int(k < stop) for name, k in adapters}
        assert set(got) == set(wanted), f"names differ: {sorted(set(got) ^ set(wanted))[:3]} .."
        for name, times in wanted.items():
            assert got[name] == times, (
                f"stopped after {stop}, {name} ran {times} times, not {got[name]}"
            )
    left = [name for name, part in model.named_modules() if part._forward_hooks]
    assert not left, (
        f"hooks are left on {left[:2]} ..: remove each handle, or every later run counts too"
    )


@exercises.check("as wide as the money lasts")
def check_widest_bottleneck(answer):
    for budget, visits, d in ((912_960, 6, 768), (912_959, 6, 768), (100_000, 3, 384)):
        narrow = answer(budget, visits, d)
        sizes = f"{budget:,} parameters, {visits} visits, d = {d}"
        assert isinstance(narrow, int), f"{sizes}: a whole number, please, not {narrow!r}"
        cost, wider = (
            2 * visits * (2 * d * width + width + d + 2 * d) for width in (narrow, narrow + 1)
        )
        assert cost <= budget, f"{sizes}: a bottleneck of {narrow} costs {cost:,}"
        assert wider > budget, f"{sizes}: {narrow} is affordable, but so is {narrow + 1}"
