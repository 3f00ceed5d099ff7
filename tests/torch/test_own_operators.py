"""Operators of a user's own, with numbers that follow."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from solver_nas import delta_nout
from solver_nas.labels import Tensor as Labelled
from solver_nas.rules.primitives import take
from solver_nas.torch import Op, operator, trace


@torch.library.custom_op("solver_nas_tests::first", mutates_args=())
def first(x: Tensor, count: int) -> Tensor:
    return x[:, :count].clone()


@first.register_fake
def _fake(x: Tensor, count: int) -> Tensor:
    return torch.empty_like(x[:, :count])


@operator("solver_nas_tests::first", note="the first neurons; how many follows")
def _first(op: Op) -> Labelled:
    count, x = op.integer("count"), op.tensor("x")
    block = x.block_of(1)
    if block is not None:
        op.counted("count", 0, block.neurons[:count])
    return take(op.scope, x, 1, slice(0, count))


class Front(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.count = 6
        self.inner, self.head = nn.Linear(4, 8), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.head(first(self.inner(x), self.count))
        return found


def test_a_rule_may_read_a_number_that_it_calls_a_size() -> None:
    torch.manual_seed(0)
    net = Front().eval()
    model = trace(net, torch.randn(3, 4))
    for left in (3, 7, 2):
        delta_nout(model["inner"], left - net.inner.out_features)
        assert net.inner.out_features == left
        assert net.head.in_features == net.count <= left
        assert net(torch.randn(3, 4)).shape == (3, 2)
