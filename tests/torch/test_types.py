"""Numbers of lower precision, and code that chooses it while it runs."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from solver_nas import delta_nout, plan_change
from solver_nas.torch import trace
from tests.torch.nets import Mixed, mlp


@pytest.mark.parametrize(
    "dtype", [torch.bfloat16, torch.float16, torch.float64], ids=["bfloat16", "float16", "float64"]
)
def test_types_stay(dtype: torch.dtype) -> None:
    net, x = mlp().to(dtype), torch.ones(1, 4, dtype=dtype)
    kept = net[0].weight.detach().clone()
    model = trace(net, x)
    plan = plan_change(model["0"], -3)
    plan.apply()
    assert {tensor.dtype for tensor in net.parameters()} == {dtype}
    assert torch.equal(net[0].weight, kept[plan.indices["0"].tolist()])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
def test_what_rounding_of_the_type_adds_up_to_in_a_deep_network_is_allowed(dtype: torch.dtype) -> None:
    blocks = [nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()) for _ in range(12)]
    net = nn.Sequential(nn.Conv2d(3, 16, 3), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))
    net = net.to(dtype).eval()
    model = trace(net, torch.randn(2, 3, 16, 16).to(dtype))
    convolutions = {name: part for name, part in net.named_modules() if isinstance(part, nn.Conv2d)}
    delta_nout({model[name]: -6 for name in convolutions})
    assert {part.out_channels for part in convolutions.values()} == {10}
    assert net(torch.randn(1, 3, 16, 16).to(dtype)).dtype == dtype


def test_regions_that_choose_their_types_themselves_are_looked_into() -> None:
    net, x = Mixed().eval(), torch.randn(2, 3, 8, 8)
    model = trace(net, x)
    plan = plan_change({model["conv1"]: -5, model["conv2"]: -9})
    gone = [sorted({*range(size)} - {*plan.indices[name].tolist()}) for name, size in (("conv1", 16), ("conv2", 24))]
    masked = copy.deepcopy(net)
    with torch.no_grad():
        masked.conv2.weight[:, gone[0]], masked.fc.weight[:, gone[1]] = 0, 0
    plan.apply()
    assert (net.conv1.out_channels, net.conv2.in_channels, net.fc.in_features) == (11, 11, 15)
    assert torch.allclose(net(x), masked(x), atol=1e-2)


def test_types_that_the_caller_has_switched_on_do_not_matter() -> None:
    changes = []
    for on in (False, True):
        torch.manual_seed(0)
        net = mlp()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=on):
            plan = plan_change(trace(net, torch.ones(1, 4))["0"], -3)
            plan.apply()
            changes.append(plan.indices["0"].tolist())
        assert {tensor.dtype for tensor in net.parameters()} == {torch.float32}
    assert changes[0] == changes[1]
