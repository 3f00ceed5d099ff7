"""Values of a JSON document that know where they stand, so that every complaint can say it."""

from __future__ import annotations

import json
import reprlib
from typing import TYPE_CHECKING, NamedTuple, TypeGuard

from solver_nas.errors import StoreError
from solver_nas.utility import LARGEST

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

#: The largest whole number that means anything here; costs may be larger.
MOST = 10**9

_LONG = 40  # characters; of longer texts, only the ends are shown


class Place(NamedTuple):
    """A value, the file it is from, and its path there, such as `groups[3].size`."""

    file: str
    path: str
    value: object

    def wrong(self, expected: str, found: str = "") -> StoreError:
        """The complaint about it."""
        where = f"{self.file}: {self.path}" if self.path else self.file
        return StoreError(f"{where}: found {found or _shown(self.value)}; expected {expected}")

    def at(self, key: str) -> Place:
        """A member of an object; it has to be there."""
        found = self.get(key)
        if found is None:
            raise self.wrong(f"a key {key!r}", f"an object with keys {_shown(sorted(self._object()))}")
        return found

    def get(self, key: str) -> Place | None:
        """A member of an object, if it is there."""
        mapping = self._object()
        return self._inner(f".{key}", mapping[key]) if key in mapping else None

    def members(self) -> Iterator[Place]:
        """All members of an object."""
        return (self._inner(f"[{_shown(key)}]", value) for key, value in self._object().items())

    def entries(self, what: str) -> Sequence[Place]:
        """All entries of an array."""
        if not isinstance(self.value, list):
            raise self.wrong(f"an array of {what}")
        return [self._inner(f"[{number}]", value) for number, value in enumerate(self.value)]

    def whole(self, least: int, most: int = MOST) -> int:
        """A whole number between two others."""
        if not isinstance(self.value, int) or isinstance(self.value, bool) or not least <= self.value <= most:
            raise self.wrong(f"a whole number from {least:,} to {most:,}")
        return self.value

    def number(self) -> float:
        """A finite number."""
        if not _is_number(self.value):
            raise self.wrong(f"a finite number, up to {LARGEST:g}")
        return self.value

    def switch(self) -> bool:
        """A truth value."""
        if not isinstance(self.value, bool):
            raise self.wrong("true or false")
        return self.value

    def text(self) -> str:
        """A text."""
        if not isinstance(self.value, str):
            raise self.wrong("a text")
        return self.value

    def numbers(self) -> list[float]:
        """An array of finite numbers."""
        if not isinstance(self.value, list):
            raise self.wrong("an array of numbers")
        # A place for every number would be slow: there can be millions.
        bad = next((number for number, value in enumerate(self.value) if not _is_number(value)), None)
        if bad is not None:
            self._inner(f"[{bad}]", self.value[bad]).number()
        return self.value

    def _inner(self, step: str, value: object) -> Place:
        return Place(self.file, (self.path + step).removeprefix("."), value)

    def _object(self) -> dict[str, object]:
        if not isinstance(self.value, dict):
            raise self.wrong("an object")
        return self.value


def root(data: bytes, file: str) -> Place:
    """The outermost value of a document.

    Args:
        data: the document.
        file: its name, for complaints.

    Raises:
        StoreError: this is not JSON.
    """
    try:
        return Place(file, "", json.loads(data, parse_constant=_no_constant, object_pairs_hook=_unique))
    except RecursionError as error:
        raise StoreError(f"{file}: too deeply nested for a size problem; take another file") from error
    # Also of texts in another encoding, and of integers with thousands of digits.
    except ValueError as error:
        raise StoreError(f"{file}: no JSON that can be read ({error}); take another copy, or write it again") from error


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is no number of JSON")


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"{_shown(twice)} stands twice in one object")
    return found


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST


def _shown(value: object) -> str:
    """A value in few characters, all of which can be printed."""
    if isinstance(value, str) and len(value) < _LONG:
        return ascii(value)
    return reprlib.repr(value).encode("ascii", "backslashreplace").decode()
