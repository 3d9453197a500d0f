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
        "a token's mean is not 0 before w and b: mind the axis, and w, b"
    )
    ratio = (plain.std() / wanted_plain.std()).item()
    assert abs(ratio - 1) < 1e-4, (
        f"the spread is {ratio:.2f} times right: d or d - 1? Where is eps?"
    )
    assert torch.allclose(ours, wanted, atol=1e-5), (
        "mean and spread are right, something else is not"
    )


@exercises.check("hide the padding")
def check_additive_mask(answer):
    attention_mask = torch.tensor([[1, 1, 1], [1, 1, 0]])
    scores = torch.randn(2, 12, 3, 3)
    A = (scores + answer(attention_mask)).softmax(-1)
    assert A.shape == scores.shape, f"scores + M has shape {tuple(A.shape)}: M must be (B, 1, 1, T)"
    seen = A[1, :, :2, 2].max().item()
    assert seen == 0, (
        f"a real token still gives {seen:.2f} to padding: hide the keys, the last axis"
    )
    assert torch.allclose(A[0], scores[0].softmax(-1)), "a sentence without padding has changed"
    assert torch.allclose(A[1, :, :2, :2], scores[1, :, :2, :2].softmax(-1)), (
        "real tokens share wrongly"
    )


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
