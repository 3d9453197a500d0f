"""Checks of the exercises of chapter 10."""

import time
from collections import Counter, defaultdict

import numpy as np
from seqeval.metrics import f1_score

from minialbert.lab import exercises


@exercises.check("count entities")
def check_entity_f1(answer):
    def said(there, found):
        return f"{' '.join(found)} against {' '.join(there)}"

    cases = {("BIO", "BIO"): 1.0, ("BIOB", "BOOB"): 0.5, ("BBO", "BIO"): 0.0, ("OO", "OO"): 0.0}
    for (there, found), wanted in cases.items():
        got = float(answer([list(there)], [list(found)]))
        assert np.isclose(got, wanted), f"{said(there, found)} gives {got:.2f}, not {wanted:.2f}"
    draw = np.random.default_rng(0)
    there, found = ([list(row) for row in _tags(draw)] for _ in range(2))
    got, wanted = float(answer(there, found)), f1_score(there, found)
    assert np.isclose(got, wanted), (
        f"200 sentences give {got:.3f}, not {wanted:.3f}: sum over all sentences before dividing, "
        "and take entities of two sentences for different ones"
    )


def _tags(draw, sentences=200):
    """Rows of tags in which an I always follows a B or an I."""
    rows = ["".join(draw.choice(["O", "B", "BI", "BII"], size=4)) for _ in range(sentences)]
    return [row[:5].ljust(5, "O") for row in rows]


ENDINGS = ["azepam", "olol", "mycin", "icillin", "statin", "ine"]
SYLLABLES = "ba co di fe gu la me no pi ra su ti vo zy".split()
PATTERNS = [
    "{word} fell after {drug} was given",
    "{drug} and {drug} reduced the {word} of rats",
    "the {word} rose with {drug} acid",
    "patients with {word} and {word} improved",
    "{drug} acid had no effect on {word}",
]


def toy_sentences(seed, count, drugs, words):
    """Sentences of made-up drugs and words: [(words, tags)]."""
    draw = np.random.default_rng(seed)
    rows = []
    for pattern in draw.choice(PATTERNS, count):
        names, tags = [], []
        for part in pattern.split():
            is_drug = part == "{drug}"
            pool = drugs if is_drug else words
            names.append(str(draw.choice(pool)) if "{" in part else part)
            follows = part == "acid" and tags[-1] == "B"
            tags.append("B" if is_drug else "I" if follows else "O")
        rows.append((names, tags))
    return rows


def toy_task(seed=0):
    """Training and test sentences; half of the drugs of the test sentences are new."""
    draw = np.random.default_rng(seed)

    def stems(count):
        return ["".join(draw.choice(SYLLABLES, draw.integers(1, 3))) for _ in range(count)]

    drugs = [stem + str(draw.choice(ENDINGS)) for stem in stems(120)]
    words = stems(40) + [stem + str(draw.choice(["ine", "ol", "tin", "in"])) for stem in stems(40)]
    train = toy_sentences(seed + 1, 120, drugs[:60], words[:60])
    return train, toy_sentences(seed + 2, 300, drugs[30:], words[20:])


def dictionary(train, sentences):
    """Each word gets the tag that it has most often in training, O if it was never there."""
    seen = defaultdict(Counter)
    for words, tags in train:
        for word, tag in zip(words, tags, strict=True):
            seen[word][tag] += 1
    usual = {word: tags.most_common(1)[0][0] for word, tags in seen.items()}
    return [[usual.get(word, "O") for word in words] for words in sentences]


def list_scores(answer) -> dict:
    """Entity F1 of a tagger on the toy task's test sentences, and of the dictionary."""
    train, test = toy_task()
    sentences, there = [words for words, _ in test], [tags for _, tags in test]
    began = time.perf_counter()
    found = [list(tags) for tags in answer(train, sentences)]
    seconds = time.perf_counter() - began
    assert [*map(len, found)] == [*map(len, there)], "return one tag for each word of each sentence"
    assert seconds < 2, f"{seconds:.1f} seconds; the budget is two"
    listed = f1_score(there, dictionary(train, sentences))
    return {"yours": float(f1_score(there, found)), "the dictionary": float(listed)}


@exercises.check("beat the list")
def check_tag_words(answer):
    scores = list_scores(answer)
    said = "entity F1: " + ", ".join(f"{name} {score:.3f}" for name, score in scores.items())
    assert scores["yours"] > scores["the dictionary"] + 0.02, f"{said}: get 0.02 above it"
    return said
