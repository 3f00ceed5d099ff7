"""A small network, and the promise that it is the same in the end."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from solver_nas import Network, concat, nn

if TYPE_CHECKING:
    from collections.abc import Iterator


def network() -> Network:
    """54 parameters, of which 9 have to stay; `a` and `b` are tied."""
    net = Network(seed=1)
    a = nn.dense(net.input("in", 3), 4, activation="relu", name="a")
    b = nn.dense(a, 4, name="b")
    net.output(nn.dense(concat([a + b, b], name="both"), 2, name="out"))
    return net


def bits(net: Network) -> dict[str, tuple[tuple[int, ...], bytes]]:
    """All arrays of a network."""
    return {key: (array.shape, array.tobytes()) for key, array in net.arrays.items()}


@contextmanager
def unchanged(net: Network) -> Iterator[Network]:
    """Arrays and structure are the same in the end."""
    before, structure = bits(net), net.graph
    yield net
    assert bits(net) == before
    assert net.graph is structure
