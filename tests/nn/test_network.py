"""Networks keep their arrays apart, and change as a whole or not at all."""

import copy
from typing import Any

import numpy as np
import pytest

from solver_nas import Network, absorb, concat, delta_nout, explain, nn, plan_change, relaxed
from solver_nas.errors import GraphError, ImpossibleError, LayerError, PlanError, RequestError, UtilityError
from solver_nas.frontend import Handle
from solver_nas.testing.laws import check_masked


def bits(net: Network) -> dict[str, bytes]:
    return {key: array.tobytes() for key, array in net.arrays.items()}


def test_renamed_vertices_keep_arrays_of_their_own() -> None:
    net = Network()
    first = nn.dense(net.input("in", 4), 4).named("first")
    weight = first.op.weight.copy()
    second = nn.dense(first, 3).named("second")
    assert (first.op.weight == weight).all()
    assert second.op.weight.shape == (3, 4)
    delta_nout(first, -1)
    assert (first.op.weight.shape, second.op.weight.shape) == ((3, 4), (3, 3))


def test_names_with_dots_do_not_collide() -> None:
    net = Network()
    x = net.input("in", 2)
    parameters, axes = {"b.weight": np.ones((3, 2))}, {"b.weight": ("out", "in")}
    a = absorb(lambda x, **p: x @ p["b.weight"].T, x, parameters=parameters, axes=axes, name="a")
    nn.dense(x, 3, name="a.b")
    assert (getattr(a.op, "b.weight") == 1).all()


def small() -> Network:
    net = Network()
    a = nn.dense(net.input("in", 3), 6, name="a")
    net.output(nn.dense(nn.relu(a, name="r"), 2, name="out"))
    return net


def test_a_plan_does_not_survive_an_addition() -> None:
    net = small()
    plan = plan_change(net["a"], -2)
    nn.dense(net["a"], 5, name="extra")
    with pytest.raises(PlanError, match="the model has changed since this plan was made"):
        plan.apply()
    plan = plan_change(net["a"], -2)
    net.output(net["out"], net["a"])
    with pytest.raises(PlanError, match="the model has changed"):
        plan.apply()
    assert "extra" in net
    assert len(net.outputs) == 2


@pytest.mark.parametrize("how", ["resize", "add"])
def test_a_utility_must_not_change_the_network(how: str) -> None:
    net = small()

    def meddling(v: Handle) -> np.ndarray:
        if how == "add":
            nn.dense(net["a"], 2)
        elif net["out"].nout == 2:
            delta_nout(net["out"], -1, utility=lambda u: np.ones(u.nout))
        return np.arange(v.nout)

    with pytest.raises(GraphError, match="the utility has changed the network"):
        delta_nout(net["a"], -2, utility=meddling)
    assert net["a"].nout == 6


def test_a_utility_may_fill_one_buffer() -> None:
    net, buffer = small(), np.zeros(6)

    def worth(v: Handle) -> np.ndarray:
        buffer[:] = [9, 8, 1, 1, 1, 1] if v.name == "a" else [0, 0, 0, 0, 5, 5]
        return buffer

    assert plan_change(net["a"], -4, utility=worth).indices["a"].tolist() == [0, 1]


def test_arrays_on_the_left_of_an_operator_are_refused() -> None:
    net = small()
    before = len(net)
    with pytest.raises(LayerError, match="use a vertex of the same network or a number"):
        np.ones(6) * net["a"]
    with pytest.raises(LayerError, match="use a vertex of the same network or a number"):
        np.ones(6) + net["a"]
    assert len(net) == before


def test_a_shallow_copy_is_a_deep_one() -> None:
    net = small()
    twin = copy.copy(net)
    twin["a"].op.weight = np.zeros((6, 3))
    nn.dense(twin["a"], 2, name="extra")
    assert net["a"].op.weight.any()
    assert "extra" not in net


def test_composite_layers_are_added_as_a_whole() -> None:
    net = Network()
    sequence = net.input("sequence", (5, 8), axis=-1)
    nn.dense(sequence, 2, name="att.value")
    before, names = bits(net), net.graph.order
    with pytest.raises(GraphError, match=r"vertex 'att\.value' is there already"):
        nn.attention(sequence, num_heads=2, name="att")
    assert (bits(net), net.graph.order) == (before, names)
    assert nn.attention(sequence, num_heads=2, name="other").nout == 8


def test_a_shuffle_keeps_its_groups_and_can_grow_again() -> None:
    net = Network(seed=1)
    s = nn.conv(net.input("image", (3, 4, 4)), 6, 1, name="s")
    net.output(nn.conv(nn.channel_shuffle(s, 2, name="h"), 5, 1, name="out"))
    assert explain(s, -5).nearest == {"s": (2,)}, "a shuffle keeps all of its groups"
    delta_nout(s, -2)
    assert (s.nout, net["h"].nout) == (4, 4)
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 4))
    before = net(x)
    plan = plan_change(s, 2, on_failure="raise")
    check_masked(net, plan, {"image": x})
    plan.apply()
    np.testing.assert_allclose(net(x), before, atol=1e-12)


def test_the_nearest_size_above_may_need_several_new_neurons() -> None:
    net = Network()
    x = nn.dense(net.input("in", 3), 1, name="x")
    joined = concat([x, x, x], name="joined")
    assert explain(joined, 5).nearest == {"joined": (6, 9)}


def test_relaxed_wishes_stop_at_one_neuron() -> None:
    net = small()
    assert plan_change(net["a"], relaxed(-20)).sizes["a"] == (6, 1)


def test_numbers_that_are_too_large() -> None:
    net = small()
    with pytest.raises(RequestError, match="is more than 10,000,000 neurons"):
        delta_nout(net["a"], 10**9)
    with pytest.raises(UtilityError, match=r"the utility of neuron 0 is 1.7e\+308; .* up to 1e\+150"):
        delta_nout(net["a"], -1, utility=lambda v: np.full(v.nout, 1.7e308))
    with pytest.raises(UtilityError, match=r"together are more than 1e\+150"):
        delta_nout(net["a"], -1, utility=lambda v: np.full(v.nout, 9e149))
    with pytest.raises(UtilityError, match="neither a number nor a vector"):
        delta_nout(net["a"], -1, utility=lambda v: [10**400] * v.nout)


@pytest.mark.parametrize("seed", [-1, 1.5, "a", None])
def test_seeds(seed: object) -> None:
    with pytest.raises(RequestError, match="the seed is a whole number from 0 on"):
        delta_nout(small()["a"], -1, seed=seed)  # type: ignore[arg-type]  # what is tested


@pytest.mark.parametrize("value", [np.ones(3), np.nan, 1j, None])
def test_initialisers(value: Any) -> None:
    net = small()
    before = bits(net)

    def init(rng: np.random.Generator, shape: tuple[int, ...], spread: float) -> np.ndarray:
        del rng, spread
        return np.full(shape, value) if np.ndim(value) == 0 else np.asarray(value)

    with pytest.raises(RequestError, match="init has to return finite numbers of shape"):
        delta_nout(net["a"], 2, init=init)
    assert bits(net) == before


def test_deltas_are_not_ignored() -> None:
    net = small()
    for request in (net, [net["a"]], "a"):
        with pytest.raises(RequestError, match="a delta goes with a single vertex"):
            plan_change(request, -1)


def test_a_restricted_choice_is_not_called_optimal() -> None:
    net = Network(seed=3)
    x = nn.dense(net.input("in", 5), 8, name="x")
    left, right = nn.split(nn.channel_shuffle(x, 2), 2)
    net.output(nn.dense(concat([right, nn.relu(left)]), 3, name="out"))
    worth = np.array([9.0, 8, 1, 2, 1, 2, 9, 8])
    plan = plan_change(x, -4, utility=lambda v: worth if v.name == "x" else 0.0)
    assert plan.notes
    assert plan.certificate.status.value == "feasible"
    assert plan.certificate.bound == 34
    assert plan.certificate.objective < 34


def test_what_keep_says_when_no_order_fits() -> None:
    net = Network()
    x = nn.dense(net.input("in", 5), 8, name="x")
    net.output(x + nn.channel_shuffle(x, 2))
    change = delta_nout(x, -2, on_failure="keep")
    assert not change
    assert "no order of the neurons fits" in str(change)
    with pytest.raises(ImpossibleError):
        delta_nout(x, -2, on_failure="raise")
