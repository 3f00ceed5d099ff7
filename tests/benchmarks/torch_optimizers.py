"""Training that goes on after a change: with what the optimizer remembers, and with a fresh optimizer.

`python -m tests.benchmarks.torch_optimizers` trains a small convolutional network on digits (scikit-learn), makes it
narrower or wider in the middle, and goes on in both ways from the very same weights and with the very same batches. The
table has the loss on held-back pictures before the change, right behind it, and after so many further steps: the mean
over several seeds.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

from solver_nas import plan_change
from solver_nas.torch import trace

_STEPS_BEFORE, _BATCH = 150, 64
_SHOWN = (0, 5, 10, 20, 50, 100)  # steps behind the change
_CHANGES = {"narrower (32 -> 20, 64 -> 40)": (-12, -24), "wider (32 -> 44, 64 -> 88)": (12, 24)}
_OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "SGD with momentum": lambda parameters: torch.optim.SGD(parameters, 0.05, momentum=0.9),
    "Adam": lambda parameters: torch.optim.Adam(parameters, 2e-3),
    "AdamW": lambda parameters: torch.optim.AdamW(parameters, 2e-3),
    "Adafactor": lambda parameters: torch.optim.Adafactor(parameters, 2e-2),
}

Batches = list[tuple[torch.Tensor, torch.Tensor]]


def main() -> None:
    """Print the table."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seeds", type=int, default=5)
    seeds = arguments.parse_args().seeds
    torch.set_num_threads(1)
    print("| change | optimizer | memory | before | " + " | ".join(f"step {step}" for step in _SHOWN) + " |")
    print("|---|---|---|---|" + "---|" * len(_SHOWN))
    for change, deltas in _CHANGES.items():
        for name, make in _OPTIMIZERS.items():
            rows = np.mean([_curves(make, deltas, seed) for seed in range(seeds)], axis=0)
            for memory, row in zip(("carried", "fresh"), rows, strict=True):
                print(f"| {change} | {name} | {memory} | " + " | ".join(f"{loss:.4f}" for loss in row) + " |")


def _curves(make: Callable[[Any], torch.optim.Optimizer], deltas: tuple[int, int], seed: int) -> list[list[float]]:
    """Losses before the change and behind it, with what the optimizer remembers and without."""
    torch.manual_seed(seed)
    batches, held = _data(seed)
    net: Any = nn.Sequential(
        *(nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.AdaptiveAvgPool2d(1)),
        *(nn.Flatten(), nn.Linear(64, 10)),
    )
    optimizer = make(net.parameters())
    _train(net, optimizer, batches[:_STEPS_BEFORE])
    before = _loss(net, held)
    model = trace(net, held[0][:2])
    plan_change({model["0"]: deltas[0], model["4"]: deltas[1]}, seed=seed).apply(optimizer=optimizer)
    twin = copy.deepcopy(net)
    found = []
    for one, its in ((net, optimizer), (twin, make(twin.parameters()))):
        losses, done = [before], 0
        for step in _SHOWN:
            _train(one, its, batches[_STEPS_BEFORE + done : _STEPS_BEFORE + step])
            losses.append(_loss(one, held))
            done = step
        found.append(losses)
    return found


def _data(seed: int) -> tuple[Batches, tuple[torch.Tensor, torch.Tensor]]:
    """Batches to train with, in a random order, and pictures that are held back."""
    digits: Any = load_digits()
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(digits.target))
    pictures = torch.tensor(digits.images[order, None] / 16.0, dtype=torch.float32)
    target = torch.tensor(digits.target[order])
    held, rest = len(order) // 4, np.arange(len(order) // 4, len(order))
    batches = []
    for _ in range(_STEPS_BEFORE + _SHOWN[-1]):
        picked = torch.tensor(rng.choice(rest, _BATCH, replace=False))
        batches.append((pictures[picked], target[picked]))
    return batches, (pictures[:held], target[:held])


def _train(net: nn.Module, optimizer: torch.optim.Optimizer, batches: Batches) -> None:
    net.train()
    for pictures, target in batches:
        optimizer.zero_grad()
        loss: Any = nn.functional.cross_entropy(net(pictures), target)
        loss.backward()
        optimizer.step()


@torch.no_grad()
def _loss(net: nn.Module, held: tuple[torch.Tensor, torch.Tensor]) -> float:
    net.eval()
    return float(nn.functional.cross_entropy(net(held[0]), held[1]))


if __name__ == "__main__":
    main()
