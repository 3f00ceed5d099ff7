"""Tables for people to read."""

from __future__ import annotations

from io import StringIO
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from solver_nas.frontend import Model
    from solver_nas.labels import Shape

_WIDTH = 1000  # columns; wide enough that no cell is folded


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
        made.add_column(heading, justify="left" if place < left else "right")
    for row in rows:
        made.add_row(*row)
    return made


def text(made: Table) -> str:
    """A table as plain text, without colours and trailing spaces."""
    console = Console(file=StringIO(), width=_WIDTH, color_system=None, legacy_windows=False)
    with console.capture() as captured:
        console.print(made)
    lines = [line.rstrip() for line in captured.get().splitlines()]
    return "\n".join(line for line in lines if line)


def summary(model: Model) -> str:
    """A table of all vertices: name, kind, inputs, sizes, shape and number of parameters.

    An array that several vertices share is counted with each of them, and once in the total.

    >>> from solver_nas import Network, nn
    >>> net = Network()
    >>> net.output(nn.dense(net.input("in", 2), 3, name="out"))
    >>> print(summary(net))
      vertex   kind    inputs   nin   nout       shape   parameters
     ───────────────────────────────────────────────────────────────
      in       input                     2   (None, 2)            0
      out      dense   in         2      3   (None, 3)            9
      total                                                       9
    """
    made = table("", ["vertex", "kind", "inputs", "nin", "nout", "shape", "parameters"], [], left=3)
    arrays = model.arrays
    for handle in model:
        own = {parameter.key for parameter in handle.vertex.parameters.values()}
        made.add_row(
            handle.name,
            handle.kind,
            ", ".join(source.name for source in handle.inputs),
            ", ".join(map(str, handle.nin)),
            str(handle.nout),
            _shape(handle.shape),
            f"{sum(arrays[key].size for key in own):,}",
        )
    made.add_row("total", *[""] * 5, f"{sum(array.size for array in arrays.values()):,}")
    return text(made)


def _shape(shape: Shape) -> str:
    return str(tuple(shape))
