"""A teacher, a tokenizer and a corpus small enough for tests, as files like real ones."""

import json
import random
from pathlib import Path

import torch
from transformers import AutoTokenizer, BertConfig, BertForMaskedLM, BertModel

TOKENIZER = Path(__file__).parent / "fixtures/tokenizer"
SUBJECTS = "the cat|a dog|the old man|my sister|the river|a small bird|the teacher|our house".split(
    "|"
)
VERBS = "likes|sees|finds|follows|knows|wants|takes|loves".split("|")


def teacher_config(**changes):
    """A BERT of 4 layers and 32 hidden units, its weights large enough for states that differ."""
    size = len(AutoTokenizer.from_pretrained(TOKENIZER))
    return BertConfig(
        **{
            **dict(
                vocab_size=size,
                hidden_size=32,
                num_hidden_layers=4,
                num_attention_heads=4,
                intermediate_size=64,
                max_position_embeddings=64,
                initializer_range=0.2,
            ),
            **changes,
        }
    )


def make_teacher(folder, head=True, **changes):
    """Saves a random teacher with its tokenizer; returns the folder."""
    torch.manual_seed(0)
    (BertForMaskedLM if head else BertModel)(teacher_config(**changes)).save_pretrained(folder)
    AutoTokenizer.from_pretrained(TOKENIZER).save_pretrained(folder)
    return folder


def make_corpus(path, articles=40, sentences=12, seed=0):
    """Writes articles of simple sentences as .jsonl; returns the path."""
    draw = random.Random(seed)
    with open(path, "w", encoding="utf8") as file:
        for _ in range(articles):
            text = " ".join(
                f"{draw.choice(SUBJECTS)} {draw.choice(VERBS)} {draw.choice(SUBJECTS)}."
                for _ in range(sentences)
            )
            file.write(json.dumps({"text": text}) + "\n")
    return path
