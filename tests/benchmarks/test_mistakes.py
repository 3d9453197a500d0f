"""Each planted mistake turns its notebook or test red; minutes, not part of `make test`.

`pytest tests/benchmarks/test_mistakes.py -k losses` plants those of one file.
"""

from functools import cache

import pytest
from mistakes import MISTAKES, copy_project, planted, run

PASSED, FAILED = 0, 1  # pytest's own; a copy that could not even be collected gives another


@pytest.fixture(scope="session")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    copy_project(folder)
    return folder


@pytest.fixture(scope="session")
def unharmed(project):
    """Runs a target without a mistake, once."""
    return cache(lambda target: run(project, target))


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda one: f"{one.file}-{one.wrong}")
def test_a_mistake_is_seen(mistake, project, unharmed):
    before = unharmed(mistake.seen_by)
    assert before.returncode == PASSED, before.stdout[-3000:]
    file = project / "minialbert" / mistake.file
    right = file.read_text(encoding="utf8")
    file.write_text(planted(mistake), encoding="utf8")
    try:
        after = run(project, mistake.seen_by)
    finally:
        file.write_text(right, encoding="utf8")
    assert after.returncode == FAILED, f"{mistake} was not seen:\n{after.stdout[-3000:]}"
