"""Networks for whole ways, written in a line each."""

import re
from collections.abc import Callable

import numpy as np
import pytest

from solver_nas import Network, concat, immutable, invariant, nn


def _add(net: Network, name: str, operation: str, arguments: list[str]) -> None:
    size = int(arguments.pop()) if arguments[-1].isdecimal() else 0
    inputs = [net[argument] for argument in arguments]
    match operation:
        case "dense":
            nn.dense(inputs[0], size, bias=False, name=name)
        case "same":
            invariant(lambda a: a, inputs, name=name)
        case "add":
            nn.add(inputs, name=name)
        case "multiply":
            nn.multiply(inputs, name=name)
        case "cat":
            concat(inputs, name=name)
        case "fixed":
            # Nothing is known about it, so that nothing that it touches may change its size.
            immutable(lambda *x: np.ones((*x[0].shape[:-1], size)), inputs, size=size, name=name)
        case _:
            raise ValueError(operation)


def _written(text: str) -> Network:
    """A network from a text such as `in = 3; v1 = dense(in, 5); v2 = same(v1); v3 = add(v1, v2); v4 = cat(v3, in)`."""
    net = Network()
    for line in text.split(";"):
        name, what = (part.strip() for part in line.split("="))
        if what.isdecimal():
            net.input(name, int(what))
            continue
        call = re.fullmatch(r"(\w+)\((.+)\)", what)
        assert call, line
        _add(net, name, call[1], [argument.strip() for argument in call[2].split(",")])
    return net


@pytest.fixture
def written() -> Callable[[str], Network]:
    return _written
