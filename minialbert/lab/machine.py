"""The machine: its speed, memory and versions, and the check of the environment.

python -m minialbert.lab.machine environment
"""

import hashlib
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
import weakref
from contextlib import suppress
from pathlib import Path

import psutil
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from .. import sources
from ..training import matrix_speed

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("minialbert", "torch", "transformers", "tokenizers", "datasets", "numpy")
INSTALL = "pip install -c constraints.txt -e '.[all]'"


# -- what a record says ----------------------------------------------------------------------------


def version(package: str) -> str | None:
    """The installed version of a package, or None."""
    with suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(package)


def versions() -> dict:
    """Versions of Python and of the packages that numbers depend on."""
    return {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}


def describe() -> dict:
    """Processor, cores, threads, accelerator, and how fast matrices are multiplied (GFLOP/s)."""
    linux = None
    with suppress(OSError):
        linux = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    return {
        "processor": linux[1] if linux else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "gflops": matrix_speed(),
    }


def code() -> dict:
    """The commit ('+' after it: files have changed since; None: no checkout) and a hash of the
    package's source files."""
    digest = hashlib.sha256()
    for file in sorted((ROOT / "minialbert").rglob("*.py")):
        digest.update(file.read_bytes())
    commit = None
    if (ROOT / ".git").exists() and shutil.which("git"):
        command = ["git", "describe", "--always", "--dirty=+", "--abbrev=40", "--exclude=*"]
        commit = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.strip()
    return {"commit": commit or None, "hash": digest.hexdigest()[:16]}


def peak_memory_mb() -> int:
    """The most memory this process has held so far."""
    memory = psutil.Process().memory_info()
    if hasattr(memory, "peak_wset"):  # Windows
        return round(memory.peak_wset / 2**20)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    unit = 2**20 if sys.platform == "darwin" else 2**10  # macOS counts bytes, Linux kibibytes
    return round(peak / unit)


class MemoryAccount(TorchDispatchMode):
    """Bytes of the tensors made inside `with MemoryAccount(*known)` that are alive: `now`, and at
    `most` so far.

    Every operation is watched, and each new tensor counted until it is freed: exact, and blind to
    what Python and its libraries occupy. The known tensors (weights, an optimiser's moments) are
    not counted.
    """

    def __init__(self, *known: torch.Tensor):
        super().__init__()
        self.now = self.most = 0
        self.seen = {tensor.untyped_storage().data_ptr() for tensor in known}

    def _freed(self, address, size):
        self.now -= size
        self.seen.discard(address)

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        result = function(*arguments, **(options or {}))
        for tensor in tree_leaves(result):
            if not isinstance(tensor, torch.Tensor):
                continue
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in self.seen:
                self.seen.add(storage.data_ptr())
                self.now += storage.nbytes()
                weakref.finalize(storage, self._freed, storage.data_ptr(), storage.nbytes())
        self.most = max(self.now, self.most)
        return result


# -- the environment -------------------------------------------------------------------------------


def print_environment(shown=True) -> bool:
    """Checks Python, each package of constraints.txt, disk and memory; returns whether all is well.

    A line for what fails, with its fix; with `shown` also one for each that is well.
    """
    found = [(sys.version_info >= (3, 11), "Python", platform.python_version(), "3.11 or newer")]
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf8")
    for name, tried in re.findall(r"^([\w.-]+)==(\S+)", constraints, re.M):
        has = version(name) or "missing"
        well = has.split(".")[:2] == tried.split(".")[:2]
        found.append((well, name, has, f"the tried one is {tried}: {INSTALL}"))
    cache = sources.cache_dir()
    nearest = next(folder for folder in [cache, *cache.parents] if folder.exists())
    free, memory = shutil.disk_usage(nearest).free / 1e9, psutil.virtual_memory().total / 1e9
    elsewhere = "set MINIALBERT_CACHE to a folder on a larger disk"
    found += [
        (os.access(nearest, os.W_OK), "a cache to write to", str(cache), elsewhere),
        (free >= 1, "1 GB free for the cache", f"{free:.0f} GB", elsewhere),
        (memory >= 4, "4 GB of memory", f"{memory:.0f} GB", "use a larger machine"),
    ]
    for well, what, value, fix in found:
        if not well:
            print(f"FAIL  {what}: {value}; fix: {fix}")
        elif shown:
            print(f"OK    {what}: {value}")
    failed = sum(not well for well, *_ in found)
    print(f"{len(found)} things checked:", f"{failed} to fix" if failed else "all is ready")
    return not failed


def main(arguments) -> int:
    """The command line; returns the exit status."""
    if arguments != ["environment"]:
        print(__doc__)
        return 2
    print(f"{os.cpu_count()} cores; matrix products, GFLOP/s: {matrix_speed()}")
    return 0 if print_environment() else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
