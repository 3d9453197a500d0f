"""What the published implementation computes, recorded on random weights; every array is compared.

The vectors lie beside the project (../shared/conformance): where they are absent tests are skipped.
Tolerance: 1e-5 of a tensor's largest magnitude, 1e-4 for gradients.
"""

import json

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForMaskedLM

from minialbert import MiniAlbertForMaskedLM, MiniAlbertForSequenceClassification
from minialbert.distillation import Distiller, LossWeights
from minialbert.finetuning import mark_only_adapters_trainable
from minialbert.losses import attention_loss, hidden_loss, mlm_loss, output_loss
from minialbert.published import (
    convert_config,
    convert_state_dict,
    load_published,
    to_published_state_dict,
)


class Vectors:
    """An npz file that remembers which arrays were compared."""

    def __init__(self, path):
        self.arrays = {name: np.asarray(value) for name, value in np.load(path).items()}
        self.config = json.loads(str(self.arrays.pop("config_json", "{}")))
        self.used = set()

    def __getitem__(self, name):
        self.used.add(name)
        return torch.tensor(self.arrays[name])

    def below(self, prefix):
        return {name[len(prefix) :]: self[name] for name in self.arrays if name.startswith(prefix)}

    def inputs(self, batch):
        return {
            name: self[f"{batch}/{name}"]
            for name in ("input_ids", "attention_mask", "token_type_ids")
        }

    def assert_all_used(self):
        assert not set(self.arrays) - self.used


@pytest.fixture
def vectors(shared):
    return lambda name: Vectors(shared / "conformance" / f"{name}.npz")


def assert_close(ours, theirs, tolerance=1e-5, what=""):
    theirs = torch.as_tensor(theirs)
    scale = max(theirs.abs().max().item(), 1e-12)
    worst = (ours.detach().double() - theirs.double()).abs().max().item()
    assert worst <= tolerance * scale, (
        f"{what}: off by {worst / scale:.1e} of the largest magnitude"
    )


def assert_gradients(model, recorded):
    theirs = convert_state_dict(recorded)
    ours = dict(model.named_parameters())
    for name, gradient in theirs.items():
        if name.endswith("attention.key.bias"):  # zero in exact arithmetic: rounding noise
            continue
        assert_close(ours[name].grad, gradient, 1e-4, name)


def build(model_class, vectors, prefix="sd/", **overrides):
    model = model_class(convert_config(vectors.config, **overrides))
    model.load_state_dict(convert_state_dict(vectors.below(prefix)), strict=True)
    return model


def assert_states(output, vectors, batch):
    for k, state in enumerate(output.hidden_states):
        assert_close(state, vectors[f"{batch}/hidden_{k}"], what=f"{batch}/hidden_{k}")
    for k, attention in enumerate(output.attentions):
        assert_close(attention, vectors[f"{batch}/attn_{k}"], what=f"{batch}/attn_{k}")


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("name", ["mlm_emb32_adapter", "mlm_emb16_plain"])
def test_masked_lm(vectors, name, attention):
    v = vectors(name)
    model = build(MiniAlbertForMaskedLM, v)
    model.set_attn_implementation(attention)
    for batch in ("pad", "full"):
        inputs, labels = v.inputs(batch), v[f"{batch}/labels"]
        model.zero_grad()
        output = model(**inputs, labels=labels)
        assert_close(output.logits, v[f"{batch}/logits"], what="logits")
        assert_close(output.loss, v[f"{batch}/loss"], what="loss")
        assert_close(mlm_loss(output.logits, labels), v[f"{batch}/loss"], what="mlm_loss")
        output.loss.backward()
        if batch == "pad":
            assert_gradients(model, v.below("pad/grad/"))
        assert_states(model(**inputs, output_hidden_states=True, output_attentions=True), v, batch)
    model.double()
    output = model(**v.inputs("pad"), labels=v["pad/labels"])
    assert_close(output.logits, v["pad/logits_fp64"], 1e-9, "fp64 logits")
    assert_close(output.loss, v["pad/loss_fp64"], 1e-9, "fp64 loss")
    v.assert_all_used()


def test_sequence_classification_and_adapter_tuning(vectors):
    v = vectors("seqcls3_emb16_adapter")
    model = build(MiniAlbertForSequenceClassification, v)
    inputs, labels = v.inputs("pad"), v["pad/labels"]
    output = model(**inputs, labels=labels, output_hidden_states=True, output_attentions=True)
    assert_states(output, v, "pad")
    assert_close(output.logits, v["pad/logits"])
    assert_close(output.loss, v["pad/loss"])
    output.loss.backward()
    assert_gradients(model, v.below("pad/grad/"))

    mark_only_adapters_trainable(model)
    trainable = {name for name, p in model.named_parameters() if p.requires_grad}
    recorded = v.arrays["adapter_tuning/trainable"]
    v.used.add("adapter_tuning/trainable")
    assert trainable == set(convert_state_dict({str(name): None for name in recorded}))
    model.zero_grad()
    model(**inputs, labels=labels).loss.backward()
    assert_gradients(model, v.below("pad/grad_adapter_tuning/"))
    assert {name for name, p in model.named_parameters() if p.grad is not None} == trainable
    v.assert_all_used()


def test_losses_on_random_tensors(vectors):
    v = vectors("losses_random")
    mask, labels = v["attention_mask"], v["labels"]

    def compare(prefix, loss_of, student, names=("loss", "grad_student")):
        student.requires_grad_()
        loss = loss_of(student)
        assert_close(loss, v[f"{prefix}/{names[0]}"], what=prefix)
        loss.backward()
        assert_close(student.grad, v[f"{prefix}/{names[1]}"], 1e-4, f"{prefix} gradient")

    for kind in ("masked", "dense", "holes"):
        teacher = v[f"att_{kind}/teacher"]
        compare(
            f"att_{kind}",
            lambda s, teacher=teacher: sum(
                attention_loss(s[k], teacher[2 * k + 1], mask) for k in range(3)
            ),
            v[f"att_{kind}/student"],
        )
    teacher = v["hid/teacher"]
    compare(
        "hid",
        lambda s: sum(hidden_loss(s[k], teacher[2 * k + 1], mask) for k in range(3)),
        v["hid/student"],
    )
    teacher = v["emb/teacher"]
    compare("emb", lambda s: hidden_loss(s, teacher, mask), v["emb/student"])
    teacher = v["out/teacher_logits"]
    compare("out", lambda s: output_loss(s, teacher, labels), v["out/student_logits"])
    v.assert_all_used()


def test_distillation(vectors):
    v = vectors("distill_emb16_adapter")
    config = {**v.config, **v.config.pop("teacher")}
    for name in ("embedding_size", "use_adapter", "reduction_factor"):
        config.pop(name)
    teacher = BertForMaskedLM(BertConfig(**config))
    teacher.load_state_dict(v.below("teacher/"), strict=True)

    def totals(batch, weights):
        student = build(MiniAlbertForMaskedLM, v, "student/")
        distiller = Distiller(student, teacher, weights=weights)
        return student, distiller(**v.inputs(batch), labels=v[f"{batch}/labels"])

    for batch in ("pad", "full"):
        student, output = totals(batch, LossWeights(embedding=0))
        for term, theirs in dict(mlm="mlm", attention="att", hidden="hid", output="out").items():
            assert_close(output.terms[term], v[f"{batch}/loss_{theirs}"], what=term)
        assert_close(output.loss, v[f"{batch}/loss_total"], what="total")
        output.loss.backward()
        assert_gradients(student, v.below(f"{batch}/grad/"))
        assert_close(student(**v.inputs(batch)).logits, v[f"{batch}/student_logits"])

        library = teacher(**v.inputs(batch), output_hidden_states=True)
        assert_close(library.logits, v[f"{batch}/teacher_logits"])
        for k, state in enumerate(library.hidden_states):
            assert_close(state, v[f"{batch}/teacher_hidden_{k}"])
        teacher.set_attn_implementation("eager")
        for k, attention in enumerate(
            teacher(**v.inputs(batch), output_attentions=True).attentions
        ):
            assert_close(attention, v[f"{batch}/teacher_attn_{k}"])
        teacher.set_attn_implementation("sdpa")

        for name, weights in dict(
            hidden_only=LossWeights(attention=0),
            attention_only=LossWeights(hidden=0),
            no_alignment=LossWeights(alignment=0),
        ).items():
            assert_close(totals(batch, weights)[1].loss, v[f"{batch}/total_{name}"], what=name)
        # equation 12 stands inside the factor l2
        student, output = totals(batch, LossWeights(embedding=1))
        assert_close(output.terms["embedding"], v[f"{batch}/loss_emb"])
        assert_close(output.loss, v[f"{batch}/total_with_embedding_loss"])
        output.loss.backward()
        if recorded := v.below(f"{batch}/grad_with_embedding_loss/"):
            assert_gradients(student, recorded)
    v.assert_all_used()


def test_a_published_folder(shared, vectors):
    v = vectors("mlm_emb32_adapter")
    model = load_published(shared / "conformance" / "published_tiny", MiniAlbertForMaskedLM)
    assert_close(model(**v.inputs("pad")).logits, v["pad/logits"])
    theirs = v.below("sd/")
    back = to_published_state_dict(model.state_dict())
    assert set(theirs) - set(back) == {"albert.albert.pooler.weight", "albert.albert.pooler.bias"}
    assert all(torch.equal(theirs[name], tensor) for name, tensor in back.items())
