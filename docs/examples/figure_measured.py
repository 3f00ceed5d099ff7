"""Draws `docs/images/measured.svg` from the first table of `docs/measured.md`: what is left of each model's measure.

Run `python docs/examples/figure_measured.py [path]`.
"""
# ruff: noqa: INP001 - a script beside the text that shows its picture

from __future__ import annotations

import re
import sys
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

DOCS = Path(__file__).parent.parent
STYLES = {  # Okabe and Ito: told apart by everybody
    "uniform L1": ("#e69f00", "s"),
    "global L2": ("#8a8a8a", "^"),
    "best single utility": ("#009e73", "D"),
    "full": ("#0072b2", "o"),
}


def rows(text: str) -> list[tuple[str, float, str, list[float]]]:
    """Model, its measure, budget, and the measure that is left with each of the methods."""
    found, model, original = [], "", 0.0
    first_table = re.search(r"(?:^\|.*\n)+", text, re.MULTILINE)
    for line in first_table[0].splitlines() if first_table else ():
        first, share, *cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == len(STYLES) and re.fullmatch(r"0\.\d+", share):
            if first:
                model, original = first.partition(":")[0], float(first.rpartition(", ")[2])
            found.append((model, original, share, [float(re.findall(r"-?\d+\.\d+", cell)[0]) for cell in cells]))
    return found


def main(path: Path) -> None:
    """One panel for each budget, a line for each model that has a measure above zero."""
    mpl.rcParams["svg.hashsalt"] = "solver_nas"  # the same picture is the same file
    mpl.rcParams["font.family"] = "DejaVu Sans"
    table = [row for row in rows((DOCS / "measured.md").read_text(encoding="utf-8")) if row[1] > 0]
    models = list(dict.fromkeys(model for model, *_ in table))
    shares = list(dict.fromkeys(share for _, _, share, _ in table))
    figure = Figure(figsize=(10, 4.6), facecolor="white", layout="constrained")
    for axes, share in zip(figure.subplots(1, len(shares), sharey=True), shares, strict=True):
        axes.hlines(range(len(models)), 0, 1.05, color="#e6e6e6", linewidth=1, zorder=0)
        for place, (name, (colour, marker)) in enumerate(STYLES.items()):
            left = [values[place] / original for _, original, at, values in table if at == share]
            axes.scatter(left, range(len(models)), c=colour, marker=marker, s=38, label=name, clip_on=False, zorder=3)
        axes.set_yticks(range(len(models)), models)
        axes.set(xlim=(0, 1.05), ylim=(len(models) - 0.5, -0.5), xlabel="of the original's measure")
        axes.set_title(f"{float(share):.0%} of the multiplications", size=11)
        axes.xaxis.set_major_formatter(PercentFormatter(1.0))
        axes.tick_params(length=0)
        axes.spines[["top", "right", "left"]].set_visible(False)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(STYLES), frameon=False)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None, dpi=110)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else DOCS / "images" / "measured.svg")
