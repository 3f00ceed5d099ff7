"""What is seen when a change is tried out, whatever the example inputs and the weights are."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as functional
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from solver_nas import delta_nout, plan_change, shrink
from solver_nas.errors import RequestError, SolverNasError, VerificationError
from solver_nas.limits import now, params
from solver_nas.torch import save, trace
from tests.torch.nets import everything


class Net(nn.Module):
    """Two layers, and what a test puts between and behind them."""

    def __init__(self, between: Callable[[Any, Tensor], Tensor], behind: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(5, 8, bias=False), nn.Linear(8, 3, bias=False)
        self.scale = nn.Parameter(torch.full((3,), 1e-6))
        self.between, self.behind = between, behind

    def forward(self, x: Tensor) -> Tensor:
        return self.behind(self, self.between(self, self.a(x)))


def _second(net: Net, x: Tensor) -> Tensor:
    found: Tensor = net.b(x)
    return found


SUMS: dict[str, tuple[Callable[[Any, Tensor], Tensor], Callable[[Any, Tensor], Tensor]]] = {
    "normalised": (lambda _, y: functional.normalize(torch.relu(y), dim=1), _second),
    "sum": (lambda _, y: torch.relu(y), lambda _, y: y.sum(1)),
    "largest": (lambda _, y: y / y.norm(p=float("inf"), dim=1, keepdim=True), _second),
    "any": (lambda _, y: y, lambda net, y: net.b(y) * (y > 2).any(1, keepdim=True)),
    "products": (lambda _, y: torch.relu(y), lambda _, y: torch.einsum("bi,bj->bij", y, y).sum((1, 2))),
}


@pytest.mark.parametrize("name", SUMS)
def test_new_neurons_are_nothing_in_a_sum(name: str) -> None:
    for seed in range(5):
        torch.manual_seed(seed)
        net = Net(*SUMS[name])
        x = 2 * torch.randn(64, 5)
        model = trace(net, torch.randn(1, 5))
        before = net(x)
        delta_nout(model["a"], 2)
        assert torch.allclose(net(x), before, atol=1e-6)


def _looping(_: Any, y: Tensor) -> Tensor:
    """Numbers of loops over channels are no sizes that can be followed."""
    return y + sum(0.3 * torch.sin(y * step) for step in range(y.shape[1]))


BEHIND: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "whole numbers": lambda net, y: net.b(y).argmax(1),
    "filled": lambda net, y: net.b(y).masked_fill(y[:, :3].detach() > 1, torch.finfo(y.dtype).min),
    "zeros": _second,
    "faint": lambda net, y: net.scale * net.b(y) + 1,
}


@pytest.mark.parametrize("name", BEHIND)
def test_nothing_hides_that_code_computes_something_else(name: str) -> None:
    torch.manual_seed(0)
    net = Net(_looping, BEHIND[name])
    model = trace(net, torch.zeros(8, 5) if name == "zeros" else torch.randn(64, 5))
    before = everything(net)
    with pytest.raises(VerificationError, match="nothing was changed"):
        delta_nout(model["a"], -3)
    assert everything(net) == before


def test_code_that_runs_in_training_alone_has_to_run_as_well() -> None:
    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.width = 8
            self.a, self.b = nn.Linear(5, 8), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            y = self.a(x)
            if self.training:
                y = y + torch.randn(x.shape[0], self.width)
            found: Tensor = self.b(y)
            return found

    net = Noisy().train()
    model = trace(net, torch.randn(2, 5))
    with pytest.raises(VerificationError, match=r"in training mode, .*test_trials\.py:\d+"):
        delta_nout(model["a"], -3)
    assert net(torch.randn(2, 5)).shape == (2, 3)


def test_what_the_code_keeps_outside_of_the_module_is_made_of_real_tensors() -> None:
    tables: dict[int, Tensor] = {}

    class Positions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(5, 8), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            if x.shape[1] not in tables:
                tables[x.shape[1]] = torch.arange(x.shape[1]).float()[:, None]
            found: Tensor = self.b(self.a(x + tables[x.shape[1]]))
            return found

    net = Positions()
    model = trace(net, torch.randn(2, 6, 5))
    assert type(net(torch.randn(2, 6, 5))) is Tensor
    delta_nout(model["a"], -3)
    assert [(type(key), type(table)) for key, table in tables.items()] == [(int, Tensor)]


def test_spectral_norms_learn_nothing_from_being_looked_at(tmp_path: Any) -> None:
    net = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), parametrizations.spectral_norm(nn.Linear(16, 12)), nn.ReLU())
    net.append(nn.Linear(12, 2)).train()
    before = everything(net)
    model = trace(net, torch.randn(3, 6))
    save(model, tmp_path / "model.safetensors")
    plan_change(model["2"], -4).check()
    assert everything(net) == before
    delta_nout(model["2"], -4)
    assert net(torch.randn(3, 6)).shape == (3, 2)


def test_parameters_of_opaque_submodules_count() -> None:
    core = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.BatchNorm1d(64), nn.Linear(64, 16))
    net = nn.Sequential(nn.Linear(4, 16), core, nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 2)).eval()
    total = sum(parameter.numel() for parameter in net.parameters())
    model = trace(net, torch.randn(2, 4), opaque="1")
    assert f"{total:,} parameters" in repr(model)
    shrink(model, [params(model) <= 0.9 * now])
    assert sum(parameter.numel() for parameter in net.parameters()) <= 0.9 * total


def test_an_empty_part_of_every_head_goes_with_it() -> None:
    class Rotary(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.heads, self.turned = nn.Linear(8, 32), nn.Linear(32, 3), 4, 8

        def forward(self, x: Tensor) -> Tensor:
            count, length, _ = x.shape
            y = self.a(x).view(count, length, self.heads, -1).transpose(1, 2)
            turned, rest = y[..., : self.turned], y[..., self.turned :]
            y = torch.cat([turned * 2, rest], -1).transpose(1, 2).reshape(count, length, -1)
            found: Tensor = self.b(y)
            return found

    net = Rotary()
    model = trace(net, torch.randn(2, 5, 8))
    with torch.no_grad():
        net.b.weight[:, 8:16] = 0
    expected, x = net(torch.ones(1, 3, 8)), torch.ones(1, 3, 8)
    delta_nout(model["a"], -8, utility=lambda v: [0.0 if 8 <= place < 16 else 1.0 for place in range(v.nout)])
    assert torch.allclose(net(x), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "name", "start"),
    [
        (lambda p: torch.optim.Rprop(p, lr=0.02), "step_size", lambda _: torch.tensor(0.02)),
        (lambda p: torch.optim.ASGD(p, lr=0.02), "ax", lambda weight: weight.detach()),
    ],
    ids=["Rprop", "ASGD"],
)
def test_new_entries_start_with_what_their_optimizer_needs(make: Any, name: str, start: Any) -> None:
    first = nn.Linear(4, 6)
    net, x = nn.Sequential(first, nn.ReLU(), nn.Linear(6, 2)), torch.randn(3, 4)
    optimizer = make(net.parameters())
    net(x).sum().backward()
    optimizer.step()
    plan_change(trace(net, x)["0"], 2).apply(optimizer=optimizer)
    found = optimizer.state[first.weight][name]
    assert found.shape == (8, 4)
    assert torch.equal(found[6:], start(first.weight[6:]).expand(2, 4))


def test_models_of_modules_are_not_pickled() -> None:
    model = trace(nn.Linear(2, 2), torch.randn(1, 2))
    with pytest.raises(RequestError, match="cannot be pickled"):
        pickle.dumps(model)


def test_new_neurons_that_change_the_rest_are_said_to_do_so() -> None:
    net = nn.Sequential(nn.Linear(4, 8), parametrizations.weight_norm(nn.Linear(8, 6), dim=1), nn.Linear(6, 2))
    with pytest.raises(SolverNasError, match="new neurons change what the module computes"):
        delta_nout(trace(net, torch.randn(3, 4))["0"], 2)
