"""A notebook's parameters, checked by name and type.

A notebook's cell with the tag `parameters` shows those its chapter talks about. A last line such
as `# any other field of minialbert.distillation.DistilArguments may be given too` lets a parameter
file give every field of that dataclass.
"""

import ast
import copy
import dataclasses
import difflib
import importlib
import json
import re
import typing
from functools import partial
from pathlib import Path

import pydantic
import yaml

ANY_FIELD_OF = re.compile(r"any other field of ([\w.]+)\.(\w+) may be given")
EXPONENT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")  # YAML 1.1 takes 3e-4 for text


class ParameterError(ValueError):
    """Unknown, mistyped or missing parameters: the message names each one and what to write."""


def check(given: dict, known: type):
    """An instance of a dataclass from {name: value}, as a YAML file or papermill gives them.

    Raises:
        ParameterError: all at once: each unknown name with the nearest known one, each mistyped
            value, each missing one. An int passes for a float; a bool is no int.
    """
    hints = typing.get_type_hints(known)
    texts = {name for name, hint in hints.items() if str in (hint, *typing.get_args(hint))}
    given = {name: v if name in texts else _with_numbers(v) for name, v in given.items()}
    fields = {}
    for field in dataclasses.fields(known):
        is_needed = field.default is field.default_factory is dataclasses.MISSING
        fields[field.name] = (hints[field.name], ... if is_needed else None)
    strict = pydantic.ConfigDict(
        extra="forbid", strict=True, arbitrary_types_allowed=True, protected_namespaces=()
    )
    model = pydantic.create_model("Parameters", __config__=strict, **fields)
    try:
        model.model_validate(given)
    except pydantic.ValidationError as error:
        problems = {one["loc"][0]: _explain(one, list(fields)) for one in error.errors()}
        raise ParameterError("\n".join(problems.values())) from None
    return known(**given)


def _with_numbers(value):
    """A value, a list or a dictionary, with "3e-4" as the number it is."""
    if isinstance(value, list):
        return [_with_numbers(item) for item in value]
    if isinstance(value, dict):
        return {name: _with_numbers(item) for name, item in value.items()}
    is_number = isinstance(value, str) and EXPONENT.fullmatch(value)
    return float(value) if is_number else value


def _explain(problem: dict, names: list[str]) -> str:
    name = problem["loc"][0]
    if problem["type"] == "extra_forbidden":
        near = difflib.get_close_matches(name, names, 1)
        hint = f"did you mean '{near[0]}'?" if near else f"known are {', '.join(names)}."
        return f"unknown parameter '{name}'; {hint}"
    if problem["type"] == "missing":
        return f"parameter '{name}' has no default: give it."
    return f"parameter '{name}' is {problem['input']!r}: {problem['msg']}."


def read_yaml(path) -> dict:
    """A YAML file of `name: value` lines, not yet checked.

    Raises:
        ParameterError: where it is missing, or something else.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf8"))
    except (OSError, yaml.YAMLError) as error:
        raise ParameterError(f"{path} cannot be read: {error}") from None
    if not isinstance(content or {}, dict):
        raise ParameterError(f"{path}: must be lines of 'name: value', not {content!r}")
    return content or {}


def notebook_parameters(path) -> type:
    """The parameters of a notebook file as a dataclass type: those of its `parameters` cell, with
    their defaults, and the fields of the dataclass that its last line names."""
    cells = json.loads(Path(path).read_text(encoding="utf8"))["cells"]
    tagged = [cell for cell in cells if "parameters" in cell["metadata"].get("tags", ())]
    source = "".join(tagged[0]["source"]) if tagged else ""
    fields = []
    for node in ast.parse(source).body:
        if isinstance(node, ast.AnnAssign):
            hint = eval(ast.unparse(node.annotation), {"Path": Path, "Literal": typing.Literal})
            default = ast.literal_eval(node.value)
            own = dataclasses.field(default_factory=partial(copy.copy, default))
            fields.append((node.target.id, hint, own))
    named = ANY_FIELD_OF.search(source)
    bases = (getattr(importlib.import_module(named[1]), named[2]),) if named else ()
    return dataclasses.make_dataclass("Parameters", fields, bases=bases)


def of_notebook(path, namespace: dict):
    """The parameters of the notebook that runs, checked; for its first cell after `parameters`.

    Args:
        path: the notebook's file, in whose folder it runs, as in "07_distil.ipynb".
        namespace: its `globals()`, where its `parameters` cell and papermill have put the values.

    Returns an instance of `notebook_parameters(path)`, and so of the dataclass that the cell names.

    Raises:
        ParameterError: see `check`; also for a name papermill was given that nobody knows, of which
            papermill itself only warns.
    """
    known = notebook_parameters(path)
    names = {field.name for field in dataclasses.fields(known)} | _injected(namespace)
    return check({name: namespace[name] for name in names if name in namespace}, known)


def _injected(namespace) -> set[str]:
    """The names that papermill has set: its cell begins with the line `# Parameters`."""
    cells = [cell for cell in namespace.get("In", ()) if cell.startswith("# Parameters\n")]
    nodes = ast.parse(cells[-1]).body if cells else ()
    return {node.targets[0].id for node in nodes if isinstance(node, ast.Assign)}
