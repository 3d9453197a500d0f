"""Checks of the exercises of chapter 11."""

import torch

from minialbert import MiniAlbertConfig, MiniAlbertForSequenceClassification, finetuning
from minialbert.lab import exercises

K = 3
SIZES = dict(vocab_size=99, embedding_size=16, hidden_size=64, intermediate_size=128)
SIZES |= dict(num_attention_heads=4, num_hidden_layers=K)


def student():
    return MiniAlbertForSequenceClassification(MiniAlbertConfig(**SIZES)).eval()


@exercises.check("change only the bit")
def check_only_the_bit(answer):
    model = student()
    wanted = set(finetuning.adapter_parameters(model))
    answer(model)
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    for name in sorted(trained - wanted):
        raise AssertionError(f"{name} belongs to the body, and would still be trained")
    for name in sorted(wanted - trained):
        raise AssertionError(f"{name} is not trained: it belongs to the adapters or to the head")


def of_tasks(model, count):
    """Adapters and heads of several tasks, {name: tensor} each, far from each other."""
    states = []
    for _ in range(count):
        own = finetuning.adapter_state_dict(model)
        states.append({name: one + 0.3 * torch.randn_like(one) for name, one in own.items()})
    return states


@torch.no_grad()
def row_by_row(model, states, inputs, owners):
    """Each row alone, after a switch to its task: right, and as slow as can be."""
    logits = []
    for row, owner in enumerate(owners.tolist()):
        model.load_state_dict(states[owner], strict=False)
        logits.append(model(**{name: one[row : row + 1] for name, one in inputs.items()}).logits)
    return torch.cat(logits)


@exercises.check("three tasks in one batch")
def check_mixed_batch(answer):
    model, owners = student(), torch.randint(3, (24,))
    states, ids = of_tasks(model, 3), torch.randint(1, 99, (24, 16))
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    wanted = row_by_row(model, states, inputs, owners)
    visits = []
    model.minialbert.encoder.block.register_forward_hook(lambda *_: visits.append(1))
    logits = answer(model, states, inputs, owners)
    assert logits.shape == wanted.shape, f"logits are {tuple(logits.shape)}: (24, 2) is wanted"
    wrong = int(((logits - wanted).abs() > 1e-4).any(-1).sum())
    assert not wrong, f"{wrong} of 24 rows have other logits than their own task gives them"
    assert len(visits) < 3 * K, (
        f"the block is visited {len(visits)} times; a pass for each task would need {3 * K}: "
        "make fewer"
    )
