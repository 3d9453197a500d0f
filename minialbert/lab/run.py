"""A run's folder and its one record."""

import dataclasses
import json
import math
import os
import platform
import shlex
import sys
import time
import types
from datetime import UTC, datetime
from pathlib import Path

from .machine import _commit, _machine, _version

ROOT = Path(__file__).resolve().parents[2]


class NotYetRun(RuntimeError):
    """What an earlier notebook makes is not there; the message says which notebook to run."""


def require(path, made_by="07_distil", minutes=10) -> Path:
    """`path` if it exists; else NotYetRun, naming the notebook that makes it and its minutes on 2 cores."""
    if not Path(path).exists():
        raise NotYetRun(
            f"this notebook needs {path}; run notebook {made_by} first (about {minutes} minutes) "
            "or `make run`"
        )
    return Path(path)


def plain(value):
    """What JSON can hold of numbers, arrays, tensors, dataclasses and paths; nan and inf become text."""
    if dataclasses.is_dataclass(value):
        value = dataclasses.asdict(value)
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [plain(item) for item in value]
    finite = isinstance(value, float) and math.isfinite(value)
    return value if finite or isinstance(value, (bool, int, str, types.NoneType)) else str(value)


def write_text(path: Path, text: str):
    """Whole or not at all: a reader, or a kill, never sees half a file."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_text(text, encoding="utf8")
    os.replace(aside, path)


def write_json(path, content):
    """Writes JSON whole or not at all; content may hold numpy and torch values, paths and dataclasses."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_text(Path(path), json.dumps(plain(content), indent=1, ensure_ascii=False) + "\n")


class Run:
    """A run's folder and its manifest.json, which says "running" from the start, so that a killed run shows.

        with lab.Run("runs/lab", parameters=args, seed=args.seed) as run:
            run.finish({"loss": loss})

    The manifest holds status (running, done, failed), command, parameters, seed, versions, commit ('+': with
    changes), machine, start (UTC), seconds, the peak memory of this process and its GPU (MB), metrics, error.
    With `here` false another process does the work: nothing is told of this one's threads and GPU.
    """

    def __init__(self, folder, parameters=None, seed=None, here=True):
        self.folder, self._start = Path(folder), time.perf_counter()
        self.folder.mkdir(parents=True, exist_ok=True)
        packages = ("minialbert", "torch", "transformers", "tokenizers", "datasets", "numpy")
        self.manifest = {}
        versions = {"python": platform.python_version()} | {
            name: _version(name) for name in packages
        }
        self._save(
            status="running",
            started=datetime.now(UTC).isoformat(timespec="seconds"),
            command=shlex.join(sys.argv),
            parameters=plain(parameters or {}),
            seed=seed,
            versions=versions,
            commit=_commit(),
            machine=_machine(here),
        )

    def path(self, name) -> Path:
        """A file's place in the run's folder."""
        return self.folder / name

    def _save(self, **entries):
        self.manifest |= entries
        write_json(self.path("manifest.json"), self.manifest)

    def finish(self, metrics=None, status="done", **entries):
        """Closes the manifest; metrics may hold numpy and torch values."""
        import resource

        import torch

        unit = 2**20 if sys.platform == "darwin" else 2**10  # macOS counts bytes, Linux kibibytes
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        gpu_peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
        self._save(
            status=status,
            seconds=round(time.perf_counter() - self._start, 1),
            peak_memory_mb=round(peak / unit),
            peak_gpu_memory_mb=round(gpu_peak / 2**20),
            metrics=plain(metrics or {}),
            **entries,
        )

    def store(self, file, notebook, runs, about="", part=False, **more):
        """Writes a finished run's records as a stored result: figures/data/NAME.json is planned by params/lab/NAME.yaml
        (that of `make run`, lab, by distil.yaml).

        Beside them stand the parameters, those that say where things lie excepted, and the manifest. With `part`
        several runs of the plan fill one result: records of the same task and system are replaced, the others stay,
        and each run's manifest is kept under its folder's name.
        """
        file, planned = Path(file), {"lab": "distil"}
        plan = f"notebooks/params/lab/{planned.get(file.stem, file.stem)}.yaml"
        plan = plan if (ROOT / plan).exists() else None
        made = {
            key: self.manifest[key]
            for key in (
                "status",
                "started",
                "seconds",
                "peak_memory_mb",
                "commit",
                "versions",
                "machine",
            )
        }
        elsewhere = ("run_folder", "store", "data")
        used = {
            key: value for key, value in self.manifest["parameters"].items() if key not in elsewhere
        }
        if part:
            before = (
                json.loads(file.read_text(encoding="utf8"))
                if file.exists()
                else {"runs": [], "manifests": {}}
            )
            own = {(one["task"], one.get("system")) for one in runs}
            runs = [
                one for one in before["runs"] if (one["task"], one.get("system")) not in own
            ] + runs
            parts = before["manifests"] | {self.folder.name: made | {"parameters": used} | more}
            seconds = round(sum(one["seconds"] for one in parts.values()), 1)
            more = {"manifest": {"status": "done", "seconds": seconds}, "manifests": parts}
        else:
            more = {"parameters": used, "machine": made.pop("machine"), "manifest": made} | more
        what = (
            f"Notebook {notebook}" + f" by {plan}" * bool(plan) + f": {about}" * bool(about) + "."
        )
        write_json(file, {"what": what, "notebook": notebook, "plan": plan} | more | {"runs": runs})

    def __enter__(self):
        return self

    def __exit__(self, kind, error, _):
        if error is not None:
            self.finish(
                self.manifest.get("metrics"), status="failed", error=f"{kind.__name__}: {error}"
            )
        elif self.manifest["status"] == "running":
            self.finish()
