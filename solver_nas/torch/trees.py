"""How a whole number was computed, from attributes of modules and sizes of tensors."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence


class Attribute(NamedTuple):
    """A whole number that an object of the user's holds.

    Args:
        module: the path of the module.
        path: attributes and positions from there on: `("num_heads",)`, `("normalized_shape", 0)`,
            `("config", "hidden_size")`.
    """

    module: str
    path: tuple[str | int, ...]

    def __str__(self) -> str:
        """As it is written in code."""
        places = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in self.path)
        return f"{self.module}{places}".lstrip(".")


class Axis(NamedTuple):
    """The size of one axis of a tensor.

    Args:
        tensor: which one; numbers are given by whoever watches.
        axis: from 0 on.
    """

    tensor: int
    axis: int


Source = Attribute | Axis


@dataclass(frozen=True, slots=True)
class Term:
    """A number computed from two others.

    Args:
        sign: `+`, `-`, `*`, `//` or `%`.
        left: the first one.
        right: the second one.
    """

    sign: str
    left: Tree
    right: Tree


#: How a number was computed.
Tree = Attribute | Axis | Term | int

#: What the signs of terms stand for.
SIGNS: dict[str, Callable[[int, int], int]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "//": operator.floordiv,
    "%": operator.mod,
}


def sources(tree: Tree) -> Iterator[Source]:
    """What a number was computed from."""
    if isinstance(tree, Term):
        yield from sources(tree.left)
        yield from sources(tree.right)
    elif not isinstance(tree, int):
        yield tree


def evaluate(tree: Tree, known: Mapping[Source, int]) -> int:
    """The number for other values of its sources.

    Raises:
        KeyError: one of them is not known.
        ZeroDivisionError: it would be divided by zero.
    """
    if isinstance(tree, Term):
        return SIGNS[tree.sign](evaluate(tree.left, known), evaluate(tree.right, known))
    return tree if isinstance(tree, int) else known[tree]


class Product(NamedTuple):
    """A number as `factor * prod(over) / prod(under)`."""

    factor: Fraction
    over: tuple[Source, ...]
    under: tuple[Source, ...]


_MOST_SUMMANDS = 16  # a number that is the sum of more is none that sizes are made of


def summands(tree: Tree) -> tuple[Product, ...] | None:
    """A number as a sum of products of powers of its sources; `None` for remainders, and for quotients of sums.

    Divisions of products count as exact: `c // 2` is half of `c`. Where that stops being true, the number has to be
    computed. Sums are mostly divided to be rounded: `(size + 1) // 2`.
    """
    if not isinstance(tree, Term):
        return (Product(Fraction(tree), (), ()) if isinstance(tree, int) else Product(Fraction(1), (tree,), ()),)
    left, right = summands(tree.left), summands(tree.right)
    if left is None or right is None:
        return None
    match tree.sign:
        case "+":
            return _merged([*left, *right])
        case "-":
            return _merged([*left, *(one._replace(factor=-one.factor) for one in right)])
        case "*":
            return _merged([_shortened(one, other) for one in left for other in right])
        case "//" if len(left) == len(right) == 1 and right[0].factor:
            (other,) = right
            return (_shortened(left[0], Product(1 / other.factor, other.under, other.over)),)
    return None


def _merged(products: Sequence[Product]) -> tuple[Product, ...] | None:
    factors: dict[tuple[tuple[Source, ...], tuple[Source, ...]], Fraction] = {}
    for one in products:
        factors[one.over, one.under] = factors.get((one.over, one.under), Fraction(0)) + one.factor
    found = tuple(Product(factor, *powers) for powers, factor in factors.items() if factor)
    return None if len(found) > _MOST_SUMMANDS else found or (Product(Fraction(0), (), ()),)


def _shortened(one: Product, other: Product) -> Product:
    over, under = [*one.over, *other.over], [*one.under, *other.under]
    for source in list(under):
        if source in over:
            over.remove(source)
            under.remove(source)
    return Product(one.factor * other.factor, tuple(sorted(over, key=repr)), tuple(sorted(under, key=repr)))
