"""Costs are what a judge counts that runs the network."""

from collections.abc import Callable, Mapping
from typing import Any

import autograd.numpy as anp
import numpy as np
import pytest

from solver_nas import Network, absorb, concat, nn, plan_change, relaxed
from solver_nas.errors import RequestError
from solver_nas.frontend import Array, Handle
from solver_nas.limits import Limit, Peak, activation_memory, flops, macs, now, params, weight_memory
from solver_nas.limits.expression import Expression
from solver_nas.nn.forward import Call, forward
from solver_nas.nn.vertex import NetworkVertex
from solver_nas.rules import Scope, rule
from solver_nas.rules.contract import einsum
from solver_nas.testing.counting import Costs, count
from solver_nas.testing.zoo import ZOO, randomised

each_specimen = pytest.mark.parametrize("name", ZOO)
each_sign = pytest.mark.parametrize("sign", [-1, 1], ids=["smaller", "larger"])

_COSTS: Mapping[str, Callable[..., Expression | Peak]] = {
    "params": params,
    "macs": macs,
    "weight_bytes": weight_memory,
    "activation_bytes": activation_memory,
}
each_cost = pytest.mark.parametrize("cost", _COSTS)


def check(net: Network, inputs: Mapping[str, Array] | None = None) -> Costs:
    """The library says what the judge counts."""
    shapes = None if inputs is None else {name: x.shape[1:] for name, x in inputs.items()}
    costs = count(net, inputs)
    assert params(net).value == costs.params
    assert macs(net, shapes).value == costs.macs
    assert flops(net, shapes).value == 2 * costs.macs
    assert weight_memory(net).value == costs.weight_bytes
    assert activation_memory(net, shapes).value == costs.activation_bytes
    return costs


def request(net: Network, rng: np.random.Generator, sign: int) -> dict[Handle, object]:
    """Wishes for one to three vertices, all shrinking or all growing."""
    able = [v for v in net.vertices if v.kind != "input" and v.nout > 1]
    chosen = rng.permutation(len(able))[: int(rng.integers(1, 4))]
    return {able[i]: relaxed(sign * int(rng.integers(1, max(2, able[i].nout)))) for i in chosen}


def changed(name: str, seed: int, sign: int) -> Network:
    """A network of the zoo after a random change."""
    rng, net = np.random.default_rng(seed), ZOO[name].build(seed)
    plan_change(request(net, rng, sign), utility=lambda v: rng.random(v.nout)).apply()
    return net


# -- costs that are known by heart -----------------------------------------------------------


def test_the_judge_counts_what_is_known_by_heart() -> None:
    net = Network()
    x = net.input("image", (3, 8, 8))
    x = nn.conv(x, 5, 3, stride=2, padding=1, name="conv")  # 5 filters of 27, at 16 places
    x = nn.batch_norm(x, name="norm")
    net.output(nn.dense(nn.flatten(x), 10, bias=False, name="out"))
    learned = 5 * 27 + 5 + 2 * 5 + 10 * 80
    assert count(net) == Costs(learned, 10, 16 * 5 * 27 + 10 * 80, 8 * (learned + 10), 8 * (192 + 80 + 80))


def test_the_judge_sees_products_of_any_kind() -> None:
    rng, w = np.random.default_rng(0), np.ones((4, 5))
    functions: list[tuple[Callable[[Any], Any], int]] = [
        (lambda a: a @ w, 3 * 20),
        (lambda a: np.matmul(a, w), 3 * 20),
        (lambda a: anp.dot(a, w), 3 * 20),
        (lambda a: anp.tensordot(a, w, 1), 3 * 20),
        (lambda a: anp.einsum("nti,io->nto", a, w), 3 * 20),
        (lambda a: np.einsum("...i,io->...o", a, w), 3 * 20),
        (lambda a: np.inner(a, w.T), 3 * 20),
        (lambda a: np.vecdot(a[..., None, :], w.T), 3 * 20),
        (lambda a: np.linalg.inv(np.eye(5) + 0 * a[0, 0, 0])[None, :3], 0),
        (lambda a: (a @ w) @ w.T @ w, 3 * 60),
        (lambda a: 2 * a[..., :1] * w[0], 0),
        (lambda a: anp.dot(a, 2.0)[..., [0, 1, 2, 3, 3]], 0),
        (lambda a: np.add(a, 1, out=a)[..., [0, 1, 2, 3, 3]], 0),
    ]
    for place, (function, expected) in enumerate(functions):
        net = Network()
        x = net.input("x", (3, 4), axis=-1)
        net.output(nn.immutable(function, x, size=5, name="mine"))
        assert count(net, {"x": rng.normal(size=(1, 3, 4))}).macs == expected, place


def test_the_judge_leaves_the_network_alone() -> None:
    net = ZOO["transformer block"].build(0)
    before = {key: array.tobytes() for key, array in net.arrays.items()}
    assert count(net) == count(net)
    assert {key: array.tobytes() for key, array in net.arrays.items()} == before
    assert {type(array) for array in net.arrays.values()} == {np.ndarray}


def test_the_judge_asks_for_sizes_that_are_not_known() -> None:
    net = Network()
    net.output(nn.dense(net.input("x", (None, 4), axis=-1), 3, name="out"))
    with pytest.raises(ValueError, match=r"input 'x' has the shape \(None, None, 4\): give an array for it"):
        count(net)
    assert count(net, {"x": np.ones((1, 7, 4))}).macs == 7 * 12


# -- the zoo ---------------------------------------------------------------------------------


@each_specimen
def test_costs(name: str) -> None:
    check(ZOO[name].build(0))


@each_sign
@pytest.mark.parametrize("seed", range(2))
@each_specimen
def test_costs_after_a_change(name: str, seed: int, sign: int) -> None:
    check(changed(name, seed, sign))


def reached(name: str, cost: str, limit: Callable[[Any], Limit], seed: int) -> int:
    """What a network of the zoo costs when it keeps a limit."""
    rng, net = np.random.default_rng(seed), ZOO[name].build(seed)
    plan = plan_change(
        net, limits=[limit(_COSTS[cost](net))], utility=lambda v: rng.random(v.nout) - 0.2, on_failure="raise"
    )
    plan.check()
    plan.apply()
    return int(getattr(check(net), cost))


@each_cost
@each_specimen
def test_a_budget_is_kept_as_the_judge_counts(name: str, cost: str) -> None:
    before = getattr(count(ZOO[name].build(3)), cost)
    least = reached(name, cost, lambda c: c <= 0.75 * now, seed=3)
    assert least <= 0.75 * before


@each_cost
@each_specimen
def test_the_solver_counts_what_the_judge_counts(name: str, cost: str) -> None:
    # Exactly what another change costs is possible, and comes out as exactly that.
    goal = getattr(count(changed(name, 1, -1)), cost)
    if cost == "activation_bytes":
        assert reached(name, cost, lambda c: c <= goal, seed=1) <= goal
    else:
        assert reached(name, cost, lambda c: c == goal, seed=1) == goal


@pytest.mark.parametrize("cost", ["params", "macs", "weight_bytes"])
@each_specimen
def test_the_solver_counts_what_the_judge_counts_when_growing(name: str, cost: str) -> None:
    goal = getattr(count(changed(name, 0, 1)), cost)
    assert reached(name, cost, lambda c: c == goal, seed=0) == goal


# -- networks that the zoo has none of -------------------------------------------------------


def _shared(net: Network) -> None:
    x, y = net.input("x", 3), net.input("y", 3)
    one = nn.dense(x, 4, name="one")
    keys = {"weight": "one.weight", "bias": "one.bias"}
    net.output(one, net.add("dense", "two", [y], {"activation": "identity"}, keys=keys))


def _tied_embedding(net: Network) -> None:
    middle = nn.dense(nn.embedding(net.tokens("x", 5), 11, 6, name="table"), 6, name="middle")
    net.output(net.add("dense", "head", [middle], {"activation": "identity"}, keys={"weight": "table.weight"}))


def _dead_end(net: Network) -> None:
    x = nn.dense(net.input("x", 3), 5, name="before")
    nn.dense(x, 40, name="dead")
    net.output(nn.dense(x, 2, name="out"))


def _returned_on_the_way(net: Network) -> None:
    first = nn.dense(net.input("x", 3), 30, name="first")
    last = first
    for number in range(3):
        last = nn.dense(last, 4, name=f"after{number}")
    net.output(first, last)


def _long_way_round(net: Network) -> None:
    x = net.input("x", (6, 6, 6))
    wide = nn.conv(x, 9, 1, name="wide")
    thin = nn.conv(wide, 2, 1, name="thin")
    for number in range(3):
        thin = nn.conv(thin, 2, 3, padding=1, name=f"thin{number}")
    net.output(nn.conv(concat([thin, wide], name="join"), 3, 1, name="out"))


def _own_layer(net: Network) -> None:
    x = net.input("x", (5, 3), axis=-1)
    y = absorb(
        lambda a, w, b: a @ w + b,
        x,
        parameters={"w": np.ones((3, 5)), "b": np.ones(5)},
        axes={"w": ("in", "out"), "b": ("out",)},
        name="mine",
    )
    net.output(nn.dense(nn.layer_norm(y, name="norm"), 2, name="out"))


def _two_own_inputs(net: Network) -> None:
    x = nn.dense(net.input("x", 3), 4, name="a")
    y = nn.dense(net.input("y", 2), 6, name="b")
    z = absorb(
        lambda a, b, v, w: a @ v + b @ w,
        [x, y],
        parameters={"v": np.ones((4, 5)), "w": np.ones((6, 5))},
        axes={"v": ("in0", "out"), "w": ("in1", "out")},
        name="mine",
    )
    net.output(nn.dense(z, 2, name="out"))


@rule("counting.bilinear")
def _bilinear_flow(scope: Scope) -> Any:
    return einsum(scope, "ni,oi->no", scope.inputs[0], scope.weight("weight"))


@forward("counting.bilinear")
def _bilinear(call: Call) -> Any:
    return anp.einsum("...i,oi->...o", call.x, call.parameters["weight"])


def _own_kind(net: Network) -> None:
    x = nn.dense(net.input("x", 3), 4, name="before")
    y = net.add("counting.bilinear", "mine", [x], {}, {"weight": np.ones((6, 4))})
    net.output(nn.dense(y, 2, name="out"))


def _groups(net: Network) -> None:
    x = nn.conv(net.input("x", (2, 6, 6)), 6, 3, padding="same", name="before")
    x = nn.conv(x, 9, 2, groups=3, stride=2, name="grouped")
    x = nn.conv_transpose(x, 6, 2, groups=3, stride=2, name="transposed")
    net.output(nn.conv(x + nn.conv(x, 6, 3, groups=6, padding=1, name="depthwise"), 2, 1, name="out"))


def _layers_of_images(net: Network) -> None:
    x = nn.batch_norm(nn.conv(net.input("x", (3, 6, 6)), 4, 3, padding="same", activation="gelu", name="a"))
    x = nn.instance_norm(nn.group_norm(nn.max_pool(x, 2), 2))
    x = nn.upsample(nn.avg_pool(x * nn.global_max_pool(x, keepdims=True), 2, padding=1), 2)
    x = nn.layer_norm(nn.conv_transpose(nn.pad(x, [1, 0, 0]), 3, 2, stride=2, name="b"), axes=(1, 2, 3))
    x = nn.dropout(1.5 - (2 * x + 1) / 3, 0.3)
    net.output(nn.softmax(nn.dense(nn.flatten(x), 5, name="out")))


def _layers_of_sequences(net: Network) -> None:
    x = nn.lstm(nn.position(net.input("x", (5, 4), axis=-1)), 3, name="lstm")
    x = nn.simple_rnn(nn.gru(x, 3, name="gru"), 4, name="rnn")
    x = nn.attention(nn.layer_norm(x), num_heads=2, causal=True, name="attention")
    net.output(nn.dense(nn.rms_norm(x), 2, activation="sigmoid", name="out"))


_NETWORKS: Mapping[str, Callable[[Network], None]] = {
    "shared layer": _shared,
    "tied embedding": _tied_embedding,
    "dead end": _dead_end,
    "returned on the way": _returned_on_the_way,
    "long way round": _long_way_round,
    "layer of the user's": _own_layer,
    "layer of the user's with two inputs": _two_own_inputs,
    "kind of the user's": _own_kind,
    "groups": _groups,
    "layers of images": _layers_of_images,
    "layers of sequences": _layers_of_sequences,
}
each_network = pytest.mark.parametrize("name", _NETWORKS)
each_dtype = pytest.mark.parametrize("dtype", [np.float64, np.float32])


def built(name: str, dtype: type[np.floating[Any]], seed: int = 0) -> Network:
    net = Network(dtype=dtype)
    _NETWORKS[name](net)
    return randomised(net, seed)


@each_dtype
@each_network
def test_costs_of_more_networks(name: str, dtype: type[np.floating[Any]]) -> None:
    check(built(name, dtype))


@each_dtype
@pytest.mark.parametrize("seed", range(6))
@each_network
def test_costs_of_more_networks_after_a_change(name: str, seed: int, dtype: type[np.floating[Any]]) -> None:
    net, rng = built(name, dtype, seed), np.random.default_rng(seed)
    plan_change(request(net, rng, 1 if seed % 2 else -1), utility=lambda v: rng.random(v.nout)).apply()
    check(net)


def _image(net: Network) -> NetworkVertex:
    x = nn.conv(net.input("x", (2, None, None)), 4, 3, stride=2, name="a")
    x = nn.conv_transpose(nn.conv(x, 4, 3, groups=2, padding=1, name="b"), 3, 2, stride=2, name="c")
    return nn.dense(nn.global_avg_pool(x), 2, name="out")


def _sequence(net: Network) -> NetworkVertex:
    x = nn.attention(net.input("x", (None, 4), axis=-1), num_heads=2, name="attention")
    return nn.gru(x, 3, return_sequences=False, name="gru")


def _text(net: Network) -> NetworkVertex:
    return nn.dense(nn.lstm(nn.embedding(net.tokens("x"), 11, 6, name="table"), 3, name="lstm"), 2, name="out")


_OPEN: Mapping[str, tuple[Callable[[Network], NetworkVertex], tuple[tuple[int, ...], ...]]] = {
    "image": (_image, ((2, 9, 7), (2, 16, 16))),
    "sequence": (_sequence, ((7, 4), (1, 4))),
    "text": (_text, ((7,), (1,))),
}


@pytest.mark.parametrize("sign", [0, -1, 1], ids=["as it is", "smaller", "larger"])
@pytest.mark.parametrize("name", _OPEN)
def test_costs_where_sizes_are_given(name: str, sign: int) -> None:
    build, shapes = _OPEN[name]
    net, rng = Network(), np.random.default_rng(0)
    net.output(build(net))
    if sign:
        plan_change(request(net, rng, sign), utility=lambda v: rng.random(v.nout)).apply()
    for shape in shapes:
        check(net, {"x": np.zeros((1, *shape))})
        assert macs(net, shape).value == macs(net, {"x": shape}).value


def test_budgets_where_sizes_are_given() -> None:
    net = Network()
    net.output(_image(net))
    sample = {"x": np.zeros((1, 2, 9, 7))}
    before = count(net, sample)
    limits = [macs(net, (2, 9, 7)) <= 0.6 * now, activation_memory(net, {"x": (2, 9, 7)}) <= 0.9 * now]
    plan_change(net, limits=limits, utility=lambda _: 1.0, on_failure="raise").apply()
    after = check(net, sample)
    assert after.macs <= 0.6 * before.macs
    assert after.activation_bytes <= 0.9 * before.activation_bytes


# -- parts of a network, other dtypes --------------------------------------------------------


@each_specimen
def test_vertices_add_up(name: str) -> None:
    net = ZOO[name].build(0)
    for cost in (params, macs, weight_memory):
        assert sum(cost(net, of=v).value for v in net.vertices) == cost(net).value
        assert cost(net, of=[v.name for v in net.vertices]).value == cost(net).value


def test_a_pattern_of_names() -> None:
    net = ZOO["transformer block"].build(0)
    found = [v for v in net.vertices if v.name.startswith("layer")]
    assert len(found) > 1
    for cost in (params, macs, weight_memory):
        assert cost(net, of="layer*").value == sum(cost(net, of=v).value for v in found) > 0


def test_memory_in_another_dtype() -> None:
    net = ZOO["batch norm"].build(0)
    costs = count(net)
    assert weight_memory(net, dtype="float16").value == 2 * (costs.params + costs.buffers)
    assert activation_memory(net, dtype=np.int8).value == costs.activation_bytes // 8


def test_a_shared_array_belongs_to_every_vertex_that_has_it() -> None:
    net = built("shared layer", np.float64)
    assert params(net).value == 16
    assert params(net, of="two").value == 16


@pytest.mark.parametrize("rank", [None, "rank"])
def test_a_layer_of_the_users_applies_each_of_its_matrices_once(rank: str | None) -> None:
    net = Network()
    x = net.input("x", (5, 3), axis=-1)
    y = absorb(
        lambda a, v, w: a @ v @ w,
        x,
        parameters={"v": np.ones((3, 2)), "w": np.ones((2, 6))},
        axes={"v": ("in", rank), "w": (rank, "out")},
        name="low rank",
    )
    net.output(y)
    check(net)


def test_a_mean_without_padding_keeps_the_dtype() -> None:
    net = Network(dtype=np.float32)
    x = nn.conv(net.input("x", (2, 4, 4)), 3, 1, name="before")
    net.output(nn.avg_pool(x, 2, padding=1, count_padding=False, name="pool"))
    check(net)


# -- what the solver has to get right --------------------------------------------------------


def test_sizes_that_are_not_known_are_asked_for() -> None:
    net = Network()
    net.output(_image(net))
    for cost in (macs, flops, activation_memory):
        with pytest.raises(RequestError, match=r"has a size that is not known; give the shapes of the inputs, as in"):
            _ = cost(net).value
    assert params(net).value > 0
    assert weight_memory(net).value > 0
