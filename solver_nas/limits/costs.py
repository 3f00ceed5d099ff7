"""What networks cost, as expressions: parameters, multiplications, memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from solver_nas.bounds import Bound, Term, amount
from solver_nas.costs import alive, parameters, shaped
from solver_nas.errors import GraphError, RequestError
from solver_nas.frontend import Model, untraced
from solver_nas.labels import Volume
from solver_nas.limits.expression import Cost, Expression, Now, halfway, number, shown
from solver_nas.limits.view import Limit, Of, View, titled

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

    from solver_nas.bounds import Restriction
    from solver_nas.costs import Shapes


def params(model: Model, of: Of = None) -> Expression:
    """The number of parameters: entries of all arrays that are learned; a shared array counts once.

    Args:
        model: the network.
        of: only those of these vertices; as for `minimum`.

    >>> from solver_nas import Network, nn
    >>> net = Network()
    >>> hidden = nn.dense(net.input("in", 2), 32, name="hidden")
    >>> net.output(nn.dense(hidden, 1, name="out"))
    >>> params(net).value
    129
    """
    title = "params"

    def find(view: View) -> Iterable[Term]:
        names = set(view.chosen(of, title))
        for _, owners, volume in parameters(view.graph, view.labels):
            if not names.isdisjoint(owners):
                yield Term(Fraction(1), volume)

    return Expression([(Fraction(1), Cost(_model(model, title), titled(title, of), find))])


def macs(model: Model, shapes: Shapes | Sequence[int] | None = None, of: Of = None) -> Expression:
    """How often convolutions, dense layers, recurrences and attention multiply and add, for one sample.

    Norms, activations, biases, pooling and element-wise operations do not count, as is usual. A user-made layer is
    taken to apply each of its arrays once at every position. For a PyTorch module it is one call with its example
    inputs, whatever their batch.

    Args:
        model: the network.
        shapes: of one sample, where the network has sizes that are not known: the shape of its only input, or
            input name -> shape.
        of: only those of these vertices; as for `minimum`.

    Raises:
        RequestError: a size that is needed is not known.
    """
    title = "macs"

    def find(view: View) -> Iterable[Term]:
        names, labels = set(view.chosen(of, title)), shaped(view.graph, view.labels, shapes)
        for volume in labels.works:
            if volume.vertex in names:
                yield Term(Fraction(1), _known(volume, title))

    return Expression([(Fraction(1), Cost(_model(model, title), titled(title, of), find))])


def flops(model: Model, shapes: Shapes | Sequence[int] | None = None, of: Of = None) -> Expression:
    """Floating-point operations for one sample: two for every multiplication and addition; see `macs`."""
    return 2 * macs(model, shapes, of)


def weight_memory(model: Model, of: Of = None, *, dtype: DTypeLike | None = None) -> Expression:
    """Bytes of all arrays, running statistics included.

    Args:
        model: the network.
        of: only those of these vertices; as for `minimum`.
        dtype: in which the arrays are going to be stored; by default, each as it is now.
    """
    title, width = "weight_memory", None if dtype is None else _width(dtype)

    def find(view: View) -> Iterable[Term]:
        names, held = set(view.chosen(of, title)), view.model.arrays
        for key, owners, volume in parameters(view.graph, view.labels, buffers=True):
            if not names.isdisjoint(owners):
                mine = held[key].dtype.itemsize if key in held else next(iter(held.values())).dtype.itemsize
                yield Term(Fraction(mine if width is None else width), volume)

    return Expression([(Fraction(1), Cost(_model(model, title), titled(title, of), find))])


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class _Peak(Limit):
    """What is in memory at once, at every moment."""

    peak: Peak
    end: Fraction | Now

    @property
    def subject(self) -> Peak:
        """What it limits."""
        return self.peak

    def resolve(self, view: View) -> list[Restriction]:
        """A bound for every moment that no other one contains."""
        end, text = self.end, str(self)
        if isinstance(end, Now):
            end = end.factor * self.peak.at(view.past) + end.offset
            text = f"{text} (= {shown(end)})"
        return [
            Bound(f"{text} (when {name!r} is computed)", terms, None, end, family=text)
            for name, terms in self.peak.moments(view)
        ]

    def stage(self, view: View, share: Fraction) -> list[Limit]:
        """It comes nearer by equal factors."""
        value = self.peak.at(view.past)
        end = value * self.end.factor + self.end.offset if isinstance(self.end, Now) else self.end
        return [_Peak(self.peak, halfway(value, end, share))]

    def __str__(self) -> str:
        """As it is written."""
        return f"activation_memory <= {self.end if isinstance(self.end, Now) else shown(self.end)}"


@dataclass(frozen=True, slots=True, eq=False)
class Peak:
    """The most memory that activations need at once, in bytes; `activation_memory` makes it."""

    model: Model
    shapes: Shapes | Sequence[int] | None
    width: int

    def moments(self, view: View) -> list[tuple[str, tuple[Term, ...]]]:
        """What is in memory while a vertex is computed, without the moments that another one contains."""
        if self.model is not view.model:
            raise GraphError("activation_memory is a cost of another network than the one that changes")
        labels = shaped(view.graph, view.labels, self.shapes)
        found = [(name, volumes) for name, volumes in alive(view.graph, labels)]
        held = [{volume.vertex for volume in volumes} for _, volumes in found]
        widest = [
            place
            for place, mine in enumerate(held)
            if not any(mine < other or (mine == other and where < place) for where, other in enumerate(held))
        ]
        return [
            (
                found[place][0],
                tuple(Term(Fraction(self.width), _known(v, "activation_memory")) for v in found[place][1]),
            )
            for place in widest
        ]

    def at(self, view: View) -> Fraction:
        """The largest amount at the present sizes."""
        amounts = [
            sum((t.factor * amount(t.volume) for t in terms), start=Fraction(0)) for _, terms in self.moments(view)
        ]
        return max(amounts, default=Fraction(0))

    def bounds(self, view: View) -> list[Bound]:
        """Every moment as a bound without ends, for adding up."""
        return [Bound(name, terms, None, None) for name, terms in self.moments(view)]

    @property
    def value(self) -> int:
        """What it comes to at the present sizes."""
        return self.value_at(View.of(self.model))

    def value_at(self, view: View) -> int:
        """What it comes to at the sizes of a network."""
        return int(self.at(view))

    def __le__(self, other: object) -> Limit:
        """It may not be more."""
        return _Peak(self, other if isinstance(other, Now) else number(other, "activation_memory"))

    def _refused(self, other: object) -> Limit:
        """A peak can only be kept below something."""
        raise RequestError(f"the limit of a peak is written activation_memory(net) <= ..., got {other!r}")

    __lt__ = __gt__ = __ge__ = _refused
    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        """Not offered."""
        self._refused(other)
        return False

    def __repr__(self) -> str:
        """Its name."""
        return "activation_memory"


def activation_memory(
    model: Model, shapes: Shapes | Sequence[int] | None = None, *, dtype: DTypeLike | None = None
) -> Peak:
    """The most bytes that inputs and outputs of layers need at once, for one sample.

    Vertices are computed in their topological order; an output is given up behind its last reader. Inputs and what
    the network returns stay. Nothing is computed in place.

    Args:
        model: the network.
        shapes: as for `macs`.
        dtype: of the activations; by default that of the network's arrays.

    Returns:
        A value to be compared: `activation_memory(net) <= 0.5 * now`.
    """
    held = next(iter(_model(model, "activation_memory").arrays.values()), np.zeros(0))
    return Peak(model, shapes, held.dtype.itemsize if dtype is None else _width(dtype))


def _width(dtype: DTypeLike) -> int:
    try:
        return np.dtype(dtype).itemsize
    except TypeError as error:
        raise RequestError(f"expected a dtype such as 'float32', got {dtype!r}") from error


def _model(model: object, title: str) -> Model:
    if not isinstance(model, Model):
        raise RequestError(f"{title} takes a network, got {untraced(model)}")
    return model


def _known(volume: Volume, title: str) -> Volume:
    if volume.times is None:
        raise RequestError(
            f"{title}: vertex {volume.vertex!r} has a size that is not known; give the shapes of the inputs, "
            f"as in {title}(net, (3, 224, 224)), or for a model that was opened, its input_shapes (--input-shape)"
        )
    return volume
