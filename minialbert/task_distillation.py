"""Task distillation: while a student is fine-tuned, it also learns from its tuned teacher.

TinyBERT's second stage (Jiao et al., 2020, section 3.2), its two steps taken as one.
"""

import torch
import transformers
from torch import nn
from torch.nn import functional as F
from transformers.utils import ModelOutput

from .adapters import FinetuningError
from .losses import output_loss
from .objective import alignment_losses, default_layer_map


def logits_loss(student, teacher, labels, kind="classification", temperature=1.0):
    """How far a student's answers are from its tuned teacher's (TinyBERT, equation 10).

    Args:
        student, teacher: logits (B, C); of a tagger (B, T, C); of a regression (B, 1).
        labels: as the task's; a tagger's are -100 where nothing is asked.
        kind: "regression" gives the squared error; else KL(teacher || student) at a temperature.
    """
    if kind == "regression":
        return F.mse_loss(student.float(), teacher.float())
    return output_loss(student, teacher, labels, temperature)


class TaughtModel(nn.Module):
    """A model in fine-tuning and its tuned teacher, as a module that a trainer can train.

    L = (1 - share) L_task + share L_logits + alignment (L_attention + L_hidden)

    The last two are equations 7 and 8, summed over iterations, a row's KL.

    Args:
        student, teacher: models of one task with equal labels; the teacher is frozen, in eval mode.
        share, alignment: the weights; `alignment` 0 leaves states and maps alone.

    Raises:
        FinetuningError: for a share outside 0..1, or labels or sizes that differ.
    """

    def __init__(self, student, teacher, kind, share=0.5, alignment=0.0, temperature=1.0):
        super().__init__()
        self.student = student
        self._not_trained = (teacher.eval().requires_grad_(False),)  # a tuple hides it from torch
        self.kind, self.temperature = kind, temperature
        self.share, self.alignment = share, alignment
        ours, theirs = student.config, teacher.config
        if not 0 <= share <= 1:
            raise FinetuningError(f"taught_share={share}: use 0 to 1.")
        if ours.id2label != theirs.id2label:
            raise FinetuningError(
                f"the teacher answers {list(theirs.id2label.values())}, the task asks for "
                f"{list(ours.id2label.values())}: give a teacher tuned on this task."
            )
        self.layer_map = None
        if alignment:
            sizes = [(one.hidden_size, one.num_attention_heads) for one in (ours, theirs)]
            if sizes[0] != sizes[1]:
                raise FinetuningError(f"states and maps need equal sizes and heads, not {sizes}.")
            self.layer_map = default_layer_map(ours.num_hidden_layers, theirs.num_hidden_layers)
            teacher.set_attn_implementation("eager")  # the only one that returns maps

    def forward(self, labels, **inputs):
        """`loss`, and its `terms` by name, detached, unweighted."""
        (teacher,) = self._not_trained
        teacher.to(labels.device)
        aligned = bool(self.alignment)
        wanted = {"output_hidden_states": aligned, "output_attentions": aligned}
        ours = self.student(labels=labels, **inputs, **wanted)
        with torch.no_grad():
            theirs = teacher(**inputs, **wanted)
        answers = logits_loss(ours.logits, theirs.logits, labels, self.kind, self.temperature)
        terms = {"task": ours.loss, "logits": answers}
        loss = (1 - self.share) * ours.loss + self.share * answers
        if aligned:
            mask = inputs.get("attention_mask")
            attention, hidden = alignment_losses(ours, theirs, self.layer_map, mask, "row")
            terms |= {"attention": sum(attention), "hidden": sum(hidden)}
            loss = loss + self.alignment * (terms["attention"] + terms["hidden"])
        return ModelOutput(loss=loss, terms={name: term.detach() for name, term in terms.items()})


def load_tuned(folder):
    """A tuned teacher from the folder that `finetune` saved it to, whatever its kind of task."""
    config = transformers.AutoConfig.from_pretrained(folder)
    is_tagger = config.architectures[0].endswith("ForTokenClassification")
    auto = transformers.AutoModelForSequenceClassification
    if is_tagger:
        auto = transformers.AutoModelForTokenClassification
    return auto.from_pretrained(folder)
