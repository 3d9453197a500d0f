"""Checks of the exercises of chapter 16."""

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer

from minialbert import sources
from minialbert.finetuning import sentence_similarity
from minialbert.lab import exercises


@exercises.check("read it back")
def check_read_back(answer):
    whole = np.array([0, 100, 128, 255], np.uint8)
    got = answer(whole, 0.5, 128)
    assert got is not None, "it returns None: return the numbers"
    got = np.asarray(got, float)
    assert got[2] == 0, f"the zero point, 128, must be read as 0, not as {got[2]:g}"
    assert got[0] == -64, (
        f"0 lies 128 steps of 0.5 below the zero point: -64, and you say {got[0]:g}. "
        "Which type has 0 - 128 here, and does it know negative numbers?"
    )
    assert np.array_equal(got, [-64, -14, 0, 63.5]), f"{whole} are {got}, not [-64 -14 0 63.5]"


@exercises.check("a product of whole numbers")
def check_whole_product(answer):
    n = torch.randint(0, 256, (5, 300), dtype=torch.uint8)
    m = torch.randint(-127, 128, (7, 300), dtype=torch.int8)
    steps = torch.rand(7) + 0.5
    wanted = 0.25 * (n.double() - 90) @ m.double().T
    got = answer(n, 90, 0.25, m, torch.ones(7))
    assert got is not None, "it returns None: return the outputs"
    assert got.shape == (5, 7), f"5 states and 7 outputs give {tuple(got.shape)}, not (5, 7)"
    without = 0.25 * n.double() @ m.double().T
    assert not torch.allclose(got.double(), without, rtol=1e-4), "the zero point is left out"
    largest = float((got.double() - wanted).abs().max())
    assert torch.allclose(got.double(), wanted, rtol=1e-4), (
        f"with all steps of the weights 1 you are off by up to {largest:,.0f}: "
        "do the sums leave the room of their type?"
    )
    got = answer(n, 90, 0.25, m, steps)
    hint = "each output has a step of its own: the outputs are the last dimension"
    assert torch.allclose(got.double(), wanted * steps, rtol=1e-4), hint


def word_table():
    """The shipped student's word table (V, r)."""
    source = sources.resolve_model("minialbert-lab")
    return AutoModel.from_pretrained(source).embeddings.word_embeddings.weight.detach().float()


def one_step_a_row(table):
    """Fifteen even levels, and a step for each row: the baseline."""
    levels = torch.arange(-7.0, 9.0)
    steps = table.abs().amax(1, keepdim=True) / 7
    return ((table / steps).round() + 7).to(torch.uint8), levels, steps


def read_table(codes, levels, steps):
    """The table (V, r): levels[codes], times steps (V, groups): a row is cut into equal groups."""
    groups = levels[codes.long()].view(len(codes), steps.shape[1], -1)
    return (groups * steps[..., None]).view(len(codes), -1)


def half_bytes(answer):
    """(size in bytes a word piece, error in per cent) of a table stored by `answer`."""
    table = word_table()
    codes, levels, steps = answer(table)
    assert codes.shape == table.shape, f"codes are {tuple(codes.shape)}, not {tuple(table.shape)}"
    assert len(levels) <= 16 and int(codes.max()) < len(levels), "four bits know 16 levels"
    steps, levels = steps.half().float(), levels.half().float()
    size = codes[0].numel() / 2 + 2 * steps[0].numel() + 2 * levels.numel() / len(table)
    error = 100 * (read_table(codes, levels, steps) - table).norm() / table.norm()
    return round(size, 1), round(float(error), 2)


def half_byte_similarity(answer, pairs=400):
    """STS-B similarity of the student whose word table `answer` stores."""
    source = sources.resolve_model("minialbert-lab")
    student = AutoModel.from_pretrained(source)
    weight = student.embeddings.word_embeddings.weight
    weight.data.copy_(read_table(*answer(weight.detach())))
    rows = sources.open_dataset("sts-b", split="validation").select(range(pairs))
    return sentence_similarity(student, AutoTokenizer.from_pretrained(source), rows)


@exercises.check("half a byte")
def check_half_byte(answer):
    size, error = half_bytes(answer)
    assert size <= 72, f"{size} bytes a word piece: 72 are allowed, and 64 of them are the codes"
    base_size, base = half_bytes(one_step_a_row)
    assert error < 0.75 * base, (
        f"error {error:.1f} % in {size} bytes; one step a row has {base:.1f} % in {base_size}. "
        f"Get below {0.75 * base:.1f} %"
    )
