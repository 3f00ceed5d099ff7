"""Modules that consist of captured operations: called like the module they come from, and computing the same."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from solver_nas import delta_nout
from solver_nas.torch import trace
from tests.torch.nets import Mixed


class Pair(nn.Module):
    """Takes two tensors in one argument, and, by name, a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.out = nn.Linear(4, 12), nn.Linear(4, 12), nn.Linear(12, 2)

    def forward(self, both: Any, scale: Any = None) -> Any:
        found = self.out(torch.relu(self.a(both[0]) + self.b(both[1])))
        return found if scale is None else {"scaled": found * scale["by"]}


@pytest.mark.parametrize("kind", [list, tuple])
def test_inputs_stay_nested(kind: type) -> None:
    net, one, other = Pair(), torch.randn(2, 4), torch.randn(2, 4)
    model = trace(net, (kind([torch.ones(2, 4), torch.ones(2, 4)]),))
    delta_nout(model["a"], -4)
    expected = net([one, other])
    assert torch.equal(model.standalone()(kind([one, other])), expected)
    assert torch.equal(model.export().module()(kind([one, other])), expected)


def test_so_do_inputs_by_name() -> None:
    net, both = Pair(), [torch.randn(2, 4), torch.randn(2, 4)]
    model = trace(net, ([torch.ones(2, 4), torch.ones(2, 4)],), {"scale": {"by": torch.ones(1)}})
    delta_nout(model["a"], -4)
    found = model.standalone()(both, scale={"by": torch.tensor([3.0])})
    assert torch.allclose(found["scaled"], 3 * net(both))


def test_states_of_recurrent_layers_are_pairs() -> None:
    class Stateful(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.out = nn.LSTM(4, 12), nn.Linear(12, 2)

        def forward(self, x: torch.Tensor, state: tuple[torch.Tensor, torch.Tensor]) -> Any:
            found, state = self.lstm(x, state)
            return self.out(found), state

    net, x, state = Stateful(), torch.randn(5, 2, 4), (torch.randn(1, 2, 12), torch.randn(1, 2, 12))
    found = trace(net, (x, state)).standalone()(x, state)
    expected = net(x, state)
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1][1], expected[1][1])


def test_regions_of_lower_precision_stay_what_they_are() -> None:
    net, x = Mixed().eval(), torch.randn(2, 3, 8, 8)
    model = trace(net, x)
    delta_nout(model["conv2"], -4)
    expected = net(x)
    assert torch.equal(model.standalone()(x), expected)
    assert torch.equal(model.export().module()(x), expected)
