"""Queries: what is where in a network, and how far a change of size can spread."""

import numpy as np
import pytest

from solver_nas import Network, Spread, affected_by, concat, immutable, nn, plan_change, relaxed
from solver_nas.classes import classify
from solver_nas.errors import GraphError, ImpossibleError, RequestError
from solver_nas.frontend import Handle
from solver_nas.graph import Port
from solver_nas.posing import pose
from solver_nas.queries import _reached
from solver_nas.requests import output_targets
from solver_nas.testing.zoo import ZOO

each_specimen = pytest.mark.parametrize("name", ZOO)


def names(handles: tuple[Handle, ...]) -> list[str]:
    return [handle.name for handle in handles]


def parts(spread: Spread) -> tuple[list[str], list[str], list[str]]:
    return names(spread.sizes), names(spread.sources), names(spread.ends)


def residual() -> Network:
    """Two layers beside a shortcut; a branch that has nothing to do with them."""
    net = Network()
    x = nn.dense(net.input("in", 3), 4, name="before")
    inner = nn.dense(x, 7, activation="relu", name="inner")
    total = (x + nn.dense(inner, 4, name="last")).named("sum")
    net.output(nn.dense(total, 2, name="out"), nn.dense(net["in"], 5, name="aside"))
    return net


# -- who comes before and after ----------------------------------------------------------------


def test_ancestors_and_descendants_come_producers_first() -> None:
    net = residual()
    assert names(net["sum"].ancestors) == ["in", "before", "inner", "last"]
    assert names(net["before"].descendants) == ["inner", "last", "sum", "out"]
    assert net["in"].ancestors == net["out"].descendants == ()
    assert net["inner"].ancestors == (net["in"], net["before"])


def test_a_vertex_that_is_gone_has_neither() -> None:
    net = residual()
    old = net["inner"]
    net.rename("inner", "inside")
    with pytest.raises(GraphError, match="there is no vertex 'inner'"):
        _ = old.ancestors
    with pytest.raises(GraphError, match="there is no vertex 'inner'"):
        _ = old.descendants
    assert names(net["sum"].ancestors) == ["in", "before", "inside", "last"]


# -- find --------------------------------------------------------------------------------------


def test_vertices_are_found_by_name_pattern_and_question() -> None:
    net = residual()
    assert net.find("inner") == (net["inner"],)
    assert names(net.find("in*")) == ["in", "inner"]
    assert names(net.find("*[tm]")) == ["last", "sum", "out"]
    assert names(net.find(lambda v: v.kind == "dense" and v.nout > 4)) == ["inner", "aside"]
    assert names(net.find("*")) == list(net.graph.order)
    assert net.find("IN") == net.find("nobody") == net.find(lambda _: False) == ()


def test_a_name_that_looks_like_a_pattern_is_a_name_first() -> None:
    net = Network()
    net.input("a[b]", 2)
    net.input("ab", 2)
    assert names(net.find("a[b]")) == ["a[b]"]
    assert names(net.find("?[b]")) == ["ab"]


@pytest.mark.parametrize("what", [None, 3, ["in"]])
def test_nothing_else_is_looked_for(what: object) -> None:
    with pytest.raises(RequestError, match="find takes a name, a pattern such as"):
        residual().find(what)  # type: ignore[arg-type] # on purpose


# -- how far a change spreads ------------------------------------------------------------------


def test_a_chain_ends_at_the_next_layer() -> None:
    net = Network()
    a = nn.dense(net.input("in", 3), 4, name="a")
    b = nn.dense(nn.batch_norm(a, name="norm"), 5, name="b")
    net.output(nn.dense(b, 2, name="out"))
    assert parts(affected_by(a)) == (["a", "norm"], ["a"], ["b"])
    assert parts(affected_by(net["norm"])) == parts(affected_by(a))
    assert parts(affected_by(b)) == (["b"], ["b"], ["out"])
    assert parts(affected_by(net["out"])) == (["out"], ["out"], [])


def test_a_shortcut_ties_both_ends_of_its_branch() -> None:
    net = residual()
    for name in ("before", "last", "sum"):
        assert parts(affected_by(net[name])) == (["before", "last", "sum"], ["before", "last"], ["inner", "out"])
    assert parts(affected_by(net["inner"])) == (["inner"], ["inner"], ["last"])


def test_of_a_concatenation_only_the_own_part_goes_along() -> None:
    net = Network()
    x = net.input("in", 3)
    a, b = nn.dense(x, 4, name="a"), nn.dense(x, 5, name="b")
    joined = concat([a, b], name="joined")
    net.output(nn.dense(joined, 2, name="out"), nn.dense(b, 2, name="other"))
    assert parts(affected_by(a)) == (["a", "joined"], ["a"], ["out"])
    assert parts(affected_by(b)) == (["b", "joined"], ["b"], ["out", "other"])
    assert parts(affected_by(joined)) == (["a", "b", "joined"], ["a", "b"], ["out", "other"])


def test_a_rectangle_connects_what_reads_its_rows() -> None:
    net = Network()
    a = nn.conv(net.input("image", (3, 8, 8)), 6, 1, name="a")
    b = nn.conv(a, 4, 3, groups=2, name="b")
    net.output(nn.conv(b, 2, 1, name="out"))
    # A group of `a` that goes takes its filters of `b` along.
    assert parts(affected_by(a)) == parts(affected_by(b)) == (["a", "b"], ["a", "b"], ["out"])


def test_channels_on_their_own_are_no_rectangle() -> None:
    net = Network()
    x = net.input("image", (3, 8, 8))
    joined = concat([nn.conv(x, 4, 1, name="a"), nn.conv(x, 2, 1, name="b")], name="joined")
    net.output(nn.conv(joined, 6, 3, groups=6, name="depthwise"))
    assert parts(affected_by(net["a"])) == (["a", "joined", "depthwise"], ["a"], [])


def test_pixels_of_channels_that_go_as_a_whole_are_no_rectangle() -> None:
    net = Network()
    x = net.input("in", 3)
    joined = concat([nn.dense(x, 12, name="a"), nn.dense(x, 12, name="b")], name="joined")
    net.output(nn.conv(nn.reshape(joined, (4, 3, 2), name="image"), 3, 2, name="out"))
    assert parts(affected_by(net["a"])) == (["a", "joined", "image"], ["a"], ["out"])


def test_what_is_always_there_connects_nothing() -> None:
    net = Network()
    x = net.input("in", 2)
    for name in ("a", "b"):
        v = nn.dense(x, 2, name=name)
        # A row of inputs, which stay, and a row of neurons.
        nn.reshape(concat([x, v], name=f"{name}.joined"), (2, 2), name=f"{name}.rows")
    sizes = affected_by(net["a"]).sizes
    assert names(sizes) == ["a", "a.joined", "a.rows"]


def test_shared_columns_connect_what_shares_them() -> None:
    net = Network()
    x = net.input("in", 3)
    a = nn.scale(nn.reshape(nn.dense(x, 6, name="a"), (2, 3), name="a.rows"), axis=2, name="a.scale")
    rows = nn.reshape(nn.dense(x, 12, name="b"), (4, 3), name="b.rows")
    keys = {role: parameter.key for role, parameter in a.vertex.parameters.items()}
    net.add("scale", "b.scale", (rows,), a.vertex.attributes, keys=keys)
    assert set(names(affected_by(net["a"]).sizes)) == {"a", "a.rows", "a.scale", "b", "b.rows", "b.scale"}
    assert set(names(affected_by(net["a"]).sources)) == {"a", "b"}


def test_a_weight_that_goes_along_is_an_end_too() -> None:
    """The rank of a factorised layer is the output of another layer, which it does not read."""
    net = Network()
    a = nn.dense(net.input("in", 3), 4, bias=False, name="a")
    net.output(nn.dense(a, 2, name="out"))
    ranked = {"axes": {"down": ("rank", "in"), "up": ("rank", "out")}, "axis": -1, "function": lambda x: x}
    up = {"up": np.ones((4, 5))}
    net.add("absorb", "ranked", (net.input("in2", 3),), ranked, up, keys={"down": "a.weight"})
    assert parts(affected_by(a)) == (["a"], ["a"], ["out", "ranked"])


def test_another_axis_of_an_output_is_a_size_too() -> None:
    net = Network()
    a = nn.dense(net.input("in", (5, 3), axis=-1), 4, name="a")
    swapped = nn.transpose(a, (0, 2, 1), name="swapped")
    net.output(nn.dense(swapped, 2, name="steps"))
    assert net["steps"].shape == (None, 4, 2)
    assert parts(affected_by(a)) == (["a", "swapped", "steps"], ["a"], [])


def test_layers_that_share_their_weights_change_together() -> None:
    net = Network()
    a = nn.dense(net.input("in", 3), 4, name="a")
    keys = {"weight": "a.weight", "bias": "a.bias"}
    b = net.add("dense", "b", (net.input("in2", 3),), {"activation": "identity"}, keys=keys)
    net.output(nn.dense(a, 2, name="out"), nn.dense(b, 2, name="out2"))
    assert parts(affected_by(a)) == (["a", "b"], ["a", "b"], ["out", "out2"])


def test_what_is_pinned_affects_nothing() -> None:
    net = Network()
    x = nn.dense(net.input("in", 3), 4, name="x")
    top = immutable(lambda a: np.sort(a, axis=-1)[..., -2:], x, size=2, name="top")
    y = nn.dense(top, 3, name="y")
    net.output((y + net["in"]).named("sum"))
    for name in ("in", "x", "top", "y", "sum"):
        assert affected_by(net[name]) == Spread()
    assert Spread().vertices == ()


def test_several_vertices_change_together() -> None:
    net = residual()
    both = affected_by([net["inner"], net["aside"]])
    assert parts(both) == (["inner", "aside"], ["inner", "aside"], ["last"])
    assert names(both.vertices) == ["inner", "last", "aside"]
    assert affected_by(v for v in (net["aside"], net["inner"])) == both
    assert affected_by(net.find("nobody")) == Spread()
    assert names(affected_by(net).vertices) == [v.name for v in net if v.name != "in"]


@pytest.mark.parametrize("wrong", ["inner", 3, None])
def test_only_vertices_are_affected(wrong: object) -> None:
    with pytest.raises(GraphError, match=r"expected a vertex such as net\['hidden'\], or several, got"):
        affected_by(wrong)  # type: ignore[arg-type] # on purpose


def test_only_vertices_of_one_network_are_affected() -> None:
    net, other = residual(), residual()
    with pytest.raises(GraphError, match="'last' belongs to another network than 'inner'"):
        affected_by([net["inner"], other["last"]])
    with pytest.raises(GraphError, match=r"expected a vertex such as net\['hidden'\], got 'last'"):
        affected_by([net["inner"], "last"])  # type: ignore[list-item] # on purpose


# -- laws --------------------------------------------------------------------------------------


@each_specimen
def test_whatever_a_change_changes_was_foretold(name: str) -> None:
    """The oracle: change every vertex of a network and look at what has become of all others."""
    for vertex in ZOO[name].build(5).graph.vertices:
        for delta in (-2, -1, 1):
            before, net = ZOO[name].build(5), ZOO[name].build(5)
            spread = affected_by(net[vertex.name])
            sizes, affected = set(names(spread.sizes)), set(names(spread.vertices))
            assert sizes.isdisjoint(names(spread.ends))
            assert sizes.issuperset(names(spread.sources))
            if vertex.kind == "input":
                assert not affected
                continue
            rng = np.random.default_rng(abs(delta))
            wish = relaxed(delta, must_change=True)
            try:
                plan = plan_change(
                    net[vertex.name], wish, utility=lambda v, rng=rng: rng.random(v.nout), on_failure="raise"
                )
            except ImpossibleError:
                continue
            plan.apply()
            assert vertex.name in sizes
            for old, new in zip(before, net, strict=True):
                index = plan.indices[old.name]
                if new.shape != old.shape or not np.array_equal(index, np.arange(old.nout)):
                    assert old.name in sizes
                if any(not np.array_equal(array, new.parameters[role]) for role, array in old.parameters.items()):
                    assert old.name in affected
                if new.vertex.attributes.keys() ^ old.vertex.attributes.keys() or any(
                    new.vertex.attributes[key] != value for key, value in old.vertex.attributes.items()
                ):
                    assert old.name in affected


@each_specimen
def test_the_spread_is_what_a_request_puts_up_for_change(name: str) -> None:
    net = ZOO[name].build(5)
    for vertex in net:
        if vertex.kind == "input":
            continue
        targets = output_targets(net.graph, net.labels, [(vertex.name, relaxed(-1))])
        problem = pose(net.labels, targets, lambda port: np.zeros(net[port.vertex].nout))
        up = np.zeros(problem.classes, bool)
        for bucket in problem.buckets:
            up[bucket.classes] = True
        np.testing.assert_array_equal(_reached(net.labels, [Port(vertex.name)]), up[problem.class_of])
        assert problem.classes == classify(net.labels)[1]
