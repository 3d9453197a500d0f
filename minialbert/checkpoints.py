"""A training's folder: whose it is, and which of its checkpoints can be trusted."""

import hashlib
import json
import os
import sys
from contextlib import suppress
from pathlib import Path

OWNER, MARKER = "owner.json", "complete.json"


class TrainingError(ValueError):
    """A training that cannot start as asked; the message names the fix."""


def _read_json(path) -> dict | None:
    with suppress(OSError, ValueError):
        return json.loads(Path(path).read_text(encoding="utf8"))
    return None


def _write_through(path, content):
    """Writes JSON whole or not at all, and returns when the disk has it."""
    aside = path.with_name(path.name + ".part")
    with aside.open("w", encoding="utf8") as file:
        json.dump(content, file, indent=1, default=str)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


def claim(folder, identity: dict):
    """Takes a folder (made where it is missing) for one training, or refuses one of another's.

    identity: what makes two trainings the same: arguments, hashes of what they read. Under
    torchrun the first process does it, the others nothing.

    Raises:
        TrainingError: naming what differs, or files of no training; nothing in it is touched.
    """
    if int(os.environ.get("RANK", 0)):
        return
    folder = Path(folder)
    identity = json.loads(json.dumps(identity, default=str))
    owner = _read_json(folder / OWNER)
    written = [path for path in folder.glob("*") if not path.name.startswith(OWNER)]
    if written and owner is None:
        raise TrainingError(f"{folder} holds files of no training here: choose another run_folder.")
    was = owner or {}
    changed = [
        f"{name} was {was.get(name)!r}, is {identity.get(name)!r}"
        for name in sorted({*was, *identity})
        if was.get(name) != identity.get(name)  # None: not chosen, or no choice yet
    ]
    if written and changed:
        raise TrainingError(
            f"{folder} belongs to another training ({'; '.join(changed)}): choose another "
            "run_folder, or delete that folder to start anew."
        )
    folder.mkdir(parents=True, exist_ok=True)
    if changed:
        _write_through(folder / OWNER, identity)


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def seal(checkpoint):
    """Marks a checkpoint complete: all files are on the disk, then the marker with their sha256."""
    checkpoint, sealed = Path(checkpoint), {}
    for path in sorted(checkpoint.rglob("*")):
        if path.is_file() and path.name != MARKER:
            with path.open("rb+") as stream:
                os.fsync(stream.fileno())
            name = path.relative_to(checkpoint).as_posix()
            sealed[name] = {"size": path.stat().st_size, "sha256": _sha256(path)}
    _write_through(checkpoint / MARKER, sealed)


def fault(checkpoint) -> str | None:
    """Why nothing can go on from a checkpoint, or None: a file missing, cut off or changed."""
    sealed = _read_json(Path(checkpoint) / MARKER)
    if sealed is None:
        return f"it was not finished: {MARKER} is missing or unreadable"
    for name, expected in sealed.items():
        path = Path(checkpoint) / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != expected["size"]:
            return f"{name} has {path.stat().st_size} bytes instead of {expected['size']}"
        if _sha256(path) != expected["sha256"]:
            return f"{name} is not what was written (another sha256)"
    return None


def newest_checkpoint(folder) -> Path | None:
    """The newest checkpoint below a folder that verifies; says which it passed over, and why."""
    numbered = {int(path.name.split("-")[1]): path for path in Path(folder).glob("checkpoint-*")}
    for _, path in sorted(numbered.items(), reverse=True):
        why = fault(path)
        if why is None:
            return path
        print(f"{path} is passed over: {why}.", file=sys.stderr, flush=True)
    return None
