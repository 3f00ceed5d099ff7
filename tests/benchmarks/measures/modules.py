"""What a benchmark needs of a real PyTorch module: its weights, data, and the number that tells whether it works.

How good the originals are: `python -m tests.benchmarks.measures.modules`.
"""

from __future__ import annotations

import argparse
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

#: Rows of every batch, here and in `score`: modules that were captured may take no other number.
ROWS = 8


@dataclass(frozen=True)
class RealModule:
    """A module that somebody uses.

    Attributes:
        name: short, unique.
        build: makes the module as it was published, in evaluation mode, a new object with every call.
        example: makes usual inputs, by position and by name: what `solver_nas.torch.trace` takes behind the module.
        samples: makes batches to calibrate with, none of them used by `score`: a tensor, or tensors by name, of the
            shapes of the example inputs.
        score: measures a module that is called like the original, as it is: in the mode that it is in, with batches
            of the example's shapes, on the CPU, with one thread and without gradients. Higher is better.
        measure: what `score` measures.
        expected: the score of the original.
    """

    name: str
    build: Callable[[], nn.Module]
    example: Callable[[], tuple[tuple[Any, ...], dict[str, Any]]]
    samples: Callable[[], list[Any]]
    score: Callable[[nn.Module], float]
    measure: str
    expected: float


def real_modules() -> tuple[RealModule, ...]:
    """All modules; nothing is loaded, made or looked for until a module is asked for it."""
    # They import what is defined here.
    from tests.benchmarks.measures import crepe, efficientnet, minilm

    return tuple(module for family in (minilm, efficientnet, crepe) for module in family.modules())


def batched(rows: Tensor) -> list[Tensor]:
    """The rows in batches of `ROWS`.

    Raises:
        ValueError: some rows would be left over.
    """
    if len(rows) % ROWS:
        raise ValueError(f"batches are of {ROWS} rows, of which {len(rows)} is no multiple")
    return [rows[at : at + ROWS] for at in range(0, len(rows), ROWS)]


@contextmanager
def measuring() -> Iterator[None]:
    """While it lasts, PyTorch uses one thread and keeps no gradients: neighbours and memory do not matter."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.no_grad():
            yield
    finally:
        torch.set_num_threads(threads)


def main() -> None:
    """Print a line per module."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("names", nargs="*", help="modules, by a part of their names; all if there is none")
    names = parser.parse_args().names
    print(f"{'name':<20} {'measure':<46} {'expected':>8} {'score':>8} {'seconds':>8}")
    for real in real_modules():
        if names and not any(part in real.name for part in names):
            continue
        module = real.build()
        real.score(module)  # makes the data
        start = time.perf_counter()
        score = real.score(module)
        seconds = time.perf_counter() - start
        print(f"{real.name:<20} {real.measure:<46} {real.expected:>8.3f} {score:>8.4f} {seconds:>8.2f}", flush=True)


if __name__ == "__main__":
    main()
