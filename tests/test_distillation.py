"""The objective against a plain writing of it, the student's start, and runs that are killed."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
import yaml
from kills import run_and_kill
from safetensors.torch import load_file
from tiny import make_corpus, make_teacher, teacher_config
from transformers import AutoModelForMaskedLM, AutoTokenizer, BertForMaskedLM, BertModel

from minialbert import MiniAlbertForMaskedLM, distillation
from minialbert.checkpoints import MARKER, newest_checkpoint
from minialbert.distillation import (
    DistilArguments,
    DistillationError,
    Distiller,
    LossWeights,
    default_layer_map,
    distil,
    prepare,
)
from minialbert.lab.parameters import notebook_parameters
from minialbert.losses import attention_loss, hidden_loss, mlm_loss, output_loss
from minialbert.starting import (
    StartError,
    fit_mlm_head,
    load_teacher,
    masked_lm_head,
    start_student,
    student_config,
    truncated_svd,
)
from minialbert.training import NotFiniteError, TrainingError

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A teacher with a head, one without, and a corpus, on disk."""
    folder = tmp_path_factory.mktemp("files")
    return dict(
        teacher=str(make_teacher(folder / "teacher")),
        headless=str(make_teacher(folder / "bare", head=False)),
        corpus=str(make_corpus(folder / "corpus.jsonl")),
    )


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("MINIALBERT_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


TINY = {
    "head_steps": 10,
    "window": 16,
    "overlap": 4,
    "num_iterations": 2,
    "embedding_size": 8,
    "adapter_reduction": 4,
    "steps": 8,
    "batch_size": 4,
    "learning_rate": 1e-3,
    "masked_share": 1.0,
    "mlm_weight": 0.1,
    "output_weight": 0.5,
    "attention_weight": 0.1,
    "dropout": 0.1,
    "warmup_steps": 2,
    "heldout_windows": 8,
    "precision": "fp32",
    "logging_steps": 1,
    "eval_steps": 4,
    "save_steps": 2,
}


def arguments(files, folder, **changes):
    read = {"teacher": files["teacher"], "corpus": files["corpus"]}
    return DistilArguments(**{"run_folder": str(folder)} | read | TINY | changes)


@pytest.fixture
def teacher():
    torch.manual_seed(0)
    return BertForMaskedLM(teacher_config()).eval()


def make_student(teacher, **choices):
    sizes = {"num_hidden_layers": 2, "embedding_size": 8, "adapter_reduction": 4}
    config = student_config(teacher.config, **sizes | {"initializer_range": 0.2} | choices)
    torch.manual_seed(1)
    return MiniAlbertForMaskedLM(config).eval()


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(2)
    mask = (torch.arange(9) < torch.tensor([[9], [6], [4]])).long()
    ids = torch.randint(5, 100, (3, 9), generator=generator) * mask
    labels = torch.where((torch.rand(3, 9, generator=generator) < 0.4) & (mask == 1), ids, -100)
    return dict(
        input_ids=ids, attention_mask=mask, token_type_ids=torch.zeros_like(ids), labels=labels
    )


# -- the objective


@pytest.mark.parametrize("layer_map", [None, [4, 1], [3, 3]])
@pytest.mark.parametrize("reduction", ["published", "row"])
def test_the_objective_is_equation_11(teacher, batch, layer_map, reduction):
    student = make_student(teacher)
    labels = batch["labels"]
    inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
    mask = batch["attention_mask"]
    teacher.set_attn_implementation("eager")
    theirs = teacher(**inputs, output_hidden_states=True, output_attentions=True)
    ours = student(**inputs, output_hidden_states=True, output_attentions=True)
    layers = layer_map or [2, 4]
    expected = dict(
        mlm=mlm_loss(ours.logits, labels),
        output=output_loss(ours.logits, theirs.logits, labels),
        attention=sum(
            attention_loss(ours.attentions[k], theirs.attentions[g - 1], mask, reduction)
            for k, g in enumerate(layers)
        ),
        hidden=sum(
            hidden_loss(ours.hidden_states[k + 1], theirs.hidden_states[g], mask)
            for k, g in enumerate(layers)
        ),
        embedding=hidden_loss(ours.hidden_states[0], theirs.hidden_states[0], mask),
    )
    weights = LossWeights(mlm=2, alignment=3, output=5, embedding=0.5, attention=0.7, hidden=1.1)
    output = Distiller(student, teacher, layer_map, weights, reduction)(**batch)
    for name, value in expected.items():
        torch.testing.assert_close(output.terms[name], value.detach())
    alignment = sum(
        weight * expected[name]
        for name, weight in {"attention": 0.7, "hidden": 1.1, "embedding": 0.5}.items()
    )
    total = 2 * expected["mlm"] + 5 * expected["output"] + 3 * alignment
    torch.testing.assert_close(output.loss, total)
    terms = {"mlm": 1, "attention": 10, "hidden": 100, "output": 1000, "embedding": 10_000}
    assert LossWeights().total(terms) == 5331


def test_both_heads_run_at_masked_positions_only(teacher, batch):
    student = make_student(teacher)
    distiller = Distiller(student, teacher, layer_map=[1, 3])
    rows = []
    masked_lm_head(teacher).register_forward_hook(lambda _, inputs, __: rows.append(len(inputs[0])))
    student.head.register_forward_hook(lambda _, inputs, __: rows.append(len(inputs[0])))
    distiller(**batch)
    assert rows == [(batch["labels"] != -100).sum()] * 2
    labels = batch.pop("labels")
    # no labels, no heads: the alignment alone
    assert distiller(**batch).terms["mlm"].isnan() and torch.isfinite(distiller(**batch).loss)
    nothing = distiller(**batch, labels=torch.full_like(labels, -100))
    assert nothing.terms["mlm"] == 0 and nothing.terms["output"] == 0


def test_the_teacher_is_frozen_in_eval_mode_and_not_part_of_the_student(teacher, batch):
    distiller = Distiller(make_student(teacher), teacher).train()
    assert not teacher.training and distiller.student.training
    distiller(**batch).loss.backward()
    assert all(p.grad is None for p in teacher.parameters())
    assert all(p.grad is not None for p in distiller.student.minialbert.parameters())
    assert all(name.startswith("student.") for name in distiller.state_dict())


def test_a_term_of_weight_zero_is_not_computed(teacher, batch):
    weights = LossWeights(attention=0, mlm=0, output=0)
    distiller = Distiller(make_student(teacher), teacher, weights=weights)
    terms = distiller(**batch).terms
    assert terms["attention"].isnan() and terms["mlm"].isnan() and terms["output"].isnan()
    assert not terms["hidden"].isnan() and not terms["embedding"].isnan()
    torch.testing.assert_close(distiller(**batch).loss.detach(), 3 * terms["hidden"])


def test_an_earlier_visit_learns_from_the_last_which_does_not_follow(teacher, batch):
    student = make_student(teacher)
    inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
    _, first, last = student.minialbert(**inputs, output_hidden_states=True).hidden_states
    weights = LossWeights(mlm=0, output=0, attention=0, hidden=0, exit=0.5)
    output = Distiller(student, teacher, weights=weights)(**batch)
    expected = hidden_loss(first, last, batch["attention_mask"])
    torch.testing.assert_close(output.terms["exit"], expected.detach())
    torch.testing.assert_close(output.loss, 3 * 0.5 * expected)
    output.loss.backward()
    moved = [one.up.weight.grad for one in student.minialbert.encoder.ffn_adapters]
    assert moved[0].abs().max() > 0 and moved[1] is None  # those of the last visit


def test_default_layer_map():
    assert default_layer_map(6, 12) == [2, 4, 6, 8, 10, 12]
    assert default_layer_map(3, 6) == [2, 4, 6] and default_layer_map(4, 4) == [1, 2, 3, 4]
    with pytest.raises(DistillationError, match="5 iterations do not divide 12"):
        default_layer_map(5, 12)


@pytest.mark.parametrize(
    "choices, options, message",
    [
        (dict(hidden_size=48), {}, "hidden_size: student 48, teacher 32"),
        (dict(num_attention_heads=8), {}, "num_attention_heads: student 8, teacher 4"),
        (dict(vocab_size=50), {}, "vocab_size: student 50"),
        (dict(num_hidden_layers=3), {}, "3 iterations do not divide 4"),
        ({}, dict(layer_map=[1, 5]), "give 2 teacher layers, 1..4"),
        ({}, dict(layer_map=[0, 2]), "give 2 teacher layers, 1..4"),
        ({}, dict(layer_map=[1]), "give 2 teacher layers"),
    ],
)
def test_teacher_and_student_that_do_not_fit(teacher, choices, options, message):
    with pytest.raises(DistillationError, match=message):
        Distiller(make_student(teacher, **choices), teacher, **options)


def test_other_head_counts_are_fine_without_the_attention_loss(teacher, batch):
    student = make_student(teacher, num_attention_heads=8)
    distiller = Distiller(student, teacher, weights=LossWeights(attention=0))
    assert torch.isfinite(distiller(**batch).loss)


def test_no_output_loss_without_a_head(teacher):
    with pytest.raises(DistillationError, match="without a masked-LM head"):
        Distiller(make_student(teacher), teacher.bert)


# -- the teacher and the student's start


def test_a_teacher_is_loaded_with_its_head_or_without(files, caplog):
    model, tokenizer = load_teacher(files["teacher"])
    assert type(model) is BertForMaskedLM and masked_lm_head(model) is model.cls
    assert tokenizer.mask_token == "[MASK]"
    bare, _ = load_teacher(files["headless"])
    assert type(bare) is BertModel and masked_lm_head(bare) is None and not bare.training


def test_a_head_is_fitted_to_a_teacher_without_one(files, tmp_path):
    run = arguments(files, tmp_path, teacher=files["headless"], output_weight=0.0, mlm_weight=0.0)
    setup = prepare(run)
    assert masked_lm_head(setup.teacher) is None
    before = {name: p.clone() for name, p in setup.teacher.named_parameters()}
    batch = setup.heldout.collate(setup.heldout.__getitems__(range(8)))
    labels = batch.pop("labels")
    losses = []
    for steps in (1, 150):
        how = {"steps": steps, "bf16": False, "batch_size": 8, "learning_rate": 5e-3}
        folder = tmp_path / f"head{steps}"
        fitted = fit_mlm_head(setup.teacher, setup.train, folder=folder, **how)
        losses.append(mlm_loss(fitted(**batch).logits, labels).item())
        table = fitted.bert.embeddings.word_embeddings.weight
        assert fitted.cls.predictions.decoder.weight is table
    assert losses[1] < losses[0] - 0.5
    frozen = setup.teacher.named_parameters()
    assert all(torch.equal(p, before[name]) for name, p in frozen)
    again = fit_mlm_head(setup.teacher, setup.train, folder=tmp_path / "head150", steps=150)
    torch.testing.assert_close(again(**batch).logits, fitted(**batch).logits)


def test_the_shared_block_starts_from_the_teacher(teacher):
    config = make_student(teacher).config
    layers = teacher.bert.encoder.layer
    average = start_student(config, teacher).minialbert.encoder.block
    torch.testing.assert_close(
        average.feed_forward.dense.weight,
        torch.stack([layer.output.dense.weight for layer in layers]).mean(0),
    )
    third = start_student(config, teacher, block=3).minialbert.encoder.block
    x = torch.randn(2, 5, 32)
    # without adapters the block is that layer
    torch.testing.assert_close(third.eval()(x)[0], layers[2](x))
    random = start_student(config, teacher, block="random").minialbert.encoder.block
    assert not torch.allclose(random.attention.query.weight, average.attention.query.weight)
    for start in (0, 5, "middle"):
        with pytest.raises(StartError, match="use 'random', 'average', or 1..4"):
            start_student(config, teacher, block=start)
    other = student_config(teacher.config, intermediate_size=48, embedding_size=8)
    with pytest.raises(StartError, match="do not fit this student"):
        start_student(other, teacher)


def test_embeddings_start_from_the_teacher(teacher, files):
    table = teacher.bert.embeddings.word_embeddings.weight.detach()
    left, right = truncated_svd(table, 8)
    u, s, v = torch.linalg.svd(table.double(), full_matrices=False)
    best = (u[:, :8] * s[:8]) @ v[:8]
    torch.testing.assert_close((left @ right).double(), best, rtol=1e-4, atol=1e-5)

    embeddings = start_student(make_student(teacher).config, teacher).minialbert.embeddings
    torch.testing.assert_close(
        embeddings.word_embeddings.weight @ embeddings.projection.weight.T,
        best.float(),
        rtol=1e-4,
        atol=1e-5,
    )
    for name in ("position_embeddings", "token_type_embeddings"):  # projected the same way
        theirs = getattr(teacher.bert.embeddings, name).weight
        projected = theirs @ embeddings.projection.weight
        torch.testing.assert_close(
            getattr(embeddings, name).weight, projected, rtol=1e-4, atol=1e-5
        )
    full = student_config(teacher.config, num_hidden_layers=2, embedding_size=32)
    copied = start_student(full, teacher, embeddings="copied").minialbert.embeddings
    ids = torch.randint(0, 100, (2, 7))
    positions = torch.arange(7).expand(2, 7)
    torch.testing.assert_close(copied.eval()(ids, ids * 0, positions), teacher.bert.embeddings(ids))
    with pytest.raises(StartError, match="embeddings='copied' do not fit"):
        start_student(make_student(teacher).config, teacher, embeddings="copied")


def test_embeddings_of_another_model_need_the_same_words(teacher, files, tmp_path):
    small = make_teacher(tmp_path / "small", hidden_size=8, num_attention_heads=2)
    tokenizer = AutoTokenizer.from_pretrained(files["teacher"])
    taken = start_student(make_student(teacher).config, teacher, tokenizer, embeddings=str(small))
    expected = BertModel.from_pretrained(small).embeddings
    assert torch.equal(
        taken.minialbert.embeddings.word_embeddings.weight, expected.word_embeddings.weight
    )
    words = json.loads((small / "tokenizer.json").read_text())
    vocabulary = words["model"]["vocab"]
    vocabulary["cat"], vocabulary["dog"] = vocabulary["dog"], vocabulary["cat"]
    (small / "tokenizer.json").write_text(json.dumps(words))
    with pytest.raises(StartError, match="other word pieces"):
        start_student(make_student(teacher).config, teacher, tokenizer, embeddings=str(small))


# -- runs


def test_a_run_learns_and_its_student_loads(files, tmp_path):
    run = arguments(files, tmp_path, steps=40, learning_rate=3e-3, eval_steps=20, save_steps=20)
    setup = prepare(run)
    before = setup.evaluate()
    folder, history, seconds = distil(setup)
    after = setup.evaluate()
    assert after["hidden"] < 0.8 * before["hidden"] and after["mlm"] < before["mlm"]
    assert len(after["hidden_per_iteration"]) == 2 and after["labelled"] > 0
    again = AutoModelForMaskedLM.from_pretrained(folder)
    assert setup.evaluate(again) == after
    assert AutoTokenizer.from_pretrained(folder).get_vocab() == setup.tokenizer.get_vocab()
    logged = [entry for entry in history if "loss" in entry]
    assert 0 < seconds == max(entry["seconds"] for entry in history)
    assert len(logged) == 40
    assert {"mlm", "attention", "hidden", "output", "embedding"} <= logged[0].keys()
    assert [entry["step"] for entry in history if "eval_hidden" in entry] == [20, 40]
    assert logged[0]["loss"] == pytest.approx(setup.arguments.weights.total(logged[0]), rel=1e-4)
    checkpoints = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert checkpoints == ["checkpoint-20", "checkpoint-40", "owner.json"]


def test_a_look_on_the_way_takes_windows_evenly_spread(files, tmp_path):
    setup = prepare(arguments(files, tmp_path))
    assert len(setup.heldout) == 8
    batch = setup.heldout.collate(setup.heldout.__getitems__([0, 2, 4, 6]))
    labels = batch.pop("labels")
    batch["input_ids"] = torch.where(labels == -100, batch["input_ids"], labels)
    with torch.no_grad():
        hidden = setup.distiller.eval()(**batch).terms["hidden"].item() / 2
    some, every = setup.evaluate(most=4), setup.evaluate()
    assert some["hidden"] == pytest.approx(hidden)
    assert some["labelled"] == (labels != -100).sum() < every["labelled"]
    assert setup.evaluate(most=8) == setup.evaluate(most=100) == every


@pytest.mark.parametrize(
    "choices",
    [
        dict(gradient_checkpointing=True),
        dict(device_batch_size=2),
        dict(num_workers=2),
        dict(precision="bf16"),
        dict(max_articles=9),
        dict(attention_reduction="row", layer_map=[1, 4], embedding_weight=1.0),
        dict(teacher="headless"),
        dict(tie_word_embeddings=False, window=24),
    ],
)
def test_choices_of_a_run(files, tmp_path, choices):
    if "teacher" in choices:
        choices = {"teacher": files[choices["teacher"]]}
    setup = prepare(arguments(files, tmp_path, steps=4, **choices))
    assert (distil(setup).folder / "model.safetensors").exists()


def test_a_step_is_divided_among_devices(monkeypatch):
    paper = DistilArguments(batch_size=192, device_batch_size=48)
    for devices, divided in ((1, (48, 4)), (2, (48, 2)), (4, (48, 1)), (16, (12, 1))):
        monkeypatch.setenv("WORLD_SIZE", str(devices))
        assert paper.split() == divided
        assert replace(paper, device_batch_size=None).split() == (192 // devices, 1)
    monkeypatch.setenv("WORLD_SIZE", "5")
    for wrong in (paper, replace(paper, batch_size=4)):
        with pytest.raises(DistillationError, match="batches of .* on each of 5 devices"):
            prepare(wrong)


def test_epochs_in_place_of_steps(files, tmp_path):
    setup = prepare(arguments(files, tmp_path, steps=None, epochs=1.5, eval_steps=1000))
    windows = len(setup.train.windows)
    assert setup.steps == math.ceil(1.5 * windows / 4) and setup.train.epochs == 2
    assert distil(setup).history[-1]["step"] == setup.steps
    for wrong in ({"steps": 2, "epochs": 1.0}, {"steps": None, "epochs": None}):
        with pytest.raises(DistillationError, match="give one, and null for the other"):
            prepare(arguments(files, tmp_path, **wrong))


def run_file(arguments, path):
    path.write_text(yaml.safe_dump(asdict(arguments)))
    return str(path)


def environment():
    return os.environ | {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
        "CUDA_VISIBLE_DEVICES": "",
    }


def test_killed_three_times_and_resumed_is_bit_identical(files, tmp_path):
    run = arguments(files, tmp_path, steps=14, dropout=0.3, device_batch_size=2)
    # between checkpoints, just before one is written, and the last time left alone
    for name, at in (("whole", None), *(("killed", step) for step in (3, 8, 11, None))):
        file = run_file(replace(run, run_folder=str(tmp_path / name)), tmp_path / "run.yaml")
        told = tmp_path / "told.txt"
        ended = run_and_kill(distillation.main, [file], at=at, told=told)
        assert ended == (-signal.SIGKILL if at else 0), told.read_text()[-2000:]
    whole, killed = (
        AutoModelForMaskedLM.from_pretrained(tmp_path / name / "student").state_dict()
        for name in ("whole", "killed")
    )
    assert all(torch.equal(whole[name], killed[name]) for name in whole)
    losses = [losses_of(tmp_path / name) for name in ("whole", "killed")]
    assert losses[0] == losses[1] and len(losses[0]) == 14


def history(folder):
    """The log of a run, as its newest checkpoint has it."""
    state = newest_checkpoint(folder / "checkpoints") / "trainer_state.json"
    return json.loads(state.read_text())["log_history"]


def losses_of(folder):
    return [entry["loss"] for entry in history(folder) if "loss" in entry]


def damage(file, how):
    if how == "missing":
        return file.unlink()
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2] if how == "cut" else bytes(len(content)))


@pytest.mark.parametrize("how", ["cut", "zeroed", "missing"])
@pytest.mark.parametrize(
    "name",
    "model.safetensors optimizer.pt scheduler.pt rng_state.pth trainer_state.json".split()
    + [MARKER],
)
def test_a_damaged_checkpoint_is_found_named_and_passed_over(
    files, tmp_path, capsys, whole_run, name, how
):
    """The run goes on from the one before, and ends with the same weights."""
    run, weights = whole_run
    shutil.copytree(run.run_folder, tmp_path / "run")
    run = replace(run, run_folder=str(tmp_path / "run"))
    checkpoints = tmp_path / "run/checkpoints"
    damage(checkpoints / "checkpoint-4" / name, how)
    shutil.rmtree(tmp_path / "run/student")
    assert newest_checkpoint(checkpoints).name == "checkpoint-2"
    told = capsys.readouterr().err
    assert "checkpoint-4 is passed over" in told and name in told
    folder = distil(prepare(run)).folder
    again = load_file(folder / "model.safetensors")
    assert all(torch.equal(again[key], weights[key]) for key in weights)
    assert newest_checkpoint(checkpoints).name == "checkpoint-4"


@pytest.fixture(scope="module")
def whole_run(files, tmp_path_factory):
    """A finished run of four steps, with checkpoints after the second and the fourth."""
    run = arguments(files, tmp_path_factory.mktemp("whole") / "run", steps=4, dropout=0.3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINIALBERT_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        folder = distil(prepare(run)).folder
    return run, load_file(folder / "model.safetensors")


def test_two_processes_equal_one(files, tmp_path):
    """Windows differ in what is masked, so a plain mean of two processes' means would differ."""
    traces = []
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        run = arguments(files, folder, steps=6, batch_size=8, dropout=0.0)
        if processes == 1:
            distil(prepare(run))
        else:
            torchrun = "-m torch.distributed.run --master_port=0 --rdzv-backend=c10d"
            command = [sys.executable, *torchrun.split(), "--rdzv-endpoint=localhost:0"]
            command += [f"--nproc_per_node={processes}", "-m", "minialbert.distillation"]
            command.append(run_file(run, tmp_path / f"{processes}.yaml"))
            result = subprocess.run(command, env=environment(), capture_output=True, text=True)
            assert result.returncode == 0, result.stderr[-3000:]
        terms = ("loss", "mlm", "hidden", "attention", "output")
        logged = [entry for entry in history(folder) if "loss" in entry]
        traces.append([[entry[name] for name in terms] for entry in logged])
    assert len(traces[0]) == 6
    one, two = map(torch.tensor, traces)
    torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-5)


def test_other_arguments_do_not_resume_a_run(files, tmp_path):
    run = arguments(files, tmp_path, steps=2)
    distil(prepare(run))
    with pytest.raises(TrainingError, match="learning_rate was 0.001, is 0.002"):
        distil(prepare(replace(run, learning_rate=2e-3)))


def test_a_nan_stops_the_run_and_keeps_the_newest_checkpoint(files, tmp_path, monkeypatch):
    setup = prepare(arguments(files, tmp_path))
    forward, calls = Distiller.forward, []

    def breaks(self, **inputs):
        calls.append(1)
        output = forward(self, **inputs)
        if len(calls) == 6:
            output["loss"] = output.loss * float("nan")
        return output

    monkeypatch.setattr(Distiller, "forward", breaks)
    said = "the loss is nan at step 6; the last good checkpoint is kept: .*checkpoint-4"
    with pytest.raises(NotFiniteError, match=said):
        distil(setup)
    assert newest_checkpoint(tmp_path / "checkpoints").name == "checkpoint-4"


def test_weights_that_are_not_finite_are_never_saved(files, tmp_path, monkeypatch):
    choices = {"learning_rate": 1e38, "max_grad_norm": 0.0, "warmup_steps": 0, "save_steps": 1}
    setup = prepare(arguments(files, tmp_path, **choices))
    with pytest.raises(NotFiniteError, match="step 1"):
        distil(setup)
    assert newest_checkpoint(tmp_path / "checkpoints") is None


def run_main(content, path):
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    with pytest.raises(SystemExit) as stopped:
        distillation.main([str(path)])
    return str(stopped.value)


def test_the_command_line_names_what_is_wrong(files, tmp_path):
    good = asdict(arguments(files, tmp_path / "run"))
    file = tmp_path / "run.yaml"
    assert "lerning_rate" in run_main({**good, "lerning_rate": 1e-3}, file)
    assert "steps" in run_main({**good, "steps": "many"}, file)
    assert "do not divide 4 teacher layers" in run_main({**good, "num_iterations": 3}, file)
    assert "choose one of auto, bf16, fp32" in run_main({**good, "precision": "half"}, file)
    assert "attention_reduction" in run_main({**good, "attention_reduction": "mean"}, file)
    assert "SourceError" in run_main({**good, "teacher": str(tmp_path / "nowhere")}, file)
    assert "CorpusError" in run_main({**good, "text_column": "body"}, file)
    assert "usage: torchrun" in str(pytest.raises(SystemExit, distillation.main, []).value)


def test_the_notebook_takes_every_choice_of_a_run():
    """Its cell shows some; a parameter file may give any other."""
    known = notebook_parameters(ROOT / "notebooks/07_distil.ipynb")
    assert issubclass(known, DistilArguments)
    shown = {**asdict(known()), "run_folder": "runs/07_distil"}  # it runs in its own folder
    assert shown == asdict(DistilArguments())


def test_no_steps_are_a_count_too():
    assert DistilArguments(steps=0).count_steps(100) == 0
    assert DistilArguments(steps=None, epochs=1.5, batch_size=32).count_steps(100) == 5
