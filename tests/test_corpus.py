"""Windows and masks: where they start, that they repeat, and that nothing around them changes them."""

import logging
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from minialbert.corpus import (
    CorpusError,
    MaskedWindows,
    MaskingCollator,
    _uniform,
    build_windows,
    mask_tokens,
    stream_windows,
    window_starts,
)

FIXTURE = Path(__file__).parent / "fixtures" / "tokenizer"
SMALL = dict(window=16, overlap=6)  # 14 word pieces, one every 8


@pytest.fixture
def tokenizer():
    return AutoTokenizer.from_pretrained(FIXTURE)


def articles(tokenizer, lengths, seed=0):
    """Texts of exactly so many word pieces: whole words of the fixture's vocabulary."""
    words = [word for word in sorted(tokenizer.get_vocab()) if word.isalpha() and len(word) > 1]
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(words, length)) for length in lengths]


@pytest.fixture
def corpus(tokenizer):
    lengths = [300, 14, 13, 0, 95, 22, 200, 60, 131, 30, 77]
    titles = [f"{length} words" for length in lengths]
    return datasets.Dataset.from_dict({"text": articles(tokenizer, lengths), "title": titles})


@pytest.fixture
def windows(corpus, tokenizer, tmp_path):
    return build_windows(
        corpus, tokenizer, **SMALL, max_windows=5, keep_tails=True, cache_dir=tmp_path
    )


def rows(windows):
    return [(row["article"], row["start"], list(map(int, row["input_ids"]))) for row in windows]


# ------------------------------------------------------------------------------------------------ windows


def test_the_papers_windows_start_every_126_word_pieces(tokenizer, tmp_path):
    text = articles(tokenizer, [1000])
    made = build_windows(datasets.Dataset.from_dict({"text": text}), tokenizer, cache_dir=tmp_path)
    pieces = tokenizer(text[0], add_special_tokens=False, verbose=False)["input_ids"]
    assert made["start"][:] == [0, 126, 252, 378, 504, 630]
    for row in made:
        cls, *body, sep = row["input_ids"]
        assert (cls, sep) == (tokenizer.cls_token_id, tokenizer.sep_token_id)
        assert body == pieces[row["start"] : row["start"] + 254]
    for one, following in zip(made["input_ids"][:-1], made["input_ids"][1:]):
        assert one[1:-1][-128:] == following[1:-1][:128]


@pytest.mark.parametrize("length", [0, 5, 13, 14, 15, 21, 22, 23, 30, 77])
def test_tails_are_the_librarys_own_overflowing_windows(tokenizer, tmp_path, length):
    text = articles(tokenizer, [length, 14])
    made = build_windows(
        datasets.Dataset.from_dict({"text": text}),
        tokenizer,
        **SMALL,
        keep_tails=True,
        cache_dir=tmp_path,
    )
    theirs = tokenizer(
        text[0], truncation=True, max_length=16, stride=6, return_overflowing_tokens=True
    )
    theirs = theirs["input_ids"] if length else []
    assert [ids for article, _, ids in rows(made) if article == 0] == theirs


def test_without_tails_every_window_is_full():
    assert window_starts(30, 16, 6).tolist() == [0, 8, 16]
    assert window_starts(31, 16, 6).tolist() == [0, 8, 16]
    assert window_starts(31, 16, 6, keep_tails=True).tolist() == [0, 8, 16, 24]
    assert window_starts(13, 16, 6).tolist() == []
    assert window_starts(13, 16, 6, keep_tails=True).tolist() == [0]


def test_at_most_max_windows_drawn_in_order_without_replacement(corpus, tokenizer, tmp_path):
    def starts(**arguments):
        made = build_windows(corpus, tokenizer, **SMALL, cache_dir=tmp_path, **arguments)
        return {
            n: [row["start"] for row in made if row["article"] == n] for n in range(len(corpus))
        }

    whole, drawn = starts(max_windows=None), starts(max_windows=5)
    assert whole[0] == list(range(0, 300 - 13, 8))
    for article in drawn:
        assert len(drawn[article]) == min(5, len(whole[article]))
        assert drawn[article] == sorted(set(drawn[article]) & set(whole[article]))
    assert drawn[0] != whole[0][:5]
    assert drawn[0] != starts(max_windows=5, seed=43)[0]


def test_every_window_is_as_likely_to_be_drawn(tokenizer, tmp_path):
    texts = articles(tokenizer, [14 + 8 * 9] * 600)  # ten windows each
    made = build_windows(
        datasets.Dataset.from_dict({"text": texts}),
        tokenizer,
        **SMALL,
        max_windows=3,
        cache_dir=tmp_path,
    )
    counts = np.bincount(np.array(made["start"][:]) // 8, minlength=10)
    assert counts.sum() == 1800 and np.abs(counts - 180).max() < 5 * np.sqrt(600 * 0.3 * 0.7)


@pytest.mark.parametrize("how", [dict(num_proc=2), dict(batch_size=1), dict(batch_size=1000)])
def test_processes_and_batches_change_nothing(corpus, tokenizer, windows, tmp_path, how):
    folder = tmp_path / "another"
    other = build_windows(
        corpus, tokenizer, **SMALL, max_windows=5, keep_tails=True, cache_dir=folder, **how
    )
    assert len(list(folder.glob("*.arrow"))) == how.get(
        "num_proc", 1
    )  # made anew, by so many processes
    assert rows(other) == rows(windows)


def test_a_second_call_tokenises_nothing(corpus, tokenizer, windows, tmp_path, monkeypatch):
    files = {file["filename"] for file in windows.cache_files}
    assert files == set(map(str, tmp_path.glob("*.arrow")))  # memory-mapped, and nowhere else
    tokenizer(
        "a call that pads and cuts changes a tokenizer's state",
        padding="max_length",
        truncation=True,
    )
    monkeypatch.setattr(
        "minialbert.corpus._Cutter.pieces", lambda *_: pytest.fail("tokenised again")
    )
    for num_proc in (None, 2):
        again = build_windows(
            corpus,
            tokenizer,
            **SMALL,
            max_windows=5,
            keep_tails=True,
            cache_dir=tmp_path,
            num_proc=num_proc,
        )
        assert {file["filename"] for file in again.cache_files} == files and rows(again) == rows(
            windows
        )


@pytest.mark.parametrize(
    "change",
    [
        dict(window=18),
        dict(overlap=7),
        dict(max_windows=4),
        dict(seed=1),
        dict(keep_tails=False),
        dict(text_column="title"),
    ],
)
def test_any_other_argument_makes_other_windows(corpus, tokenizer, windows, tmp_path, change):
    arguments = dict(SMALL, max_windows=5, keep_tails=True, cache_dir=tmp_path) | change
    assert rows(build_windows(corpus, tokenizer, **arguments)) != rows(windows)


def test_another_text_makes_other_windows(corpus, tokenizer, windows, tmp_path):
    other = corpus.select(range(1, len(corpus)))
    arguments = dict(SMALL, max_windows=5, keep_tails=True, cache_dir=tmp_path)
    assert rows(build_windows(other, tokenizer, **arguments)) == [
        (article - 1, start, ids) for article, start, ids in rows(windows) if article > 0
    ]


def test_the_default_folder_is_the_lab_cache(corpus, tokenizer, tmp_path, monkeypatch):
    monkeypatch.setenv("MINIALBERT_CACHE", str(tmp_path))
    made = build_windows(corpus, tokenizer, **SMALL)
    assert {Path(file["filename"]).parent for file in made.cache_files} == {tmp_path / "windows"}


def test_a_tokenizer_saved_with_truncation_and_padding(corpus, windows, tmp_path):
    careless = AutoTokenizer.from_pretrained(FIXTURE)
    careless.backend_tokenizer.enable_truncation(8)
    careless.backend_tokenizer.enable_padding(length=8)
    other = build_windows(
        corpus, careless, **SMALL, max_windows=5, keep_tails=True, cache_dir=tmp_path / "b"
    )
    assert rows(other) == rows(windows)


def test_empty_texts_are_skipped_and_counted(tokenizer, tmp_path, caplog):
    text = articles(tokenizer, [20])[0]
    corpus = datasets.Dataset.from_dict({"text": [None, text, "", text, None]})
    with caplog.at_level(logging.INFO, "minialbert.corpus"):
        made = build_windows(corpus, tokenizer, **SMALL, cache_dir=tmp_path)
    assert made["article"][:] == [1, 3]
    assert caplog.messages == ["2 windows of 5 articles; 3 empty articles skipped"]
    stream = stream_windows(corpus, tokenizer, **SMALL)
    assert [item["article"] for item in stream] == [1, 3] and stream.skipped == 3


# ------------------------------------------------------------------------------------------------- stream


def stream_of(corpus, tokenizer, shards=1, **share):
    return stream_windows(
        corpus.to_iterable_dataset(num_shards=shards),
        tokenizer,
        **SMALL,
        max_windows=5,
        keep_tails=True,
        **share,
    )


def test_a_stream_has_the_same_windows(corpus, tokenizer, tmp_path):
    corpus = datasets.concatenate_datasets([corpus] * 4)  # more than it tokenises at a time
    windows = build_windows(
        corpus, tokenizer, **SMALL, max_windows=5, keep_tails=True, cache_dir=tmp_path
    )
    assert rows(stream_of(corpus, tokenizer)) == rows(windows)
    assert rows(stream_windows(corpus, tokenizer, **SMALL, max_windows=5, keep_tails=True)) == rows(
        windows
    )


def test_a_stream_reads_no_further_than_it_must(tokenizer):
    def endless():
        while True:
            yield {"text": "the quick brown fox jumps . " * 10}

    stream = stream_windows(datasets.IterableDataset.from_generator(endless), tokenizer, **SMALL)
    assert len(next(iter(stream))["input_ids"]) == 16


@pytest.mark.parametrize("shards", [1, 4])
def test_two_ranks_share_the_articles(corpus, tokenizer, windows, shards):
    shares = [
        [row[1:] for row in rows(stream_of(corpus, tokenizer, shards, rank=rank, world_size=2))]
        for rank in (0, 1)
    ]
    assert all(shares) and not {str(row) for row in shares[0]} & {str(row) for row in shares[1]}
    assert sorted(shares[0] + shares[1]) == sorted(row[1:] for row in rows(windows))


def test_a_streams_masks_follow_window_and_epoch_not_the_reader(corpus, tokenizer):
    def labels(epoch, **share):
        stream = stream_of(corpus, tokenizer, **share)
        stream.set_epoch(epoch)
        return [tuple(MaskingCollator(tokenizer)([item])["labels"][0].tolist()) for item in stream]

    alone = labels(0)
    assert sorted(labels(0, rank=0, world_size=2) + labels(0, rank=1, world_size=2)) == sorted(
        alone
    )
    assert labels(1) != alone
    same_text = datasets.Dataset.from_dict({"text": ["the " * 40]})
    examples = [item["example"] for item in stream_of(same_text, tokenizer)]
    assert len(examples) == len(set(examples)) == 5


def test_workers_share_a_stream(corpus, tokenizer, windows):
    stream = stream_of(corpus, tokenizer, shards=2)
    loader = torch.utils.data.DataLoader(stream, batch_size=None, num_workers=2)
    assert sorted(row[1:] for row in rows(loader)) == sorted(row[1:] for row in rows(windows))


# ------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    "columns, arguments, message",
    [
        ({"text": []}, {}, r"corpus is empty: give at least one row"),
        (
            {"body": ["a"], "title": ["b"]},
            {},
            r"no column 'text': set text_column to one of \['body', 'title'\]",
        ),
        ({"text": [1, 2]}, {}, r"column 'text' holds int64, not text: set text_column"),
        ({"text": [["a"], ["b"]]}, {}, r"column 'text' holds .*, not text: set text_column"),
        ({"text": [None, None]}, {}, r"every article is empty: set text_column"),
        (
            {"text": ["the fox", "the brown fox jumps in the river ."]},
            dict(window=16, overlap=6),
            r"window=16 needs 14 word pieces, the longest article has 8; use window=10 or less, or keep_tails=True",
        ),
        (
            {"text": ["the fox"]},
            dict(window=16, overlap=6),
            r"has 2; join short texts .*, or keep_tails=True",
        ),
        ({"text": ["a"]}, dict(window=7, overlap=2), r"window=7 tokens.*use 8 to 512"),
        ({"text": ["a"]}, dict(window=513), r"window=513 tokens.*use 8 to 512"),
        ({"text": ["a"]}, dict(window=16, overlap=14), r"overlap=14 leaves no step.*use 0 to 13"),
        ({"text": ["a"]}, dict(window=16, overlap=-1), r"overlap=-1.*use 0 to 13"),
        ({"text": ["a"]}, dict(max_windows=0), r"max_windows=0: use 1 or more, or None"),
    ],
)
def test_what_cannot_work_says_why_and_what_to_do(tokenizer, tmp_path, columns, arguments, message):
    corpus = datasets.Dataset.from_dict(columns)
    with pytest.raises(CorpusError, match=message):
        build_windows(corpus, tokenizer, cache_dir=tmp_path, **arguments)
    with pytest.raises(CorpusError, match=message):
        list(stream_windows(corpus, tokenizer, **arguments))


@pytest.mark.parametrize(
    "rows_read, message",
    [
        ([{"text": "the fox"}, {"text": 7}], r"an article is int, not text: '7'; set text_column"),
        ([{"body": "the fox"}], r"no column 'text': set text_column to one of \['body'\]"),
    ],
)
def test_a_stream_is_checked_while_it_is_read(tokenizer, rows_read, message):
    stream = datasets.IterableDataset.from_generator(lambda: iter(rows_read))
    with pytest.raises(CorpusError, match=message):
        list(stream_windows(stream, tokenizer, **SMALL))


def test_another_kind_of_dataset(corpus, tokenizer):
    with pytest.raises(
        CorpusError, match=r"has splits \['train'\]: pass one, as in dataset\['train'\]"
    ):
        build_windows(datasets.DatasetDict(train=corpus), tokenizer)
    with pytest.raises(
        CorpusError, match="IterableDataset is not a datasets.Dataset: use stream_windows"
    ):
        build_windows(corpus.to_iterable_dataset(), tokenizer)


def test_a_tokenizer_without_a_mask_or_a_limit(corpus, tokenizer):
    tokenizer.model_max_length = int(1e30)
    with pytest.raises(CorpusError, match="window=600 .* use 8 to 512"):
        build_windows(corpus, tokenizer, window=600)
    tokenizer.mask_token = tokenizer.pad_token = None
    for use in (lambda: build_windows(corpus, tokenizer), lambda: MaskingCollator(tokenizer)):
        with pytest.raises(
            CorpusError, match="has no mask_token, pad_token: .* or set these tokens"
        ):
            use()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(epochs=0), "epochs=0: use a whole number"),
        (dict(epochs=1.5), "epochs=1.5: use a whole number"),
        (dict(probability=1.1), "probability=1.1 .* use 0 to 1"),
        (dict(seed=-1), "seed=-1: use 0 or more"),
        (dict(share=2), "share=2 .* use 0 to 1"),
    ],
)
def test_masking_arguments_out_of_range(windows, tokenizer, arguments, message):
    with pytest.raises(CorpusError, match=message):
        MaskedWindows(windows, tokenizer, **arguments)


def test_masking_what_is_not_windows(corpus, windows, tokenizer):
    with pytest.raises(
        CorpusError, match=r"no column input_ids among \['text', 'title'\]: use build_w"
    ):
        MaskedWindows(corpus, tokenizer)
    with pytest.raises(CorpusError, match="corpus is empty"):
        MaskedWindows(windows.select([]), tokenizer)
    with pytest.raises(IndexError, match=f"0 to {2 * len(windows) - 1}"):
        MaskedWindows(windows, tokenizer, epochs=2)[2 * len(windows)]


# -------------------------------------------------------------------------------------------------- masks

VOCABULARY = dict(mask_token_id=4, vocab_size=402, special_ids=(0, 1, 2, 3, 4))


def test_the_generator_is_splitmix64():
    published = np.array(
        [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F], np.uint64
    )  # state 0
    assert np.array_equal(_uniform(range(3)), (published >> 11) / 2.0**53)
    assert np.array_equal(_uniform(1, [[0], [5]], range(3))[1], _uniform(1, 5, range(3)))


def within(count, total, probability, sigmas=5):
    return abs(count - total * probability) < sigmas * np.sqrt(
        total * probability * (1 - probability)
    )


def test_fifteen_percent_are_chosen_eighty_ten_ten():
    ids = np.random.default_rng(0).integers(0, 402, (2000, 128))
    before = ids.copy()
    masked, labels = mask_tokens(ids, seed=42, epoch=0, examples=np.arange(2000), **VOCABULARY)
    ordinary, chosen = ids > 4, labels != -100
    assert np.array_equal(ids, before) and masked.dtype == labels.dtype == np.int64
    assert not (chosen & ~ordinary).any() and np.array_equal(masked[~chosen], ids[~chosen])
    assert np.array_equal(labels[chosen], ids[chosen])
    assert ordinary.sum() > 200_000 and within(chosen.sum(), ordinary.sum(), 0.15)
    # Every example and every position gets its share, not only the whole.
    z = (chosen.sum(1) - 0.15 * ordinary.sum(1)) / np.sqrt(0.15 * 0.85 * ordinary.sum(1))
    assert np.abs(z).max() < 5 and 0.9 < z.std() < 1.1
    assert all(
        within(chosen[:, column].sum(), ordinary[:, column].sum(), 0.15) for column in range(128)
    )
    total, mask = chosen.sum(), (masked == 4) & chosen
    changed = chosen & ~mask & (masked != ids)
    assert within(mask.sum(), total, 0.8)
    assert within(changed.sum(), total, 0.1 * 396 / 397)  # a random token may be the same one
    drawn = masked[changed]
    assert drawn.min() == 5 and drawn.max() == 401 and len(np.unique(drawn)) == 397
    assert within((drawn < 203).sum(), len(drawn), 198 / 397)


def test_a_scattered_set_of_special_tokens_is_never_drawn():
    special = {0, 7, 8, 50, 99, 1000}  # one beyond the vocabulary too
    ids = np.full((200, 200), 20)
    masked, labels = mask_tokens(
        ids,
        seed=0,
        epoch=0,
        examples=np.arange(200),
        mask_token_id=50,
        vocab_size=100,
        special_ids=special,
        probability=1,
    )
    assert (labels == 20).all() and set(np.unique(masked)) == set(range(100)) - special | {50}


def test_a_mask_depends_on_seed_epoch_and_example_alone():
    ids = np.random.default_rng(1).integers(5, 402, (4, 40))
    ids[:, 0], ids[:, -1] = 2, 3

    def labels(ids, examples, seed=42, epoch=3):
        return mask_tokens(ids, seed=seed, epoch=epoch, examples=examples, **VOCABULARY)

    masks, targets = labels(ids, [10, 11, 12, 13])
    for order in ([3, 1, 0, 2], [2]):  # another place, another batch
        for ours, theirs in zip(
            (masks, targets), labels(ids[order], np.array([10, 11, 12, 13])[order])
        ):
            assert np.array_equal(ours[order], theirs)
    for pad in ((0, 9), (9, 0)):  # another padding, on either side
        padded = labels(np.pad(ids, ((0, 0), pad)), [10, 11, 12, 13])
        assert np.array_equal(padded[0], np.pad(masks, ((0, 0), pad)))
        assert np.array_equal(padded[1], np.pad(targets, ((0, 0), pad), constant_values=-100))
    mixed = labels(ids, [10, 11, 12, 13], epoch=[3, 3, 4, 4])  # a batch across two epochs
    assert np.array_equal(mixed[1][:2], targets[:2]) and not np.array_equal(
        mixed[1][2:], targets[2:]
    )
    for other in (
        labels(ids, [10, 11, 12, 13], epoch=4),
        labels(ids, [10, 11, 12, 13], seed=43),
        labels(ids, [20, 21, 22, 23]),
    ):
        assert (other[1] != targets).any(axis=1).all()


def test_no_global_random_state_is_read_or_moved(windows, tokenizer):
    def batch():
        return torch.stack(
            list(
                MaskedWindows(windows, tokenizer)
                .collate(MaskedWindows(windows, tokenizer).__getitems__(list(range(8))))
                .values()
            )
        )

    np.random.seed(0), torch.manual_seed(0)
    state, one = (np.random.get_state()[1].copy(), torch.get_rng_state()), batch()
    assert np.array_equal(np.random.get_state()[1], state[0]) and torch.equal(
        torch.get_rng_state(), state[1]
    )
    np.random.seed(1), torch.manual_seed(1)
    assert torch.equal(one, batch())


def test_torch_in_torch_out():
    ids = torch.randint(5, 402, (8, 32), generator=torch.Generator().manual_seed(0))
    as_torch = mask_tokens(ids, seed=1, epoch=0, examples=torch.arange(8), **VOCABULARY)
    as_numpy = mask_tokens(ids.numpy(), seed=1, epoch=0, examples=range(8), **VOCABULARY)
    for ours, theirs in zip(as_torch, as_numpy):
        assert ours.dtype == torch.int64 and torch.equal(ours, torch.from_numpy(theirs))


# ------------------------------------------------------------------------------------------------ batches


def test_every_epoch_has_every_window_once_in_an_order_of_its_own(windows, tokenizer):
    data, count = MaskedWindows(windows, tokenizer, epochs=3), len(windows)
    items = [data[n] for n in range(len(data))]
    assert len(items) == 3 * count and [item["epoch"] for item in items] == sorted(
        [0, 1, 2] * count
    )
    orders = [[item["example"] for item in items[epoch * count :][:count]] for epoch in range(3)]
    assert (
        all(sorted(order) == list(range(count)) for order in orders)
        and len(set(map(tuple, orders))) == 3
    )
    assert all(
        item["input_ids"].tolist() == windows[item["example"]]["input_ids"] for item in items
    )
    assert [data[n]["example"] for n in (2 * count, 0)] == [
        orders[2][0],
        orders[0][0],
    ]  # asked backwards


def test_a_shuffled_or_selected_set_of_windows(windows, tokenizer):
    some = windows.shuffle(seed=0).select(range(7))
    data = MaskedWindows(some, tokenizer, shuffle=False)
    assert [item["input_ids"].tolist() for item in data.__getitems__([6, 0, 0])] == [
        some[6]["input_ids"],
        some[0]["input_ids"],
        some[0]["input_ids"],
    ]


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("multiple", [1, 8])
def test_a_batch_is_padded_to_its_longest_item(tokenizer, side, multiple):
    tokenizer.padding_side = side
    items = [
        {"input_ids": np.array([2, *range(30, 30 + n), 3]), "example": n, "epoch": 0}
        for n in (3, 9, 5)
    ]
    batch = MaskingCollator(tokenizer, pad_to_multiple_of=multiple)(items)
    theirs = tokenizer.pad(
        {"input_ids": [item["input_ids"] for item in items]},
        return_tensors="pt",
        pad_to_multiple_of=multiple,
    )
    labels, width = batch["labels"], {1: 11, 8: 16}[multiple]
    assert {name: (tuple(t.shape), t.dtype) for name, t in batch.items()} == dict.fromkeys(
        ["input_ids", "attention_mask", "token_type_ids", "labels"], ((3, width), torch.int64)
    )
    assert torch.equal(torch.where(labels == -100, batch["input_ids"], labels), theirs["input_ids"])
    assert torch.equal(batch["attention_mask"], theirs["attention_mask"])
    assert not batch["token_type_ids"].any()


def test_unmasked_text(windows, tokenizer):
    data = MaskedWindows(windows, tokenizer, probability=0, shuffle=False)
    batch = data.collate([data[0]])
    assert (batch["labels"] == -100).all() and batch["input_ids"][0].tolist() == windows[0][
        "input_ids"
    ]


def batches(data, start=0, workers=0):
    """All batches from number `start` on, as a resumed Trainer reads them."""
    rest = torch.utils.data.Subset(data, range(start * 8, len(data)))
    return list(
        torch.utils.data.DataLoader(
            rest, batch_size=8, num_workers=workers, collate_fn=data.collate
        )
    )


def test_a_resumed_run_and_workers_give_the_same_batches(windows, tokenizer):
    def data():
        return MaskedWindows(windows, tokenizer, epochs=2)

    whole = batches(data())
    for again in (batches(data(), start=4), batches(data(), start=4, workers=2)):
        assert len(again) == len(whole) - 4
        for ours, theirs in zip(again, whole[4:]):
            assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_held_out_set_is_masked_the_same_every_time(windows, tokenizer):
    first, second = (
        batches(MaskedWindows(windows, tokenizer, seed=7, shuffle=False)) for _ in range(2)
    )
    assert all(
        torch.equal(one["labels"], two["labels"]) for one, two in zip(first, second, strict=True)
    )
    other = batches(MaskedWindows(windows, tokenizer, seed=8, shuffle=False))
    assert not torch.equal(first[0]["labels"], other[0]["labels"])


def test_a_share_of_the_windows_is_masked():
    ids = np.full((2000, 40), 50)
    kwargs = dict(seed=3, epoch=0, examples=np.arange(2000), **VOCABULARY)
    all_of_them = mask_tokens(ids, **kwargs)[1] != -100
    quarter = mask_tokens(ids, **kwargs, share=0.25)[1] != -100
    rows = quarter.any(1)
    assert abs(rows.sum() - 500) < 5 * np.sqrt(2000 * 0.25 * 0.75)
    assert (
        quarter[rows] == all_of_them[rows]
    ).all()  # the others are left alone, these masked as ever
    other = mask_tokens(ids, **{**kwargs, "epoch": 1}, share=0.25)[1] != -100
    assert (other.any(1) != rows).any()
    assert not (mask_tokens(ids, **kwargs, share=0.0)[1] != -100).any()
