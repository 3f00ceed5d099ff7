"""Training finds what it should find, is repeatable, and leaves nothing half-done."""

from collections.abc import Callable, Mapping
from typing import Any

import autograd.numpy as anp
import numpy as np
import pytest

from solver_nas import nn
from solver_nas.api import delta_nout
from solver_nas.errors import LayerError, TrainingError
from solver_nas.nn.forward import Call, evaluate, forward
from solver_nas.nn.losses import cross_entropy
from solver_nas.nn.losses import mse as nn_mse
from solver_nas.rules import Scope, rule
from solver_nas.rules.primitives import same

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 3))


def linear(seed: int = 0, **options: Any) -> nn.Network:
    net = nn.Network(seed=seed, **options)
    net.output(nn.dense(net.input("in", 3), 2, name="line"))
    return net


def deep(seed: int = 0) -> nn.Network:
    net = nn.Network(seed=seed)
    hidden = nn.dense(net.input("in", 3), 5, activation="tanh", name="hidden")
    net.output(nn.dense(hidden, 2, activation="sigmoid", name="out"))
    return net


def snapshot(net: nn.Network) -> dict[str, Any]:
    return {key: array.copy() for key, array in net.arrays.items()}


def same_arrays(net: nn.Network, arrays: Mapping[str, Any]) -> bool:
    return all(np.array_equal(array, arrays[key]) for key, array in net.arrays.items())


@pytest.mark.parametrize("optimizer", [nn.Adam(0.03), nn.SGD(0.1, momentum=0.8)], ids=["adam", "sgd"])
def test_a_linear_problem_ends_at_its_least_squares_solution(optimizer: nn.Adam | nn.SGD) -> None:
    net = linear()
    y = RNG.normal(size=(40, 2))
    losses = nn.fit(net, X, y, optimizer=optimizer, steps=800)
    best, *_ = np.linalg.lstsq(np.c_[X, np.ones(40)], y, rcond=None)
    np.testing.assert_allclose(net["line"].op.weight, best[:3].T, atol=1e-6)
    np.testing.assert_allclose(net["line"].op.bias, best[3], atol=1e-6)
    assert len(losses) == 800
    assert losses[0] > losses[-1] == pytest.approx(np.mean((net(X) - y) ** 2), abs=1e-12)


def test_the_first_loss_is_that_of_the_untrained_network_and_adams_first_step_is_the_rate() -> None:
    net = linear()
    before, expected = snapshot(net), np.mean((net(X) - 1) ** 2)
    losses = nn.fit(net, X, np.ones((40, 2)), optimizer=nn.Adam(0.01), steps=1)
    assert losses == [pytest.approx(expected)]
    for key, array in net.arrays.items():
        np.testing.assert_allclose(np.abs(array - before[key]), 0.01, rtol=1e-5)


def test_momentum_carries_the_last_gradient_on() -> None:
    sgd = nn.SGD(0.5, momentum=0.25)
    arrays = {"a": np.array([1.0])}
    for gradient, expected in [(2.0, 1 - 0.5 * 2), (4.0, 0 - 0.5 * (0.25 * 2 + 4))]:
        arrays, sgd.state = sgd.advance(arrays, {"a": np.array([gradient])})
        assert arrays["a"].tolist() == [expected]


def test_cross_entropy_takes_class_numbers_or_probabilities() -> None:
    logits, classes = RNG.normal(size=(6, 4)), RNG.integers(0, 4, 6)
    odds = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = -np.log(odds[np.arange(6), classes]).mean()
    assert cross_entropy(logits, classes) == pytest.approx(expected)
    assert cross_entropy(logits, np.eye(4)[classes]) == pytest.approx(expected)
    assert np.isfinite(cross_entropy(logits * 1e4, classes))
    with pytest.raises(LayerError, match=r"probabilities of shape \(6, 4\)"):
        cross_entropy(logits, classes.astype(float))


def test_classes_are_learnt() -> None:
    net = nn.Network()
    net.output(nn.dense(net.input("in", 3), 3, name="out"))
    y = X.argmax(axis=1)
    nn.fit(net, X, y, loss="cross_entropy", optimizer=nn.Adam(0.1), epochs=40, batch_size=7, seed=1)
    assert (net(X).argmax(axis=1) == y).mean() > 0.95


@pytest.mark.parametrize("batch_size", [None, 7])
def test_same_seed_same_bits(batch_size: int | None) -> None:
    nets = [deep(), deep(), deep()]
    y = np.ones((40, 2))
    for net, seed in zip(nets, [3, 3, 4], strict=True):
        nn.fit(net, X, y, epochs=2, batch_size=batch_size, seed=seed)
    assert same_arrays(nets[0], nets[1].arrays)
    # Only the order of batches depends on the seed.
    assert same_arrays(nets[0], nets[2].arrays) == (batch_size is None)


def test_every_sample_is_seen_once_per_epoch() -> None:
    seen: list[Any] = []
    net = linear()

    def loss(output: Any, y: Any) -> Any:
        seen.append(y[:, 0].tolist())
        return anp.mean(output**2)

    y = np.stack([np.arange(40.0), np.zeros(40)], axis=1)
    losses = nn.fit(net, X, y, loss=loss, epochs=2, batch_size=9, record=False)
    assert [len(rows) for rows in seen] == [9, 9, 9, 9, 4] * 2
    assert len(losses) == 10
    for epoch in (seen[:5], seen[5:]):
        assert sorted(row for rows in epoch for row in rows) == list(range(40))
    assert seen[:5] != seen[5:]


def test_training_goes_on_with_the_same_optimiser() -> None:
    y = np.ones((40, 2))
    one, two = deep(), deep()
    nn.fit(one, X, y, optimizer=nn.Adam(0.05), steps=10)
    adam = nn.Adam(0.05)
    nn.fit(two, X, y, optimizer=adam, steps=4)
    nn.fit(two, X, y, optimizer=adam, steps=6)
    assert same_arrays(two, one.arrays)
    assert {memory.steps for memory in adam.state.values()} == {10}


def test_the_optimiser_follows_its_neurons() -> None:
    net, adam = deep(), nn.Adam(0.05)
    y = np.ones((40, 2))
    nn.fit(net, X, y, optimizer=adam, steps=4)
    before = {key: memory.moments[0] for key, memory in adam.state.items()}
    change = delta_nout(net["hidden"], -2)
    with pytest.raises(LayerError, match=r"optimizer.follow\(change.plan\)"):
        nn.fit(net, X, y, optimizer=adam, steps=1)
    assert change.plan is not None
    adam.follow(change.plan)
    kept = change.plan.indices["hidden"]
    np.testing.assert_array_equal(adam.state["hidden.weight"].moments[0], before["hidden.weight"][kept])
    np.testing.assert_array_equal(adam.state["out.weight"].moments[0], before["out.weight"][:, kept])
    nn.fit(net, X, y, optimizer=adam, steps=1)


def test_ctrl_c_leaves_the_last_complete_step() -> None:
    y = np.ones((40, 2))
    calls = 0

    def loss(output: Any, target: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        return anp.mean((output - target) ** 2)

    net, adam, other = deep(), nn.Adam(0.05), deep()
    nn.ActivationContribution(net["hidden"])
    with pytest.raises(KeyboardInterrupt):
        nn.fit(net, X, y, loss=loss, optimizer=adam, steps=10)
    nn.fit(other, X, y, optimizer=nn.Adam(0.05), steps=3)
    assert same_arrays(net, other.arrays)
    assert {memory.steps for memory in adam.state.values()} == {3}
    contribution = nn.observed(net["hidden"]).contribution
    assert contribution is not None
    assert contribution.steps == 3


def test_a_loss_that_is_not_finite_leaves_the_network_as_before_training() -> None:
    net, sgd = deep(), nn.SGD(0.1)
    nn.ActivationContribution(net["hidden"])
    nn.fit(net, X, np.ones((40, 2)), optimizer=sgd, steps=2)
    before, seen, state = snapshot(net), dict(net.observers), sgd.state
    y = np.ones((40, 2))
    y[39] = np.nan
    with pytest.raises(TrainingError, match=r"the loss is nan in step [1-9]"):
        nn.fit(net, X, y, optimizer=sgd, epochs=1, batch_size=4, seed=2)
    assert same_arrays(net, before)
    assert net.observers == seen
    assert sgd.state is state


def test_watched_gradients_are_finite_differences() -> None:
    net = deep()
    hidden = nn.ActivationContribution(net["hidden"], smoothing=1.0)
    y = RNG.uniform(size=(4, 2))
    inputs, arrays = {"in": X[:4]}, snapshot(net)

    def loss(probe: Any) -> float:
        values = evaluate(net.graph, arrays, inputs, np.random.default_rng(0), probes={"hidden": probe})
        return float(np.mean((values["out"] - y) ** 2))

    activations = net.activations(X[:4])["hidden"]
    slope = np.zeros((4, 5))
    for at in np.ndindex(4, 5):
        probe = np.zeros((4, 5))
        probe[at] = 1e-6
        slope[at] = (loss(probe) - loss(-probe)) / 2e-6
    nn.fit(net, X[:4], y, steps=1)
    assert hidden.metric is not None
    np.testing.assert_allclose(hidden.metric, np.abs(activations * slope).mean(axis=0), rtol=1e-6)


def test_metrics_are_averaged_over_the_steps_that_are_due() -> None:
    y = np.ones((40, 2))
    single = []
    for step in range(5):
        net = deep()
        if step:
            nn.fit(net, X, y, steps=step, record=False)
        hidden = nn.ActivationContribution(net["hidden"])
        # The weights are those after `step` steps; the next step's gradient does not depend on Adam's memory.
        nn.fit(net, X, y, steps=1, record=False)
        single.append(hidden.metric)
    net = deep()
    hidden = nn.ActivationContribution(net["hidden"], smoothing=0.3, every=nn.every(2))
    nn.fit(net, X, y, steps=5, record=False)
    first, third, fifth = single[0], single[2], single[4]
    assert first is not None
    assert third is not None
    assert fifth is not None
    expected = 0.7 * (0.7 * first + 0.3 * third) + 0.3 * fifth
    assert hidden.metric is not None
    np.testing.assert_allclose(hidden.metric, expected, rtol=1e-10)


def test_watching_changes_nothing_about_training() -> None:
    plain, watched = deep(), deep()
    nn.ActivationContribution(watched["hidden"])
    nn.ActivationContribution(watched["out"], every=3)
    y = np.ones((40, 2))
    assert nn.fit(plain, X, y, epochs=2, batch_size=11) == nn.fit(watched, X, y, epochs=2, batch_size=11)
    assert same_arrays(plain, watched.arrays)


def test_training_ends_with_statistics_of_the_trained_network() -> None:
    net = deep()
    nn.fit(net, X, np.ones((40, 2)), steps=3, batch_size=16)
    values = net.activations(X)
    for name in ("hidden", "out"):
        statistics = nn.observed(net[name]).statistics
        assert statistics is not None
        assert statistics.count == 40
        np.testing.assert_allclose(statistics.mean, values[name].mean(axis=0))
        np.testing.assert_allclose(statistics.power, (values[name] ** 2).mean(axis=0))
    hidden = nn.observed(net["hidden"]).statistics
    assert hidden is not None
    assert hidden.gram is not None
    np.testing.assert_allclose(hidden.gram, values["hidden"].T @ values["hidden"] / 40)
    nn.fit(net, X, np.ones((40, 2)), steps=1, record=False)
    assert nn.observed(net["hidden"]).statistics is None


def test_calibration_depends_on_the_data_alone() -> None:
    net = deep()
    nn.calibrate(net, X, batch_size=7, held_back=0)
    small = nn.observed(net["hidden"]).statistics
    nn.calibrate(net, X, held_back=0)
    large = nn.observed(net["hidden"]).statistics
    assert small is not None
    assert large is not None
    assert small.count == large.count
    np.testing.assert_allclose(small.moments, large.moments)


def test_channels_are_watched_over_the_image() -> None:
    net = nn.Network()
    image = net.input("image", (2, 3, 3))
    seen = nn.relu(image, name="seen")
    nn.ActivationContribution(seen, smoothing=1.0)
    x = RNG.normal(size=(4, 2, 3, 3))
    nn.fit(net, x, np.zeros((4, 2, 3, 3)), steps=1)
    positive = np.maximum(x, 0)
    expected = np.abs(positive * 2 * positive / positive.size).mean(axis=(0, 2, 3))
    metric = nn.observed(net["seen"]).metric
    assert metric is not None
    np.testing.assert_allclose(metric, expected)


@forward("test.tracker")
def _tracker(call: Call) -> Any:
    if call.training:
        call.update("mean", 0.5 * call.parameters["mean"] + 0.5 * call.x.mean(axis=0))
        return call.x + call.rng.normal(size=call.x.shape)
    return call.x - call.parameters["mean"]


@rule("test.tracker")
def _tracker_flow(scope: Scope) -> Any:
    from solver_nas.rules.contract import elementwise

    return elementwise(scope, same(scope, scope.inputs[0]), scope.weight("mean"))


def tracker() -> nn.Network:
    net = nn.Network()
    line = nn.dense(net.input("in", 3), 2, name="line")
    net.output(net.add("test.tracker", "norm", (line,), {}, {"mean": np.zeros(2)}))
    return net


def test_running_statistics_are_updated_and_not_trained() -> None:
    net, adam = tracker(), nn.Adam(0.1)
    before = net.activations(X)["line"]
    nn.fit(net, X, np.ones((40, 2)), optimizer=adam, steps=1)
    np.testing.assert_allclose(net.arrays["norm.mean"], 0.5 * before.mean(axis=0))
    assert type(net.arrays["norm.mean"]) is np.ndarray
    assert set(adam.state) == {"line.weight", "line.bias"}


def test_noise_in_training_comes_from_the_seed() -> None:
    one, two, three = tracker(), tracker(), tracker()
    y = np.ones((40, 2))
    assert nn.fit(one, X, y, steps=3, seed=1) == nn.fit(two, X, y, steps=3, seed=1)
    assert nn.fit(three, X, y, steps=3, seed=2) != nn.fit(tracker(), X, y, steps=3, seed=1)
    assert same_arrays(one, two.arrays)


def test_precision_is_that_of_the_network() -> None:
    net = linear(dtype=np.float32)

    def loss(output: Any, target: Any) -> Any:
        assert output.dtype == np.float32
        return nn_mse(output, target)

    nn.fit(net, X, np.ones((40, 2), int), loss=loss, optimizer=nn.SGD(0.1), steps=2)
    assert {array.dtype for array in net.arrays.values()} == {np.dtype(np.float32)}


def test_several_inputs_and_outputs() -> None:
    net = nn.Network()
    a, b = net.input("a", 2), net.input("b", 2)
    total = nn.dense(nn.add([a, b]), 1, name="total")
    net.output(total, nn.dense(a, 1, name="first"))
    x = (RNG.normal(size=(30, 2)), RNG.normal(size=(30, 2)))
    y = (x[0].sum(axis=1, keepdims=True) + x[1].sum(axis=1, keepdims=True), x[0][:, :1] * 2)

    def loss(outputs: Any, targets: Any) -> Any:
        return sum(anp.mean((o - t) ** 2) for o, t in zip(outputs, targets, strict=True))

    nn.fit(net, x, y, loss=loss, optimizer=nn.Adam(0.05), steps=400)
    np.testing.assert_allclose(net["total"].op.weight, [[1, 1]], atol=1e-3)
    np.testing.assert_allclose(net["first"].op.weight, [[2, 0]], atol=1e-3)
    assert nn.fit(net, {"b": x[1], "a": x[0]}, y, loss=loss, steps=1)[0] < 1e-4


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda net: nn.fit(net, X, np.ones((39, 2)), steps=1), "input 'in' has 40, y has 39"),
        (lambda net: nn.fit(net, X[:0], np.ones((0, 2)), steps=1), "at least one"),
        (lambda net: nn.fit(net, X, np.ones(40), steps=1), r"shape \(40, 2\), y has shape \(40,\)"),
        (lambda net: nn.fit(net, X, np.ones((40, 2))), "say either how many steps"),
        (lambda net: nn.fit(net, X, np.ones((40, 2)), steps=1, epochs=1), "either how many steps"),
        (lambda net: nn.fit(net, X, np.ones((40, 2)), steps=0), "steps is a positive number, got 0"),
        (lambda net: nn.fit(net, X, np.ones((40, 2)), epochs=1, batch_size=0), "batch_size is a positive"),
        (lambda net: nn.fit(net, X, np.ones((40, 2)), steps=1, loss="mae"), "no loss 'mae'; there are mse"),
        (
            lambda net: nn.fit(net, X, np.ones((40, 2)), steps=1, loss=lambda o, t: o - t),
            r"returned shape \(40, 2\)",
        ),
        (lambda net: nn.fit(net, X[0], np.ones(2), steps=1), "needs a batch axis"),
        (lambda net: nn.fit(net, X[:, :2], np.ones((40, 2)), steps=1), "takes arrays of shape"),
        (lambda _: nn.Adam(0.0), "Adam: the rate is positive"),
    ],
)
def test_what_makes_no_sense_is_refused(call: Callable[[nn.Network], object], message: str) -> None:
    net = linear()
    before = snapshot(net)
    with pytest.raises(LayerError, match=message):
        call(net)
    assert same_arrays(net, before)


def test_a_bar_is_shown_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    nn.fit(linear(), X, np.ones((40, 2)), steps=2)
    assert capsys.readouterr().err == ""
    nn.fit(linear(), X, np.ones((40, 2)), steps=2, progress=True)
    assert "training" in capsys.readouterr().err
