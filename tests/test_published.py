"""The authors' layout of a checkpoint, written from ours, and what can be wrong with one."""

import json
import pickle

import pytest
import torch
from safetensors.torch import save_file

from minialbert import (
    MiniAlbertConfig,
    MiniAlbertForMaskedLM,
    MiniAlbertForSequenceClassification,
    MiniAlbertModel,
)
from minialbert.published import (
    CheckpointError,
    convert_state_dict,
    load_published,
    to_published_state_dict,
)
from minialbert.sources import SourceError

THEIRS = dict(
    model_type="albert",
    vocab_size=50,
    embedding_size=8,
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=32,
    max_position_embeddings=20,
    type_vocab_size=2,
    layer_norm_eps=1e-12,
    hidden_dropout_prob=0.1,
    attention_probs_dropout_prob=0.1,
    hidden_act="gelu",
    use_adapter=True,
    reduction_factor=4,
)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return MiniAlbertForMaskedLM(
        MiniAlbertConfig(
            vocab_size=50,
            embedding_size=8,
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=20,
            adapter_reduction=4,
        )
    ).eval()


@pytest.fixture
def folder(tmp_path, model):
    (tmp_path / "config.json").write_text(json.dumps(THEIRS))
    weights = to_published_state_dict(model.state_dict())
    weights["albert.albert.pooler.weight"] = torch.zeros(16, 16)
    weights["albert.albert.embeddings.position_ids"] = torch.arange(20)[None]
    torch.save(weights, tmp_path / "pytorch_model.bin")
    return tmp_path


IDS = torch.tensor([[1, 7, 9, 2]])


def test_there_and_back(model):
    theirs = to_published_state_dict(model.state_dict())
    assert (
        "albert.albert.encoder.albert_layer_groups.0.albert_layers.0.attention.query.weight"
        in theirs
    )
    assert "albert.att_adapters.1.block.2.bias" in theirs and "vocab_projector.weight" in theirs
    back = convert_state_dict(theirs)
    assert back.keys() == model.state_dict().keys()
    assert all(
        back[name] is theirs_tensor
        for name, theirs_tensor in zip(back, theirs.values(), strict=True)
    )


@pytest.mark.parametrize("safetensors", [False, True])
def test_a_folder_is_loaded(folder, model, safetensors):
    if safetensors:
        save_file(to_published_state_dict(model.state_dict()), folder / "model.safetensors")
        (folder / "pytorch_model.bin").unlink()
    loaded = load_published(folder, MiniAlbertForMaskedLM)
    assert not loaded.training and torch.equal(loaded(IDS).logits, model(IDS).logits)
    body = load_published(str(folder), MiniAlbertModel)
    assert torch.equal(body(IDS).last_hidden_state, model.minialbert(IDS).last_hidden_state)
    with pytest.warns(UserWarning, match="lacks .*classifier.weight.*random"):
        classifier = load_published(folder, MiniAlbertForSequenceClassification, num_labels=3)
    assert classifier(IDS).logits.shape == (1, 3)
    torch.testing.assert_close(classifier.minialbert(IDS)[0], body(IDS)[0])


def test_a_foreign_name():
    with pytest.raises(
        CheckpointError, match="'bert.pooler.weight' is no parameter of a MiniALBERT"
    ):
        convert_state_dict({"bert.pooler.weight": torch.zeros(1)})
    with pytest.raises(CheckpointError, match="no parameter of a MiniALBERT"):
        to_published_state_dict({"vocab_transform.weight": torch.zeros(1)})


def damage_truncated(folder):
    path = folder / "pytorch_model.bin"
    path.write_bytes(path.read_bytes()[:2000])


def damage_pickle(folder):
    with open(folder / "pytorch_model.bin", "wb") as file:
        pickle.dump({"albert.projector.weight": print}, file)


def damage_disguised(folder):
    (folder / "pytorch_model.bin").rename(folder / "model.safetensors")


def damage_shape(folder):
    (folder / "config.json").write_text(
        json.dumps({**THEIRS, "hidden_size": 32, "num_attention_heads": 4})
    )


def damage_adapters(folder):
    (folder / "config.json").write_text(json.dumps({**THEIRS, "num_hidden_layers": 3}))


def damage_config(folder):
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", "vocab_size": 50}))


def damage_json(folder):
    (folder / "config.json").write_text("{")


@pytest.mark.parametrize(
    "damage, message",
    [
        (damage_truncated, "cannot be read"),
        (damage_pickle, "cannot be read"),
        (damage_disguised, "model.safetensors is no"),
        (damage_shape, "size mismatch"),
        (damage_adapters, "attention_adapters.2.down.weight"),
        (damage_config, "lacks .'embedding_size'"),
        (damage_json, "cannot be read"),
    ],
)
def test_a_damaged_or_foreign_checkpoint(folder, damage, message):
    damage(folder)
    with pytest.raises((CheckpointError, SourceError), match=message):
        load_published(folder, MiniAlbertForMaskedLM)
