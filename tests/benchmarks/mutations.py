"""Thousands of random mutations: does every one leave a network that works, and how long does it take?

    python -m tests.benchmarks.mutations --mutations 10000 --seeds 20

Half of the seeds start from a small convolutional network with a residual connection and a concatenation, the
other half from a recurrent one. After every mutation the network computes finite outputs of the same shape, the
rules run over it from scratch, and every array has the shape that its vertex says; a mutation that was refused
must not have changed a single bit.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from solver_nas import Network, concat, nn
from solver_nas.mutation import (
    Activation,
    AddEdge,
    InsertLayer,
    KernelSize,
    Mutation,
    Narrow,
    OneOf,
    RemoveEdge,
    RemoveLayer,
    Widen,
    mutate,
)
from solver_nas.rules import label

WIDEST, LARGEST, SMALLEST = 12, 24, 8  # neurons of a layer; vertices of a network


def convolutional(seed: int) -> Network:
    """A residual connection, a concatenation, norms and a classifier."""
    net = Network(seed=seed)
    x = net.input("image", (2, 6, 6))
    stem = nn.conv(x, 4, 3, padding=1, activation="relu", name="stem")
    inner = nn.batch_norm(nn.conv(stem, 4, 3, padding=1, name="inner"), name="norm")
    added = nn.add([stem, nn.relu(inner, name="relu")], name="added")
    left = nn.conv(added, 3, 1, activation="tanh", name="left")
    right = nn.conv(added, 3, 3, padding=1, activation="relu", name="right")
    both = concat([left, right, added], name="both")
    pooled = nn.global_avg_pool(nn.max_pool(both, 2, name="pool"), name="pooled")
    hidden = nn.dense(pooled, 6, activation="relu", name="hidden")
    net.output(nn.dense(hidden, 3, name="out"))
    return net


def recurrent(seed: int) -> Network:
    """Two recurrent layers, a residual connection and a concatenation over a sequence."""
    net = Network(seed=seed)
    x = net.input("sequence", (5, 3), axis=-1)
    first = nn.gru(x, 4, name="first")
    wide = nn.dense(first, 4, activation="tanh", name="wide")
    added = nn.add([first, wide], name="added")
    second = nn.lstm(added, 3, name="second")
    both = concat([added, second], name="both")
    last = nn.simple_rnn(both, 4, return_sequences=False, name="last")
    hidden = nn.dense(last, 5, activation="relu", name="hidden")
    net.output(nn.dense(hidden, 2, name="out"))
    return net


def operators() -> Mutation:
    """All operators, in sizes that keep a network small for ever."""
    return OneOf(
        Widen(widest=WIDEST),
        Narrow(),
        InsertLayer(largest=LARGEST),
        RemoveLayer(smallest=SMALLEST),
        AddEdge(),
        RemoveEdge(),
        KernelSize(largest=5, probability=0.5),
        Activation(probability=0.5),
    )


@dataclass
class Tally:
    """What a run has come to."""

    done: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    seconds: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Sum up."""
        self.done += other.done
        self.refused += other.refused
        self.seconds += other.seconds
        self.failures += other.failures


def stress(seed: int, mutations: int) -> Tally:
    """Mutate one network again and again and check it after every mutation."""
    build = convolutional if seed % 2 == 0 else recurrent
    net, operator, tally = build(seed), operators(), Tally()
    rng = np.random.default_rng(seed)
    batch = rng.normal(size=(2, *(size or 1 for size in net.inputs[0].shape[1:])))
    shape = net(batch).shape
    for number in range(mutations):
        before = bits(net)
        start = time.perf_counter()
        try:
            report = mutate(net, operator, seed=int(rng.integers(2**31)))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is counted
            tally.failures.append(f"seed {seed}, mutation {number}: {type(error).__name__}: {error}")
            continue
        elapsed = time.perf_counter() - start
        for step in report.steps:
            (tally.done if step.done else tally.refused)[step.operator] += 1
            tally.seconds[step.operator] += elapsed / len(report.steps)  # type: ignore[assignment]  # a float tally
        try:
            check(net, batch, shape)
            if not report:
                assert bits(net) == before, "a refused mutation has changed something"
        except Exception as error:  # noqa: BLE001 - whatever it is, it is counted
            tally.failures.append(f"seed {seed}, mutation {number} ({report}): {type(error).__name__}: {error}")
    return tally


def bits(net: Network) -> tuple[object, ...]:
    """All that a network is."""
    arrays = tuple((key, array.shape, array.tobytes()) for key, array in net.arrays.items())
    return net.graph.vertices, net.graph.outputs, arrays


def check(net: Network, batch: np.ndarray, shape: tuple[int, ...]) -> None:
    """Whether the network is whole."""
    result = net(batch)
    assert result.shape == shape, f"output of shape {result.shape}"
    assert np.isfinite(result).all(), "outputs that are not finite"
    labels = label(net.graph)
    for port, tensor in labels.tensors.items():
        assert len(tensor.neurons) == net[port.vertex].nout, f"size of {port.vertex}"
    keys = set()
    for vertex in net.graph.vertices:
        for parameter in vertex.parameters.values():
            assert net.arrays[parameter.key].shape == parameter.shape, f"shape of {parameter.key}"
            keys.add(parameter.key)
    assert keys == set(net.arrays), "arrays without a vertex"


def main() -> None:
    """Run and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutations", type=int, default=1000, help="per seed")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--workers", type=int, default=1, help="processes")
    given = parser.parse_args()
    total, start = Tally(), time.perf_counter()
    with ProcessPoolExecutor(given.workers) as pool:
        for number, tally in enumerate(pool.map(partial(stress, mutations=given.mutations), range(given.seeds)), 1):
            total.add(tally)
            print(f"seed {number} of {given.seeds}: {len(tally.failures)} failures", flush=True)
    print(f"\n{'operator':<12} {'made':>8} {'refused':>8} {'ms each':>8}")
    for name in sorted(total.done | total.refused):
        tried = total.done[name] + total.refused[name]
        print(f"{name:<12} {total.done[name]:>8} {total.refused[name]:>8} {1000 * total.seconds[name] / tried:>8.1f}")
    print(f"{len(total.failures)} failures, {time.perf_counter() - start:.0f} s")
    for failure in total.failures[:20]:
        print(failure)


if __name__ == "__main__":
    main()
