"""Checks of the exercises of chapter 12."""

import torch
from transformers import BertConfig, BertModel

from minialbert.lab import exercises
from minialbert.objective import Distiller, LossWeights, alignment_losses, run_both
from minialbert.starting import start_student, student_config

STEPS, WORDS, T = 60, 60, 16  # the budget, the vocabulary and the tokens of the toy


@exercises.check("a verdict from seeds")
def check_verdict(answer):
    cases = {  # t of two, of three and of four seeds: 12.7, 4.30, 3.18
        (0.03, 0.04, 0.05): "agrees here",
        (-0.03, -0.04, -0.05): "disagrees here",
        (0.01, 0.04, 0.10): "undecided",
        (0.03, 0.04): "undecided",
        (0.01, 0.02, 0.04, 0.05): "agrees here",
        (0.05,): "undecided",
    }
    for differences, wanted in cases.items():
        got = answer(list(differences))
        assert got == wanted, f"differences of {list(differences)} are {wanted!r}, not {got!r}"


def distance(attention_reduction="row", **weights):
    """How far a toy student is from its teacher after STEPS steps: (hidden loss, KL of a row)."""
    torch.manual_seed(0)
    sizes = {"vocab_size": WORDS, "hidden_size": 32, "num_hidden_layers": 4}
    sizes |= {"num_attention_heads": 4, "intermediate_size": 64, "max_position_embeddings": 32}
    teacher = BertModel(BertConfig(**sizes, initializer_range=0.2)).eval()
    ours = {"num_hidden_layers": 2, "embedding_size": 16, "adapter_reduction": 4}
    ours |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    student = start_student(student_config(teacher.config, **ours), teacher, seed=0)
    weights = {name.removesuffix("_weight"): float(value) for name, value in weights.items()}
    weights = LossWeights(**{"mlm": 0, "output": 0} | weights)
    distiller = Distiller(student, teacher, None, weights, attention_reduction)
    train(distiller)
    torch.manual_seed(99)
    with torch.no_grad():
        heldout = {"input_ids": torch.randint(WORDS, (64, T))}
        both = run_both(student.eval(), teacher, heldout, maps=True)
        maps, states = alignment_losses(*both, distiller.layer_map, None, "row")
    return float(sum(states)) / len(states), float(sum(maps)) / len(maps)


def train(distiller, rate=5e-3):
    """STEPS steps on random words, the rate falling to 0."""
    torch.manual_seed(0)
    weights = list(distiller.student.parameters())
    optimiser = torch.optim.AdamW(weights, lr=rate)
    distiller.student.train()
    for step in range(STEPS):
        optimiser.param_groups[0]["lr"] = rate * (1 - step / STEPS)
        distiller(torch.randint(WORDS, (16, T))).loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        optimiser.zero_grad()


@exercises.check("a better mixture")
def check_mixture(answer):
    known = {f"{name}_weight" for name in LossWeights.__dataclass_fields__}
    unknown = set(answer) - known - {"attention_reduction"}
    assert not unknown, f"there is no weight called {', '.join(sorted(unknown))}"
    refused = [name for name in ("mlm_weight", "output_weight") if answer.get(name)]
    assert not refused, f"the toy has no masked words: leave out {', '.join(refused)}"
    best = sum(distance())
    states, maps = distance(**answer)
    reached = f"states {states:.3f} + maps {maps:.3f} = {states + maps:.3f}"
    assert states + maps < 0.97 * best, (
        f"{reached}; 'both, row' reaches {best:.3f}, get below {0.97 * best:.3f}"
    )
    return reached
