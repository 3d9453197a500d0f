"""A student in bytes: the block stands once in each form, and says nearly the same."""

import copy
import importlib
import json
import subprocess
import sys

import numpy as np
import onnx
import pytest
import torch
from conftest import ROOT
from torch import nn
from transformers import AutoModel, AutoTokenizer

from minialbert import (
    MiniAlbertConfig,
    MiniAlbertForSequenceClassification,
    MiniAlbertForTokenClassification,
    MiniAlbertModel,
    sources,
)
from minialbert.quantisation import (
    OnnxModel,
    Rounded,
    copies_of_block,
    products,
    quantise,
    round_weights,
)

SMALL = dict(
    vocab_size=99,
    embedding_size=16,
    hidden_size=64,
    num_hidden_layers=3,
    num_attention_heads=4,
    intermediate_size=96,
    adapter_reduction=8,
    max_position_embeddings=32,
    initializer_range=0.1,
    num_labels=3,
)
INT8 = onnx.TensorProto.INT8
PRODUCTS = 1 + 3 * (4 + 2 + 4)  # the projection; per visit attention, feed-forward, two adapters


def small(model_class=MiniAlbertModel, **changes):
    torch.manual_seed(0)
    model = model_class(MiniAlbertConfig(**SMALL | changes)).eval()
    return model.requires_grad_(False)


@pytest.fixture
def batch():
    """Another batch and length than those that are exported; padding on either side."""
    ids = torch.randint(5, 99, (4, 11), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[1, 6:], mask[2, :3] = 0, 0
    return {"input_ids": ids * mask, "attention_mask": mask}


def expected(model, batch):
    output = model(**batch)
    return output[0], batch["attention_mask"].bool()


def cosines(ours, theirs):
    return torch.cosine_similarity(torch.as_tensor(ours), theirs, dim=-1)


# ---- ONNX


@pytest.mark.slow
def test_the_shipped_student_in_six_megabytes(tmp_path):
    source = sources.resolve_model("minialbert-lab")
    student = AutoModel.from_pretrained(source, dtype=torch.float32).requires_grad_(False)
    tokenizer = AutoTokenizer.from_pretrained(source)
    quantise(student, tokenizer, tmp_path)
    assert products(tmp_path) == (PRODUCTS, PRODUCTS) and copies_of_block(tmp_path) == 1
    assert (tmp_path / "model.onnx").stat().st_size <= 6.5e6
    stored = onnx.load(tmp_path / "model.onnx").graph.initializer
    whole = [onnx.numpy_helper.to_array(one) for one in stored if one.data_type == INT8]
    assert max(np.abs(one.astype(int)).max() for one in whole) == 64, "a bit is left for the sums"
    texts = ["A man is playing a flute.", "Markets fell.", "Two dogs run across a green field."]
    given = AutoTokenizer.from_pretrained(tmp_path)(texts, padding=True, return_tensors="pt")
    states, seen = expected(student, given)
    near = cosines(OnnxModel(tmp_path, threads=1)(**given), states)[seen]
    assert near.mean() > 0.98 and near.min() > 0.95


@pytest.mark.slow
@pytest.mark.parametrize(
    "model_class, int8",
    [
        (MiniAlbertModel, False),
        (MiniAlbertForSequenceClassification, True),
        (MiniAlbertForTokenClassification, True),
    ],
)
def test_each_head(model_class, int8, batch, tiny_tokenizer, tmp_path):
    model = small(model_class)
    quantise(model, tiny_tokenizer, tmp_path, int8=int8)
    every = PRODUCTS + (model_class is not MiniAlbertModel)
    assert products(tmp_path) == (every, every * int8) and copies_of_block(tmp_path) == 1
    runner = OnnxModel(tmp_path, threads=1)
    answer, seen = expected(model, batch)
    ours = torch.as_tensor(runner(**batch))
    assert ours.shape == answer.shape
    if model_class is not MiniAlbertForSequenceClassification:
        ours, answer = ours[seen], answer[seen]
    most = 0.1 if int8 else 1e-4
    assert (ours - answer).abs().max() < most * answer.abs().max()
    alone = runner(batch["input_ids"][:1], batch["attention_mask"][:1])
    assert np.array_equal(alone, runner(batch["input_ids"][:1])), "no mask: nothing is padding"


@pytest.mark.slow
def test_a_lost_block_is_noticed(monkeypatch, tiny_tokenizer, tmp_path):
    """What the exporter's own clean-up does to small weights."""
    export = torch.onnx.export

    def optimised(*given, **options):
        return export(*given, **options | {"optimize": True})

    monkeypatch.setattr(torch.onnx, "export", optimised)
    with pytest.raises(RuntimeError, match="the shared block 3 times"):
        quantise(small(hidden_size=32, intermediate_size=40), tiny_tokenizer, tmp_path)


def test_what_cannot_be_done_is_said(monkeypatch, tiny_tokenizer, tmp_path):
    with pytest.raises(ValueError, match="bfloat16, not fp32"):
        quantise(small().bfloat16(), tiny_tokenizer, tmp_path / "bf16")

    def missing(name):
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ImportError, match=r"onnxruntime.*minialbert\[small\]"):
        OnnxModel(tmp_path)


# ---- torch


@pytest.mark.parametrize("module", [nn.Linear(40, 7), nn.Linear(40, 7, bias=False)])
def test_a_rounded_layer_is_the_sum_of_its_bytes(module):
    module.weight.data[2] *= 100  # a row with a scale of its own
    rounded, x = Rounded(module), torch.randn(3, 5, 40)
    back = rounded.weight * rounded.scale[:, None]
    half = module.weight.abs().amax(1, keepdim=True) / 127 / 2
    assert ((back - module.weight).abs() <= half * 1.001).all()
    wanted = nn.functional.linear(x, back, module.bias)
    torch.testing.assert_close(rounded(x), wanted, rtol=1e-5, atol=1e-4)


def test_a_rounded_table_gives_its_rows():
    table, ids = nn.Embedding(9, 6), torch.tensor([[3, 8], [0, 3]])
    rounded = Rounded(table)
    assert rounded.weight.dtype == torch.int8
    assert (rounded(ids) - table(ids)).abs().max() <= table.weight.abs().max() / 127


LOADED = """
import json, sys, torch
from transformers import AutoModel
import minialbert.quantisation
model = AutoModel.from_pretrained(sys.argv[1])
states = model(torch.tensor([[5, 6, 7]])).last_hidden_state
print(json.dumps([type(model).__name__, str(model.embeddings.word_embeddings.weight.dtype),
                  states.flatten().tolist()]))
"""


@pytest.mark.slow
def test_the_torch_form_in_a_fresh_process(tmp_path):
    model = round_weights(small())
    model.save_pretrained(tmp_path)
    assert copies_of_block(tmp_path) == 1
    command = [sys.executable, "-c", LOADED, tmp_path]
    answer = subprocess.run(command, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    name, dtype, states = json.loads(answer.stdout)
    assert (name, dtype) == ("MiniAlbertModel", "torch.int8")
    ours = model(torch.tensor([[5, 6, 7]])).last_hidden_state.flatten()
    torch.testing.assert_close(torch.tensor(states), ours)


@pytest.mark.parametrize("model_class", [MiniAlbertModel, MiniAlbertForTokenClassification])
def test_a_rounded_model_is_small_and_near(model_class, batch, tmp_path):
    model = small(model_class, vocab_size=5000)
    wanted, seen = expected(model, batch)
    rounded = round_weights(copy.deepcopy(model))
    assert (rounded(**batch)[0] - wanted)[seen].abs().max() < 0.05 * wanted[seen].abs().max()
    sizes = []
    for name, one in {"fp32": model, "int8": rounded}.items():
        one.save_pretrained(tmp_path / name)
        sizes.append((tmp_path / name / "model.safetensors").stat().st_size)
    assert sizes[1] < sizes[0] / 3
    again = type(model).from_pretrained(tmp_path / "int8").eval()
    assert torch.equal(again(**batch)[0], rounded(**batch)[0])


# ---- what the chapter says of its stored table


def test_the_stored_table_keeps_its_promises():
    stored = json.loads((ROOT / "figures/data/stay_small-table.json").read_text(encoding="utf8"))
    forms = {(one["model"], one["form"]): one for one in stored["records"] if "model" in one}
    for name, most in {"student": 6.5, "paper's student": 13.0}.items():
        for form in ("ONNX int8", "torch int8"):
            assert forms[name, form]["file_mb"] <= most
            assert forms[name, form]["copies"] == 1
    fp32, int8 = (forms["student", form]["similarity"] for form in ("torch fp32", "ONNX int8"))
    assert fp32 - int8 <= 0.005
    tasks = {one["task"] for one in stored["series"]["tasks"]}
    assert len(tasks) == 2
    for task in tasks:
        runs = [one for one in stored["series"]["tasks"] if one["task"] == task]
        assert len({one["seed"] for one in runs}) == 3
        assert sum(one["fp32"] - one["int8"] for one in runs) / 3 <= 0.005
    fields = ("task", "seed", "form", "score")
    records = [tuple(map(one.get, fields)) for one in stored["records"] if "task" in one]
    assert records == [
        (one["task"], one["seed"], form, one[form])
        for one in stored["series"]["tasks"]
        for form in ("fp32", "int8")
    ]
