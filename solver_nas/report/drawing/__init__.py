"""A picture of a network: which vertices hang together, and what a plan does to them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from solver_nas.errors import RequestError
from solver_nas.files import replace_file
from solver_nas.report.drawing.boxes import boxes
from solver_nas.report.drawing.page import page
from solver_nas.report.drawing.svg import svg

if TYPE_CHECKING:
    from solver_nas.change import Plan
    from solver_nas.frontend import Model

_ENDINGS = (".svg", ".html")


def draw(
    model: Model, path: str | os.PathLike[str], *, plan: Plan | None = None, title: str = "", fold: bool = True
) -> None:
    """Draw the graph of a model: which vertex feeds which, how many neurons it has, and with whom it changes.

    A box stands for a vertex: its name, what it computes, its number of neurons, and the numbers and colours of
    their groups. The neurons of one group can only stay or go together, wherever they occur. A legend explains all
    signs; everything else about a vertex is told where one points at it.

    The page (`.html`) can be moved (drag), enlarged (wheel) and searched, shows what changes together with the
    vertex that one points at (a click keeps it), and loads nothing from elsewhere. The same model makes the same file.

    Args:
        model: the network.
        path: where to; `.svg` or `.html`.
        plan: a plan for this model, whose changes are marked; it may have been applied already.
        title: stands above the picture.
        fold: whether vertices that work neuron by neuron on what one other vertex makes stand in its box, as long as
            nothing else reads what is between them.

    Raises:
        RequestError: the path ends on something else, the plan is one for another model, or there are no vertices.
        OSError: the file cannot be written; what was there before stays.

    >>> import tempfile
    >>> from solver_nas import Network, nn
    >>> net = Network()
    >>> net.output(nn.dense(net.input("in", 2), 3, activation="relu", name="out"))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     draw(net, Path(folder) / "net.svg")
    ...     (Path(folder) / "net.svg").read_text(encoding="utf-8")[:5]
    '<svg '
    """
    ending = Path(path).suffix.lower()
    if ending not in _ENDINGS:
        raise RequestError(f"a drawing is a file that ends in .svg or .html, got {os.fspath(path)!r}")
    picture = svg(boxes(model, plan, fold=fold), title=title, planned=plan is not None)
    text = page(picture, title) if ending == ".html" else picture + "\n"
    replace_file(path, text.encode())
