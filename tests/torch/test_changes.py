"""A change that fails leaves nothing behind, and one that is made can be taken back."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from solver_nas import delta_nout
from solver_nas.errors import GraphError, VerificationError
from solver_nas.torch import TorchModel, trace
from solver_nas.torch.writing import Writing
from tests.torch.nets import ConvNet, convnet, everything, images, trained


def _steps_of(change: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> int:
    """How many steps a change takes."""
    counted: list[int] = []
    real = Writing.carry_out

    def carry_out(self: Writing) -> None:
        counted.append(len(self))
        real(self)

    with monkeypatch.context() as patch:
        patch.setattr(Writing, "carry_out", carry_out)
        change()
    return counted[-1]


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt, MemoryError])
def test_a_change_that_fails_at_any_step_leaves_everything_as_it_was(
    failure: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    def setup() -> tuple[ConvNet, torch.optim.Optimizer, TorchModel]:
        net = convnet().train()
        optimizer = torch.optim.Adam(net.parameters(), 0.01)
        trained(net, optimizer, images())
        model = trace(net, images())
        model.follow_optimizer(optimizer)
        return net, optimizer, model

    net, optimizer, model = setup()
    steps = _steps_of(lambda: delta_nout({model["conv1"]: -3, model["conv2"]: -5}), monkeypatch)
    assert steps > 15
    net, optimizer, model = setup()
    real = Writing.step
    for bad in range(steps):
        before, graph = everything(net, optimizer), model.graph
        count = [0]

        def step(self: Writing, do: Any, undo: Any, bad: int = bad, count: list[int] = count) -> None:
            def broken() -> None:
                do()
                raise failure

            real(self, broken if count[0] == bad else do, undo)
            count[0] += 1

        with monkeypatch.context() as patch:
            patch.setattr(Writing, "step", step)
            with pytest.raises(failure):
                delta_nout({model["conv1"]: -3, model["conv2"]: -5})
        assert everything(net, optimizer) == before
        assert model.graph is graph
    assert delta_nout({model["conv1"]: -3, model["conv2"]: -5})
    assert net.conv1.weight.shape == (5, 3, 3, 3)


def test_ctrl_c_in_the_middle_takes_the_change_back() -> None:
    tensor, other = torch.zeros(3), torch.zeros(3)
    writing = Writing()
    writing.tensor(tensor, torch.ones(5), None)
    writing.step(lambda: signal.raise_signal(signal.SIGINT), lambda: None)
    writing.tensor(other, torch.ones(5), None)
    with pytest.raises(KeyboardInterrupt):
        writing.carry_out()
    assert torch.equal(tensor, torch.zeros(3))
    assert torch.equal(other, torch.zeros(3))


def test_code_that_computes_something_else_at_other_sizes_is_refused() -> None:
    class Fickle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(4, 8), nn.Linear(8, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.one(x)
            found: torch.Tensor = self.two(torch.relu(y) if y.shape[1] > 6 else torch.sigmoid(y))
            return found

    net = Fickle()
    model = trace(net, torch.ones(1, 4))
    before = everything(net)
    with pytest.raises(
        VerificationError,
        match=r"the code asks whether a tensor.s size along axis 1 > 6, and the answer would be another one",
    ):
        delta_nout(model["one"], -3)
    assert everything(net) == before
    assert delta_nout(model["one"], -1)


def test_a_transaction_takes_training_back_too() -> None:
    net, x = convnet().train(), images()
    optimizer = torch.optim.Adam(net.parameters(), 0.01)
    trained(net, optimizer, x)
    model = trace(net, x)
    model.follow_optimizer(optimizer)
    before = everything(net)

    def attempt() -> None:
        with model.transaction():
            delta_nout(model["conv1"], -3)
            for _ in range(2):
                net(x).sum().backward()
                optimizer.step()
            raise RuntimeError("not good enough")

    with pytest.raises(RuntimeError, match="not good enough"):
        attempt()
    held, numbers, _ = everything(net)
    assert numbers == before[1]
    learned = {name for name, _ in net.named_parameters()} | {"bn1.running_mean", "bn1.running_var"}
    assert {name: held[name] for name in learned} == {name: before[0][name] for name in learned}


def test_changes_can_be_taken_back() -> None:
    net, x = convnet(), images()
    model = trace(net, x, history=2)
    before = net(x)
    delta_nout(model["conv1"], -3)
    middle = net(x)
    delta_nout(model["conv2"], -5)
    model.undo()
    assert torch.equal(net(x), middle)
    assert net.conv2.out_channels == 12
    model.undo()
    assert torch.equal(net(x), before)
    with pytest.raises(GraphError, match="0 can"):
        model.undo()
