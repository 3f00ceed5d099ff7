"""A network that is saved and loaded is the same network.

`tests/data/version-1.safetensors` is a file of version 1 that has to be readable for ever; it holds a layer of
every kind that there was. `version-1.npz` holds inputs for it and what it answered. Both were made, once, by

    python -m tests.nn.test_store tests/data

and never again: a file that is made by today's code shows nothing about yesterday's. A new version of the format
gets a file of its own beside it.
"""

import copy
import sys
from pathlib import Path
from typing import Any

import autograd.numpy as anp
import numpy as np
import pytest

from solver_nas import Network, absorb, concat, delta_nout, immutable, invariant, nn, relaxed, stack
from solver_nas.errors import GraphError, StoreError
from solver_nas.frontend import Array
from solver_nas.graph import Graph
from solver_nas.nn import forward, named
from solver_nas.observe import Contribution, Every, Observations
from solver_nas.rules import kinds, registry
from solver_nas.state import Observer, State
from solver_nas.testing.zoo import ZOO, inputs, randomised

DATA = Path(__file__).parent.parent / "data"


@nn.register("solver_nas.tests.low_rank")
def low_rank(x: Any, down: Any, up: Any) -> Any:
    return x @ down @ up


@nn.register("solver_nas.tests.swish")
def swish(x: Any, slope: Any) -> Any:
    return x / (1 + anp.exp(-slope * x))


@nn.register("solver_nas.tests.side_by_side")
def side_by_side(x: Any, y: Any) -> Any:
    return anp.concatenate([x, y], axis=-1)


@nn.register("solver_nas.tests.two_largest")
def two_largest(x: Any) -> Any:
    return np.sort(x, axis=-1)[..., -2:]


def network() -> Network:
    """A residual and a concatenation, a layer of the user's own, an array that two layers share."""
    net = Network(seed=1)
    x = nn.dense(net.input("in", 4), 6, activation="tanh", name="x")
    mine = absorb(
        low_rank,
        x,
        parameters={"down": net.rng.normal(size=(6, 2)), "up": net.rng.normal(size=(2, 6))},
        axes={"down": ("in", "rank"), "up": ("rank", "out")},
        name="mine",
    )
    square = nn.dense(x + mine, 6, name="square")
    again = net.add("dense", "again", [square], {"activation": "relu"}, keys={"weight": "square.weight"})
    net.output(nn.dense(concat([again, 2 * square], name="both"), 3, name="out"))
    return net


def every_kind() -> Network:
    """A network with every kind of layer, an array that is shared, statistics, and decisions that are remembered."""
    net = Network(seed=7)
    image, features = net.input("image", (3, 6, 6)), net.input("features", 5)
    steps, tokens = net.input("steps", (4, 3), axis=-1), net.tokens("tokens", 4)
    # Images.
    x = nn.batch_norm(nn.conv(image, 6, 3, padding=1, activation="relu", name="conv"), name="batch_norm")
    x = x + nn.conv(x, 6, 3, padding=1, groups=2, name="grouped")
    x = nn.instance_norm(nn.group_norm(nn.bias(nn.scale(nn.dropout(x, 0.3))), 3, name="group_norm"), affine=True)
    x = nn.pad(nn.avg_pool(nn.upsample(nn.max_pool(x, 2), 2), 2, padding=1), [0, (0, 1), (1, 0)], constant=0.5)
    x = nn.conv_transpose(x, 4, 2, stride=2, output_padding=1, name="conv_transpose")
    pooled = concat([nn.global_avg_pool(x), nn.global_max_pool(x), nn.flatten(nn.conv(x, 2, 8, name="whole"))])
    # Vectors.
    wide = nn.dense(features, 8, activation="tanh", name="wide")
    left, right = nn.split(wide, (5, 3), name="split")
    right = nn.dense(nn.take(nn.activation(right, "gelu"), [2, 0, 1, 1, 0], name="take"), 5, name="right")
    mixed = -(left - right) * 0.5 + 1.5 + (left * right) / (2.0 + left * left) - 0.25
    mixed = nn.transpose(nn.reshape(mixed / 3, (5, 1), name="reshape"), (0, 2, 1), name="transpose")
    soft = nn.softmax(nn.flatten(mixed), name="soft")
    # Layers of the user's own.
    own = absorb(
        low_rank,
        soft,
        parameters={"down": net.rng.normal(size=(5, 2)), "up": net.rng.normal(size=(2, 6))},
        axes={"down": ("in", "rank"), "up": ("rank", "out")},
        name="own",
    )
    own = invariant(swish, own, parameters={"slope": np.ones(6)}, axes={"slope": ("out",)}, name="swish")
    both = stack(side_by_side, [own, soft], name="both")
    top = immutable(two_largest, both, size=2, name="top")
    # Sequences and tokens. The weight of the embedding is the head's too.
    words = nn.position(nn.embedding(tokens, 9, 6, name="embedding"), name="position")
    y = nn.lstm(steps, 6, name="lstm") + nn.gru(steps, 6, name="gru") + nn.simple_rnn(steps, 6, name="rnn")
    y = nn.attention(nn.layer_norm(y), nn.rms_norm(words), num_heads=2, head_dim=2, name="attention")
    head = net.add("dense", "head", [y + words], {"activation": "identity"}, keys={"weight": "embedding.weight"})
    net.output(nn.dense(concat([pooled, both, top]), 4, name="out"), head)

    randomised(net, 7)
    delta_nout({net["wide"]: relaxed(-2), net["conv"]: relaxed(-2)}, utility=lambda v: np.arange(1.0, v.nout + 1))
    nn.calibrate(net, inputs(net, np.random.default_rng(7)), held_back=0)
    net.observers["out"] = Observations(contribution=Contribution(0.1, Every(3), 5, np.array([0.1, 0.2, 0.3, 0.4])))
    net.history = 3
    return net


def assert_same(one: Network, other: Network) -> None:
    """Two networks that will never differ, but for what can be undone."""
    assert list(one.graph.digraph.nodes(data="place")) == list(other.graph.digraph.nodes(data="place"))
    assert one.graph.order == other.graph.order
    assert one.graph.vertices == other.graph.vertices
    assert one.graph.outputs == other.graph.outputs
    assert list(one.arrays) == list(other.arrays)
    for key, array in one.arrays.items():
        twin = other.arrays[key]
        assert (array.dtype, array.shape, array.tobytes()) == (twin.dtype, twin.shape, twin.tobytes())
        assert [array.flags.c_contiguous, array.flags.f_contiguous] == [
            twin.flags.c_contiguous,
            twin.flags.f_contiguous,
        ]
        assert not twin.flags.writeable
    assert (one.dtype, one.history) == (other.dtype, other.history)
    assert one._state.fills == other._state.fills
    assert one._state.memory == other._state.memory
    assert copy.deepcopy(one.rng).random(3).tolist() == copy.deepcopy(other.rng).random(3).tolist()
    assert {port: tensor.neurons.tolist() for port, tensor in one.labels.tensors.items()} == {
        port: tensor.neurons.tolist() for port, tensor in other.labels.tensors.items()
    }
    assert one.labels.choices == other.labels.choices
    assert repr(one.observers) == repr(other.observers)


def loaded(net: Network, folder: Path) -> Network:
    net.save(folder / "net.safetensors")
    return Network.load(folder / "net.safetensors")


def bits(net: Network, batch: dict[str, Array]) -> list[bytes]:
    answer = net(*(batch[v.name] for v in net.inputs))
    return [part.tobytes() for part in (answer if isinstance(answer, tuple) else (answer,))]


# -- the same network --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ZOO)
def test_a_loaded_network_is_the_saved_one(name: str, tmp_path: Path) -> None:
    net = ZOO[name].build(1)
    rng = np.random.default_rng(1)
    batch = inputs(net, rng)
    nn.calibrate(net, batch, held_back=0)
    wish = next(v.name for v in net.vertices if v.kind != "input" and v.nout > 1)
    for delta in (-1, 2):
        twin = loaded(net, tmp_path)
        assert_same(net, twin)
        assert bits(net, batch) == bits(twin, batch)
        # The second time round, rules remember what the first change left behind.
        for model in (net, twin):
            delta_nout(model[wish], relaxed(delta))
        assert bits(net, batch) == bits(twin, batch)
        assert_same(net, twin)


def test_every_kind_of_layer(tmp_path: Path) -> None:
    net = every_kind()
    missing = {kind for kind in kinds() if "." not in kind and forward.computes(kind)} - {v.kind for v in net.vertices}
    assert not missing, "add it to every_kind; the files that are there stay as they are"
    assert net._state.memory is not None
    assert net._state.memory.choices
    twin = loaded(net, tmp_path)
    assert_same(net, twin)
    batch = inputs(net, np.random.default_rng(0))
    assert bits(net, batch) == bits(twin, batch)
    twin.save(tmp_path / "again.safetensors")
    assert_same(net, Network.load(tmp_path / "again.safetensors"))


def test_saving_changes_nothing(tmp_path: Path) -> None:
    net = every_kind()
    net.arrays["wide.weight"] = writable = np.ones(net["wide"].op.weight.shape)
    graph, revision, twin = net.graph, net.graph.revision, copy.deepcopy(net)
    net.save(tmp_path / "net")
    assert net.graph is graph
    assert net.graph.revision == revision
    assert writable.flags.writeable
    assert_same(net, twin)


def test_what_is_loaded_has_no_past(tmp_path: Path) -> None:
    net = network()
    delta_nout(net["x"], -1)
    twin = loaded(net, tmp_path)
    assert twin.history == net.history
    with pytest.raises(GraphError, match="1 edits cannot be taken back, 0 can"):
        twin.undo()
    net.undo()
    assert net["x"].nout == 6


def test_everything_that_a_network_is_goes_into_the_file() -> None:
    # Who adds a field decides whether files hold it; `past` and `extra` are what they do not hold.
    assert State._fields == ("graph", "arrays", "observers", "fills", "memory", "rng", "extra", "past")


def test_shared_arrays_stay_shared(tmp_path: Path) -> None:
    twin = loaded(network(), tmp_path)
    assert twin["again"].op.weight is twin["square"].op.weight
    delta_nout(twin["square"], -2)
    assert twin["again"].op.weight is twin["square"].op.weight
    assert twin["again"].op.weight.shape == (4, 4)


def test_later_weights_are_the_same(tmp_path: Path) -> None:
    net = network()
    twin = loaded(net, tmp_path)
    more = [nn.dense(model["both"], 3, name="more").op.weight.tobytes() for model in (net, twin)]
    assert more[0] == more[1]
    spawned = [model.rng.spawn(1)[0].random() for model in (net, twin)]
    assert spawned[0] == spawned[1]


def test_ties_are_decided_by_the_order_of_adding(tmp_path: Path) -> None:
    net = Network()
    x = net.input("in", 2)
    layers = {name: nn.dense(x, 3, name=name) for name in "cab"}
    net.output(nn.add([layers["a"], layers["b"], layers["c"]]))
    assert loaded(net, tmp_path).graph.order == ("in", "c", "a", "b", "add_1")
    # A graph may have been put together in another order than it is evaluated in.
    net._enter(net._state._replace(graph=Graph(net.graph.vertices[::-1], net.graph.outputs)))
    assert net.graph.order == ("in", "b", "a", "c", "add_1")
    assert_same(net, loaded(net, tmp_path))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.longdouble])
def test_precision_is_kept(dtype: type[np.floating[Any]], tmp_path: Path) -> None:
    net = Network(dtype=dtype)
    net.output(nn.dense(net.input("in", 3), 4, name="out"))
    twin = loaded(net, tmp_path)
    assert_same(net, twin)
    assert nn.dense(twin["out"], 2, name="more").op.weight.dtype == dtype


def test_arrays_are_kept_bit_for_bit(tmp_path: Path) -> None:
    net = Network()
    net.output(nn.dense(net.input("in", 2), 3, name="out"))
    strange = np.array([np.nan, -0.0, np.inf, 5e-324])
    strange.view(np.uint64)[0] |= 12345  # a NaN with a payload
    values = np.arange(60).reshape(3, 4, 5)
    for array in (
        *(strange, strange.astype(">f8"), np.zeros((0, 3)), np.array(2.5)),
        *(values[:, ::2, ::-1].astype("i2"), values.transpose(2, 0, 1).astype("u1"), values > 7),
        *(np.asfortranarray(values * 1j), values.astype(np.longdouble), values.astype("M8[s]"), np.array(["a", "bc"])),
    ):
        net.arrays[f"spare {len(net.arrays)}"] = array
    net.arrays["out.weight"] = np.asfortranarray(net["out"].op.weight)
    assert_same(net, loaded(net, tmp_path))


def test_names_of_any_kind(tmp_path: Path) -> None:
    net = Network()
    x = net.input("__metadata__", 2)
    for name in ("a/b", "arrays/a", 'quo"te\\', "Größe ∑\n\0", ""):
        x = nn.dense(x, 3, name=name)
    net.output(x)
    assert_same(net, loaded(net, tmp_path))


def test_a_path_may_be_a_string_and_a_link_stays_one(tmp_path: Path) -> None:
    net, target, link = network(), tmp_path / "target", tmp_path / "link"
    nn.save(net, str(target))
    link.symlink_to(target)
    target.chmod(0o640)
    delta_nout(net["x"], -1)
    nn.save(net, str(link))
    assert link.is_symlink()
    assert target.stat().st_mode & 0o777 == 0o640
    assert_same(net, nn.load(str(target)))


# -- statistics --------------------------------------------------------------------------------


def test_statistics_are_kept(tmp_path: Path) -> None:
    net = Network(seed=2)
    watched = nn.ActivationContribution(nn.dense(net.input("in", 3), 5, name="watched"), every=2)
    net.output(nn.dense(watched, 2, name="out"))
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(8, 3)), rng.normal(size=(8, 2))
    nn.fit(net, x, y, steps=3)
    twin = loaded(net, tmp_path)
    assert_same(net, twin)
    for v in net.vertices:
        assert np.array_equal(nn.default_utility(v), nn.default_utility(twin[v.name]))
    for model in (net, twin):
        nn.fit(model, x, y, steps=3)
    assert_same(net, twin)


def test_schedules_of_the_users_need_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(named, "_FUNCTIONS", dict(named._FUNCTIONS))

    def late(step: int) -> bool:
        return step > 3

    net = network()
    nn.ActivationContribution(net["x"], every=late)
    with pytest.raises(StoreError, match=r"what is observed of vertex 'x': .*late.* has no name") as caught:
        net.save(tmp_path / "net")
    assert "del net.observers['x']" in str(caught.value)
    nn.register("late", late)
    contribution = nn.observed(loaded(net, tmp_path)["x"]).contribution
    assert contribution is not None
    assert contribution.due is late


def test_observers_of_the_users_are_refused(tmp_path: Path) -> None:
    class Mine(Observer):
        def select(self, moved: Any) -> Observer:  # noqa: ARG002 - the signature is the observers'
            return self

    net = network()
    net.observers["x"] = Mine()
    with pytest.raises(StoreError, match=r"what is observed of vertex 'x': .* of type Mine; only .*; or take it out"):
        net.save(tmp_path / "net")
    del net.observers["x"]
    net.save(tmp_path / "net")


# -- what cannot be saved ----------------------------------------------------------------------


def test_a_function_without_a_name(tmp_path: Path) -> None:
    net = network()
    invariant(lambda x: x, net["x"], name="nameless")
    with pytest.raises(
        StoreError,
        match=r"cannot be saved to '.*net': vertex 'nameless' \(invariant\): attribute 'function': .*lambda.* has no "
        r".*solver_nas.nn.register\('a name', function\)",
    ):
        net.save(tmp_path / "net")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({1, 2}, r"attribute 'x': \{1, 2\} is of type set; only numbers"),
        (np.zeros(2, "O"), r"arrays of type object cannot be stored"),
        (np.zeros(2, "i4, f8"), r"arrays of type .* cannot be stored"),
        (np.ma.array([1.0]), r"expected a NumPy array, got MaskedArray"),
        ("\ud800", "surrogates"),
        (10**5000, "Exceeds the limit"),
    ],
    ids=["set", "objects", "records", "masked", "surrogate", "huge"],
)
def test_values_that_no_file_can_hold(value: object, message: str, tmp_path: Path) -> None:
    net = network()
    net.add("activation", "odd", [net["x"]], {"activation": "relu", "x": value})
    if isinstance(value, str):
        net.arrays[value] = np.zeros(1)
    with pytest.raises(StoreError, match=message):
        net.save(tmp_path / "net")
    assert list(tmp_path.iterdir()) == []


def test_values_that_hold_themselves(tmp_path: Path) -> None:
    net, snake = network(), list[object]()
    snake.append(snake)
    net.add("activation", "odd", [net["x"]], {"activation": "relu", "x": snake})
    with pytest.raises(StoreError, match="recursion"):
        net.save(tmp_path / "net")


def test_arrays_that_do_not_fit(tmp_path: Path) -> None:
    net = network()
    net.arrays["x.weight"] = np.zeros((2, 2))
    with pytest.raises(
        StoreError, match=r"vertex 'x' \(dense\): parameter 'weight' has shape \(6, 4\), its array is \(2, 2\)"
    ):
        net.save(tmp_path / "net")


# -- what has to be there when a file is loaded ------------------------------------------------


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file with a network in it."""
    network().save(tmp_path / "net.safetensors")
    return tmp_path / "net.safetensors"


def test_a_function_that_is_not_registered(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(named._FUNCTIONS, "solver_nas.tests.low_rank")
    with pytest.raises(
        StoreError,
        match=r"from '.*net.safetensors': vertex 'mine' \(absorb\): attribute 'function': no function is registered as "
        r"'solver_nas.tests.low_rank'; first run or import what calls solver_nas.nn.register",
    ):
        Network.load(file)


@pytest.mark.parametrize(
    ("table", "message"),
    [(registry._RULES, "there is no rule"), (forward._FORWARD, "there is no forward function")],
)
def test_an_operation_that_is_not_registered(
    table: dict[str, object], message: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(table, "absorb")
    with pytest.raises(
        StoreError, match=message + " for vertices of kind 'absorb'; first run or import what registers it"
    ):
        Network.load(file)


def test_an_operation_that_has_changed(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def angry(scope: Any) -> Any:
        raise ZeroDivisionError(scope.vertex.name)

    monkeypatch.setitem(registry._RULES, "absorb", registry.Rule("absorb", angry, *_rest("absorb")))
    with pytest.raises(
        StoreError, match="its layers do not fit together: mine; are the operations registered here those"
    ):
        Network.load(file)


def _rest(kind: str) -> list[Any]:
    rule = registry._RULES[kind]
    return [getattr(rule, name) for name in rule.__slots__[2:]]


# -- files of old ------------------------------------------------------------------------------


def test_a_file_of_version_1() -> None:
    net, known = Network.load(DATA / "version-1.safetensors"), np.load(DATA / "version-1.npz")
    answers = net(*(known[v.name] for v in net.inputs))
    for answer, name in zip(answers, ("out", "head"), strict=True):
        # Other machines sum in another order.
        np.testing.assert_allclose(answer, known[name], rtol=1e-9, atol=1e-12)
    assert net.rng.random() == known["random"]
    assert net.history == 3
    assert net._state.memory is not None
    assert len(net._state.memory.choices) == known["choices"]
    assert net["head"].op.weight is net["embedding"].op.weight
    seen = net.observers["out"]
    assert isinstance(seen, Observations)
    assert seen.contribution is not None
    assert (seen.contribution.due, seen.contribution.steps) == (Every(3), 5)
    statistics = nn.observed(net["wide"]).statistics
    assert statistics is not None
    assert statistics.mean.tolist() == known["mean of wide"].tolist()
    assert delta_nout({net["wide"]: relaxed(-1), net["attention"]: relaxed(2)})


def main(folder: Path) -> None:
    """Write the files of version 1."""
    net = every_kind()
    known: dict[str, Any] = inputs(net, np.random.default_rng(0))
    known["out"], known["head"] = net(*(known[v.name] for v in net.inputs))
    memory, statistics = net._state.memory, nn.observed(net["wide"]).statistics
    assert memory is not None
    assert statistics is not None
    known |= {
        "random": copy.deepcopy(net.rng).random(),
        "choices": len(memory.choices),
        "mean of wide": statistics.mean,
    }
    net.save(folder / "version-1.safetensors")
    np.savez_compressed(folder / "version-1.npz", **known)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
