"""A run's folder and its one record, `result.json`.

The record holds status ("running" from the start, then "done" or "failed"), notebook, parameters,
inputs (a hash of what was read; null: not known), code (commit, and a hash of what ran), versions,
machine, started (UTC), seconds (of all legs, where a run was killed and went on), peak_memory_mb,
records (flat, scores as fractions), series (curves by name), parts (finished pieces, `Run.once`)
and, of a failed run, error. Stored results in figures/data are such records.
"""

import atexit
import dataclasses
import json
import math
import os
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from . import machine

RECORD = "result.json"
_open = {}  # {folder: its Run}: where a cell is run again, the last one counts
PLACES = ("run_folder",)  # parameters that say where a run lies, not what it is


class RunError(RuntimeError):
    """A folder that belongs to another run, or a file that is no record; nothing was touched."""


def plain(value):
    """What JSON can hold of numbers, arrays, dataclasses and paths; nan and inf become text."""
    if dataclasses.is_dataclass(value):
        value = dataclasses.asdict(value)
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, int | float | str) else str(value)


def write_json(path, content):
    """Writes JSON whole or not at all: a reader, or a kill, never sees half a file."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_text(json.dumps(plain(content), indent=1, ensure_ascii=False) + "\n", "utf8")
    aside.replace(path)


def read(path) -> dict:
    """A record from its file.

    Raises:
        RunError: for a file that holds none.
    """
    try:
        record = json.loads(Path(path).read_text(encoding="utf8"))
        return record | {"status": record["status"], "notebook": record["notebook"]}
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} is no record of a run ({error!r}): move it away.") from None


def load(*folders, notebook=None) -> list[dict]:
    """The finished records in folders: their own *.json, and result.json anywhere below them.

    Args:
        notebook: only those of this one, as in "12_ablations".

    Each also says its `file`. Raises RunError for a file that holds none.
    """
    found = []
    for folder in map(Path, folders):
        for path in sorted({*folder.glob("*.json"), *folder.rglob(RECORD)}):
            record = read(path)
            if record["status"] == "done" and notebook in (None, record["notebook"]):
                found.append(record | {"file": str(path)})
    return found


class Run:
    """A run's folder, kept by this process alone, and its record.

        run = Run("../runs/lab", "07_distil", arguments, {"teacher": weights_hash("bert")})
        run.finish([{"system": "student", "similarity": 0.8}], {"history": history})

    Args:
        folder: new, or a killed, failed or finished run's own.
        notebook: as in "07_distil".
        parameters: a dataclass or a dictionary.
        inputs: {name: a hash of what is read}; `read_inputs` adds those known only later.
        patience: seconds to wait where another process makes this very run.

    Raises:
        RunError: where the folder holds a run of another notebook, with other parameters or
            inputs; both are shown, and nothing in it is touched.
    """

    def __init__(self, folder, notebook, parameters, inputs=None, patience=3600):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._keep_others_out(patience)
        parameters = {k: v for k, v in plain(parameters).items() if k not in PLACES}
        ours = {"notebook": notebook, "parameters": parameters, "inputs": plain(inputs or {})}
        try:
            before = read(self.path(RECORD)) if self.path(RECORD).exists() else None
            if before is not None:
                self._refuse_another(before, ours)
        except RunError:
            self._lock.release()
            raise
        self.record = self._begin(ours) if before is None else before
        self.is_done = self.record["status"] == "done"
        self._resume()
        _open[self.folder.resolve()] = self
        atexit.register(self._leave)

    def path(self, name) -> Path:
        """A file's place in the run's folder."""
        return self.folder / name

    def read_inputs(self, **hashes):
        """Adds inputs that could be hashed only now, before anything is made of them.

        Raises:
            RunError: where an earlier leg of this run read something else.
        """
        self._refuse_another(self.record, self.record | {"inputs": plain(hashes)})
        self.record["inputs"] |= plain(hashes)
        self._save()

    def once(self, key: dict, make):
        """The result of `make()`, of dictionaries and lists, kept in the record under `key`: a run
        that goes on after a kill, or is read again, takes it from there."""
        key = plain(key)
        for part in self.record["parts"]:
            if part["key"] == key:
                return part["result"]
        result = plain(make())
        self.record["parts"].append({"key": key, "result": result})
        self._save()
        return result

    def finish(self, records=(), series=None, **about):
        """Closes the record: what came out, as flat records and as curves by name."""
        if not self.is_done:
            self.record |= {"seconds": self._seconds(), "peak_memory_mb": machine.peak_memory_mb()}
        self.record |= {"status": "done", "records": plain(list(records))}
        self.record |= {"series": plain(series or {}), **plain(about)}
        for name in ("error", "leg_began"):
            self.record.pop(name, None)
        self.is_done = True
        self._save()

    # -- how it is done

    def _keep_others_out(self, patience):
        # A process may open its own run twice: a reader runs the cell again.
        self._lock = FileLock(self.path(".lock"), is_singleton=True)
        try:
            with suppress(Timeout):
                return self._lock.acquire(timeout=0)
            print(f"another process makes {self.folder}: waiting for it", file=sys.stderr)
            self._lock.acquire(timeout=patience)
        except Timeout:
            raise RunError(f"another process still makes {self.folder}: try later.") from None

    def _refuse_another(self, before, ours):
        known = before["inputs"].keys() & ours["inputs"].keys()  # to both
        was, now = (
            {"notebook": one["notebook"]}
            | one["parameters"]
            | {f"input {name}": one["inputs"][name] for name in known}
            for one in (before, ours)
        )
        changed = [
            f"  {name} was {was.get(name)!r}, is {now.get(name)!r}"
            for name in sorted(was | now)
            if was.get(name) != now.get(name)
        ]
        if changed:
            first = f"{self.folder} belongs to another run; nothing in it was touched."
            last = "Choose another run_folder, or delete that folder to start anew."
            raise RunError("\n".join([first, *changed, last]))

    def _begin(self, ours) -> dict:
        return {
            "status": "running",
            **ours,
            "code": machine.code(),
            "versions": machine.versions(),
            "machine": machine.describe(),
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": 0.0,
            "peak_memory_mb": None,
            "records": [],
            "series": {},
            "parts": [],
        }

    def _resume(self):
        """Counts a leg that was killed, up to the last file it wrote, and begins the next."""
        if began := self.record.pop("leg_began", None):
            last = max(path.stat().st_mtime for path in [self.path(RECORD), *self._written()])
            self.record["seconds"] = round(self.record["seconds"] + last - began, 1)
        self._before, self._began = self.record["seconds"], time.perf_counter()
        if not self.is_done:
            self.record |= {"status": "running", "leg_began": time.time()}
            self._save()

    def _written(self) -> list[Path]:
        """The files in its sub-folders, those with a record of their own left out."""
        others = {path.parent for path in self.folder.glob("*/**/" + RECORD)}
        below = [path for path in self.folder.glob("*/**/*") if path.is_file()]
        return [path for path in below if not others.intersection(path.parents)]

    def _seconds(self) -> float:
        return round(self._before + time.perf_counter() - self._began, 1)

    def _leave(self):
        """At the kernel's end: what is not finished has failed, or was stopped and can go on."""
        if _open[self.folder.resolve()] is not self or self.is_done:
            return
        self.record.pop("leg_began")
        self.record["seconds"] = self._seconds()
        error = getattr(sys, "last_value", None)  # what a cell raised
        if error is not None:
            self.record |= {"status": "failed", "error": f"{type(error).__name__}: {error}"}
        self._save()

    def _save(self):
        write_json(self.path(RECORD), self.record)
