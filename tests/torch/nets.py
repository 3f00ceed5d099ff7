"""Small modules that several tests change."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn


def mlp() -> Any:
    """4 -> 8 -> 6 -> 2, with random weights that are the same each time."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 2))


class ConvNet(nn.Module):
    """Two convolutions with batch normalisation, and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 12, 3, padding=1)
        self.fc = nn.Linear(12, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        found: torch.Tensor = self.fc(torch.relu(self.conv2(x)).mean((2, 3)))
        return found


def convnet() -> Any:
    """A `ConvNet` with statistics that are not trivial."""
    torch.manual_seed(0)
    net: Any = ConvNet()
    with torch.no_grad():
        net.bn1.running_mean.normal_()
        net.bn1.running_var.uniform_(0.5, 2)
        net.bn1.weight.uniform_(0.5, 2)
        net.bn1.bias.normal_()
    return net.eval()


def images() -> torch.Tensor:
    """A batch for a `ConvNet`."""
    return torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))


def everything(module: nn.Module, *optimizers: torch.optim.Optimizer) -> Any:
    """All that a change could touch, bit for bit: tensors, gradients, attributes, memories, who is who."""
    tensors = [*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)]
    held = {
        name: (id(tensor), tuple(tensor.shape), tensor.detach().clone().numpy().tobytes(), _bits(tensor.grad))
        for name, tensor in tensors
    }
    numbers = {
        name: {key: copy.deepcopy(value) for key, value in vars(part).items() if type(value) in (int, tuple, bool)}
        for name, part in module.named_modules()
    }
    memories = [
        {
            (place, key): _bits(value) if isinstance(value, torch.Tensor) else value
            for place, parameter in enumerate(optimizer.param_groups[0]["params"])
            for key, value in optimizer.state.get(parameter, {}).items()
        }
        for optimizer in optimizers
    ]
    return held, numbers, memories


def _bits(tensor: torch.Tensor | None) -> Any:
    return None if tensor is None else (tuple(tensor.shape), tensor.detach().clone().numpy().tobytes())


def trained(net: nn.Module, optimizer: torch.optim.Optimizer, x: torch.Tensor, steps: int = 3) -> None:
    """Train a module to return zeros."""
    for _ in range(steps):
        optimizer.zero_grad()
        net(x).square().mean().backward()
        optimizer.step()


class Mixed(nn.Module):
    """Computes in bfloat16, but for its last layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm, self.conv2 = nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.Conv2d(16, 24, 3)
        self.fc = nn.Linear(24, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = self.conv2(torch.relu(self.norm(self.conv1(x)))).mean((2, 3))
            with torch.autocast("cpu", enabled=False):
                answer: torch.Tensor = self.fc(found.float())
        return answer
