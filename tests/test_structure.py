"""The verbs that change the structure: what they do, what they refuse, and that nothing is ever left half-done."""

import copy
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from solver_nas import (
    Change,
    EditPlan,
    Network,
    affected_by,
    change_activation,
    change_kernel_size,
    concat,
    create_edge,
    delta_nout,
    edit_plan,
    insert,
    nn,
    remove,
    remove_edge,
    replace,
    restructure,
    strategies,
)
from solver_nas.errors import GraphError, ImpossibleError, LayerError, PlanError, RelaxedWarning, RequestError
from solver_nas.mutation import AddEdge, Every, InsertLayer, Narrow, Widen, mutate
from solver_nas.nn.vertex import NetworkVertex
from solver_nas.surgery import rewiring, stacking


def images(seed: int = 0) -> Network:
    """A residual connection and a concatenation over images, trained-looking weights everywhere."""
    net = Network(seed=seed)
    x = net.input("in", (3, 6, 6))
    a = nn.conv(x, 5, 3, padding=1, activation="relu", name="a")
    norm = nn.batch_norm(a, name="norm")
    b = nn.conv(norm, 5, 3, padding=1, name="b")
    added = nn.add([a, b], name="added")
    c = nn.conv(x, 7, 5, padding=2, name="c")
    both = concat([added, c], name="both")
    d = nn.conv(both, 4, 1, activation="tanh", name="d")
    net.output(nn.dense(nn.global_avg_pool(d, name="pooled"), 2, name="out"))
    rng = np.random.default_rng(seed)
    for key, array in net.arrays.items():
        positive = key.endswith((".var", ".scale"))
        net.arrays[key] = rng.uniform(0.5, 1.5, array.shape) if positive else rng.normal(size=array.shape)
    return net


BATCH = np.random.default_rng(1).normal(size=(3, 3, 6, 6))


def everything(net: Network) -> tuple[object, ...]:
    """All that a network is, bit for bit."""
    arrays = {key: (array.dtype.str, array.shape, array.tobytes()) for key, array in net.arrays.items()}
    return net.graph.vertices, net.graph.outputs, arrays, dict(net.observers), net.rng.bit_generator.state


def small_norm(x: NetworkVertex) -> NetworkVertex:
    return nn.batch_norm(x, name="new")


VERBS: dict[str, Callable[[Network], Any]] = {
    "insert": lambda net: insert(net["a"], lambda x: nn.conv(x, 6, 1, name="new")),
    "insert for one reader": lambda net: insert(net["a"], small_norm, net["norm"]),
    "remove": lambda net: remove(net["d"]),
    "remove, none": lambda net: remove(net["c"], reconnect="none"),
    "create edge into an addition": lambda net: create_edge(net["c"], net["added"], entry="zero"),
    "create edge into a concatenation": lambda net: create_edge(net["norm"], net["both"], slot=0),
    "remove edge from an addition": lambda net: remove_edge(net["b"], net["added"]),
    "remove edge from a concatenation": lambda net: remove_edge(net["c"], net["both"]),
    "replace": lambda net: replace(net["c"], lambda x: nn.conv(x, 3, 3, padding=1)),
    "kernel size": lambda net: change_kernel_size(net["c"], -2),
    "activation": lambda net: change_activation(net["d"], "relu"),
}
each_verb = pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)


@each_verb
def test_every_verb_leaves_a_whole_network(verb: Callable[[Network], Any]) -> None:
    net = images()
    twin = copy.deepcopy(net)
    before = net(BATCH)
    change = verb(net)
    change.plan.check()
    assert np.isfinite(net(BATCH)).all()
    same = np.allclose(net(BATCH), before, rtol=1e-9, atol=1e-12)
    assert change.plan.unchanged == same
    for v in net.vertices:
        for role, parameter in v.vertex.parameters.items():
            assert v.parameters[role].shape == parameter.shape
    assert everything(twin) == everything(images())
    net.undo()
    assert everything(net) == everything(twin)


@each_verb
def test_a_dry_run_changes_nothing_and_says_what_would_happen(verb: Callable[[Network], Any]) -> None:
    net, tried = images(), images()
    made = verb(tried)
    name = next(word for word in ("insert", "remove", "edge", "replace", "window", "activation") if word in str(made))
    before = everything(net)
    plans = {
        "insert": lambda: insert.plan(net["a"], lambda x: nn.conv(x, 6, 1, name="new")),
        "remove": lambda: remove.plan(net["d"]),
        "edge": lambda: create_edge.plan(net["norm"], net["both"], slot=0),
        "replace": lambda: replace.plan(net["c"], lambda x: nn.conv(x, 3, 3, padding=1)),
        "window": lambda: change_kernel_size.plan(net["c"], -2),
        "activation": lambda: change_activation.plan(net["d"], "relu"),
    }
    plan = plans[name]()
    assert name in str(plan)
    assert "the network computes" in str(plan)
    assert everything(net) == before
    plan.apply()
    assert everything(net) != before


class FailureError(Exception):
    """What the tests below make happen."""


FAULTS: list[tuple[object, str]] = [
    (restructure, "build"),
    (restructure, "cut"),
    (restructure, "padded"),
    (restructure, "layout"),
    (restructure, "finished"),
    (restructure, "pursue"),
    (edit_plan, "label"),
    (stacking, "draw"),
    (rewiring, "label_vertex"),
    (rewiring, "bridge"),
    (Network, "commit"),
    (Network, "fork"),
    (Network, "take_over"),
    (Network, "compare"),
    (Network, "fill_of"),
    (Network, "rename"),
]


@pytest.mark.parametrize("error", [FailureError, KeyboardInterrupt, MemoryError])
def test_a_failure_at_any_call_leaves_every_bit(error: type[BaseException], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the first call of a step fail, then the second, and so on; for every verb and step."""
    reached = set()
    for verb_name, verb in VERBS.items():
        for owner, name in FAULTS:
            original: Callable[..., object] = getattr(owner, name)
            for nth in range(60):
                net = images()
                before = everything(net)
                left = [nth]

                def failing(
                    *args: object, left: list[int] = left, original: Callable[..., object] = original, **kwargs: object
                ) -> object:
                    left[0] -= 1
                    if left[0] < 0:
                        raise error
                    return original(*args, **kwargs)

                with monkeypatch.context() as patch:
                    patch.setattr(owner, name, failing)
                    try:
                        verb(net)
                    except error:
                        reached.add((verb_name, name))
                        assert everything(net) == before, (verb_name, name, nth)
                    else:
                        break
    assert {name for _, name in reached} == {name for _, name in FAULTS}
    assert {verb_name for verb_name, _ in reached} == set(VERBS)


@each_verb
def test_every_line_may_be_interrupted(verb: Callable[[Network], Any]) -> None:
    """An interrupt at lines spread over a whole edit: either nothing has happened, or all of it."""
    package = str(Path(restructure.__file__).parent)
    finished = images()
    verb(finished)
    done, untouched = everything(finished)[:3], everything(images())[:3]
    watching = sys.gettrace()
    states = set()
    step, stop = 1, 0
    while True:
        net = images()
        lines = iter(range(10**9))

        def tracer(frame: Any, event: str, _: object, lines: Any = lines, stop: int = stop) -> object:
            if not frame.f_code.co_filename.startswith(package):
                return None
            if event == "line" and next(lines) == stop:
                raise KeyboardInterrupt
            return tracer

        sys.settrace(tracer)  # type: ignore[arg-type]  # typed for the interpreter
        try:
            verb(net)
        except KeyboardInterrupt:
            sys.settrace(watching)
            now = everything(net)[:3]
            states.add(now == done)
            assert now in (untouched, done)
        else:
            break
        finally:
            sys.settrace(watching)
        # Early lines one by one, later ones in growing strides: there are thousands.
        step = max(1, stop // 12)
        stop += step
    assert False in states


def test_every_line_of_taking_over_may_be_interrupted() -> None:
    package = str(Path(restructure.__file__).parent)
    watching = sys.gettrace()
    states = []
    for stop in range(1000):
        net = images()
        plan = remove.plan(net["d"])
        before = everything(net)
        lines = iter(range(10**9))

        def tracer(frame: Any, event: str, _: object, lines: Any = lines, stop: int = stop) -> object:
            if not frame.f_code.co_filename.startswith(package):
                return None
            if event == "line" and next(lines) == stop:
                raise KeyboardInterrupt
            return tracer

        plan.check()
        fork = plan.after
        sys.settrace(tracer)  # type: ignore[arg-type]  # typed for the interpreter
        try:
            net.take_over(fork)
        except KeyboardInterrupt:
            sys.settrace(watching)
            states.append("d" not in net)
            assert ("d" not in net) or everything(net) == before
            net(BATCH)
        else:
            break
        finally:
            sys.settrace(watching)
    assert False in states


# -- function preservation -----------------------------------------------------------------------------


IDENTITIES: dict[str, Callable[[NetworkVertex], NetworkVertex]] = {
    "convolution": lambda x: nn.conv(x, x.nout, 3, padding=1, weights="identity"),
    "convolution, same padding": lambda x: nn.conv(x, x.nout, (5, 3), padding="same", weights="identity"),
    "depthwise convolution": lambda x: nn.conv(x, x.nout, 3, padding=1, groups=x.nout, weights="identity"),
    "convolution with relu behind relu": lambda x: nn.conv(
        nn.relu(x), x.nout, 3, padding=1, activation="relu", weights="identity"
    ),
    "norm": lambda x: nn.batch_norm(x, identity=True),
    "scale and bias": lambda x: nn.bias(nn.scale(x)),
    "residual branch": lambda x: (
        x + nn.conv(nn.conv(x, 3, 3, padding=1, activation="relu"), x.nout, 1, weights="zeros")
    ),
}


@pytest.mark.parametrize("layer", IDENTITIES.values(), ids=IDENTITIES)
@pytest.mark.parametrize("name", ["a", "norm", "both"])
def test_identities_change_nothing(layer: Callable[[NetworkVertex], NetworkVertex], name: str) -> None:
    net = images()
    before = net(BATCH)
    change = insert(net[name], layer)
    rectified = layer is IDENTITIES["convolution with relu behind relu"] and name != "a"
    assert change.plan is not None
    if rectified:
        assert not change.plan.unchanged  # type: ignore[attr-defined]  # a plan of an edit
        return
    assert change.plan.unchanged  # type: ignore[attr-defined]  # a plan of an edit
    np.testing.assert_allclose(net(BATCH), before, rtol=1e-12, atol=1e-12)
    assert "the network computes what it did" in str(change)


def test_identities_of_vectors_and_sequences_change_nothing() -> None:
    net = Network(seed=3)
    x = nn.gru(net.input("in", (5, 3), axis=-1), 4, name="states")
    net.output(nn.dense(x, 2, name="out"))
    batch = np.random.default_rng(0).normal(size=(2, 5, 3))
    before = net(batch)
    assert insert(x, lambda v: nn.dense(v, 4, weights="identity")).plan.unchanged  # type: ignore[union-attr]
    assert insert(x, lambda v: v + nn.dense(v, 4, weights="zeros")).plan.unchanged  # type: ignore[union-attr]
    np.testing.assert_allclose(net(batch), before, rtol=1e-12)


def test_an_identity_goes_as_it_came() -> None:
    net = images()
    before = everything(net)
    insert(net["both"], lambda x: nn.conv(x, x.nout, 3, padding=1, weights="identity", name="new"))
    assert remove(net["new"]).plan.unchanged  # type: ignore[union-attr]
    assert everything(net)[:3] == before[:3]


@pytest.mark.parametrize(("target", "source"), [("added", "norm"), ("added", "c"), ("both", "norm"), ("both", "b")])
@pytest.mark.parametrize("slot", [0, 1, 2])
def test_edges_enter_without_effect(target: str, source: str, slot: int) -> None:
    net = images()
    before = net(BATCH)
    change = create_edge(net[source], net[target], slot=slot, entry="zero")
    assert change.plan.unchanged  # type: ignore[union-attr]
    np.testing.assert_allclose(net(BATCH), before, rtol=1e-10, atol=1e-12)
    entered = net[target].inputs[slot]
    assert entered.kind == ("scale" if target == "added" else net[source].kind)


def test_a_factor_enters_without_effect() -> None:
    net = Network()
    x = nn.dense(net.input("in", 3), 4, name="x")
    y = nn.dense(x, 6, name="y")
    product = nn.multiply([x, nn.dense(x, 4, name="gate")], name="product")
    net.output(nn.dense(product, 2, name="out"))
    batch = np.random.default_rng(0).normal(size=(5, 3))
    before = net(batch)
    assert create_edge(y, product, entry="zero").plan.unchanged  # type: ignore[union-attr]
    np.testing.assert_allclose(net(batch), before, rtol=1e-12)
    assert product.nin == (6, 6, 6)


def test_a_plain_summand_counts_at_once_and_the_result_says_so() -> None:
    net = images()
    change = create_edge(net["norm"], net["added"])
    assert change.plan.unchanged is False  # type: ignore[union-attr]
    assert "the network computes something else than before" in str(change)


def test_larger_windows_change_nothing() -> None:
    for name in ("a", "c"):
        net = images()
        before = net(BATCH)
        assert change_kernel_size(net[name], (2, 4)).plan.unchanged  # type: ignore[union-attr]
        np.testing.assert_allclose(net(BATCH), before, rtol=1e-12)


# -- which neurons -------------------------------------------------------------------------------------


def test_what_reads_a_concatenation_keeps_the_weights_of_what_stays() -> None:
    net = images()
    weight = net["d"].op.weight
    create_edge(net["norm"], net["both"], slot=1)
    np.testing.assert_array_equal(net["d"].op.weight[:, :5], weight[:, :5])
    assert (net["d"].op.weight[:, 5:10] == 0).all()
    np.testing.assert_array_equal(net["d"].op.weight[:, 10:], weight[:, 5:])
    remove_edge(net["added"], net["both"])
    assert (net["d"].op.weight[:, :5] == 0).all()
    np.testing.assert_array_equal(net["d"].op.weight[:, 5:], weight[:, 5:])


@pytest.mark.parametrize(("align", "size"), [("increase", 6), ("decrease", 2), ("both", 4)])
def test_sizes_are_aligned_as_preferred(align: Any, size: int) -> None:
    net = Network(seed=1)
    x = nn.dense(net.input("in", 3), 2, name="x")
    y = nn.dense(x, 6, name="y")
    net.output(nn.dense(y, 4, name="out"))
    change = remove(y, align=align)
    assert (x.nout, net["out"].nin) == (size, (size,))
    assert change.plan is not None
    assert change.plan.certificate is not None
    assert change.plan.certificate.deviation == 0


@pytest.mark.parametrize(("units", "align", "size"), [(8, "new", 8), (3, "new", 3), (3, "increase", 6)])
def test_what_replaces_a_layer_has_the_size_that_it_was_given(units: int, align: Any, size: int) -> None:
    net = Network(seed=1)
    x = nn.dense(net.input("in", 3), 6, name="x")
    net.output(nn.dense(x, 4, name="out"))
    weight = net["out"].op.weight
    replace(x, lambda v: nn.dense(v, units), align=align)
    assert (net["x"].nout, net["out"].nin) == (size, (size,))
    kept = min(size, 6)
    assert {tuple(column) for column in net["out"].op.weight[:, :kept].T} <= {tuple(c) for c in weight.T}


def test_neurons_that_are_lost_since_sizes_cannot_grow_are_told() -> None:
    net = Network(seed=1)
    image = net.input("in", 2)
    stem = nn.dense(image, 6, name="stem")
    net.output(nn.add([stem, nn.dense(stem, 6, name="branch")], name="sum"))
    plan = remove.plan(stem)
    assert "sizes 2 and 6 were aligned at 2, as 6 is impossible" in str(plan)
    with pytest.warns(RelaxedWarning, match=r"sizes could not be increased; .*branch keeps 2 of 6 neurons.*net.undo"):
        remove(stem)
    net.undo()
    with pytest.raises(ImpossibleError):
        remove(stem, strategy=strategies.exact())


def test_an_optimiser_follows_windows_and_mutations() -> None:
    net = images()
    adam = nn.Adam(0.01)
    nn.fit(net, BATCH, np.zeros((3, 2)), optimizer=adam, steps=2)
    moments = adam.state["c.weight"].moments[0]
    adam.follow(change_kernel_size(net["c"], (2, -2)))
    np.testing.assert_array_equal(adam.state["c.weight"].moments[0][:, :, 1:-1], moments[:, :, :, 1:-1])
    for plan in mutate(net, Every(Widen(), InsertLayer(), AddEdge(), Narrow()), seed=3).plans:
        adam.follow(plan)
    nn.fit(net, BATCH, np.zeros((3, 2)), optimizer=adam, steps=2)


def test_verbs_tell_their_arguments() -> None:
    shown = inspect.signature(remove)
    assert list(shown.parameters)[:3] == ["vertex", "reconnect", "align"]
    assert shown.return_annotation is Change
    assert inspect.signature(remove.plan).return_annotation is EditPlan
    assert remove.__doc__ is not None
    assert remove.__doc__.startswith("Remove a vertex")


def test_an_edge_that_runs_through_something_else_is_hinted_at() -> None:
    net = images()
    create_edge(net["norm"], net["added"], entry="zero")
    with pytest.raises(GraphError, match="of these, 'b', 'scale_1' read 'norm'"):
        remove_edge(net["norm"], net["added"])
    before = net(BATCH)
    remove(net["scale_1"], reconnect="none")
    np.testing.assert_allclose(net(BATCH), before)


def test_a_factory_that_builds_on_the_network_itself_leaves_no_trace() -> None:
    net = images()
    before = everything(net)
    with pytest.raises(GraphError, match="has added to the network itself"):
        insert(net["c"], lambda v: nn.conv(net["a"], v.nout, 1))
    assert everything(net) == before


def test_the_neurons_worth_most_stay() -> None:
    net = Network(seed=1)
    x = nn.dense(net.input("in", 3), 2, name="x")
    y = nn.dense(x, 6, name="y")
    out = nn.dense(y, 4, name="out")
    weight = out.op.weight
    remove(y, align="decrease", utility=lambda v: np.array([1.0, 5, 2, 4, 0, 0]) if v.name == "y" else 1.0)
    np.testing.assert_array_equal(out.op.weight, weight[:, [1, 3]])


def test_without_alignment_different_sizes_are_refused() -> None:
    net = images()
    before = everything(net)
    with pytest.raises(
        ImpossibleError, match=r"remove d is impossible\.\n  12 neurons come where 4 are expected, and align is 'none'"
    ):
        remove(net["d"], align="none")
    assert everything(net) == before
    kept = remove(net["d"], align="none", on_failure="keep")
    assert not kept
    assert everything(net) == before


def test_observers_follow() -> None:
    net = images()
    nn.calibrate(net, BATCH, held_back=0)
    seen = net.observers["both"].select(np.array([0]))
    assert seen is not None
    create_edge(net["norm"], net["both"], slot=0)
    delta_nout(net["a"], -1)
    remove(net["d"])
    assert "d" not in net.observers
    nn.calibrate(net, BATCH, held_back=0)


def test_an_optimiser_follows() -> None:
    net = images()
    adam = nn.Adam(0.01)

    def train() -> None:
        nn.fit(net, BATCH, np.zeros((3, 2)), optimizer=adam, steps=2)

    train()
    plan = create_edge(net["norm"], net["both"], slot=0).plan
    assert plan is not None
    adam.follow(plan)
    train()
    plan = remove(net["d"]).plan
    assert plan is not None
    adam.follow(plan)
    assert {key.split(".")[0] for key in adam.state} == {"a", "norm", "b", "c", "out"}
    train()


# -- bad input -----------------------------------------------------------------------------------------


def refused(error: type[Exception], match: str, make: Callable[[Network], object]) -> None:
    net = images()
    before = everything(net)
    with pytest.raises(error, match=match):
        make(net)
    assert everything(net) == before


def test_vertices_that_cannot_be_done_without() -> None:
    refused(GraphError, "'in' is an input of the network; it cannot be removed", lambda net: remove(net["in"]))
    refused(
        GraphError, "'in' is an input of the network; it cannot be replaced", lambda net: replace(net["in"], nn.relu)
    )
    refused(GraphError, r"'out' is an output .* nothing would come", lambda net: remove(net["out"], reconnect="none"))
    refused(
        GraphError,
        r"'pooled' \(global_avg_pool\) takes 1 inputs and no input less",
        lambda net: remove(net["d"], reconnect="none"),
    )
    refused(
        GraphError,
        r"'d' \(conv\) takes 1 inputs and no further input, but removing 'both'",
        lambda net: remove(net["both"]),
    )

    def only_path(net: Network) -> None:
        with net.transaction():
            remove_edge(net["c"], net["both"])
            remove_edge(net["added"], net["both"])

    refused(GraphError, "would leave vertex 'both' without any input: it is the only path", only_path)


def test_edges_that_cannot_be() -> None:
    refused(GraphError, "from 'both' to 'added' would close a cycle", lambda net: _late(net, "both", "added"))
    refused(GraphError, "would close a cycle", lambda net: create_edge(net["added"], net["added"]))
    refused(GraphError, "belong to two networks", lambda net: create_edge(images()["a"], net["added"]))
    refused(
        GraphError, r"'d' \(conv\) takes 1 inputs and no further input", lambda net: create_edge(net["a"], net["d"])
    )
    refused(
        GraphError, "a new one can stand at slots 0 to 2, not 3", lambda net: create_edge(net["c"], net["both"], slot=3)
    )
    refused(GraphError, "slots 0 to 2, not -1", lambda net: create_edge(net["c"], net["both"], slot=-1))
    refused(GraphError, "slots 0 to 2, not 0.5", lambda net: create_edge(net["c"], net["both"], slot=0.5))  # type: ignore[arg-type]
    refused(
        GraphError,
        "there is no edge from 'c' to 'added', which reads 'a', 'b'",
        lambda net: remove_edge(net["c"], net["added"]),
    )
    refused(
        GraphError,
        "there are 1 edges from 'a' to 'added', numbered from 0, not 1",
        lambda net: remove_edge(net["a"], net["added"], which=1),
    )
    refused(GraphError, r"no further input", lambda net: create_edge(net["a"], net["in"]))
    refused(
        RequestError,
        "entry is 'plain' or 'zero', got 'half'",
        lambda net: create_edge(net["c"], net["added"], entry="half"),  # type: ignore[arg-type]
    )
    refused(
        RequestError,
        "align is one of 'increase', 'decrease'",
        lambda net: create_edge(net["c"], net["added"], align="up"),  # type: ignore[arg-type]
    )
    refused(RequestError, "reconnect is 'all' or 'none'", lambda net: remove(net["b"], reconnect="some"))  # type: ignore[arg-type]


def _late(net: Network, source: str, target: str) -> object:
    return create_edge(net[source], net[target])


def test_factories_that_make_nothing_of_use() -> None:
    foreign = images()
    refused(GraphError, "returned None; it has to return the new vertex", lambda net: insert(net["a"], lambda x: None))  # noqa: ARG005 - a factory
    refused(GraphError, "returned 'b' of another network", lambda net: insert(net["a"], lambda x: foreign["b"]))  # noqa: ARG005 - a factory
    refused(GraphError, "returned 'a' of another network", lambda net: insert(net["a"], lambda x: net["a"]))  # noqa: ARG005 - a factory
    refused(GraphError, "returned 'a', which was there already", lambda net: insert(net["a"], lambda x: x))
    refused(GraphError, "expected a function", lambda net: insert(net["a"], 3))  # type: ignore[arg-type]
    refused(
        GraphError,
        r"only the number of neurons can be aligned",
        lambda net: insert(net["a"], lambda x: nn.conv(x, 5, 3)),
    )
    refused(GraphError, r"only the number of neurons can be aligned", lambda net: insert(net["a"], nn.global_avg_pool))
    refused(LayerError, "an integer of at least 1", lambda net: insert(net["a"], lambda x: nn.conv(x, 0, 1)))
    refused(
        ImpossibleError,
        "6 neurons come where 5",
        lambda net: insert(net["a"], lambda x: nn.conv(x, 6, 1), align="none"),
    )
    refused(GraphError, "'d' does not read 'a'; 'norm', 'added' does", lambda net: insert(net["a"], nn.relu, net["d"]))
    refused(RequestError, "where is 'all' or some of the vertices", lambda net: insert(net["a"], nn.relu, []))


def test_windows_that_cannot_be() -> None:
    refused(LayerError, "at least 1 has to stay", lambda net: change_kernel_size(net["a"], -3))
    refused(LayerError, "has no window", lambda net: change_kernel_size(net["norm"], -2))
    refused(
        ImpossibleError, "change the window of a is impossible", lambda net: change_kernel_size(net["a"], -2, padding=1)
    )
    refused(LayerError, "no activation 'sine'", lambda net: change_activation(net["d"], "sine"))
    refused(LayerError, "has no activation", lambda net: change_activation(net["added"], "relu"))


def test_padding_that_would_have_to_be_negative() -> None:
    net = Network()
    layer = nn.conv(net.input("in", (3, 6, 6)), 4, 3, name="layer")
    with pytest.raises(LayerError, match=r"padding \(\(0, 0\), \(0, 0\)\) would have to become"):
        change_kernel_size(layer, -2)
    assert change_kernel_size(layer, -2, padding=0)
    assert layer.shape == (None, 4, 6, 6)


def test_shapes_that_differ_in_more_than_neurons() -> None:
    net = images()
    nn.global_avg_pool(net["c"], name="flat")
    before = everything(net)
    with pytest.raises(GraphError, match=r"'flat' has shape .*only the number of neurons can be aligned"):
        create_edge(net["flat"], net["added"])
    with pytest.raises(ImpossibleError, match="input 2 has"):
        create_edge(net["flat"], net["both"])
    assert everything(net) == before


def test_a_plan_is_for_one_state() -> None:
    net = images()
    first, second = remove.plan(net["d"]), remove.plan(net["norm"])
    first.apply()
    for plan in (first, second):
        with pytest.raises(PlanError, match="the model has changed since this plan was made"):
            plan.apply()
    third = remove.plan(net["norm"])
    net["a"].op.bias = np.ones(5)
    with pytest.raises(PlanError, match="the model has changed since this plan was made"):
        third.apply()


# -- transactions and undo -----------------------------------------------------------------------------


def test_a_transaction_is_all_or_nothing() -> None:
    net = images()
    before = everything(net)

    def edits(error: type[BaseException]) -> None:
        with net.transaction():
            remove(net["d"])
            delta_nout(net["a"], -2)
            nn.dense(net["out"], 3, name="more")
            net["out"].op.bias = np.ones(2)
            net.rng.random()
            raise error

    for error in (FailureError, KeyboardInterrupt, SystemExit):
        with pytest.raises(error):
            edits(error)
        assert everything(net) == before
    with pytest.raises(GraphError, match="cannot be taken back, 0 can"):
        net.undo()


def test_an_inner_transaction_takes_only_its_own_edits_back() -> None:
    net = images()
    before = everything(net)
    with net.transaction():
        remove(net["d"])
        middle = everything(net)
        with pytest.raises(FailureError):
            _removed_and_failed(net)
        assert everything(net) == middle
        delta_nout(net["a"], -2)
        with pytest.raises(GraphError, match="undo takes whole transactions back"):
            net.undo()
    assert net["a"].nout == 3
    net.undo()
    assert everything(net) == before


def _removed_and_failed(net: Network) -> None:
    with net.transaction():
        remove(net["norm"])
        raise FailureError


def test_the_history_is_as_deep_as_it_is_set() -> None:
    net = images()
    net.history = 3
    states = [everything(net)]
    for _ in range(4):
        delta_nout(net["a"], -1)
        states.append(everything(net))
    net.undo()
    assert everything(net) == states[3]
    net.undo(steps=2)
    assert everything(net) == states[1]
    with pytest.raises(GraphError, match=r"1 edits cannot be taken back, 0 can; this network remembers up to 3"):
        net.undo()
    net.history = 0
    delta_nout(net["a"], 1)
    with pytest.raises(GraphError, match="cannot be taken back"):
        net.undo()
    with pytest.raises(RequestError, match="the history is a number of edits"):
        net.history = -1


def test_arrays_of_the_past_cannot_be_written_to() -> None:
    net = images()
    delta_nout(net["a"], -1)
    with pytest.raises(ValueError, match="read-only"):
        net["d"].op.weight[0] = 1.0
    nn.fit(net, BATCH, np.zeros((3, 2)), steps=2)
    net.undo()
    assert everything(net) == everything(images())


def test_layers_added_after_an_edit_go_with_it() -> None:
    net = images()
    change_activation(net["d"], "relu")
    nn.dense(net["out"], 3, name="more")
    net.undo()
    assert "more" not in net
    assert net["d"].op.activation == "tanh"
    assert net(BATCH).shape == (3, 2)


def test_a_callback_that_raises_takes_the_edit_back() -> None:
    net = images()
    before = everything(net)

    def strict(change: Any) -> None:
        assert "d" not in change.model
        raise FailureError

    with pytest.raises(FailureError):
        remove(net["d"], strategy=strategies.after(strict))
    assert everything(net) == before


def test_what_an_edit_reaches_is_what_the_query_says() -> None:
    net = images()
    change = create_edge(net["c"], net["added"])
    spread = {v.name for v in affected_by(net["added"]).sizes}
    assert change.plan is not None
    assert {name for name, (old, new) in change.plan.sizes.items() if old != new} <= spread
