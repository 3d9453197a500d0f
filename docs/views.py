"""Keeps the attention that the site's views show, in figures/attention_maps.json.

    python docs/views.py STUDENT_FOLDER

The sentence and the teacher are notebook 08's.
"""

import sys
from pathlib import Path

import nbformat
from transformers import AutoModelForMaskedLM

from minialbert import distillation, starting
from minialbert.lab.attention import attention_maps

ROOT = Path(__file__).parents[1]
cells = nbformat.read(ROOT / "notebooks/08_attention_maps.ipynb", as_version=4).cells
given = {}
exec(next(cell.source for cell in cells if "parameters" in cell.metadata.get("tags", [])), given)

student = AutoModelForMaskedLM.from_pretrained(sys.argv[1])
teacher, tokenizer = starting.load_teacher(given["teacher"])
depths = [model.config.num_hidden_layers for model in (student, teacher)]
layer_map = given["layer_map"] or distillation.default_layer_map(*depths)
maps = attention_maps(student, teacher, tokenizer, given["sentence"], layer_map)
maps.save(ROOT / "figures/attention_maps.json")
