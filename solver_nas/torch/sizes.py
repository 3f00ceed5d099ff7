"""Whole numbers that know what they were computed from, and what code has done with them."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, NamedTuple, cast

from solver_nas.torch.trees import SIGNS, Term, evaluate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from solver_nas.torch.trees import Source, Tree


class Comparison(NamedTuple):
    """A comparison of two numbers in the code."""

    sign: str
    left: Tree
    right: Tree

    def holds(self, known: Mapping[Source, int]) -> bool:
        """Whether it is true for these values of the sources.

        Raises:
            KeyError: one of them is not known.
            ZeroDivisionError: it would be divided by zero.
        """
        return _COMPARED[self.sign](evaluate(self.left, known), evaluate(self.right, known))


_COMPARED: dict[str, Callable[[int, int], bool]] = {
    "==": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class Claims:
    """What code has done with numbers beside handing them to operations.

    Attributes:
        equal: pairs that it has compared, and that were equal.
        left: numbers that it has made something else of than whole numbers (a root, a quotient), and what they were.
        compared: what it has compared, and how that came out.
    """

    def __init__(self) -> None:
        """Nothing yet."""
        self.equal: list[tuple[Tree, Tree]] = []
        self.left: dict[Tree, int] = {}
        self.compared: dict[Comparison, bool] = {}


class Size(int):
    """A whole number that remembers how it was computed, through `+ - * // %`.

    What leaves whole numbers (a division, a root) forgets it.
    """

    tree: Tree
    claims: Claims

    def __new__(cls, value: int, tree: Tree, claims: Claims) -> Size:
        """A number with its origin."""
        made = super().__new__(cls, value)
        made.tree, made.claims = tree, claims
        return made

    def __reduce__(self) -> tuple[type[int], tuple[int]]:
        """Copies are plain numbers."""
        return int, (plain(self),)

    def __deepcopy__(self, memo: dict[int, object]) -> int:
        """Copies are plain numbers."""
        return plain(self)

    def __copy__(self) -> int:
        """Copies are plain numbers."""
        return plain(self)

    def __eq__(self, other: object) -> bool:
        """Compare, and note that two numbers with an origin are equal."""
        same = int.__eq__(self, cast("int", other))
        if same is True and isinstance(other, Size) and other.tree != self.tree:
            self.claims.equal.append((self.tree, other.tree))
        self._note("==", other, same)
        return same

    def __ne__(self, other: object) -> bool:
        """The opposite of `==`, and noted likewise."""
        same = self.__eq__(other)
        return same if same is NotImplemented else not same

    __hash__ = int.__hash__

    def __lt__(self, other: object) -> bool:
        """Compare, and note how it comes out."""
        return self._note("<", other, int.__lt__(self, cast("int", other)))

    def __le__(self, other: object) -> bool:
        """Compare, and note how it comes out."""
        return self._note("<=", other, int.__le__(self, cast("int", other)))

    def __gt__(self, other: object) -> bool:
        """Compare, and note how it comes out."""
        return self._note(">", other, int.__gt__(self, cast("int", other)))

    def __ge__(self, other: object) -> bool:
        """Compare, and note how it comes out."""
        return self._note(">=", other, int.__ge__(self, cast("int", other)))

    def _note(self, sign: str, other: object, found: bool) -> bool:  # noqa: FBT001 - what came out
        if found is not NotImplemented and type(other) in (int, Size):
            right = other.tree if isinstance(other, Size) else cast("int", other)
            if right != self.tree:
                self.claims.compared[Comparison(sign, self.tree, right)] = found
        return found

    def __int__(self) -> int:
        """The plain number, which forgets where it is from; that it was made is noted."""
        self.claims.left[self.tree] = plain(self)
        return plain(self)

    def __rshift__(self, other: int) -> int:
        """Bits of the number, noted likewise."""
        return int(self) >> other

    def __lshift__(self, other: int) -> int:
        """Bits of the number, noted likewise."""
        return int(self) << other

    def __and__(self, other: int) -> int:
        """Bits of the number, noted likewise."""
        return int(self) & other

    def __or__(self, other: int) -> int:
        """Bits of the number, noted likewise."""
        return int(self) | other

    def __xor__(self, other: int) -> int:
        """Bits of the number, noted likewise."""
        return int(self) ^ other

    __rand__, __ror__, __rxor__ = __and__, __or__, __xor__

    def __rrshift__(self, other: int) -> int:
        """Bits of another number, noted likewise."""
        return other >> int(self)

    def __rlshift__(self, other: int) -> int:
        """Bits of another number, noted likewise."""
        return other << int(self)

    def bit_length(self) -> int:
        """How many bits the number has, noted likewise."""
        return int(self).bit_length()

    def __array_ufunc__(self, ufunc: Callable[..., Any], method: str, *inputs: Any, **options: Any) -> Any:
        """What NumPy makes of the number, noted likewise."""
        found = [int(one) if isinstance(one, Size) else one for one in inputs]
        return getattr(ufunc, method)(*found, **options)

    def __pos__(self) -> Size:
        """The number itself."""
        return self

    def __abs__(self) -> Size:
        """The number itself, or with the other sign."""
        return -self if plain(self) < 0 else self

    def __round__(self, digits: Any = None) -> Any:
        """The number itself; rounded to tens and the like, it is noted."""
        return self if digits is None else round(int(self), digits)

    def __neg__(self) -> Size:
        """The number with the other sign."""
        made: Size = self * -1
        return made

    def __float__(self) -> float:
        """The number as a float, which forgets where it is from; that it was made is noted."""
        return float(int(self))

    def __truediv__(self, other: object) -> Any:
        """A quotient, noted likewise."""
        return self._without(int.__truediv__(self, cast("int", other)))

    def __rtruediv__(self, other: object) -> Any:
        """A quotient, noted likewise."""
        if isinstance(other, float):
            return other / float(self)
        return self._without(int.__rtruediv__(self, cast("int", other)))

    def __pow__(self, other: object, modulo: object = None) -> Any:
        """A power, noted likewise."""
        if isinstance(other, float):
            return float(self) ** other
        return self._without(pow(plain(self), cast("int", other), cast("int", modulo)))

    def __rpow__(self, other: object, modulo: object = None) -> Any:
        """A power of another number, noted likewise."""
        return pow(cast("int", other), int(self), cast("int", modulo))

    def _without(self, result: Any) -> Any:
        if result is not NotImplemented:
            self.claims.left[self.tree] = plain(self)
        return result

    def _with(self, sign: str, other: object, *, swapped: bool = False) -> Any:
        if isinstance(other, float):
            one, two = (other, float(self)) if swapped else (float(self), other)
            return _FLOATS[sign](one, two)
        if type(other) is bool or not isinstance(other, int):
            return getattr(int, _METHODS[sign][int(swapped)])(self, other)
        tree: Tree = other.tree if isinstance(other, Size) else other
        left, right = (tree, self.tree) if swapped else (self.tree, tree)
        first, second = (plain(other), plain(self)) if swapped else (plain(self), plain(other))
        return Size(SIGNS[sign](first, second), Term(sign, left, right), self.claims)

    def __add__(self, other: object) -> Any:
        """A sum."""
        return self._with("+", other)

    def __radd__(self, other: object) -> Any:
        """A sum."""
        return self._with("+", other, swapped=True)

    def __sub__(self, other: object) -> Any:
        """A difference."""
        return self._with("-", other)

    def __rsub__(self, other: object) -> Any:
        """A difference."""
        return self._with("-", other, swapped=True)

    def __mul__(self, other: object) -> Any:
        """A product."""
        return self._with("*", other)

    def __rmul__(self, other: object) -> Any:
        """A product."""
        return self._with("*", other, swapped=True)

    def __floordiv__(self, other: object) -> Any:
        """A quotient without its remainder."""
        return self._with("//", other)

    def __rfloordiv__(self, other: object) -> Any:
        """A quotient without its remainder."""
        return self._with("//", other, swapped=True)

    def __mod__(self, other: object) -> Any:
        """A remainder."""
        return self._with("%", other)

    def __rmod__(self, other: object) -> Any:
        """A remainder."""
        return self._with("%", other, swapped=True)

    def __divmod__(self, other: object) -> Any:
        """Quotient and remainder."""
        return self // other, self % other

    def __rdivmod__(self, other: object) -> Any:
        """Quotient and remainder."""
        return other // self, other % self

    def __index__(self) -> int:
        """The plain number."""
        return plain(self)


_FLOATS: dict[str, Callable[[float, float], float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "//": operator.floordiv,
    "%": operator.mod,
}
_METHODS = {
    "+": ("__add__", "__radd__"),
    "-": ("__sub__", "__rsub__"),
    "*": ("__mul__", "__rmul__"),
    "//": ("__floordiv__", "__rfloordiv__"),
    "%": ("__mod__", "__rmod__"),
}


def plain(value: int) -> int:
    """A number without its origin."""
    return int.__int__(value)
