"""Many runs: those of the plans in notebooks/params, each by one papermill call.

    snakemake -n paper/table1/minialbert-128    what would be made, and what that would cost
    snakemake paper/table1/minialbert-128       a row, and first the student it reads
    snakemake --cores 2 lab/ablations           a plan, two runs at a time

The same command goes on where a killed one stopped. A cluster: --workflow-profile profiles/slurm.
"""

import os
import sys
from pathlib import Path

import yaml

from minialbert.lab import plans
from minialbert.lab.parameters import ParameterError
from minialbert.lab.run import RunError

TFLOPS = float(config.get("gpu_tflops", 50))  # sustained: a guess for an A100; --config gpu_tflops=
CORES = os.environ.get("SLURM_CPUS_PER_TASK") or max(1, os.cpu_count() // (workflow.cores or 1))

# For every kernel: this environment's Python, pictures in the notebook, and glibc keeping the
# memory of freed tensors (three times as fast on tensors of a vocabulary's size).
os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"
os.environ.pop("MPLBACKEND", None)
os.environ.setdefault("MALLOC_MMAP_MAX_", "0")
os.environ.setdefault("MALLOC_TRIM_THRESHOLD_", "2147483647")

try:
    RUNS = plans.read_plans()
except (plans.PlanError, ParameterError) as error:
    raise WorkflowError(str(error)) from None
TARGETS = plans.targets(RUNS)


def made(wanted):
    """The marks of those runs that are not done."""
    try:
        marks = [Path(run.folder, ".made") for run in wanted if not run.is_done()]
    except (plans.PlanError, RunError) as error:
        raise WorkflowError(str(error)) from None
    for mark in marks:
        mark.unlink(missing_ok=True)  # an old one, of a record that somebody deleted
    return list(map(str, marks))


def summary(wanted):
    todo = plans.to_make(wanted, RUNS)
    return f"{len(todo)} runs to make, {plans.cost(todo, RUNS, TFLOPS)}" if todo else "all is made"


rule which:
    message:
        "Which plan? " + ", ".join(sorted({run.plan for run in RUNS.values()}))


for target, wanted in TARGETS.items():

    rule:
        name:
            target
        input:
            lambda wildcards, wanted=wanted: made(wanted),
        params:
            todo=lambda wildcards, wanted=wanted: summary(wanted),
        message:
            target + ": {params.todo}"


# A run's record, result.json, is no declared output: Snakemake deletes those before a job and after
# a failed one (`update`: puts back the old one), and the record holds what is finished so far. The
# output is a mark, for Snakemake alone; whether a run is done, its record says.
rule run:
    input:
        lambda wildcards: made(RUNS[name] for name in RUNS[wildcards.run].needs),
    output:
        touch("runs/{run}/.made"),
    params:
        folder="runs/{run}",
        notebook=lambda wildcards: RUNS[wildcards.run].notebook,
        executed=lambda wildcards: f"runs/{wildcards.run}/{RUNS[wildcards.run].notebook.name}",
        parameters=lambda wildcards: yaml.safe_dump(
            RUNS[wildcards.run].given | {"run_folder": f"../runs/{wildcards.run}"},
            sort_keys=False,  # systems are tuned in the plan's order
        ),
        cost=lambda wildcards: plans.cost([RUNS[wildcards.run]], RUNS, TFLOPS),
    message:
        "{wildcards.run}: {params.cost}; its log: {params.folder}/log.txt"
    shell:
        """
        export OMP_NUM_THREADS={CORES} MKL_NUM_THREADS={CORES}  # Snakemake says 1
        mkdir -p {params.folder:q}
        printf %s {params.parameters:q} > {params.folder:q}/parameters.yaml
        {sys.executable:q} -m papermill {params.notebook:q} {params.executed:q} \
            -f {params.folder:q}/parameters.yaml --cwd notebooks --log-output --no-progress-bar \
            >> {params.folder:q}/log.txt 2>&1 ||
            {{ tail -n 15 {params.folder:q}/log.txt >&2; exit 1; }}
        """
