"""Checks of the exercises of chapter 01."""

import torch

from minialbert.lab import exercises


@exercises.check("layer norm by hand")
@torch.no_grad()
def check_layer_norm(answer):
    norm = torch.nn.LayerNorm(8, eps=0.5)  # narrow, and a large eps: errors show
    norm.weight.copy_(1 + torch.rand(8))
    norm.bias.copy_(torch.randn(8))
    x = 3 + 2 * torch.randn(2, 5, 8)
    ours, wanted = answer(x, norm), norm(x)
    assert ours.shape == x.shape, f"the shape is {tuple(ours.shape)}, not {tuple(x.shape)}"
    plain, wanted_plain = ((y - norm.bias) / norm.weight for y in (ours, wanted))
    assert plain.mean(-1).abs().max() < 1e-4, (
        "a token's mean is not 0 before gain and shift: mind the axis, and their order"
    )
    ratio = (plain.std() / wanted_plain.std()).item()
    assert abs(ratio - 1) < 1e-4, (
        f"the spread is {ratio:.2f} times right: d or d - 1? Where is eps?"
    )
    assert torch.allclose(ours, wanted, atol=1e-5), (
        "mean and spread are right, something else is not"
    )


@exercises.check("attention from its equation")
def check_attention(answer):
    query, key, value = (torch.randn(2, 3, 5, 4) for _ in range(3))
    attention_mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    mixed, A = answer(query, key, value, attention_mask)
    assert A.shape == (2, 3, 5, 5), f"the maps have shape {tuple(A.shape)}, not (2, 3, 5, 5)"
    assert torch.allclose(A.sum(-1), torch.ones(2, 3, 5), atol=1e-5), (
        "a row of A does not sum to 1: the softmax runs over the keys, the last axis, and the mask "
        "comes before it"
    )
    seen = A[1, :, :3, 3:].sum(-1).max().item()
    assert seen == 0, f"a token still gives {seen:.2f} to padding: hide the keys, the last axis"
    wanted = (query[0] @ key[0].transpose(1, 2) / 2).softmax(-1)
    assert torch.allclose(A[0], wanted, atol=1e-5), (
        "the map of a sentence without padding is wrong: divide by the root of d / N_h?"
    )
    assert mixed.shape == value.shape, f"mixed values have shape {tuple(mixed.shape)}"
    assert torch.allclose(mixed, A @ value, atol=1e-5), "the mixed values are not A times value"
    visible = (query[1, :, :3] @ key[1, :, :3].transpose(1, 2) / 2).softmax(-1)
    assert torch.allclose(A[1, :, :3, :3], visible, atol=1e-5), "real tokens share wrongly"


@exercises.check("find the head")
def check_find_head(answer):
    maps = torch.rand(6, 12, 5, 5).softmax(-1)
    layer, head = divmod(int(maps[:, :, 3, 1].argmax()), 12)
    got = tuple(map(int, answer(maps, query=3, key=1)))
    swapped = divmod(int(maps[:, :, 1, 3].argmax()), 12)
    turned = [swapped, (swapped[0] + 1, swapped[1] + 1)]
    assert got not in turned, (
        "that is where the key looks at the query: the row is the one that looks"
    )
    assert got != (layer, head), f"{got} counts from 0; layers and heads count from 1 here"
    assert got == (layer + 1, head + 1), (
        f"{got}, but head {head + 1} of layer {layer + 1} gives more"
    )
