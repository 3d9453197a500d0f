"""What a record says of the machine, memory counted, the environment's check, and a full disk."""

import os
import re
import subprocess
import sys
from contextlib import contextmanager

import pytest
import torch
from safetensors.torch import load_file
from tiny import make_corpus, make_teacher

from minialbert.checkpoints import newest_checkpoint
from minialbert.distillation import DistilArguments, distil, prepare
from minialbert.lab import machine


def test_a_record_says_what_ran_where():
    found = machine.describe()
    assert found["cores"] >= 1 and found["processor"] and found["gpu"] is None
    assert found["gflops"]["fp32"] > 1 and found["gflops"]["bf16"] > 0
    code = machine.code()
    assert re.fullmatch(r"[0-9a-f]{16}", code["hash"]) and code == machine.code()
    assert code["commit"] is None or re.fullmatch(r"[0-9a-f]{40}\+?", code["commit"])


def test_memory_is_counted_while_it_is_held():
    known = torch.zeros(1000)
    with machine.MemoryAccount(known) as account:
        known += 1
        kept = torch.ones(250)
        _ = kept + torch.ones(250)
        view = kept[:10].view(2, 5)
    assert account.now == 2 * 1000 and account.most == 3 * 1000
    del kept, view, _
    assert account.now == 0


# ---- the environment


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout of nothing but constraints: torch as installed, pandas not, and one unknown."""
    torch_version = torch.__version__.partition("+")[0]
    (tmp_path / "constraints.txt").write_text(
        f"# why\ntorch=={torch_version}\npandas==1.0.0\nno-such-package==1.2\n"
    )
    monkeypatch.setattr(machine, "ROOT", tmp_path)
    monkeypatch.setenv("MINIALBERT_CACHE", str(tmp_path / "cache"))
    return tmp_path


def test_environment_says_what_to_fix(checkout, capsys):
    assert machine.print_environment() is False
    said = capsys.readouterr().out.splitlines()
    assert f"OK    torch: {torch.__version__.partition('+')[0]}" in said[1].partition("+")[0]
    missing, pandas = (
        next(line for line in said if name in line) for name in ("no-such-package", "pandas")
    )
    assert missing.startswith("FAIL  no-such-package: missing; fix: ") and "1.2" in missing
    assert pandas.startswith("FAIL  pandas: ") and "1.0.0" in pandas
    assert said[-1].endswith("things checked: 2 to fix")


def test_environment_that_is_well_is_told_alike_everywhere(checkout, capsys):
    (checkout / "constraints.txt").write_text(f"torch=={torch.__version__.partition('+')[0]}\n")
    assert machine.print_environment(shown=False) is True
    assert capsys.readouterr().out == "5 things checked: all is ready\n"


def test_environment_needs_a_cache_it_can_write(checkout, monkeypatch, capsys):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    machine.print_environment(shown=False)
    assert "FAIL  a cache to write to" in (said := capsys.readouterr().out)
    assert "set MINIALBERT_CACHE" in said


def test_the_command_checks_it(capsys):
    assert machine.main([]) == 2 and "environment" in capsys.readouterr().out
    assert machine.main(["environment"]) == 0, capsys.readouterr().out
    assert "GFLOP/s" in capsys.readouterr().out


# ---- a full disk


@contextmanager
def small_disk(folder, kilobytes):
    """A file system of that size at `folder`."""
    folder.mkdir()
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("needs Linux and root, to mount a small file system")
    command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "none", str(folder)]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("may not mount a small file system here")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)  # files are still open


@pytest.mark.slow
def test_a_full_disk_loses_no_complete_checkpoint(tmp_path, monkeypatch, capsys):
    """The second checkpoint does not fit; with room again the run ends as one that had it."""
    monkeypatch.setenv("MINIALBERT_CACHE", str(tmp_path / "cache"))
    choices = {
        "teacher": str(make_teacher(tmp_path / "teacher")),
        "corpus": str(make_corpus(tmp_path / "corpus.jsonl")),
        "window": 16,
        "overlap": 4,
        "num_iterations": 2,
        "embedding_size": 8,
        "steps": 6,
        "batch_size": 4,
        "warmup_steps": 2,
        "heldout_windows": 8,
        "save_steps": 2,
    }

    def run(folder):
        return distil(prepare(DistilArguments(run_folder=str(folder), **choices))).folder

    whole = load_file(run(tmp_path / "whole") / "model.safetensors")
    files = (tmp_path / "whole/checkpoints/checkpoint-4").rglob("*")
    kilobytes = sum(file.stat().st_size // 1024 + 4 for file in files)
    disk = tmp_path / "disk"
    with small_disk(disk, round(1.6 * kilobytes)):
        with pytest.raises((OSError, RuntimeError)):  # torch's own says "unexpected pos"
            run(disk)
        assert newest_checkpoint(disk / "checkpoints").name == "checkpoint-2"
        assert "checkpoint-4 is passed over" in capsys.readouterr().err
        size = f"remount,size={9 * kilobytes}k"
        subprocess.run(["mount", "-o", size, str(disk)], check=True)
        resumed = load_file(run(disk) / "model.safetensors")
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)
