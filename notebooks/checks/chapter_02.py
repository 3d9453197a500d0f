"""Checks of the exercises of chapter 02."""

import copy

import torch
from transformers import DistilBertConfig, DistilBertModel

from minialbert import MiniAlbertConfig, MiniAlbertModel
from minialbert.lab import exercises
from minialbert.losses import hidden_loss
from minialbert.starting import load_teacher

TEXTS = [
    "The central bank lowers its interest rate.",
    "A man plays the guitar in front of a small crowd.",
    "We missed the last train, so we walked home.",
    "The cells were kept at low temperature for two days.",
]


@exercises.check("unroll the loop")
@torch.no_grad()
def check_unroll(answer):
    sizes = dict(
        vocab_size=9, hidden_size=24, embedding_size=24, num_attention_heads=2, intermediate_size=48
    )
    model = MiniAlbertModel(MiniAlbertConfig(**sizes, adapter_reduction=None))
    block = model.eval().encoder.block
    states = [torch.randn(2, 5, 24)]
    for _ in range(3):
        states.append(block(states[-1])[0])
    layers = answer(block, 3)
    assert len(layers) == 3, f"{len(layers)} layers for K = 3"
    X = states[0]
    for layer in layers:
        X = layer(X)[0]
    assert torch.allclose(X, states[3]), "three layers do not compute what three visits compute"
    weights = {layer.attention.query.weight.data_ptr() for layer in layers}
    assert len(weights) == 3, f"3 layers share {len(weights)} query matrix: one cannot change alone"
    layers[0].attention.query.weight.zero_()
    assert torch.equal(block(states[0])[0], states[1]), (
        "changing the first layer has changed the block itself"
    )


@exercises.check("DistilBERT, to the unit")
def check_distilbert(answer):
    with torch.device("meta"):
        model = DistilBertModel(DistilBertConfig())
    off = answer() - sum(parameter.numel() for parameter in model.parameters())
    assert off < 1e6, f"{off:,} too many: are there 6 layers?"
    assert off <= 0, f"{off:,} too many: the parts left out are in the list above"
    assert off == 0, f"{-off:,} too few"


@torch.no_grad()
def after_six_visits(answer):
    """The distance from the lab's teacher, 1 - cosine of the last states, of a folded block."""
    model, tokenizer = load_teacher("all-MiniLM-L6-v2")
    bert = model.base_model
    folded = answer([layer.state_dict() for layer in copy.deepcopy(bert.encoder.layer)])
    block = copy.deepcopy(bert.encoder.layer[0])
    block.load_state_dict(folded)
    distances = []
    for text in TEXTS:
        states = bert(**tokenizer(text, return_tensors="pt"), output_hidden_states=True)
        X = states.hidden_states[0]
        for _ in range(6):
            X = block(X)
        distances.append(hidden_loss(X, states.hidden_states[-1]).item())
    return sum(distances) / len(distances)


def mean_of_layers(layers):
    return {name: torch.stack([layer[name] for layer in layers]).mean(0) for name in layers[0]}


@exercises.check("fold a real BERT")
def check_fold(answer):
    yours, average = after_six_visits(answer), after_six_visits(mean_of_layers)
    score = f"your block ends {yours:.2f} from the teacher, the average of all layers {average:.2f}"
    assert yours < average - 0.005, f"{score}: get below that"
    return score
