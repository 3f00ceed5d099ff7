"""Known numbers for edits of the structure, and for the ways in which a wish may be pursued."""

import logging
from typing import Any

import numpy as np
import pytest

from solver_nas import (
    Change,
    Network,
    change_kernel_size,
    concat,
    create_edge,
    delta_nout,
    delta_size,
    insert,
    invariant,
    nn,
    relaxed,
    remove,
    remove_edge,
    strategies,
)
from solver_nas.errors import ImpossibleError, RelaxedWarning, RequestError
from solver_nas.frontend import Handle
from solver_nas.nn.vertex import NetworkVertex


def linear(x: NetworkVertex, units: int, name: str | None = None) -> NetworkVertex:
    """A dense layer without a bias whose weights are all one."""
    made = nn.dense(x, units, bias=False, name=name)
    made.op.weight = np.ones_like(made.op.weight)
    return made


def names(handles: tuple[Handle, ...]) -> list[str]:
    return [handle.name for handle in handles]


# -- the structure -----------------------------------------------------------------------------


def test_inserting_a_layer() -> None:
    net = Network()
    x = net.input("in", 3)
    layer1 = linear(x, 5, "layer1")
    assert len(net) == 2
    assert net(np.ones(3)).tolist() == [3] * 5
    change = insert(x, lambda v: linear(v, 3, "between"))
    assert change
    assert len(net) == 3
    assert names(layer1.inputs) == ["between"]
    assert net(np.ones(3)).tolist() == [9] * 5
    assert "the network computes something else than before" in str(change)


def test_removing_a_layer() -> None:
    net = Network()
    layer1 = linear(net.input("in", 3), 5, "layer1")
    layer2 = linear(layer1, 4, "layer2")
    assert len(net) == 3
    assert net(np.ones(3)).tolist() == [15] * 4
    assert remove(layer1)
    assert len(net) == 2
    # The input cannot grow to the 5 that layer2 read.
    assert layer2.nin == (3,)
    assert net(np.ones(3)).tolist() == [3] * 4


@pytest.mark.parametrize("init", ["preserve", "zeros"])
def test_adding_a_summand(init: Any) -> None:
    net = Network()
    in1, in2 = net.input("in1", 3), net.input("in2", 2)
    layer1, layer2 = linear(in1, 4, "layer1"), linear(in2, 4, "layer2")
    add = (layer1 + layer2).named("add")
    out = linear(add, 5, "out")
    layer3 = linear(in2, 6, "layer3")
    net.output(out)
    assert list(add.nin) == [4, 4]
    assert net(np.ones(3), np.ones(2)).tolist() == [20] * 5
    assert create_edge(layer3, add, init=init)
    assert list(add.nin) == [6, 6, 6]
    assert names(add.inputs) == ["layer1", "layer2", "layer3"]
    # 4 old neurons of 3 + 2 + 2 each; `out` reads the two new ones with a weight of zero.
    assert net(np.ones(3), np.ones(2)) == pytest.approx([28] * 5)
    if init == "zeros":
        assert layer1.op.weight.tolist() == [[1, 1, 1]] * 4 + [[0, 0, 0]] * 2
    assert layer3.op.weight.tolist() == [[1, 1]] * 6


def test_removing_a_part_of_a_concatenation() -> None:
    net = Network()
    x = net.input("in", 4)
    layer1, layer2 = linear(x, 3, "layer1"), linear(x, 5, "layer2")
    merged = concat([layer1, layer2, layer1], name="merged")
    linear(merged, 3, "out")
    assert list(merged.nin) == [3, 5, 3]
    assert net(np.ones(4)).tolist() == [44] * 3
    assert remove_edge(layer1, merged)
    assert list(merged.nin) == [5, 3]
    assert net(np.ones(4)).tolist() == [32] * 3


def convolutional() -> Network:
    """A residual block over two convolutions; the relu of the batch norm would be a vertex of its own here."""
    net = Network()
    x = net.input("in", (3, 7, 7))
    named = nn.conv(x, 7, (5, 5), padding=2, name="namedconv")
    norm = nn.batch_norm(nn.conv(x, 5, (3, 3), padding=1, name="conv"), name="norm")
    conc = concat([named, norm], name="conc")
    residual = nn.conv(conc, 12, (3, 3), padding=1, name="residualconv")
    net.output((conc + residual).named("add"))
    return net


def test_one_edit_after_the_other_of_a_convolutional_network() -> None:
    net = convolutional()
    named, add, residual = net["namedconv"], net["add"], net["residualconv"]
    batch = np.random.default_rng(0).normal(size=(2, 3, 7, 7))
    assert net(batch).shape == (2, 12, 7, 7)
    delta_nout(add, -3)
    assert (add.nout, residual.nout, net["conv"].nout + named.nout) == (9, 9, 9)
    assert len(net) == 7
    assert remove(net["norm"])
    assert len(net) == 6
    assert names(net["conc"].inputs) == ["namedconv", "conv"]
    assert insert(residual, lambda v: nn.batch_norm(v, name="norm2"))
    assert len(net) == 7
    assert names(add.inputs) == ["conc", "norm2"]
    assert net(batch).shape == (2, 9, 7, 7)
    centre = named.op.weight[:, :, 1:-1, 1:-1].copy()
    assert change_kernel_size(named, (-2, -2))
    assert named.op.weight.tolist() == centre.tolist()
    assert named.op.weight.shape[2:] == (3, 3)
    assert net(batch).shape == (2, 9, 7, 7)


def test_identities_are_inserted_without_any_difference() -> None:
    net = Network()
    layer = nn.conv(net.input("in", (1, 8, 8)), 16, (3, 3), padding=1, activation="relu", name="layer")
    pooled = nn.flatten(nn.avg_pool(layer, (8, 8)))
    net.output(nn.dense(pooled, 2, name="out"))
    batch = np.random.default_rng(0).normal(size=(32, 1, 8, 8))
    before = net(batch)

    def two_more(x: NetworkVertex) -> NetworkVertex:
        for name in ("second", "third"):
            x = nn.conv(x, 16, (3, 3), padding=1, activation="relu", weights="identity", name=name)
        return x

    change = insert(layer, two_more)
    assert names(net["third"].outputs) == ["avg_pool_1"]
    assert (net(batch) == before).all()
    assert "the network computes what it did" in str(change)


# -- building and looking ----------------------------------------------------------------------


def test_the_sum_of_two_inputs() -> None:
    net = Network()
    in1, in2 = net.input("in1", 1), net.input("in2", 1)
    (in1 + in2).named("add")
    assert net(np.array([2.0]), np.array([3.0])).tolist() == [5]
    assert net(np.array([100.0]), np.array([200.0])).tolist() == [300]
    assert names(net.vertices) == ["in1", "in2", "add"]
    assert (net.vertices[0], net.vertices[-1]) == (in1, net["add"])
    table = net.summary("vertex", ("names of inputs", lambda v: " and ".join(names(v.inputs))))
    assert "names of inputs" in table
    assert "in1 and in2" in table


def test_activations_follow_the_sizes() -> None:
    net = Network()
    layer1 = linear(net.input("in", 3), 4, "layer1")
    layer2 = linear(layer1, 5, "layer2")
    batch = np.ones((2, 3))
    assert [net.activations(batch)[v.name].shape for v in (layer1, layer2)] == [(2, 4), (2, 5)]
    assert layer2.nin == (4,)
    assert delta_nout(layer1, -2)
    assert layer2.nin == (2,)
    assert [net.activations(batch)[v.name].shape for v in (layer1, layer2)] == [(2, 2), (2, 5)]


def test_layers_get_names_and_can_be_renamed() -> None:
    net = Network()
    x = net.input("in", 2)
    assert linear(x, 3).name == "dense_1"
    assert linear(x, 3, "also named").name == "also named"
    assert net.rename("dense_1", "named layer") == net["named layer"]
    net.rename("in", "in changed")
    assert names(net.vertices) == ["in changed", "named layer", "also named"]
    assert names(net["named layer"].inputs) == ["in changed"]


# -- strategies --------------------------------------------------------------------------------


def stacked() -> tuple[Network, NetworkVertex]:
    """A concatenation of 2 x 4 neurons, of which only an even number is possible."""
    net = Network()
    layer1 = linear(net.input("in", 3), 4, "layer1")
    joined = concat([2 * layer1, 3 * layer1], name="joined")
    net.output(joined)
    return net, joined


def test_exact_or_fail() -> None:
    net, joined = stacked()
    arrays = dict(net.arrays)
    with pytest.raises(ImpossibleError, match=r"nout\(joined\): 8 -> 9 is impossible"):
        delta_nout(joined, 1, strategy=strategies.exact().then(strategies.fail()))
    assert joined.nout == 8
    assert net.arrays == arrays


def test_exact_or_keep() -> None:
    net, joined = stacked()
    arrays = dict(net.arrays)
    change = delta_nout(joined, relaxed(1), strategy=strategies.exact().then(strategies.keep()))
    assert not change
    assert "nearest possible: 8, 10" in change.explanation
    assert joined.nout == 8
    assert net.arrays == arrays


def test_relaxed_at_once() -> None:
    net, joined = stacked()
    assert delta_nout(joined, 1, strategy=strategies.relaxed())
    assert (joined.nout, net["layer1"].nout) == (10, 5)


def test_exact_then_a_log_then_relaxed(caplog: pytest.LogCaptureFixture) -> None:
    _, joined = stacked()
    careful = strategies.exact().then(strategies.log("info", "Exact failed, relaxing")).then(strategies.relaxed())
    with caplog.at_level(logging.INFO, logger="solver_nas"):
        assert delta_nout(joined, 1, strategy=careful.then(strategies.log_changes("info")))
    assert joined.nout == 10
    exact, change = (record.getMessage() for record in caplog.records)
    assert exact.startswith("Exact failed, relaxing\nnout(joined): 8 -> 9 is impossible.")
    rows = {line.split()[0]: line.split()[1:] for line in change.splitlines()}
    assert rows["layer1"] == ["4", "5", "4", "1"]
    assert rows["joined"] == ["8", "10", "8", "2"]


def test_a_log_that_nobody_reads_is_not_written(caplog: pytest.LogCaptureFixture) -> None:
    _, joined = stacked()
    quiet = strategies.exact().then(strategies.log("debug")).then(strategies.relaxed())
    with caplog.at_level(logging.INFO, logger="solver_nas"):
        assert delta_nout(joined, 1, strategy=quiet.then(strategies.log_changes("debug")))
    assert caplog.records == []


def test_the_warning_may_have_a_text_of_its_own() -> None:
    _, joined = stacked()
    loud = strategies.exact().then(strategies.warn("Then the next size.")).then(strategies.relaxed())
    with pytest.warns(RelaxedWarning, match=r"nearest possible: 8, 10\nThen the next size\."):
        delta_nout(joined, 1, strategy=loud)
    assert joined.nout == 10


def positions(v: Handle) -> np.ndarray:
    return np.arange(v.nout) + 1.0


def opposite(v: Handle) -> np.ndarray:
    return v.nout - np.arange(v.nout)


def elaborate() -> Network:
    """Sizes 9, 3, 9, 9; outputs 78 78 0 114 114 0 186 186 0."""
    net = Network()
    start = linear(net.input("in", 6), 6, "start")
    split = linear(start, 2, "split")
    joined = concat([invariant(lambda a, s=s: a * s, split, name=f"x{s}") for s in (2, 3, 5)], name="joined")
    net.output((start + joined).named("out"))
    delta_nout(net["out"], relaxed(2), init="zeros")
    return net


@pytest.mark.parametrize(
    ("delta", "expected"),
    [
        # The exact step works: high positions stay.
        (-3, [42, 0, 60, 0, 96, 0]),
        # Only a multiple of 3 is possible: 9 - 2 is not, 6 is the nearest one, and low positions stay.
        (-2, [78, 78, 114, 114, 186, 186]),
    ],
    ids=["exact", "relaxed"],
)
def test_every_step_may_have_a_utility_of_its_own(delta: int, expected: list[int]) -> None:
    net = elaborate()
    steps = strategies.exact(utility=positions).then(strategies.relaxed(utility=opposite))
    assert delta_nout(net["out"], delta, strategy=steps)
    assert net(np.ones(6)).tolist() == expected


def test_a_step_without_a_utility_takes_that_of_the_call() -> None:
    net = elaborate()
    assert delta_nout(net["out"], -3, utility=positions, strategy=strategies.exact())
    assert net(np.ones(6)).tolist() == [42, 0, 60, 0, 96, 0]


def test_the_utility_of_a_structural_edit_may_depend_on_the_step() -> None:
    net = Network()
    layer1 = linear(net.input("in", 3), 5, "layer1")
    out = nn.dense(layer1, 2, bias=False, name="out")
    before = out.op.weight
    steps = strategies.mixed(utility=positions).then(strategies.fail())
    assert remove(layer1, utility=opposite, strategy=steps)
    assert out.op.weight.tolist() == before[:, 2:].tolist()


def test_pruning_by_a_given_utility() -> None:
    net = Network()
    layer = linear(net.input("in", 3), 6, "layer")
    change = delta_size(net, strategy=strategies.mixed(utility={layer: [-1, 1, -1, 1, -1, 1]}))
    assert change.plan is not None
    assert change.plan.indices["layer"].tolist() == [1, 3, 5]


def test_a_layer_never_loses_its_last_neuron() -> None:
    net = Network()
    x = net.input("in", 3)
    for units in (6, 4, 5):
        x = linear(x, units)
    delta_size(net, utility=lambda _: -1.0)
    assert [v.nout for v in net.vertices] == [3, 1, 1, 1]


def test_new_weights_may_depend_on_the_step() -> None:
    net, joined = stacked()
    steps = strategies.exact(init="zeros").then(
        strategies.relaxed(init=lambda _, shape, __, value: np.full(shape, value), options={"value": 7.0})
    )
    delta_nout(joined, 1, strategy=steps)
    assert net["layer1"].op.weight.tolist() == [[1, 1, 1]] * 4 + [[7, 7, 7]]


def test_a_step_may_forbid_new_neurons() -> None:
    net, joined = stacked()
    steps = strategies.exact(most_new=0).then(strategies.relaxed())
    delta_nout(joined, 2, strategy=steps.then(strategies.fail()))
    assert joined.nout == 10
    with pytest.raises(ImpossibleError):
        delta_nout(joined, 2, strategy=strategies.exact(most_new=0))
    assert net["layer1"].nout == 5


def test_one_may_warn_and_keep_everything() -> None:
    _, joined = stacked()
    steps = strategies.exact().then(strategies.warn("Nothing was done.")).then(strategies.keep())
    with pytest.warns(RelaxedWarning, match=r"is impossible(.|\n)*Nothing was done\."):
        assert not delta_nout(joined, 1, strategy=steps)
    assert joined.nout == 8


# -- call-backs --------------------------------------------------------------------------------


def moved(change: Change) -> dict[str, list[int]]:
    """The vertices whose neurons are not what they were."""
    assert change.plan is not None
    found = {name: index.tolist() for name, index in change.plan.indices.items()}
    return {name: index for name, index in found.items() if index != list(range(len(index)))}


def test_a_call_back_sees_what_was_changed_where() -> None:
    net = Network()
    layer1 = linear(net.input("in", 2), 3, "layer1")
    layer2 = linear(layer1, 4, "layer2")
    seen = list[dict[str, list[int]]]()
    watch = strategies.after(lambda change: seen.append(moved(change)))
    assert delta_nout(layer1, 1, strategy=watch)
    assert seen.pop() == {"layer1": [0, 1, 2, -1]}
    assert layer2.nin == (4,)
    (layer1 + layer2).named("add")
    assert delta_nout(layer1, 1, strategy=watch)
    grown = [0, 1, 2, 3, -1]
    assert seen == [{"layer1": grown, "layer2": grown, "add": grown}]
    assert net["add"].nin == (5, 5)


def test_changes_of_the_structure_are_logged_too(caplog: pytest.LogCaptureFixture) -> None:
    net = Network()
    linear(linear(net.input("in", 3), 5, "layer1"), 4, "layer2")
    with caplog.at_level(logging.INFO, logger="solver_nas"):
        remove(net["layer1"], strategy=strategies.log_changes("info"))
    (record,) = caplog.records
    assert record.getMessage().startswith("remove layer1\nremoved: layer1\n")


def test_a_check_of_the_callers_takes_a_change_back() -> None:
    net = Network()
    layer1 = linear(net.input("in", 3), 5, "layer1")
    linear(layer1, 4, "layer2")
    arrays, vertices = dict(net.arrays), net.graph.vertices
    for check in (lambda model: len(model) == 3, lambda model: bool(model["layer1"])):
        with pytest.raises((RequestError, ValueError), match=r"did not pass the check|there is no vertex 'layer1'"):
            remove(layer1, strategy=strategies.validate(check))
        assert net.arrays == arrays
        assert net.graph.vertices == vertices
    assert remove(layer1, strategy=strategies.validate(lambda model: len(model) == 2))
