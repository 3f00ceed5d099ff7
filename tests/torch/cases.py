"""A model that judges the PyTorch front end, its inputs, and what the front end must make of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from math import sqrt
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

Inputs = Callable[[], tuple[Any, ...]]
BATCH = 2


class Expectation(Enum):
    """What the front end must make of a model."""

    WORKS = "must be prunable"
    PINNED = "may be pinned, with a reason"
    REFUSED = "trace must refuse it, or guard it, with a clear error"


@dataclass(frozen=True, slots=True)
class Case:
    """One model.

    Attributes:
        name: unique; valid as a part of a test's name.
        build: a new module each time, always with the same random weights. Nothing in it is 0 or 1 throughout,
            and it is in eval mode unless its note says otherwise.
        inputs: new example inputs each time, always the same, with a batch of two.
        kwargs: the same for arguments given by name.
        expectation: what must come out.
        note: why not `WORKS`, or what bites.
    """

    name: str
    build: Callable[[], nn.Module]
    inputs: Inputs
    expectation: Expectation = Expectation.WORKS
    note: str = ""
    kwargs: Callable[[], Mapping[str, Any]] = dict


def case(
    name: str,
    make: Callable[[], nn.Module],
    inputs: Inputs,
    *,
    finish: Callable[[nn.Module], object] = lambda module: module,
    expectation: Expectation = Expectation.WORKS,
    note: str = "",
    kwargs: Callable[[], Mapping[str, Any]] = dict,
) -> Case:
    """A case whose weights are replaced by random ones.

    Args:
        make: the module with whatever weights it is born with.
        finish: is called on the module with its final weights, for instance to freeze some of them.
    """

    def build() -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            module = make().eval()
            randomise(module)
            calibrate(module, inputs(), kwargs())
            finish(module)
        return module

    return Case(name, build, inputs, expectation, note, kwargs)


@torch.no_grad()
def randomise(module: nn.Module) -> None:
    """Random values for all parameters, at a scale that keeps activations near 1."""
    for name, parameter in module.named_parameters():
        match parameter.dim():
            case 0 | 1 if "bias" not in name:
                parameter.uniform_(0.5, 1.5)
            case 0 | 1:
                parameter.normal_(std=0.2)
            case _ if parameter.shape[0] == 1:  # positions and class tokens
                parameter.normal_(std=0.5)
            case dims:
                gain = sqrt(2) if dims == 4 else 1.0  # what follows a convolution is ReLU more often than not
                parameter.normal_(std=gain / sqrt(parameter[0].numel()))


@torch.no_grad()
def calibrate(module: nn.Module, inputs: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Running statistics near those of the inputs, so that deep networks neither explode nor fade."""
    norms = [each for each in module.modules() if isinstance(each, _BatchNorm) and each.track_running_stats]
    # Layer by layer: what a layer is made for has passed through the final statistics of those before it.
    hooks = [norm.register_forward_pre_hook(_take_statistics) for norm in norms]
    if hooks:
        module(*inputs, **kwargs)
    for hook in hooks:
        hook.remove()


def _take_statistics(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    assert isinstance(norm, _BatchNorm)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    (x,) = inputs
    variance, mean = torch.var_mean(x, [dim for dim in range(x.dim()) if dim != 1], correction=0)
    # What happens to be almost constant in the example must not be blown up, and rounding errors with it.
    variance = (variance + 0.1 * (variance + mean**2).mean()) * torch.empty_like(variance).uniform_(0.7, 1.3)
    norm.running_var.copy_(variance)
    norm.running_mean.copy_(mean + 0.1 * variance.sqrt() * torch.randn_like(mean))


def normal(*shapes: tuple[int, ...]) -> Inputs:
    """One normally distributed tensor per shape; the shapes are without the batch."""

    def make() -> tuple[Tensor, ...]:
        generator = torch.Generator().manual_seed(1)
        return tuple(torch.randn(BATCH, *shape, generator=generator) for shape in shapes)

    return make


def images(size: int, channels: int = 3) -> Inputs:
    """Square pictures."""
    return normal((channels, size, size))


def tokens(length: int, vocabulary: int) -> Inputs:
    """Token numbers."""

    def make() -> tuple[Tensor, ...]:
        generator = torch.Generator().manual_seed(1)
        return (torch.randint(vocabulary, (BATCH, length), generator=generator),)

    return make
