"""Notebooks refreshed in place, run by parameters, or run over plans: many runs, here or on a Dask cluster.

    python -m minialbert.batch run NOTEBOOK --parameters FILE.yaml --to FOLDER [-p NAME VALUE ...]
    python -m minialbert.batch refresh [NOTEBOOK ...]
    python -m minialbert.batch plan PLAN.yaml [--to runs] [--only NAME] [--dry-run] [--again]
                                              [--workers N] [--scheduler ADDRESS]

A plan is a YAML file, its name the file's if it gives no other. Every run has a folder, `runs/<plan>/<run>/`,
named by what varies; everything is checked before the first starts:

    notebook: 12_ablations            # of notebooks/, or a path beside the plan
    parameters: {steps: 300}          # of every run; or a parameter file beside the plan
    grid: {seed: [0, 1, 2]}           # every combination
    runs:                             # each once for every combination of the grid; keys as above, and a name
      - {name: undistilled, parameters: {steps: 0}}
      - grid: {alignment: [both, hidden]}                 # alignment=both,seed=0 and so on

The same command goes on where a killed one stopped: what is done is left, what was begun goes on from its own
checkpoints, what failed is tried again. A run's `result.json` says running, done or failed with parameters,
seconds, metrics and error; it is written whole or not at all. `manifest.json` is the notebook's own where it
keeps one (`lab.Run`), and `log.txt` holds what its cells printed.

One run after the other by default, for a training takes the whole machine. On a Dask cluster each run is a
task. Its workers need this package, the same folders and one thread each, and to hear how many cores a run
may take, for dask says one: DASK_DISTRIBUTED__NANNY__PRE_SPAWN_ENVIRON='{"OMP_NUM_THREADS": 8}'. By hand that
is `dask scheduler`, and `dask worker ADDRESS --nthreads 1` on each machine. By a batch system, from a Python
that stays open and prints the cluster's scheduler_address:

    dask_jobqueue.SLURMCluster(cores=1, job_cpu=8, memory="32GB").scale(jobs=4)  # Slurm
    dask_kubernetes.operator.KubeCluster(name="lab", image=IMAGE, n_workers=4)   # Kubernetes, folders mounted
    python -m minialbert.batch plan PLAN.yaml --scheduler ADDRESS --workers 4    # once 4 have come
"""

import argparse
import difflib
import fnmatch
import hashlib
import importlib
import itertools
import json
import logging
import os
import re
import shutil
import signal
import socket
import sys
import threading
import time
import uuid
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from . import lab


class NotebookFailed(RuntimeError):
    """A cell raised or the kernel died; the message says which, why, and where the executed notebook lies."""


class PlanError(ValueError):
    """A plan that cannot be run as it is; the message names what to change."""


# ---- one notebook, refreshed in place or run by parameters


def _kernel_options() -> dict:
    """How both runners below start a kernel: encrypted, for one that is not prints a warning."""
    from traitlets.config import Config

    return {
        "kernel_name": "python3",
        "config": Config(KernelManager={"transport_encryption": "auto"}),
    }


@contextmanager
def _own_kernel():
    """Kernels run this very Python, whatever "python3" kernel the user has, and draw into the notebook."""
    before = dict(os.environ)
    own = os.path.join(sys.prefix, "share", "jupyter")
    os.environ["JUPYTER_PATH"] = os.pathsep.join(filter(None, [own, before.get("JUPYTER_PATH")]))
    os.environ.pop("MPLBACKEND", None)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def refresh(paths=()):
    """Runs notebooks, by default all, in their own folders and writes them back in canonical form.

    Raises:
        NotebookFailed: a cell without the tag `raises-exception` raised; that file is left as it was.
    """
    import nbclient

    for path in map(Path, paths or sorted((lab.ROOT / "notebooks").glob("*.ipynb"))):
        start, notebook = time.perf_counter(), lab.read_notebook(path)
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
        print(f"{path.name:<40}", end="", flush=True)
        options = {"resources": {"metadata": {"path": str(path.parent)}}, **_kernel_options()}
        try:
            with _own_kernel():
                nbclient.NotebookClient(notebook, timeout=7200, **options).execute()
        except (
            nbclient.exceptions.CellExecutionError,
            nbclient.exceptions.DeadKernelError,
        ) as error:
            print("failed")
            raise NotebookFailed(f"{path}: {error}") from None
        lab.write_text(path, lab.canonical(notebook))
        print(f"{time.perf_counter() - start:7.1f} s", flush=True)


def _explain(error) -> str:
    """Of a papermill error: which cell, its first lines, the traceback's last."""
    lines = re.sub(r"\x1b\[[\d;]*m", "", "\n".join(error.traceback)).splitlines()
    return "\n".join(
        [
            f"cell {error.cell_index + 1}, In [{error.exec_count}], raised {error.ename}:",
            "",
            *(f"    {line}" for line in error.source.splitlines()[:6]),
            "",
            *lines[-8:],
        ]
    )


def _forgive_expected(output: Path, error):
    """Papermill takes an exception in a cell tagged `raises-exception` for a failure; only others are."""
    notebook = lab.read_notebook(output)
    for cell in notebook.cells:
        raised = any(one.output_type == "error" for one in cell.get("outputs", ()))
        if raised and "raises-exception" not in cell.metadata.get("tags", ()):
            raise NotebookFailed(f"{_explain(error)}\n\nThe executed notebook: {output}") from None
    notebook.cells = [
        cell
        for cell in notebook.cells
        if "papermill-error-cell-tag" not in cell.metadata.get("tags", ())
    ]
    lab.write_text(output, lab.canonical(notebook))


@contextmanager
def _logged(file: Path):
    """What papermill logs, cell by cell with all they print, goes to the end of a file."""
    log, handler = logging.getLogger("papermill"), logging.FileHandler(file, encoding="utf8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    handler.addFilter(
        lambda one: "unknown parameter" not in one.msg
    )  # it cannot read `x: int | None = 1`
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        handler.close()


def run_notebook(notebook, parameters, to, quiet=False, **engine) -> Path:
    """Runs a notebook in its own folder, by papermill; returns the executed copy.

    Args:
        notebook: its file.
        parameters: {name: value} or a YAML file, checked against the `parameters` cell before the start.
        to: the folder for the executed notebook and log.txt, made if need be; the notebook gets it as its
            parameter `run_folder`, if it has one.
        quiet: what the cells print goes to log.txt alone.
        engine: traits of nbclient's NotebookClient.

    Raises:
        ParameterError: unknown or mistyped parameters, or no such file.
        NotebookFailed: a cell without the tag `raises-exception` raised, or the kernel died.
    """
    import nbclient
    import papermill
    from tqdm.contrib import DummyTqdmFile

    notebook, folder = Path(notebook).resolve(), Path(to).resolve()
    if not notebook.is_file():
        raise lab.ParameterError(f"no notebook {notebook}")
    given = dict(parameters) if isinstance(parameters, dict) else lab.read_mapping(parameters)
    known = lab.notebook_parameters(notebook)
    if "run_folder" in known.__dataclass_fields__:
        given["run_folder"] = str(folder)
    lab.check_parameters(given, known)
    folder.mkdir(parents=True, exist_ok=True)
    output, watched = folder / notebook.name, sys.stderr.isatty() and not quiet
    if not quiet:
        engine["stdout_file"] = DummyTqdmFile(sys.stdout) if watched else sys.stdout
        engine["stderr_file"] = sys.stderr
    try:
        with _own_kernel(), _logged(folder / "log.txt"):
            papermill.execute_notebook(
                str(notebook),
                str(output),
                given,
                cwd=str(notebook.parent),
                log_output=True,
                progress_bar=watched,
                **_kernel_options(),
                **engine,
            )
    except papermill.PapermillExecutionError as error:
        _forgive_expected(output, error)
    except nbclient.exceptions.DeadKernelError:
        raise NotebookFailed(
            "the kernel died, most often for want of memory: try a smaller batch\n\n"
            f"The executed notebook: {output}"
        ) from None
    return output


# ---- a plan


@dataclass(frozen=True)
class PlannedRun:
    """One run of a plan, checked."""

    plan: str
    name: str
    notebook: Path
    code: str  # hash of the notebook's code cells
    given: dict  # what the plan says
    parameters: dict  # that, and the notebook's defaults; all but run_folder
    folder: Path


def _word(value) -> str:
    """A value as part of a folder's name."""
    if isinstance(value, (list, tuple)):
        return "-".join(map(_word, value))
    text = value if isinstance(value, str) else json.dumps(lab.plain(value))
    return re.sub(r"[^\w.+-]+", "-", text).strip("-.")[:40]


def _words(values: dict) -> str:
    return ",".join(f"{name}={_word(values[name])}" for name in sorted(values))


def _group(entry, where: str, folder: Path, also=()) -> dict:
    """A group of runs as the plan writes it, its types checked, its parameter file read, no key missing."""
    kinds = {
        "name": (str, int, float),
        "notebook": str,
        "parameters": (dict, str),
        "grid": dict,
    } | dict(also)
    if not isinstance(entry, dict):
        raise PlanError(
            f"{where}: must be a mapping with some of {', '.join(kinds)}, got {entry!r}"
        )
    for key, value in entry.items():
        if key not in kinds:
            near = difflib.get_close_matches(str(key), kinds, 1)
            raise PlanError(
                f"{where}: unknown key '{key}'"
                + (f"; did you mean '{near[0]}'?" if near else "")
                + f" Known: {', '.join(kinds)}; a notebook's own go under parameters or grid."
            )
        if not isinstance(value, kinds[key]):
            raise PlanError(f"{where}: '{key}' cannot be {value!r}")
    group = {"name": None, "notebook": None, "parameters": {}, "grid": {}, "runs": None} | entry
    for name, values in group["grid"].items():
        if not isinstance(values, list) or not values:
            raise PlanError(
                f"{where}: grid: '{name}' must be a list of values, as in {name}: [{values}]"
            )
    if isinstance(group["parameters"], str):
        file = folder / group["parameters"]
        group |= {"parameters": lab.read_mapping(file), "name": group["name"] or file.stem}
    group["parameters"] = {
        name: value for name, value in group["parameters"].items() if name != "run_folder"
    }
    return group


def _find_notebook(name, folder: Path) -> Path:
    """A notebook by its path beside the plan or in the checkout, or by its bare name in notebooks/."""
    file, course = f"{name}".removesuffix(".ipynb") + ".ipynb", lab.ROOT / "notebooks"
    for path in (folder / file, lab.ROOT / file, course / file):
        if path.is_file():
            return path.resolve()
    there = [path.stem for place in (folder, course) for path in sorted(place.glob("*.ipynb"))]
    near = difflib.get_close_matches(Path(file).stem, there, 1)
    raise PlanError(
        f"no notebook '{name}'"
        + (f"; did you mean '{near[0]}'?" if near else f"; there are {', '.join(there)}")
    )


def _combinations(file: Path):
    """The (name, notebook, parameters) of each run of a plan file, not yet checked."""
    top = _group(lab.read_mapping(file), str(file), file.parent, {"runs": list}.items())
    for number, entry in enumerate(top["runs"] or [{}], 1):
        where = f"{file}, run {number}" if top["runs"] else str(file)
        group = _group(entry, where, file.parent)
        notebook = group["notebook"] or top["notebook"]
        if notebook is None:
            raise PlanError(
                f"{where}: which notebook? Write a line such as 'notebook: 12_ablations'"
            )
        common, grid = top["parameters"] | group["parameters"], top["grid"] | group["grid"]
        if both := sorted(common.keys() & grid.keys()):
            raise PlanError(
                f"{where}: '{both[0]}' stands under parameters and in the grid: leave one"
            )
        for values in itertools.product(*grid.values()):
            varied = dict(zip(grid, values))
            words = _words(varied if group["name"] else group["parameters"] | varied)
            name = ",".join(filter(None, [str(group["name"] or ""), words])) or Path(notebook).stem
            yield name, notebook, common | varied


def _check_names(names: list):
    for name in names:
        if not re.fullmatch(r"[\w=+][\w.,=+-]{0,199}", name):
            raise PlanError(
                f"'{name}' cannot name a folder: give that run a name: of at most 200 letters, "
                "digits and . , = + - _"
            )
    seen = set()
    for name in names:
        if name.casefold() in seen:  # not every disk tells A from a
            raise PlanError(
                f"two runs are called '{name}': give one another name:, or take one away"
            )
        seen.add(name.casefold())


def _code(notebook: Path) -> str:
    """A hash of what a notebook runs; prose and outputs may change."""
    cells = (cell.source for cell in lab.read_notebook(notebook).cells if cell.cell_type == "code")
    return hashlib.sha256("\0".join(cells).encode()).hexdigest()[:16]


def read_plan(file, to="runs") -> list[PlannedRun]:
    """The runs of a plan file, in its order, every parameter of every run checked.

    Raises:
        PlanError: unknown keys, no such notebook, two runs of one name.
        ParameterError: all at once: each unknown, mistyped or missing parameter, with the runs it concerns.
    """
    file = Path(file)
    plan, found = str(lab.read_mapping(file).get("name", file.stem)), list(_combinations(file))
    _check_names([plan])
    _check_names([name for name, *_ in found])
    notebooks = {name: _find_notebook(name, file.parent) for _, name, _ in found}
    known = {name: lab.notebook_parameters(path) for name, path in notebooks.items()}
    codes = {name: _code(path) for name, path in notebooks.items()}
    runs, wrong = [], defaultdict(list)
    for name, notebook, given in found:
        try:
            parameters = lab.check_parameters(given, known[notebook])
        except lab.ParameterError as error:
            wrong[str(error)].append(name)
            continue
        parameters.pop("run_folder", None)
        runs.append(
            PlannedRun(
                plan,
                name,
                notebooks[notebook],
                codes[notebook],
                given,
                lab.plain(parameters),
                Path(to).resolve() / plan / name,
            )
        )
    if wrong:
        raise lab.ParameterError(
            "\n".join(
                f"{file}, run {names[0]}"
                + f" and {len(names) - 1} more" * (len(names) > 1)
                + f":\n{error}"
                for error, names in wrong.items()
            )
        )
    return runs


def _state(run: PlannedRun) -> tuple[str, dict, str]:
    """A run's state (new, done, failed, killed, changed), its stored result, and what has changed since."""
    file = run.folder / "result.json"
    if not file.exists():
        return "new", {}, ""
    try:
        stored = json.loads(file.read_text("utf8"))
        before = stored["parameters"]
    except (ValueError, KeyError, TypeError):
        raise PlanError(
            f"{file} is not what was written there: delete the folder, and the run is made anew"
        ) from None
    changes = [
        f"{name} was {before.get(name)!r}, now {run.parameters.get(name)!r}"
        for name in sorted(before.keys() | run.parameters.keys())
        if before.get(name) != run.parameters.get(name)
    ]
    if stored["status"] == "done" and stored.get("code") != run.code:
        changes.append(f"the code of {run.notebook.name} was another")
    state = {"running": "killed"}.get(
        stored["status"], stored["status"]
    )  # or being made: its lock tells
    return ("changed" if changes else state), stored, "; ".join(changes)


def _refuse_changed(states: dict):
    changed = [
        f"  {name}: {changes}" for name, (state, _, changes) in states.items() if state == "changed"
    ]
    if changed:
        raise PlanError(
            "\n".join(
                [
                    "these runs were made otherwise:",
                    *changed,
                    "To delete them and make them anew, add --again.",
                    "To keep them, set the plan back, or give it another name.",
                ]
            )
        )


# ---- one run of a plan, made here or on a worker

PATIENCE = 10  # seconds to wait for a killed batch's kernel to end
_one_at_a_time = threading.Lock()  # in a process: papermill changes its working directory
_kernels = {}  # {process id: the session it works for}
_stopped = set()  # sessions


def end_kernels(session: str):
    """Ends the kernels that this process runs for a session, with all they have started; starts no more."""
    _stopped.add(session)
    for process, owner in list(_kernels.items()):
        if owner == session:
            with suppress(ProcessLookupError):
                os.killpg(process, signal.SIGKILL)


def _manager(run: PlannedRun, lock: int, session: str) -> type:
    """A kernel manager whose kernel holds the run's lock too: it may outlive this process for a while."""
    from jupyter_client import AsyncKernelManager

    class Manager(AsyncKernelManager):
        async def start_kernel(self, **options):
            with (run.folder / "log.txt").open("ab") as log:  # for its own last words
                await super().start_kernel(pass_fds=(lock,), stdout=log, stderr=log, **options)
            _kernels[self.provisioner.pid] = session
            if session in _stopped:
                end_kernels(session)

    return Manager


@contextmanager
def _claimed(folder: Path):
    """The lock of a run's folder as an open file's number, or None where another process keeps it."""
    from filelock import lock_descriptor

    folder.mkdir(parents=True, exist_ok=True)
    lock, until = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT), time.monotonic() + PATIENCE
    try:
        while not (held := lock_descriptor(lock, blocking=False)) and time.monotonic() < until:
            time.sleep(0.1)
        yield lock if held else None
    finally:
        os.close(lock)


def _empty(folder: Path):
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != ".lock":
            path.unlink()


def _close_manifest(folder: Path, **end) -> dict:
    """Closes a manifest that still says running; returns its metrics, else those of metrics.json."""
    manifest = json.loads((folder / "manifest.json").read_text("utf8"))
    if manifest["status"] == "running":
        manifest = manifest | end
        lab.write_json(folder / "manifest.json", manifest)
    if not manifest.get("metrics") and (folder / "metrics.json").exists():
        return json.loads((folder / "metrics.json").read_text("utf8"))
    return manifest.get("metrics") or {}


def make(run: PlannedRun, session: str, again=False) -> dict:
    """Makes one run of a plan, if it is not done, and returns its result; a failing cell does not raise.

    The result's status: done, failed, busy (another process makes it) or stopped (by `end_kernels`).
    """
    with _one_at_a_time, _claimed(run.folder) as lock:
        label = {"plan": run.plan, "name": run.name}
        if lock is None or session in _stopped:
            return label | {"status": "stopped" if session in _stopped else "busy"}
        state, stored, changes = _state(run)
        if state == "done":
            return stored
        if state == "changed" and not again:
            return label | {"status": "failed", "error": f"made otherwise meanwhile: {changes}"}
        if state == "changed":
            _empty(run.folder)
        starts = 1 if state == "changed" else stored.get("starts", 0) + 1
        return _make(
            run,
            session,
            lock,
            label
            | {
                "status": "running",
                "notebook": run.notebook.name,
                "code": run.code,
                "parameters": run.parameters,
                "starts": starts,
                "host": socket.gethostname(),
            },
        )


def _make(run: PlannedRun, session: str, lock: int, result: dict) -> dict:
    lab.write_json(run.folder / "result.json", result)
    manifest = lab.Run(run.folder, run.parameters, run.parameters.get("seed"), here=False).manifest
    start = time.perf_counter()
    try:
        run_notebook(
            run.notebook,
            run.given,
            run.folder,
            quiet=True,
            kernel_manager_class=_manager(run, lock, session),
        )
        end = {"status": "done"}
    except Exception as error:  # whatever it was, the other runs go on
        if session in _stopped:
            return result | {"status": "stopped"}
        text = (
            str(error) if isinstance(error, NotebookFailed) else f"{type(error).__name__}: {error}"
        )
        end = {"status": "failed", "error": text}
    finally:
        _kernels.clear()
    end["seconds"] = round(time.perf_counter() - start, 1)
    metrics = _close_manifest(run.folder, **end)
    result |= {"started": manifest["started"], **end, "metrics": metrics}
    lab.write_json(run.folder / "result.json", result)
    return result


# ---- all runs of a plan


def _outcome(run: PlannedRun, future) -> dict:
    try:
        return future.result()
    except Exception as error:  # a worker lost several times, no room on its disk
        why = f"{type(error).__name__}: {error}"
        return {"plan": run.plan, "name": run.name, "status": "failed", "error": why}


def _here(todo, session, again, show):
    """Makes runs one after the other in a thread, so that this one can hear signals; yields the results."""
    with ThreadPoolExecutor(1) as pool:
        for run in todo:
            show(run.name)
            future = pool.submit(make, run, session, again)
            try:
                result = _outcome(run, future)
            except BaseException:
                end_kernels(session)
                raise
            yield result


def _leave_interrupts_alone():
    """On a worker here: Ctrl-C reaches it too, yet the batch alone answers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def _client(scheduler, workers):
    from distributed import Client, LocalCluster

    if not scheduler:
        threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, os.cpu_count() // workers))
        with LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            memory_limit=0,
            dashboard_address=None,
            silence_logs="CRITICAL",
            env={"OMP_NUM_THREADS": threads},
        ) as cluster:
            with Client(cluster) as client:
                client.run(_leave_interrupts_alone)
                yield client
        return
    try:
        client = Client(scheduler)
    except (OSError, ValueError) as error:
        raise PlanError(
            f"no Dask scheduler answers at {scheduler} ({error}): start one with "
            "`dask scheduler`, and give the address it prints"
        ) from None
    with client:
        if workers:
            client.wait_for_workers(workers)
        yield client


def _on_cluster(todo, session, again, show, scheduler, workers):
    """Makes runs as tasks of a Dask cluster, which gives a lost worker's to another; yields the results."""
    from distributed import as_completed

    with _client(scheduler, workers) as client:
        show(client.scheduler.address)
        futures = {client.submit(make, run, session, again, pure=False): run for run in todo}
        try:
            for future in as_completed(futures):
                yield _outcome(futures[future], future)
        except BaseException:
            client.cancel(list(futures))
            client.run(end_kernels, session, on_error="ignore")  # a worker may be gone too
            raise


@contextmanager
def _terminable():
    """SIGTERM ends as Ctrl-C does."""

    def stop(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def run_plan(runs: list[PlannedRun], scheduler=None, workers=None, again=False) -> list[dict]:
    """Makes all runs that are not done, one after the other; with a progress bar and a line for each.

    Args:
        runs: of `read_plan`.
        scheduler: a Dask scheduler's address: make them on its workers.
        workers: without scheduler: so many processes here, side by side; with: wait until so many have come.
        again: delete what was made with other parameters or another notebook, and make it anew.

    Returns the results in the order of the runs; those not "done" say why.

    Raises:
        PlanError: some were made with other parameters or by another notebook (nothing is started), or no
            scheduler answers.
        KeyboardInterrupt: on SIGINT and, in the main thread, SIGTERM; kernels are ended, runs can go on.
    """
    from tqdm import tqdm

    states = {run.name: _state(run) for run in runs}
    if not again:
        _refuse_changed(states)
    results = {name: stored for name, (state, stored, _) in states.items() if state == "done"}
    todo, session = [run for run in runs if run.name not in results], uuid.uuid4().hex
    in_main = threading.current_thread() is threading.main_thread()
    with (
        tqdm(total=len(runs), initial=len(results), unit="run", disable=None) as bar,
        _terminable() if in_main else suppress(),
    ):
        more = (scheduler, workers) if scheduler or workers else ()
        for result in (_on_cluster if more else _here)(
            todo, session, again, bar.set_postfix_str, *more
        ):
            results[result["name"]] = result
            seconds = f"  {result['seconds']:.1f} s" if "seconds" in result else ""
            tqdm.write(
                f"[{len(results)}/{len(runs)}] {result['name']}  {result['status']}{seconds}"
            )
            bar.update()
    return [results[run.name] for run in runs]


# ---- the command line


def _table(runs: list[PlannedRun]) -> str:
    """What a plan would do, a line a run."""
    words = {
        "new": "to do",
        "killed": "to go on",
        "failed": "to try again",
        "changed": "made otherwise",
    }
    width, lines = max(len(run.name) for run in runs), []
    for run in runs:
        state, stored, changes = _state(run)
        more = changes or (f"{stored['seconds']:.1f} s" if state == "done" else "")
        word = words.get(state, state)
        lines.append(f"{run.name:<{width}}  {run.notebook.stem}  {word:<14}  {more}".rstrip())
    return "\n".join(lines)


def _briefly(error: str) -> str:
    """Of a failure its first line, and the last two: what was raised, and the executed notebook."""
    lines = [line for line in error.splitlines() if line.strip()]
    return "\n".join(f"    {line}" for line in dict.fromkeys([lines[0], *lines[1:][-2:]]))


def _plan(arguments) -> int:
    runs = read_plan(arguments.plan, arguments.to)
    if arguments.only:
        names = [run.name for run in runs]
        for wanted in arguments.only:
            if not fnmatch.filter(names, wanted):
                near = difflib.get_close_matches(wanted, names, 1, cutoff=0)
                raise PlanError(f"no run '{wanted}' in {arguments.plan}; did you mean '{near[0]}'?")
        runs = [
            run
            for run in runs
            if any(fnmatch.fnmatch(run.name, wanted) for wanted in arguments.only)
        ]
    if arguments.dry_run:
        print(_table(runs))
        return 0
    results = run_plan(runs, arguments.scheduler, arguments.workers, arguments.again)
    left = [(run, result) for run, result in zip(runs, results) if result["status"] != "done"]
    print(f"{len(runs) - len(left)} of {len(runs)} runs are done: {runs[0].folder.parent}")
    for run, result in left:
        why = _briefly(result["error"]) if "error" in result else "    another process makes it"
        print(f"\n{result['status']}: {run.name}\n{why}", file=sys.stderr)
    if left:
        print("\nThe same command tries them again.", file=sys.stderr)
    return 1 if left else 0


def _run(arguments) -> int:
    import yaml

    given = lab.read_mapping(arguments.parameters) if arguments.parameters else {}
    given |= {name: yaml.safe_load(value) for name, value in arguments.p}
    start = time.perf_counter()
    output = run_notebook(arguments.notebook, given, arguments.to)
    print(f"\n{output.name} took {(time.perf_counter() - start) / 60:.1f} minutes.\n")
    if (report := output.with_name("report.txt")).exists():
        print(report.read_text("utf8"))
    print(
        "Look at:",
        *map(os.path.relpath, [output, *sorted(output.parent.glob("*.png"))]),
        sep="\n  ",
    )
    return 0


def _refresh(arguments) -> int:
    refresh(arguments.notebooks)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m minialbert.batch", description=__doc__.partition("\n\n")[0]
    )
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="run a notebook by parameters, into a folder")
    run.add_argument("notebook")
    run.add_argument("--parameters", metavar="FILE", help="YAML, lines of 'name: value'")
    run.add_argument(
        "-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="one more"
    )
    run.add_argument("--to", required=True, metavar="FOLDER")
    run.set_defaults(do=_run)
    fresh = commands.add_parser("refresh", help="run notebooks and write them back")
    fresh.add_argument("notebooks", nargs="*")
    fresh.set_defaults(do=_refresh)
    plan = commands.add_parser("plan", help="make all runs of a plan that are not done")
    plan.add_argument("plan", metavar="PLAN.yaml")
    plan.add_argument(
        "--to", default="runs", metavar="FOLDER", help="of the plan's folder (default: runs)"
    )
    plan.add_argument(
        "--only", action="append", metavar="NAME", help="this run; * stands for anything"
    )
    plan.add_argument(
        "--dry-run", action="store_true", help="check, say what would be done, and do nothing"
    )
    plan.add_argument(
        "--again", action="store_true", help="delete and make anew what was made otherwise"
    )
    plan.add_argument(
        "--workers", type=int, metavar="N", help="side by side here; or to wait for there"
    )
    plan.add_argument("--scheduler", metavar="ADDRESS", help="of a Dask cluster")
    plan.set_defaults(do=_plan)
    return parser


def main(arguments=None) -> int:
    """The command line; returns the exit status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments and arguments[0].endswith((".yaml", ".yml")):
        arguments.insert(0, "plan")
    arguments = _parser().parse_args(arguments)
    try:
        return arguments.do(arguments)
    except (lab.ParameterError, PlanError, NotebookFailed) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on", file=sys.stderr)
        return 130


if __name__ == "__main__":
    # The module by its name, not this copy of it: a cluster's workers cannot import what belongs to __main__.
    sys.exit(importlib.import_module("minialbert.batch").main())
