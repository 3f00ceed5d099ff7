"""`solver-nas inspect`: what a model consists of, what hangs together, and what is pinned."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from solver_nas.cli.console import failures_told, show_json, show_table, waiting
from solver_nas.cli.models import Json, ModelFile, Shapes, opened, shortened
from solver_nas.inspection import inspect as inspected
from solver_nas.report.tables import table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from solver_nas.inspection import Inspection, Part

EXAMPLES = (
    "solver-nas inspect model.onnx",
    "solver-nas inspect model.onnx --all --input-shape image=1x3x224x224",
    "solver-nas inspect model.onnx --json",
)
_LONGEST = 30  # characters of a name in a row with others
_NAMES = 3  # of a group's vertices that a table shows


def inspect(
    model: ModelFile,
    input_shape: Shapes = None,
    every: Annotated[bool, typer.Option("--all", help="A line for every vertex.")] = False,
    as_json: Json = False,
) -> None:
    """Show a model's vertices, which of them can only change together, and what cannot change and why.

    Parameters and multiplications (for one sample) are counted, and which share of them could go if all neurons went
    that can.
    """
    with failures_told():
        with waiting("reading", quiet=as_json):
            opened_model = opened(model, input_shape)
            found = inspected(opened_model)
        if as_json:
            show_json(_object(found))
            return
        if every:
            show_table(_vertices(found))
        show_table(_groups(found))
        if found.pinned:
            show_table(_pinned(found))
        show_table(_summary(found))


def _object(found: Inspection) -> dict[str, object]:
    return {
        "vertices": [asdict(part) for part in found.parts],
        "groups": {str(group): list(names) for group, names in found.groups.items()},
        "pinned": {name: list(reasons) for name, reasons in found.pinned.items()},
        "parameters": found.parameters,
        "free_parameters": found.free_parameters,
        "macs": found.macs,
        "free_macs": found.free_macs,
    }


def _vertices(found: Inspection) -> Table:
    rows = []
    for part in found.parts:
        shape = " x ".join("?" if size is None else str(size) for size in part.shape)
        group = ", ".join(map(str, part.groups))
        rows.append(
            [
                shortened(part.name),
                _kind(part),
                shape,
                str(part.neurons),
                str(part.free),
                group,
                _number(part.parameters),
                _number(part.macs),
            ]
        )
    names = ["vertex", "operator", "shape", "neurons", "can go", "groups", "parameters", "MACs"]
    return table("Vertices", names, rows, left=3)


def _kind(part: Part) -> str:
    return part.kind.removeprefix("onnx.")


def _groups(found: Inspection) -> Table:
    parts = {part.name: part for part in found.parts}
    rows = []
    for group, names in found.groups.items():
        makers = [name for name in names if parts[name].makes] or list(names)
        rows.append(
            [
                _some(makers),
                str(group),
                str(len(names)),
                str(max(parts[name].groups[group] for name in names)),
                _number(sum(_share_of(parts[name], group) for name in names)),
            ]
        )
    columns = ["layers", "group", "vertices", "neurons", "parameters"]
    return table("Vertices that change together", columns, rows)


def _share_of(part: Part, group: int) -> int:
    """The parameters of a vertex that go with its neurons of one group."""
    return part.parameters * part.groups[group] // part.neurons


def _some(names: Sequence[str]) -> str:
    """The first of some names, and how many more there are."""
    told = ", ".join(shortened(name, _LONGEST) for name in names[:_NAMES])
    return told + (f" and {len(names) - _NAMES} more" if len(names) > _NAMES else "")


def _pinned(found: Inspection) -> Table:
    counted = Counter(reason for reasons in found.pinned.values() for reason in reasons)
    rows = []
    for reason, number in counted.most_common():
        names = [name for name, reasons in found.pinned.items() if reason in reasons]
        rows.append([reason, _some(names), str(number)])
    return table("What stays as it is", ["reason", "around", "times"], rows, left=2)


def _summary(found: Inspection) -> Table:
    rows = [
        [
            "vertices",
            _number(len(found.parts)),
            _share(sum(bool(part.groups) for part in found.parts), len(found.parts)),
        ],
        ["parameters", _number(found.parameters), _share(found.free_parameters, found.parameters)],
        ["MACs", _number(found.macs), _share(found.free_macs, found.macs)],
    ]
    return table("In all", ["", "now", "can change"], rows)


def _number(value: int | None) -> str:
    return "sizes are open" if value is None else f"{value:,}"


def _share(part: int | None, whole: int | None) -> str:
    return f"{part / whole:.1%}" if part is not None and whole else ""
