"""Why a request has no solution, in words: the smallest set of relations and wishes that conflict."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from solver_nas.bounds import Bound, Restriction, arrays
from solver_nas.classes import classify
from solver_nas.errors import TimeLimitError
from solver_nas.graph import Port
from solver_nas.labels import FIXED, Reason
from solver_nas.posing import pose
from solver_nas.requests import Target
from solver_nas.rules.bridge import KIND as BRIDGE
from solver_nas.solve import Status, extreme, feasible, nearest_sizes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from fractions import Fraction

    from solver_nas.graph import Graph
    from solver_nas.labels import Labels
EXPLAINING = 10.0  # seconds; an explanation that is not minimal beats a minimal one that nobody waits for
_LEAST_TIME = 0.2  # seconds for a single question, once the time is up

_NEVER = Status.INFEASIBLE

T = TypeVar("T")
#: Something that can be given up: a wish, or a limit.
Claim = Target | Restriction

_SIGNS = {"add": " + ", "subtract": " - ", "multiply": " * ", "divide": " / "}


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a request is impossible, or that it is not.

    Args:
        possible: whether all exact wishes can be met.
        wishes: the exact wishes that take part in the conflict.
        reasons: the relations that do, one line each.
        nearest: vertex -> the nearest sizes below and above that work, everything else being as requested.
        minimal: whether no line can be left out, and the nearest sizes are the nearest.
        subject: what is impossible, where the wishes do not say it.
        limits: the limits that take part in the conflict.
        reachable: limit -> how far it would have to give if it alone did: the least (or most) that is possible with
            everything else as requested; `None` if that does not help, or was not found out in time.
    """

    possible: bool
    wishes: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    nearest: Mapping[str, tuple[int, ...]] | None = None
    minimal: bool = True
    subject: str = ""
    limits: tuple[str, ...] = ()
    reachable: Mapping[str, float | None] | None = None

    def __bool__(self) -> bool:
        """Whether the request is possible."""
        return self.possible

    def __str__(self) -> str:
        """The explanation as a paragraph."""
        if self.possible:
            return "The request is possible."
        said = " together with ".join((*self.wishes, *self.limits)) or "The request"
        lines = [f"{self.subject or said} is impossible."]
        if self.subject:
            lines += [f"  {limit}" for limit in self.limits]
        lines += [f"  {reason}" for reason in self.reasons]
        for name, sizes in (self.nearest or {}).items():
            which = f", with {name} alone giving way" if len(self.nearest or {}) > 1 else ""
            lines.append(f"nearest possible{which}: {', '.join(map(str, sizes)) or 'none'}")
        for limit, value in (self.reachable or {}).items():
            alone = ", with this limit alone giving way" if len(self.wishes) + len(self.limits) > 1 else ""
            stands = "nothing else was found to help; what else conflicts stands in the way"
            far = stands if value is None else f"{value:,.12g} is possible"
            lines.append(f"{limit}: {far}{alone}")
        if not self.minimal:
            lines.append("(the time for explaining was up: not every line may be needed, and other sizes may work too)")
        return "\n".join(lines)


def explain_conflict(
    graph: Graph,
    labels: Labels,
    targets: Sequence[Target],
    *,
    known_impossible: bool = False,
    subject: str = "",
    limits: Sequence[Restriction] = (),
    insert: bool = True,
    time_limit: float = EXPLAINING,
    seed: int = 0,
) -> Explanation:
    """Find out whether exact wishes can be met together, and if not, why.

    The relations are tried out by leaving them away: ties and rectangles are grouped by the vertex and
    the rule that they come from. Source: QuickXplain, Junker 2004.

    Args:
        graph: the structure.
        labels: its labels.
        targets: what is asked for; only exact wishes can be impossible.
        known_impossible: whether that is known already.
        subject: what is impossible, where the wishes do not say it.
        limits: what sizes have to keep.
        insert: whether new neurons may come.
        time_limit: in seconds.
        seed: for the solver.
    """
    exact = [target for target in targets if target.exact]
    deadline = time.perf_counter() + time_limit
    if not known_impossible:
        status = _status(labels, exact, limits, deadline, seed, insert=insert)
        if status is Status.UNKNOWN:
            raise TimeLimitError(f"whether the request is possible was not found out within {time_limit} s")
        if status is not Status.INFEASIBLE:
            return Explanation(possible=True)
    core = _Relations(labels, deadline, seed, insert=insert)
    # Fewest wishes and limits first, under all relations; then the relations that are enough for these.
    claims: list[Claim] = [*exact, *limits]
    near = core.near(claims)
    few, claims = _minimise(lambda some: core.feasible(some, near), claims, deadline)
    enough, reasons = _minimise(lambda some: core.feasible(claims, some), core.near(claims), deadline)
    wishes = [claim for claim in claims if isinstance(claim, Target)]
    nearest = {}
    for target in wishes:
        others = [other for other in exact if other is not target]
        if not (others or limits) or _status(labels, others, limits, deadline, seed, insert=insert) is not _NEVER:
            nearest[target.port.vertex] = _nearest(labels, target, others, limits, deadline, seed, insert=insert)
    reachable = {}
    for claim in claims:
        if isinstance(claim, Bound) and (claim.low is None) != (claim.high is None):
            # What belongs to one limit gives way together.
            family = [other for other in limits if other is claim or (claim.family and _family(other) == claim.family)]
            rest = [other for other in limits if other not in family]
            bounds = [other for other in family if isinstance(other, Bound)]
            most = _reachable(labels, exact, [*rest, *bounds], bounds, deadline, seed, insert=insert)
            offset, factor = claim.told
            reachable[claim.family or claim.text] = None if most is None else float(offset + factor * most)
    said = _in_words(graph, labels, reasons, wishes)
    if not insert and _status(labels, exact, limits, deadline, seed, insert=True) is not _NEVER:
        said = (*said, "no neurons are added, which would make it possible")
    return Explanation(
        False,
        tuple(wish.text for wish in wishes),
        said,
        nearest,
        few and enough and time.perf_counter() < deadline,
        subject,
        tuple(dict.fromkeys(claim.text for claim in claims if not isinstance(claim, Target))),
        reachable,
    )


def _status(
    labels: Labels,
    targets: Sequence[Target],
    limits: Sequence[Restriction],
    deadline: float,
    seed: int,
    *,
    insert: bool,
) -> Status:
    problem = pose(labels, targets, lambda _: 0.0, limits=limits, insert=insert)
    return feasible(problem, time_limit=_left(deadline), seed=seed)


def _family(limit: Restriction) -> str:
    return limit.family if isinstance(limit, Bound) else ""


def _reachable(
    labels: Labels,
    targets: Sequence[Target],
    limits: Sequence[Restriction],
    mine: Sequence[Bound],
    deadline: float,
    seed: int,
    *,
    insert: bool,
) -> Fraction | None:
    problem = pose(labels, targets, lambda _: 0.0, limits=limits, insert=insert)
    return extreme(problem, mine, time_limit=_left(deadline), seed=seed)


def _nearest(
    labels: Labels,
    target: Target,
    others: Sequence[Target],
    limits: Sequence[Restriction],
    deadline: float,
    seed: int,
    *,
    insert: bool,
) -> tuple[int, ...]:
    problem = pose(labels, [*others, target], lambda _: 0.0, limits=limits, insert=insert)
    wish = next(wish for wish in problem.wishes if wish.target is target)
    return nearest_sizes(problem, wish, time_limit=_left(deadline), seed=seed)


def _left(deadline: float) -> float:
    return max(deadline - time.perf_counter(), _LEAST_TIME)


class _Relations:
    """Feasibility with only some of the relations."""

    def __init__(self, labels: Labels, deadline: float, seed: int, *, insert: bool) -> None:
        self._labels, self._deadline, self._seed, self._insert = labels, deadline, seed, insert

    def feasible(self, claims: Sequence[Claim], relations: Sequence[Reason]) -> bool:
        """Whether these wishes and limits can be met under these relations alone."""
        reasons = set(relations)
        labels = self._labels
        some = replace(
            labels,
            ties=tuple(tie for tie in labels.ties if tie.reason in reasons),
            joints=tuple(joint for joint in labels.joints if joint.reason in reasons),
            products=tuple(product for product in labels.products if product.reason in reasons),
            balances=tuple(balance for balance in labels.balances if balance.reason in reasons),
            farewells=tuple(farewell for farewell in labels.farewells if farewell.reason in reasons),
        )
        # What is not found out in time counts as possible, so that its relations stay in the explanation.
        wishes = [claim for claim in claims if isinstance(claim, Target)]
        limits = [claim for claim in claims if not isinstance(claim, Target)]
        return _status(some, wishes, limits, self._deadline, self._seed, insert=self._insert) is not _NEVER

    def near(self, claims: Sequence[Claim]) -> list[Reason]:
        """Relations that a wish or a limit can reach at all, in the order of the vertices."""
        labels = self._labels
        class_of, classes = classify(labels)
        reached = np.zeros(classes, bool)
        for claim in claims:
            if isinstance(claim, Target):
                reached[class_of[labels.tensors[claim.port].neurons["label"]]] = True
            else:
                for array in arrays(claim):
                    reached[class_of[array]] = True
        for balance in labels.balances:
            reached[class_of[np.r_[balance.left, balance.right]]] = True
        for farewell in labels.farewells:
            reached[class_of[farewell.labels]] = True
        links = [
            *((tie.reason, class_of[tie.left], class_of[tie.right]) for tie in labels.ties),
            *((j.reason, class_of[j.rows], class_of[j.cells.reshape(-1)]) for j in labels.joints),
            *((p.reason, class_of[p.rows], class_of[np.r_[p.columns, p.cells.reshape(-1)]]) for p in labels.products),
            *((b.reason, class_of[b.left], class_of[b.right]) for b in labels.balances),
            *((f.reason, class_of[f.labels], class_of[f.labels]) for f in labels.farewells),
        ]
        found: dict[Reason, None] = {}
        grown = True
        while grown:
            grown = False
            for reason, left, right in links:
                if reason not in found and (reached[left].any() or reached[right].any()):
                    found[reason] = None
                    for side in (left, right):
                        # What is always kept links nothing.
                        reached[side[side != FIXED]] = True
                    grown = True
        order = {vertex: place for place, vertex in enumerate(port.vertex for port in labels.tensors)}
        return sorted(found, key=lambda reason: (order.get(reason.vertex, -1), reason.rule))


def _minimise(feasible: Callable[[Sequence[T]], bool], members: Sequence[T], deadline: float) -> tuple[bool, list[T]]:
    """A smallest infeasible subset (none of its members can go); whether there was time to get there."""
    late = False

    def needed(background: list[T], changed: Sequence[T], rest: list[T]) -> list[T]:
        nonlocal late
        if time.perf_counter() > deadline:
            late = True
            return rest
        if changed and not feasible(background):
            return []
        if len(rest) <= 1:
            return rest
        half = len(rest) // 2
        left, right = rest[:half], rest[half:]
        of_right = needed([*background, *left], left, right)
        of_left = needed([*background, *of_right], of_right, left)
        return [*of_left, *of_right]

    if members and not feasible([]):
        return True, []
    return not late, needed([], [], list(members))


def _in_words(graph: Graph, labels: Labels, reasons: Sequence[Reason], wishes: Sequence[Target]) -> tuple[str, ...]:
    """One line per relation, then one per operation that carries neurons from their source to there."""
    words = _Words(graph, labels)
    lines: dict[str, str] = {}
    for reason in reasons:
        line = f"{words.vertex(reason.vertex)}   ({reason.rule})"
        lines.setdefault(f"{reason.vertex} {reason.rule}", line)
    stack = [port.vertex for reason in reasons for port in graph.vertex(reason.vertex).inputs]
    stack += [wish.port.vertex for wish in wishes]
    seen = {reason.vertex for reason in reasons}
    while stack:
        name = words.origin(stack.pop(0))
        if name in seen or not words.carries(name):
            continue
        seen.add(name)
        lines[name] = f"{words.vertex(name)}{words.multiple(name)}"
        stack += [port.vertex for port in graph.vertex(name).inputs]
    return tuple(lines.values())


class _Words:
    """Vertices as readable formulas."""

    def __init__(self, graph: Graph, labels: Labels) -> None:
        self._graph, self._labels = graph, labels
        self._first: dict[bytes, str] = {}
        for port, tensor in labels.tensors.items():
            self._first.setdefault(tensor.neurons["label"].tobytes(), port.vertex)

    def origin(self, name: str) -> str:
        """The first vertex that has the same neurons in the same order."""
        return self._first[self._labels.tensors[Port(name)].neurons["label"].tobytes()]

    def carries(self, name: str) -> bool:
        """Whether a vertex only rearranges the neurons of others."""
        vertex = self._graph.vertex(name)
        inside = [self._labels.tensors[port].neurons["label"] for port in vertex.inputs]
        mine = self._labels.tensors[Port(name)].neurons["label"]
        return bool(inside) and len(mine) > 0 and bool(np.isin(mine, np.concatenate(inside)).all())

    def vertex(self, name: str) -> str:
        """`out = start + joined`, `joined = concat(split, split)`."""
        vertex = self._graph.vertex(name)
        if vertex.kind == BRIDGE:
            source = vertex.inputs[0].vertex
            origin = self.origin(source)
            return f"{name} takes what {source} gives{f', the neurons of {origin}' if origin != source else ''}"
        inputs = [self.origin(port.vertex) for port in vertex.inputs]
        inputs = [vertex.inputs[i].vertex if one == name else one for i, one in enumerate(inputs)]
        if vertex.kind in _SIGNS and len(inputs) > 1:
            return f"{name} = {_SIGNS[vertex.kind].join(inputs)}"
        return f"{name} = {vertex.kind}({', '.join(inputs)})" if inputs else f"{name} = {vertex.kind}"

    def multiple(self, name: str) -> str:
        """A note on what the size is a multiple of, if that is more than one."""
        class_of, _ = classify(self._labels, ())
        _, counts = np.unique(class_of[self._labels.tensors[Port(name)].neurons["label"]], return_counts=True)
        common = math.gcd(*_ints(counts))
        return f"   (so nout({name}) is a multiple of {common})" if common > 1 else ""


def _ints(values: Iterable[object]) -> list[int]:
    return [int(str(value)) for value in values]
