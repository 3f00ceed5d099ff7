"""Random mutations: valid networks, equal seeds, refusals that leave no trace."""

import copy
from collections import Counter

import numpy as np
import pytest

from solver_nas import Network, nn
from solver_nas.errors import RequestError
from solver_nas.mutation import (
    Activation,
    AddEdge,
    Every,
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
from tests.benchmarks.mutations import (
    LARGEST,
    SMALLEST,
    WIDEST,
    bits,
    check,
    convolutional,
    operators,
    recurrent,
    stress,
)

BATCHES = {
    convolutional: np.random.default_rng(0).normal(size=(2, 2, 6, 6)),
    recurrent: np.random.default_rng(0).normal(size=(2, 5, 3)),
}
ALONE: list[Mutation] = [
    Widen(),
    Narrow(),
    InsertLayer(),
    RemoveLayer(),
    AddEdge(),
    AddEdge(entry="plain"),
    RemoveEdge(),
    KernelSize(),
    Activation(),
]
each_alone = pytest.mark.parametrize(
    "mutation", ALONE, ids=[f"{type(mutation).__name__} {place}" for place, mutation in enumerate(ALONE)]
)


@pytest.mark.parametrize("seed", [0, 1])
def test_many_mutations_leave_networks_that_work(seed: int) -> None:
    tally = stress(seed, 250)
    assert tally.failures == []
    # Every operator that fits the network has been made.
    expected = {"Widen", "Narrow", "InsertLayer", "RemoveLayer", "AddEdge", "RemoveEdge", "Activation"}
    assert set(tally.done) >= expected | ({"KernelSize"} if seed == 0 else set())


@each_alone
@pytest.mark.parametrize("build", [convolutional, recurrent], ids=lambda build: build.__name__)
def test_every_operator_alone(mutation: Mutation, build: type[Network]) -> None:
    batch = BATCHES[build]
    for seed in range(6):
        net: Network = build(seed)  # type: ignore[call-arg]  # a function of that signature
        shape, before = net(batch).shape, bits(net)
        report = mutate(net, mutation, seed=seed)
        check(net, batch, shape)
        assert bool(report) == (bits(net) != before)
        assert {step.operator for step in report.steps} <= {type(mutation).__name__}
        if report:
            net.undo()
            assert bits(net) == before


@each_alone
def test_equal_seeds_give_equal_networks(mutation: Mutation) -> None:
    for seed in range(3):
        one, other = convolutional(3), convolutional(3)
        assert str(mutate(one, mutation, seed=seed)) == str(mutate(other, mutation, seed=seed))
        assert bits(one) == bits(other)
    assert len({str(mutate(convolutional(3), OneOf(*ALONE), seed=seed)) for seed in range(20)}) > 5


def test_insertions_and_zero_edges_change_no_function() -> None:
    batch = BATCHES[convolutional]
    for seed in range(8):
        net = convolutional(seed)
        before = net(batch)
        report = mutate(net, Every(InsertLayer(), AddEdge(), InsertLayer()), seed=seed)
        assert report
        np.testing.assert_allclose(net(batch), before, rtol=1e-9, atol=1e-12)


def test_probabilities_are_kept() -> None:
    counts: Counter[str] = Counter()
    rounds = 300
    mutation = Every(Activation(probability=0.2), OneOf(KernelSize(probability=0.1), Activation(probability=0.3)))
    for seed in range(rounds):
        for step in mutate(convolutional(0), mutation, seed=seed).steps:
            counts[step.operator] += 1
    # Four standard deviations.
    assert abs(counts["KernelSize"] / rounds - 0.25) < 4 * np.sqrt(0.25 * 0.75 / rounds)
    assert abs(counts["Activation"] / rounds - 0.95) < 4 * np.sqrt((0.2 * 0.8 + 0.75 * 0.25) / rounds)


def test_what_never_happens_and_what_has_no_place() -> None:
    net = convolutional(0)
    before = bits(net)
    assert str(mutate(net, Every(Widen(probability=0.0)), seed=0)) == "nothing was tried"
    assert not mutate(net, OneOf(Widen(probability=0.0)), seed=0)
    assert not mutate(net, InsertLayer(largest=3), seed=0)
    assert not mutate(net, RemoveLayer(smallest=50), seed=0)
    assert not mutate(net, Activation(choices=("tanh",)), seed=2) or bits(net) != before
    small = Network()
    small.output(nn.dense(small.input("in", 2), 2, name="out"))
    for mutation in ALONE[1:]:
        if not isinstance(mutation, InsertLayer):
            assert not mutate(small, mutation, seed=0)


def test_refusals_say_why_and_leave_no_trace() -> None:
    net = Network()
    x = net.input("in", 3)
    net.output(nn.add([nn.dense(x, 3, name="a"), x], name="out"))
    before = bits(net)
    report = mutate(net, Widen(), seed=0)
    assert not report
    assert bits(net) == before
    assert "a: " in str(report)
    assert "refused, nout(a): 3 -> " in str(report) or "is impossible" in str(report)
    assert report.counts == {"Widen": (0, 1)}


def test_outputs_keep_their_sizes() -> None:
    net = Network()
    x = nn.dense(net.input("in", 3), 4, name="a")
    net.output(nn.add([x, nn.dense(x, 4, name="b")], name="out"))
    for seed in range(10):
        mutate(net, OneOf(Widen(), Narrow()), seed=seed)
        assert net["out"].nout == 4


def test_limits_are_kept() -> None:
    net = convolutional(1)
    for seed in range(60):
        mutate(net, operators(), seed=seed)
        assert SMALLEST <= len(net) <= LARGEST + 3
        assert max(v.nout for v in net.vertices if v.kind in ("dense", "conv")) <= 3 * WIDEST


def test_an_interrupt_takes_all_steps_back() -> None:
    net = convolutional(0)
    before = bits(net)
    calls = []

    def interrupting(x: nn.NetworkVertex, rng: np.random.Generator) -> tuple[str, object]:  # noqa: ARG001 - a factory
        calls.append(x.name)
        raise KeyboardInterrupt

    mutation = Every(Widen(), Activation(), InsertLayer(layer=interrupting))  # type: ignore[arg-type]  # never returns
    with pytest.raises(KeyboardInterrupt):
        mutate(net, mutation, seed=0)
    assert calls
    assert bits(net) == before


def test_copies_are_untouched() -> None:
    net = recurrent(0)
    twin = copy.deepcopy(net)
    before = bits(twin)
    mutate(net, Every(Widen(), InsertLayer(), RemoveLayer()), seed=4)
    assert bits(twin) == before


def test_compositions_are_values() -> None:
    assert Every(Widen(), Narrow()) == Every(Widen(), Narrow())
    assert Every(Widen()) != Every(Narrow())
    assert OneOf(Widen(most=2)) != OneOf(Widen(most=3))
    assert repr(OneOf(Activation(), probability=0.5)).startswith("OneOf(probability=0.5, mutations=(Activation(")


def test_bad_arguments() -> None:
    with pytest.raises(RequestError, match=r"Widen: a probability lies between 0 and 1, got 2"):
        Widen(probability=2)
    with pytest.raises(RequestError, match="a composition takes mutations"):
        Every()
    with pytest.raises(RequestError, match="a composition takes mutations"):
        OneOf(Widen)  # type: ignore[arg-type]  # what is tested
    with pytest.raises(RequestError, match=r"expected a mutation such as Widen\(\)"):
        mutate(convolutional(0), "widen", seed=0)  # type: ignore[arg-type]  # what is tested
    with pytest.raises(RequestError, match="choices are some of identity, relu"):
        Activation(choices=("sine",))
