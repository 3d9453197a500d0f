"""Checks of the exercises of chapter 07."""

import torch
from transformers import BertConfig, BertModel

from minialbert.lab import exercises
from minialbert.losses import hidden_loss
from minialbert.starting import start_student, student_config


def of_uneven_lengths(d=8):
    """Three parts of a batch: (states (B, T, d), wanted (B, T, d), mask (B, T))."""
    parts = []
    for tokens in (12, 5, 2):
        mask = (torch.arange(12) < tokens).long().repeat(4, 1)
        parts.append((torch.randn(4, 12, d), torch.randn(4, 12, d) + tokens / 4, mask))
    return parts


@exercises.check("one batch in parts")
def check_step_in_parts(answer):
    student, parts = torch.nn.Linear(8, 8), of_uneven_lengths()
    states, wanted, mask = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    hidden_loss(student(states), wanted, mask).backward()
    whole = student.weight.grad.clone()
    student.zero_grad()
    answer(student, parts, hidden_loss)
    assert student.weight.grad is not None, "the student has no gradient: call backward"
    ours = student.weight.grad
    longer = float(ours.norm() / whole.norm())
    cosine = float(torch.cosine_similarity(ours.flatten(), whole.flatten(), dim=0))
    assert cosine > 0.9999, (
        f"your gradient points elsewhere than that of the whole batch (cosine {cosine:.2f}): does "
        "a part of 8 tokens count as much as one of 48?"
    )
    assert abs(longer - 1) < 1e-3, f"the right direction, but {longer:.2f} times as long"


WINDOWS, TOKENS = 2048, 16  # the budget: windows that a training may see, and their length


def toy_models():
    """(teacher, student): four layers of random weights, and one block that is visited twice."""
    sizes = dict(vocab_size=200, hidden_size=32, intermediate_size=64, num_attention_heads=4)
    config = BertConfig(num_hidden_layers=4, initializer_range=0.2, **sizes)
    teacher = BertModel(config, add_pooling_layer=False).eval().requires_grad_(False)
    choices = dict(num_hidden_layers=2, embedding_size=32, adapter_reduction=4)
    choices |= dict(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    config = student_config(teacher.config, **choices)
    return teacher, start_student(config, teacher, head=False, embeddings="copied").minialbert


def apart(student, teacher, ids):
    """Equation 8, mean over the two visits, which are compared with layers 2 and 4."""
    theirs = teacher(ids, output_hidden_states=True).hidden_states
    ours = student(ids, output_hidden_states=True).hidden_states
    return (hidden_loss(ours[1], theirs[2]) + hidden_loss(ours[2], theirs[4])) / 2


def plain(student, loss_of):
    """The baseline: batches of 32 windows, AdamW at one rate."""
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-3)
    for _ in range(WINDOWS // 32):
        optimizer.zero_grad()
        loss_of(student, 32).backward()
        optimizer.step()


def held_out(training):
    """The loss on text kept apart after a training, the lower the better."""
    torch.manual_seed(0)
    teacher, student = toy_models()
    frequent = 1 / torch.arange(1, 201.0)  # the words of a text, as Zipf counted them
    text = torch.multinomial(frequent, (WINDOWS + 256) * TOKENS, replacement=True)
    windows, place = text.view(-1, TOKENS), 256

    def loss_of(student, batch_size):
        nonlocal place
        place += batch_size
        assert place <= len(windows), f"{place - 256:,} windows asked for: {WINDOWS:,} is all"
        return apart(student, teacher, windows[place - batch_size : place])

    training(student.train(), loss_of)
    with torch.no_grad():
        return float(apart(student.eval(), teacher, windows[:256]))


@exercises.check("more from the same budget")
def check_train_better(answer):
    ours, baseline = held_out(answer), held_out(plain)
    score = f"your loss on held-out text is {ours / baseline:.2f} of the baseline's"
    assert ours < 0.8 * baseline, f"{score}, not below 0.80"
    return score
