"""Windows and masks: where windows start, that both repeat, and that nothing else changes them."""

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
    build_windows,
    mask_tokens,
)

FIXTURE = Path(__file__).parent / "fixtures" / "tokenizer"
SMALL = dict(window=16, overlap=6)  # 14 word pieces, one every 8
CUT = SMALL | dict(max_windows=5, keep_tails=True)
MASK, VOCABULARY = 4, 402  # of the fixture's tokenizer; ids 0 to 4 are special


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIALBERT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def tokenizer():
    return AutoTokenizer.from_pretrained(FIXTURE)


def articles(tokenizer, lengths, seed=0):
    """Texts of exactly so many word pieces: whole words of the fixture's vocabulary."""
    words = [word for word in sorted(tokenizer.get_vocab()) if word.isalpha() and len(word) > 1]
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(words, length)) for length in lengths]


def of_texts(texts):
    return datasets.Dataset.from_dict({"text": texts})


@pytest.fixture
def corpus(tokenizer):
    lengths = [300, 14, 13, 0, 95, 22, 200, 60, 131, 30, 77]
    titles = [f"{length} words" for length in lengths]
    return datasets.Dataset.from_dict({"text": articles(tokenizer, lengths), "title": titles})


@pytest.fixture
def windows(corpus, tokenizer):
    return build_windows(corpus, tokenizer, **CUT)


def rows(windows):
    return [(row["article"], row["start"], row["input_ids"]) for row in windows]


# -- windows


def test_the_papers_windows_start_every_126_word_pieces(tokenizer):
    text = articles(tokenizer, [1000])
    made = build_windows(of_texts(text), tokenizer)
    pieces = tokenizer(text[0], add_special_tokens=False, verbose=False)["input_ids"]
    assert made["start"][:] == [0, 126, 252, 378, 504, 630]
    for row in made:
        cls, *body, sep = row["input_ids"]
        assert (cls, sep) == (tokenizer.cls_token_id, tokenizer.sep_token_id)
        assert body == pieces[row["start"] : row["start"] + 254]
    for one, following in zip(made["input_ids"][:-1], made["input_ids"][1:], strict=True):
        assert one[1:-1][-128:] == following[1:-1][:128]


@pytest.mark.parametrize("length", [0, 5, 13, 14, 15, 21, 22, 23, 30, 77])
@pytest.mark.parametrize("keep_tails", [False, True])
def test_windows_are_slices_of_the_article(tokenizer, length, keep_tails):
    texts = [*articles(tokenizer, [length, 14]), None, ""]  # those without text are skipped
    made = build_windows(of_texts(texts), tokenizer, **SMALL, keep_tails=keep_tails)
    pieces = tokenizer(texts[0], add_special_tokens=False)["input_ids"]
    wanted, start, covered = [], 0, 0
    while covered < length:
        slice_ = pieces[start : start + 14]
        if len(slice_) == 14 or keep_tails:
            wanted.append((start, [tokenizer.cls_token_id, *slice_, tokenizer.sep_token_id]))
        start, covered = start + 8, start + 14
    assert [row[1:] for row in rows(made) if row[0] == 0] == wanted
    assert made["article"][-1] == 1


def test_at_most_max_windows_drawn_in_order_without_replacement(corpus, tokenizer):
    def starts(**arguments):
        made = build_windows(corpus, tokenizer, **SMALL, **arguments)
        return {n: [row["start"] for row in made if row["article"] == n] for n in range(11)}

    whole, drawn = starts(max_windows=None), starts(max_windows=5)
    assert whole[0] == list(range(0, 300 - 13, 8))
    for article in drawn:
        assert len(drawn[article]) == min(5, len(whole[article]))
        assert drawn[article] == sorted(set(drawn[article]) & set(whole[article]))
    assert drawn[0] != whole[0][:5]
    assert drawn[0] != starts(max_windows=5, seed=43)[0]


def test_the_draw_belongs_to_the_text_not_to_its_place_or_process(corpus, tokenizer, windows):
    assert rows(build_windows(corpus, tokenizer, **CUT, num_proc=2)) == rows(windows)
    backwards = build_windows(corpus.select(range(11)[::-1]), tokenizer, **CUT)
    assert sorted((10 - article, *rest) for article, *rest in rows(backwards)) == rows(windows)


def test_a_second_call_finds_the_first_ones_windows(corpus, tokenizer, windows, tmp_path):
    corpus.save_to_disk(tmp_path / "corpus")
    read = datasets.load_from_disk(tmp_path / "corpus")
    made = build_windows(read, tokenizer, **CUT)
    assert rows(made) == rows(windows)
    (file,) = (Path(file["filename"]) for file in made.cache_files)
    written = file.stat().st_mtime_ns
    tokenizer("a call that pads and cuts changes a tokenizer's state", padding="max_length")
    for other in (tokenizer, AutoTokenizer.from_pretrained(FIXTURE)):
        again = build_windows(datasets.load_from_disk(tmp_path / "corpus"), other, **CUT)
        assert [file["filename"] for file in again.cache_files] == [str(file)]
    assert file.stat().st_mtime_ns == written


CHANGES = [("window", 18), ("overlap", 7), ("max_windows", 4), ("seed", 1), ("keep_tails", False)]


@pytest.mark.parametrize("name, value", [*CHANGES, ("text_column", "title")])
def test_any_other_argument_makes_other_windows(corpus, tokenizer, windows, tmp_path, name, value):
    corpus.save_to_disk(tmp_path / "corpus")
    read = datasets.load_from_disk(tmp_path / "corpus")
    build_windows(read, tokenizer, **CUT)
    assert rows(build_windows(read, tokenizer, **CUT | {name: value})) != rows(windows)


def test_a_tokenizer_saved_with_truncation_and_padding(corpus, windows):
    careless = AutoTokenizer.from_pretrained(FIXTURE)
    careless.backend_tokenizer.enable_truncation(8)
    careless.backend_tokenizer.enable_padding(length=8)
    assert rows(build_windows(corpus, careless, **CUT)) == rows(windows)


# -- errors


@pytest.mark.parametrize(
    "columns, arguments, message",
    [
        ({"text": []}, {}, "every article is empty"),
        ({"body": ["a"], "title": ["b"]}, {}, r"no column 'text': .* \['body', 'title'\]"),
        ({"text": [None, ""]}, dict(keep_tails=True), "every article is empty"),
        ({"text": ["the fox"]}, SMALL, "shorter than a window of 16 tokens"),
        ({"text": ["a"]}, dict(window=513), "window=513: use 3 to 512"),
        ({"text": ["a"]}, dict(window=16, overlap=14), "overlap=14: use 0 to window - 3"),
    ],
)
def test_what_cannot_work_says_why(tokenizer, columns, arguments, message):
    with pytest.raises(CorpusError, match=message):
        build_windows(datasets.Dataset.from_dict(columns), tokenizer, **arguments)


def test_a_tokenizer_without_a_mask_and_a_probability_above_1(corpus, windows, tokenizer):
    for wrong in (dict(probability=1.1), dict(share=-1)):
        with pytest.raises(CorpusError, match="use 0 to 1"):
            MaskedWindows(windows, tokenizer, **wrong)
    tokenizer.mask_token = None
    with pytest.raises(CorpusError, match="needs .*MASK"):
        build_windows(corpus, tokenizer)


# -- masks


def within(count, total, probability, sigmas=5):
    return abs(count - total * probability) < sigmas * np.sqrt(
        total * probability * (1 - probability)
    )


def test_fifteen_percent_are_chosen_eighty_ten_ten(tokenizer):
    ids = np.random.default_rng(0).integers(0, VOCABULARY, (2000, 128))
    before = ids.copy()
    masked, labels = mask_tokens(ids, tokenizer, seed=42, epoch=0, examples=range(2000))
    ordinary, chosen = ids > 4, labels != -100
    assert np.array_equal(ids, before) and masked.dtype == labels.dtype == np.int64
    assert not (chosen & ~ordinary).any() and np.array_equal(masked[~chosen], ids[~chosen])
    assert np.array_equal(labels[chosen], ids[chosen])
    assert ordinary.sum() > 200_000 and within(chosen.sum(), ordinary.sum(), 0.15)
    # Every example and every position gets its share, not only the whole.
    z = (chosen.sum(1) - 0.15 * ordinary.sum(1)) / np.sqrt(0.15 * 0.85 * ordinary.sum(1))
    assert np.abs(z).max() < 5 and 0.9 < z.std() < 1.1
    for column in range(128):
        assert within(chosen[:, column].sum(), ordinary[:, column].sum(), 0.15)
    total, hidden = chosen.sum(), (masked == MASK) & chosen
    changed = chosen & ~hidden & (masked != ids)
    assert within(hidden.sum(), total, 0.8)
    assert within(changed.sum(), total, 0.1 * 396 / 397)  # a random token may be the same one
    drawn = masked[changed]
    assert drawn.min() == 5 and drawn.max() == 401 and len(np.unique(drawn)) == 397
    assert within((drawn < 203).sum(), len(drawn), 198 / 397)
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(50)  # one more that is never drawn
    ids, how = np.full((500, 200), 20), dict(seed=0, epoch=0, examples=range(500))
    masked, labels = mask_tokens(ids, tokenizer, **how, probability=1)
    assert (labels == 20).all()
    assert set(np.unique(masked)) == set(range(MASK, VOCABULARY)) - {50}


def test_a_mask_depends_on_seed_epoch_and_example_alone(tokenizer):
    ids = np.random.default_rng(1).integers(5, VOCABULARY, (4, 40))
    ids[:, 0], ids[:, -1] = 2, 3

    def mask(ids, examples, seed=42, epoch=3):
        return mask_tokens(ids, tokenizer, seed=seed, epoch=epoch, examples=examples)

    masked, labels = mask(ids, [10, 11, 12, 13])
    for order in ([3, 1, 0, 2], [2]):  # another place, another batch
        other = mask(ids[order], np.array([10, 11, 12, 13])[order])
        assert np.array_equal(masked[order], other[0]) and np.array_equal(labels[order], other[1])
    for pad in ((0, 9), (9, 0)):  # another padding, on either side
        padded = mask(np.pad(ids, ((0, 0), pad)), [10, 11, 12, 13])
        assert np.array_equal(padded[0], np.pad(masked, ((0, 0), pad)))
        assert np.array_equal(padded[1], np.pad(labels, ((0, 0), pad), constant_values=-100))
    mixed = mask(ids, [10, 11, 12, 13], epoch=[3, 3, 4, 4])[1]  # a batch across two epochs
    assert np.array_equal(mixed[:2], labels[:2]) and not np.array_equal(mixed[2:], labels[2:])
    for change in (dict(epoch=4), dict(seed=43), dict(examples=[20, 21, 22, 23])):
        other = mask(ids, **dict(examples=[10, 11, 12, 13]) | change)[1]
        assert (other != labels).any(axis=1).all()


def test_no_global_random_state_is_read_or_moved(windows, tokenizer):
    def batch():
        data = MaskedWindows(windows, tokenizer)
        return torch.stack(list(data.collate(data.__getitems__(list(range(8)))).values()))

    np.random.seed(0), torch.manual_seed(0)
    numpys, torchs, one = np.random.get_state()[1].copy(), torch.get_rng_state(), batch()
    assert np.array_equal(np.random.get_state()[1], numpys)
    assert torch.equal(torch.get_rng_state(), torchs)
    np.random.seed(1), torch.manual_seed(1)
    assert torch.equal(one, batch())


def test_a_share_of_the_windows_is_masked(tokenizer):
    def chosen(**change):
        arguments = dict(seed=3, epoch=0, examples=range(2000)) | change
        return mask_tokens(np.full((2000, 40), 50), tokenizer, **arguments)[1] != -100

    quarter = chosen(share=0.25)
    masked = quarter.any(1)
    assert within(masked.sum(), 2000, 0.25)
    assert (quarter[masked] == chosen()[masked]).all()  # those are masked as ever, others not
    assert (chosen(share=0.25, epoch=1).any(1) != masked).any()
    assert not chosen(share=0.0).any()


# -- batches


def test_every_epoch_has_every_window_once_in_an_order_of_its_own(windows, tokenizer):
    data, count = MaskedWindows(windows, tokenizer, epochs=3), len(windows)
    items = list(data)
    assert len(items) == 3 * count
    assert [item["epoch"] for item in items] == sorted([0, 1, 2] * count)
    orders = [[item["example"] for item in items[e * count :][:count]] for e in range(3)]
    assert all(sorted(order) == list(range(count)) for order in orders)
    assert len(set(map(tuple, orders))) == 3
    assert all(item["input_ids"] == windows[item["example"]]["input_ids"] for item in items)
    assert [data[n]["example"] for n in (2 * count, 0)] == [orders[2][0], orders[0][0]]
    some = windows.shuffle(seed=0).select(range(7))  # rows as they are, not as they were stored
    plain = MaskedWindows(some, tokenizer, probability=0, shuffle=False)
    items = plain.__getitems__([6, 0, 0])
    assert [item["input_ids"] for item in items] == [some[n]["input_ids"] for n in (6, 0, 0)]
    batch = plain.collate([plain[0]])  # probability 0: text as it is
    assert (batch["labels"] == -100).all()
    assert batch["input_ids"][0].tolist() == some[0]["input_ids"]


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_batch_is_padded_to_its_longest_item(tokenizer, side):
    tokenizer.padding_side = side
    items = [{"input_ids": [2, *range(30, 30 + n), 3], "example": n, "epoch": 0} for n in (3, 9, 5)]
    batch = MaskingCollator(tokenizer)(items)
    labels = batch["labels"]
    names = {"input_ids", "attention_mask", "token_type_ids", "labels"}
    assert {name: (tuple(x.shape), x.dtype) for name, x in batch.items()} == dict.fromkeys(
        names, ((3, 11), torch.int64)
    )
    pad = [0] * 6
    whole = items[0]["input_ids"]
    unmasked = torch.where(labels == -100, batch["input_ids"], labels)[0].tolist()
    assert unmasked == (pad + whole if side == "left" else whole + pad)
    assert batch["attention_mask"][0].tolist() == [int(id_ > 0) for id_ in unmasked]
    assert not batch["token_type_ids"].any()


def batches(data, start=0, workers=0):
    """All batches from number `start` on, as a resumed Trainer reads them."""
    rest = torch.utils.data.Subset(data, range(start * 8, len(data)))
    return list(
        torch.utils.data.DataLoader(
            rest, batch_size=8, num_workers=workers, collate_fn=data.collate
        )
    )


@pytest.mark.parametrize("shuffle", [True, False])
def test_a_resumed_run_and_workers_give_the_same_batches(windows, tokenizer, shuffle):
    def data():
        return MaskedWindows(windows, tokenizer, epochs=2, shuffle=shuffle)

    whole = batches(data())
    for again in (batches(data(), start=4), batches(data(), start=4, workers=2)):
        for ours, theirs in zip(again, whole[4:], strict=True):
            assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
