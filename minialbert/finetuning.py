"""What a model is worth: evaluation, and which of its parameters a task trains."""

import numpy as np
import torch
from scipy.stats import spearmanr

from . import lab


def adapter_parameters(model) -> list[str]:
    """Names of what adapter tuning trains: the adapters and the task's head.

    Raises:
        ValueError: for a model without adapters.
    """
    names = [name for name, _ in model.named_parameters()]
    adapters = [name for name in names if "_adapters." in name]
    if not adapters:
        raise ValueError("this model has no adapters (adapter_reduction is None): build it with adapter_reduction=16, "
                         "or train all of its parameters.")
    return adapters + [name for name in names if name.startswith("classifier.")]


def mark_only_adapters_trainable(model) -> int:
    """Freezes all but the adapters and the classifier; returns the number of trainable parameters.

    914,498 for the paper's smallest model and two classes: its "0.9M" (section 4).

    Raises:
        ValueError: for a model without adapters.
    """
    trained = set(adapter_parameters(model))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in trained)
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def adapter_state_dict(model) -> dict[str, torch.Tensor]:
    """The adapters and the classifier alone, detached: one task's file, to be loaded with strict=False.

    Raises:
        ValueError: for a model without adapters.
    """
    state = model.state_dict()
    return {name: state[name].detach() for name in adapter_parameters(model)}


@torch.no_grad()
def sentence_embeddings(model, tokenizer, sentences, batch_size=128, bf16=None) -> np.ndarray:
    """The mean of each sentence's last hidden states over its tokens: (N, d), rows in the order given."""
    bf16 = lab.bf16_is_fast() if bf16 is None else bf16
    encoder = model.base_model.eval()
    device = next(encoder.parameters()).device
    order = np.argsort([len(s) for s in sentences], kind="stable")  # near lengths together: little padding
    result = np.empty((len(sentences), encoder.config.hidden_size), np.float32)
    for start in range(0, len(order), batch_size):
        rows = order[start:start + batch_size]
        batch = tokenizer([sentences[i] for i in rows], padding=True, truncation=True,
                          max_length=encoder.config.max_position_embeddings, return_tensors="pt").to(device)
        with lab.autocast(device, bf16):
            states = encoder(**batch).last_hidden_state.float()
        mask = batch["attention_mask"][..., None]
        result[rows] = ((states * mask).sum(1) / mask.sum(1)).cpu().numpy()
    return result


def sentence_similarity(model, tokenizer, pairs, bf16=None) -> float:
    """STS-B without fine-tuning: Spearman between the cosine of two sentences' embeddings and people's scores.

    Args:
        pairs: a dataset with columns sentence1, sentence2, label.
    """
    sentences = [*pairs["sentence1"], *pairs["sentence2"]]
    vectors = sentence_embeddings(model, tokenizer, sentences, bf16=bf16)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    first, second = np.split(vectors, 2)
    return float(spearmanr((first * second).sum(1), pairs["label"]).statistic)
