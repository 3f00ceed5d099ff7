"""Limits that make no sense, or cannot be kept, get an error that says so, and nothing is changed."""

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from solver_nas import Change, Network, delta_nin, delta_nout, delta_size, limits, nn, plan_change, relaxed
from solver_nas.errors import GraphError, ImpossibleError, RequestError
from solver_nas.limits import (
    Limit,
    activation_memory,
    drop,
    equal,
    flops,
    freeze,
    inserted,
    keep,
    kept,
    macs,
    maximum,
    minimum,
    multiple_of,
    now,
    params,
    removed_at_most,
    sizes,
    weight_memory,
)
from tests.unchanged import network, unchanged

NAN, INF = float("nan"), float("inf")


@pytest.fixture
def net() -> Iterator[Network]:
    """A network that has to be the same in the end."""
    with unchanged(network()) as made:
        yield made


@pytest.fixture
def images() -> Network:
    """A network of images whose height and width are not known."""
    made = Network()
    x = nn.conv(made.input("image", (3, None, None)), 8, 3, name="conv")
    made.output(nn.dense(nn.global_avg_pool(x), 2, name="out"))
    return made


def written(text: str, net: Network) -> Any:
    """What a caller writes about a network, whose vertices go by their names; `x` is its input."""
    places = {**vars(limits), "np": np, "NAN": NAN, "INF": INF, "net": net, "x": net["in"]}
    return eval(text, places, {name: net[name] for name in ("a", "b", "out")})


def test_the_error_says_how_far_limits_would_have_to_give(net: Network) -> None:
    with pytest.raises(ImpossibleError) as caught:
        plan(net, [limits.params(net) <= 5])
    assert caught.value.limits == ("params <= 5",)
    assert caught.value.reachable == {"params <= 5": 9.0}


def plan(net: Network, given: Any, request: Any = None, **options: Any) -> Any:
    return plan_change(request, also=net, limits=given, **{"on_failure": "raise", **options})


# -- what cannot be kept ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("[params(net) <= 5]", r"params <= 5 is impossible\.(.|\n)*params <= 5: 9 is possible"),
        ("[params(net) <= 0.01 * now]", r"params <= 0.01 \* now \(= 0.54\): 9 is possible"),
        ("[macs(net) <= 5]", r"macs <= 5: 6 is possible"),
        ("[flops(net) <= 10]", r"2 \* macs <= 10: 12 is possible"),
        ("[weight_memory(net) <= 71]", r"weight_memory <= 71: 72 is possible"),
        ('[params(net, of="a") <= 3]', r"params of a <= 3: 4 is possible"),
        ("[sizes[a] + sizes[out] <= 1]", r"sizes\[a\] \+ sizes\[out\] <= 1: 2 is possible"),
        ("[kept[a] >= 5]", r"kept\[a\] >= 5: 4 is possible"),
        ("[sizes[x] <= 2]", r"sizes\[in\] <= 2: 3 is possible"),
        ("[sizes[x] >= 4]", r"sizes\[in\] >= 4: 3 is possible"),
        ("[params(net) <= 20, macs(net) <= 5]", r"macs <= 5 is impossible\.(.|\n)*6 is possible"),
        # Negative amounts are numbers like others.
        ("[params(net) <= -5]", r"params <= -5: 9 is possible"),
        ("[sizes[a] <= -5]", r"sizes\[a\] <= -5: 1 is possible"),
        ("[sizes[a] == -5]", r"sizes\[a\] == -5 is impossible"),
    ],
)
def test_budgets_below_what_is_reachable(net: Network, given: str, message: str) -> None:
    with pytest.raises(ImpossibleError, match=message):
        plan(net, written(given, net))


@pytest.mark.parametrize(
    "text",
    [
        "params(net) <= 9",
        "macs(net) <= 6",
        "weight_memory(net) <= 72",
        # When the concatenation is made: the input, `b`, the sum, and two neurons.
        "activation_memory(net) <= 56",
        "sizes[a] + sizes[out] <= 2",
    ],
)
def test_budgets_that_are_just_reachable(net: Network, text: str) -> None:
    found = plan(net, [written(text, net)])
    found.check()
    assert found.sizes["a"] == (4, 1)


def test_the_reachable_peak_of_activations_is_named(net: Network) -> None:
    with pytest.raises(ImpossibleError, match=r"activation_memory <= 5.*: 56 is possible"):
        plan(net, [activation_memory(net) <= 5])


def test_no_amount_helps_is_said_of_no_limit_that_could_give_way(net: Network) -> None:
    with pytest.raises(ImpossibleError) as caught:
        plan(net, [removed_at_most(0.0)], {net["a"]: -1})
    assert "removed_at_most(0.0)" in str(caught.value)
    assert "no other amount" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "texts"),
    [
        ("[sizes[a] >= 10, sizes[a] <= 5]", ["sizes[a] >= 10", "sizes[a] <= 5"]),
        ("[sizes[a] >= 10, sizes[b] <= 5]", ["sizes[a] >= 10", "sizes[b] <= 5", "a + b"]),
        ('[minimum(10, a), maximum(5, "a")]', ["minimum(10) (vertex 'a')", "maximum(5) (vertex 'a')"]),
        ("[fixed(a), sizes[a] <= 3]", ["fixed (vertex 'a')", "sizes[a] <= 3"]),
        ('[fixed(a), multiple_of(8, "a", small="grow")]', ["fixed (vertex 'a')", "multiple_of(8)"]),
        ('[freeze(a), minimum(6, "a")]', ["freeze(outputs)", "minimum(6)"]),
        ("[freeze(b), drop(a, [0])]", ["freeze(outputs)", "drop(a, [0])", "a + b"]),
        ("[freeze(a), drop(a, [0])]", ["freeze(outputs)", "drop(a, [0])"]),
        ("[keep(a, [1]), drop(a, [1, 2])]", ["keep(a, [1])", "drop(a, [1, 2])"]),
        ("[keep(a, [1]), drop(b, [1])]", ["keep(a, [1])", "drop(b, [1])", "a + b"]),
        ("[drop(a, range(4))]", ["drop(a, [0, 1, 2, 3])"]),
        ("[drop(x, [0])]", ["drop(in, [0])"]),
        ("[keep(a, [0, 1]), sizes[a] <= 1]", ["keep(a, [0, 1])", "sizes[a] <= 1"]),
        ('[equal(a, x), freeze("a")]', ["sizes[a] == sizes[in]", "freeze(outputs)"]),
        (
            "[sizes[a] == 2 * sizes[x], maximum(5)]",
            ["sizes[a] == 2 * sizes[in]", "maximum(5)"],
        ),
        ("[params(net) >= 60, inserted_at_most(0)]", ["params >= 60", "inserted_at_most(0)"]),
        ("[params(net) >= 50, params(net) <= 40]", ["params >= 50", "params <= 40"]),
    ],
)
def test_limits_that_contradict_each_other(net: Network, given: str, texts: list[str]) -> None:
    with pytest.raises(ImpossibleError) as caught:
        plan(net, written(given, net))
    for text in texts:
        assert text in str(caught.value)


@pytest.mark.parametrize(
    ("given", "texts"),
    [
        ('[freeze(a), multiple_of(8, "a", small="grow")]', ["freeze(outputs)", "multiple_of(8)"]),
        ('[freeze(a), multiple_of(3, "a", small="keep")]', ["freeze(outputs)", "multiple_of(3)"]),
        ('[multiple_of(8, x, small="grow")]', ["multiple_of(8) (vertex 'in')"]),
    ],
)
def test_multiples_of_sizes_that_never_change(net: Network, given: str, texts: list[str]) -> None:
    with pytest.raises(ImpossibleError) as caught:
        plan(net, written(given, net))
    for text in texts:
        assert text in str(caught.value)


@pytest.mark.parametrize(
    ("given", "wish", "message"),
    [
        ("[sizes[a] >= 4]", -1, r"nout\(a\): 4 -> 3 together with sizes\[a\] >= 4 is impossible"),
        ('[multiple_of(3, "b", small="grow")]', -2, r"nout\(a\): 4 -> 2 together with multiple_of\(3\)"),
        ('[freeze("b")]', 1, r"nout\(a\): 4 -> 5 together with freeze\(outputs\) \(vertex 'b'\)"),
        ("[keep(b, [0, 1, 3])]", -2, r"nout\(a\): 4 -> 2 together with keep\(b, \[0, 1, 3\]\)"),
        ("[params(net) <= 20]", 1, r"nout\(a\): 4 -> 5 together with params <= 20 is impossible"),
        ("[inserted[b] <= 2]", 3, r"nout\(a\): 4 -> 7 together with inserted\[b\] <= 2"),
    ],
)
def test_a_wish_against_limits(net: Network, given: str, wish: int, message: str) -> None:
    with pytest.raises(ImpossibleError, match=message):
        plan(net, written(given, net), {net["a"]: wish})


@pytest.mark.parametrize("request_", [{"a": -1}, {"a": relaxed(-1)}])
def test_limits_are_never_relaxed(net: Network, request_: dict[str, Any]) -> None:
    wishes = {net[name]: delta for name, delta in request_.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for verb in (
            lambda: plan(net, [params(net) <= 5], wishes, on_failure="relax"),
            lambda: delta_nout(wishes, limits=[params(net) <= 5]),
            lambda: delta_nin({net["b"]: -1}, limits=[params(net) <= 5]),
            lambda: delta_size(net, limits=[params(net) <= 5]),
        ):
            with pytest.raises(ImpossibleError, match=r"params <= 5 is impossible"):
                verb()


def test_keeping_everything_says_which_limit(net: Network) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        change = delta_nout(net["a"], -1, limits=[params(net) <= 5], on_failure="keep")
    assert isinstance(change, Change)
    assert not change
    assert "params <= 5 is impossible" in str(change.explanation)


def test_a_relaxed_wish_gives_way_to_a_limit() -> None:
    net = network()
    delta_nout(net["a"], relaxed(4), limits=[sizes[net["b"]] <= 6])
    assert net["a"].nout == net["b"].nout == 6


def test_relations_that_have_nothing_to_do_with_it_are_not_named(net: Network) -> None:
    with pytest.raises(ImpossibleError) as caught:
        plan(net, [sizes[net["a"]] >= 10, sizes[net["a"]] <= 5])
    assert caught.value.reasons == ()


@pytest.mark.parametrize("factor", [3, 10, 1000])
@pytest.mark.parametrize(
    "cost",
    [params, macs, weight_memory],
)
def test_growing_to_any_cost_is_possible(cost: Callable[[Network], Any], factor: int) -> None:
    net = Network()
    nn.dense(nn.dense(net.input("in", 200), 4, name="a"), 1, name="b")
    before = cost(net).value
    plan(net, [cost(net) >= factor * now]).apply()
    assert cost(net).value >= factor * before


def test_a_multiple_of_two_numbers_is_possible() -> None:
    net = Network()
    a = nn.dense(net.input("in", 2), 3, name="a")
    plan(net, [multiple_of(4, a, small="grow"), multiple_of(9, a, small="grow")]).apply()
    assert a.nout == 36


def test_one_size_that_is_a_multiple_twice() -> None:
    net = Network()
    x = net.input("in", 2)
    a = nn.dense(x, 3, name="a")
    net.add("dense", "b", [x], {"activation": "identity"}, keys={"weight": "a.weight", "bias": "a.bias"})
    found = plan(net, [multiple_of(3, ["a", "b"])], utility={a: [-1.5, -0.25, 0.5]})
    assert found.certificate.objective == 0.5


@pytest.mark.parametrize("cost", [params, macs, weight_memory])
def test_a_grouped_convolution_that_never_changes_costs_what_it_does(cost: Callable[[Network], Any]) -> None:
    net = Network()
    x = net.input("in", (4, 2, 2))
    net.output(nn.conv(x, 4, 1, groups=2, name="grouped") + x)
    assert plan(net, [cost(net) <= now]).empty


@pytest.mark.parametrize("limit", [drop, keep])
def test_a_plan_for_named_neurons_can_be_checked(limit: Callable[..., Limit]) -> None:
    net = Network()
    a = nn.dense(net.input("in", 2), 4, name="a")
    found = plan(net, [limit(a, [3])], {a: -1})
    assert (3 in found.indices["a"]) == (limit is keep)
    found.check()


# -- numbers ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("params(net) <= NAN", r"params <= nan: expected a finite number, got nan"),
        ("sizes[a] >= NAN", r"sizes\[a\] >= nan: expected a finite number, got nan"),
        ("macs(net) == NAN", r"macs == nan: expected a finite number, got nan"),
        ("params(net) <= INF", r"params <= inf: expected a finite number, got inf"),
        ("params(net) >= -INF", r"params >= -inf: expected a finite number, got -inf"),
        ("params(net) <= np.float32(np.nan)", r"expected a finite number, got nan"),
        ("params(net) <= NAN * now", r"now: expected a finite number, got nan"),
        ("params(net) <= INF * now", r"now: expected a finite number, got inf"),
        ("params(net) <= now + NAN", r"now: expected a finite number, got nan"),
        ("NAN * params(net)", r"params: expected a finite number, got nan"),
        ("params(net) / INF", r"params: expected a finite number, got inf"),
        ("activation_memory(net) <= NAN", r"activation_memory: expected a finite number, got nan"),
        ("activation_memory(net) <= INF", r"activation_memory: expected a finite number, got inf"),
        ('params(net) <= "many"', r"expected a number, got 'many'"),
        ("params(net) <= None", r"expected a number, got None"),
        ("params(net) <= True", r"expected a number, got True"),
        ("params(net) <= [5]", r"expected a number, got \[5\]"),
        ('activation_memory(net) <= "much"', r"expected a number, got 'much'"),
        ('"2" * params(net)', r"expected a number, got '2'"),
        ("params(net) <= now + sizes[a]", r"now: expected a number, got sizes\[a\]"),
        ("minimum(-1)", r"minimum takes a positive number of neurons, up to 100,000,000, got -1"),
        ("minimum(0)", r"minimum takes a positive number of neurons, up to 100,000,000, got 0"),
        ("minimum(2.5)", r"minimum takes a positive number of neurons, up to 100,000,000, got 2.5"),
        ("minimum(NAN)", r"minimum takes a positive number of neurons, up to 100,000,000, got nan"),
        ("minimum(True)", r"minimum takes a positive number of neurons, up to 100,000,000, got True"),
        ("maximum(0)", r"maximum takes a positive number of neurons, up to 100,000,000, got 0"),
        ("maximum(INF)", r"maximum takes a positive number of neurons, up to 100,000,000, got inf"),
        ("multiple_of(-8)", r"multiple_of takes a positive number of neurons, up to 100,000,000, got -8"),
        ("multiple_of(0)", r"multiple_of takes a positive number of neurons, up to 100,000,000, got 0"),
        ("multiple_of(8.0)", r"multiple_of takes a positive number of neurons, up to 100,000,000, got 8.0"),
        ('multiple_of("8")', r"multiple_of takes a positive number of neurons, up to 100,000,000, got '8'"),
        ("removed_at_most(-0.1)", r"removed_at_most takes a fraction between 0 and 1, got -0.1"),
        ("removed_at_most(1.5)", r"removed_at_most takes a fraction between 0 and 1, got 1.5"),
        ("removed_at_most(30)", r"removed_at_most takes a fraction between 0 and 1, got 30"),
        ("removed_at_most(NAN)", r"removed_at_most: expected a finite number, got nan"),
        ("inserted_at_most(-1)", r"inserted_at_most takes a number of neurons from 0 on, got -1"),
        ("inserted_at_most(1.5)", r"inserted_at_most takes a number of neurons from 0 on, got 1.5"),
        ("inserted_at_most(NAN)", r"inserted_at_most takes a number of neurons from 0 on, got nan"),
        ("inserted_at_most(True)", r"inserted_at_most takes a number of neurons from 0 on, got True"),
    ],
)
def test_numbers(net: Network, text: str, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        written(text, net)


@pytest.mark.parametrize("text", ["params(net) / 0", "now / 0"])
def test_division_by_zero(net: Network, text: str) -> None:
    with pytest.raises(RequestError, match=r"0"):
        written(text, net)


@pytest.mark.parametrize("number", ["np.int64(20)", "np.float32(20)", "np.float64(20.5)", "20.5"])
@pytest.mark.parametrize("text", ["params(net) <= {}", "{} >= params(net)", "{0} * params(net) <= 20 * {0}"])
def test_numbers_of_numpy(net: Network, number: str, text: str) -> None:
    limit = written(text.format(number), net)
    assert isinstance(limit, Limit)
    found = plan(net, [limit])
    found.check()
    assert found.sizes["a"][1] < 4


def test_huge_numbers(net: Network) -> None:
    assert plan(net, [params(net) <= 1e300, macs(net) <= 10**30]).empty
    with pytest.raises(ImpossibleError, match="params >= "):
        plan(net, [params(net) >= 10**30])


@pytest.mark.parametrize("unit", [1e-7, 4.6e-12])
def test_tiny_factors(net: Network, unit: float) -> None:
    # Joules for a multiplication, say; as it is, the network is just within the limit.
    assert plan(net, [unit * macs(net) <= unit * int(macs(net).value)]).empty
    with pytest.raises(ImpossibleError, match=r"is possible"):
        plan(net, [unit * macs(net) <= 5 * unit])


def test_now_is_the_whole_expression(net: Network) -> None:
    assert (params(net) + 100).value == 154
    assert plan(net, [params(net) + 100 <= now]).empty


def test_nothing_is_new_now(net: Network) -> None:
    assert kept[net["a"]].value == 4
    assert inserted[net["a"]].value == 0


# -- comparisons -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sizes[a] < 5", r"limits are written with <=, >= or ==, got sizes\[a\] < 5"),
        ("params(net) < 0.5 * now", r"limits are written with <=, >= or ==, got params < 0.5 \* now"),
        ("sizes[a] < sizes[b]", r"limits are written with <=, >= or ==, got sizes\[a\] < "),
        ("5 > sizes[a]", r"limits are written with <=, >= or ==, got sizes\[a\] < 5"),
    ],
)
def test_strict_comparisons(net: Network, text: str, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        written(text, net)


@pytest.mark.parametrize("text", ["sizes[a] > 5", "5 < sizes[a]"])
def test_the_message_has_the_sign_that_was_written(net: Network, text: str) -> None:
    with pytest.raises(RequestError, match=r"limits are written with <=, >= or ==, got sizes\[a\] > 5"):
        written(text, net)


@pytest.mark.parametrize(
    "text",
    [
        "activation_memory(net) < 100",
        "activation_memory(net) > 100",
        "activation_memory(net) >= 100",
        "activation_memory(net) == 100",
        "8 <= activation_memory(net) <= 64",
    ],
)
def test_comparisons_of_a_peak(net: Network, text: str) -> None:
    with pytest.raises(RequestError, match=r"activation_memory.*<="):
        written(text, net)


@pytest.mark.parametrize(
    "text",
    [
        "8 <= sizes[a] <= 64",
        "64 >= sizes[a] >= 8",
        "0.1 * now <= params(net) <= 0.5 * now",
        "sizes[a] <= sizes[b] <= sizes[out]",
        "sizes[a] == sizes[b] == 3",
        "sizes[a] <= 3 and sizes[b] <= 3",
        "sizes[a] <= 3 or sizes[b] <= 3",
        "not sizes[a] <= 3",
        "multiple_of(8) and minimum(3, a)",
        "bool(activation_memory(net) <= 0.5 * now)",
    ],
)
def test_chained_comparisons(net: Network, text: str) -> None:
    with pytest.raises(RequestError, match=r"a limit has no truth value: .*; write 8 <= sizes\[v\] <= 64 as two"):
        written(text, net)


# -- what a limit speaks of ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ('[minimum(2, "hidden*")]', r"minimum\(2\) names no vertex: nothing fits 'hidden\*'"),
        ('[maximum(2, ["a", "hidden*"])]', r"maximum\(2\) names no vertex: nothing fits 'hidden\*'"),
        ('[multiple_of(8, "hidden")]', r"multiple_of\(8\) names no vertex: nothing fits 'hidden'"),
        ('[fixed("hidden*")]', r"fixed names no vertex: nothing fits 'hidden\*'"),
        ('[freeze("hidden*")]', r"freeze\(outputs\) names no vertex: nothing fits 'hidden\*'"),
        ('[removed_at_most(0.3, "hidden*")]', r"removed_at_most\(0.3\) names no vertex: nothing fits"),
        ('[inserted_at_most(3, "hidden*")]', r"inserted_at_most\(3\) names no vertex: nothing fits"),
        ('[params(net, of="hidden*") <= 3]', r"params names no vertex: nothing fits 'hidden\*'"),
        ('[macs(net, of="hidden*") <= 3]', r"macs names no vertex: nothing fits 'hidden\*'"),
        ('[weight_memory(net, of="hidden*") <= 3]', r"weight_memory names no vertex: nothing fits"),
        ("[minimum(2, [])]", r"minimum\(2\) names no vertex"),
        ("[minimum(2, 5)]", r"minimum\(2\): expected vertices or a pattern of their names, got 5"),
        ("[params(net, of=[5]) <= 3]", r"params: expected vertices or a pattern of their names, got 5"),
    ],
)
def test_limits_that_name_no_vertex(net: Network, given: str, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        plan(net, written(given, net))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("[sizes[b] <= 3]", r"a limit speaks of vertex 'b' of another network"),
        ("[kept[b] >= now]", r"a limit speaks of vertex 'b' of another network"),
        ("[inserted[b] <= 3]", r"a limit speaks of vertex 'b' of another network"),
        ("[keep(b, [0])]", r"a limit speaks of vertex 'b' of another network"),
        ("[drop(b, [0])]", r"a limit speaks of vertex 'b' of another network"),
        ("[freeze(b)]", r"a limit speaks of vertex 'b' of another network"),
        ("[minimum(2, b)]", r"a limit speaks of vertex 'b' of another network"),
        ("[multiple_of(2, [b])]", r"a limit speaks of vertex 'b' of another network"),
        ("[fixed(b)]", r"a limit speaks of vertex 'b' of another network"),
        ("[removed_at_most(0.3, b)]", r"a limit speaks of vertex 'b' of another network"),
        ("[params(net) <= 30]", r"params is a cost of another network than the one that changes"),
        ("[macs(net) <= 0.5 * now]", r"macs is a cost of another network"),
        ("[weight_memory(net) <= 30]", r"weight_memory is a cost of another network"),
        ("[activation_memory(net) <= 0.5 * now]", r"activation_memory is a cost of another network"),
    ],
)
def test_another_network(net: Network, given: str, message: str) -> None:
    with pytest.raises(GraphError, match=message):
        plan(net, written(given, network()))


def test_two_networks_in_one_limit(net: Network) -> None:
    other = network()
    for limit in (
        sizes[net["a"]] <= sizes[other["b"]],
        params(net) + params(other) <= 0.5 * now,
        params(net, of=other["b"]) <= 3,
        *equal(net["a"], other["b"]),
    ):
        with pytest.raises(GraphError, match="another network"):
            plan(net, [limit])


def test_what_is_no_vertex_and_no_network(net: Network) -> None:
    for text in ("sizes['a']", "keep('a', [0])", "drop('a', [0])"):
        with pytest.raises(GraphError, match=r"expected a vertex such as net\['hidden'\], got 'a'"):
            written(text, net)
    for cost in ("params", "macs", "flops", "weight_memory", "activation_memory"):
        with pytest.raises(RequestError, match=r"takes a network, got"):
            written(f"{cost}(a)", net)
    with pytest.raises(RequestError, match=r"equal takes vertices, as in equal\(\*net.find"):
        written("equal('a', 'b')", net)
    with pytest.raises(RequestError, match="equal takes at least two vertices"):
        equal(net["a"])


@pytest.mark.parametrize(
    "text",
    [
        "[5]",
        "['params <= 5']",
        "[True]",
        "[None]",
        "[minimum]",
        "[now]",
        "5",
        "None",
        "'abc'",
        "{'a': 3}",
        "[params(net)]",
        "[sizes[a]]",
        "params(net)",
        "[activation_memory(net)]",
        "[[params(net) <= 20, 5]]",
        "[params(net) <= 20, params(net)]",
    ],
)
def test_what_is_no_limit(net: Network, text: str) -> None:
    with pytest.raises(RequestError, match=r"a limit is written as in params\(net\) <= 0.5 \* now or multiple_of\(8\)"):
        plan(net, written(text, net))


def test_limits_may_be_given_in_any_collection() -> None:
    net = network()
    a, out = net["a"], net["out"]
    collections: list[Any] = [
        sizes[a] <= 3,
        [sizes[a] <= 3],
        (sizes[a] <= 3, [minimum(2, out), (maximum(9),)]),
        (sizes[v] <= 3 for v in (a, out)),
        [(sizes[v] <= 3 for v in (a, out))],
        {"one": sizes[a] <= 3}.values(),
    ]
    for given in collections:
        assert plan(net, given).sizes["a"] == (4, 3)


# -- shapes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("cost", [macs, flops, activation_memory])
def test_sizes_that_are_not_known(images: Network, cost: Callable[..., Any]) -> None:
    message = r"has a size that is not known; give the shapes of the inputs, as in \w+\(net, \(3, 224, 224\)\)"
    for shapes in (None, {}, (3, None, 8), {"image": (3, 8, None)}):
        with pytest.raises(RequestError, match=message):
            _ = cost(images, shapes).value
        for end in (5, 0.5 * now):
            with pytest.raises(RequestError, match=message):
                plan(images, [cost(images, shapes) <= end])


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ((4, 8, 8), r"input 'image' has shape \(3, None, None\), got \(4, 8, 8\); only unknown sizes can be given"),
        ((8, 8), r"input 'image' has shape \(3, None, None\), got \(8, 8\)"),
        ((1, 3, 8, 8), r"input 'image' has shape \(3, None, None\), got \(1, 3, 8, 8\)"),
        ((), r"input 'image' has shape \(3, None, None\), got \(\)"),
        ("abc", r"got 'abc'; for some of the vertices, write of='abc'"),
        ({"img": (3, 8, 8)}, r"there is no input 'img'; the inputs are \['image'\]"),
        ({"conv": (3, 8, 8)}, r"there is no input 'conv'; the inputs are \['image'\]"),
        ({"image": (4, 8, 8)}, r"input 'image' has shape \(3, None, None\), got \(4, 8, 8\)"),
    ],
)
def test_shapes_that_do_not_fit(images: Network, shapes: Any, message: str) -> None:
    for cost in (macs, activation_memory):
        with pytest.raises(RequestError, match=message):
            _ = cost(images, shapes).value
        with pytest.raises(RequestError, match=message):
            plan(images, [cost(images, shapes) <= 0.5 * now])


@pytest.mark.parametrize(
    "shape", [(-5, 4), (0, 4), (2.5, 4), (True, 4), (NAN, 4), ("a", 4), 7, {"steps": 7}, {"steps": None}]
)
def test_shapes_that_are_none(shape: Any) -> None:
    net = Network()
    net.output(nn.dense(net.input("steps", (None, 4), axis=-1), 3, name="out"))
    assert macs(net, (5, 4)).value == 60
    with pytest.raises(RequestError, match=r"input 'steps' has shape \(None, 4\)|shape of"):
        _ = macs(net, shape).value


def test_one_shape_for_several_inputs() -> None:
    net = Network()
    x, y = (net.input(name, (None, 4), axis=-1) for name in "xy")
    net.output(nn.dense(nn.add([x, y]), 3, name="out"))
    with pytest.raises(RequestError, match=r"the network has 2 inputs \['x', 'y'\]; give their shapes by name"):
        _ = macs(net, (5, 4)).value
    assert macs(net, {"x": (5, 4), "y": (5, 4)}).value == 60


# -- named neurons and words -----------------------------------------------------------------


@pytest.mark.parametrize("say", [keep, drop])
@pytest.mark.parametrize("places", [[4], [0, 7], [-1], [1.0], [True], ["0"], [None], [NAN]])
def test_neurons_that_are_not_there(net: Network, say: Callable[..., Limit], places: list[Any]) -> None:
    with pytest.raises(RequestError, match=rf"{say.__name__}: vertex 'a' has neurons 0 to 3, got {places[-1]!r}"):
        say(net["a"], places)


@pytest.mark.parametrize("say", [keep, drop])
def test_no_neurons(net: Network, say: Callable[..., Limit]) -> None:
    with pytest.raises(RequestError, match=rf"{say.__name__}: name at least one neuron of 'a'"):
        say(net["a"], [])


@pytest.mark.parametrize("say", [keep, drop])
def test_one_neuron_that_is_no_list(net: Network, say: Callable[..., Limit]) -> None:
    with pytest.raises(RequestError, match=say.__name__):
        say(net["a"], 0)


def test_one_neuron_twice() -> None:
    net = network()
    found = plan(net, [keep(net["a"], [1, 1]), sizes[net["a"]] <= 1])
    assert found.indices["a"].tolist() == [1]


def test_words(net: Network) -> None:
    with pytest.raises(RequestError, match=r"freeze takes 'outputs', 'inputs' or 'parameters', got 'weights'"):
        freeze(net["a"], "weights")
    with pytest.raises(RequestError, match=r"freeze takes 'outputs', 'inputs' or 'parameters', got \(\)"):
        freeze(net["a"], ())
    with pytest.raises(RequestError, match=r"small is 'keep' or 'grow', got 'maybe'"):
        written("multiple_of(8, small='maybe')", net)
    with pytest.raises(RequestError, match="dropped whole leaves nothing"):
        written("multiple_of(8, small='drop')", net)
    for cost in (weight_memory, activation_memory):
        with pytest.raises(RequestError, match=r"expected a dtype such as 'float32', got 'float31'"):
            cost(net, dtype="float31")


def test_limits_read_as_they_are_written(net: Network) -> None:
    a, b = net["a"], net["b"]
    texts = {
        "params <= 0.5 * now": params(net) <= 0.5 * now,
        "sizes[a] >= now - 8": sizes[a] >= now - 8,
        "sizes[a] + 2 * sizes[b] <= 300": sizes[a] + 2 * sizes[b] <= 300,
        "sizes[a] == 2 * sizes[b]": sizes[a] == 2 * sizes[b],
        "kept[a] >= 0.9 * now": kept[a] >= 0.9 * now,
        "inserted[a] <= 4": inserted[a] <= 4,
        "params + 3 * macs + 7 <= 1,000": params(net) + 3 * macs(net) + 7 <= 1000,
        "activation_memory <= 0.5 * now": activation_memory(net) <= 0.5 * now,
        "multiple_of(8)": multiple_of(8),
        "removed_at_most(0.3)": removed_at_most(0.3),
        "keep(a, [0, 2])": keep(a, [0, 2]),
        "sizes[a] - sizes[b] <= -3": sizes[a] - sizes[b] <= -3,
        "minimum(2) of a, b": minimum(2, [a, b]),
        "params of a* <= 9": params(net, "a*") <= 9,
        "freeze(outputs, inputs) of a": freeze(a, ["outputs", "inputs"]),
    }
    for text, limit in texts.items():
        assert repr(limit) == text
