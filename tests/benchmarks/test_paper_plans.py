"""Every kind of run of the paper's plans, at toy size, through the engine: minutes."""

# ruff: noqa: F811 (fixtures are taken by their names)
import pytest
from test_paper_runs import course, make  # noqa: F401

KINDS = [
    *("paper/distil_students/minialbert-312", "paper/distil_bio/biominialbert-128"),
    *("paper/table1/bert-base,task=mnli", "paper/table1/albert-6,task=stsb"),
    *(
        "paper/table1/minialbert-312,task=cola",
        "paper/table1/minialbert-312-adapter-tuning,task=rte",
    ),
    "paper/table1/minialbert-312-adapters-added,task=mrpc",
    *("paper/table2/biominialbert-128,task=bc5cdr_chem", "paper/figure3/minialbert-128"),
    *("paper/table2/published-128,task=bc2gm", "paper/ablations/full-rank-loss"),
]


@pytest.mark.parametrize("target", KINDS)
def test_a_kind_of_run(course, target):
    make(course, target)
