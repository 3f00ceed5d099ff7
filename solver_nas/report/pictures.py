"""Pictures for people to look at; they need matplotlib, which comes with `solver_nas[demo]`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from solver_nas.errors import ExtraError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from solver_nas.frontend import Array

_PANEL = 3.0  # inches
_LEVELS = 21  # bands between 0 and 1
_COLOURS = "RdBu"  # white half-way, and told apart by the colour-blind


def surfaces(
    panels: Mapping[str, Array],
    places: NDArray[np.float64],
    points: Array,
    classes: Array,
    path: Path,
    *,
    title: str,
) -> None:
    """Save what networks compute on one square of the plane, side by side.

    Args:
        panels: title -> values in [0, 1], shape (rows, columns), of the points (places[column], places[row]).
        places: coordinates along both axes.
        points: to be marked, shape (points, 2).
        classes: what should be computed there, 0 or 1, shape (points,).
        path: where to; the ending says which format.
        title: above all panels.

    Raises:
        ExtraError: matplotlib is not installed.
        OSError: the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ExtraError("pictures need matplotlib: pip install 'solver_nas[demo]'") from error
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    figure = Figure(figsize=(_PANEL * len(panels) + 0.8, _PANEL + 0.9), layout="constrained")
    figure.suptitle(title)
    axes = figure.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)[0]
    levels = np.linspace(0, 1, _LEVELS)
    for axis, (heading, values) in zip(axes, panels.items(), strict=True):
        axis.contourf(places, places, values, levels, cmap=_COLOURS)
        if values.min() < 0.5 < values.max():
            axis.contour(places, places, values, [0.5], colors="black", linewidths=1)
        for number, marker in ((0, "s"), (1, "o")):
            marked = points[classes == number]
            axis.scatter(
                marked[:, 0],
                marked[:, 1],
                marker=marker,
                s=60,
                c="white",
                edgecolors="black",
                zorder=3,
                label=f"should be {number}",
            )
        axis.set_title(heading, fontsize="medium")
        axis.set_aspect("equal")
    axes[0].legend(loc="lower left", fontsize="small")
    scale = ScalarMappable(Normalize(0, 1), _COLOURS)
    bar = figure.colorbar(scale, ax=list(axes), ticks=[0, 0.5, 1], shrink=0.8)
    bar.set_label("output")
    figure.savefig(path, dpi=120, metadata={"Software": None} if path.suffix == ".png" else None)
