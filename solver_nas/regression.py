"""Ridge regression from sums over rows, judged by rows that were held back."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from solver_nas.linear import Floats

RIDGES = (1e-6, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)  # relative to the mean square of what is read

_STILL = 1e-12  # relative: what varies less than this does not vary
_CROOKED = 1e-6  # of the variance: more is no rounding
_FEWEST = 2  # any two points are on a line


class Refit(NamedTuple):
    """What became of one vertex.

    Args:
        error: mean square of what is missing, as a fraction of that of what should come out, on samples that were
            held back; before the refit. Where what comes out is added to something that is off as well, of the sum.
        left: the same after it.
        ridge: how strongly the present weights were held on to; infinite where only one number for each neuron was
            fitted.
        how: in words.
    """

    error: float
    left: float
    ridge: float
    how: str


class Moments:
    """Sums over rows of what is read (x) and what is missing (y), by groups."""

    def __init__(self) -> None:
        self.count = 0
        self.x = self.y = self.xx = self.xy = np.zeros(0)
        self.yy = self.power = 0.0

    def add(self, x: Floats, y: Floats, target: Floats) -> None:
        """More rows: x (groups, rows, features), y and target (groups, rows, outputs)."""
        if not self.count:
            groups, _, features = x.shape
            outputs = y.shape[2]
            self.x, self.y = np.zeros((groups, features)), np.zeros((groups, outputs))
            self.xx, self.xy = np.zeros((groups, features, features)), np.zeros((groups, features, outputs))
        self.count += x.shape[1]
        self.x += x.sum(axis=1)
        self.y += y.sum(axis=1)
        self.xx += x.swapaxes(1, 2) @ x
        self.xy += x.swapaxes(1, 2) @ y
        self.yy += float((y**2).sum())
        self.power += float((target**2).sum())

    def error(self, change: Floats | None, shift: Floats | None) -> float:
        """The sum of squares of what is still missing."""
        total = self.yy
        if change is not None:
            total += float((change * (self.xx @ change)).sum()) - 2 * float((change * self.xy).sum())
        if shift is not None:
            total += self.count * float((shift**2).sum()) - 2 * float((shift * self.y).sum())
            if change is not None:
                total += 2 * float((shift * np.einsum("gf,gfo->go", self.x, change)).sum())
        return max(total, 0.0)


class _Candidate(NamedTuple):
    """A change of weight and bias, what is missing with it, and the ridge it was found with."""

    change: Floats | None
    shift: Floats | None
    left: float
    ridge: float = np.inf


def best(
    fitting: Moments, held: Moments, *, centred: bool, bias: bool
) -> tuple[Floats | None, Floats | None, Refit] | None:
    """The change of weight and bias that is best on what was held back; `None` if there is too little to judge by.

    What is missing falls and rises again with the ridge: it is looked for from the middle of `RIDGES` on.

    Args:
        fitting: what is fitted.
        held: what was held back.
        centred: whether anything takes up a mean.
        bias: whether a bias does.
    """
    if not fitting.count or not held.count or not np.isfinite(fitting.yy + held.yy):
        return None
    base, scale = held.error(None, None), held.power or 1.0
    mean_x, mean_y = fitting.x / fitting.count, fitting.y / fitting.count
    xx, xy = fitting.xx / fitting.count, fitting.xy / fitting.count
    if centred:
        xx -= mean_x[:, :, None] * mean_x[:, None, :]
        xy -= mean_x[:, :, None] * mean_y[:, None, :]
    unit = np.trace(xx, axis1=1, axis2=2) / max(xx.shape[1], 1)

    def tried(place: int) -> _Candidate:
        change = _solved(xx, xy, RIDGES[place] * unit)
        if change is None:
            return _Candidate(None, None, np.inf)
        shift = mean_y - np.einsum("gf,gfo->go", mean_x, change) if centred else None
        return _Candidate(change, shift, held.error(change, shift), RIDGES[place])

    place = len(RIDGES) // 2
    found = tried(place)
    for step in (-1, 1):
        moved = False
        while 0 <= place + step < len(RIDGES) and (other := tried(place + step)).left < found.left:
            found, place, moved = other, place + step, True
        if moved:
            break
    candidates = [_Candidate(None, None, base), found]
    if bias:
        candidates.insert(1, _Candidate(None, mean_y, held.error(None, mean_y)))
    change, shift, left, ridge = min(candidates, key=lambda one: one.left)
    how = "left as it is" if change is None and shift is None else "bias" if change is None else "refitted"
    return change, shift, Refit(base / scale, left / scale, ridge, how)


def _solved(xx: Floats, xy: Floats, ridge: NDArray[np.float64]) -> Floats | None:
    """Ridge regression, group by group."""
    found = np.zeros_like(xy)
    for group, (square, product) in enumerate(zip(xx, xy, strict=True)):
        if not ridge[group] > 0:
            continue  # nothing ever comes
        try:
            factor = cho_factor(square + ridge[group] * np.eye(len(square)), lower=True, check_finite=False)
        except LinAlgError:
            return None
        found[group] = cho_solve(factor, product, check_finite=False)
    return found if np.isfinite(found).all() else None


class EachNeuron:
    """Sums over rows of what each neuron is (x) and should be (y), neuron by neuron."""

    def __init__(self, neurons: int) -> None:
        """Of no rows."""
        self.count = 0
        self.x, self.y, self.xx, self.xy, self.yy = np.zeros((5, neurons))

    def add(self, x: Floats, y: Floats) -> None:
        """More rows, (rows, neurons)."""
        self.count += len(x)
        self.x += x.sum(axis=0)
        self.y += y.sum(axis=0)
        self.xx += np.einsum("rn,rn->n", x, x)
        self.xy += np.einsum("rn,rn->n", x, y)
        self.yy += np.einsum("rn,rn->n", y, y)

    def error(self, slope: Floats | float, shift: Floats | float) -> Floats:
        """Sum of squares of y - slope x - shift."""
        total = self.yy - 2 * slope * self.xy + slope**2 * self.xx
        total = total - 2 * shift * (self.y - slope * self.x) + self.count * shift**2
        return np.maximum(total, 0.0)

    def line(self, steepest: Floats | None = None) -> tuple[Floats, Floats]:
        """Slope and shift of least squares; a slope of 1 where there is none that rises.

        Args:
            steepest: the most that a slope can be, neuron by neuron.
        """
        count = max(self.count, 1)
        mean, wanted = self.x / count, self.y / count
        spread, both = self.xx / count - mean**2, self.xy / count - mean * wanted
        known = (spread > _STILL * self.xx / count) & (both > 0)
        slope = np.divide(both, spread, out=np.ones_like(both), where=known)
        if steepest is not None:
            slope = np.minimum(slope, steepest)
        return slope, wanted - slope * mean

    def best(self, held: EachNeuron, *, steepest: Floats | None) -> tuple[Floats, Floats, Refit]:
        """Slope and shift of each neuron that are best on what was held back: none, a shift, or both.

        Args:
            held: the same sums of what was held back.
            steepest: the most that a slope can be, neuron by neuron; `None` if it can only be 1.
        """
        slope, shift = np.ones_like(self.x), np.zeros_like(self.x)
        least = base = held.error(1.0, 0.0)
        found = [(np.ones_like(slope), (self.y - self.x) / max(self.count, 1))]
        if steepest is not None:
            found.append(self.line(steepest))
        for one, other in found:
            error = held.error(one, other)
            better = error < least
            slope, shift = np.where(better, one, slope), np.where(better, other, shift)
            least = np.where(better, error, least)
        scale = float(held.yy.sum()) or 1.0
        how = "refitted" if (least < base).any() else "left as it is"
        return slope, shift, Refit(float(base.sum()) / scale, float(least.sum()) / scale, np.inf, how)


def straight(x: Floats, y: Floats) -> Floats | None:
    """The slope of each column of y over that of x, if that is all there is to it; `None` if it is not.

    Columns that do not vary have the slope 0.

    Args:
        x: (rows, neurons).
        y: of the same shape.
    """
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    spread = np.einsum("rn,rn->n", x, x)
    slope = np.divide(np.einsum("rn,rn->n", x, y), spread, out=np.zeros_like(spread), where=spread > 0)
    left, total = float(((y - slope * x) ** 2).sum()), float((y**2).sum())
    return slope if len(x) > _FEWEST and total > 0 and left <= _CROOKED * total else None
