"""A stored size problem as it is read: whatever is wrong with a file is said, with the place."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from solver_nas.errors import StoreError
from solver_nas.stored.document import Cost, Document, Group, Layer, Width, amount
from solver_nas.stored.places import MOST, Place, root
from solver_nas.utility import LARGEST

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

_LONGEST = 200_000_000  # bytes: some ten million neurons; what is longer is something else
_LARGEST_COST = 10**18  # whole numbers up to here fit into the solver's, with room for sums
_CLOSE = 1e-6  # relative: utilities may have been rounded when they were written


def read(path: str | os.PathLike[str]) -> Document:
    """Read a size problem from a file.

    Raises:
        StoreError: the file does not hold one; the message names the place.
        OSError: the file cannot be read.
    """
    with Path(path).open("rb") as file:
        data = file.read(_LONGEST + 1)
    if len(data) > _LONGEST:
        raise StoreError(f"{path}: more than {_LONGEST:,} bytes are no size problem; take another file")
    return parse(data, str(path))


def parse(data: bytes, file: str = "document") -> Document:
    """Read a size problem.

    Args:
        data: JSON.
        file: the name it goes by in messages.

    Raises:
        StoreError: it is not one; the message names the place.
    """
    top = root(data, file)
    groups = tuple(map(_group, top.at("groups").entries("groups")))
    sizes = [group.size for group in groups]
    layers = tuple(_layer(place, sizes) for place in top.at("cost_terms").entries("cost terms"))
    normalised = tuple(place.whole(0, len(sizes) - 1) for place in top.at("batchnorm_groups").members())
    document = Document(_title(top), groups, layers, normalised)
    _check_total(top, document)
    for cost in Cost:
        _check_cost(top, document, cost)
    return document


def _title(top: Place) -> str:
    texts = [place.text() for key in ("model", "weights") if (place := top.get(key)) is not None]
    return ", ".join(text for text in texts if text.isprintable() and text)


def _group(place: Place) -> Group:
    size = place.at("size").whole(1)
    members = tuple(entry.text() for entry in place.at("members").entries("names of layers"))
    if not members:
        raise place.at("members").wrong("the name of one layer at least")
    utility = place.at("utility")
    numbers = utility.numbers()
    if len(numbers) != size:
        raise utility.wrong(f"{size:,} of them, as 'size' says", f"{len(numbers):,} numbers")
    return Group(members, np.array(numbers, np.float64))


def _layer(place: Place, sizes: Sequence[int]) -> Layer:
    return Layer(
        _width(place, sizes, "og", "oc", 1),
        _width(place, sizes, "ig", "ic", place.at("imul").whole(1)),
        place.at("area").whole(1),
        place.at("pos").whole(1),
        place.at("bias").switch(),
    )


def _width(place: Place, sizes: Sequence[int], group: str, constant: str, factor: int) -> Width:
    """One side of a layer: the group's number, or the constant where that is null; both have to agree."""
    number, fixed = place.at(group), place.at(constant)
    if number.value is None:
        return Width(None, fixed.whole(1))
    if not sizes:
        raise number.wrong("null, as there are no groups")
    which = number.whole(0, len(sizes) - 1)
    if fixed.whole(1, MOST**2) != factor * sizes[which]:
        times = f"{factor:,} times " if factor > 1 else ""
        raise fixed.wrong(f"{factor * sizes[which]:,}, {times}the size of group {which}")
    return Width(which, factor)


def _check_total(top: Place, document: Document) -> None:
    place = top.at("total_utility")
    stated = place.number()
    everything = math.fsum(float(np.abs(group.utility).sum()) for group in document.groups)
    if everything > LARGEST:
        raise top.at("groups").wrong(f"at most {LARGEST:g}; scale them down", f"utilities of {everything:g} in all")
    if not math.isclose(stated, document.total, rel_tol=_CLOSE, abs_tol=_CLOSE * everything):
        raise place.wrong(f"{document.total!r}, the sum of all utilities")
    # What is kept is told as a fraction of it.
    if not document.total > 0:
        raise place.wrong("more than 0: give some neurons a positive utility")


def _check_cost(top: Place, document: Document, cost: Cost) -> None:
    place = top.at(f"{cost}0")
    stated = place.whole(0, _LARGEST_COST)
    found = amount(document, cost, document.sizes)
    if found > _LARGEST_COST:
        raise top.at("cost_terms").wrong(f"at most {_LARGEST_COST:,}", f"{cost} of {found:,} in all")
    if stated != found:
        raise place.wrong(f"{found:,}, what the layers come to")
