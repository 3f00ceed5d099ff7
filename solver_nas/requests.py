"""What a caller may ask for: sizes to reach, exactly or as nearly as possible."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

from solver_nas.errors import RequestError
from solver_nas.graph import Port

if TYPE_CHECKING:
    from collections.abc import Sequence

    from solver_nas.graph import Graph
    from solver_nas.labels import Labels


#: Neurons of one tensor: a slip of the keyboard should not fill the memory.
LARGEST = 10_000_000


@dataclass(frozen=True, slots=True)
class Relaxed:
    """Size changes that are wanted as nearly as possible; made by `relaxed`."""

    deltas: tuple[int | None, ...]
    must_change: bool = False


def relaxed(*deltas: int | None, must_change: bool = False) -> Relaxed:
    """Ask for a size change that need not be met exactly.

    The nearest possible size is chosen; of two that are equally near, the one that changes at least as
    much as was asked for.

    Args:
        deltas: one number of neurons, or for `delta_nin` one per input slot (`None`: don't care).
        must_change: do not accept the present size as the nearest one.

    >>> relaxed(-2)
    Relaxed(deltas=(-2,), must_change=False)
    """
    if not deltas:
        raise RequestError("relaxed() needs a number of neurons, as in relaxed(-2)")
    for delta in deltas:
        if delta is not None:
            whole_number(delta, "relaxed")
    return Relaxed(tuple(deltas), must_change)


def is_whole(value: object) -> TypeGuard[int]:
    """Whether a value is an integer of Python or NumPy, and no truth value."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def is_row(value: object) -> TypeGuard[Iterable[Any]]:
    """Whether a value has members; a NumPy array without axes only looks so."""
    return isinstance(value, Iterable) and getattr(value, "ndim", 1) != 0


def is_fraction(value: object) -> bool:
    """Whether a value is a number of Python or NumPy in [0, 1)."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        return False
    return bool(0 <= value < 1)


def whole_number(value: object, where: str) -> int:
    """A size change, checked to be an integer."""
    if not is_whole(value):
        raise RequestError(f"{where}: a size change is a whole number of neurons, got {value!r}")
    return int(value)


@dataclass(frozen=True, slots=True)
class Target:
    """One size that is wanted.

    Args:
        port: the tensor whose neurons are counted.
        before: its present size.
        size: the wanted size.
        exact: whether nothing else will do; otherwise as near as possible.
        must_change: the present size will not do.
        text: the request in words.
    """

    port: Port
    before: int
    size: int
    exact: bool
    must_change: bool
    text: str

    def tightened(self) -> Target:
        """The same wish, and nothing else will do; unless it is only for some other size."""
        if self.must_change and self.size == self.before:
            return self
        return Target(self.port, self.before, self.size, True, self.must_change, self.text)

    def loosened(self) -> Target:
        """The same wish, but not at any price."""
        return Target(self.port, self.before, self.size, False, self.must_change, self.text)


Delta = int | Relaxed
DeltaIn = int | Relaxed | None | tuple[int | Relaxed | None, ...]


def output_targets(graph: Graph, labels: Labels, deltas: Sequence[tuple[str, Delta]]) -> tuple[Target, ...]:
    """Targets for the outputs of vertices.

    Raises:
        RequestError: a delta that is no integer, a size below one, a vertex that cannot change, or two
            requests for one vertex.
    """
    found = []
    for name, delta in deltas:
        if isinstance(delta, Relaxed) and len(delta.deltas) != 1:
            raise RequestError(f"vertex {name!r}: relaxed{delta.deltas} has several deltas, an output has one size")
        wish, exact, must = _unpack(delta, f"vertex {name!r}")
        if wish is not None:
            found.append(_target(labels, Port(name), wish, exact, must, f"nout({name})"))
    _reject_repeated([name for name, _ in deltas])
    _reject_unchangeable(graph, found)
    return tuple(found)


def input_targets(graph: Graph, labels: Labels, deltas: Sequence[tuple[str, DeltaIn]]) -> tuple[Target, ...]:
    """Targets for the inputs of vertices, slot by slot; `None` for a slot that may do as it likes."""
    found: dict[Port, Target] = {}
    _reject_repeated([name for name, _ in deltas])
    for name, wanted in deltas:
        ports = graph.vertex(name).inputs
        wishes = _per_slot(wanted)
        if len(wishes) != len(ports):
            raise RequestError(f"vertex {name!r} has {len(ports)} inputs, got {len(wishes)} deltas: {wanted!r}")
        for slot, (port, one) in enumerate(zip(ports, wishes, strict=True)):
            wish, exact, must = _unpack(one, f"input {slot} of vertex {name!r}")
            if wish is None:
                continue
            target = _target(labels, port, wish, exact, must, f"nin({name})[{slot}]")
            other = found.setdefault(port, target)
            if (other.size, other.exact) != (target.size, target.exact):
                raise RequestError(f"{other.text} and {target.text} are the same tensor and ask for different sizes")
    _reject_unchangeable(graph, list(found.values()))
    return tuple(found.values())


def _per_slot(wanted: DeltaIn) -> tuple[int | Relaxed | None, ...]:
    if isinstance(wanted, Relaxed):
        return tuple(None if d is None else Relaxed((d,), wanted.must_change) for d in wanted.deltas)
    return tuple(wanted) if isinstance(wanted, tuple | list) else (wanted,)


def _unpack(delta: int | Relaxed | None, where: str) -> tuple[int | None, bool, bool]:
    if delta is None:
        return None, True, False
    if isinstance(delta, Relaxed):
        return delta.deltas[0], False, delta.must_change
    return whole_number(delta, where), True, False


def _target(labels: Labels, port: Port, delta: int, exact: bool, must: bool, text: str) -> Target:  # noqa: FBT001 - private
    before = len(labels.tensors[port].neurons)
    if before + delta > LARGEST:
        raise RequestError(f"{text} is {before}; a change by {delta:+d} is more than {LARGEST:,} neurons")
    if not exact:
        delta = max(delta, 1 - before)
    if not before:
        raise RequestError(f"{text} is 0: it has no neurons that could change")
    if before + delta < 1:
        raise RequestError(
            f"{text} is {before}; a change by {delta:+d} leaves {before + delta}, at least 1 has to stay"
        )
    return Target(port, before, before + delta, exact, must, f"{text}: {before} -> {before + delta}")


def _reject_repeated(names: Sequence[str]) -> None:
    repeated = sorted({name for name in names if list(names).count(name) > 1})
    if repeated:
        raise RequestError(f"two requests for one vertex: {', '.join(map(repr, repeated))}; give each vertex once")


def _reject_unchangeable(graph: Graph, targets: Sequence[Target]) -> None:
    for target in targets:
        kind = graph.vertex(target.port.vertex).kind
        if kind in ("input", "immutable") and target.size != target.before:
            raise RequestError(
                f"{target.text}: vertex {target.port.vertex!r} is an {kind} vertex, its size never changes; "
                f"change what reads it instead"
            )
