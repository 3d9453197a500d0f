"""A student that learns a task from its tuned teacher as well as from the labels."""

import pytest
import torch
from tiny import teacher_config
from torch.nn import functional as F
from transformers import BertForSequenceClassification, BertForTokenClassification

from minialbert import MiniAlbertForSequenceClassification, MiniAlbertForTokenClassification
from minialbert.finetuning import FinetuningError
from minialbert.losses import attention_loss, hidden_loss
from minialbert.starting import student_config
from minialbert.task_distillation import TaughtModel, logits_loss

LABELS = {0: "no", 1: "yes", 2: "perhaps"}


@pytest.fixture
def batch():
    torch.manual_seed(1)
    mask = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]])
    return {"input_ids": torch.randint(5, 60, (2, 6)), "attention_mask": mask}


def models(student, teacher, labels=LABELS, **changes):
    torch.manual_seed(0)
    config = teacher_config(id2label=LABELS, num_labels=len(LABELS))
    sizes = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    ours = student_config(config, num_hidden_layers=2, embedding_size=8, **(sizes | changes))
    ours.id2label = labels
    return student(ours), teacher(config)


def test_the_loss_is_what_its_docstring_says(batch):
    student, teacher = models(MiniAlbertForSequenceClassification, BertForSequenceClassification)
    student.set_attn_implementation("eager")
    labels = torch.tensor([2, 0])
    taught = TaughtModel(student, teacher, "classification", share=0.3, alignment=0.7)
    output = taught(labels=labels, **batch)
    wanted = {"output_hidden_states": True, "output_attentions": True}
    ours, theirs = student(**batch, **wanted), teacher(**batch, **wanted)
    task = F.cross_entropy(ours.logits, labels)
    answers = F.kl_div(ours.logits.log_softmax(-1), theirs.logits.softmax(-1), reduction="none")
    answers = answers.sum(-1).mean()
    mask = batch["attention_mask"]
    aligned = 0
    for k, layer in ((1, 2), (2, 4)):
        maps = ours.attentions[k - 1], theirs.attentions[layer - 1]
        aligned = aligned + attention_loss(*maps, mask, "row")
        aligned = aligned + hidden_loss(ours.hidden_states[k], theirs.hidden_states[layer], mask)
    wanted = 0.7 * task + 0.3 * answers + 0.7 * aligned
    assert output.loss.item() == pytest.approx(wanted.item(), rel=1e-5)
    assert output.terms["logits"].item() == pytest.approx(answers.item(), rel=1e-5)
    assert set(output.terms) == {"task", "logits", "attention", "hidden"}


def test_only_the_student_is_trained(batch):
    student, teacher = models(MiniAlbertForSequenceClassification, BertForSequenceClassification)
    taught = TaughtModel(student, teacher, "classification", share=1.0).train()
    taught(labels=torch.tensor([0, 1]), **batch).loss.backward()
    assert {id(one) for one in taught.parameters()} == {id(one) for one in student.parameters()}
    assert not teacher.training and all(one.grad is None for one in teacher.parameters())
    assert student.classifier.weight.grad.abs().sum() > 0


def test_a_tagger_learns_only_where_something_is_asked(batch):
    student, teacher = models(MiniAlbertForTokenClassification, BertForTokenClassification)
    labels = torch.full((2, 6), -100)
    labels[0, 2], labels[1, 1] = 1, 2
    output = TaughtModel(student, teacher, "tagging", share=1.0)(labels=labels, **batch)
    places = labels != -100
    ours, theirs = student(**batch).logits[places], teacher(**batch).logits[places]
    by_hand = F.kl_div(ours.log_softmax(-1), theirs.softmax(-1), reduction="none").sum(-1).mean()
    assert output.loss.item() == pytest.approx(by_hand.item(), rel=1e-5)


def test_scores_are_compared_by_their_squared_distance():
    ours, theirs = torch.tensor([[1.0], [3.0]]), torch.tensor([[2.0], [5.0]])
    assert logits_loss(ours, theirs, torch.zeros(2), "regression").item() == 2.5


@pytest.mark.parametrize(
    "changes, weights, message",
    [
        ({}, {"share": 1.5}, "taught_share=1.5"),
        ({"labels": {0: "a", 1: "b", 2: "c"}}, {}, "a teacher tuned on this task"),
        ({"num_attention_heads": 2}, {"alignment": 1.0}, "equal sizes and heads"),
    ],
)
def test_what_does_not_fit_is_refused(changes, weights, message):
    kinds = MiniAlbertForSequenceClassification, BertForSequenceClassification
    with pytest.raises(FinetuningError, match=message):
        TaughtModel(*models(*kinds, **changes), "classification", **weights)
