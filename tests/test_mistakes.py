"""The mistakes that `make bench` plants can still be planted: their lines are there, once."""

import ast
from collections import Counter

import pytest
from conftest import ROOT
from mistakes import MISTAKES, planted


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.wrong)
def test_it_can_be_planted(mistake):
    ast.parse(planted(mistake))
    file, *test = mistake.seen_by.split("::")
    text = (ROOT / file).read_text(encoding="utf8")
    assert all(name in text for name in test)


def test_notebooks_see_some_of_each_room():
    seen = Counter(mistake.file for mistake in MISTAKES if mistake.seen_by.endswith(".ipynb"))
    assert seen.keys() == {mistake.file for mistake in MISTAKES}
    assert seen.total() >= 27 and min(seen.values()) >= 3
