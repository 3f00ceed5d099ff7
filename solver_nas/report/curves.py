"""The curve of kept utility against a budget; needs matplotlib, which comes with `solver_nas[demo]`."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from solver_nas.errors import ExtraError
from solver_nas.limits.expression import shown

if TYPE_CHECKING:
    from os import PathLike

    from solver_nas.trade import TradeOff

_WIDTH, _HEIGHT = 6.0, 4.0  # inches
_VISIBLE = 1e-3  # a narrower band than this fraction of the utility cannot be seen


def trade_off_curve(curve: TradeOff, path: str | PathLike[str]) -> None:
    """Draw a curve and the band between what is kept and what is proven to be the most.

    Args:
        curve: what to draw.
        path: where to; the ending says which format.

    Raises:
        ExtraError: matplotlib is not installed.
        OSError: the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import PercentFormatter
    except ModuleNotFoundError as error:
        raise ExtraError("pictures need matplotlib: pip install 'solver_nas[demo]'") from error
    budgets = [point.cost / (curve.present or 1.0) for point in curve.points]
    kept, bound = [point.kept for point in curve.points], [point.bound for point in curve.points]
    figure = Figure(figsize=(_WIDTH, _HEIGHT), layout="constrained")
    axes = figure.subplots()
    if max(most - least for most, least in zip(bound, kept, strict=True)) > _VISIBLE:
        axes.fill_between(budgets, kept, bound, color="C1", alpha=0.4, linewidth=0, label="up to the proven bound")
    # Only the dots are networks.
    axes.plot(budgets, kept, color="C0", linewidth=0.7, alpha=0.5)
    axes.plot(budgets, kept, color="C0", linestyle="", marker="o", markersize=4, label="kept")
    axes.axvline(curve.smallest / (curve.present or 1.0), color="0.5", linestyle=":", label="smallest possible")
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xlabel(f"{curve.title} (100 % = {shown(Fraction(curve.present))})")
    axes.set_ylabel("utility kept")
    axes.set_xlim(0.0, 1.02)
    axes.grid(visible=True, alpha=0.3)
    handles, names = axes.get_legend_handles_labels()
    measured = [(budget, point.metric) for budget, point in zip(budgets, curve.points, strict=True)]
    if curve.metric is not None:
        other = axes.twinx()
        other.plot(*zip(*measured, strict=True), color="C2", linewidth=0.7, marker="s", markersize=4, label="metric")
        other.axhline(curve.metric, color="C2", linestyle="--", linewidth=0.7, label="metric now")
        other.set_ylabel("metric", color="C2")
        other.tick_params(axis="y", colors="C2")
        more, others = other.get_legend_handles_labels()
        handles, names = [*handles, *more], [*names, *others]
    axes.legend(handles, names, loc="lower right", frameon=False)
    figure.savefig(Path(path))
