"""Contributions that are recorded while the user's own code trains a module."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from solver_nas import delta_nout, plan_change
from solver_nas.errors import RecordingWarning, RequestError
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


def test_frozen_layers_are_recorded_too() -> None:
    net, x = convnet(), images()
    net.conv1.requires_grad_(requires_grad=False)
    net.bn1.requires_grad_(requires_grad=False)
    reference = convnet()
    worth = []
    for one in (net, reference):
        model = trace(one, x)
        with model.record():
            one(x).square().sum().backward()
        worth.append(np.asarray(model.default_utility(model["conv1"])))
    assert np.allclose(worth[0], worth[1])
    assert np.any(worth[0])
    assert net.conv1.weight.grad is None


def test_recurrences_are_recorded() -> None:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.fc = nn.LSTM(4, 8, batch_first=True), nn.Linear(8, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.fc(self.lstm(x)[0][:, -1])
            return found

    net, x = Last(), torch.randn(3, 5, 4)
    model = trace(net, x)
    with model.record():
        net(x).square().sum().backward()
    assert np.all(np.asarray(model.default_utility(model["lstm"])) > 0)


def test_what_cannot_be_seen_is_named_and_estimated() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.weight, self.last = nn.Linear(4, 8), nn.Parameter(torch.randn(6, 8)), nn.Linear(6, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.last(torch.relu(self.first(x)) @ self.weight.T)
            return found

    torch.manual_seed(0)
    net, x = Mixed(), torch.randn(3, 4)
    model = trace(net, x)
    norms = np.asarray(model.default_utility(model["matmul"]))
    with pytest.warns(RecordingWarning, match="nothing was recorded for 'matmul', whose outputs"), model.record():
        net(x).square().sum().backward()
    found, seen = (np.asarray(model.default_utility(model[name])) for name in ("matmul", "first"))
    assert np.allclose(found / found.mean(), norms / norms.mean())
    assert np.isclose(found.mean(), seen.mean())


def test_an_empty_recording_is_told() -> None:
    net, x = convnet(), images()
    model = trace(net, x)
    before = model.default_utility(model["conv2"])
    with (
        pytest.warns(RecordingWarning, match="no backward pass has reached the module"),
        model.record(),
        torch.no_grad(),
    ):
        net(x)
    assert np.array_equal(model.default_utility(model["conv2"]), before)
