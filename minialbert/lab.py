"""What a notebook needs besides its subject: checked parameters, a run's folder and manifest, exercise
checks, an environment check, and its own text in one form.

    python -m minialbert.lab environment
"""

import argparse
import ast
import copy
import dataclasses
import difflib
import importlib.metadata
import inspect
import itertools
import json
import math
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import time
import traceback
import types
import typing
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


# ---- parameters

class ParameterError(ValueError):
    """Unknown, mistyped or missing parameters: the message names each one and what to write instead."""


def _specification(known) -> dict:
    """{name: (type, default)} of a dataclass type or of {name: default}; a default of None allows None."""
    if not dataclasses.is_dataclass(known):
        return {name: (typing.Any if value is None else type(value), value) for name, value in known.items()}
    hints, found = typing.get_type_hints(known), {}
    for field in dataclasses.fields(known):
        made = field.default_factory is not dataclasses.MISSING
        default = field.default_factory() if made else field.default
        found[field.name] = (hints[field.name] | None if default is None else hints[field.name], default)
    return found


def _fits(value, hint) -> bool:
    origin, arguments = typing.get_origin(hint) or hint, typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, one) for one in arguments)
    if origin in (typing.Any, typing.Literal):
        return origin is typing.Any or value in arguments
    kind = {float: (int, float), tuple: (list, tuple), Path: (str, Path)}.get(origin, origin)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))  # here True is no 1


def _mistyped(name, value, hint) -> str:
    wanted, got = inspect.formatannotation(hint), type(value).__name__
    text = f"parameter '{name}' must be {wanted}, not {got} {value!r}"
    number = isinstance(value, str) and re.fullmatch(r"([-+]?\d+)(\.\d*)?e([-+]?)(\d+)", value, re.I)
    if number:  # YAML 1.1 wants a point before the e and a sign after it
        whole, point, sign, exponent = number.groups()
        text += f": YAML takes it for text, write {whole}{point or '.0'}e{sign or '+'}{exponent}"
    return text


def check_parameters(given: dict, known) -> dict:
    """All known parameters by name: those given, and the defaults of the others.

    Args:
        given: {name: value}, as a YAML file or papermill gives them.
        known: a dataclass type, or {name: default}.

    Raises:
        ParameterError: all at once: each unknown name with the nearest known one, each mistyped value, each
            missing one. An int passes for a float; a bool is no int.
    """
    known = _specification(known)
    values = {name: default for name, (_, default) in known.items()}
    unknown, mistyped = [], []
    for name, value in given.items():
        if name not in known:
            near = difflib.get_close_matches(str(name), known, 1)
            unknown.append(f"unknown parameter '{name}'" + (f"; did you mean '{near[0]}'?" if near else ""))
        elif not _fits(value, known[name][0]):
            mistyped.append(_mistyped(name, value, known[name][0]))
        else:
            values[name] = float(value) if known[name][0] is float else value
    missing = [f"parameter '{name}' has no default: give it" for name, value in values.items()
               if value is dataclasses.MISSING and name not in given]
    if unknown:
        unknown.append(f"Known: {', '.join(known) or 'none'}.")
    if problems := unknown + mistyped + missing:
        raise ParameterError("\n".join(problems))
    return values


def read_mapping(path) -> dict:
    """A YAML file of 'name: value', not yet checked; ParameterError if it is missing or something else."""
    import yaml

    path = Path(path)
    if not path.is_file():
        beside = [str(other) for other in path.parent.glob("*.y*ml")]
        near = difflib.get_close_matches(str(path), beside, 1, cutoff=0)
        raise ParameterError(f"no parameter file {path}" + (f"; the nearest is {near[0]}" if near else ""))
    try:
        content = yaml.safe_load(path.read_text(encoding="utf8"))
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1
        raise ParameterError(f"{path}, line {line}: not YAML: {error.problem}") from None
    if not isinstance(content or {}, dict):
        raise ParameterError(f"{path}: must be lines of 'name: value', got a {type(content).__name__}")
    return content or {}


def read_parameters(path, known) -> dict:
    """A flat YAML file of parameters, checked: see `check_parameters`.

    Raises:
        ParameterError: naming the file (or the nearest one there is) and, for bad YAML, the line.
    """
    given = read_mapping(path)
    try:
        return check_parameters(given, known)
    except ParameterError as error:
        raise ParameterError(f"{path}:\n{error}") from None


def _assignments(source: str):
    """The (name, annotation, value) of each top-level assignment to a plain name, as syntax trees."""
    for node in ast.parse(source).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and isinstance(target, ast.Name):
            yield target.id, getattr(node, "annotation", None), node.value


def parameters(known, namespace: dict, *also: str):
    """The parameters of this notebook, checked; for its first code cell after the `parameters` cell.

    Args:
        known: a dataclass type, or {name: default}.
        namespace: the notebook's `globals()`, where its `parameters` cell and papermill have put the values.
        also: names of parameters the notebook has besides the known ones.

    Returns an instance of the dataclass, or a dict.

    Raises:
        ParameterError: also for a name papermill injected that nobody knows; papermill itself only warns.
    """
    if "get_ipython" in namespace:
        namespace["get_ipython"]().set_custom_exc((NameError,), _cell_order)
    names = _specification(known)
    given = {name: namespace[name] for name in names if name in namespace}
    injected = [source for source in namespace.get("In", ()) if source.partition("\n")[0] == "# Parameters"]
    if injected:  # the last one: earlier ones may have been mended and run again
        given |= {name: None for name, *_ in _assignments(injected[-1]) if name not in (*given, *also)}
    values = check_parameters(given, known)
    return known(**values) if dataclasses.is_dataclass(known) else values


def _cell_order(shell, kind, error, trace, tb_offset=None):
    """A NameError in a notebook is nearly always a cell run before the ones above it: say what to run."""
    shell.showtraceback((kind, error, trace), tb_offset=tb_offset)
    print(f"{error}. Was a cell above left out? Choose Run > Run All Above Selected Cell, then run this one again.",
          file=sys.stderr)


def notebook_parameters(notebook) -> type:
    """The `parameters` cell of a notebook file as a dataclass type, fit for `check_parameters`."""
    cells = [cell for cell in read_notebook(notebook).cells if "parameters" in cell.metadata.get("tags", [])]
    fields = []
    for name, annotation, node in _assignments(cells[0].source) if cells else ():
        try:
            value = ast.literal_eval(node)
        except ValueError:
            value = None  # computed by the notebook itself: any value may take its place
        hint = typing.Any if value is None else type(value)
        if annotation is not None:
            hint = eval(ast.unparse(annotation), {"Path": Path, "Literal": typing.Literal})
        fields.append((name, hint, dataclasses.field(default_factory=lambda value=value: copy.copy(value))))
    return dataclasses.make_dataclass("Parameters", fields)


# ---- a run's folder

class NotYetRun(RuntimeError):
    """What an earlier notebook makes is not there; the message says which notebook to run."""


def require(path, made_by="07_distil", minutes=10) -> Path:
    """`path` if it exists; else NotYetRun, naming the notebook that makes it and its minutes on 2 cores."""
    if not Path(path).exists():
        raise NotYetRun(f"this notebook needs {path}; run notebook {made_by} first (about {minutes} minutes) "
                        "or `make run`")
    return Path(path)


def bf16_is_fast() -> bool:
    """Whether this machine multiplies matrices in bfloat16 natively: its GPU, else avx512_bf16 or amx."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    has = torch.cpu.get_capabilities()
    return bool(has.get("avx512_bf16") or has.get("amx_bf16") or has.get("bf16"))


def autocast(device, bf16: bool | None = None):
    """A context in which matrix products run in bfloat16; with None, where that is fast (`bf16_is_fast`)."""
    import torch

    return torch.autocast(torch.device(device).type, torch.bfloat16,
                          enabled=bf16_is_fast() if bf16 is None else bf16)


def keep_freed_memory():
    """Lets the C library keep the memory of freed tensors for the next ones instead of handing it back.

    glibc returns every large block to the kernel, which clears its pages anew at each use: on a virtual machine the
    larger part of a training step on the CPU (measured: 5x on vocabulary-sized tensors). No effect elsewhere.
    """
    import ctypes

    with suppress(AttributeError, OSError):
        mallopt = ctypes.CDLL(None).mallopt
        for option, value in ((-4, 0), (-1, 2**31 - 1), (-2, 64 << 20)):  # MMAP_MAX, TRIM_THRESHOLD, TOP_PAD
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
    head, changes = (subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True).stdout.strip()
                     for words in (["rev-parse", "--verify", "-q", "HEAD"], ["status", "--porcelain"]))
    return head + "+" * bool(changes) if head else None


def _version(package: str) -> str | None:
    with suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(package)


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
        versions = {"python": platform.python_version()} | {name: _version(name) for name in packages}
        self._save(status="running", started=datetime.now(timezone.utc).isoformat(timespec="seconds"),
                   command=shlex.join(sys.argv), parameters=plain(parameters or {}), seed=seed,
                   versions=versions, commit=_commit(), machine=_machine(here))

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
        self._save(status=status, seconds=round(time.perf_counter() - self._start, 1),
                   peak_memory_mb=round(peak / unit), peak_gpu_memory_mb=round(gpu_peak / 2**20),
                   metrics=plain(metrics or {}), **entries)

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
        made = {key: self.manifest[key] for key in ("status", "started", "seconds", "peak_memory_mb", "commit",
                                                    "versions", "machine")}
        elsewhere = ("run_folder", "store", "data")
        used = {key: value for key, value in self.manifest["parameters"].items() if key not in elsewhere}
        if part:
            before = json.loads(file.read_text(encoding="utf8")) if file.exists() else {"runs": [], "manifests": {}}
            own = {(one["task"], one.get("system")) for one in runs}
            runs = [one for one in before["runs"] if (one["task"], one.get("system")) not in own] + runs
            parts = before["manifests"] | {self.folder.name: made | {"parameters": used} | more}
            seconds = round(sum(one["seconds"] for one in parts.values()), 1)
            more = {"manifest": {"status": "done", "seconds": seconds}, "manifests": parts}
        else:
            more = {"parameters": used, "machine": made.pop("machine"), "manifest": made} | more
        what = f"Notebook {notebook}" + f" by {plan}" * bool(plan) + f": {about}" * bool(about) + "."
        write_json(file, {"what": what, "notebook": notebook, "plan": plan} | more | {"runs": runs})

    def __enter__(self):
        return self

    def __exit__(self, kind, error, _):
        if error is not None:
            self.finish(self.manifest.get("metrics"), status="failed", error=f"{kind.__name__}: {error}")
        elif self.manifest["status"] == "running":
            self.finish()


# ---- exercises

def check(name: str):
    """Decorator that names an exercise's check: a function of the reader's answer that asserts."""
    def named(function):
        function.exercise = name
        return function
    return named


def try_check(exercise, answer) -> bool:
    """Tries a check (see `check`) on the reader's function or value; prints "passed" or "not yet" and why."""
    try:
        exercise(answer)
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        home = answer.__code__.co_filename if hasattr(answer, "__code__") else None
        frame = next((frame for frame in reversed(frames) if frame.filename == home), frames[-1])
        match error:
            case NotImplementedError():
                why = "the stub is still empty"
            case AssertionError():
                why = str(error) or f"this does not hold: {frames[-1].line}"
            case _:
                why = f"{type(error).__name__}: {error} (line {frame.lineno}: {frame.line})"
        print(f"not yet: {exercise.exercise}: {why}")
        return False
    print(f"passed: {exercise.exercise}")
    return True


# ---- environment

def _pins() -> dict:
    """{package: tried version} of constraints.txt; outside a checkout the dependencies, without versions."""
    file = ROOT / "constraints.txt"
    if file.exists():
        return dict(re.findall(r"^([\w.-]+)==(\S+)", file.read_text(encoding="utf8"), re.M))
    return {re.match(r"[\w.-]+", need)[0]: None for need in importlib.metadata.requires("minialbert") or ()}


def check_environment(versions=True) -> list:
    """[(ok, what, fix)] for Python, each direct dependency, disk and memory; ok None: told, not judged.

    Without versions, what differs between machines is left out, so that a notebook's output stays the same.
    """
    from . import sources

    def say(long, short):
        return long if versions else short

    found = [(sys.version_info >= (3, 11), say(f"Python {platform.python_version()}", "Python"),
              "make the environment anew with Python 3.11 or newer")]
    for name, pin in _pins().items():
        has = _version(name)
        tried = has and (pin is None or has.split(".")[:2] == pin.split(".")[:2])
        found.append((bool(tried), say(f"{name} {has}", name) if tried else
                      f"{name} {has} is not the tried {pin}" if has else f"{name} is missing",
                      "pip install -c constraints.txt -e '.[all]'"))
    cache, free = sources.cache_dir(), 0
    with suppress(OSError):
        cache.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(cache).free / 1e9
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    found += [(free > 0 and os.access(cache, os.W_OK), say(f"cache {cache}", "a cache to write to"),
               "set MINIALBERT_CACHE to a folder you can write to"),
              (free >= 1, say(f"{free:.0f} GB free for the cache", "1 GB free for the cache"),
               "free some space, or set MINIALBERT_CACHE to a folder on a larger disk"),
              (memory >= 4, say(f"{memory:.0f} GB of memory", "4 GB of memory"), "use a larger machine")]
    if versions:
        fast = "fast" if _version("torch") and bf16_is_fast() else "no fast"
        teacher = "cached" if (cache / "all-MiniLM-L6-v2").exists() else "fetched at its first use (83 MB)"
        found += [(None, f"{os.cpu_count()} cores, {fast} bfloat16", ""),
                  (None, f"the lab's teacher: {teacher}", "")]
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


# ---- notebooks, read and written

def _tags(cell) -> list:
    return cell.metadata.get("tags", [])


def read_notebook(path):
    """A notebook file, with an id for each cell: its own, or cell-<number>."""
    import nbformat

    content = json.loads(Path(path).read_text(encoding="utf8"))
    taken, seen = {cell.get("id") for cell in content["cells"]}, {None}
    for number, cell in enumerate(content["cells"], 1):
        if cell.get("id") in seen:
            cell["id"] = next(name for n in itertools.count(number) if (name := f"cell-{n}") not in taken)
        taken.add(cell["id"])
        seen.add(cell["id"])
    return nbformat.reads(json.dumps(content | {"nbformat_minor": 5}), as_version=4)


def _canonical_outputs(cell) -> list:
    kept = []
    for output in cell.outputs:
        if output.output_type == "stream":
            if output.name == "stderr":
                continue
            if kept and kept[-1].output_type == "stream":
                kept[-1].text += output.text
                continue
        elif output.output_type == "error":  # the rest of a traceback names this machine's paths
            output.traceback = [f"{output.ename}: {output.evalue}"]
        elif "application/vnd.jupyter.widget-view+json" in output.data:  # a random id of a state nobody keeps
            output.data = {"text/plain": output.data.get("text/plain", "")}
        kept.append(output)
    return kept


def canonical(notebook) -> str:
    """The one text of an executed notebook: two refreshes of a deterministic notebook are byte-identical.

    Of cell metadata only the tags stay (a cell tagged `solution` is folded); no stderr, no widget state, of a
    traceback only its last line.
    """
    import nbformat

    notebook = copy.deepcopy(notebook)
    for cell in notebook.cells:
        tags, cell.metadata = _tags(cell), {}
        if tags:
            cell.metadata["tags"] = tags
        if "solution" in tags:
            cell.metadata["jupyter"] = {"source_hidden": True}
        if cell.cell_type == "code":
            cell.outputs = _canonical_outputs(cell)
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
        "language_info": {"name": "python"}}
    return nbformat.writes(nbformat.from_dict(notebook)) + "\n"


def main(arguments=None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser("python -m minialbert.lab", description="Says what is missing to run the lab.")
    parser.add_argument("command", choices=["environment"], help="check what is installed")
    parser.parse_args(arguments)
    return 0 if print_environment() else 1


if __name__ == "__main__":
    sys.exit(main())
