"""Text to windows to masked batches (paper, appendix A). Knows nothing of models.

    articles --build_windows--> windows --MaskedWindows--> items --MaskingCollator--> batches

A window is `[CLS] word pieces [SEP]`. Which windows of an article are drawn depends on (seed, its
text), and which tokens are masked on (seed, epoch, example). Nothing depends on the batch, the
process or a global random state, so a run can be repeated, resumed or shared by processes.
"""

import zlib
from functools import lru_cache

import numpy as np
import torch
from datasets import Features, List, Value
from filelock import FileLock

from . import sources


class CorpusError(ValueError):
    """Text, windows or masking that cannot work; the message says what to change."""


def build_windows(
    dataset,
    tokenizer,
    *,
    window=256,
    overlap=128,
    max_windows=10,
    seed=42,
    text_column="text",
    num_proc=None,
    keep_tails=False,
):
    """Cut every article into windows, one every window - 2 - overlap word pieces.

    `datasets` keeps the result beside the dataset's own files and finds it there the next time.

    Args:
        dataset: `datasets.Dataset`, an article a row. Empty or missing texts are skipped.
        window: tokens, [CLS] and [SEP] included. overlap: word pieces that neighbours share.
        max_windows: of one article, drawn at random and kept in order. None: all.
        seed: of that draw, which depends on nothing else but the article's text.
        keep_tails: keep an article's last, shorter window too, as the authors' code does.

    Returns a `datasets.Dataset`: `input_ids` (at most `window` ints), `article` (its row in
    `dataset`), `start` (in word pieces of the article). CorpusError: for no text, a size or a
    tokenizer that cannot work, or no article long enough.
    """
    if text_column not in dataset.column_names:
        raise CorpusError(f"no column {text_column!r}: there are {dataset.column_names}")
    if None in (tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.mask_token_id):
        raise CorpusError("the tokenizer needs [CLS], [SEP] and [MASK]: take BERT's")
    most = tokenizer.model_max_length
    if not (3 <= window <= most and 0 <= overlap <= window - 3):
        raise CorpusError(f"{window=}: use 3 to {most}; {overlap=}: use 0 to window - 3")

    integer = Value("int64")
    with FileLock(sources.cache_dir() / "windows.lock"):  # of several processes one cuts
        windows = dataset.with_format(None).map(
            _cutter(tokenizer, window, overlap, max_windows, seed, keep_tails),
            with_indices=True,
            batched=True,
            input_columns=[text_column],
            remove_columns=dataset.column_names,
            features=Features(input_ids=List(Value("int32")), article=integer, start=integer),
            num_proc=num_proc,
            desc="Cutting articles into windows",
        )
    if not len(windows):
        raise CorpusError(
            f"every article is empty or shorter than a window of {window} tokens: "
            "use a smaller window, keep_tails=True, or the text_column that has the text"
        )
    return windows


def _cutter(tokenizer, window, overlap, max_windows, seed, keep_tails):
    """What cuts articles: a function made here, since `datasets` knows such a one by its code."""

    def cut(texts, rows):
        found = {"input_ids": [], "article": [], "start": []}
        for text, row in zip(texts, rows, strict=True):
            windows = tokenizer(
                text or "",
                truncation=True,
                max_length=window,
                stride=overlap,
                return_overflowing_tokens=True,
                padding=False,  # a tokenizer may have been saved with padding
            )["input_ids"]
            shortest = 3 if keep_tails else window
            kept = [n for n, ids in enumerate(windows) if len(ids) >= shortest]
            if max_windows is not None and len(kept) > max_windows:
                rng = np.random.default_rng([seed, zlib.crc32(text.encode())])
                kept = sorted(rng.choice(kept, max_windows, replace=False).tolist())
            found["input_ids"] += [windows[n] for n in kept]
            found["article"] += [row] * len(kept)
            found["start"] += [n * (window - 2 - overlap) for n in kept]
        return found

    return cut


def mask_tokens(input_ids, tokenizer, *, seed, epoch, examples, probability=0.15, share=1.0):
    """Masked input and labels, a pure function of (seed, epoch, example) for each row.

    Each token that is not special is chosen with `probability`; of the chosen 80 % become [MASK],
    10 % a random token that is not special, 10 % stay (appendix A, as BERT does).

    Args:
        input_ids: (B, T) ints, padded on either side; left as they are. examples: (B,) ints.
        epoch: int, or (B,) for a batch that lies across two epochs.
        share: of the examples, drawn anew each epoch, that are masked at all (the paper: 1).

    Returns (masked, labels), both (B, T) int64 arrays; labels are -100 where nothing was chosen.
    """
    ids = np.asarray(input_ids, dtype=np.int64)
    special = tokenizer.all_special_ids
    ordinary = ~np.isin(ids, special)
    vocabulary = np.setdiff1d(np.arange(len(tokenizer)), special)
    masked, labels = ids.copy(), np.full_like(ids, -100)
    epochs = np.broadcast_to(epoch, len(ids))
    for row, key in enumerate(zip(epochs, examples, strict=True)):
        rng = np.random.default_rng([seed, *key])
        if rng.random() >= share:
            continue
        # Three numbers for each token in turn and none for padding, which so changes nothing.
        places = np.flatnonzero(ordinary[row])
        dice = rng.random((len(places), 3))
        chosen = dice[:, 0] < probability
        places, action, which = places[chosen], dice[chosen, 1], dice[chosen, 2]
        labels[row, places] = ids[row, places]
        masked[row, places[action < 0.8]] = tokenizer.mask_token_id
        replaced = action >= 0.9
        random = (which[replaced] * len(vocabulary)).astype(int)
        masked[row, places[replaced]] = vocabulary[random]
    return masked, labels


class MaskingCollator:
    """Items dict(input_ids, example, epoch) to a batch, padded to the longest and masked.

    Called, it gives dict(input_ids, attention_mask, token_type_ids, labels), all (B, T) int64.
    Arguments as in `mask_tokens`; CorpusError for a probability or share out of range.
    """

    def __init__(self, tokenizer, seed=42, probability=0.15, share=1.0):
        if not (0 <= probability <= 1 and 0 <= share <= 1):
            raise CorpusError(f"{probability=} and {share=}: use 0 to 1")
        self.tokenizer = tokenizer
        self.masking = {"seed": seed, "probability": probability, "share": share}

    def __call__(self, items):
        texts = {"input_ids": [item["input_ids"] for item in items]}
        batch = self.tokenizer.pad(texts, return_tensors="np")
        batch["input_ids"], batch["labels"] = mask_tokens(
            batch["input_ids"],
            self.tokenizer,
            epoch=[item["epoch"] for item in items],
            examples=[item["example"] for item in items],
            **self.masking,
        )
        batch["token_type_ids"] = np.zeros_like(batch["input_ids"])
        return {name: torch.from_numpy(array) for name, array in batch.items()}


class MaskedWindows(torch.utils.data.Dataset):
    """Windows unrolled over epochs: item n is example order(seed, epoch)[n % N] of epoch n // N.

    Read it in order, without another shuffle: batch n of a run is then the same after a resume and
    with any number of workers. Items are dict(input_ids, example, epoch), for `collate`.

    Args:
        windows: `datasets.Dataset` with N rows of `input_ids`.
        seed: of the order and the masks. shuffle: False for an evaluation set: rows in order.
        epochs: how often each window comes, with another mask each time.
        masking: probability and share of `collate`, a `MaskingCollator`, which raises CorpusError;
            probability 0: text as it is, all labels -100.
    """

    def __init__(self, windows, tokenizer, *, seed=42, epochs=1, shuffle=True, **masking):
        self.windows = windows.select_columns(["input_ids"]).with_format(None)
        self.seed, self.epochs, self.shuffle = seed, epochs, shuffle
        self.collate = MaskingCollator(tokenizer, seed, **masking)

    def __len__(self):
        return self.epochs * len(self.windows)

    def __getitem__(self, number):
        return self.__getitems__([number])[0]

    def __getitems__(self, numbers):
        """Many items in one read; the DataLoader calls this."""
        if not all(0 <= number < len(self) for number in numbers):
            raise IndexError(f"items run from 0 to {len(self) - 1}")
        count = len(self.windows)
        picks = [divmod(number, count) for number in numbers]
        if self.shuffle:
            picks = [(epoch, int(_order(self.seed, epoch, count)[n])) for epoch, n in picks]
        rows = self.windows[[example for _, example in picks]]["input_ids"]
        return [
            {"input_ids": ids, "example": example, "epoch": epoch}
            for ids, (epoch, example) in zip(rows, picks, strict=True)
        ]


@lru_cache(maxsize=2)  # two, for batches that lie across two epochs
def _order(seed, epoch, count):
    return np.random.default_rng([seed, epoch]).permutation(count)
