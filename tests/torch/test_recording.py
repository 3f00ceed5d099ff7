"""Contributions that are recorded while the user's own code trains a module."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from solver_nas import delta_nout, plan_change
from solver_nas.errors import RequestError
from solver_nas.torch import trace
from tests.torch.nets import convnet, images, mlp


def test_the_mean_of_activation_times_gradient_is_recorded_and_smoothed() -> None:
    net, x = convnet(), images()
    model = trace(net, x)
    seen: list[np.ndarray] = []

    def hook(_: nn.Module, __: object, y: torch.Tensor) -> None:
        y.register_hook(lambda grad: seen.append(_mean(y, grad)))  # type: ignore[no-untyped-call] # PyTorch's

    net.conv2.register_forward_hook(hook)
    with model.record(smoothing=0.5):
        for step in range(3):
            net(x + step).square().sum().backward()
    expected = 0.5 * (0.5 * seen[0] + 0.5 * seen[1]) + 0.5 * seen[2]
    assert np.allclose(model.default_utility(model["conv2"]), expected)
    assert not np.any(model.default_utility(model["relu"]))
    plan = plan_change(model["conv2"], -4)
    assert set(plan.indices["conv2"].tolist()) == set(np.argsort(expected)[-8:].tolist())


def _mean(y: torch.Tensor, grad: torch.Tensor) -> np.ndarray:
    return (y.detach() * grad).abs().double().mean((0, 2, 3)).numpy()


def test_only_every_nth_pass_is_recorded_and_hooks_go() -> None:
    net, x = mlp(), torch.ones(2, 4)
    model = trace(net, x)
    with model.record(every=2, smoothing=1.0):
        for step in range(3):
            net(x * (step + 1)).square().sum().backward()
        third = np.copy(model.default_utility(model["0"]))
        net(x * 4).square().sum().backward()
    assert np.array_equal(model.default_utility(model["0"]), third)
    assert not net[0]._forward_hooks
    net(x * 9).square().sum().backward()
    assert np.array_equal(model.default_utility(model["0"]), third)


def test_recording_goes_on_through_a_change() -> None:
    net, x = mlp(), torch.ones(2, 4)
    model = trace(net, x)
    with model.record():
        net(x).square().sum().backward()
        delta_nout(model["0"], -3)
        net.zero_grad()
        net(x).square().sum().backward()
    assert np.shape(model.default_utility(model["0"])) == (5,)


def test_nonsense_is_refused() -> None:
    model = trace(mlp(), torch.ones(1, 4))
    with pytest.raises(RequestError, match="every is a number of backward passes from 1 on, got 0"):
        model.record(every=0)
    with pytest.raises(RequestError, match="smoothing is a number above 0 up to 1, got 2"):
        model.record(smoothing=2)


def test_a_module_without_parts_has_nothing_to_record() -> None:
    class Product(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Parameter(torch.randn(4, 8)), nn.Parameter(torch.randn(8, 2))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(x @ self.one) @ self.two

    model = trace(Product(), torch.ones(1, 4))
    with pytest.raises(RequestError, match="nothing can be recorded"), model.record():
        pass
