"""Tests run offline, on the CPU, and draw nothing on a screen; and they say how far they are."""

import os
import re
import threading
import time
from functools import cache
from pathlib import Path

import pytest

os.environ |= {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "MPLBACKEND": "Agg",
    "CUDA_VISIBLE_DEVICES": "",
    # as the Makefile has it, for every kernel
    "JUPYTER_PREFER_ENV_PATH": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "2147483647",
}
if (workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1))) > 1:  # cores are shared
    os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // workers))

ROOT = Path(__file__).resolve().parents[1]

# For a program that imports rooms of the package without the package itself, which takes seconds.
LIGHT = (
    "import sys, types\nsys.modules['minialbert'] = types.ModuleType('minialbert')\n"
    f"sys.modules['minialbert'].__path__ = [{str(ROOT / 'minialbert')!r}]\n"
)

REFERENCE = 430  # GFLOP/s of the machine on which `make test` takes 10 minutes


@cache
def slowness() -> float:
    """How many times slower than that machine this one multiplies matrices, as it is now."""
    from minialbert.lab.machine import matrix_speed

    return REFERENCE / max(matrix_speed().values())


# ---- which tests, and in which order

NOTEBOOK = "test_notebook_gives_its_committed_outputs"
# Two workers begin with the first and the third, so that neither waits for 07's student.
LONGEST = ["07", "11", "12", "13", "15", "09", "10"]
# Not below `-m quick`: the browser, what starts other processes, compiles, exports or trains.
SLOW = re.compile(
    rf"test_browser|test_quantisation|{NOTEBOOK}|kill|resum|process|seconds|torchrun|papermill"
    "|nbval_sees|refresh|a_failed_run|a_cell_that_raises|importing|carries_its_code|flex|exported|compiled|real_ner"
    "|a_comparison_trains|predictions_are_those"
)
TRAINING = {"files", "arguments", "whole_run"}  # fixtures of tests that train


def notebook_of(nodeid) -> str | None:
    """The stem of the notebook that a test runs, or None."""
    found = re.search(rf"{NOTEBOOK}\[(\w+)", nodeid)
    return found and found[1]


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items):
    """Marks quick tests; the longest come first, so that no worker ends alone with one."""

    def rank(item):
        number = (notebook_of(item.nodeid) or "")[:2]
        return LONGEST.index(number) if number in LONGEST else len(LONGEST)

    for item in items:
        trains = TRAINING.intersection(item.fixturenames)
        if not (trains or SLOW.search(item.nodeid) or item.get_closest_marker("slow")):
            item.add_marker("quick")
    items.sort(key=rank)


# ---- how far it is


class Progress:
    """Says at the start what will run, then a line for each notebook and one every half minute."""

    def __init__(self, config):
        self.config, self.began = config, time.monotonic()
        self.ids, self.notebooks = (), 0
        self.running, self.done, self.failed = set(), set(), set()
        self.is_over = threading.Event()

    def say(self, text):
        terminal = self.config.pluginmanager.get_plugin("terminalreporter")
        terminal.write(f"\n{text}\n", flush=True)

    def say_how_far(self):
        minutes = (time.monotonic() - self.began) / 60
        running = ", ".join(sorted(filter(None, map(notebook_of, self.running))))
        self.say(
            f"{minutes:.1f} min: {len(self.done)} of {len(self.ids)} tests done"
            + (f"; notebooks running: {running}" if running else "")
        )

    def keep_saying(self):
        while not self.is_over.wait(30):
            self.say_how_far()

    def collected(self, ids):
        if self.ids:
            return
        self.ids = ids
        self.notebooks = sum(notebook_of(one) is not None for one in ids)
        text = f"{len(ids)} tests"
        if self.notebooks:
            text += (
                f", {self.notebooks} of which run a whole notebook. All of `make test` takes about "
                f"{7.5 + 2.5 * slowness():.0f} minutes at this machine's present speed"
            )
        self.say(text + ".")

    def pytest_report_header(self):
        return "tests are collected, which takes up to a minute; then a line at least every 30 s"

    def pytest_sessionstart(self):
        threading.Thread(target=self.keep_saying, daemon=True).start()

    def pytest_sessionfinish(self):
        self.is_over.set()

    def pytest_collection_finish(self, session):  # without workers
        if session.items:
            self.collected([item.nodeid for item in session.items])

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids):
        self.collected(ids)

    def pytest_runtest_logstart(self, nodeid):
        self.running.add(nodeid)

    def pytest_runtest_logreport(self, report):
        if report.failed:
            self.failed.add(report.nodeid)
        if report.when != "teardown":
            return
        self.running.discard(report.nodeid)
        self.done.add(report.nodeid)
        if name := notebook_of(report.nodeid):
            done = sum(notebook_of(one) is not None for one in self.done)
            verdict = "failed" if report.nodeid in self.failed else "passed"
            self.say(f"notebook {name} {verdict}, {done} of {self.notebooks}")


def pytest_configure(config):
    is_worker = hasattr(config, "workerinput")
    if not is_worker and not config.option.collectonly:
        config.pluginmanager.register(Progress(config))


# ---- what tests share


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder beside the project with recorded vectors and real data; without it: skipped."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("needs ../shared, which does not come with the project")
    return folder


@pytest.fixture(scope="session")
def tiny_tokenizer():
    """A small committed BERT tokenizer; never trained in a test, for no two trainings agree."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(ROOT / "tests/fixtures/tokenizer")
