"""What the objective and the model cost against plain writings of the same: `make bench`.

On an idle machine. Every comparison is interleaved in one process; medians and their ratios are
printed, and the first losses are shown to be equal before anything is timed. "plain" is equation 11
as one would write it first: fp32, eager attention in every layer of both models, logits at all
positions, masked_select. Freed memory is kept by both, as the Makefile sets it.
"""

import copy
import time
from statistics import median

import pytest
import torch
from torch.nn import functional as F
from transformers import BertConfig, BertForMaskedLM, BertModel

from minialbert import MiniAlbertConfig, MiniAlbertForMaskedLM, MiniAlbertModel
from minialbert.distillation import DistilArguments, Distiller, distil, prepare
from minialbert.starting import student_config
from minialbert.training import autocast, bf16_is_fast

SIZES = {  # teacher, student choices, batch, tokens
    "paper": (dict(), dict(num_hidden_layers=6, embedding_size=128), 4, 128),
    "lab": (
        dict(hidden_size=384, num_hidden_layers=6, intermediate_size=1536),
        dict(num_hidden_layers=3, embedding_size=128, tie_word_embeddings=True),
        32,
        64,
    ),
}


def models(size):
    teacher_sizes, choices, batch, tokens = SIZES[size]
    torch.manual_seed(0)
    teacher = BertForMaskedLM(BertConfig(**teacher_sizes)).eval()
    config = student_config(
        teacher.config, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, **choices
    )
    student = MiniAlbertForMaskedLM(config)
    ids = torch.randint(1000, 30000, (batch, tokens))
    labels = torch.where(torch.rand(batch, tokens) < 0.15, ids, -100)
    inputs = dict(
        input_ids=ids, attention_mask=torch.ones_like(ids), token_type_ids=torch.zeros_like(ids)
    )
    return teacher, student, inputs, labels


def plain_objective(teacher, student, inputs, labels):
    """Equation 11 written down: every map, every logit."""
    with torch.no_grad():
        theirs = teacher(**inputs, output_hidden_states=True, output_attentions=True)
    ours = student(**inputs, output_hidden_states=True, output_attentions=True)
    layers, iterations = teacher.config.num_hidden_layers, student.config.num_hidden_layers
    mask, align = inputs["attention_mask"], 0
    for k in range(1, iterations + 1):
        layer = k * layers // iterations
        a_s, a_t = ours.attentions[k - 1] + 1e-12, theirs.attentions[layer - 1] + 1e-12
        kl = (a_t * (a_t.log() - a_s.log())).sum(-1) * mask[:, None, :]
        h_s, h_t = ours.hidden_states[k], theirs.hidden_states[layer]
        distance = (1 - F.cosine_similarity(h_s, h_t, dim=-1)) * mask
        align = (
            align
            + kl.sum() / (mask.sum() * a_s.shape[1] * a_s.shape[-1])
            + distance.sum() / mask.sum()
        )
    mlm = F.cross_entropy(ours.logits.flatten(0, 1), labels.flatten())
    chosen = (labels != -100)[..., None]
    vocabulary = ours.logits.shape[-1]
    p_s, p_t = (x.logits.masked_select(chosen).view(-1, vocabulary) for x in (ours, theirs))
    out = F.kl_div(p_s.log_softmax(-1), p_t.softmax(-1), reduction="batchmean")
    return mlm + 3 * align + 5 * out


def stepper(student, loss_of):
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-5, fused=True)

    def step():
        start = time.perf_counter()
        optimizer.zero_grad()
        loss_of().backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        return time.perf_counter() - start

    return step


def timed(steps, rounds, warm_up=2):
    """Interleaved: {name: median seconds}."""
    times = {name: [] for name in steps}
    for turn in range(rounds + warm_up):
        for name, step in steps.items():
            seconds = step()
            if turn >= warm_up:
                times[name].append(seconds)
    return {name: median(values) for name, values in times.items()}


def show(title, medians, reference):
    print(f"\n{title}")
    for name, seconds in medians.items():
        faster = medians[reference] / seconds
        print(f"  {name:<28}{seconds * 1e3:9.1f} ms   {faster:5.2f} x {reference}")


def flops(teacher, student, batch, tokens, labelled):
    """Operations of a step's matrix products: forward 2 a weight and token, the student thrice."""
    t, s = teacher.config, student.config
    block = (
        4 * t.hidden_size**2 + 2 * t.hidden_size * t.intermediate_size + 2 * tokens * t.hidden_size
    )
    adapters = 4 * s.hidden_size * s.adapter_size if s.adapter_size else 0
    projection = s.embedding_size * s.hidden_size
    teacher_token, student_token = (
        t.num_hidden_layers * block,
        s.num_hidden_layers * (block + adapters) + projection,
    )
    rank = s.embedding_size if s.tie_word_embeddings else s.hidden_size
    teacher_head = t.hidden_size**2 + t.hidden_size * t.vocab_size
    student_head = s.hidden_size**2 + projection * s.tie_word_embeddings + rank * s.vocab_size
    return 2 * (
        batch * tokens * (teacher_token + 3 * student_token)
        + labelled * (teacher_head + 3 * student_head)
    )


def matmul_peak(dtype):
    """GFLOP/s of a 2048 x 2048 product, the best of ten."""
    a, b = (torch.randn(2048, 2048, dtype=dtype) for _ in range(2))
    best = min(_timed_call(lambda: a @ b) for _ in range(10))
    return 2 * 2048**3 / best / 1e9


def _timed_call(call):
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


@pytest.mark.parametrize("size", SIZES)
def test_the_distillation_step(size):
    teacher, student, inputs, labels = models(size)
    _, _, batch, tokens = SIZES[size]
    # a configuration each: a distiller switches its teacher's attention, and would switch theirs
    eager, half = (BertForMaskedLM(copy.deepcopy(teacher.config)).eval() for _ in range(2))
    eager.load_state_dict(teacher.state_dict())
    eager.set_attn_implementation("eager")
    half.load_state_dict(teacher.state_dict())
    copies = []
    for _ in range(3):
        copies.append(MiniAlbertForMaskedLM(copy.deepcopy(student.config)))
        copies[-1].load_state_dict(student.state_dict())
    ours, mixed = Distiller(copies[1], teacher), Distiller(copies[2], half.bfloat16())

    def bf16():
        with autocast("cpu", True):
            return mixed(**inputs, labels=labels).loss

    losses = {
        "plain": plain_objective(eager, copies[0], inputs, labels),
        "ours, fp32": ours(**inputs, labels=labels).loss,
        "ours, bf16": bf16(),
    }
    print(f"\n{size}: first losses", {name: round(loss.item(), 6) for name, loss in losses.items()})
    assert losses["ours, fp32"].item() == pytest.approx(losses["plain"].item(), rel=1e-5)
    assert losses["ours, bf16"].item() == pytest.approx(losses["plain"].item(), rel=0.02)
    steps = {
        "plain": stepper(copies[0], lambda: plain_objective(eager, copies[0], inputs, labels)),
        "ours, fp32": stepper(copies[1], lambda: ours(**inputs, labels=labels).loss),
        "ours, bf16": stepper(copies[2], bf16),
    }
    medians = timed(steps, rounds=7)
    show(f"{size}: a step of {batch} x {tokens} tokens", medians, "plain")
    work = flops(teacher, student, batch, tokens, (labels != -100).sum().item()) / 1e9
    for name, dtype in (("ours, fp32", torch.float32), ("ours, bf16", torch.bfloat16)):
        peak = matmul_peak(dtype)
        print(
            f"  {name}: {batch * tokens / medians[name]:,.0f} tokens/s, {work:.0f} GFLOP a step, "
            f"{work / medians[name] / peak:.0%} of {peak:,.0f} GFLOP/s"
        )
    if size == "paper":
        assert medians["plain"] / medians["ours, fp32"] >= 1.5
        if bf16_is_fast():
            assert medians["plain"] / medians["ours, bf16"] >= 3


@pytest.mark.parametrize("batch, tokens", [(1, 128), (8, 128)])
def test_inference_against_a_bert_of_six_layers(batch, tokens):
    torch.manual_seed(0)
    plain = MiniAlbertConfig(embedding_size=768, adapter_reduction=None)
    candidates = {
        "BertModel, 6 layers": BertModel(BertConfig(num_hidden_layers=6), add_pooling_layer=False),
        "student": MiniAlbertModel(plain),
        "student, adapters": MiniAlbertModel(MiniAlbertConfig(embedding_size=768)),
        "student, adapters, rank 128": MiniAlbertModel(MiniAlbertConfig()),
    }
    ids = torch.randint(1000, 30000, (batch, tokens))
    mask = torch.ones_like(ids)

    def runner(model):
        model.eval()
        return lambda: _timed_call(lambda: model(ids, attention_mask=mask))

    with torch.inference_mode():
        medians = timed(
            {name: runner(model) for name, model in candidates.items()}, rounds=31, warm_up=4
        )
    show(f"inference, {batch} x {tokens}, fp32", medians, "BertModel, 6 layers")
    reference = medians["BertModel, 6 layers"]
    assert medians["student"] <= 1.05 * reference
    assert medians["student, adapters"] <= 1.15 * reference


@pytest.mark.skipif(not bf16_is_fast(), reason="no fast bfloat16 on this processor")
def test_bf16_trains_as_well_as_fp32(tmp_path):
    """The lab's run, a third of its steps, in both precisions, each evaluated in fp32."""
    setups = {}
    for precision in ("fp32", "bf16"):
        setups[precision] = prepare(
            DistilArguments(
                run_folder=str(tmp_path / precision),
                precision=precision,
                head_steps=0,
                output_weight=0.0,
                attention_weight=1.0,
                steps=200,
                eval_steps=1000,
                save_steps=1000,
                heldout_windows=512,
            )
        )
        distil(setups[precision])
    judge = setups["fp32"]  # one teacher, in full precision, for both
    results = {precision: judge.evaluate(setup.student) for precision, setup in setups.items()}
    print("\nheld-out after the same steps:")
    for name in ("hidden", "attention_row", "mlm"):
        ours, reference = results["bf16"][name], results["fp32"][name]
        print(f"  {name:<14} fp32 {reference:.4f}  bf16 {ours:.4f}  {ours / reference - 1:+.2%}")
        assert ours <= 1.02 * reference
