"""Modules that are trained, copied, configured and changed by others in between."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from solver_nas import delta_nout, plan_change
from solver_nas.errors import GraphError, PlanError, VerificationError
from solver_nas.torch import trace
from tests.torch.nets import everything, images, mlp


def test_training_and_checkpoints_in_between_are_seen() -> None:
    net, x = mlp(), torch.ones(1, 4)
    model = trace(net, x)
    with torch.no_grad():
        net[0].weight[3] = 0
        net[0].bias[3] = 0
    plan = plan_change(model["0"], -1)
    assert 3 not in plan.indices["0"]
    net.load_state_dict(mlp().state_dict())
    assert np.array_equal(model.arrays["0.weight"], net[0].weight.detach().numpy())


def test_a_module_that_something_else_has_changed_is_stale() -> None:
    net = mlp()
    model = trace(net, torch.ones(1, 4))
    plan = plan_change(model["0"], -1)
    net[0].weight = nn.Parameter(torch.ones(9, 4))
    with pytest.raises(GraphError, match=r"'0\.weight' has shape \(9, 4\) instead of \(8, 4\): the module has changed"):
        plan.apply()
    del net[0].weight
    with pytest.raises(GraphError, match=r"'0\.weight' is gone"):
        delta_nout(model["2"], -1)


def test_a_module_on_another_device_or_of_another_type_is_stale() -> None:
    net = mlp()
    model = trace(net, torch.ones(1, 4))
    net.double()
    with pytest.raises(GraphError, match=r"is torch\.float64 on cpu now: the module has changed"):
        delta_nout(model["0"], -1)


def test_a_plan_for_an_earlier_state_is_refused() -> None:
    model = trace(mlp(), torch.ones(1, 4))
    plan = plan_change(model["0"], -1)
    delta_nout(model["2"], -1)
    with pytest.raises(PlanError, match="the model has changed since this plan was made"):
        plan.apply()


def test_parameters_that_a_module_outside_holds_are_not_changed() -> None:
    shared = nn.Linear(4, 8)
    one, other = nn.Sequential(shared, nn.ReLU(), nn.Linear(8, 2)), nn.Sequential(nn.Linear(4, 8))
    other[0].weight = shared.weight
    model = trace(one, torch.ones(1, 4))
    before = everything(one)
    with pytest.raises(VerificationError, match=r"'0\.weight' is shared with a Linear outside of the module"):
        delta_nout(model["0"], -3)
    assert everything(one) == before


def test_the_structure_of_a_module_is_its_code() -> None:
    from solver_nas import remove

    model = trace(mlp(), torch.ones(1, 4))
    with pytest.raises(GraphError, match="would change the structure of the module, which is its code"):
        remove(model["1"])
    with pytest.raises(GraphError, match="is called as in the module's code"):
        model.rename("0", "first")


def test_without_a_module_changes_lead_to_modules_of_their_own() -> None:
    net, x = mlp(), torch.ones(2, 4)
    before = everything(net)
    model = trace(net, x, in_place=False)
    delta_nout(model["0"], -3)
    made = model.standalone()
    assert everything(net) == before
    assert made.get_parameter("0.weight").shape == (5, 4)
    assert made(x).shape == (2, 2)
    with pytest.raises(GraphError, match="changes of this model are not written into a module"):
        _ = model.module
    program = model.export()
    assert torch.allclose(program.module()(x), made(x))


@pytest.mark.parametrize("more", [-1, 0, 4])
def test_neurons_are_replaced_among_those_that_are_normalised_together(more: int) -> None:
    torch.manual_seed(0)
    norm, head = nn.LayerNorm(8), nn.Linear(8, 3)
    net = nn.Sequential(nn.Linear(4, 8), norm, head).eval()
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(1, 2, 8))
    scale, weight = norm.weight.detach().clone(), head.weight.detach().clone()
    worth = np.array([1.0, 2, 3, -9, -9, 6, 7, 8])
    plan = plan_change(trace(net, torch.randn(2, 4))["0"], more, utility=lambda v: worth if v.nout == 8 else 0.0)
    assert plan.indices["0"].tolist() == [0, 1, 2, 5, 6, 7, *[-1] * (2 + more)]
    plan.apply()
    kept = [0, 1, 2, 5, 6, 7]
    assert torch.equal(norm.weight[:6], scale[kept])
    assert torch.equal(head.weight[:, :6], weight[:, kept])
    assert norm.normalized_shape == (8 + more,)


class DualPath(nn.Module):
    """Some channels go one way, the rest another."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.conv = 8, nn.Conv2d(3, 12, 1)
        self.one, self.two = nn.Conv2d(8, 2, 1), nn.Conv2d(4, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        found: torch.Tensor = self.one(x[:, : self.first]) + self.two(x[:, self.first :])
        return found


@pytest.mark.parametrize("left", [6, 2])
def test_parts_stay_parts_where_less_is_left_than_they_had(left: int) -> None:
    torch.manual_seed(0)
    net = DualPath().eval()
    plan = plan_change(trace(net, images())["conv"], left - 12)
    kept = plan.indices["conv"]
    expected = net.conv.weight.detach()[torch.tensor(kept)]
    plan.apply()
    assert net.first == (kept < 8).sum() < left
    assert torch.equal(net.conv.weight, expected)


class Configured(nn.Module):
    """Sizes are read from an object that other modules may have, too."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config, self.a, self.b = config, nn.Linear(8, config.inner.width), nn.Linear(config.inner.width, 2)
        self.part = nn.Module()
        self.part.__dict__["again"] = config.inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.b(self.a(x).reshape(-1, 1, self.config.inner.width).flatten(1))
        return found


def test_configurations_of_other_modules_stay_as_they_are() -> None:
    config = SimpleNamespace(inner=SimpleNamespace(width=16, others=[3]), name="shared")
    one, other, x = Configured(config), Configured(config), torch.randn(2, 8)
    before = other(x)
    model = trace(one, x, history=1)
    delta_nout(model["a"], -4)
    assert one.config.inner.width == 12
    assert one.part.__dict__["again"] is one.config.inner
    assert config.inner.width == other.config.inner.width == 16
    assert other.config is config
    assert torch.equal(other(x), before)
    assert one(x).shape == (2, 2)
    model.undo()
    assert one.config.inner.width == 16
    assert one(x).shape == (2, 2)


class Counting(nn.Module):
    """Code that writes into buffers, parameters and other tensors while it runs."""

    steps: torch.Tensor
    average: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 16), nn.Linear(16, 4)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("average", torch.zeros(16))
        self.plain = torch.ones(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.steps.add_(1)
        y = self.a(x)
        self.average.lerp_(y.detach().mean(0), 0.5)
        self.plain += 1
        with torch.no_grad():
            self.b.bias.mul_(1.01)
        found: torch.Tensor = self.b(y)
        return found


def test_what_the_code_writes_into_is_not_touched_while_a_change_is_tried_out() -> None:
    torch.manual_seed(0)
    net, x = Counting(), torch.randn(2, 8)
    before = everything(net)
    model = trace(net, x)
    assert everything(net) == before
    bias, plain = net.b.bias.detach().clone(), net.plain.clone()
    plan = plan_change(model["a"], -4)
    plan.apply()
    assert torch.equal(net.b.bias, bias)
    assert torch.equal(net.plain, plain)
    assert (int(net.steps), tuple(net.average.shape), float(net.average.abs().sum())) == (0, (12,), 0.0)


class Sampling(nn.Module):
    """What is drawn is as large as the neurons are many."""

    def __init__(self) -> None:
        super().__init__()
        self.mean, self.spread, self.decoder = nn.Linear(4, 6), nn.Linear(4, 6), nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean, spread = self.mean(x), self.spread(x).exp()
        noise = torch.randn_like(mean) + torch.empty_like(mean).uniform_().log()
        found: torch.Tensor = self.decoder(mean + noise * spread)
        return found


def test_code_that_draws_random_numbers_can_be_changed() -> None:
    torch.manual_seed(0)
    net = Sampling()
    model = trace(net, torch.randn(3, 4))
    state = torch.get_rng_state()
    for delta in (-2, 3):
        assert delta_nout(model["mean"], delta)
    assert (net.mean.out_features, net.spread.out_features, net.decoder.in_features) == (7, 7, 7)
    assert torch.equal(torch.get_rng_state(), state)
