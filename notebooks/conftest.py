"""nbval with a tolerance: same words, and each number close to the committed one.

A whole number must be the same. Any other may differ by one unit of its last printed digit, or by
what a tag of its cell allows: `tolerance-0.02`, or `tolerance-5%` of the number. A pattern after it
keeps that to some lines: `tolerance-0.3:random` is for those with "random" in them. Blanks are not
counted, since a number that is a digit shorter moves what stands next to it.
"""

import re
from decimal import Decimal

import pytest
from nbval.plugin import IPyNbCell

# Not a part of a word or of a version: fp16, layer_3 and 2.13.0 are words.
NUMBER = re.compile(
    r"(?<![\w.])([-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:e[-+]\d\d+)?)(?!\d|\.\d)"
)
TAG = re.compile(r"tolerance-(\d*\.?\d+)(%?)(?::(.+))?")


def last_digit(number):
    """One unit of a printed number's last digit: 0.01 of "3.14"; 0 of a whole number."""
    if number.lstrip("+-").isdigit():
        return Decimal(0)
    return Decimal(1).scaleb(Decimal(number).as_tuple().exponent)


def close(first, second, tags=(), line=""):
    """Whether two printed numbers agree, by their last digits or by a tag's tolerance."""
    first, second = first.replace(",", ""), second.replace(",", "")
    size = max(abs(Decimal(first)), abs(Decimal(second)))
    allowed = [min(last_digit(first), last_digit(second))]
    for tag in tags:
        value, percent, pattern = TAG.fullmatch(tag).groups()
        if not pattern or re.search(pattern, line):
            allowed.append(Decimal(value) * size / 100 if percent else Decimal(value))
    return abs(Decimal(first) - Decimal(second)) <= max(allowed)


def line_of(number):
    """The line that a match stands in."""
    before, after = number.string[: number.start()], number.string[number.start() :]
    return before.rpartition("\n")[2] + after.partition("\n")[0]


def agree(first, second, tags=()):
    """Whether two outputs have the same words and numbers that are close."""
    ours, theirs = NUMBER.split(first), NUMBER.split(second)  # words, number, words, .., words
    if [words.split() for words in ours[::2]] != [words.split() for words in theirs[::2]]:
        return False
    pairs = zip(NUMBER.finditer(first), NUMBER.finditer(second))
    return all(close(one[0], other[0], tags, line_of(one)) for one, other in pairs)


class Output(str):
    """A cell's output; equal to another that agrees with it."""

    tags = ()
    __hash__ = str.__hash__

    def __eq__(self, other):
        return str.__eq__(self, other) or agree(self, other, self.tags)

    def __ne__(self, other):
        return not self == other


def pytest_itemcollected(item):
    """nbval compares what a cell's `sanitize` returns."""
    if not isinstance(item, IPyNbCell):
        return
    tags = [tag for tag in item.cell.metadata.get("tags", []) if tag.startswith("tolerance")]
    for tag in tags:
        if not TAG.fullmatch(tag):
            raise pytest.UsageError(f"{item.nodeid}: {tag} is no tolerance-0.02, -5% or -0.02:word")
    sanitize = item.sanitize

    def as_output(text):
        if not isinstance(text, str):
            return text
        output = Output(sanitize(text))
        output.tags = tags
        return output

    item.sanitize = as_output
