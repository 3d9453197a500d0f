"""nbval's comparison in `notebooks/conftest.py`: same words, numbers that are close."""

import pytest
from notebook_checks import tolerance


@pytest.mark.parametrize(
    "committed, now, tags",
    [
        ("loss 0.12", "loss 0.12", []),
        ("loss 0.12", "loss 0.13", []),
        ("loss -0.01", "loss 0.00", []),
        ("loss  9.99 x", "loss 10.00 x", []),  # one digit more, one blank less
        ("1.23e-05", "1.24e-05", []),
        ("12.5%, 3.1x", "12.4%, 3.2x", []),
        ("mean nan, most inf", "mean nan, most inf", []),
        ("1,234.5 tokens", "1,234.6 tokens", []),
        ("<td>0.125</td>", "<td>0.126</td>", []),
        ("0.12 at 0.5", "0.13 at 0.499", ["tolerance-0.02"]),
        ("loss 0.10", "loss 0.12", ["tolerance-0.02"]),
        ("loss 2.00", "loss 2.09", ["tolerance-5%"]),
        ("31 of 40", "32 of 40", ["tolerance-1"]),
        ("loss 0.01", "loss 0.02", ["tolerance-5%"]),  # a tag allows more, never less
        ("loss 0.1", "loss 0.4", ["tolerance-0.2", "tolerance-0.3"]),
        ("start 0.1 0.2\nend 0.1", "start 0.3 0.4\nend 0.1", ["tolerance-0.2:st.rt"]),
    ],
)
def test_close_enough(committed, now, tags):
    assert tolerance.agree(committed, now, tags) and tolerance.agree(now, committed, tags)


@pytest.mark.parametrize(
    "committed, now, tags",
    [
        ("loss 0.12", "loss 0.14", []),
        ("loss 0.120", "loss 0.122", []),
        ("loss 0.12", "gain 0.12", []),
        ("loss 0.12 0.13", "loss 0.12", []),
        ("loss 0.12", "loss", []),
        ("loss 0.12", "loss nan", ["tolerance-9"]),
        ("loss inf", "loss -inf", []),
        ("loss 0.5", "loss -0.5", []),
        ("31 of 40", "32 of 40", []),
        ("1,234 tokens", "1,235 tokens", []),
        ("True", "False", []),
        ("1.23e-05", "1.25e-05", []),
        ("1.23e-05", "1.23e-04", []),
        ("loss 0.10", "loss 0.13", ["tolerance-0.02"]),
        ("loss 2.00", "loss 2.20", ["tolerance-5%"]),
        ("31 of 40", "33 of 40", ["tolerance-1"]),
        ("start 0.1\nend 0.1", "start 0.1\nend 0.3", ["tolerance-0.02", "tolerance-0.2:start"]),
        ("end 0.1\nstart 0.1", "end 0.3\nstart 0.1", ["tolerance-0.2:start"]),
        ("torch 2.13.0", "torch 2.14.0", ["tolerance-1"]),  # a version, not a number
        ("layer_3", "layer_4", ["tolerance-1"]),
        ("0.120.13", "0.12 0.13", []),
    ],
)
def test_too_far_apart(committed, now, tags):
    assert not tolerance.agree(committed, now, tags)
    assert not tolerance.agree(now, committed, tags)


def test_an_output_compares_as_nbval_asks():
    ours, theirs = tolerance.Output("loss 0.12"), tolerance.Output("loss 0.13")
    assert not ours != theirs  # nbval's own question
    assert ours != tolerance.Output("loss 0.14")
    ours.tags = ["tolerance-0.02"]
    assert ours == tolerance.Output("loss 0.14")
