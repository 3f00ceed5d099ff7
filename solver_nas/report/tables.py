"""Tables for people to read."""

from __future__ import annotations

from collections.abc import Callable
from io import StringIO
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from solver_nas.errors import RequestError
from solver_nas.frontend import Handle
from solver_nas.report.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from solver_nas.frontend import Array, Model

_WIDTH = 1000  # columns; wide enough that no cell is folded

Cell = Callable[[Any], object]
#: A column of a summary: a name, a function of a handle, or a heading and one of these.
Column = str | Cell | tuple[str, str | Cell]


class _Shown(NamedTuple):
    """A column: what stands above it, what it says of a vertex, whether to the left (`None`: as texts do)."""

    heading: str
    cell: Cell
    left: bool | None = None


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 1) -> Table:
    """A table for a terminal.

    Args:
        title: stands above it; may be empty.
        columns: headings.
        rows: one text per column.
        left: how many columns, from the left, are aligned to the left.
    """
    made = Table(title=title or None, title_justify="left", title_style="bold", box=SIMPLE_HEAD)
    for place, heading in enumerate(columns):
        made.add_column(escape(heading), justify="left" if place < left else "right")
    for row in rows:
        made.add_row(*(escape(printable(cell, keep="\n")) for cell in row))
    return made


def text(made: Table) -> str:
    """A table as plain text, without colours and trailing spaces."""
    console = Console(file=StringIO(), width=_WIDTH, color_system=None, legacy_windows=False)
    with console.capture() as captured:
        console.print(made)
    lines = [line.rstrip() for line in captured.get().splitlines()]
    # The box has an empty line above and one below; a row may be empty too, and stays.
    return "\n".join(lines).removeprefix("\n").removesuffix("\n")


def summary(model: Model, *columns: Column) -> str:
    """A table of all vertices; by default name, kind, inputs, sizes, shape and number of parameters.

    An array that several vertices share is counted with each of them, and once in the total.

    Args:
        model: the network.
        columns: what to show instead: names of columns (`"vertex"`, `"kind"`, `"inputs"`, `"outputs"`, `"nin"`,
            `"nout"`, `"shape"`, `"dtype"`, `"arrays"`, `"parameters"`), names of attributes such as
            `"activation"`, functions of a handle, or pairs of a heading and one of these.

    Raises:
        RequestError: a column that is none of these, or an attribute that no vertex has.

    >>> from solver_nas import Network, nn
    >>> net = Network()
    >>> net.output(nn.dense(net.input("in", 2), 3, activation="relu", name="out"))
    >>> print(summary(net))
      vertex   kind    inputs   nin   nout       shape   parameters
     ───────────────────────────────────────────────────────────────
      in       input                     2   (None, 2)            0
      out      dense   in         2      3   (None, 3)            9
      total                                                       9
    >>> print(summary(net, "vertex", "activation", ("largest", lambda v: v.nout > 2)))
      vertex   activation   largest
     ───────────────────────────────
      in                      False
      out      relu            True
    """
    handles = list(model)
    attributes = sorted({name for handle in handles for name in handle.vertex.attributes})
    shown = [_shown(column, attributes) for column in columns or _DEFAULT]
    values = [[column.cell(handle) for handle in handles] for column in shown]
    made = table("", [], [])
    for column, found in zip(shown, values, strict=True):
        left = any(map(_is_text, found)) if column.left is None else column.left
        made.add_column(escape(column.heading), justify="left" if left else "right")
    for row in zip(*values, strict=True):
        made.add_row(*(escape(_text(value)) for value in row))
    # The word "total" needs a column of its own to stand in.
    if any(column.cell is _parameters for column in shown[1:]):
        total = f"{sum(array.size for array in model.arrays.values()):,}"
        made.add_row("total", *(total if column.cell is _parameters else "" for column in shown[1:]))
    return text(made)


def _shown(column: object, attributes: Sequence[str]) -> _Shown:
    match column:
        case str() if column in _COLUMNS:
            cell, left = _COLUMNS[column]
            return _Shown(column, cell, left)
        case str() if column in attributes:
            return _Shown(column, lambda handle: handle.vertex.attributes.get(column))
        case (str() as heading, what) if not isinstance(what, tuple):
            return _shown(what, attributes)._replace(heading=heading)
        case _ if callable(column):
            return _Shown(str(getattr(column, "__name__", type(column).__name__)), column)
        case _:
            raise RequestError(
                f"there is no column {column!r}; there are {', '.join(_COLUMNS)}, the attributes of these vertices "
                f"({', '.join(attributes) or 'none'}), functions of a vertex, and pairs of a heading and one of these"
            )


def _is_text(value: object) -> bool:
    return isinstance(value, str | Handle) or _are_handles(value) or callable(value)


def _are_handles(value: object) -> TypeGuard[Sequence[Handle]]:
    return isinstance(value, tuple | list) and all(isinstance(item, Handle) for item in value)


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float | np.floating):
        return f"{value:.4g}"
    if isinstance(value, Handle):
        return value.name
    if _are_handles(value):
        return ", ".join(handle.name for handle in value)
    return str(getattr(value, "__name__", value))


def _parameters(handle: Handle) -> str:
    return f"{sum(array.size for array in _own(handle).values()):,}"


def _own(handle: Handle) -> Mapping[str, Array]:
    """The vertex's arrays by key, so that one that it uses in two roles is there once."""
    return {parameter.key: handle.model.arrays[parameter.key] for parameter in handle.vertex.parameters.values()}


#: What a cell says, and whether the column stands to the left.
_COLUMNS: Mapping[str, tuple[Cell, bool]] = {
    "vertex": (lambda handle: handle.name, True),
    "kind": (lambda handle: handle.kind, True),
    "inputs": (lambda handle: ", ".join(source.name for source in handle.inputs), True),
    "outputs": (lambda handle: ", ".join(reader.name for reader in handle.outputs), True),
    "nin": (lambda handle: ", ".join(map(str, handle.nin)), False),
    "nout": (lambda handle: handle.nout, False),
    "shape": (lambda handle: tuple(handle.shape), False),
    "dtype": (lambda handle: ", ".join(sorted({str(array.dtype) for array in _own(handle).values()})), True),
    "arrays": (lambda handle: ", ".join(f"{role} {array.shape}" for role, array in handle.parameters.items()), True),
    "parameters": (_parameters, False),
}
_DEFAULT = ("vertex", "kind", "inputs", "nin", "nout", "shape", "parameters")
