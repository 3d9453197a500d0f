"""Every visit learns to answer, and texts leave the batch when they are ready."""

import json
from dataclasses import dataclass

import pytest
import torch
from conftest import ROOT
from torch.nn import functional as F

from minialbert import (
    MiniAlbertConfig,
    MiniAlbertForSequenceClassification,
    MiniAlbertForTokenClassification,
    MiniAlbertModel,
)
from minialbert.early_exit import (
    Confidence,
    EveryVisitModel,
    ExitPolicy,
    FixedVisits,
    Patience,
    answers_by_visit,
)
from minialbert.finetuning import FinetuningError

SIZES = {"vocab_size": 60, "hidden_size": 24, "embedding_size": 8, "intermediate_size": 48}
SIZES |= {"num_attention_heads": 4, "num_hidden_layers": 4, "initializer_range": 0.4}
DROPOUTS = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
NEVER = {  # kind: a policy that never fires
    "classification": Confidence(1.1),
    "regression": Patience(1, -1.0),
    "tagging": Patience(9),
    "vectors": Patience(1, -1.0),
}


def model_of(kind, heads=False):
    torch.manual_seed(0)
    labels = {"num_labels": 1 if kind == "regression" else 3}
    config = MiniAlbertConfig(**SIZES, **DROPOUTS, **labels, visit_heads=heads)
    if kind == "vectors":
        return MiniAlbertModel(config).eval()
    is_tagger = kind == "tagging"
    auto = MiniAlbertForTokenClassification if is_tagger else MiniAlbertForSequenceClassification
    return auto(config).eval()


@pytest.fixture
def batch():
    """Seven texts of one to ten tokens."""
    torch.manual_seed(1)
    lengths = torch.tensor([10, 9, 7, 6, 4, 2, 1])
    mask = (torch.arange(10) < lengths[:, None]).long()
    return {"input_ids": torch.randint(5, 60, (7, 10)), "attention_mask": mask}


@dataclass(frozen=True)
class Rows(ExitPolicy):
    """Text i, told by its first answer, leaves after visits[i]."""

    visits: tuple
    first: torch.Tensor

    def is_ready(self, answers, kind, tokens):
        gaps = (answers[0][:, None] - self.first[None]).flatten(2).abs().sum(-1)
        return torch.tensor(self.visits)[gaps.argmin(1)] <= len(answers)


@pytest.mark.parametrize("heads", [False, True])
@pytest.mark.parametrize("kind", NEVER)
def test_a_policy_that_never_fires_changes_nothing(kind, heads, batch):
    model = model_of(kind, heads and kind != "vectors")
    output, plain = model(**batch, exit_policy=NEVER[kind]), model(**batch)
    assert output.exit_visits.tolist() == [4] * 7
    assert (output[0] - plain[0]).abs().max() < 1e-6


@pytest.mark.parametrize("kind", NEVER)
def test_each_text_answers_as_if_it_were_alone(kind, batch):
    model, wanted = model_of(kind, kind == "tagging"), (3, 1, 4, 2, 1, 4, 2)
    said = answers_by_visit(model, **batch)
    output = model(**batch, exit_policy=Rows(wanted, said[0]))
    assert tuple(output.exit_visits.tolist()) == wanted
    for row, visits in enumerate(wanted):
        length = int(batch["attention_mask"][row].sum())
        alone = {name: tensor[row : row + 1, :length] for name, tensor in batch.items()}
        plain = model(**alone, num_iterations=visits)[0][0]
        ours = output[0][row]
        assert torch.allclose(ours[:length] if ours.dim() == 2 else ours, plain, atol=1e-5)


def test_a_head_can_read_the_mean_of_the_tokens(batch):
    model = model_of("classification")
    model.config.head_pooling = "mean"
    states = model.minialbert(**batch).last_hidden_state
    for row, length in enumerate(batch["attention_mask"].sum(1).tolist()):
        wanted = model.classifier(states[row, :length].mean(0))
        assert torch.allclose(model(**batch).logits[row], wanted, atol=1e-5)
    whole = batch["input_ids"][:1]  # without a mask all are tokens
    assert torch.allclose(model(whole).logits, model(**{n: t[:1] for n, t in batch.items()}).logits)


def test_finished_texts_leave_the_batch(batch):
    model, seen = model_of("classification"), []
    said = answers_by_visit(model, **batch)
    model.minialbert.encoder.block.register_forward_pre_hook(
        lambda block, inputs: seen.append(len(inputs[0]))
    )
    model(**batch, exit_policy=Rows((1, 1, 1, 2, 2, 4, 4), said[0]))
    assert seen == [7, 4, 2, 2]
    del seen[:]
    model(**batch, exit_policy=FixedVisits(2))
    assert seen == [7, 7]


def test_policies_by_hand():
    """Three texts' logits after three visits: sure at once; changing; settled late."""
    answers = torch.tensor(
        [[[3.0, 0.0], [1.0, 0.0], [0.2, 0.0]], [[2.0, 0.0], [0.0, 1.0], [0.3, 0.0]]]
    )
    answers = [*answers, torch.tensor([[2.0, 0.0], [1.0, 0.0], [4.0, 0.0]])]

    def ready(policy):
        return [policy.is_ready(answers[:k], "classification", None).tolist() for k in (1, 2, 3)]

    no, one = [False] * 3, [True, False, True]
    assert ready(Patience(1)) == [no, one, one]
    assert ready(Patience(2)) == [no, no, one]
    assert ready(Confidence(0.9)) == [[True, False, False], no, [False, False, True]]
    scores = [torch.tensor([[1.0], [2.0]]), torch.tensor([[1.1], [2.6]])]
    assert Patience(1, 0.2).is_ready(scores, "regression", None).tolist() == [True, False]
    vectors = [torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 5.0]]), torch.tensor([[0.0, 1.0]])]
    assert not Patience(1, 0.1).is_ready(vectors[:2], "vectors", None)
    assert Patience(1, 0.1).is_ready(vectors, "vectors", None)


def test_a_tagger_waits_for_every_token_but_padding():
    before = torch.tensor([[[1.0, 0.0], [1.0, 0.0]]]).expand(2, 2, 2)
    now = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]]).expand(2, 2, 2)
    tokens = torch.tensor([[1, 1], [1, 0]])
    assert Patience(1).is_ready([before, now], "tagging", tokens).tolist() == [False, True]
    surest = torch.tensor([[[9.0, 0.0], [0.1, 0.0]]]).expand(2, 2, 2)
    assert Confidence(0.9).is_ready([surest], "tagging", tokens).tolist() == [False, True]


@pytest.mark.parametrize("kind", ["classification", "regression", "tagging"])
def test_the_loss_is_what_its_docstring_says(kind, batch):
    model = model_of(kind)
    labels = {"classification": torch.arange(7) % 3, "regression": torch.arange(7) / 2}.get(kind)
    if kind == "tagging":
        labels = torch.where(batch["attention_mask"] > 0, batch["input_ids"] % 3, -100)
    output = EveryVisitModel(model, kind)(labels=labels, **batch)
    wanted = model(**batch, labels=labels).loss
    last = model(**batch).logits
    for visits in (1, 2, 3):
        now = model(**batch, labels=labels, num_iterations=visits)
        if kind == "regression":
            apart = F.mse_loss(now.logits, last)
        else:
            p, q = last.log_softmax(-1), now.logits.log_softmax(-1)
            each = (p.exp() * (p - q)).sum(-1)
            apart = each[labels != -100].mean()
        wanted = wanted + (now.loss + apart) / 3
    assert output.loss.item() == pytest.approx(wanted.item(), rel=1e-5)
    assert set(output.terms) == {"task", "earlier", "agreement"}


def test_the_last_visit_is_taught_by_the_labels_alone(batch):
    """The agreement moves the earlier visits' heads, not the last one's."""
    model = model_of("classification", heads=True)
    *earlier, last = answers_by_visit(model, **batch)
    every = EveryVisitModel(model, "classification", "heads")
    every(labels=torch.arange(7) % 3, **batch).loss.backward()
    task = F.cross_entropy(last, torch.arange(7) % 3)
    (alone,) = torch.autograd.grad(task, model.classifier.weight)
    assert torch.allclose(model.classifier.weight.grad, alone, atol=1e-6)
    assert all(head.weight.grad.abs().sum() > 0 for head in model.visit_classifiers)


def test_a_random_depth_is_drawn_from_the_state_that_checkpoints_keep(batch):
    model, labels = model_of("classification"), torch.arange(7) % 3
    every = EveryVisitModel(model, "classification", "depth")

    def losses():
        torch.manual_seed(3)
        return [every(labels=labels, **batch).loss.item() for _ in range(20)]

    each = [model(**batch, labels=labels, num_iterations=k).loss.item() for k in (1, 2, 3, 4)]
    assert losses() == losses() and set(losses()) == set(each)


def test_heads_are_saved_with_the_model(batch, tmp_path):
    model = model_of("classification", heads=True)
    model.save_pretrained(tmp_path)
    again = MiniAlbertForSequenceClassification.from_pretrained(tmp_path).eval()
    pairs = zip(answers_by_visit(model, **batch), answers_by_visit(again, **batch), strict=True)
    assert all(torch.equal(*pair) for pair in pairs)
    first = [model(**batch, num_iterations=1).logits, answers_by_visit(model, **batch)[0]]
    assert torch.equal(*first)


@pytest.mark.parametrize(
    "kind, policy, message",
    [
        ("regression", Confidence(0.9), "only classes have probabilities"),
        ("regression", Patience(1), "give Patience a tolerance"),
        ("vectors", Confidence(0.9), "only classes have probabilities"),
    ],
)
def test_a_policy_that_cannot_judge_says_so(kind, policy, message, batch):
    with pytest.raises(ValueError, match=message):
        model_of(kind)(**batch, exit_policy=policy)


def test_what_does_not_fit_is_refused(batch):
    model = model_of("classification")
    with pytest.raises(FinetuningError, match="use one of all, heads, depth"):
        EveryVisitModel(model, "classification", "some")
    model.config.num_hidden_layers = 1
    with pytest.raises(FinetuningError, match="two visits or more"):
        EveryVisitModel(model, "classification")
    whole = torch.ones(7, 1, 10, 10, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"an attention_mask \(B, T\)"):
        model(batch["input_ids"], whole, exit_policy=FixedVisits(1))


# ---- what the chapter stores


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("figures/data/stop_early-*.json")), ids=lambda path: path.stem
)
def test_the_stored_choice_is_the_cheapest_that_keeps_the_score(path):
    """On the rows kept apart; what is stored is that setting's point on the scored rows."""
    stored = json.loads(path.read_text(encoding="utf8"))
    points = [one for one in stored["records"] if one.get("seed") is not None]
    chosen = [one for one in points if one["policy"].startswith("chosen ")]
    families = ("fixed", "patience") if "stsb" in path.stem else ("fixed", "patience", "confidence")
    parameters = stored["parameters"]
    assert len(chosen) == len(families) * len(parameters["ways"]) * len(parameters["seeds"])
    for one in chosen:
        reads = parameters.get("head_pooling", "first")  # older runs do not say it
        same = {name: one[name] for name in ("way", "seed")} | {"head_pooling": reads}
        own = [point for point in points if same.items() <= point.items()]
        apart = [point for point in own if point["part"] == "kept apart"]
        every = {"policy": "fixed", "setting": one["iterations"]}
        full = next(point["score"] for point in apart if every.items() <= point.items())
        least = full - 0.005 * (full if one["task"] == "stsb" else 1)
        family = one["policy"].removeprefix("chosen ")
        good = [
            point["operations"]
            for point in apart
            if point["policy"].startswith(family) and point["score"] >= least
        ]
        rule = {"policy": one["rule"], "setting": one["setting"]}
        at = {point["part"]: point for point in own if rule.items() <= point.items()}
        assert at["kept apart"]["operations"] == min(good)
        assert at["kept apart"]["score"] >= least
        assert one == at["scored"] | {"policy": one["policy"], "rule": one["rule"]}
