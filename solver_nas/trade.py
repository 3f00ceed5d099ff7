"""How much utility a network keeps at every budget: the curve that a budget is chosen by."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from solver_nas.asking import Ask
from solver_nas.bounds import MEASURED, Bound
from solver_nas.editable import Editable
from solver_nas.errors import ImpossibleError, RequestError, TimeLimitError
from solver_nas.fit import calibration_of, scaled, shrink
from solver_nas.frontend import Model, untraced
from solver_nas.limits import Expression, Now, Peak, now
from solver_nas.limits.expression import number
from solver_nas.limits.neurons import held_outputs
from solver_nas.posing import pose
from solver_nas.progress import progress as show_progress
from solver_nas.requests import is_whole
from solver_nas.rounds import score
from solver_nas.sensitivity import measured
from solver_nas.solve import GAP, TIME_LIMIT, extreme

if TYPE_CHECKING:
    from os import PathLike

    from solver_nas.change import Plan
    from solver_nas.limits import Limits
    from solver_nas.normalise import Normalisation
    from solver_nas.strategies import Utility


_FEWEST = 2  # points of a curve


@dataclass(frozen=True, slots=True, eq=False)
class Compromise:
    """One point of the curve.

    Args:
        budget: what the network may cost.
        cost: what it costs then.
        kept: the fraction of the utility that is kept.
        bound: no selection within the budget keeps more than this fraction.
        plan: the change, to be applied if this is the one.
        metric: how good the network is then; `None` if nobody asked.
    """

    budget: float
    cost: float
    kept: float
    bound: float
    plan: Plan
    metric: float | None = None

    def __repr__(self) -> str:
        """In short, without the plan."""
        names = ("budget", "cost", "kept", "bound", *(() if self.metric is None else ("metric",)))
        return f"Compromise({', '.join(f'{name}={getattr(self, name):.6g}' for name in names)})"


@dataclass(frozen=True, slots=True, eq=False)
class TradeOff:
    """The curve of kept utility against a budget.

    Args:
        title: what the budget is on.
        points: ascending by budget.
        smallest: the least that the network can cost at all.
        present: what it costs now.
        missing: budgets for which nothing was found, and why.
        metric: how good the network is now; `None` if nobody asked.
    """

    title: str
    points: tuple[Compromise, ...]
    smallest: float
    present: float
    missing: tuple[tuple[float, str], ...] = ()
    metric: float | None = None

    def __str__(self) -> str:
        """A table."""
        # Whole numbers in full; seconds and the like with six digits.
        style = ">16,.0f" if all(float(point.cost).is_integer() for point in self.points) else ">16,.6g"
        measured = self.metric is not None
        lines = [f"{self.title:>16}  {'of now':>7}  {'kept':>8}  {'at most':>8}" + (f"  {'metric':>8}" * measured)]
        lines += [
            f"{point.cost:{style}}  {point.cost / (self.present or 1.0):>7.1%}  {point.kept:>8.4f}  {point.bound:>8.4f}"
            + ("" if point.metric is None else f"  {point.metric:>8.4f}")
            for point in self.points
        ]
        lines += [f"{'as it is':>16}  {'':>7}  {'':>8}  {'':>8}  {self.metric:>8.4f}"] if measured else []
        lines += [f"{amount:{style}}  nothing was found: {why.splitlines()[0]}" for amount, why in self.missing]
        return "\n".join(lines)

    def at(self, kept: float) -> Compromise:
        """The cheapest point that keeps at least this fraction of the utility.

        Raises:
            RequestError: none does.
        """
        found = [point for point in self.points if point.kept >= kept]
        if not found:
            best = max(point.kept for point in self.points)
            raise RequestError(f"no point keeps {kept:.4g} of the utility; the most is {best:.4g}")
        return min(found, key=lambda point: point.cost)

    def best(self, tolerance: float) -> Compromise:
        """The cheapest point whose metric is at most this much less than that of the network as it is.

        Raises:
            RequestError: none is, or no metric was asked for.
        """
        if self.metric is None:
            raise RequestError("nothing was measured: give trade_off a metric")
        found = [point for point in self.points if point.metric is not None and point.metric >= self.metric - tolerance]
        if not found:
            raise RequestError(f"no point is within {tolerance:.4g} of the metric of the network as it is")
        return min(found, key=lambda point: point.cost)

    def save(self, path: str | PathLike[str]) -> None:
        """Draw the curve with its proven band; the file's ending says which format.

        Raises:
            ExtraError: matplotlib is not installed.
        """
        from solver_nas.report.curves import trade_off_curve

        trade_off_curve(self, path)


def trade_off(
    model: Model,
    limit: Expression | Peak,
    points: int | Sequence[float] = 20,
    *,
    limits: Limits = (),
    data: object = None,
    metric: Callable[[Any], float] | None = None,
    utility: Utility | None = None,
    normalise: Normalisation = "none",
    keep_outputs: bool = True,
    time_limit: float = TIME_LIMIT,
    gap: float = GAP,
    seed: int = 0,
    progress: bool | None = None,
) -> TradeOff:
    """Find the best network at every budget between the smallest possible one and the present cost.

    Args:
        model: the network; not changed.
        limit: what the budget is on: `params(net)`, `macs(net)`, `activation_memory(net)`, any expression.
        points: how many budgets, evenly spread; or the budgets themselves, as fractions of the present cost.
        limits: what has to be kept as well.
        data: samples, as for `shrink`: utilities are measured once, and every point is refitted.
        metric: a function of the model that says how good it is, higher being better; called for every point, with the
            model as it would be, and taken back afterwards. Use other samples than `data` in it.
        utility: as for `shrink`.
        normalise: as for `shrink`.
        keep_outputs: as for `shrink`.
        time_limit: for each budget, in seconds.
        gap: as for `shrink`.
        seed: as for `shrink`.
        progress: whether to show a bar; by default on a terminal if it takes long.

    Returns:
        The curve, as data (`points`), a table (`print`) and a picture (`save`).

    Raises:
        ImpossibleError: the other limits cannot be kept.

    >>> from solver_nas import Network, limits, nn
    >>> net = Network()
    >>> hidden = nn.dense(net.input("in", 8), 32, name="hidden")
    >>> net.output(nn.dense(hidden, 4, name="out"))
    >>> curve = trade_off(net, limits.params(net), points=3)
    >>> [(point.cost, point.plan.sizes["hidden"][1]) for point in curve.points]
    [(17.0, 1), (212.0, 16), (420.0, 32)]
    """
    if not isinstance(model, Model):
        raise RequestError(f"expected a network, got {untraced(model)}")
    if not isinstance(limit, Expression | Peak):
        raise RequestError(f"a trade-off is on a cost such as macs(net), got {limit!r}")
    fractions = None if is_whole(points) else _fractions(points)
    if fractions is None and not (is_whole(points) and points >= _FEWEST):
        raise RequestError(f"a curve has at least {_FEWEST} points, got {points!r}")
    options: dict[str, Any] = {"keep_outputs": keep_outputs, "time_limit": time_limit, "seed": seed}
    present = float(limit.value)
    smallest = _smallest(model, limit, limits, **options)
    budgets: list[Fraction | Now] = [fraction * now for fraction in fractions or [Fraction(1)]]
    if is_whole(points):
        step = (Fraction(present) - smallest) / (int(points) - 1)
        # The last one is asked for as it is, since no rounded number need be exactly there.
        budgets = [*(smallest + place * step for place in range(int(points) - 1)), *budgets]
    calibration = calibration_of(model, data, progress=progress)
    if calibration is not None and utility is None:
        utility = measured(calibration, progress=progress)
    worth = scaled(model, utility, normalise)
    assert isinstance(model, Editable), "all models are"
    now_good = score(metric, model)
    found, missing = [], []
    with show_progress(f"trade-off on {limit}", len(budgets), show=progress) as advance:
        for budget in budgets:
            amount = float(budget.factor) * present if isinstance(budget, Now) else float(budget)
            try:
                plan = shrink.plan(
                    model, [limit <= budget, *[limits]], utility=worth, data=calibration, gap=gap, **options
                )
            except (ImpossibleError, TimeLimitError) as error:
                missing.append((amount, error))
            else:
                found.append(_compromise(limit, plan, amount, _tried(model, plan, metric)))
            advance()
    if not found:
        raise missing[-1][1]
    told = tuple((amount, str(error)) for amount, error in missing)
    return TradeOff(str(limit), tuple(found), float(smallest), present, told, now_good)


def _fractions(points: object) -> list[Fraction]:
    """Budgets as fractions of what there is now, ascending.

    Raises:
        RequestError: anything else.
    """
    if not isinstance(points, Iterable) or isinstance(points, str):
        raise RequestError(f"a curve has a number of points, or budgets as fractions of now, got {points!r}")
    found = sorted(number(point, "a budget of a trade-off") for point in points)
    if not found or not all(0 < fraction <= 1 for fraction in found):
        raise RequestError(f"the budgets of a trade-off are fractions of now between 0 and 1, got {points!r}")
    return found


class _BackError(Exception):
    """Takes a change back."""


def _tried(model: Editable, plan: Plan, metric: Callable[[Any], float] | None) -> float | None:
    """How good a model is with a change, which is taken back."""
    found = None
    if metric is not None:
        with suppress(_BackError), model.transaction():
            plan.apply()
            found = score(metric, model)
            raise _BackError
    return found


def _compromise(limit: Expression | Peak, plan: Plan, budget: float, metric: float | None) -> Compromise:
    everything = sum(float(np.maximum(worth, 0.0).sum()) for worth in plan.utilities.values()) or 1.0
    certificate = plan.certificate
    cost = plan.cost(limit)
    return Compromise(budget, cost, certificate.objective / everything, certificate.bound / everything, plan, metric)


def _smallest(
    model: Model,
    limit: Expression | Peak,
    limits: Limits,
    *,
    keep_outputs: bool,
    time_limit: float,
    seed: int,
) -> Fraction:
    """The least that is possible; of several moments of one peak, the most demanding one."""
    held = [held_outputs(model)] if keep_outputs else []
    mine = limit <= now
    ask = Ask(model, free=tuple(model), limits=[mine, limits, held], insert=False)
    problem = pose(ask.labels, [], lambda _: 0.0, everywhere=ask.free, insert=False, limits=ask.limits)
    texts = [restriction for restriction in ask.limits[: len(mine.resolve(ask.view))] if isinstance(restriction, Bound)]
    least = extreme(problem, texts, time_limit=time_limit, seed=seed)
    if least is None:
        # If the other limits contradict each other, this says which.
        shrink.plan(model, [mine, limits], keep_outputs=keep_outputs, time_limit=time_limit, seed=seed)
        raise TimeLimitError(f"the least that {limit} can come to was not found out in time")
    # Measured costs are known as far as float64 goes.
    room = MEASURED if any(bound.curves for bound in texts) else 0
    offset, factor = texts[0].told
    return (offset + factor * least) * (1 + Fraction(room))
