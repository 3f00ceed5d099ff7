"""What once went wrong when the structural verbs were attacked, each in its smallest form."""

import numpy as np
import pytest

from solver_nas import (
    Network,
    change_activation,
    change_kernel_size,
    concat,
    create_edge,
    delta_nout,
    insert,
    nn,
    remove,
    remove_edge,
    replace,
)
from solver_nas.errors import GraphError, ImpossibleError, LayerError, PlanError, RequestError
from solver_nas.frontend import Handle
from solver_nas.nn.vertex import NetworkVertex

X = np.random.default_rng(0).normal(size=(8, 4))


def bits(net: Network) -> tuple[object, ...]:
    return net.graph.vertices, net.graph.outputs, [(k, a.tobytes()) for k, a in net.arrays.items()]


def chain() -> Network:
    net = Network(seed=1)
    a = nn.dense(net.input("in", 4), 5, name="a")
    net.output(nn.dense(a, 2, name="out"))
    return net


def test_a_small_output_counts_beside_a_large_one() -> None:
    net = Network(seed=1)
    x = net.input("in", 4)
    small = nn.dense(nn.dense(x, 5, name="b"), 2, name="small")
    net.output(nn.dense(x, 2, name="big") * 1e12, small)
    assert insert.plan(net["b"], lambda v: nn.dense(v, 5)).unchanged is False


def test_neurons_that_are_silent_for_small_numbers_count() -> None:
    net = chain()
    change_activation(net["a"], "relu")
    net["a"].op.bias = np.full(5, -5.0)
    assert insert.plan(net["a"], lambda v: nn.dense(v, 5)).unchanged is False


@pytest.mark.filterwarnings("error")
def test_infinities_of_other_signs_are_other_numbers() -> None:
    net = chain()
    net["out"].op.bias = np.array([np.inf, 0.0])

    def turned(v: NetworkVertex) -> NetworkVertex:
        made = nn.scale(v)
        made.op.scale = np.array([-1.0, 1.0])
        return made

    assert insert.plan(net["out"], turned).unchanged is False
    assert insert.plan(net["out"], nn.scale).unchanged is True


def renames(v: NetworkVertex) -> NetworkVertex:
    v.named("other")
    return nn.dense(v, 6)


def removes(v: NetworkVertex) -> NetworkVertex:
    made = nn.dense(v, 5)
    remove(v)
    return made


def rewires(v: NetworkVertex) -> NetworkVertex:
    made = nn.dense(v, 5)
    v.model.output(made)
    return made


def resizes(v: NetworkVertex) -> NetworkVertex:
    delta_nout(v, 1)
    return nn.dense(v, 5)


def sets_weights(v: NetworkVertex) -> NetworkVertex:
    v.model["out"].op.bias = np.ones(2)
    return nn.dense(v, 5)


@pytest.mark.parametrize("factory", [renames, removes, rewires, resizes, sets_weights])
def test_a_factory_may_only_add(factory: object) -> None:
    net = chain()
    before = bits(net)
    with pytest.raises(GraphError, match=r"has changed what was there already|is not there|no vertex"):
        insert(net["a"], factory)  # type: ignore[arg-type]  # of several kinds
    assert bits(net) == before


def test_what_is_inserted_has_to_read_what_it_stands_behind() -> None:
    net = chain()
    with pytest.raises(GraphError, match="which is not computed from 'a'"):
        insert(net["a"], lambda v: nn.dense(v.model["in"], 5, name="side"))


def test_a_factory_may_add_an_input() -> None:
    net = chain()
    change = insert(net["a"], lambda v: nn.add([v, v.model.input("more", 5)]))
    assert change.plan is not None
    assert change.plan.unchanged is None  # type: ignore[attr-defined]  # of an edit
    assert net(X, np.ones((8, 5))).shape == (8, 2)


def test_neurons_that_stand_along_another_axis_afterwards() -> None:
    net = Network(seed=1)
    turned = nn.transpose(nn.dense(net.input("in", (5, 4), axis=-1), 6), (0, 2, 1))
    back = nn.transpose(nn.dense(turned, 4, name="layer"), (0, 2, 1), name="back")
    net.output(nn.dense(back, 3))
    plan = remove.plan(net["layer"])
    assert plan.sizes["back"] == (4, 6)
    assert len(plan.indices["back"]) == 6
    plan.apply()


def test_sizes_are_aligned_along_an_axis_without_neurons() -> None:
    for width in (3, 5, 7):
        net = Network(seed=1)
        turned = nn.transpose(nn.dense(net.input("in", (5, 4), axis=-1), 6), (0, 2, 1), name="turned")
        net.output(nn.dense(turned, 3, name="layer"))
        insert(turned, lambda v, width=width: nn.dense(v, width))
        assert net(np.ones((2, 5, 4))).shape == (2, 6, 3)


def test_a_product_that_loses_its_wide_factor() -> None:
    net = Network(seed=1)
    x = net.input("in", 4)
    a, s = nn.dense(x, 1, name="a"), nn.dense(x, 4, name="s")
    product = nn.multiply([a, s], name="product")
    net.output(nn.dense(concat([product, a]), 3))
    before = bits(net)
    try:
        remove_edge(s, product)
    except ImpossibleError:
        assert bits(net) == before
    assert net(X).shape == (8, 3)


def test_new_parts_that_a_reshape_cannot_take() -> None:
    net = Network(seed=1)
    x = net.input("in", 4)
    extra = nn.dense(x, 3, name="extra")
    joined = concat([nn.dense(x, 6)], name="joined")
    net.output(nn.dense(nn.reshape(joined, (2, 3)), 2))
    before = bits(net)
    try:
        create_edge(extra, joined)
    except ImpossibleError:
        assert bits(net) == before
    else:
        assert net(X).shape == (8, 2, 2)


def test_arguments_are_looked_at_even_where_they_are_not_needed() -> None:
    net = chain()

    def same(v: NetworkVertex) -> NetworkVertex:
        return nn.dense(v, 5)

    for seed in (-1, "q", 1.5):
        with pytest.raises(RequestError, match="the seed is a whole number"):
            insert(net["a"], same, seed=seed)  # type: ignore[arg-type]  # what is tested
    with pytest.raises(RequestError, match="the time limit is a positive number"):
        insert(net["a"], same, time_limit=-1)
    with pytest.raises(RequestError, match="a utility is a function"):
        insert(net["a"], same, utility="q")  # type: ignore[arg-type]  # what is tested
    with pytest.raises(RequestError, match="init is 'preserve'"):
        insert(net["a"], same, init="q")  # type: ignore[arg-type]  # what is tested
    with pytest.raises(LayerError, match="no activation"):
        change_activation(net["a"], [])  # type: ignore[arg-type]  # what is tested


def test_places_are_whole_numbers() -> None:
    net = Network(seed=1)
    x = net.input("in", 4)
    joined = concat([nn.dense(x, 2, name="a"), nn.dense(x, 2, name="b")], name="joined")
    net.output(nn.dense(joined, 2))
    for slot in (True, 1.0, np.array([0, 1]), "1"):
        with pytest.raises(GraphError, match="slots 0 to 2"):
            create_edge(x, joined, slot=slot)  # type: ignore[arg-type]  # what is tested
    images = Network()
    pool = nn.max_pool(images.input("in", (2, 8, 8)), 2, name="pool")
    for change in (1.5, None, "2"):
        with pytest.raises(LayerError, match=r"the change of the window|integer"):
            change_kernel_size(pool, change)  # type: ignore[arg-type]  # what is tested


def test_what_happens_to_the_copies_of_a_plan_does_not_reach_it() -> None:
    net = chain()
    plan = insert.plan(net["a"], lambda v: nn.dense(v, 5, weights="identity", name="extra"))
    after = plan.after
    after["out"].op.weight = np.zeros((2, 5))  # type: ignore[attr-defined]  # a network's vertex
    expected = net(X)
    plan.apply()
    np.testing.assert_allclose(net(X), expected, rtol=1e-12)


def test_who_changes_the_network_while_it_is_planned_is_told() -> None:
    net = chain()

    def meddling(v: Handle) -> float:
        if net["a"].nout == 5:
            delta_nout(net["a"], 1, utility=lambda _: 0.0)
        return float(v.nout)

    with pytest.raises((PlanError, GraphError), match=r"has changed|changed the network"):
        replace(net["a"], lambda v: nn.dense(v, 9), utility=meddling)
