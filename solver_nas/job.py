"""One call of the solver for one request: posed, solved, drawn, and tried again with fewer choices if need be."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from solver_nas.classes import classify, loose_joints
from solver_nas.errors import ImpossibleError, RequestError, TimeLimitError
from solver_nas.labels import Reason, Tie
from solver_nas.order import DisorderError
from solver_nas.plan import draw
from solver_nas.posing import pose
from solver_nas.solve import Status, certify, select, solve

if TYPE_CHECKING:
    from collections.abc import Sequence

    from solver_nas.asking import Ask, Worth
    from solver_nas.labels import Labels
    from solver_nas.plan import Blueprint
    from solver_nas.requests import Target
    from solver_nas.solve import Certificate


_LEAST_TIME = 0.2  # seconds
_AT_RISK = 0.4  # of the time, for a selection that may well not fit any order


class Job:
    """The solving of one request."""

    def __init__(self, ask: Ask, worth: Worth, time_limit: float, seed: int, most_new: int | None) -> None:
        """Take the request and what its solution may need."""
        self.ask, self.worth, self.time_limit, self.seed, self.most_new = ask, worth, time_limit, seed, most_new
        self.notes: list[str] = []
        self._free: Certificate | None = None
        self._deadline, self._share = 0.0, 1.0
        self._seconds: dict[str, float] = {}

    def draw(self, targets: Sequence[Target]) -> Blueprint | None:
        """The best blueprint, or `None` if the wishes contradict the relations between sizes.

        Raises:
            ImpossibleError: the sizes fit, but no order of the neurons does.
        """
        labels = self.ask.labels
        self._free, self._deadline = None, time.perf_counter() + self.time_limit
        self._seconds = {"pose": 0.0, "solve": 0.0, "plan": 0.0}
        self._share = _AT_RISK if is_divided(labels) else 1.0
        try:
            return self._draw(labels, targets)
        except DisorderError as error:
            disorder = error
        alike = _alike(labels)
        # Fewer choices, of which any can be put in order: the same columns in all rows, then no new neurons.
        for insert, note in (
            (True, "all rows of a rectangle keep the same columns"),
            (False, "no new neurons are inserted"),
        ):
            try:
                made = self._draw(alike, targets, insert=insert)
            except DisorderError:
                continue
            if made is not None:
                made = self._restricted(made)
                self.notes.append(f"{note}, since their order would not fit otherwise ({disorder})")
                return made
        raise ImpossibleError(
            f"no order of the neurons fits: {disorder} (only the best selections were tried; others, or other sizes, "
            f"may be possible)"
        ) from disorder

    def possible(self, targets: Sequence[Target]) -> bool:
        """Whether sizes fit at all."""
        problem = pose(
            self.ask.labels,
            targets,
            lambda _: 0.0,
            everywhere=self.ask.free,
            insert=self.ask.insert,
            limits=self.ask.limits,
        )
        return solve(problem, time_limit=self.time_limit, seed=self.seed).status is not Status.INFEASIBLE

    def _restricted(self, made: Blueprint) -> Blueprint:
        """The blueprint with a certificate that owns up to the choices that were left out."""
        free = self._free
        same = free and (free.objective, free.deviation) == (made.certificate.objective, made.certificate.deviation)
        if free is None or same:
            return made
        bound = max(free.bound, made.certificate.bound)
        return replace(made, certificate=replace(made.certificate, status=Status.FEASIBLE, bound=bound))

    def _draw(self, labels: Labels, targets: Sequence[Target], *, insert: bool = True) -> Blueprint | None:
        clock = time.perf_counter()
        self.worth.asked.clear()
        problem = pose(
            labels,
            targets,
            self.worth,
            everywhere=self.ask.free,
            insert=insert and self.ask.insert,
            most_new=self.most_new,
            limits=self.ask.limits,
            promise=self.ask.promise,
        )
        self.ask.check_unchanged()
        clock = self._passed("pose", clock)
        # The time is for all tries together; one that begins late has a little nevertheless.
        left = self.time_limit * self._share
        if self._free is not None:
            left = max(self._deadline - clock, min(_LEAST_TIME, left))
        counts = solve(problem, time_limit=left, seed=self.seed, gap=self.ask.gap)
        clock = self._passed("solve", clock)
        if counts.status is Status.INFEASIBLE:
            return None
        if counts.status is Status.UNKNOWN and counts.method:
            raise RequestError(counts.method)
        if counts.status is Status.UNKNOWN:
            raise TimeLimitError(f"no solution was found within {self.time_limit} s; give it more time")
        certificate = certify(problem, counts, self._seconds)
        # Vertices that only an earlier try could change keep all that they are worth.
        rest = sum(float(worth.sum()) for name, worth in self.worth.seen.items() if name not in self.worth.asked)
        certificate = replace(certificate, objective=certificate.objective + rest, bound=certificate.bound + rest)
        self._free = self._free or certificate
        try:
            return draw(self.ask.graph, labels, problem.class_of, select(problem, counts), certificate)
        finally:
            self._passed("plan", clock)

    def _passed(self, phase: str, since: float) -> float:
        """Add to the time of a phase, over all tries; returns the time."""
        now = time.perf_counter()
        self._seconds[phase] += now - since
        return now


def _alike(labels: Labels) -> Labels:
    """The same labels with the columns of every rectangle tied across its rows: fewer choices, any order fits."""
    class_of, _ = classify(labels)
    ties = tuple(
        Tie(
            joint.cells[:-1].reshape(-1),
            joint.cells[1:].reshape(-1),
            Reason(joint.reason.vertex, "columns alike"),
        )
        for joint in loose_joints(labels, class_of)
        if len(joint.rows) > 1
    )
    return replace(labels, ties=(*labels.ties, *ties))


def is_divided(labels: Labels) -> bool:
    """Whether columns of a rectangle go different ways, as behind a channel shuffle of which a part is split off.

    Rows may keep different columns then, so many of each sort that no order takes all of them where they belong.
    """
    class_of, classes = classify(labels)
    loose = loose_joints(labels, class_of)
    if not loose:
        return False
    draw = np.random.default_rng(0)
    ways = np.zeros(classes, np.int64)  # a number for the set of tensors in which a class stands
    for tensor in labels.tensors.values():
        there = np.zeros(classes, bool)
        for block in tensor.blocks:
            there[class_of[block.neurons["label"].reshape(-1)]] = True
        ways[there] ^= draw.integers(1 << 62)
    return any((ways[class_of[joint.cells]] != ways[class_of[joint.cells[:, :1]]]).any() for joint in loose)
