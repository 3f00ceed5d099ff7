"""Draws `docs/images/flow.svg`: a residual network with a concatenation before and after a change.

Run `python docs/examples/figure_flow.py [path]`. Colours, sizes and numbers come from the library itself.
"""
# ruff: noqa: INP001 - a script beside the text that shows its picture

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Rectangle

from solver_nas import Network, concat, nn, plan_change, relaxed
from solver_nas.classes import classify
from solver_nas.labels import FIXED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes

PLACES = {"in": 0.0, "start": 2.0, "split": 4.0, "x2": 6.0, "x3": 6.0, "x5": 6.0, "joined": 8.0, "out": 10.6}
TITLES = {
    "in": "in",
    "start": "start",
    "split": "split",
    "x3": "\N{MULTIPLICATION SIGN} 2, 3, 5",
    "joined": "joined",
    "out": "out",
}
KINDS = {"in": "input", "start": "dense", "split": "dense", "x3": "multiply", "joined": "concat", "out": "add"}
COLOURS = {"": "#d9d9d9", "a": "#0072b2", "b": "#e69f00", "c": "#ffffff"}  # Okabe and Ito: told apart by everybody
NEW = "#009e73"
INK, PALE = "#222222", "#8a8a8a"
TOP = 8  # rows above the lowest: both panels end at the same height


def build() -> Network:
    """The network: start + concat(2 * split, 3 * split, 5 * split), all weights one."""
    net = Network()
    start = nn.dense(net.input("in", 6), 6, bias=False, name="start")
    split = nn.dense(start, 2, bias=False, name="split")
    joined = concat([(factor * split).named(f"x{factor}") for factor in (2, 3, 5)], name="joined")
    net.output((start + joined).named("out"))
    for vertex in (start, split):
        vertex.op.weight = np.ones(vertex.op.weight.shape)
    return net


def letters(net: Network) -> dict[str, list[str]]:
    """For each vertex the classes of its neurons, named in the order in which they are met."""
    class_of, _ = classify(net.labels)
    names = {int(class_of[FIXED]): ""}
    found = {}
    for port, tensor in net.labels.tensors.items():
        classes = class_of[tensor.neurons["label"]].tolist()
        found[port.vertex] = [names.setdefault(one, "abcdef"[len(names) - 1]) for one in classes]
    return found


def panel(axes: Axes, cells: Mapping[str, Sequence[str]], numbers: Sequence[float], title: str) -> None:
    """Draw one network: a column of cells per vertex, in the colours of their classes."""
    rows = len(cells["out"])
    high = (rows - 1) / 2
    middle = TOP / 2
    parts = {"x2": 2, "x3": 1, "x5": 0}
    width = len(cells["split"])
    for name, place in PLACES.items():
        size = len(cells[name])
        top = middle + (size - 1) / 2
        if name in parts:
            # Each factor stands before its own part of the concatenation.
            top = middle + high - (2 - parts[name]) * width
        column(axes, place, top, cells[name])
    for name, text in TITLES.items():
        axes.text(PLACES[name], TOP + 1.75, text, ha="center", weight="bold", color=INK)
        axes.text(PLACES[name], TOP + 1.15, KINDS[name], ha="center", size=8, color=PALE)
    arrow(axes, (0.55, middle), (1.45, middle))
    arrow(axes, (2.55, middle), (3.45, middle))
    for step in parts.values():
        y = middle + high - (2 - step) * width - (width - 1) / 2
        arrow(axes, (4.55, middle + (y - middle) * 0.12), (5.45, y))
        arrow(axes, (6.55, y), (7.45, y))
    arrow(axes, (8.55, middle), (9.0, middle))
    arrow(axes, (9.6, middle), (10.05, middle))
    low = middle - high - 0.6
    axes.plot([2.0, 2.0, 9.3], [low, low - 0.75, low - 0.75], color=PALE, linewidth=1.2, solid_joinstyle="round")
    arrow(axes, (9.3, low - 0.75), (9.3, middle - 0.33))
    axes.add_patch(Circle((9.3, middle), 0.3, facecolor="white", edgecolor=PALE, linewidth=1.2))
    axes.text(9.3, middle - 0.02, "+", ha="center", va="center", color=INK, size=12)
    for row, number in enumerate(numbers):
        axes.text(11.95, middle + high - row, f"{number:.0f}", ha="right", va="center", color=INK)
    axes.text(5.6, TOP + 2.75, title, ha="center", size=11, color=INK)
    axes.set(xlim=(-0.7, 12.2), ylim=(-1.9, TOP + 3.2), aspect="equal")
    axes.axis("off")


def column(axes: Axes, place: float, top: float, cells: Sequence[str]) -> None:
    """A vertex: a box with one cell per neuron, the first at the top."""
    size = len(cells)
    axes.add_patch(
        FancyBboxPatch(
            (place - 0.45, top - size + 0.55),
            0.9,
            size - 0.1,
            boxstyle="round,pad=0.03,rounding_size=0.12",
            facecolor="#f4f4f4",
            edgecolor="#c4c4c4",
            linewidth=0.8,
        )
    )
    for row, letter in enumerate(cells):
        neuron(axes, place, top - row, letter)


def neuron(axes: Axes, place: float, height: float, letter: str) -> None:
    """One cell; a new neuron is white and dashed."""
    new = letter == "c"
    axes.add_patch(
        Rectangle(
            (place - 0.38, height - 0.38),
            0.76,
            0.76,
            facecolor=COLOURS[letter],
            edgecolor=NEW if new else "none",
            linewidth=1.6 if new else 0,
            linestyle=(0, (2.2, 1.2)) if new else "solid",
        )
    )
    colour = NEW if new else "white" if letter == "a" else INK
    axes.text(place, height - 0.03, letter, ha="center", va="center", size=9, weight="bold", color=colour)


def arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    """A tensor that flows."""
    axes.add_patch(
        FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=9, color=PALE, linewidth=1.2, shrinkA=0, shrinkB=0)
    )


def legend(axes: Axes) -> None:
    """What the cells mean, in one line."""
    entries = [
        ("", "given from outside: stays"),
        ("a", "one class: these neurons\nstand or fall together"),
        ("b", "another class"),
        ("c", "new, at the end of its own part"),
    ]
    for (letter, text), place in zip(entries, (0.0, 6.2, 12.6, 17.2), strict=True):
        neuron(axes, place, 0, letter)
        axes.text(place + 0.7, 0, text, va="center", size=9, color=INK)
    axes.set(xlim=(-1.0, 25.0), ylim=(-0.8, 0.8), aspect="equal")
    axes.axis("off")


def main(path: Path) -> None:
    """Plan the change and draw both networks."""
    mpl.rcParams["svg.hashsalt"] = "solver_nas"  # the same picture is the same file
    mpl.rcParams["font.family"] = "DejaVu Sans"
    net = build()
    before = letters(net)
    changed = copy.deepcopy(net)
    plan = plan_change(changed["out"], relaxed(2), init="zeros")
    plan.apply()
    after = {
        name: [before[name][old] if old >= 0 else "c" for old in index.tolist()] for name, index in plan.indices.items()
    }
    ones = np.ones(6)
    figure = Figure(figsize=(12, 6.2), facecolor="white")
    left, right = figure.add_axes((0.0, 0.09, 0.5, 0.9)), figure.add_axes((0.5, 0.09, 0.5, 0.9))
    panel(left, before, net(ones), "before: 6 neurons at the output")
    panel(right, after, changed(ones), "after delta_nout(out, relaxed(2)): the nearest size is 9")
    figure.add_artist(Line2D([0.502, 0.502], [0.16, 0.95], color="#e2e2e2", linewidth=1))
    legend(figure.add_axes((0.03, 0.0, 0.94, 0.11)))
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None, dpi=110)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent.parent / "images" / "flow.svg")
