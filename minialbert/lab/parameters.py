"""A notebook's parameters, checked by name and type."""

import ast
import copy
import dataclasses
import difflib
import inspect
import re
import types
import typing
from pathlib import Path

from .refresh import read_notebook


class ParameterError(ValueError):
    """Unknown, mistyped or missing parameters: the message names each one and what to write instead."""


def _specification(known) -> dict:
    """{name: (type, default)} of a dataclass type or of {name: default}; a default of None allows None."""
    if not dataclasses.is_dataclass(known):
        return {
            name: (typing.Any if value is None else type(value), value)
            for name, value in known.items()
        }
    hints, found = typing.get_type_hints(known), {}
    for field in dataclasses.fields(known):
        made = field.default_factory is not dataclasses.MISSING
        default = field.default_factory() if made else field.default
        found[field.name] = (
            hints[field.name] | None if default is None else hints[field.name],
            default,
        )
    return found


def _fits(value, hint) -> bool:
    origin, arguments = typing.get_origin(hint) or hint, typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, one) for one in arguments)
    if origin in (typing.Any, typing.Literal):
        return origin is typing.Any or value in arguments
    kind = {float: (int, float), tuple: (list, tuple), Path: (str, Path)}.get(origin, origin)
    return isinstance(value, kind) and (
        kind is bool or not isinstance(value, bool)
    )  # here True is no 1


def _mistyped(name, value, hint) -> str:
    wanted, got = inspect.formatannotation(hint), type(value).__name__
    text = f"parameter '{name}' must be {wanted}, not {got} {value!r}"
    number = isinstance(value, str) and re.fullmatch(
        r"([-+]?\d+)(\.\d*)?e([-+]?)(\d+)", value, re.I
    )
    if number:  # YAML 1.1 wants a point before the e and a sign after it
        whole, point, sign, exponent = number.groups()
        text += f": YAML takes it for text, write {whole}{point or '.0'}e{sign or '+'}{exponent}"
    return text


def check_parameters(given: dict, known) -> dict:
    """All known parameters by name: those given, and the defaults of the others.

    Args:
        given: {name: value}, as a YAML file or papermill gives them.
        known: a dataclass type, or {name: default}.

    Raises:
        ParameterError: all at once: each unknown name with the nearest known one, each mistyped value, each
            missing one. An int passes for a float; a bool is no int.
    """
    known = _specification(known)
    values = {name: default for name, (_, default) in known.items()}
    unknown, mistyped = [], []
    for name, value in given.items():
        if name not in known:
            near = difflib.get_close_matches(str(name), known, 1)
            unknown.append(
                f"unknown parameter '{name}'" + (f"; did you mean '{near[0]}'?" if near else "")
            )
        elif not _fits(value, known[name][0]):
            mistyped.append(_mistyped(name, value, known[name][0]))
        else:
            values[name] = float(value) if known[name][0] is float else value
    missing = [
        f"parameter '{name}' has no default: give it"
        for name, value in values.items()
        if value is dataclasses.MISSING and name not in given
    ]
    if unknown:
        unknown.append(f"Known: {', '.join(known) or 'none'}.")
    if problems := unknown + mistyped + missing:
        raise ParameterError("\n".join(problems))
    return values


def read_mapping(path) -> dict:
    """A YAML file of 'name: value', not yet checked; ParameterError if it is missing or something else."""
    import yaml

    path = Path(path)
    if not path.is_file():
        beside = [str(other) for other in path.parent.glob("*.y*ml")]
        near = difflib.get_close_matches(str(path), beside, 1, cutoff=0)
        raise ParameterError(
            f"no parameter file {path}" + (f"; the nearest is {near[0]}" if near else "")
        )
    try:
        content = yaml.safe_load(path.read_text(encoding="utf8"))
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1
        raise ParameterError(f"{path}, line {line}: not YAML: {error.problem}") from None
    if not isinstance(content or {}, dict):
        raise ParameterError(
            f"{path}: must be lines of 'name: value', got a {type(content).__name__}"
        )
    return content or {}


def read_parameters(path, known) -> dict:
    """A flat YAML file of parameters, checked: see `check_parameters`.

    Raises:
        ParameterError: naming the file (or the nearest one there is) and, for bad YAML, the line.
    """
    given = read_mapping(path)
    try:
        return check_parameters(given, known)
    except ParameterError as error:
        raise ParameterError(f"{path}:\n{error}") from None


def _assignments(source: str):
    """The (name, annotation, value) of each top-level assignment to a plain name, as syntax trees."""
    for node in ast.parse(source).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and isinstance(target, ast.Name):
            yield target.id, getattr(node, "annotation", None), node.value


def parameters(known, namespace: dict, *also: str):
    """The parameters of this notebook, checked; for its first code cell after the `parameters` cell.

    Args:
        known: a dataclass type, or {name: default}.
        namespace: the notebook's `globals()`, where its `parameters` cell and papermill have put the values.
        also: names of parameters the notebook has besides the known ones.

    Returns an instance of the dataclass, or a dict.

    Raises:
        ParameterError: also for a name papermill injected that nobody knows; papermill itself only warns.
    """
    names = _specification(known)
    given = {name: namespace[name] for name in names if name in namespace}
    injected = [
        source for source in namespace.get("In", ()) if source.partition("\n")[0] == "# Parameters"
    ]
    if injected:  # the last one: earlier ones may have been mended and run again
        given |= {
            name: None for name, *_ in _assignments(injected[-1]) if name not in (*given, *also)
        }
    values = check_parameters(given, known)
    return known(**values) if dataclasses.is_dataclass(known) else values


def notebook_parameters(notebook) -> type:
    """The `parameters` cell of a notebook file as a dataclass type, fit for `check_parameters`."""
    cells = [
        cell
        for cell in read_notebook(notebook).cells
        if "parameters" in cell.metadata.get("tags", [])
    ]
    fields = []
    for name, annotation, node in _assignments(cells[0].source) if cells else ():
        try:
            value = ast.literal_eval(node)
        except ValueError:
            value = None  # computed by the notebook itself: any value may take its place
        hint = typing.Any if value is None else type(value)
        if annotation is not None:
            hint = eval(ast.unparse(annotation), {"Path": Path, "Literal": typing.Literal})
        fields.append(
            (name, hint, dataclasses.field(default_factory=lambda value=value: copy.copy(value)))
        )
    return dataclasses.make_dataclass("Parameters", fields)
