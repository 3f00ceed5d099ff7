"""Draws `docs/images/structure.svg`: what edits of the structure do to the weights of the layers around.

Run `python docs/examples/figure_structure.py [path]`. Every matrix is read off the library, before and after an edit.
"""
# ruff: noqa: INP001 - a script beside the text that shows its picture

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

from solver_nas import Network, concat, create_edge, insert, nn, remove

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from matplotlib.axes import Axes

    from solver_nas.nn import NetworkVertex

KEPT, NEW, ONE = "#0072b2", "#ffffff", "#e69f00"  # Okabe and Ito: told apart by everybody
DASHES = "#009e73"
INK, PALE = "#222222", "#8a8a8a"
CELL = 0.34
Place = tuple[float, float]


def build() -> Network:
    """Two branches into a concatenation, with weights that are all different."""
    net = Network(seed=1)
    stem = nn.dense(net.input("in", 3), 4, name="stem")
    left = nn.dense(stem, 3, name="left")
    right = nn.dense(stem, 2, name="right")
    net.output(nn.dense(concat([left, right], name="both"), 3, name="out"))
    return net


def draw(axes: Axes, net: Network, before: Network, places: Mapping[str, Place], title: str) -> None:
    """A network: a matrix of weights for every layer, a box for everything else, arrows for tensors."""
    known = {float(value) for name in before.graph.order for a in before[name].parameters.values() for value in a.flat}
    known -= {0.0}  # biases; no weight is zero before
    for vertex in net.vertices:
        x, y = places[vertex.name]
        height = matrix(axes, vertex, x, y, known) if "weight" in vertex.parameters else box(axes, x, y, vertex.kind)
        axes.text(x, y + height + 0.16, vertex.name, ha="center", weight="bold", color=INK, size=9)
        for source in vertex.inputs:
            arrow(axes, places[source.name], (x, y), half_width(source), half_width(vertex))
    axes.set(xlim=(-0.8, 11.2), ylim=(-1.9, 2.4), aspect="equal")
    axes.set_title(title, size=10, color=INK, loc="left", x=0.02)
    axes.axis("off")


def matrix(axes: Axes, vertex: NetworkVertex, x: float, y: float, known: set[float]) -> float:
    """The weights of a layer: a row for every neuron that it makes, a column for every one that it reads."""
    weight = vertex.op.weight
    rows, columns = weight.shape
    for (row, column), value in np.ndenumerate(weight):
        kept = float(value) in known
        new = NEW if value == 0 else ONE
        axes.add_patch(
            Rectangle(
                (x + (column - columns / 2) * CELL, y + (rows / 2 - 1 - row) * CELL),
                0.86 * CELL,
                0.86 * CELL,
                facecolor=KEPT if kept else new,
                edgecolor="none" if kept else DASHES,
                linewidth=0 if kept else 1.0,
            )
        )
    return rows * CELL / 2


def box(axes: Axes, x: float, y: float, kind: str) -> float:
    """A vertex without weights."""
    axes.add_patch(
        FancyBboxPatch(
            (x - 0.42, y - 0.2), 0.84, 0.4, boxstyle="round,pad=0.02", facecolor="#f4f4f4", edgecolor="#c4c4c4"
        )
    )
    axes.text(x, y - 0.01, kind, ha="center", va="center", size=8, color=PALE)
    return 0.25


def half_width(vertex: NetworkVertex) -> float:
    """Half of what a vertex takes up, from left to right."""
    return vertex.op.weight.shape[1] * CELL / 2 if "weight" in vertex.parameters else 0.42


def arrow(axes: Axes, start: Place, end: Place, left: float, right: float) -> None:
    """A tensor that flows; it ends before the matrix that reads it."""
    axes.add_patch(
        FancyArrowPatch(
            (start[0] + left + 0.08, start[1]),
            (end[0] - right - 0.12, end[1]),
            arrowstyle="-|>",
            mutation_scale=8,
            color=PALE,
            linewidth=1.0,
            shrinkA=0,
            shrinkB=0,
            zorder=0,
        )
    )


PLACES: dict[str, Place] = {
    "in": (0.0, 0.0),
    "stem": (2.0, 0.0),
    "left": (4.3, 1.0),
    "right": (4.3, -1.0),
    "both": (6.6, 0.0),
    "out": (9.2, 0.0),
}


def edited(edit: Callable[[Network], object]) -> tuple[Network, Network]:
    """The network before and after an edit."""
    before, net = build(), build()
    edit(net)
    return net, before


def main(path: Path) -> None:
    """Make the edits and draw the networks."""
    mpl.rcParams["svg.hashsalt"] = "solver_nas"  # the same picture is the same file
    mpl.rcParams["font.family"] = "DejaVu Sans"
    figure = Figure(figsize=(12, 6.0), facecolor="white")
    grid = figure.subplots(2, 2, gridspec_kw={"left": 0, "right": 1, "top": 0.94, "bottom": 0.07, "wspace": 0.02})
    panels: list[tuple[str, Callable[[Network], object], dict[str, Place]]] = [
        ("before", lambda net: net, PLACES),
        (
            "insert(stem, identity, right): computes what it did",
            lambda net: insert(net["stem"], lambda v: nn.dense(v, 4, weights="identity", name="extra"), net["right"]),
            {**PLACES, "extra": (4.3, -1.0), "right": (6.5, -1.0), "both": (8.3, 0.0), "out": (10.1, 0.0)},
        ),
        (
            "create_edge(stem, both, slot=1): computes what it did",
            lambda net: create_edge(net["stem"], net["both"], slot=1),
            PLACES,
        ),
        (
            "remove(left): 'out' keeps its weights, 4 neurons come where 3 were",
            lambda net: remove(net["left"]),
            PLACES,
        ),
    ]
    for axes, (title, edit, places) in zip(grid.flat, panels, strict=True):
        net, before = edited(edit)
        draw(axes, net, before, places, title)
    legend = [(KEPT, "weight that was there"), (ONE, "new, not zero"), (NEW, "new, zero")]
    for place, (colour, text) in enumerate(legend):
        left = 0.27 + 0.17 * place
        figure.add_artist(
            Rectangle(
                (left, 0.025),
                0.011,
                0.022,
                transform=figure.transFigure,
                facecolor=colour,
                edgecolor="none" if colour == KEPT else DASHES,
            )
        )
        figure.text(left + 0.017, 0.036, text, va="center", size=9, color=INK)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None, dpi=110)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent.parent / "images" / "structure.svg")
