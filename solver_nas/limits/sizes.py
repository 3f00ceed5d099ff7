"""Limits on how many neurons vertices have."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Literal

from solver_nas.bounds import Bound, Counted, Lattice, Term
from solver_nas.errors import RequestError
from solver_nas.frontend import Handle, owner
from solver_nas.graph import Port
from solver_nas.labels import Volume
from solver_nas.limits.expression import Axis, Expression, number
from solver_nas.limits.view import Limit, Of, View, titled
from solver_nas.requests import is_whole

if TYPE_CHECKING:
    from solver_nas.bounds import Restriction


_MOST = 100_000_000  # neurons of one vertex that anybody can ask for


class Sizes:
    """Expressions for the sizes of vertices: `sizes[v] + 2 * sizes[w] <= 300`."""

    def __init__(self, counted: Counted, title: str) -> None:
        """Say which neurons count."""
        self._counted, self._title = counted, title

    def __getitem__(self, vertex: Handle) -> Expression:
        """The number of output neurons of a vertex."""
        owner(vertex)
        return Expression([(Fraction(1), Axis(vertex, self._counted, self._title))])

    def __repr__(self) -> str:
        """Its name."""
        return self._title


#: How many output neurons a vertex has: `sizes[v] <= 64`, `sizes[a] == 2 * sizes[b]`.
sizes = Sizes(Counted.ALL, "sizes")
#: How many of its old neurons a vertex keeps: `kept[v] >= 0.9 * now`.
kept = Sizes(Counted.KEPT, "kept")
#: How many new neurons a vertex gets: `inserted[v] <= 4`.
inserted = Sizes(Counted.NEW, "inserted")


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class _Each(Limit):
    """A bound for every one of some vertices."""

    text: str
    of: Of
    counted: Counted
    ends: Callable[[int], tuple[Fraction | None, Fraction | None]]
    told: Callable[[int], tuple[Fraction, Fraction]] = lambda _: (Fraction(0), Fraction(1))
    returned: bool = True

    def resolve(self, view: View) -> list[Restriction]:
        """A bound each."""
        names = view.chosen(self.of, self.text) if self.of is not None else view.sources()
        if self.of is None and not self.returned:
            names = view.inner(names)
        found: list[Restriction] = []
        for name in names:
            labels = view.labels.tensors[Port(name)].neurons["label"]
            if len(labels):
                before = view.size_before(name)
                low, high = self.ends(before)
                term = Term(Fraction(1), Volume(name, 1, (labels,)), self.counted)
                found.append(Bound(f"{self.text} (vertex {name!r})", (term,), low, high, told=self.told(before)))
        return found

    def stage(self, view: View, share: Fraction) -> list[Limit]:
        """Lower ends hold on the whole way, upper ends at the end; nothing new comes on the way to less."""
        found: list[Limit] = []
        for bound in self.resolve(view) if self.counted is not Counted.NEW else []:
            assert isinstance(bound, Bound), "it resolves to bounds"
            size = sizes[view.model[bound.terms[0].volume.vertex]]
            if bound.low is not None:
                found.append(size >= bound.low)
            if bound.high is not None and share == 1:
                found.append(size <= bound.high)
        return found

    def __str__(self) -> str:
        """As it is written."""
        return titled(self.text, self.of)


def minimum(size: int, of: Of = None) -> Limit:
    """Every one of these vertices has at least that many output neurons.

    Args:
        size: how many.
        of: which vertices: a handle, a pattern of names, or several of these; by default all that make neurons, but for
            what the network returns.
    """
    least = Fraction(_size(size, "minimum"))
    return _Each(f"minimum({size})", of, Counted.ALL, lambda _: (least, None), returned=False)


def maximum(size: int, of: Of = None) -> Limit:
    """Every one of these vertices has at most that many output neurons; `of` as for `minimum`."""
    most = Fraction(_size(size, "maximum"))
    return _Each(f"maximum({size})", of, Counted.ALL, lambda _: (None, most))


def fixed(of: Of) -> Limit:
    """Every one of these vertices keeps its size; which neurons it has is free. `of` as for `minimum`."""
    return _Each("fixed", of, Counted.ALL, lambda size: (Fraction(size), Fraction(size)))


def removed_at_most(fraction: float, of: Of = None) -> Limit:
    """Every one of these vertices keeps all of its neurons but for this fraction.

    Args:
        fraction: in [0, 1]; 0.3 of 16 neurons lets 4 of them go.
        of: as for `minimum`.
    """
    share = number(fraction, "removed_at_most")
    if not 0 <= share <= 1:
        raise RequestError(f"removed_at_most takes a fraction between 0 and 1, got {fraction!r}")
    return _Each(
        f"removed_at_most({fraction})",
        of,
        Counted.KEPT,
        lambda size: (size - size * share, None),
        lambda size: (Fraction(1), Fraction(-1, size)),
    )


def kept_whole(text: str) -> Limit:
    """Every vertex keeps all of its neurons, what the network returns as well; said in these words."""
    return _Each(text, None, Counted.KEPT, lambda size: (Fraction(size), None))


def inserted_at_most(count: int, of: Of = None) -> Limit:
    """Every one of these vertices gets at most that many new neurons; `of` as for `minimum`."""
    if not is_whole(count) or count < 0:
        raise RequestError(f"inserted_at_most takes a number of neurons from 0 on, got {count!r}")
    return _Each(f"inserted_at_most({count})", of, Counted.NEW, lambda _: (None, Fraction(int(count))))


def _size(value: object, title: str) -> int:
    if not is_whole(value) or not 1 <= value <= _MOST:
        raise RequestError(f"{title} takes a positive number of neurons, up to {_MOST:,}, got {value!r}")
    return int(value)


def equal(*handles: Handle | Iterable[Handle]) -> list[Limit]:
    """These vertices have equally many output neurons: `equal(a, b)`, `equal(net.find("*.conv1"))`."""
    if any(isinstance(one, str) for one in handles):
        raise RequestError(f"equal takes vertices, as in equal(*net.find('*.conv1')), got {handles!r}")
    vertices = [vertex for one in handles for vertex in (one if isinstance(one, Iterable) else [one])]
    if len(vertices) < 2:
        raise RequestError("equal takes at least two vertices")
    return [sizes[vertices[0]] == sizes[other] for other in vertices[1:]]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class _Multiple(Limit):
    """Sizes that are multiples."""

    step: int
    of: Of
    small: Literal["keep", "grow"]

    def resolve(self, view: View) -> list[Restriction]:
        """A lattice for every vertex that can change."""
        names = view.sources() if self.of is None else view.chosen(self.of, f"multiple_of({self.step})")
        names = view.inner(names) if self.of is None else names
        found: list[Restriction] = []
        for name in names:
            labels = view.labels.tensors[Port(name)].neurons["label"]
            if len(labels):
                before = view.size_before(name)
                also = frozenset({before} if self.small == "keep" and before < self.step else ())
                found.append(
                    Lattice(f"multiple_of({self.step}) (vertex {name!r})", labels, self.step, also, self.of is None)
                )
        return found

    def stage(self, view: View, share: Fraction) -> list[Limit]:  # noqa: ARG002 - the same all the way
        """It holds on the whole way."""
        return [self]

    def __str__(self) -> str:
        """As it is written."""
        return titled(f"multiple_of({self.step})", self.of)


def multiple_of(step: int, of: Of = None, *, small: Literal["keep", "grow"] = "keep") -> Limit:
    """Every one of these vertices has a multiple of so many output neurons, as hardware likes it.

    Args:
        step: 8, 16, ...
        of: as for `minimum`; by default all that make neurons and can change, but for what the network returns.
        small: a vertex that has fewer than `step` neurons may `"keep"` exactly as many, or has to `"grow"`.
    """
    if str(small) == "drop":
        raise RequestError(
            "a layer that is dropped whole leaves nothing for the next one to read; take narrow layers out first with "
            "solver_nas.remove(v), or let them 'keep' their size or 'grow'"
        )
    if small not in ("keep", "grow"):
        raise RequestError(f"small is 'keep' or 'grow', got {small!r}")
    return _Multiple(_size(step, "multiple_of"), of, small)
