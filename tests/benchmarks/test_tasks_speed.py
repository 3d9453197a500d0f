"""What evaluation and adapter tuning save: `make bench`, on an idle machine, in medians."""

import time
from statistics import median

import numpy as np
import pytest
import torch
from transformers import AutoConfig

from minialbert import MiniAlbertConfig, MiniAlbertForSequenceClassification, sources, tasks
from minialbert.adapters import frozen_in_bf16, mark_only_adapters_trainable
from minialbert.finetuning import near_lengths, predict
from minialbert.starting import load_teacher
from minialbert.training import autocast, bf16_is_fast


@pytest.fixture(scope="module")
def task():
    """Sentences of STS-B, and a student of the lab's sizes with a head of two classes."""
    _, tokenizer = load_teacher("all-MiniLM-L6-v2")
    pairs = tasks.load_task("stsb").train
    rows = (
        pairs.select(range(5000))
        .select_columns(["sentence1"])
        .rename_column("sentence1", "sentence")
    )
    rows = rows.add_column("label", np.arange(5000) % 2)
    torch.manual_seed(0)
    wide = AutoConfig.from_pretrained(sources.resolve_model("all-MiniLM-L6-v2"))
    model = MiniAlbertForSequenceClassification(
        MiniAlbertConfig(
            hidden_size=wide.hidden_size,
            intermediate_size=wide.intermediate_size,
            num_hidden_layers=3,
        )
    )
    return tasks.TASKS["sst2"], rows, tokenizer, model.eval()


def test_evaluation_against_padding_to_512(task):
    """5,000 short sentences 8 times faster than each padded to 512, and the same predictions."""
    kind, rows, tokenizer, model = task
    encoded = tasks.encode(rows, kind, tokenizer)
    start = time.perf_counter()
    ours = predict(model, encoded, tasks.collator(kind, tokenizer), bf16=False)
    seconds = time.perf_counter() - start

    some = range(0, 5000, 50)  # the plain way takes a quarter of an hour for all
    start = time.perf_counter()
    padded = {"padding": "max_length", "max_length": 512, "return_tensors": "pt"}
    with torch.no_grad():
        inputs = [tokenizer(rows[i]["sentence"], **padded) for i in some]
        plain = [model(**one).logits[0].numpy() for one in inputs]
    slow = (time.perf_counter() - start) * 5000 / len(some)
    print(f"\n5,000 sentences: {seconds:.1f} s by near lengths, {slow:.0f} s one by one")
    print(f"padded to 512 (from {len(some)} of them): {slow / seconds:.0f}x")
    assert all(a.argmax() == b.argmax() for a, b in zip((ours[i] for i in some), plain))
    np.testing.assert_allclose([ours[i] for i in some], plain, atol=1e-4)
    assert slow > 8 * seconds


def test_an_adapter_step_against_a_full_one(task):
    """At most 0.72 of full tuning's time; by operations it cannot be below 2/3."""
    kind, rows, tokenizer, _ = task
    encoded, collate = tasks.encode(rows, kind, tokenizer), tasks.collator(kind, tokenizer)
    order = near_lengths(encoded["length"], 32, 1, 0)
    batches = [collate([encoded[i] for i in order[k * 32 : k * 32 + 32]]) for k in range(20)]
    config = MiniAlbertConfig(
        hidden_size=384, intermediate_size=1536, num_hidden_layers=3, attn_implementation="eager"
    )
    ways = {}
    for name in ("full", "adapter"):
        model = MiniAlbertForSequenceClassification(config).train()
        model.set_attn_implementation("eager")
        if name == "adapter":
            mark_only_adapters_trainable(model)
        trained = [p for p in model.parameters() if p.requires_grad]
        ways[name] = model, trained, torch.optim.AdamW(trained, lr=1e-5, fused=True)

    def seconds(name, some):
        model, trained, optimizer = ways[name]
        start = time.perf_counter()
        for batch in some:
            with autocast("cpu"):
                loss = model(**batch).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            optimizer.zero_grad()
        return time.perf_counter() - start

    ratios = []
    with frozen_in_bf16(ways["adapter"][0], bf16_is_fast()):
        for turn in range(12):
            some = [batches[(5 * turn + i) % 20] for i in range(5)]
            times = {name: seconds(name, some) for name in ways}
            ratios.append(times["adapter"] / times["full"])
    low, middle, high = np.percentile(ratios[2:], [25, 50, 75])
    print(f"\nadapter step / full step: {middle:.2f} (quartiles {low:.2f} to {high:.2f})")
    assert median(ratios[2:]) <= 0.72
