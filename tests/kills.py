"""Runs that kill themselves: each in a process forked from one that has imported everything."""

import contextlib
import multiprocessing
import os
import signal

from minialbert import training


def run_and_kill(work, *arguments, at=None, told=os.devnull):
    """Calls work(*arguments) in a new process, which SIGKILLs itself after the training step `at`
    (None: never).

    Returns its exit code. What it says on stderr goes to the file `told`.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["minialbert.distillation", "minialbert.finetuning"])
    process = context.Process(target=_run, args=(work, arguments, at, str(told)))
    process.start()
    process.join()
    return process.exitcode


def _run(work, arguments, at, told):
    class KillsItself(training.Progress):
        def on_step_end(self, args, state, control, **_):
            if state.global_step == at:
                os.kill(os.getpid(), signal.SIGKILL)

    training.Progress = KillsItself
    with open(told, "w") as file, contextlib.redirect_stderr(file):
        work(*arguments)
