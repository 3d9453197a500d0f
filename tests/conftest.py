"""Tests run offline, on the CPU, and draw nothing on a screen."""

import os

os.environ |= {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "MPLBACKEND": "Agg",
    "CUDA_VISIBLE_DEVICES": "",
}
if (
    workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1))
) > 1:  # `make test`: cores are shared, not fought for
    os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // workers))

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


# Notebooks. Two workers begin with the first and the third, so that neither waits for 07's student.
LONGEST = ["07", "11", "12", "13", "09", "10"]


def pytest_collection_modifyitems(items):
    """The longest tests first, so that no worker is left with one when all others are done."""

    def rank(item):
        path = getattr(item, "callspec", None) and item.callspec.params.get("path")
        long = path is not None and item.originalname == "test_notebook_gives_its_committed_outputs"
        return LONGEST.index(path.stem[:2]) if long and path.stem[:2] in LONGEST else len(LONGEST)

    items.sort(key=rank)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder beside the project with recorded vectors and real data; without it a test is skipped."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("needs ../shared, which does not come with the project")
    return folder


@pytest.fixture(scope="session")
def tiny_tokenizer():
    """A small committed BERT tokenizer; never trained in a test, for no two trainings agree."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(ROOT / "tests/fixtures/tokenizer")
