"""Draws `docs/images/trade_off.svg`: what is kept of a network at every budget, and what uniform pruning keeps.

Run `python docs/examples/figure_trade_off.py [path]`; needs `solver_nas[demo]`. The network is trained on the digits
of scikit-learn and not trained again after it was pruned.
"""
# ruff: noqa: INP001 - a script beside the text that shows its picture

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from solver_nas import Network, nn, plan_change, trade_off
from solver_nas.demos.digits import Digits, accuracy, load, train
from solver_nas.limits import macs

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from solver_nas import Plan

SOLVED, UNIFORM, BAND = "#0072b2", "#e69f00", "#009e73"  # Okabe and Ito: told apart by everybody
POINTS = 16


def build() -> Network:
    """A convolutional network with a residual connection, some layers of which are wider than others need to be."""
    net = Network(seed=0, dtype=np.float32)
    image = net.input("image", (1, 8, 8))
    stem = nn.conv(image, 24, 3, stride=2, padding=1, activation="relu", name="stem")
    inner = nn.conv(stem, 64, 3, padding=1, activation="relu", name="inner")
    back = nn.conv(inner, 24, 3, padding=1, name="back")
    wide = nn.conv(nn.relu(stem + back), 16, 3, stride=2, padding=1, activation="relu", name="wide")
    net.output(nn.dense(nn.flatten(wide), 10, name="digit"))
    return net


def uniform(net: Network, fraction: float) -> Plan:
    """Every layer keeps the same fraction of its neurons, those of them that are worth most."""
    layers = [net[name] for name in ("stem", "inner", "back", "wide")]
    return plan_change({layer: max(1, round(fraction * layer.nout)) - layer.nout for layer in layers})


def right(net: Network, digits: Digits, plan: Plan) -> float:
    """The accuracy of the network that a plan leads to."""
    if plan.empty:
        return accuracy(net, digits)
    plan.apply()
    found = accuracy(net, digits)
    net.undo()
    return found


def panel(axes: Axes, title: str) -> None:
    """Percent by percent."""
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set(xlim=(0.0, 1.02), ylim=(0.0, 1.04), xlabel="multiplications, of those of the whole network")
    axes.set_title(title, size=11)
    axes.grid(visible=True, alpha=0.3)
    axes.legend(loc="lower right", frameon=False)


def main(path: Path) -> None:
    """Train a network, and prune it to many budgets in two ways."""
    mpl.rcParams["svg.hashsalt"] = "solver_nas"  # the same picture is the same file
    mpl.rcParams["font.family"] = "DejaVu Sans"
    digits, net = load(0), build()
    train(net, digits, epochs=4, rate=0.005, seed=0)
    cost = macs(net)
    curve = trade_off(net, cost, POINTS, progress=False)
    everything = curve.points[-1].plan.certificate.objective
    even = [uniform(net, fraction) for fraction in np.linspace(0.0, 1.0, 25)]

    figure = Figure(figsize=(10, 4.2), facecolor="white", layout="constrained")
    worth, score = figure.subplots(1, 2)
    budgets = [point.cost / curve.present for point in curve.points]
    kept, bound = [point.kept for point in curve.points], [point.bound for point in curve.points]
    spent = [plan.cost(cost) / curve.present for plan in even]
    worth.fill_between(budgets, kept, bound, color=BAND, alpha=0.5, linewidth=0, label="not proven")
    share = [plan.certificate.objective / everything for plan in even]
    solved = [right(net, digits, point.plan) for point in curve.points]
    pruned = [right(net, digits, plan) for plan in even]
    for axes, ours, theirs in ((worth, kept, share), (score, solved, pruned)):
        axes.plot(spent, theirs, color=UNIFORM, marker="s", markersize=3, label="the same fraction of every layer")
        axes.plot(budgets, ours, color=SOLVED, marker="o", markersize=3, label="trade_off")
    panel(worth, "utility kept")
    panel(score, "accuracy on images held back, not trained again")
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None, dpi=110)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent.parent / "images" / "trade_off.svg")
