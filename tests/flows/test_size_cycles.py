"""Edits after which no sizes fit are refused by name; edits that only look like them are made."""

import inspect
import itertools
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

from solver_nas import Network, concat, create_edge, insert, nn, remove, remove_edge, replace, strategies
from solver_nas.errors import ImpossibleError

# Where sizes cannot grow as preferred, and neurons are lost, that is said; here it is what is expected.
pytestmark = pytest.mark.filterwarnings("ignore:.*sizes could not be increased")

LARGEST = 8  # neurons of any vertex that the brute force tries

Equations = Callable[..., bool]
Written = Callable[[str], Network]


# An edit is written down once, `lambda net, do: do(remove, net["v"])`, and carried out in several ways.
Do = Callable[..., Any]
Edit = Callable[[Network, Do], Any]


def at_once(verb: Any, *args: Any, **options: Any) -> Any:
    return verb(*args, **options)


def or_keep(verb: Any, *args: Any, **options: Any) -> Any:
    return verb(*args, on_failure="keep", **options)


def as_plan(verb: Any, *args: Any, **options: Any) -> Any:
    return verb.plan(*args, **options)


def without(name: str, **options: Any) -> Edit:
    return lambda net, do: do(remove, net[name], **options)


def joined(source: str, target: str, **options: Any) -> Edit:
    return lambda net, do: do(create_edge, net[source], net[target], **options)


def parted(source: str, target: str, **options: Any) -> Edit:
    return lambda net, do: do(remove_edge, net[source], net[target], **options)


def some_sizes(equations: Equations) -> bool:
    """Whether any sizes from 1 to `LARGEST` fulfil the equations: all of them are tried."""
    unknown = len(inspect.signature(equations).parameters)
    return any(equations(*sizes) for sizes in itertools.product(range(1, LARGEST + 1), repeat=unknown))


def everything(net: Network) -> tuple[object, ...]:
    """All that a network is, bit for bit."""
    arrays = {key: (array.dtype.str, array.shape, array.tobytes()) for key, array in net.arrays.items()}
    graph = net.graph
    return graph, graph.revision, tuple(graph.vertices), graph.outputs, arrays, dict(net.observers)


def computes(net: Network) -> None:
    """It can be evaluated, and its outputs have the sizes that it says."""
    rng = np.random.default_rng(0)
    values = net.activations(*(rng.normal(size=(2, v.nout)) for v in net.inputs))
    assert {v.name: values[v.name].shape for v in net.vertices} == {v.name: (2, v.nout) for v in net.vertices}
    assert all(np.isfinite(value).all() for value in values.values())


# -- impossible --------------------------------------------------------------------------------


class Impossible(NamedTuple):
    """An edit after which no sizes fit.

    Args:
        text: the network, where all sizes fit.
        edit: what is asked for.
        equations: which sizes would have to be equal after the edit, in terms of the others; worked out by hand.
        blamed: vertices without which the conflict cannot be understood.
    """

    text: str
    edit: Edit
    equations: Equations
    blamed: str


# v3 is v2 under another name; behind it, a concatenation of narrower layers is added to v2 again.
FORK = "in = 3; v1 = dense(in, 3); v2 = dense(v1, 5); v3 = same(v2); "
R1 = FORK + "p1 = dense(v3, 3); p2 = dense(v3, 2); v4 = cat(p1, p2); v5 = add(v4, v2)"
R3 = FORK + "ve = same(v1); v4 = cat(v3); v5 = add(v4, v2)"
R4 = "in = 3; v1 = dense(in, 4); v2a = dense(v1, 2); v2b = dense(v1, 2); v3 = cat(v2a, v2b); v4 = add(v3, v1)"
R5 = "in = 6; v2 = dense(in, 2); v3a = same(v2); v3b = dense(v2, 4); v4 = cat(v3a, v3b); v5 = add(v4, in)"
THREE = FORK + "p1 = dense(v3, 2); p2 = dense(v3, 2); p3 = dense(v3, 1); v4 = cat(p1, p2, p3); v5 = add(v4, v2)"
MULTIPLES = (
    "in = 3; x = dense(in, 3); a = dense(in, 6); b = dense(in, 9); two = cat(x, x); three = cat(x, x, x); "
    "s = add(two, a); t = add(three, b)"
)

IMPOSSIBLE = {
    "r1": Impossible(R1, without("p1"), lambda p2, v2: v2 + p2 == v2, "p1 p2 v4 v5 v2"),
    "r2": Impossible(R1, joined("p1", "v5"), lambda p1, p2, v2: v2 == p1 + p2 == p1, "p1 p2 v4 v5 v2"),
    "r3": Impossible(R3, joined("ve", "v4"), lambda v1, v2: v2 + v1 == v2, "v1 v2 v4 v5"),
    "r4": Impossible(R4, without("v2b"), lambda v1, v2a: v2a + v1 == v1, "v1 v2a v2b v3 v4"),
    "the other part of r1": Impossible(R1, without("p2"), lambda p1, v2: p1 + v2 == v2, "p1 p2 v4 v5 v2"),
    "the other part of r4": Impossible(R4, without("v2a"), lambda v1, v2b: v1 + v2b == v1, "v1 v2a v2b v3 v4"),
    "something behind the part": Impossible(
        FORK + "p1 = dense(v3, 3); p2 = dense(v3, 2); i = same(p1); v4 = cat(i, p2); v5 = add(v4, v2)",
        without("p1"),
        lambda p2, v2: v2 + p2 == v2,
        "p1 p2 i v4 v5 v2",
    ),
    "something behind the concatenation": Impossible(
        FORK + "p1 = dense(v3, 3); p2 = dense(v3, 2); v4 = cat(p1, p2); i = same(v4); v5 = add(i, v2)",
        without("p1"),
        lambda p2, v2: v2 + p2 == v2,
        "p1 p2 v4 v5 v2",
    ),
    "a concatenation in a concatenation": Impossible(
        FORK + "p1 = dense(v3, 3); p2 = dense(v3, 2); k = cat(p1); v4 = cat(k, p2); v5 = add(v4, v2)",
        without("p1"),
        lambda p2, v2: v2 + p2 == v2,
        "p1 p2 k v4 v5 v2",
    ),
    "the source as a further part": Impossible(
        R1, joined("v2", "v4"), lambda p1, p2, v2: p1 + p2 + v2 == v2, "p1 p2 v4 v5 v2"
    ),
    "twice the same part": Impossible(
        "in = 3; v1 = dense(in, 6); p = dense(v1, 3); v4 = cat(p, p); v5 = add(v4, v1)",
        without("p"),
        lambda v1: 2 * v1 == v1,
        "v1 p v4 v5",
    ),
    "the first of three parts": Impossible(
        THREE, without("p1"), lambda p2, p3, v2: v2 + p2 + p3 == v2, "p1 p2 p3 v4 v5 v2"
    ),
    "the second of three parts": Impossible(
        THREE, without("p2"), lambda p1, p3, v2: p1 + v2 + p3 == v2, "p1 p2 p3 v4 v5 v2"
    ),
    "the last of three parts": Impossible(
        THREE, without("p3"), lambda p1, p2, v2: p1 + p2 + v2 == v2, "p1 p2 p3 v4 v5 v2"
    ),
    "all that there is, once more": Impossible(R3, joined("v3", "v4"), lambda v2: 2 * v2 == v2, "v2 v4 v5"),
    "a product instead of a sum": Impossible(
        R1.replace("add", "multiply"), without("p1"), lambda p2, v2: v2 + p2 == v2, "p1 p2 v4 v5 v2"
    ),
    "two concatenations that share a part": Impossible(
        "in = 3; a = dense(in, 3); b = dense(in, 2); e = dense(in, 2); l = cat(a, b); r = cat(a, e); s = add(l, r)",
        parted("e", "r"),
        lambda a, b: a + b == a,
        "a b e l r s",
    ),
    "round two additions": Impossible(
        "in = 3; x = dense(in, 3); y = dense(in, 3); z = dense(in, 2); w = dense(in, 5); "
        "s = add(x, y); c = cat(y, z); t = add(c, w)",
        joined("x", "t"),
        lambda x, y, z, w: x == y and y + z == w == x,
        "x y z s c t",
    ),
    "twice a size is thrice a size": Impossible(
        MULTIPLES, joined("s", "t"), lambda x, a, b: 2 * x == a == b == 3 * x, "x two three s t"
    ),
    "the input is a part of what is added to it": Impossible(
        "in = 3; a = dense(in, 7); b = dense(in, 4); c = cat(in, b); s = add(c, a)",
        without("a"),
        lambda b: 3 + b == 3,
        "in a b c s",
    ),
    "the whole input as the shorter part": Impossible(R5, without("v2"), lambda v3b: 6 + v3b == 6, "in v2 v3b v4 v5"),
    "an odd input is twice a size": Impossible(
        "in = 5; a = dense(in, 6); x = dense(in, 3); c = cat(x, x); s = add(c, a)",
        without("a"),
        lambda x: 2 * x == 5,
        "in a x c s",
    ),
    "two inputs of two sizes": Impossible(
        "one = 3; two = 4; b = dense(two, 3); s = add(one, b)", without("b"), lambda s: 3 == s == 4, "one two b s"
    ),
    "an input that is too wide for what is fixed": Impossible(
        "in = 5; x = dense(in, 3); p = dense(in, 2); q = dense(in, 2); c = cat(p, q); i = fixed(x, 4); s = add(c, i)",
        without("p"),
        lambda q: 5 + q == 4,
        "in p q c i s",
    ),
    "an input instead of what is fixed": Impossible(
        "in = 3; v2 = dense(in, 5); v3 = fixed(v2, 4)", without("v2"), lambda read: 3 == read == 5, "in v2 v3"
    ),
    "half of what it is added to": Impossible(
        "in = 4; v1 = dense(in, 4); v2 = dense(v1, 2); v3 = cat(v2, v2); v4 = add(in, v3)",
        joined("v2", "v4"),
        lambda v2: 2 * v2 == 4 == v2,
        "in v2 v3 v4",
    ),
    "a layer becomes an activation": Impossible(
        R1,
        lambda net, do: do(replace, net["p1"], lambda x: nn.activation(x, "relu")),
        lambda p2, v2: v2 + p2 == v2,
        "p1 p2 v4 v5 v2",
    ),
    "one of two summands is doubled": Impossible(
        "in = 3; v2 = dense(in, 4); v3 = same(v2); v5 = add(v3, v2)",
        lambda net, do: do(insert, net["v2"], lambda x: concat([x, x], name="double"), where=net["v5"]),
        lambda v2: v2 == 2 * v2,
        "v2 double v5",
    ),
}

impossible = pytest.mark.parametrize("case", IMPOSSIBLE.values(), ids=IMPOSSIBLE)


@impossible
def test_no_sizes_fit_the_equations(case: Impossible) -> None:
    assert not some_sizes(case.equations)


@impossible
def test_what_is_impossible_is_refused_by_name(case: Impossible, written: Written) -> None:
    net = written(case.text)
    before = everything(net)
    with pytest.raises(
        ImpossibleError, match=r"^(remove|create edge|remove edge|insert|replace) .*is impossible"
    ) as caught:
        case.edit(net, at_once)
    missing = [name for name in case.blamed.split() if not re.search(rf"\b{name}\b", str(caught.value))]
    assert not missing, f"{missing} not named:\n{caught.value}"
    assert everything(net) == before
    computes(net)


@pytest.mark.parametrize("case", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_what_is_impossible_can_be_left_as_it_is(case: Impossible, written: Written) -> None:
    net = written(case.text)
    before = everything(net)
    with pytest.raises(ImpossibleError) as caught:
        case.edit(net, at_once)
    change = case.edit(net, or_keep)
    assert not change
    assert change.plan is None
    assert change.explanation == str(caught.value)
    assert everything(net) == before


@impossible
def test_there_is_no_plan_for_what_is_impossible(case: Impossible, written: Written) -> None:
    net = written(case.text)
    before = everything(net)
    for options in ({}, {"on_failure": "keep"}):
        with pytest.raises(ImpossibleError, match="is impossible"):
            case.edit(net, lambda verb, *args, _more=options, **given: as_plan(verb, *args, **given, **_more))
    assert everything(net) == before


# -- possible ----------------------------------------------------------------------------------


class Possible(NamedTuple):
    """An edit after which some sizes fit.

    Args:
        text: the network.
        edit: what is asked for.
        equations: which sizes have to be equal after the edit; the arguments are vertices.
        sizes: of vertices, after the edit.
    """

    text: str
    edit: Edit
    equations: Equations
    sizes: str


# As R1, but the concatenation is added to another layer than the one that it comes from, or to that one by a detour.
WIDE = "in = 6; v1 = dense(in, 6); v2 = dense(v1, 2); v3a = same(v2); "
NARROW = "in = 6; v2 = dense(in, 2); v3a = same(v2); "
# Ways to lead v2 into v4 a second time, through v3b.
TURNS = {
    "at once": "v3b = dense(v2, 4); v4 = cat(v3a, v3b)",
    "something before": "i = same(v2); v3b = dense(i, 4); v4 = cat(v3a, v3b)",
    "something behind": "v3b = dense(v2, 4); i = same(v3b); v4 = cat(v3a, i)",
    "something before and behind": "i = same(v2); v3b = dense(i, 4); j = same(v3b); v4 = cat(v3a, j)",
    "a concatenation before": "i = cat(v2); v3b = dense(i, 4); v4 = cat(v3a, v3b)",
    "a concatenation behind": "v3b = dense(v2, 4); i = cat(v3b); v4 = cat(v3a, i)",
    "concatenations before and behind": "i = cat(v2); v3b = dense(i, 4); j = cat(v3b); v4 = cat(v3a, j)",
}
P2 = FORK + "p1a = dense(v3, 2); p1b = dense(p1a, 3); p2 = dense(v3, 2); v4 = cat(p1b, p2); v5 = add(v4, v2)"
P4 = (
    "in = 2; v2 = dense(in, 2); v3a = same(v2); v3b = dense(v2, 2); v4a = cat(v3a); v4b = cat(v3b); "
    "v5 = add(v4a, v4b); v6 = dense(v5, 3)"
)
P5 = (
    "in = 6; v2 = dense(in, 2); v3a = dense(v2, 2); v3b = dense(v2, 4); v4 = cat(v3a, v3b); v5 = add(v4, in); "
    "v6 = dense(v5, 3)"
)
P8 = (
    "in = 3; v1 = dense(in, 5); p1 = same(v1); p2 = same(v1); v2 = cat(p1, p2); v3 = same(v2); v4 = dense(v3, 12); "
    "v5 = dense(v4, 7)"
)
P15 = "in = 3; v1 = dense(in, 5); v2 = dense(in, 3); vh = dense(in, 5); v3 = add(v1, vh); v4 = dense(v3, 3)"
TWICE_AND_TWICE = (
    "in = 3; x = dense(in, 3); y = dense(in, 2); a = dense(in, 6); b = dense(in, 7); l = cat(x, x); r = cat(x, y, y); "
    "s = add(l, a); t = add(r, b)"
)

POSSIBLE = {
    # The larger side is v3b, whose place v2 takes: v2 grows to its 4, and v1 along; or v2 stays as it is.
    **{
        f"{turn}, {align}": Possible(
            f"{WIDE}{text}; v5 = add(v4, v1); v6 = dense(v5, 3)",
            without("v3b", align=align),
            lambda v1, v2, v4: 2 * v2 == v4 == v1,
            sizes,
        )
        for turn, text in TURNS.items()
        for align, sizes in (("increase", "v1=8 v2=4 v4=8"), ("decrease", "v1=4 v2=2 v4=4"), ("both", "v1=6 v2=3 v4=6"))
    },
    "a layer between things that keep sizes": Possible(
        FORK + "v4 = dense(v3, 5); v5 = same(v4); v6 = add(v5, v2)",
        without("v4"),
        lambda v2, v5, v6: v5 == v2 == v6,
        "v2=5 v5=5 v6=5",
    ),
    "the second of two layers of a part": Possible(
        P2, without("p1b"), lambda p1a, p2, v2: p1a + p2 == v2, "p1a=3 p2=2 v4=5 v5=5"
    ),
    "the first of two layers of a part": Possible(
        P2, without("p1a"), lambda p1b, p2, v2: p1b + p2 == v2, "p1b=3 p2=2 v4=5 v5=5"
    ),
    **{
        f"two concatenations of one part each, {name}": Possible(P4, without(name), lambda v5: v5 == 2, "v5=2 v6=3")
        for name in ("v3a", "v3b", "v4a", "v4b")
    },
    # Only their layer's source goes: the input is what both branches read.
    "two concatenations, their source": Possible(P4, without("v2"), lambda v5: v5 == 2, "v3a=2 v4a=2 v4b=2"),
    "two layers into the input, their source": Possible(
        P5, without("v2"), lambda v3a, v3b: v3a + v3b == 6, "v3a=2 v3b=4 v5=6"
    ),
    "two layers into the input, the short one": Possible(
        P5, without("v3a"), lambda v2, v3b: v2 + v3b == 6, "v2=2 v3b=4 v5=6"
    ),
    "two layers into the input, the long one": Possible(
        P5, without("v3b"), lambda v3a, v2: v3a + v2 == 6, "v3a=2 v2=4 v5=6"
    ),
    # A cycle is closed by v3b only (see the turns above); without any other vertex of it, all stays as it is.
    "what keeps sizes beside the turn": Possible(
        f"{R5}; v6 = dense(v5, 3)", without("v3a"), lambda v2, v3b: v2 + v3b == 6, "v2=2 v3b=4 v4=6"
    ),
    "a multiple that fits": Possible(P8, without("v4"), lambda v1, v3: v3 == 2 * v1, "v1=6 p2=6 v2=12 v3=12"),
    # 16 is no multiple of 3; 15 is the nearest one.
    "a multiple that does not": Possible(
        "in = 3; v1 = dense(in, 5); p1 = same(v1); p2 = same(v1); p3 = same(v1); join = cat(p1, p2, p3); "
        "v2 = dense(join, 16); v3 = dense(v2, 4)",
        without("v2"),
        lambda v1, join: join == 3 * v1,
        "v1=5 join=15 v3=4",
    ),
    "two places of one source": Possible(
        "in = 3; v1 = dense(in, 3); v2 = dense(v1, 5); p1 = same(v2); p2a = same(v2); p2b = dense(p2a, 7); "
        "p2c = same(p2b); v3 = cat(p1, p2c); v4 = same(v3); v5 = dense(v4, 12)",
        without("v2"),
        lambda p1, p2a, p2c, v1, v3: p1 == p2a == v1 and v3 == v1 + p2c,
        "v1=5 p1=5 p2a=5 v3=12",
    ),
    # in cannot grow to the 4 that v3 reads, though only a concatenation stands there.
    "an input behind a concatenation": Possible(
        "in = 3; v1 = cat(in); v2 = dense(v1, 4); v3 = dense(v2, 5)", without("v2"), lambda v1: v1 == 3, "v1=3 v3=5"
    ),
    "a part of a concatenation in a concatenation": Possible(
        "in = 3; v1 = dense(in, 5); v2 = dense(in, 4); vh = dense(in, 5); v3 = cat(v1); v4 = dense(v3, 3); "
        "v5 = cat(v4, vh); v6 = dense(v2, 2)",
        joined("v2", "v3"),
        lambda v1, v2, v3: v3 == v1 + v2,
        "v1=5 v2=4 v3=9 v4=3 v5=8",
    ),
    "a shorter summand": Possible(P15, joined("v2", "v3"), lambda v1, v2, vh: v1 == v2 == vh, "v1=5 v2=5 vh=5 v3=5"),
    # "both" meets in between, where the reference grows: (5 + 3) / 2.
    "a shorter summand, half way": Possible(
        P15, joined("v2", "v3", align="both"), lambda v1, v2, vh: v1 == v2 == vh, "v1=4 v2=4 vh=4 v3=4"
    ),
    "a shorter summand, cut": Possible(
        P15, joined("v2", "v3", align="decrease"), lambda v1, v2, vh: v1 == v2 == vh, "v1=3 v2=3 vh=3 v3=3"
    ),
    # The look-alike of "twice a size is thrice a size": x = 2 y.
    "sizes that only arithmetic finds": Possible(
        TWICE_AND_TWICE,
        joined("s", "t"),
        lambda x, y, a, b: 2 * x == a == b == x + 2 * y,
        "x=4 y=2 s=8 t=8",
    ),
    "sizes that only arithmetic finds, cut": Possible(
        TWICE_AND_TWICE,
        joined("s", "t", align="decrease"),
        lambda x, y, a, b: 2 * x == a == b == x + 2 * y,
        "x=2 y=1 s=4 t=4",
    ),
    "an even input is twice a size": Possible(
        "in = 4; a = dense(in, 6); x = dense(in, 3); c = cat(x, x); s = add(c, a)",
        without("a"),
        lambda x: 2 * x == 4,
        "x=2 c=4 s=4",
    ),
    "a part for which nothing that is fixed has room": Possible(
        "in = 3; v1 = dense(in, 5); v2 = dense(in, 4); v3 = cat(v1); v4 = fixed(v3, 2)",
        joined("v2", "v3"),
        lambda v1, v2: v1 + v2 == 5,
        "v3=5 v4=2",
    ),
    "a summand that is wider than what is fixed": Possible(
        "in = 3; v1 = dense(in, 5); v2 = dense(in, 7); v3 = add(v1); v4 = fixed(v3, 2)",
        joined("v2", "v3"),
        lambda v1, v2: v1 == v2 == 5,
        "v1=5 v2=5 v3=5",
    ),
    "one summand less between two concatenations": Possible(
        "in = 3; a = dense(in, 3); b = dense(in, 2); w = dense(in, 5); c = cat(a, b); s = add(c, w)",
        parted("b", "c"),
        lambda a, c, w: a == c == w,
        "a=3 c=3 w=3 s=3",
    ),
}

possible = pytest.mark.parametrize("case", POSSIBLE.values(), ids=POSSIBLE)


def check_possible(case: Possible, written: Written) -> None:
    net = written(case.text)
    before = everything(net)
    plan = case.edit(net, as_plan)
    plan.check()
    assert everything(net) == before
    expected = dict(pair.split("=") for pair in case.sizes.split())
    assert {name: str(plan.after[name].nout) for name in expected} == expected
    change = case.edit(net, or_keep)
    assert change
    assert change.explanation == ""
    change.plan.check()
    assert {name: str(net[name].nout) for name in expected} == expected
    sizes = {name: net[name].nout for name in inspect.signature(case.equations).parameters}
    assert case.equations(**sizes), sizes
    computes(net)


@possible
def test_some_sizes_fit_the_equations(case: Possible) -> None:
    assert some_sizes(case.equations)


@possible
def test_what_is_possible_is_done(case: Possible, written: Written) -> None:
    check_possible(case, written)


# The sum's other summand is the input, whose neurons never move; so those of v2, which are added to them, may not
# move either, although 2 * 3 is 6.
INTO_THE_INPUT = {
    **{
        turn: Possible(
            f"{NARROW}{text}; v5 = add(v4, in); v6 = dense(v5, 3)",
            without("v3b"),
            lambda v2, v4: 2 * v2 == v4 == 6,
            "v2=3 v3a=3 v4=6 v5=6",
        )
        for turn, text in TURNS.items()
    },
    # There is not even a cycle: a has to take 6 - 3.
    "another input": Possible(
        "in = 6; other = 3; a = dense(in, 2); b = dense(other, 4); c = cat(a, b); s = add(c, in)",
        without("b"),
        lambda a: a + 3 == 6,
        "a=3 c=6 s=6",
    ),
}
into_the_input = pytest.mark.parametrize("case", INTO_THE_INPUT.values(), ids=INTO_THE_INPUT)


@into_the_input
def test_some_sizes_fit_the_equations_with_an_input(case: Possible) -> None:
    assert some_sizes(case.equations)


@into_the_input
def test_what_is_possible_beside_an_input_is_done(case: Possible, written: Written) -> None:
    check_possible(case, written)


@pytest.mark.parametrize(
    "case",
    [
        Possible(
            "in = 5; a = dense(in, 2); b = dense(in, 3); c = cat(a, b); s = add(c, in)",
            parted("b", "c"),
            lambda a: a == 5,
            "a=5 c=5 s=5",
        ),
        Possible(
            "in = 3; v1 = dense(in, 3); v2 = dense(in, 4); v3 = cat(v1, v2); v4 = fixed(v3, 2)",
            parted("v2", "v3"),
            lambda v1: v1 == 7,
            "v1=7 v3=7 v4=2",
        ),
    ],
    ids=["an input", "a vertex of which nothing is known"],
)
def test_a_part_less_beside_what_is_fixed(case: Possible, written: Written) -> None:
    check_possible(case, written)


# Four of the five neurons of c are added to those of the input, and two of them are b's: only their number can be
# matched.
BY_ORDER_ONLY = Possible(
    "in = 4; w = dense(in, 1); a = dense(in, 2); b = dense(in, 3); c = cat(a, b); k = cat(in, w); s = add(c, k)",
    parted("b", "c"),
    lambda a, w: a == 4 + w,
    "a=5 w=1 c=5 s=5",
)


def test_where_neurons_cannot_be_followed_their_order_decides(written: Written) -> None:
    assert some_sizes(BY_ORDER_ONLY.equations)
    net = written(BY_ORDER_ONLY.text)
    change = BY_ORDER_ONLY.edit(net, at_once)
    assert "by their order only" in str(change)
    assert (net["a"].nout, net["c"].nout, net["s"].nin) == (5, 5, (5, 5))
    computes(net)


def test_a_first_try_that_fails_is_not_logged(written: Written, caplog: pytest.LogCaptureFixture) -> None:
    net = written(BY_ORDER_ONLY.text)
    steps = strategies.mixed().then(strategies.log("warning")).then(strategies.fail())
    assert remove_edge(net["b"], net["c"], strategy=steps)
    assert caplog.records == []


def test_what_is_possible_does_not_depend_on_what_to_do_otherwise(written: Written) -> None:
    check_possible(BY_ORDER_ONLY, written)


@pytest.mark.parametrize("parts", [(2, 4), (3, 3)])
def test_the_parts_of_a_concatenation_become_summands(parts: tuple[int, int], written: Written) -> None:
    net = written(
        f"in = 3; a = dense(in, {parts[0]}); b = dense(in, {parts[1]}); w = dense(in, 6); c = cat(a, b); s = add(c, w)"
    )
    assert some_sizes(lambda a, b, w: a == b == w)
    assert remove(net["c"])
    assert [v.name for v in net["s"].inputs] == ["a", "b", "w"]
    assert len(set(net["s"].nin)) == 1
    computes(net)


# -- several edits -----------------------------------------------------------------------------


def test_a_branch_is_removed_layer_by_layer(written: Written) -> None:
    net = written(
        "in = 3; v1 = dense(in, 10); v2 = dense(v1, 3); v3 = cat(v2); v4 = dense(v3, 10); v5 = add(v4, v1); "
        "v6 = dense(v5, 4)"
    )
    v5 = net["v5"]
    # First the smaller side grows: v2 from 3 to 10. Then all is aligned.
    for gone, heir in (("v4", "v3"), ("v3", "v2"), ("v2", "v1")):
        assert remove(net[gone])
        assert [v.name for v in v5.inputs] == [heir, "v1"]
        assert v5.nin == (10, 10)
        computes(net)
    v7 = nn.dense(net["v6"], 13, name="v7")
    assert remove(net["v6"])
    # v7 read 4, and 10 come now: it is v7 that grows.
    assert (v5.nout, v7.nin) == (10, (10,))
    v8 = nn.dense(v7, 3, name="v8")
    assert remove(v7)
    assert (net["v1"].nout, v5.nin, v8.nin) == (13, (13, 13), (13,))
    computes(net)


def test_a_dead_end_goes_without_a_trace(written: Written) -> None:
    net = written(
        "in = 2; v1 = dense(in, 5); v2 = dense(v1, 3); v3 = same(v2); v4 = dense(v3, 3); v5 = same(v4); "
        "v6 = add(v3, v4); v7 = dense(v6, 2)"
    )
    net.output(net["v7"])
    batch = np.random.default_rng(0).normal(size=(4, 2))
    before, arrays = net(batch), everything(net)[4]
    assert remove(net["v5"])
    assert net["v6"].nin == (3, 3)
    assert everything(net)[4] == arrays
    assert (net(batch) == before).all()


def test_a_source_that_is_read_four_times(written: Written) -> None:
    net = written("in = 3; v1 = dense(in, 4); v2 = dense(in, 5); v3 = cat(v1, v2, v2, v1); v4 = dense(v3, 7)")
    v3 = net["v3"]
    assert remove(net["v1"])
    assert [v.name for v in v3.inputs] == ["in", "v2", "v2", "in"]
    assert [*v3.nin, v3.nout, *net["v4"].nin] == [3, 5, 5, 3, 16, 16]
    computes(net)
    assert remove(net["v2"], reconnect="none")
    assert [v.name for v in v3.inputs] == ["in", "in"]
    assert [*v3.nin, v3.nout, *net["v4"].nin] == [3, 3, 6, 6]
    computes(net)


def test_a_summand_that_is_read_four_times(written: Written) -> None:
    net = written("in = 3; v1 = dense(in, 5); v2 = dense(in, 5); v3 = add(v1, v2, v2, v1); v4 = dense(v3, 7)")
    v3 = net["v3"]
    assert remove(net["v1"])
    assert [v.name for v in v3.inputs] == ["in", "v2", "v2", "in"]
    assert [*v3.nin, v3.nout, *net["v4"].nin] == [3, 3, 3, 3, 3, 3]
    assert remove(net["v2"], reconnect="none")
    assert [v.name for v in v3.inputs] == ["in", "in"]
    assert [*v3.nin, v3.nout, *net["v4"].nin] == [3, 3, 3, 3]
    computes(net)
