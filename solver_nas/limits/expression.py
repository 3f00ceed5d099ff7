"""Weighted sums of sizes and costs, to be compared with numbers and with what there is at present."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Literal

import numpy as np

from solver_nas.bounds import Bound, Counted, Curve, Term, present
from solver_nas.errors import GraphError, RequestError
from solver_nas.frontend import Handle, Model, owner
from solver_nas.labels import Volume
from solver_nas.limits.view import Limit, View

if TYPE_CHECKING:
    from solver_nas.bounds import Restriction


_MANY = 100_000  # from here on, digits behind the point say little


class Now:
    """A multiple of what there is at present; use `now`."""

    def __init__(self, factor: Fraction = Fraction(1), offset: Fraction = Fraction(0)) -> None:
        """Take the multiple, and what is added to it."""
        self.factor, self.offset = factor, offset

    def __mul__(self, factor: float | Fraction) -> Now:
        """A multiple of it."""
        return Now(self.factor * number(factor, "now"), self.offset * number(factor, "now"))

    __rmul__ = __mul__

    def __truediv__(self, divisor: float | Fraction) -> Now:
        """A part of it."""
        return self * (1 / divisible(divisor, "now"))

    def __add__(self, offset: float | Fraction) -> Now:
        """More than that."""
        return Now(self.factor, self.offset + number(offset, "now"))

    __radd__ = __add__

    def __sub__(self, offset: float | Fraction) -> Now:
        """Less than that."""
        return self + -number(offset, "now")

    def __repr__(self) -> str:
        """As it is written."""
        factor = "now" if self.factor == 1 else f"{shown(self.factor)} * now"
        if not self.offset:
            return factor
        return f"{factor} {'-' if self.offset < 0 else '+'} {shown(abs(self.offset))}"


#: What there is before the change: `params(net) <= 0.5 * now`, `sizes[v] >= now - 8`.
now = Now()


def number(value: object, where: str) -> Fraction:
    """A number, taken as the decimal that it is written as."""
    if isinstance(value, Fraction):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise RequestError(f"{where}: expected a number, got {value!r}")
    if not math.isfinite(value):
        raise RequestError(f"{where}: expected a finite number, got {value}")
    return Fraction(int(value)) if isinstance(value, int | np.integer) else Fraction(repr(float(value)))


def divisible(value: object, where: str) -> Fraction:
    """A number to divide by."""
    divisor = number(value, where)
    if not divisor:
        raise RequestError(f"{where} cannot be divided by 0")
    return divisor


def shown(value: Fraction) -> str:
    """A number in words."""
    if value.denominator == 1:
        return f"{value.numerator:,}"
    return f"{float(value):,.1f}" if abs(value) >= _MANY else f"{float(value):,.6g}"


class Atom(ABC):
    """Something of which there is an amount."""

    @abstractmethod
    def measure(self, view: View) -> tuple[tuple[Term, ...], tuple[Curve, ...]]:
        """The amount as products of sizes and measured costs."""


@dataclass(frozen=True, slots=True, eq=False)
class Axis(Atom):
    """The neurons of a vertex."""

    handle: Handle
    counted: Counted
    title: str

    def measure(self, view: View) -> tuple[tuple[Term, ...], tuple[Curve, ...]]:
        """The size of the output."""
        volume = Volume(self.handle.name, 1, (view.labels_of(self.handle),))
        return (Term(Fraction(1), volume, self.counted),), ()

    def __str__(self) -> str:
        """As it is written."""
        return f"{self.title}[{self.handle.name}]"


@dataclass(frozen=True, slots=True, eq=False)
class Cost(Atom):
    """What a network, or a part of it, costs."""

    model: Model
    title: str
    find: Callable[[View], Iterable[Term]]

    def measure(self, view: View) -> tuple[tuple[Term, ...], tuple[Curve, ...]]:
        """The cost as products of sizes."""
        if self.model is not view.model:
            raise GraphError(f"{self.title} is a cost of another network than the one that changes")
        return tuple(self.find(view)), ()

    def __str__(self) -> str:
        """As it is written."""
        return self.title


class Expression:
    """A weighted sum of sizes and costs; compare it with a number, a part of `now`, or another one."""

    __slots__ = ("_constant", "_terms")

    def __init__(self, terms: Sequence[tuple[Fraction, Atom]], constant: Fraction = Fraction(0)) -> None:
        """Take factors and what they multiply."""
        self._terms, self._constant = tuple(terms), constant

    @property
    def costs(self) -> bool:
        """Whether it speaks of more than the sizes of single vertices."""
        return any(not isinstance(atom, Axis) for _, atom in self._terms)

    @property
    def model(self) -> Model:
        """The model that it speaks of."""
        for _, atom in self._terms:
            if isinstance(atom, Axis):
                return owner(atom.handle)
            model = getattr(atom, "model", None)
            if isinstance(model, Model):
                return model
        raise RequestError("an expression without vertices")

    @property
    def counts(self) -> bool:
        """Whether it can only be a whole number: what one network costs, as far as that is counted."""
        return all(isinstance(atom, Cost) and factor.denominator == 1 for factor, atom in self._terms)

    @property
    def value(self) -> float:
        """What it comes to at the present sizes; a whole number where it counts."""
        return self.value_at(View.of(self.model).past)

    def value_at(self, view: View) -> float:
        """What it comes to at the sizes of a network."""
        counted, measured = self.at(view)
        total = counted + self._constant
        return int(total) if total.denominator == 1 and not measured else float(total) + measured

    def bounds(self, view: View) -> list[Bound]:
        """The expression as a bound without ends, for adding up; its constant is a term."""
        constant = Term(self._constant, Volume("", 1, ()))
        bound = self._bound(view, "", None, None)
        return [replace(bound, terms=(*bound.terms, constant))]

    def at(self, view: View) -> tuple[Fraction, float]:
        """What its counted and its measured terms come to, without the constant."""
        return present(self._bound(view, "", None, None))

    def _bound(self, view: View, text: str, low: Fraction | None, high: Fraction | None) -> Bound:
        terms, curves = [], []
        for factor, atom in self._terms:
            found, measured = atom.measure(view)
            terms += [term._replace(factor=term.factor * factor) for term in found]
            curves += [_scaled(curve, factor) for curve in measured]
        return Bound(text, tuple(terms), low, high, tuple(curves))

    def __add__(self, other: Expression | float) -> Expression:
        """A sum with another expression or a number."""
        if isinstance(other, Expression):
            return Expression((*self._terms, *other._terms), self._constant + other._constant)
        return Expression(self._terms, self._constant + number(other, str(self)))

    __radd__ = __add__

    def __mul__(self, factor: float | Fraction | Expression) -> Expression:
        """A multiple."""
        if isinstance(factor, Expression):
            raise RequestError("expressions are sums of sizes and costs; they cannot be multiplied with each other")
        by = number(factor, str(self))
        return Expression([(one * by, atom) for one, atom in self._terms], self._constant * by)

    __rmul__ = __mul__

    def __truediv__(self, divisor: float | Fraction) -> Expression:
        """A part."""
        return self * (1 / divisible(divisor, str(self)))

    def __neg__(self) -> Expression:
        """The negative."""
        return self * -1

    def __sub__(self, other: Expression | float) -> Expression:
        """A difference."""
        return self + -1 * other

    def __rsub__(self, other: Expression | float) -> Expression:
        """A difference."""
        return -self + other

    def __le__(self, other: object) -> Limit:
        """It may not be more."""
        return _compare(self, "<=", other)

    def __ge__(self, other: object) -> Limit:
        """It may not be less."""
        return _compare(self, ">=", other)

    def __eq__(self, other: object) -> Limit:  # type: ignore[override]  # a limit, as in modelling languages
        """It has to be exactly that."""
        return _compare(self, "==", other)

    def __ne__(self, other: object) -> bool:
        """Not offered: a limit that rules out a single amount."""
        raise RequestError(f"limits are written with <=, >= or ==, got {self} != {other}")

    def __lt__(self, other: object) -> Limit:
        """Not offered, since sizes are whole numbers and costs need not be."""
        raise RequestError(f"limits are written with <=, >= or ==, got {self} < {other}")

    def __gt__(self, other: object) -> Limit:
        """Not offered either."""
        raise RequestError(f"limits are written with <=, >= or ==, got {self} > {other}")

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        """As it is written."""
        terms = [(factor, f"{atom}") for factor, atom in self._terms]
        said = [(factor < 0, atom if abs(factor) == 1 else f"{shown(abs(factor))} * {atom}") for factor, atom in terms]
        said += [(self._constant < 0, shown(abs(self._constant)))] if self._constant else []
        first, *rest = said
        return "".join(["-" * first[0] + first[1], *(f" {'-' if minus else '+'} {part}" for minus, part in rest)])


def halfway(value: Fraction, end: Fraction, share: Fraction) -> Fraction:
    """What an amount may be when a share of the way to its upper end is gone, step by step by the same factor."""
    if share == 1 or value <= end:
        return end
    if end <= 0:
        return value + (end - value) * share
    return end * Fraction(float(value / end) ** float(1 - share))


def _scaled(curve: Curve, factor: Fraction) -> Curve:
    if factor == 1:
        return curve
    by, function = float(factor), curve.function
    return curve._replace(function=lambda *sizes: by * function(*sizes))


def _compare(left: Expression, sign: Literal["<=", ">=", "=="], right: object) -> Comparison:
    if isinstance(right, Expression):
        return Comparison(left - right, sign, Fraction(0), f"{left} {sign} {right}")
    if isinstance(right, Now):
        return Comparison(left, sign, right, f"{left} {sign} {right}")
    end = number(right, f"{left} {sign} {right}")
    if 0 < end < 1 and not isinstance(right, Fraction) and left.counts:
        raise RequestError(f"{left} {sign} {right}: for a fraction of what there is now, write {right} * now")
    return Comparison(left, sign, end, f"{left} {sign} {shown(end)}")


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Comparison(Limit):
    """An expression that stays on one side of a number."""

    expression: Expression
    sign: Literal["<=", ">=", "=="]
    end: Fraction | Now
    text: str

    @property
    def subject(self) -> Expression | None:
        """What is compared, if it costs something."""
        return self.expression if self.expression.costs else None

    def resolve(self, view: View) -> list[Restriction]:
        """One bound."""
        end, text = self.end, self.text
        if isinstance(end, Now):
            counted, measured = self.expression.at(view.past)
            value = counted + Fraction(measured) + self.expression._constant  # noqa: SLF001 - one concept in two classes
            end = value * end.factor + end.offset
            text = f"{text} (= {shown(end)})"
        low, high = (None if self.sign == "<=" else end), (None if self.sign == ">=" else end)
        constant = self.expression._constant  # noqa: SLF001 - one concept in two classes
        ends = [None if one is None else one - constant for one in (low, high)]
        bound = self.expression._bound(view, text, *ends)  # noqa: SLF001 - likewise
        return [replace(bound, told=(constant, Fraction(1)))]

    def stage(self, view: View, share: Fraction) -> list[Limit]:
        """An upper end comes nearer by equal factors; what has to be exact, has to at the end."""
        counted, measured = self.expression.at(view.past)
        value = counted + Fraction(measured) + self.expression._constant  # noqa: SLF001 - one concept in two classes
        end = value * self.end.factor + self.end.offset if isinstance(self.end, Now) else self.end
        if self.sign == "==" and share < 1:
            return []
        if self.sign == "<=":
            end = halfway(value, end, share)
        text = f"{self.text} (= {shown(end)})" if share == 1 else f"{shown(end)} on the way to {self.text}"
        return [replace(self, end=end, text=text)]

    def __str__(self) -> str:
        """As it is written."""
        return self.text
