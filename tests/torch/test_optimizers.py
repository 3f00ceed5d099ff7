"""What optimizers remember follows the parameters."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import torch
from torch import nn

from solver_nas import delta_nout, plan_change
from solver_nas.errors import RequestError
from solver_nas.torch import TorchModel, trace
from tests.torch.nets import convnet, everything, images, mlp, trained

Optimizer = Callable[[Any], torch.optim.Optimizer]
OPTIMIZERS: dict[str, Optimizer] = {
    "sgd": lambda p: torch.optim.SGD(p, 0.01, momentum=0.9),
    "adam": lambda p: torch.optim.Adam(p, 0.01, amsgrad=True),
    "adamw": lambda p: torch.optim.AdamW(p, 0.01),
    "rmsprop": lambda p: torch.optim.RMSprop(p, 0.01, momentum=0.9, centered=True),
    "adagrad": lambda p: torch.optim.Adagrad(p, 0.01),
    "nadam": lambda p: torch.optim.NAdam(p, 0.01),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_momenta_are_selected_with_the_indices_of_their_parameter(name: str) -> None:
    net, x = convnet().train(), images()
    optimizer = OPTIMIZERS[name](net.parameters())
    trained(net, optimizer, x)
    before = {key: value.clone() for key, value in optimizer.state[net.conv2.weight].items() if value.dim()}
    grads = net.conv2.weight.grad
    assert grads is not None
    grads = grads.clone()
    model = trace(net, x)
    plan = plan_change({model["conv1"]: -3, model["conv2"]: -5})
    rows, columns = (plan.indices[name].tolist() for name in ("conv2", "conv1"))
    plan.apply(optimizer=optimizer)
    assert before
    for key, value in before.items():
        found = optimizer.state[net.conv2.weight][key]
        assert torch.equal(found, value[rows][:, columns]), key
    assert net.conv2.weight.grad is not None
    assert torch.equal(net.conv2.weight.grad, grads[rows][:, columns])
    trained(net, optimizer, x)
    assert optimizer.state[net.conv2.weight]
    assert net.conv2.weight.shape == (7, 5, 3, 3)


def test_factored_moments_lose_the_same_rows_and_columns() -> None:
    net, x = mlp(), torch.ones(1, 4)
    optimizer = torch.optim.Adafactor(net.parameters())
    trained(net, optimizer, x)
    middle = net[2].weight
    rows_before, columns_before = (optimizer.state[middle][name].clone() for name in ("row_var", "col_var"))
    model = trace(net, x)
    plan = plan_change({model["0"]: -3, model["2"]: -2})
    plan.apply(optimizer=optimizer)
    assert torch.equal(optimizer.state[middle]["row_var"], rows_before[plan.indices["2"].tolist()])
    assert torch.equal(optimizer.state[middle]["col_var"], columns_before[:, plan.indices["0"].tolist()])
    trained(net, optimizer, x)


def test_new_neurons_have_no_momentum_and_leave_the_function_as_it_is() -> None:
    net, x = convnet(), images()
    optimizer = torch.optim.Adam(net.parameters(), 0.01)
    trained(net, optimizer, x)
    model = trace(net, x)
    model.follow_optimizer(optimizer)
    before = net(x)
    delta_nout(model["conv1"], 4)
    assert torch.allclose(net(x), before, atol=1e-6)
    momentum = optimizer.state[net.conv1.weight]["exp_avg"]
    assert momentum.shape == net.conv1.weight.shape == (12, 3, 3, 3)
    assert not momentum[8:].any()
    assert momentum[:8].any()
    trained(net, optimizer, x)
    assert optimizer.state[net.conv1.weight]["exp_avg"][8:].any() or not net.conv1.weight.grad[8:].any()


def test_an_optimizer_that_remembers_something_else_is_refused_by_name() -> None:
    net, x = mlp(), torch.ones(1, 4)
    optimizer = torch.optim.LBFGS(net.parameters(), max_iter=2)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss: torch.Tensor = net(x).square().mean()
        loss.backward()  # type: ignore[no-untyped-call] # PyTorch's
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call] # PyTorch's
    model = trace(net, x)
    before = everything(net)
    for name in ("0", "2"):  # its state is beside the first parameter alone
        with pytest.raises(RequestError, match=r"LBFGS remembers .* which cannot be followed: clear its state"):
            plan_change(model[name], -2).apply(optimizer=optimizer)
    assert everything(net) == before


def test_something_else_than_an_optimizer_is_refused() -> None:
    model = trace(mlp(), torch.ones(1, 4))
    with pytest.raises(RequestError, match=r"expected an optimizer of torch\.optim, got 'adam'"):
        plan_change(model["0"], -2).apply(optimizer="adam")


def test_factors_of_new_neurons_start_with_one_and_can_learn() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(4, 8), nn.Linear(8, 2)
            self.factor, self.shift = nn.Parameter(torch.rand(8) + 1), nn.Parameter(torch.rand(8))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.two(torch.tanh(self.one(x)) * self.factor + self.shift)
            return found

    net, x = Scaled(), torch.randn(5, 4)
    model = trace(net, x)
    before = net(x)
    delta_nout(model["one"], 3)
    assert torch.allclose(net(x), before, atol=1e-6)
    assert torch.equal(net.factor[8:].detach(), torch.ones(3))
    assert torch.equal(net.shift[8:].detach(), torch.zeros(3))
    trained(net, torch.optim.SGD(net.parameters(), 0.1), x)
    assert net.two.weight[:, 8:].abs().min() > 0


def test_an_optimizer_of_another_module_is_refused() -> None:
    model = trace(mlp(), torch.ones(1, 4))
    with pytest.raises(RequestError, match="the optimizer has none of the module's parameters"):
        plan_change(model["0"], -2).apply(optimizer=torch.optim.Adam(mlp().parameters()))


def _cancelled(model: TorchModel, step: Callable[[], object]) -> None:
    with suppress(KeyError), model.transaction():
        step()
        raise KeyError


def _undone(model: TorchModel, step: Callable[[], object]) -> None:
    step()
    model.undo()


@pytest.mark.parametrize("back", [_cancelled, _undone], ids=["transaction", "undo"])
@pytest.mark.parametrize("known", [True, False], ids=["followed", "with the plan"])
@pytest.mark.parametrize("before", [0, 2])
def test_what_is_taken_back_is_taken_back_in_the_optimizer(
    back: Callable[[TorchModel, Callable[[], object]], None], known: bool, before: int
) -> None:
    net, x = convnet().train(), images()
    optimizer = torch.optim.Adam(net.parameters(), 0.01)
    trained(net, optimizer, x, before)
    model = trace(net, x, history=1)
    if known:
        model.follow_optimizer(optimizer)
    expected = everything(net, optimizer)

    def step() -> None:
        plan_change(model["conv2"], -5).apply(optimizer=None if known else optimizer)
        trained(net, optimizer, x)

    back(model, step)
    assert everything(net, optimizer) == expected
    trained(net, optimizer, x)


def test_momenta_of_training_that_is_taken_back_go() -> None:
    nets = [convnet().train() for _ in range(2)]
    optimizers = [torch.optim.SGD(net.parameters(), 0.01, momentum=0.9) for net in nets]
    model = trace(nets[0], images())
    model.follow_optimizer(optimizers[0])
    _cancelled(model, lambda: trained(nets[0], optimizers[0], images()))
    for net, optimizer in zip(nets, optimizers, strict=True):
        trained(net, optimizer, images(), 1)
    assert torch.equal(nets[0].conv1.weight, nets[1].conv1.weight)
