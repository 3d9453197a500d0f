"""Text to windows to masked batches (paper, appendix A). Knows nothing of models.

    articles --build_windows / stream_windows--> windows --MaskedWindows--> items --MaskingCollator--> batches

A window is `[CLS] word pieces [SEP]`. Which windows of an article are drawn depends on (seed, its text) and
which tokens are masked on (seed, epoch, example); nothing depends on the batch, the process or a global
random state, so a run can be repeated, resumed or spread over processes without a change.
"""

import hashlib
import json
import logging
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from datasets.distributed import split_dataset_by_node
from filelock import FileLock

from . import sources

logger = logging.getLogger(__name__)
FORMAT = 1  # count up when the same arguments come to mean other windows: old cache files are then left alone
FEATURES = datasets.Features(
    {
        "input_ids": datasets.List(datasets.Value("int32")),
        "article": datasets.Value("int64"),
        "start": datasets.Value("int64"),
    }
)


class CorpusError(ValueError):
    """Text, windows or masking that cannot work; the message says what to change."""


def window_starts(length, window=256, overlap=128, keep_tails=False):
    """Where the windows of an article of `length` word pieces begin: every window - 2 - overlap of them.

    `window` counts [CLS] and [SEP]; `overlap` is what neighbours share, in word pieces. With `keep_tails` a
    last, shorter window follows where the full ones do not reach the end of the text.
    """
    body = window - 2
    step = body - overlap
    full = max(0, (length - body) // step + 1)
    covered = (full - 1) * step + body if full else 0
    return np.arange(full + (keep_tails and covered < length)) * step


def build_windows(
    dataset,
    tokenizer,
    *,
    window=256,
    overlap=128,
    max_windows=10,
    seed=42,
    num_proc=None,
    text_column="text",
    keep_tails=False,
    cache_dir=None,
    batch_size=200,
):
    """Cut every article into overlapping windows, kept on disk (Arrow, memory-mapped) and never made twice.

    Args:
        dataset: `datasets.Dataset`, an article a row. Empty or missing texts are skipped, with a log line.
        tokenizer: a fast one with [CLS], [SEP], [MASK] and [PAD].
        window, overlap, keep_tails: as in `window_starts`. The paper: 256 and 128, so every 126 word pieces;
            its code keeps tails.
        max_windows: of one article, drawn without replacement and kept in order (the paper: 10). None: all.
        seed: of that draw, which depends on nothing else but the article's text.
        num_proc: processes. None: this one only, in which the tokenizer uses all cores by itself.
        cache_dir: folder of the Arrow files. None: `windows` in the cache of `minialbert.sources`.
        batch_size: articles tokenised at a time; matters for speed and memory only.

    Returns:
        `datasets.Dataset`: `input_ids` (at most `window` ints), `article` (its row in `dataset`), `start` (in
        word pieces of the article).

    Raises:
        CorpusError: for a text, size or tokenizer that cannot work, or if no article is as long as a window.
    """
    cutter = _Cutter(tokenizer, window, overlap, max_windows, seed, keep_tails)
    _check_dataset(dataset, text_column)
    texts = dataset.select_columns([text_column]).with_format(None)
    key = cutter.key(dataset._fingerprint, text_column)
    folder = Path(cache_dir) if cache_dir else sources.cache_dir() / "windows"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(
        folder / f"windows-{key}.lock"
    ):  # of several processes one builds, the others read
        windows = texts.map(
            cutter.table,
            with_indices=True,
            input_columns=[text_column],
            batched=True,
            batch_size=batch_size,
            num_proc=num_proc and min(num_proc, len(texts)),
            cache_file_name=str(folder / f"windows-{key}.arrow"),
            load_from_cache_file=True,
            new_fingerprint=key,
            features=FEATURES,
            desc="Cutting articles into windows",
        )
    if not len(windows):
        batches = (texts[i : i + batch_size][text_column] for i in range(0, len(texts), batch_size))
        raise _no_windows(
            max(len(pieces) for batch in batches for pieces in cutter.pieces(batch)), window
        )
    empty = sum(
        pc.sum(pc.equal(pc.fill_null(pc.binary_length(batch[text_column]), 0), 0)).as_py()
        for batch in texts.with_format("arrow").iter(10_000)
    )
    logger.log(
        logging.WARNING if empty else logging.INFO,
        "%d windows of %d articles; %d empty articles skipped",
        len(windows),
        len(texts),
        empty,
    )
    return windows


def stream_windows(
    dataset,
    tokenizer,
    *,
    window=256,
    overlap=128,
    max_windows=10,
    seed=42,
    text_column="text",
    keep_tails=False,
    rank=0,
    world_size=1,
):
    """The windows of `build_windows`, cut while they are read: for a corpus too large to keep.

    Args:
        dataset: `datasets.IterableDataset` (or `Dataset`), an article a row. The rest as in `build_windows`.
        rank, world_size: this process and their number; each article goes to exactly one of them.

    Returns:
        `StreamedWindows`, which raises CorpusError for bad text when it comes to it.
    """
    cutter = _Cutter(tokenizer, window, overlap, max_windows, seed, keep_tails)
    if isinstance(dataset, datasets.Dataset):
        _check_dataset(dataset, text_column)
        dataset = dataset.to_iterable_dataset()
    share = split_dataset_by_node(dataset, rank, world_size)
    return StreamedWindows(share, cutter, text_column, alone=world_size == 1)


class StreamedWindows(torch.utils.data.IterableDataset):
    """Items ready for `MaskingCollator`: dict(input_ids, article, start, example, epoch).

    `article` counts what this process (or worker) has read. `example` is a hash of the article's text and the
    start: a window's mask does not depend on where it is read. `skipped` counts the empty articles.
    """

    def __init__(self, articles, cutter, text_column, alone):
        self.articles, self.cutter, self.text_column, self.alone = (
            articles,
            cutter,
            text_column,
            alone,
        )
        self.epoch = self.skipped = 0

    def set_epoch(self, epoch):
        """Other masks, and another order where the stream shuffles; the library's Trainer calls this."""
        self.epoch = epoch
        self.articles.set_epoch(epoch)

    def __iter__(self):
        texts, seen, longest, found, self.skipped = self._texts(), 0, 0, False, 0
        while batch := list(islice(texts, 32)):
            pieces = self.cutter.pieces(batch)
            longest = max(longest, *map(len, pieces))
            self.skipped += sum(not text for text in batch)
            for place, start, ids in self.cutter.cut(batch, pieces):
                found = True
                yield {
                    "input_ids": ids,
                    "article": seen + place,
                    "start": start,
                    "epoch": self.epoch,
                    "example": (_text_key(batch[place]) + start) % 2**63,
                }
            seen += len(batch)
        # One of several readers may rightly find nothing in its share.
        if not found and self.alone and torch.utils.data.get_worker_info() is None:
            raise _no_windows(longest, self.cutter.window) if seen else _empty()

    def _texts(self):
        for article in self.articles:
            if self.text_column not in article:
                raise _no_column(self.text_column, article)
            yield article[self.text_column]


@dataclass(frozen=True)
class _Cutter:
    """How articles become windows, shared by the built and the streamed form."""

    tokenizer: object
    window: int
    overlap: int
    max_windows: int | None
    seed: int
    keep_tails: bool

    def __post_init__(self):
        _check_tokenizer(self.tokenizer)
        limit = self.tokenizer.model_max_length
        limit = limit if limit < 10**6 else 512  # 1e30 stands for: not set
        if not 8 <= self.window <= limit:
            raise CorpusError(
                f"window={self.window} tokens, [CLS] and [SEP] included: use 8 to {limit}, the "
                "longest input of this tokenizer's model"
            )
        if not 0 <= self.overlap < self.window - 2:
            raise CorpusError(
                f"overlap={self.overlap} leaves no step between windows of {self.window - 2} "
                f"word pieces: use 0 to {self.window - 3}, as a rule half of the window"
            )
        if self.max_windows is not None and self.max_windows < 1:
            raise CorpusError(
                f"max_windows={self.max_windows}: use 1 or more, or None for all windows"
            )

    def pieces(self, texts):
        """Word pieces of each text, without special tokens, however long; none for an empty text or None."""
        for text in texts:
            if not isinstance(text, str | None):
                raise CorpusError(
                    f"an article is {type(text).__name__}, not text: {str(text)[:40]!r}; "
                    "set text_column to a column of strings"
                )
        # Truncation and padding have to be refused: the lab's teacher was saved with both set to 128.
        return self.tokenizer(
            [text or "" for text in texts],
            add_special_tokens=False,
            truncation=False,
            padding=False,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )["input_ids"]

    def cut(self, texts, pieces):
        """Yields (place in texts, start, token ids) of the windows drawn from each text."""
        body, cls, sep = (
            self.window - 2,
            [self.tokenizer.cls_token_id],
            [self.tokenizer.sep_token_id],
        )
        for place, (text, article) in enumerate(zip(texts, pieces)):
            starts = window_starts(len(article), self.window, self.overlap, self.keep_tails)
            if self.max_windows is not None and len(starts) > self.max_windows:
                lots = _uniform(self.seed, _text_key(text), np.arange(len(starts)))
                starts = starts[np.sort(np.argsort(lots)[: self.max_windows])]
            for start in starts.tolist():
                yield (
                    place,
                    start,
                    np.array(cls + article[start : start + body] + sep, dtype=np.int32),
                )

    def table(self, texts, articles):
        """The windows of a batch of articles as an Arrow table, for `datasets.Dataset.map`."""
        cut = list(self.cut(texts, self.pieces(texts)))
        ids = [ids for _, _, ids in cut]
        ends = pa.array(np.cumsum([0, *map(len, ids)], dtype=np.int32))
        values = pa.array(np.concatenate([np.empty(0, np.int32), *ids]))
        return pa.table(
            {
                "input_ids": pa.ListArray.from_arrays(ends, values),
                "article": pa.array([articles[place] for place, _, _ in cut], pa.int64()),
                "start": pa.array([start for _, start, _ in cut], pa.int64()),
            }
        )

    def key(self, *of_text):
        """Name of this cut of that text, the same in every process."""
        tokenizer = json.loads(self.tokenizer.backend_tokenizer.to_str())
        del (
            tokenizer["padding"],
            tokenizer["truncation"],
        )  # any call may change them; neither matters here
        parts = [
            FORMAT,
            *of_text,
            self.window,
            self.overlap,
            self.max_windows,
            self.seed,
            self.keep_tails,
            self.tokenizer.cls_token_id,
            self.tokenizer.sep_token_id,
            tokenizer,
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _uniform(*counters):
    """Numbers in [0, 1) out of integers alone (arrays are broadcast): the splitmix64 generator as a hash.

    Its n-th number is a mix of (state + n * constant), reached in one step. Each counter picks the number
    that is the next counter's state: (seed, epoch, example, position) has its own, whatever stands beside it.
    """
    state = np.zeros(1, np.uint64)
    for counter in counters:
        state = state + (np.atleast_1d(counter).astype(np.uint64) + 1) * 0x9E3779B97F4A7C15
        state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9
        state = (state ^ (state >> 27)) * 0x94D049BB133111EB
        state = state ^ (state >> 31)
    return (state >> 11) * 2.0**-53


def mask_tokens(
    input_ids,
    *,
    seed,
    epoch,
    examples,
    mask_token_id,
    vocab_size,
    special_ids,
    probability=0.15,
    share=1.0,
):
    """Masked input and labels, a pure function of (seed, epoch, example): of nothing else in the batch.

    Each token that is not special is chosen with `probability`; of the chosen 80 % become [MASK], 10 % a
    random token that is not special, 10 % stay (appendix A, as BERT does).

    Args:
        input_ids: (B, T) int64, NumPy or torch on the CPU, padded on either side; left as it is.
        epoch: int, or (B,) for a batch that lies across two epochs.
        examples: (B,) ints, which example each row is.
        vocab_size: ids run from 0 to vocab_size - 1.
        special_ids: ids that are never chosen and never put in, padding among them.
        share: of the examples, drawn anew each epoch, that are masked at all; the paper masks every one.

    Returns:
        (masked, labels), both (B, T) int64 of the kind that came in; labels -100 where nothing was chosen.
    """
    ids = np.asarray(input_ids).astype(np.int64)
    special_ids = sorted(set(special_ids))
    ordinary = ~np.isin(ids, special_ids)
    place = 3 * np.cumsum(
        ordinary, axis=1
    )  # padding is not counted, so it moves nothing, on either side
    row = seed, np.asarray(epoch).reshape(-1, 1), np.asarray(examples).reshape(-1, 1)
    chosen = ordinary & (_uniform(*row, place) < probability) & (_uniform(*row, 0) < share)
    action = _uniform(*row, place + 1)
    random = _uniform(*row, place + 2) * (
        vocab_size - sum(0 <= i < vocab_size for i in special_ids)
    )
    random = random.astype(np.int64)
    for special in special_ids:  # from "the n-th token that is not special" to its id
        random += random >= special
    masked = np.where(chosen & (action >= 0.9), random, ids)
    masked = np.where(chosen & (action < 0.8), mask_token_id, masked)
    labels = np.where(chosen, ids, -100)
    if torch.is_tensor(input_ids):
        return torch.from_numpy(masked), torch.from_numpy(labels)
    return masked, labels


class MaskedWindows(torch.utils.data.Dataset):
    """Windows unrolled over epochs: item n is example permutation(seed, epoch)[n % N] of epoch n // N.

    Read it in order, without another shuffle: batch n of a run is then the same after a resume and with any
    number of workers. Items are dict(input_ids, example, epoch), for a `MaskingCollator`.

    Args:
        windows: `datasets.Dataset` with N rows of `input_ids`.
        tokenizer: of the collator kept as `collate`.
        seed: of order and masks.
        epochs: how often each window comes, with another mask each time.
        probability: of masking a token. 0: text as it is, all labels -100.
        share: of the windows that are masked at all.
        shuffle: False for an evaluation set: rows in order.

    Raises:
        CorpusError: for no windows, or an argument out of range.
    """

    def __init__(
        self, windows, tokenizer, *, seed=42, epochs=1, probability=0.15, share=1.0, shuffle=True
    ):
        if "input_ids" not in windows.column_names:
            raise CorpusError(
                f"no column input_ids among {windows.column_names}: use build_windows first"
            )
        if not len(windows):
            raise _empty()
        if epochs < 1 or epochs != int(epochs):
            raise CorpusError(f"epochs={epochs}: use a whole number, 1 or more")
        self.windows = windows.select_columns(["input_ids"]).with_format("arrow")
        self.seed, self.epochs, self.shuffle = seed, int(epochs), shuffle
        self.collate = MaskingCollator(tokenizer, seed, probability, share)
        self._orders = {}

    def __len__(self):
        return self.epochs * len(self.windows)

    def __getitem__(self, number):
        return self.__getitems__([number])[0]

    def __getitems__(self, numbers):
        """Many items in one read of the Arrow file; the DataLoader calls this."""
        if not all(0 <= number < len(self) for number in numbers):
            raise IndexError(f"items run from 0 to {len(self) - 1}")
        picks = [divmod(int(number), len(self.windows)) for number in numbers]
        picks = [(epoch, int(self._order(epoch)[place])) for epoch, place in picks]
        column = self.windows[[example for _, example in picks]]["input_ids"].combine_chunks()
        rows = np.split(column.flatten().to_numpy(), np.cumsum(column.value_lengths())[:-1])
        return [
            {"input_ids": row, "example": example, "epoch": epoch}
            for row, (epoch, example) in zip(rows, picks)
        ]

    def _order(self, epoch):
        if not self.shuffle:
            return range(len(self.windows))
        if epoch not in self._orders:  # the one before is kept, for batches across two epochs
            order = np.random.default_rng([self.seed, epoch]).permutation(len(self.windows))
            self._orders = {e: kept for e, kept in self._orders.items() if e == epoch - 1} | {
                epoch: order
            }
        return self._orders[epoch]


class MaskingCollator:
    """Items dict(input_ids, example, epoch) to a padded, masked batch.

    Called, it gives dict(input_ids, attention_mask, token_type_ids, labels), all (B, T) int64, T the longest
    item's length or the next multiple of `pad_to_multiple_of`. Ids and padding side are the tokenizer's.
    """

    def __init__(self, tokenizer, seed=42, probability=0.15, share=1.0, pad_to_multiple_of=1):
        _check_tokenizer(tokenizer)
        if seed < 0:
            raise CorpusError(f"seed={seed}: use 0 or more")
        if not 0 <= probability <= 1:
            raise CorpusError(
                f"probability={probability} of masking a token: use 0 to 1 (the paper: 0.15)"
            )
        if not 0 <= share <= 1:
            raise CorpusError(
                f"share={share} of the windows that are masked: use 0 to 1 (the paper: 1)"
            )
        self.pad_id, self.on_left = tokenizer.pad_token_id, tokenizer.padding_side == "left"
        self.multiple = pad_to_multiple_of
        self.masking = dict(
            seed=seed,
            probability=probability,
            share=share,
            mask_token_id=tokenizer.mask_token_id,
            vocab_size=len(tokenizer),
            special_ids=tokenizer.all_special_ids,
        )

    def __call__(self, items):
        lengths = [len(item["input_ids"]) for item in items]
        width = -(-max(lengths) // self.multiple) * self.multiple
        ids = np.full((len(items), width), self.pad_id, dtype=np.int64)
        attention = np.zeros_like(ids)
        for row, (item, length) in enumerate(zip(items, lengths)):
            where = slice(width - length, width) if self.on_left else slice(length)
            ids[row, where], attention[row, where] = item["input_ids"], 1
        masked, labels = mask_tokens(
            ids,
            epoch=[item["epoch"] for item in items],
            examples=[item["example"] for item in items],
            **self.masking,
        )
        arrays = dict(
            input_ids=masked,
            attention_mask=attention,
            token_type_ids=np.zeros_like(ids),
            labels=labels,
        )
        return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _text_key(text):
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())


def _check_tokenizer(tokenizer):
    missing = [
        name
        for name in ("cls_token", "sep_token", "mask_token", "pad_token")
        if getattr(tokenizer, f"{name}_id", None) is None
    ]
    if missing:
        raise CorpusError(
            f"the tokenizer has no {', '.join(missing)}: take that of a masked language model, "
            "such as BERT's, or set these tokens on it"
        )
    if not getattr(tokenizer, "is_fast", False):
        raise CorpusError("a fast tokenizer is needed: load it with AutoTokenizer.from_pretrained")


def _check_dataset(dataset, text_column):
    if isinstance(dataset, dict):
        raise CorpusError(
            f"the dataset has splits {list(dataset)}: pass one, as in "
            f"dataset[{next(iter(dataset))!r}]"
        )
    if not isinstance(dataset, datasets.Dataset):
        raise CorpusError(
            f"{type(dataset).__name__} is not a datasets.Dataset: use stream_windows for a "
            "stream, datasets.Dataset.from_dict({'text': [...]}) for texts in memory"
        )
    if not len(dataset):
        raise _empty()
    if text_column not in dataset.column_names:
        raise _no_column(text_column, dataset.column_names)
    kind = getattr(dataset.features[text_column], "dtype", "lists")
    if kind not in ("string", "large_string", "null"):
        raise CorpusError(
            f"column {text_column!r} holds {kind}, not text: set text_column to a column of "
            f"strings among {dataset.column_names}"
        )


def _empty():
    return CorpusError(
        "the corpus is empty: give at least one row of text (check the split and any filter)"
    )


def _no_column(text_column, columns):
    return CorpusError(f"no column {text_column!r}: set text_column to one of {list(columns)}")


def _no_windows(longest, window):
    if not longest:
        return CorpusError(
            "every article is empty: set text_column to the column that has the text"
        )
    advice = (
        f"use window={longest + 2} or less" if longest >= 6 else "join short texts into articles"
    )
    return CorpusError(
        f"every article is shorter than a window: window={window} needs {window - 2} word "
        f"pieces, the longest article has {longest}; {advice}, or keep_tails=True"
    )
