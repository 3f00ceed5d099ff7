"""Sizes and surviving neurons after one edit of the structure."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

from solver_nas import Change, Network, create_edge, delta_nout, insert, nn, remove, remove_edge
from solver_nas.errors import GraphError, ImpossibleError
from solver_nas.frontend import Handle
from solver_nas.nn.vertex import NetworkVertex

# Where sizes cannot grow as preferred, and neurons are lost, that is said; here it is what is expected.
pytestmark = pytest.mark.filterwarnings("ignore:.*sizes could not be increased")

Written = Callable[[str], Network]
Edit = Callable[[Network], Change]


def positions(v: Handle) -> np.ndarray:
    """Neurons further behind are worth more."""
    return np.arange(v.nout) + 1.0


class Row(NamedTuple):
    """One edit.

    Args:
        text: the network.
        edit: what is done to it.
        target: the vertex whose inputs change.
        inputs: what it reads afterwards.
        sizes: what it reads, by size, and its own size.
        moved: which old neuron stands where, for all vertices for which that changes; -1 is a new one.
    """

    text: str
    edit: Edit
    target: str
    inputs: str
    sizes: tuple[tuple[int, ...], int]
    moved: dict[str, list[int]]


def old(*parts: range, new: int = 0) -> list[int]:
    """Old positions, then new ones."""
    return [position for part in parts for position in part] + [-1] * new


def base(v3: str, v2: int = 4) -> str:
    return f"in = 3; v1 = dense(in, 5); v2 = dense(in, {v2}); v3 = {v3}; v4 = dense(v3, 3); v5 = dense(v2, 2)"


SUMMANDS = "in = 3; v1 = dense(in, 4); v2 = dense(in, 4); v3 = add(v1, v2, v1); v4 = dense(v3, 3); v5 = dense(v2, 2)"
PARTS = "in = 3; v1 = dense(in, 3); v2 = dense(in, 4); v3 = dense(in, 5)"

REMOVED_EDGES = {
    "the last part": Row(
        base("cat(v1, v2)"), lambda n: remove_edge(n["v2"], n["v3"]), "v3", "v1", ((5,), 5), {"v3": old(range(5))}
    ),
    # Of two parts that are the same, the first goes unless something else is said.
    "the first of two alike": Row(
        base("cat(v1, v2, v1)"),
        lambda n: remove_edge(n["v1"], n["v3"]),
        "v3",
        "v2 v1",
        ((4, 5), 9),
        {"v3": old(range(5, 14))},
    ),
    "the second of two alike": Row(
        base("cat(v1, v2, v1)"),
        lambda n: remove_edge(n["v1"], n["v3"], which=1),
        "v3",
        "v1 v2",
        ((5, 4), 9),
        {"v3": old(range(9))},
    ),
    "a summand": Row(
        "in = 3; v1 = dense(in, 8); v2 = dense(in, 8); v3 = add(v1, v2); v4 = dense(v3, 3); v5 = dense(v2, 2)",
        lambda n: remove_edge(n["v2"], n["v3"]),
        "v3",
        "v1",
        ((8,), 8),
        {},
    ),
    "the first of two summands alike": Row(
        SUMMANDS, lambda n: remove_edge(n["v1"], n["v3"]), "v3", "v2 v1", ((4, 4), 4), {}
    ),
    "the second of two summands alike": Row(
        SUMMANDS, lambda n: remove_edge(n["v1"], n["v3"], which=1), "v3", "v1 v2", ((4, 4), 4), {}
    ),
    # The reference first shrinks the parts that stay, to 1 and 2, when it is told to decrease sizes. Here the parts
    # that stay have nothing to do with the one that goes.
    "a part in the middle": Row(
        f"{PARTS}; c = cat(v1, v2, v3); v5 = dense(c, 3)",
        lambda n: remove_edge(n["v2"], n["c"], align="decrease", utility=positions),
        "c",
        "v1 v3",
        ((3, 5), 8),
        {"c": old(range(3), range(7, 12))},
    ),
}

CREATED_EDGES = {
    "a second part": Row(
        base("cat(v1)"),
        lambda n: create_edge(n["v2"], n["v3"]),
        "v3",
        "v1 v2",
        ((5, 4), 9),
        {"v3": old(range(5), new=4)},
    ),
    "a part in front": Row(
        base("cat(v1)"),
        lambda n: create_edge(n["v2"], n["v3"], slot=0),
        "v3",
        "v2 v1",
        ((4, 5), 9),
        {"v3": [-1] * 4 + old(range(5))},
    ),
    "the same part a third time": Row(
        base("cat(v1, v1, v2)"),
        lambda n: create_edge(n["v1"], n["v3"]),
        "v3",
        "v1 v1 v2 v1",
        ((5, 5, 4, 5), 19),
        {"v3": old(range(14), new=5)},
    ),
    "the input as a part": Row(
        "in = 3; v1 = dense(in, 5); v2 = cat(v1); v3 = dense(v2, 3); v4 = dense(v2, 2)",
        lambda n: create_edge(n["in"], n["v2"]),
        "v2",
        "v1 in",
        ((5, 3), 8),
        {"v2": old(range(5), new=3)},
    ),
    "a third part": Row(
        f"{PARTS}; c = cat(v1, v2); v5 = dense(c, 3)",
        lambda n: create_edge(n["v3"], n["c"]),
        "c",
        "v1 v2 v3",
        ((3, 4, 5), 12),
        {"c": old(range(7), new=5)},
    ),
    "a shorter summand": Row(
        base("add(v1)"),
        lambda n: create_edge(n["v2"], n["v3"]),
        "v3",
        "v1 v2",
        ((5, 5), 5),
        {"v2": old(range(4), new=1)},
    ),
    "the same summand a third time": Row(
        "in = 3; v1 = dense(in, 4); v2 = dense(in, 4); v3 = add(v1, v1, v2); v4 = dense(v3, 3)",
        lambda n: create_edge(n["v1"], n["v3"]),
        "v3",
        "v1 v1 v2 v1",
        ((4, 4, 4, 4), 4),
        {},
    ),
    # Neither can the input grow.
    "the shorter input as a summand": Row(
        base("add(v1)"),
        lambda n: create_edge(n["in"], n["v3"], utility=positions),
        "v3",
        "v1 in",
        ((3, 3), 3),
        {"v1": [2, 3, 4], "v3": [2, 3, 4]},
    ),
    "a summand in the middle": Row(
        "in = 3; v1a = dense(in, 5); v1b = dense(in, 5); v1c = dense(in, 3); v3 = add(v1a, v1b); v4 = dense(v3, 3)",
        lambda n: create_edge(n["v1c"], n["v3"], slot=1),
        "v3",
        "v1a v1c v1b",
        ((5, 5, 5), 5),
        {"v1c": old(range(3), new=2)},
    ),
    "a longer summand, cut": Row(
        "in = 3; v1 = dense(in, 4); v2 = dense(in, 4); v3 = dense(in, 5); c = add(v1, v2); v5 = dense(c, 3)",
        lambda n: create_edge(n["v3"], n["c"], align="decrease", utility=positions),
        "c",
        "v1 v2 v3",
        ((4, 4, 4), 4),
        {"v3": [1, 2, 3, 4]},
    ),
    "a longer summand beside the input": Row(
        "in = 3; v1 = dense(in, 3); v2 = dense(in, 5); c = add(in, v1); v5 = dense(c, 3)",
        lambda n: create_edge(n["v2"], n["c"], utility=positions),
        "c",
        "in v1 v2",
        ((3, 3, 3), 3),
        {"v2": [2, 3, 4]},
    ),
    "a longer summand": Row(
        "in = 3; v1 = dense(in, 3); v2 = dense(in, 7); c = add(v1); v5 = dense(c, 3)",
        lambda n: create_edge(n["v2"], n["c"]),
        "c",
        "v1 v2",
        ((7, 7), 7),
        {"v1": old(range(3), new=4), "c": old(range(3), new=4)},
    ),
}


def concatenated(size: int) -> str:
    return (
        f"in = {size}; v1 = dense(in, 4); v2 = dense(in, 5); v3 = dense(in, 6); c = cat(v1, v2, v3); v5 = dense(c, 3)"
    )


def added(size: int) -> str:
    return (
        f"in = {size}; v1 = dense(in, 5); v2 = dense(in, 5); v3 = dense(in, 5); c = add(v1, v2, v3); v5 = dense(c, 3)"
    )


CHAIN = "in = 3; v1 = dense(in, 5); v2 = dense(v1, 4); v3 = dense(v2, 6)"
NARROW = "in = 3; v1 = dense(in, 2); v2 = same(v1); v3 = dense(v2, 4); v4 = dense(v3, 3)"
PART = "in = 3; v1 = dense(in, 3); v2 = dense(in, 4); v3 = dense(v1, 5); v4 = cat(v2, v3); v5 = dense(v4, 2)"
FAN = "in = 3; v1 = dense(in, 4); v2 = dense(v1, 5); v3 = dense(v1, 6); v4 = dense(v1, 7); v5 = dense(v2, 8)"

REMOVED = {
    "a smaller layer": Row(CHAIN, lambda n: remove(n["v2"]), "v3", "v1", ((5,), 6), {}),
    "a layer behind the input": Row(CHAIN, lambda n: remove(n["v1"]), "v2", "in", ((3,), 4), {}),
    # The input's three neurons take the places of the best three of five, in their order.
    "a part, by the shorter input": Row(
        concatenated(3),
        lambda n: remove(n["v2"], utility=positions),
        "c",
        "v1 in v3",
        ((4, 3, 6), 13),
        {"c": old(range(4), range(6, 15))},
    ),
    "a part, by the longer input": Row(
        concatenated(7),
        lambda n: remove(n["v2"]),
        "c",
        "v1 in v3",
        ((4, 7, 6), 17),
        {"c": old(range(9), new=2) + old(range(9, 15))},
    ),
    "a summand, by the shorter input": Row(
        added(3),
        lambda n: remove(n["v2"], utility=positions),
        "c",
        "v1 in v3",
        ((3, 3, 3), 3),
        {"v1": [2, 3, 4], "v3": [2, 3, 4], "c": [2, 3, 4]},
    ),
    "a summand, by the longer input": Row(
        added(7),
        lambda n: remove(n["v2"]),
        "c",
        "v1 in v3",
        ((7, 7, 7), 7),
        {"v1": old(range(5), new=2), "v3": old(range(5), new=2), "c": old(range(5), new=2)},
    ),
    "one of three readers": Row(FAN, lambda n: remove(n["v2"]), "v5", "v1", ((5,), 8), {"v1": old(range(4), new=1)}),
    "one of three readers, cut": Row(FAN, lambda n: remove(n["v2"], align="decrease"), "v5", "v1", ((4,), 8), {}),
    "a larger layer behind something that keeps sizes": Row(
        NARROW, lambda n: remove(n["v3"]), "v4", "v2", ((4,), 3), {"v1": [0, 1, -1, -1], "v2": [0, 1, -1, -1]}
    ),
    "a larger layer behind something that keeps sizes, cut": Row(
        NARROW, lambda n: remove(n["v3"], align="decrease", utility=positions), "v4", "v2", ((2,), 3), {}
    ),
    "a larger part": Row(PART, lambda n: remove(n["v3"]), "v4", "v2 v1", ((4, 5), 9), {"v1": old(range(3), new=2)}),
    "a concatenation behind another part": Row(
        f"{PARTS}; k = cat(v1, v2); c = cat(v3, k); v5 = dense(c, 3)",
        lambda n: remove(n["k"]),
        "c",
        "v3 v1 v2",
        ((5, 3, 4), 12),
        {},
    ),
    "a concatenation that is read twice": Row(
        f"{PARTS}; k = cat(v1, v2); c = cat(k, v3, k); v5 = dense(c, 3)",
        lambda n: remove(n["k"]),
        "c",
        "v1 v2 v3 v1 v2",
        ((3, 4, 5, 3, 4), 19),
        {},
    ),
    # Which three of the five stay is for the utility to say.
    "a larger part, cut": Row(
        PART,
        lambda n: remove(n["v3"], align="decrease", utility=positions),
        "v4",
        "v2 v1",
        ((4, 3), 7),
        {"v4": old(range(4), range(6, 9))},
    ),
    "a larger part, cut, by the opposite utility": Row(
        PART,
        lambda n: remove(n["v3"], align="decrease", utility=lambda v: 10.0 - positions(v)),
        "v4",
        "v2 v1",
        ((4, 3), 7),
        {"v4": old(range(7))},
    ),
}

ROWS = {
    **{f"remove edge: {name}": row for name, row in REMOVED_EDGES.items()},
    **{f"create edge: {name}": row for name, row in CREATED_EDGES.items()},
    **{f"remove: {name}": row for name, row in REMOVED.items()},
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_sizes_and_neurons_after_an_edit(row: Row, written: Written) -> None:
    net = written(row.text)
    change = row.edit(net)
    assert change
    target = net[row.target]
    assert [v.name for v in target.inputs] == row.inputs.split()
    assert (target.nin, target.nout) == row.sizes
    assert change.plan is not None
    change.plan.check()
    found = {name: index.tolist() for name, index in change.plan.indices.items()}
    assert {name: index for name, index in found.items() if index != old(range(change.sizes[name][0]))} == row.moved
    batch = np.ones((2, net["in"].nout))
    assert {name: value.shape for name, value in net.activations(batch).items()} == {
        v.name: (2, v.nout) for v in net.vertices
    }


# -- weights -----------------------------------------------------------------------------------


def test_readers_keep_the_weights_of_the_parts_that_stay(written: Written) -> None:
    """The surviving neurons' weights, not the first ones, which the reference keeps and calls wrong."""
    net = written(f"{PARTS}; c = cat(v1, v2, v3); v5 = dense(c, 3)")
    before = net["v5"].parameters["weight"]
    remove_edge(net["v2"], net["c"])
    assert net["v5"].parameters["weight"].tolist() == before[:, [0, 1, 2, 7, 8, 9, 10, 11]].tolist()


@pytest.mark.parametrize(
    ("slot", "places"),
    # The new part's 5 columns of zeros come in front, after 3, and after 3 + 4.
    [(0, slice(0, 5)), (1, slice(3, 8)), (2, slice(7, 12)), (None, slice(7, 12))],
)
def test_readers_of_a_new_part_ignore_it_at_first(slot: int | None, places: slice, written: Written) -> None:
    net = written(f"{PARTS}; c = cat(v1, v2); v5 = dense(c, 3)")
    net.output(net["v5"])
    batch = np.random.default_rng(0).normal(size=(8, 3))
    before, weight = net(batch), net["v5"].parameters["weight"]
    assert create_edge(net["v3"], net["c"], slot=slot)
    after = net["v5"].parameters["weight"]
    assert not after[:, places].any()
    assert np.delete(after, places, axis=1).tolist() == weight.tolist()
    assert net(batch) == pytest.approx(before)


def test_the_next_layer_keeps_the_inputs_that_are_worth_most(written: Written) -> None:
    net = written(NARROW)
    before = {name: net[name].parameters["weight"] for name in ("v1", "v4")}
    remove(net["v3"], align="decrease", utility=positions)
    # v4 read four neurons; the last two of these were worth most.
    assert net["v4"].parameters["weight"].tolist() == before["v4"][:, 2:].tolist()
    assert net["v1"].parameters["weight"].tolist() == before["v1"].tolist()


def test_the_next_layer_keeps_all_that_it_read_where_what_comes_can_grow(written: Written) -> None:
    net = written(NARROW)
    before = net["v4"].parameters["weight"]
    remove(net["v3"])
    assert net["v4"].parameters["weight"].tolist() == before.tolist()


def test_a_negative_utility_does_not_change_the_size(written: Written) -> None:
    text = "in = 3; v1 = dense(in, 5); v2 = dense(v1, 4); v3 = dense(v2, 3)"
    for align, unloved, size in (("increase", "v1", 5), ("decrease", "v2", 4)):
        net = written(text)
        assert remove(
            net["v2"],
            align=align,  # type: ignore[arg-type]  # one of the words
            utility=lambda v, unloved=unloved: -1.0 if v.name == unloved else 1.0,
        )
        assert (net["v1"].nout, net["v3"].nin) == (size, (size,))


def test_neurons_that_are_exchanged_are_shown(written: Written) -> None:
    net = written("in = 3; v1 = dense(in, 5); v2 = dense(v1, 4); v3 = dense(v2, 3)")
    plan = remove.plan(net["v2"], utility=lambda v: -1.0 if v.name == "v1" else 1.0)
    # v1 must have a neuron, and new ones are worth more than its other four.
    if np.sort(plan.indices["v1"]).tolist() != [-1, -1, -1, -1, 0]:
        pytest.fail("another case")
    rows = {line.split()[0]: line.split()[1:] for line in str(plan).splitlines()}
    assert rows["v1"] == ["5", "5", "1", "4"]


# -- two edits ---------------------------------------------------------------------------------


def test_a_part_less_and_another_size_in_one_transaction(written: Written) -> None:
    net = written(base("cat(v1, v2)"))
    before = dict(net.arrays)
    with net.transaction():
        remove_edge(net["v2"], net["v3"])
        delta_nout(net["v3"], 2)
    assert (net["v1"].nout, net["v3"].nout, net["v4"].nin) == (7, 7, (7,))
    net.undo()
    assert (net["v3"].nin, net["v3"].nout) == ((5, 4), 9)
    assert net.arrays == before


def test_a_part_more_and_another_size_in_one_transaction(written: Written) -> None:
    net = written(base("cat(v1)"))
    with net.transaction():
        create_edge(net["v2"], net["v3"])
        delta_nout(net["v2"], 2)
    assert (net["v3"].nin, net["v3"].nout, net["v5"].nin) == ((5, 6), 11, (6,))


@pytest.mark.parametrize(("size", "first", "then"), [(3, (4, 3, 6), (3, 6)), (7, (4, 7, 6), (7, 6))])
def test_a_part_goes_and_another_one_with_nothing_in_its_place(
    size: int, first: tuple[int, ...], then: tuple[int, ...], written: Written
) -> None:
    net = written(concatenated(size))
    remove(net["v2"])
    assert net["c"].nin == first
    weight = net["v5"].parameters["weight"]
    remove(net["v1"], reconnect="none")
    assert (net["c"].nin, net["c"].nout, net["v5"].nin) == (then, sum(then), (sum(then),))
    assert net["v5"].parameters["weight"].tolist() == weight[:, 4:].tolist()


def test_the_other_readers_stay_in_their_order(written: Written) -> None:
    net = written(FAN)
    assert remove(net["v2"])
    # Producers first, then the order in which they were added; the reference puts v5 in the place of v2.
    assert [v.name for v in net["v1"].outputs] == ["v3", "v4", "v5"]
    assert [net[name].nin for name in ("v3", "v4", "v5")] == [(5,), (5,), (5,)]


def test_what_nothing_reads_leaves_sizes_alone(written: Written) -> None:
    net = written(FAN)
    net.output(net["v5"])
    assert remove(net["v3"])
    # The reference grows v1 to the 6 neurons of v3, although nobody read these.
    assert net["v1"].nout == 4


# -- insert ------------------------------------------------------------------------------------


def layer(units: int, name: str) -> Callable[[NetworkVertex], NetworkVertex]:
    return lambda x: nn.dense(x, units, name=name)


def test_a_layer_of_the_same_size_is_inserted(written: Written) -> None:
    net = written("in = 3; v1 = dense(in, 5); v2 = dense(v1, 4)")
    assert insert(net["v1"], layer(5, "new"))
    assert (net["v1"].nout, net["new"].nin, net["new"].nout, net["v2"].nin) == (5, (5,), 5, (5,))


@pytest.mark.parametrize(
    ("align", "size"),
    # 7 new neurons where 5 are expected.
    [("increase", 7), ("decrease", 5), ("both", 6)],
)
def test_a_layer_of_another_size_is_inserted(align: Any, size: int, written: Written) -> None:
    net = written("in = 3; v1 = dense(in, 5); v2 = dense(v1, 4)")
    assert insert(net["v1"], layer(7, "new"), align=align)
    assert (net["v1"].nout, net["new"].nout, net["v2"].nin) == (5, size, (size,))


def test_of_what_is_inserted_the_best_neurons_stay(written: Written) -> None:
    net = written("in = 3; v1 = dense(in, 5); v2 = dense(v1, 4)")
    before = net["v2"].parameters["weight"]

    def counted(x: NetworkVertex) -> NetworkVertex:
        made = nn.dense(x, 7, name="new")
        made.op.bias = np.arange(7.0)
        return made

    insert(net["v1"], counted, align="decrease", utility=positions)
    assert net["new"].parameters["bias"].tolist() == [2, 3, 4, 5, 6]
    assert net["v2"].parameters["weight"].tolist() == before.tolist()


def test_a_concatenation_of_parts_is_the_same_without_one_in_it(written: Written) -> None:
    net = written(f"{PARTS}; k = cat(v1, v2); c = cat(v3, k, k); v5 = dense(c, 3)")
    batch = np.random.default_rng(0).normal(size=(8, 3))
    before = net(batch)
    change = remove(net["k"])
    assert "the network computes what it did" in str(change)
    assert (net(batch) == before).all()


def test_two_layers_in_a_row_are_inserted(written: Written) -> None:
    net = written("in = 3; v1 = dense(in, 5); v2 = dense(v1, 4)")
    assert insert(net["v1"], lambda x: nn.dense(nn.dense(x, 3, name="first"), 5, name="second"))
    assert [net[name].nout for name in ("v1", "first", "second")] == [5, 3, 5]
    assert [v.name for v in net["v2"].inputs] == ["second"]


def test_what_is_inserted_takes_the_slot_of_what_it_stands_behind(written: Written) -> None:
    net = written(concatenated(3))
    assert insert(net["v2"], layer(5, "new"))
    assert [v.name for v in net["c"].inputs] == ["v1", "new", "v3"]
    assert net["c"].nin == (4, 5, 6)


@pytest.mark.parametrize(
    ("where", "moved"), [("all", ["v1", "v2", "v3"]), (["v1", "v3"], ["v1", "v3"])], ids=["all", "two of three"]
)
def test_all_readers_or_some_move_behind_what_is_inserted(
    where: str | list[str], moved: list[str], written: Written
) -> None:
    net = written(concatenated(3))
    chosen: Any = where if isinstance(where, str) else [net[name] for name in where]
    assert insert(net["in"], layer(3, "new"), chosen)
    assert [v.name for v in net["new"].outputs] == moved
    assert [v.name for v in net["v2"].inputs] == (["new"] if "v2" in moved else ["in"])


# -- refused -----------------------------------------------------------------------------------

ONE_INPUT = "in = 3; v1 = dense(in, 5); v2 = dense(v1, 4); i = fixed(v2, 2)"


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        # The reference lets a layer of one input have two, or none, and fails when it is evaluated.
        (lambda n: create_edge(n["in"], n["v2"]), r"'v2' \(dense\) takes 1 inputs and no further input"),
        (lambda n: create_edge(n["v1"], n["v2"]), r"'v2' \(dense\) takes 1 inputs and no further input"),
        (lambda n: remove_edge(n["v1"], n["v2"]), r"'v2' \(dense\) takes 1 inputs and no input less"),
        (lambda n: remove(n["v1"], reconnect="none"), r"'v2' \(dense\) takes 1 inputs and no input less"),
        (lambda n: create_edge(n["v1"], n["i"]), r"'i' \(immutable\) takes 1 inputs and no further input"),
        (lambda n: create_edge(n["v1"], n["in"]), r"'in' \(input\) takes 0 inputs and no further input"),
        (lambda n: remove(n["in"]), "'in' is an input of the network; it cannot be removed"),
        (lambda n: remove_edge(n["in"], n["v2"]), "there is no edge from 'in' to 'v2', which reads 'v1'"),
    ],
    ids=["second input", "same input", "no input", "nothing instead", "fixed", "input", "remove input", "no edge"],
)
def test_vertices_of_one_input_keep_it(edit: Edit, message: str, written: Written) -> None:
    net = written(ONE_INPUT)
    vertices, arrays = net.graph.vertices, dict(net.arrays)
    with pytest.raises(GraphError, match=message):
        edit(net)
    assert net.graph.vertices == vertices
    assert net.arrays == arrays


def test_sizes_may_be_left_alone_by_request(written: Written) -> None:
    net = written(CHAIN)
    vertices, arrays = net.graph.vertices, dict(net.arrays)
    with pytest.raises(ImpossibleError, match="5 neurons come where 4 are expected"):
        remove(net["v2"], align="none")
    assert not remove(net["v2"], align="none", on_failure="keep")
    assert net.graph.vertices == vertices
    assert net.arrays == arrays
    # Where sizes fit already, nothing stands against it.
    insert(net["v2"], layer(4, "new"), align="none")
    assert remove(net["new"], align="none")


def test_the_size_of_an_input_is_nobodys_to_change(written: Written) -> None:
    net = written("in = 3; v1 = same(in); v2 = dense(in, 3); v3 = add(v2, v1)")
    with pytest.raises(ImpossibleError, match="in = input"):
        delta_nout(net["v3"], 1, on_failure="raise")
    assert not delta_nout(net["v3"], 1, on_failure="keep")
    assert [v.nout for v in net.vertices] == [3, 3, 3, 3]
