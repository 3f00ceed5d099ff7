"""Utilities say what they claim to say, compared with slow computations from the network itself."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from solver_nas import nn
from solver_nas.api import delta_nout
from solver_nas.errors import UtilityError
from solver_nas.nn.forward import evaluate

SEEDS = st.integers(0, 10_000)


def chain(seed: int, width: int = 6, outputs: int = 3) -> tuple[nn.Network, Any]:
    net = nn.Network(seed=seed)
    hidden = nn.dense(net.input("in", 4), width, activation="relu", name="hidden")
    net.output(nn.dense(hidden, outputs, name="out"))
    net["hidden"].op.bias = np.random.default_rng(seed).normal(size=width)
    x = np.random.default_rng(seed + 1).normal(size=(30, 4))
    nn.calibrate(net, x, held_back=0)
    return net, x


def without(net: nn.Network, x: Any, gone: list[int], reader: str = "out", vertex: str = "hidden") -> Any:
    """What the reader computes when some neurons of the vertex are zero."""
    values = net.activations(x)
    masked = values[vertex].copy()
    masked[:, gone] = 0.0
    return masked @ net[reader].op.weight.T


def change(net: nn.Network, x: Any, gone: list[int], vertex: str = "hidden") -> float:
    """The mean square of the change of the reader's input, as a fraction of what it reads."""
    whole = without(net, x, [], vertex=vertex)
    return float(((without(net, x, gone, vertex=vertex) - whole) ** 2).sum() / (whole**2).sum())


def greedy(net: nn.Network, x: Any, width: int) -> list[tuple[int, float]]:
    """By definition: which neuron goes next, and the change once it has gone."""
    gone: list[int] = []
    steps = []
    while len(gone) < width:
        best = min((j for j in range(width) if j not in gone), key=lambda j: change(net, x, [*gone, j]))
        gone.append(best)
        steps.append((best, change(net, x, gone)))
    return steps


@given(seed=SEEDS)
def test_contribution_is_greedy_elimination_on_the_network_itself(seed: int) -> None:
    net, x = chain(seed)
    utility = np.asarray(nn.contribution(net["hidden"]))
    steps = greedy(net, x, 6)
    increases = np.diff([0.0, *(cost for _, cost in steps)])
    expected = np.maximum.accumulate(increases)
    # Ties in the least change (dead neurons) may be broken either way; the sorted values are the same.
    np.testing.assert_allclose(np.sort(utility), expected, rtol=1e-6, atol=1e-12)
    for neuron, value in zip((neuron for neuron, _ in steps), expected, strict=True):
        if value > 1e-9:
            assert utility[neuron] == pytest.approx(value, rel=1e-6)


def test_the_order_of_elimination_is_kept_in_the_utilities() -> None:
    net, x = chain(3)
    utility = np.asarray(nn.contribution(net["hidden"]))
    alive = [neuron for neuron, cost in greedy(net, x, 6) if cost > 1e-9]
    assert len(alive) > 3
    assert [neuron for neuron in np.argsort(utility).tolist() if neuron in alive] == alive
    assert len(set(utility[alive])) == len(alive)


def test_two_neurons_that_cancel_are_only_cheap_together() -> None:
    net = nn.Network()
    hidden = nn.dense(net.input("in", 1), 3, name="hidden")
    net.output(nn.dense(hidden, 1, name="out"))
    net["hidden"].op.weight = [[1.0], [1.0], [1.0]]
    net["out"].op.weight = [[5.0, -5.0, 2.0]]
    nn.calibrate(net, np.ones((4, 1)), held_back=0)
    # Of 4 in all, 2 takes 4, then 1 takes 25 - 20 more, and 0 would bring 5 back: it goes a hair above.
    utility = np.asarray(nn.contribution(net["hidden"]))
    np.testing.assert_allclose(utility, [5 / 4, 5 / 4, 1], rtol=1e-9)
    assert utility[0] > utility[1]
    alone = np.asarray(nn.activation_times_outgoing(net["hidden"]))
    np.testing.assert_allclose(alone, [5, 5, 2])


@given(seed=SEEDS)
def test_activation_times_outgoing_is_rms_times_norm(seed: int) -> None:
    net, x = chain(seed)
    activations = net.activations(x)["hidden"]
    expected = np.sqrt((activations**2).mean(axis=0)) * np.linalg.norm(net["out"].op.weight, axis=0)
    np.testing.assert_allclose(nn.activation_times_outgoing(net["hidden"]), expected)


@given(seed=SEEDS)
def test_magnitude_is_the_norm_of_incoming_weights_and_the_bias(seed: int) -> None:
    net, _ = chain(seed)
    weight, bias = net["hidden"].op.weight, net["hidden"].op.bias
    np.testing.assert_allclose(nn.magnitude(net["hidden"]), np.linalg.norm(weight, axis=1) + np.abs(bias))


@pytest.mark.parametrize("utility", [nn.magnitude, nn.activation_times_outgoing, nn.contribution, nn.default_utility])
def test_a_vertex_without_own_neurons_is_worth_nothing(utility: Any) -> None:
    net = nn.Network()
    x = net.input("in", 3)
    both = nn.concat([nn.dense(x, 2, name="a"), nn.relu(x, name="b")], name="both")
    net.output(nn.dense(both, 2, name="out"))
    nn.calibrate(net, np.ones((2, 3)), held_back=0)
    assert utility(x) == 0.0
    assert utility(net["b"]) == 0.0
    assert utility(both) == 0.0
    assert np.shape(utility(net["a"])) == (2,)


def test_readers_behind_concatenation_and_activation_are_found() -> None:
    net = nn.Network(seed=2)
    x = net.input("in", 3)
    a, b = nn.dense(x, 2, name="a"), nn.dense(x, 3, name="b")
    joined = nn.relu(nn.concat([a, b], name="joined"), name="seen")
    net.output(nn.dense(joined, 2, name="out"))
    data = np.random.default_rng(0).normal(size=(20, 3))
    nn.calibrate(net, data, held_back=0)
    seen, weight = net.activations(data)["seen"], net["out"].op.weight
    expected = np.sqrt((seen**2).mean(axis=0)) * np.linalg.norm(weight, axis=0)
    np.testing.assert_allclose(nn.activation_times_outgoing(a), expected[:2])
    np.testing.assert_allclose(nn.activation_times_outgoing(b), expected[2:])
    # The least of all utilities is what removing that neuron alone changes.
    alone = [change(net, data, [j], "seen") for j in range(5)]
    assert min(np.asarray(nn.contribution(a))) == pytest.approx(min(alone[:2]))
    assert min(np.asarray(nn.contribution(b))) == pytest.approx(min(alone[2:]))


def test_a_neuron_made_by_both_sides_of_an_addition_is_shared() -> None:
    net = nn.Network(seed=1)
    x = net.input("in", 3)
    a, b = nn.dense(x, 4, name="a"), nn.dense(x, 4, name="b")
    total = nn.add([a, b], name="total")
    net.output(nn.dense(total, 2, name="out"))
    data = np.random.default_rng(0).normal(size=(20, 3))
    nn.calibrate(net, data, held_back=0)
    left, right = np.asarray(nn.contribution(a)), np.asarray(nn.contribution(b))
    np.testing.assert_allclose(left, right)
    whole = without(net, data, [], vertex="total")
    alone = [((without(net, data, [j], vertex="total") - whole) ** 2).sum() / (whole**2).sum() for j in range(4)]
    assert min(left + right) == pytest.approx(min(alone))


def test_a_neuron_read_twice_is_worth_both() -> None:
    net = nn.Network(seed=1)
    hidden = nn.dense(net.input("in", 3), 4, activation="tanh", name="hidden")
    net.output(nn.dense(hidden, 2, name="one"), nn.dense(hidden, 5, name="two"))
    data = np.random.default_rng(0).normal(size=(20, 3))
    nn.calibrate(net, data, held_back=0)
    weights = np.concatenate([net["one"].op.weight, net["two"].op.weight])
    rms = np.sqrt((net.activations(data)["hidden"] ** 2).mean(axis=0))
    np.testing.assert_allclose(nn.activation_times_outgoing(hidden), rms * np.linalg.norm(weights, axis=0))
    alone = []
    for j in range(4):
        parts = [
            ((without(net, data, [j], reader) - without(net, data, [], reader)) ** 2).sum()
            / (without(net, data, [], reader) ** 2).sum()
            for reader in ("one", "two")
        ]
        alone.append(sum(parts))
    assert min(np.asarray(nn.contribution(hidden))) == pytest.approx(min(alone))


def test_an_output_counts_as_read_with_weight_one() -> None:
    net, x = chain(5)
    values = net.activations(x)["out"]
    power = (values**2).mean(axis=0)
    np.testing.assert_allclose(nn.activation_times_outgoing(net["out"]), np.sqrt(power))
    np.testing.assert_allclose(nn.contribution(net["out"]), power / power.sum())


def test_a_neuron_that_no_parameter_reads_counts_as_read_with_weight_one() -> None:
    net = nn.Network()
    x = net.input("in", 3)
    factor = nn.dense(x, 4, name="factor")
    net.output(nn.immutable(lambda a: a.sum(axis=1, keepdims=True), factor, size=1, name="opaque"))
    data = np.random.default_rng(0).normal(size=(20, 3))
    nn.calibrate(net, data, held_back=0)
    rms = np.sqrt((net.activations(data)["factor"] ** 2).mean(axis=0))
    np.testing.assert_allclose(nn.activation_times_outgoing(factor), rms)


def test_a_dead_neuron_is_worth_nothing() -> None:
    net, x = chain(0)
    net["hidden"].op.bias = [-100.0, 1, 1, 1, 1, 1]
    nn.calibrate(net, x, held_back=0)
    utility = np.asarray(nn.contribution(net["hidden"]))
    assert utility[0] == 0.0
    assert (utility[1:] > 0).all()


def test_without_pairs_only_the_diagonal_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    net, x = chain(7)
    monkeypatch.setattr("solver_nas.observe.GRAM_LIMIT", 5)
    nn.calibrate(net, x, held_back=0)
    statistics = nn.observed(net["hidden"]).statistics
    assert statistics is not None
    assert statistics.gram is None
    alone = np.asarray(nn.activation_times_outgoing(net["hidden"])) ** 2
    np.testing.assert_allclose(nn.contribution(net["hidden"]), alone / alone.sum(), rtol=1e-6)


def test_statistics_follow_a_change_and_utilities_with_them() -> None:
    net, x = chain(11)
    delta_nout(net["hidden"], -2)
    followed = np.asarray(nn.contribution(net["hidden"]))
    nn.calibrate(net, x, held_back=0)
    np.testing.assert_allclose(followed, nn.contribution(net["hidden"]), rtol=1e-9)


def test_a_new_neuron_is_worth_nothing_yet() -> None:
    net, _ = chain(11)
    delta_nout(net["hidden"], 1)
    utility = np.asarray(nn.contribution(net["hidden"]))
    assert utility.shape == (7,)
    assert utility[-1] == 0.0


def test_the_default_is_the_metric_then_contribution_then_magnitude() -> None:
    net = nn.Network(seed=1)
    hidden = nn.dense(net.input("in", 3), 4, activation="relu", name="hidden")
    net.output(nn.dense(hidden, 2, name="out"))
    x, y = np.random.default_rng(0).normal(size=(9, 3)), np.ones((9, 2))
    np.testing.assert_array_equal(nn.default_utility(hidden), nn.magnitude(hidden))
    nn.calibrate(net, x, held_back=0)
    np.testing.assert_array_equal(nn.default_utility(hidden), nn.contribution(hidden))
    nn.ActivationContribution(hidden)
    np.testing.assert_array_equal(nn.default_utility(hidden), nn.contribution(hidden))
    nn.fit(net, x, y, steps=2)
    metric = nn.observed(hidden).metric
    np.testing.assert_array_equal(nn.default_utility(hidden), metric)
    np.testing.assert_array_equal(net.default_utility(hidden), metric)


@pytest.mark.parametrize("utility", [nn.contribution, nn.activation_times_outgoing])
def test_what_was_not_recorded_is_asked_for(utility: Any) -> None:
    net = nn.Network()
    net.output(nn.dense(nn.dense(net.input("in", 3), 4, name="hidden"), 2))
    with pytest.raises(UtilityError, match=r"'hidden': .* call calibrate\(model, batches\) first"):
        utility(net["hidden"])


def test_pinned_neurons_are_told_apart() -> None:
    net = nn.Network(seed=4)
    made = nn.dense(net.input("in", 3), 4, name="made")
    net.output(nn.immutable(lambda a: a, made, size=4, name="opaque"), nn.dense(made, 2, name="out"))
    x = np.random.default_rng(0).normal(size=(9, 3))
    nn.calibrate(net, x, held_back=0)
    rms = np.sqrt((net.activations(x)["made"] ** 2).mean(axis=0))
    expected = rms * np.linalg.norm(net["out"].op.weight, axis=0)
    np.testing.assert_allclose(nn.activation_times_outgoing(made), expected)


def alone(net: nn.Network, x: Any, vertex: str, axis: int, readers: list[str], gone: list[int]) -> float:
    """The fraction of what linear readers read that goes with some neurons, by running without them."""
    values = net.activations(x)
    index = tuple(gone if place == axis else slice(None) for place in range(values[vertex].ndim))
    probe = np.zeros_like(values[vertex])
    probe[index] = -values[vertex][index]
    masked = evaluate(net.graph, net.arrays, {"in": x}, np.random.default_rng(0), probes={vertex: probe})
    zero = evaluate(net.graph, net.arrays, {"in": x}, np.random.default_rng(0), probes={vertex: -values[vertex]})
    return float(
        sum(
            ((masked[reader] - values[reader]) ** 2).sum() / ((values[reader] - zero[reader]) ** 2).sum()
            for reader in readers
        )
    )


def brute(cost: Callable[[list[int]], float], width: int) -> list[float]:
    """The running maximum of the increases in the greedy order."""
    gone: list[int] = []
    costs = [0.0]
    while len(gone) < width:
        best = min((cost([*gone, j]), j) for j in range(width) if j not in gone)
        gone.append(best[1])
        costs.append(best[0])
    return list(np.maximum.accumulate(np.diff(costs)))


def images(groups: int = 1) -> tuple[nn.Network, Any]:
    net = nn.Network(seed=3)
    seen = nn.conv(net.input("in", (2, 4, 4)), 6, 3, padding=1, activation="relu", name="seen")
    if groups:
        net.output(nn.conv(seen, 4, 1, groups=groups, name="out"))
    else:
        net.output(nn.dense(nn.flatten(seen), 4, name="out"))
    x = np.random.default_rng(1).normal(size=(10, 2, 4, 4))
    nn.calibrate(net, x, held_back=0)
    return net, x


@pytest.mark.parametrize("groups", [1, 0], ids=["convolution", "flattened"])
def test_channels_are_judged_by_what_their_reader_loses(groups: int) -> None:
    net, x = images(groups)
    utility = np.sort(np.asarray(nn.contribution(net["seen"])))
    expected = brute(lambda gone: alone(net, x, "seen", 1, ["out"], gone), 6)
    np.testing.assert_allclose(utility, expected, rtol=1e-6)


def test_what_is_the_same_all_over_the_image_adds_up_in_a_window() -> None:
    net = nn.Network(seed=3)
    seen = nn.conv(net.input("in", (2, 5, 5)), 6, 1, name="seen")
    net.output(nn.conv(seen, 4, 3, name="out"))
    x = np.ones((3, 2, 5, 5))
    nn.calibrate(net, x, held_back=0)
    expected = brute(lambda gone: alone(net, x, "seen", 1, ["out"], gone), 6)
    np.testing.assert_allclose(np.sort(np.asarray(nn.contribution(seen))), expected, rtol=1e-6)


def test_without_pairs_a_window_adds_up_too(monkeypatch: pytest.MonkeyPatch) -> None:
    net = nn.Network(seed=3)
    seen = nn.conv(net.input("in", (2, 5, 5)), 6, 1, name="seen")
    net.output(nn.conv(seen, 4, 3, name="out"))
    x = np.ones((3, 2, 5, 5))
    monkeypatch.setattr("solver_nas.observe.GRAM_LIMIT", 5)
    nn.calibrate(net, x, held_back=0)
    single = np.array([alone(net, x, "seen", 1, ["out"], [j]) for j in range(6)])
    np.testing.assert_allclose(nn.contribution(seen), single / single.sum(), rtol=1e-6)


def test_noise_does_not_add_up_in_a_window() -> None:
    net = nn.Network(seed=3)
    seen = nn.conv(net.input("in", (2, 40, 40)), 3, 1, bias=False, name="seen")
    net.output(nn.conv(seen, 4, 3, name="out"))
    x = np.random.default_rng(0).normal(size=(20, 2, 40, 40))
    nn.calibrate(net, x, held_back=0)
    expected = brute(lambda gone: alone(net, x, "seen", 1, ["out"], gone), 3)
    np.testing.assert_allclose(np.sort(np.asarray(nn.contribution(seen))), expected, rtol=0.05)


def test_channels_of_different_groups_are_not_added_up() -> None:
    net, x = images(groups=2)
    # Every group keeps equally many, but which ones is free: utilities speak of single channels.
    utility = np.sort(np.asarray(nn.contribution(net["seen"])))
    expected = brute(lambda gone: alone(net, x, "seen", 1, ["out"], gone), 6)
    np.testing.assert_allclose(utility, expected, rtol=1e-6)


def test_a_norm_has_no_neurons_of_its_own_and_hides_none() -> None:
    net = nn.Network(seed=3)
    made = nn.conv(net.input("in", (2, 4, 4)), 5, 3, name="made")
    seen = nn.relu(nn.batch_norm(made, name="norm"), name="seen")
    net.output(nn.conv(seen, 4, 1, name="out"))
    x = np.random.default_rng(1).normal(size=(10, 2, 4, 4))
    nn.fit(net, x, np.zeros((10, 4, 2, 2)), steps=3)
    assert nn.default_utility(net["norm"]) == 0.0
    assert nn.magnitude(net["norm"]) == 0.0
    expected = brute(lambda gone: alone(net, x, "seen", 1, ["out"], gone), 5)
    np.testing.assert_allclose(np.sort(np.asarray(nn.contribution(made))), expected, rtol=1e-6)


def test_a_recurrent_layer_reads_itself() -> None:
    net = nn.Network(seed=3)
    state = nn.simple_rnn(net.input("in", (5, 2), axis=-1), 4, name="state")
    net.output(nn.dense(state, 3, name="out"))
    x = np.random.default_rng(1).normal(size=(10, 5, 2))
    nn.calibrate(net, x, held_back=0)
    rms = np.sqrt((net.activations(x)["state"] ** 2).mean(axis=(0, 1)))
    both = [array for role, array in state.parameters.items() if array.shape == (4, 4)]
    assert len(both) == 1
    columns = np.concatenate([net["out"].op.weight, both[0]])
    np.testing.assert_allclose(nn.activation_times_outgoing(state), rms * np.linalg.norm(columns, axis=0))


def test_attention_and_embedding_have_a_default_utility() -> None:
    net = nn.Network(seed=3)
    words = nn.embedding(net.tokens("words"), 11, 8, name="words_in")
    mixed = nn.attention(nn.layer_norm(words), num_heads=2, name="mixed")
    net.output(nn.dense(nn.add([words, mixed]), 3, name="out"))
    nn.calibrate(net, np.random.default_rng(0).integers(0, 11, (6, 5)), held_back=0)
    for name in ("words_in", "mixed", "out"):
        utility = np.asarray(nn.default_utility(net[name]))
        assert utility.shape == (net[name].nout,)
        assert (utility > 0).all()
