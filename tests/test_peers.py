"""The models with other projects' tools: each test keeps one fault away that was found once."""

import json
import os
import subprocess
import sys

import pytest
import torch
from transformers import AutoModel, AutoModelForMaskedLM, BertConfig, BertModel

from minialbert import (
    MiniAlbertConfig,
    MiniAlbertForMaskedLM,
    MiniAlbertForSequenceClassification,
    MiniAlbertModel,
)

TINY = dict(
    vocab_size=99,
    embedding_size=8,
    hidden_size=32,
    num_hidden_layers=3,
    num_attention_heads=2,
    intermediate_size=40,
    adapter_reduction=4,
    max_position_embeddings=16,
    initializer_range=0.3,
)


def tiny(model_class=MiniAlbertModel, **changes):
    torch.manual_seed(0)
    return model_class(MiniAlbertConfig(**TINY | changes)).eval().requires_grad_(False)


@pytest.fixture
def batch():
    ids = torch.randint(5, 99, (4, 10), generator=torch.Generator().manual_seed(1))
    mask = (torch.arange(10) < torch.tensor([[10], [7], [3], [1]])).long()
    return {"input_ids": ids * mask, "attention_mask": mask}


ELSEWHERE = """
import importlib.util, json, sys, torch
from transformers import AutoModel, AutoModelForMaskedLM, AutoModelForSequenceClassification
assert importlib.util.find_spec("minialbert") is None
folder, ids = sys.argv[1], torch.tensor([[5, 6, 7]])
trusted = dict(trust_remote_code=True)
logits = AutoModelForMaskedLM.from_pretrained(folder, **trusted)(ids).logits
states = AutoModel.from_pretrained(folder, **trusted)(ids).last_hidden_state
AutoModelForSequenceClassification.from_pretrained(folder, **trusted)
print(json.dumps([logits.sum().item(), states.sum().item()]))
"""


def test_a_saved_student_carries_its_code(tmp_path):
    model = tiny(MiniAlbertForMaskedLM)
    model.save_pretrained(tmp_path / "student")
    # site-packages by hand: this checkout stands on the path of an editable install
    packages = [path for path in sys.path if path.endswith("site-packages")]
    program = f"import sys; sys.path += {packages!r}" + ELSEWHERE
    answer = subprocess.run(
        [sys.executable, "-S", "-c", program, tmp_path / "student"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": "", "HF_MODULES_CACHE": str(tmp_path / "modules")},
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 0, answer.stderr
    ids = torch.tensor([[5, 6, 7]])
    expected = [model(ids).logits.sum(), model.minialbert(ids).last_hidden_state.sum()]
    torch.testing.assert_close(torch.tensor(json.loads(answer.stdout)), torch.stack(expected))


def test_with_the_package_its_own_classes_win(tmp_path):
    tiny(MiniAlbertForMaskedLM).save_pretrained(tmp_path)
    assert "auto_map" in json.loads((tmp_path / "config.json").read_text())
    assert type(AutoModelForMaskedLM.from_pretrained(tmp_path)) is MiniAlbertForMaskedLM
    assert type(AutoModel.from_pretrained(tmp_path)) is MiniAlbertModel


@pytest.mark.parametrize(
    "model_class", [MiniAlbertForMaskedLM, MiniAlbertForSequenceClassification]
)
def test_exported_with_a_free_batch(model_class, batch):
    model = tiny(model_class)
    free = {name: {0: torch.export.Dim("batch", max=64)} for name in batch}
    program = torch.export.export(model, (), batch, dynamic_shapes=free).module()
    other = {name: tensor[:3] for name, tensor in batch.items()}
    torch.testing.assert_close(program(**other).logits, model(**other).logits)


@pytest.mark.parametrize("tied", [False, True])
def test_offloaded_by_accelerate(tied, tmp_path, batch):
    from accelerate import cpu_offload, dispatch_model

    model = tiny(MiniAlbertForMaskedLM, tie_word_embeddings=tied)
    expected = model(**batch).logits
    places = {"minialbert.embeddings": "cpu", "minialbert.encoder": "disk", "head": "cpu"}
    dispatched = dispatch_model(model, places, main_device="cpu", offload_dir=tmp_path)
    assert model.minialbert.encoder.block.feed_forward.dense.weight.is_meta
    torch.testing.assert_close(dispatched(**batch).logits, expected)

    model = tiny(MiniAlbertForMaskedLM, tie_word_embeddings=tied)
    cpu_offload(model, execution_device=torch.device("cpu"))
    torch.testing.assert_close(model(**batch).logits, expected)


def test_flex_attention_gives_what_sdpa_gives(batch):
    model = tiny()
    expected = model(**batch).last_hidden_state
    model.set_attn_implementation("flex_attention")
    with torch.compiler.set_stance("force_eager"):  # no C++ compiler needed
        states = model(**batch).last_hidden_state
    torch.testing.assert_close(states, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("form", ["bool", "whole numbers", "added"])
def test_a_mask_of_four_dimensions_hides(form, batch):
    model, seen = tiny(), batch["attention_mask"].bool()
    expected = model(**batch).last_hidden_state[seen]
    mask = seen[:, None, None, :].expand(-1, 1, 10, -1)
    if form == "added":
        mask = torch.zeros(mask.shape).masked_fill(~mask, torch.finfo(torch.float32).min)
    elif form == "whole numbers":
        mask = mask.long()
    for attention in ("sdpa", "eager"):
        model.set_attn_implementation(attention)
        for maps in (False, True):
            output = model(batch["input_ids"], mask, output_attentions=maps)
            torch.testing.assert_close(output.last_hidden_state[seen], expected)
    assert (output.attentions[0].transpose(1, 3)[~seen] == 0).all()


@pytest.mark.parametrize("asked", [[0, -1], [1], -1, 2, [], [7], 0, (0, 1), True, False])
def test_a_list_of_hidden_states_as_in_bert(asked, batch):
    sizes = {name: TINY[name] for name in ("vocab_size", "hidden_size", "num_hidden_layers")}
    bert = BertModel(BertConfig(num_attention_heads=2, intermediate_size=40, **sizes))

    def given(model):
        states = model(**batch, output_hidden_states=asked).hidden_states
        return states and [state is not None for state in states]

    assert given(tiny()) == given(bert)


def test_a_list_of_hidden_states_when_stopped_early(batch):
    model = tiny()
    whole = model(**batch, output_hidden_states=True).hidden_states
    first, second, last = model(
        **batch, output_hidden_states=[0, -1], num_iterations=2
    ).hidden_states
    assert torch.equal(first, whole[0]) and second is None and torch.equal(last, whole[2])


@pytest.mark.parametrize(
    "model_class", [MiniAlbertForMaskedLM, MiniAlbertForSequenceClassification]
)
def test_compiled_without_a_graph_break(model_class, batch):
    model = tiny(model_class, num_labels=2)
    labels = (
        batch["input_ids"] if model_class is MiniAlbertForMaskedLM else torch.tensor([0, 1] * 2)
    )
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    torch.testing.assert_close(
        compiled(**batch, labels=labels).loss, model(**batch, labels=labels).loss
    )
