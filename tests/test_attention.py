"""Maps of student and teacher, their agreement, and views that need no network."""

import re
from dataclasses import replace
from pathlib import Path

import bertviz
import nbformat
import numpy as np
import pytest
import tiny
import torch
import yaml
from nbformat.v4 import new_code_cell, new_notebook, new_output
from transformers import BertForMaskedLM

from minialbert import MiniAlbertForMaskedLM
from minialbert.lab import attention, refresh
from minialbert.lab.attention import (
    AttentionError,
    agreement,
    attention_maps,
    best_and_worst,
    head_view,
    model_view,
)
from minialbert.losses import attention_loss
from minialbert.starting import start_student, student_config

SENTENCE = "the old dog in a small house"


@pytest.fixture(scope="module")
def teacher():
    torch.manual_seed(0)
    return BertForMaskedLM(tiny.teacher_config())


@pytest.fixture(scope="module")
def student(teacher):
    return start_student(
        student_config(teacher.config, num_hidden_layers=2, embedding_size=16), teacher
    )


@pytest.fixture(scope="module")
def maps(student, teacher, tiny_tokenizer):
    return attention_maps(student, teacher, tiny_tokenizer, SENTENCE, [1, 4])


def given(student, teacher, special=()):
    """Maps of (K, N_h, T, T) that nobody computed."""
    size = student.shape[-1]
    return attention.Maps(
        [f"w{i}" for i in range(size)],
        np.isin(range(size), special),
        student,
        teacher,
        list(range(1, len(student) + 1)),
    )


def drawn(*shape, seed=0):
    """Random maps: rows sum to 1."""
    weights = np.random.default_rng(seed).gamma(0.5, size=shape)
    return weights / weights.sum(-1, keepdims=True)


# -- maps


def test_maps_are_the_models_own(maps, student, teacher, tiny_tokenizer):
    batch = tiny_tokenizer(SENTENCE, return_tensors="pt")
    student.eval(), teacher.eval().set_attn_implementation("eager")
    ours = student(**batch, output_attentions=True).attentions
    theirs = teacher(**batch, output_attentions=True).attentions
    teacher.set_attn_implementation("sdpa")
    for k, layer in enumerate([1, 4]):
        np.testing.assert_allclose(maps.student[k], ours[k][0].detach(), atol=1e-6)
        np.testing.assert_allclose(maps.teacher[k], theirs[layer - 1][0].detach(), atol=1e-6)
    np.testing.assert_allclose(maps.student.sum(-1), 1, atol=1e-6)
    assert maps.tokens == tiny_tokenizer.convert_ids_to_tokens(batch["input_ids"][0])
    assert maps.tokens[0] == "[CLS]" and np.flatnonzero(maps.special).tolist() == [
        0,
        len(maps.tokens) - 1,
    ]


@pytest.mark.parametrize("sentence", [SENTENCE, "the " * 30], ids=["that works", "that fails"])
def test_models_are_left_as_they_were(student, teacher, tiny_tokenizer, sentence, monkeypatch):
    if sentence != SENTENCE:
        monkeypatch.setattr(student.base_model, "forward", lambda **_: 1 / 0)
    teacher.train().cls.eval()
    before = [module.training for module in teacher.modules()]
    try:
        attention_maps(student.train(), teacher, tiny_tokenizer, sentence, [2, 4])
    except ZeroDivisionError:
        assert sentence != SENTENCE
    assert [module.training for module in teacher.modules()] == before and student.training
    assert teacher.config._attn_implementation == student.config._attn_implementation == "sdpa"


@pytest.mark.parametrize(
    "sentence, layer_map, message",
    [
        ("", [2, 4], "has no words: type at least one"),
        (" \n", [2, 4], "has no words"),
        ("the " * 63, [2, 4], "65 word pieces.* 64 positions: shorten"),
        (SENTENCE, [2, 5], r"layer_map \[2, 5\].*1..4"),
        (SENTENCE, [0, 4], "1..4"),
        (SENTENCE, [4], "give 2 teacher layers"),
    ],
)
def test_what_does_not_fit_is_told(student, teacher, tiny_tokenizer, sentence, layer_map, message):
    with pytest.raises(AttentionError, match=message):
        attention_maps(student, teacher, tiny_tokenizer, sentence, layer_map)


def test_a_strange_tokenizer_is_told(teacher, tiny_tokenizer):
    small = MiniAlbertForMaskedLM(
        student_config(teacher.config, num_hidden_layers=2, vocab_size=5, embedding_size=16)
    )
    with pytest.raises(AttentionError, match="a model knows 5: take the tokenizer"):
        attention_maps(small, teacher, tiny_tokenizer, SENTENCE, [2, 4])


def test_without_special_tokens(maps):
    words = maps.without_special()
    assert words.tokens == SENTENCE.split() and not words.special.any()
    expected = maps.teacher[1, 2, 3, 1:-1] / maps.teacher[1, 2, 3, 1:-1].sum()
    np.testing.assert_allclose(words.teacher[1, 2, 2], expected, atol=1e-9)
    np.testing.assert_allclose(words.student.sum(-1), 1)
    blind = given(np.eye(3)[None, None], np.full((1, 1, 3, 3), [0, 0, 1.0]), special=[2])
    assert np.isfinite(blind.without_special().teacher).all(), (
        "a row that looks at special tokens only"
    )


# -- agreement


def test_kl_is_equation_7_head_by_head(maps):
    for k in range(2):
        loss = attention_loss(
            torch.tensor(maps.student[k])[None],
            torch.tensor(maps.teacher[k])[None],
            reduction="row",
        )
        assert agreement(maps)[k].mean() == pytest.approx(loss.item(), abs=1e-9)


def test_known_divergences():
    one, flat = np.zeros((1, 2, 4, 4)), np.full((1, 2, 4, 4), 0.25)
    one[..., 0] = 1
    other = one[..., ::-1]
    assert agreement(given(one, one)) == pytest.approx(np.zeros((1, 2)))
    assert agreement(given(flat, one)) == pytest.approx(np.full((1, 2), np.log(4)))
    assert agreement(given(one, other), "js") == pytest.approx(np.full((1, 2), np.log(2))), (
        "its bound"
    )
    a, b = drawn(2, 3, 5, 5), drawn(2, 3, 5, 5, seed=1)
    assert agreement(given(a, b), "js") == pytest.approx(agreement(given(b, a), "js"))
    assert agreement(given(a, b), "kl") != pytest.approx(agreement(given(b, a), "kl"))


def test_best_and_worst_count_from_1():
    divergence = np.array([[3.0, 2, 5], [4, 9, 1]])
    assert best_and_worst(divergence) == ((2, 3), (2, 2))


def test_agreement_says_what_is_wrong(maps):
    with pytest.raises(AttentionError, match="'l2': choose kl or js"):
        agreement(maps, "l2")
    with pytest.raises(AttentionError, match="student has 2 heads, the teacher 4"):
        agreement(replace(maps, student=maps.student[:, :2]))


# -- views; tests/test_browser.py opens them

VIEWS = pytest.mark.parametrize("view", [head_view, model_view])


@VIEWS
def test_a_view_needs_no_network(maps, view):
    page = view(maps).page
    assert not re.search(r"<script[^>]+src|@import|cdnjs|unpkg|jsdelivr|require\.config", page)
    assert "d3" in page and "jQuery" in page and page.count("const params = ") == 2


@VIEWS
def test_a_view_is_the_same_each_time(maps, view):
    assert view(maps).page == view(maps).page and "bertviz-" not in view(maps).page


def numbers(page):
    """The lists of weights in a page, student then teacher."""
    return [
        re.findall(r"\d+\.\d+", text) for text in re.findall(r'"attn": (.*?), "left_text"', page)
    ]


@VIEWS
def test_weights_have_three_digits(maps, view):
    for weights in numbers(view(maps).page):
        assert len(weights) > 500 and max(map(len, weights)) <= len("0.123")


def test_student_and_teacher_are_told_apart(maps):
    first = re.search(r"\[\[\[\[([^\]]+)\]", head_view(maps).page)[1].split(", ")
    assert [float(weight) for weight in first] == pytest.approx(maps.student[0, 0, 0], abs=6e-4)
    page = head_view(maps, iteration=2, heads=[3]).page
    assert '"include_layers": [1, 2]' in page and '"include_layers": [1, 4]' in page
    assert '"layer": 2, "heads": [2]' in page and '"layer": 4, "heads": [2]' in page
    page = model_view(maps, iterations=[2], heads=[1, 4]).page
    assert (
        '"include_layers": [2], "include_heads": [1, 4]' in page and '"include_layers": [4]' in page
    )
    shown = numbers(page)[1]
    assert len(shown) == 2 * len(maps.tokens) ** 2
    assert [float(one) for one in shown[:3]] == pytest.approx(maps.teacher[1, 0, 0, :3], abs=6e-4)


def test_bertviz_still_reads_as_expected(maps):
    """What is changed in its pages is there to be changed, in the version that is pinned."""
    weights = [torch.from_numpy(layer)[None] for layer in maps.student]
    pages = [
        view(weights, maps.tokens, html_action="return").data
        for view in (bertviz.head_view, bertviz.model_view)
    ]
    changes = yaml.safe_load(Path(attention.__file__).with_name("pair.yaml").read_text("utf8"))
    for why, pattern, _ in changes["both"] + changes["student"]:
        assert any(re.search(pattern, page) for page in pages), why
    page = model_view(maps).page
    assert page.count("DIV_WIDTH = 425;") == 2 and page.count('"Iterations"') == 1
    assert page.count("LAYER_COLORS[layer % 10]") == 2
    assert head_view(maps).page.count("Iteration: <select") == 1


def test_a_model_has_the_width_that_the_page_gives_it(maps):
    assert "  width: 425px;" in model_view(maps).page


@VIEWS
def test_a_long_sentence_is_cut_with_a_word(maps, view, capsys):
    short = view(maps, max_tokens=5)
    assert capsys.readouterr().out == "showing the first 5 of 9 tokens; max_tokens=9 shows all\n"
    assert "5 tokens" in repr(short) and short.height < view(maps).height
    assert all(len(weights) == 2 * 4 * 5 * 5 for weights in numbers(short.page))
    view(maps, max_tokens=9)
    assert not capsys.readouterr().out


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda maps: head_view(maps, iteration=3), r"no iteration 3: choose from 1\.\.2"),
        (lambda maps: head_view(maps, heads=[0]), r"no head 0: choose from 1\.\.4"),
        (lambda maps: model_view(maps, iterations=[0]), "no iteration 0"),
        (lambda maps: model_view(maps, heads=[1, 5]), "no head 5"),
    ],
)
def test_a_view_of_what_is_not_there(maps, make, message):
    with pytest.raises(AttentionError, match=message):
        make(maps)


def test_a_notebook_keeps_no_foreign_javascript(maps):
    view = head_view(maps)
    bundle = view._repr_mimebundle_()
    notebook = new_notebook(
        cells=[new_code_cell("view", outputs=[new_output("execute_result", data=bundle)])]
    )
    text = refresh.canonical(nbformat.from_dict(notebook))
    assert "application/vnd.jupyter.widget-view+json" in bundle and len(text) < 1000
    assert "head view of student and teacher, 9 tokens: run the cell to use it" in text
