"""The machine: its speed, memory and versions, and the check of the environment."""

import argparse
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from ..training import bf16_is_fast

ROOT = Path(__file__).resolve().parents[2]


def keep_freed_memory():
    """Lets the C library keep the memory of freed tensors for the next ones instead of handing it back.

    glibc returns every large block to the kernel, which clears its pages anew at each use: on a virtual machine the
    larger part of a training step on the CPU (measured: 5x on vocabulary-sized tensors). No effect elsewhere.
    """
    import ctypes

    with suppress(AttributeError, OSError):
        mallopt = ctypes.CDLL(None).mallopt
        for option, value in (
            (-4, 0),
            (-1, 2**31 - 1),
            (-2, 64 << 20),
        ):  # MMAP_MAX, TRIM_THRESHOLD, TOP_PAD
            mallopt(option, value)


def _machine(here=True) -> dict:
    processor = platform.processor() or platform.machine()
    with suppress(OSError):
        if found := re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.M):
            processor = found[1]
    machine = {"processor": processor, "cores": os.cpu_count()}
    if not here:  # to ask for the GPU's name is to take hold of the GPU
        return machine
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return machine | {"threads": torch.get_num_threads(), "bf16": bf16_is_fast(), "gpu": gpu}


def _commit() -> str | None:
    """The checkout's commit, '+' after it where files have changed since; None outside a checkout."""
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        return None
    head, changes = (
        subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True).stdout.strip()
        for words in (["rev-parse", "--verify", "-q", "HEAD"], ["status", "--porcelain"])
    )
    return head + "+" * bool(changes) if head else None


def _version(package: str) -> str | None:
    with suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(package)


def _pins() -> dict:
    """{package: tried version} of constraints.txt; outside a checkout the dependencies, without versions."""
    file = ROOT / "constraints.txt"
    if file.exists():
        return dict(re.findall(r"^([\w.-]+)==(\S+)", file.read_text(encoding="utf8"), re.M))
    return {
        re.match(r"[\w.-]+", need)[0]: None
        for need in importlib.metadata.requires("minialbert") or ()
    }


def check_environment(versions=True) -> list:
    """[(ok, what, fix)] for Python, each direct dependency, disk and memory; ok None: told, not judged.

    Without versions, what differs between machines is left out, so that a notebook's output stays the same.
    """
    from .. import sources

    def say(long, short):
        return long if versions else short

    found = [
        (
            sys.version_info >= (3, 11),
            say(f"Python {platform.python_version()}", "Python"),
            "make the environment anew with Python 3.11 or newer",
        )
    ]
    for name, pin in _pins().items():
        has = _version(name)
        tried = has and (pin is None or has.split(".")[:2] == pin.split(".")[:2])
        found.append(
            (
                bool(tried),
                say(f"{name} {has}", name)
                if tried
                else f"{name} {has} is not the tried {pin}"
                if has
                else f"{name} is missing",
                "pip install -c constraints.txt -e '.[all]'",
            )
        )
    cache, free = sources.cache_dir(), 0
    with suppress(OSError):
        cache.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(cache).free / 1e9
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    found += [
        (
            free > 0 and os.access(cache, os.W_OK),
            say(f"cache {cache}", "a cache to write to"),
            "set MINIALBERT_CACHE to a folder you can write to",
        ),
        (
            free >= 1,
            say(f"{free:.0f} GB free for the cache", "1 GB free for the cache"),
            "free some space, or set MINIALBERT_CACHE to a folder on a larger disk",
        ),
        (memory >= 4, say(f"{memory:.0f} GB of memory", "4 GB of memory"), "use a larger machine"),
    ]
    if versions:
        fast = "fast" if _version("torch") and bf16_is_fast() else "no fast"
        teacher = (
            "cached"
            if (cache / "all-MiniLM-L6-v2").exists()
            else "fetched at its first use (83 MB)"
        )
        found += [
            (None, f"{os.cpu_count()} cores, {fast} bfloat16", ""),
            (None, f"the lab's teacher: {teacher}", ""),
        ]
    return found


def print_environment(versions=True) -> bool:
    """Prints `check_environment`, a line each with its fix, and a verdict; returns whether all is well."""
    found = check_environment(versions)
    for ok, what, fix in found:
        word = {True: "OK", False: "FAIL", None: "INFO"}[ok]
        print(f"{word:<6}{what}" + (f": fix: {fix}" if ok is False else ""))
    failed = sum(ok is False for ok, *_ in found)
    print(f"{failed} to mend" if failed else "ready")
    return not failed


def main(arguments=None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        "python -m minialbert.lab.machine", description="Says what is missing to run the lab."
    )
    parser.add_argument("command", choices=["environment"], help="check what is installed")
    parser.parse_args(arguments)
    return 0 if print_environment() else 1


if __name__ == "__main__":
    sys.exit(main())
