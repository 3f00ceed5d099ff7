"""Every word of the vocabulary for requests that cannot be met as they were asked for."""

import itertools
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from solver_nas import (
    Change,
    Network,
    Plan,
    concat,
    create_edge,
    delta_nin,
    delta_nout,
    delta_size,
    insert,
    nn,
    plan_change,
    relaxed,
    remove,
    strategies,
)
from solver_nas.errors import GraphError, ImpossibleError, RelaxedWarning, RequestError, TimeLimitError
from solver_nas.strategies import Strategy

WHY = (
    "nout(out): 6 -> 8 is impossible.\n"
    "  out = start + joined   (element-wise: equal sizes)\n"
    "  joined = concat(split, split, split)   (so nout(joined) is a multiple of 3)\n"
    "nearest possible: 6, 9"
)


def residual() -> Network:
    """A layer and three times another one, added up: `out` is a multiple of three."""
    net = Network(seed=1)
    start = nn.dense(net.input("in", 6), 6, name="start")
    split = nn.dense(start, 2, name="split")
    joined = concat([2 * split, 3 * split, 5 * split], name="joined")
    net.output((start + joined).named("out"))
    return net


def plain() -> Network:
    """Two layers."""
    net = Network(seed=1)
    hidden = nn.dense(net.input("in", 3), 4, name="hidden")
    net.output(nn.dense(hidden, 2, name="out"))
    return net


def narrow() -> Network:
    """Three inputs, five neurons, two neurons: what reads the five can only read the three instead."""
    net = Network(seed=1)
    first = nn.dense(net.input("in", 3), 5, name="first")
    net.output(nn.dense(first, 2, name="second"))
    return net


def everything(net: Network) -> tuple[object, ...]:
    """All that a network is, bit for bit."""
    arrays = {key: (array.dtype.str, array.shape, array.tobytes()) for key, array in net.arrays.items()}
    return net.graph.vertices, net.graph.outputs, arrays, dict(net.observers), net.rng.bit_generator.state


def unused(*_: object) -> Any:
    raise AssertionError("this step should not have been tried")


@pytest.fixture
def net() -> Network:
    return residual()


@pytest.fixture
def kept() -> Iterator[Network]:
    """A network that has to be the same in the end."""
    net = residual()
    before, structure = everything(net), net.graph
    yield net
    assert everything(net) == before
    assert net.graph is structure


# -- attempts ----------------------------------------------------------------------------------


def test_mixed_takes_every_wish_as_it_was_asked_for(net: Network) -> None:
    wishes = {net["split"]: relaxed(-1), net["out"]: 3}
    plan = plan_change(wishes, strategy=strategies.mixed())
    assert (plan.sizes["split"], plan.sizes["out"]) == ((2, 3), (6, 9))
    with pytest.raises(ImpossibleError, match=r"nout\(out\): 6 -> 8 is impossible"):
        plan_change({**wishes, net["out"]: 2}, strategy=strategies.mixed())


def test_exact_makes_relaxed_wishes_exact(kept: Network) -> None:
    out = kept["out"]
    assert plan_change(out, relaxed(2), strategy=strategies.mixed()).sizes["out"] == (6, 9)
    with pytest.raises(ImpossibleError) as caught:
        plan_change(out, relaxed(2), strategy=strategies.exact())
    assert str(caught.value) == WHY
    assert caught.value.nearest == {"out": (6, 9)}
    assert plan_change(out, relaxed(3), strategy=strategies.exact()).sizes["out"] == (6, 9)


@pytest.mark.parametrize(("split", "out"), [(-1, 2), (1, -2), (3, 1), (0, 4), (2, 5)])
def test_relaxed_meets_every_wish_as_nearly_as_possible(kept: Network, split: int, out: int) -> None:
    wishes = {kept["split"]: split, kept["out"]: relaxed(out)}
    plan = plan_change(wishes, strategy=strategies.relaxed())
    missed = [abs(size - (2 + split)) + abs(3 * size - (6 + out)) for size in range(1, 9)]
    assert plan.certificate.deviation == min(missed)
    assert missed[plan.sizes["split"][1] - 1] == min(missed)
    assert plan.notes == ()


def test_what_must_change_still_must(kept: Network) -> None:
    wish = relaxed(1, must_change=True)
    assert plan_change(kept["out"], relaxed(1), strategy=strategies.relaxed()).empty
    assert plan_change(kept["out"], wish, strategy=strategies.relaxed()).sizes["out"] == (6, 9)


# -- chains ------------------------------------------------------------------------------------


def test_chains_are_values() -> None:
    first, second, third = strategies.mixed(time_limit=2), strategies.warn(), strategies.relaxed(most_new=1)
    chain = first.then(second).then(third)
    assert chain == first.then(second.then(third))
    assert first == strategies.mixed(time_limit=2)
    assert [len(one.steps) for one in (first, chain)] == [1, 3]
    assert chain.attempts == (*first.attempts, *third.attempts)


def test_steps_behind_the_one_that_works_are_not_tried(kept: Network) -> None:
    chain = strategies.mixed().then(strategies.log("error")).then(strategies.mixed(utility=unused))
    with warnings.catch_warnings(action="error"):
        plan = plan_change(kept["out"], 3, strategy=chain.then(strategies.fail()))
    assert (plan.sizes["out"], plan.notes) == ((6, 9), ())


def test_steps_are_tried_one_after_the_other(kept: Network) -> None:
    chain = strategies.exact().then(strategies.mixed(most_new=0)).then(strategies.relaxed(most_new=0))
    plan = plan_change(kept["out"], 2, strategy=chain)
    assert plan.sizes["out"] == (6, 6)
    assert plan.notes == ("an exact request was impossible and was relaxed",)
    plan = plan_change(kept["out"], relaxed(2), strategy=strategies.exact().then(strategies.mixed()))
    assert plan.sizes["out"] == (6, 9)
    assert plan.notes == ("an earlier step of the strategy was impossible",)


def test_what_stands_behind_the_end_is_not_tried(kept: Network) -> None:
    chain = strategies.mixed().then(strategies.keep()).then(strategies.relaxed(utility=unused))
    assert not delta_nout(kept["out"], 2, strategy=chain)
    with pytest.raises(ImpossibleError, match="a multiple of 3"):
        plan_change(kept["out"], 2, strategy=strategies.mixed().then(strategies.fail()).then(strategies.relaxed()))


@pytest.mark.parametrize("delta", [2, 3, relaxed(2), -2])
def test_words_of_on_failure_are_strategies(delta: Any) -> None:
    mixed, loose = strategies.mixed(), strategies.relaxed()
    chains = {
        "relax": mixed.then(strategies.warn()).then(loose).then(strategies.fail()),
        "raise": mixed.then(strategies.fail()),
        "keep": mixed.then(strategies.keep()),
    }
    for word, chain in chains.items():
        told: list[tuple[object, ...]] = []
        for options in ({"on_failure": word}, {"strategy": chain}):
            net = residual()
            with warnings.catch_warnings(record=True, action="always") as said:
                try:
                    change = delta_nout(net["out"], delta, **options)
                    what: tuple[object, ...] = (bool(change), change.sizes, change.explanation, everything(net))
                except ImpossibleError as error:
                    what = (str(error), everything(net))
            told.append((*what, [str(one.message) for one in said]))
        assert told[0] == told[1]


# -- ends --------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [strategies.mixed(), strategies.mixed().then(strategies.fail())])
def test_a_strategy_that_comes_to_its_end_fails(kept: Network, end: Strategy) -> None:
    with pytest.raises(ImpossibleError) as caught:
        delta_nout(kept["out"], 2, strategy=end)
    assert str(caught.value) == WHY
    assert caught.value.nearest == {"out": (6, 9)}
    assert len(caught.value.reasons) == 2


def test_keep_leaves_everything_as_it_is(kept: Network) -> None:
    change = delta_nout(kept["out"], 2, strategy=strategies.mixed().then(strategies.keep()))
    assert not change
    assert (change.plan, change.certificate, change.explanation, change.sizes) == (None, None, WHY, {})
    assert str(change) == f"{WHY}\nnothing was changed"


def test_a_plan_cannot_keep_everything(kept: Network) -> None:
    with pytest.raises(ImpossibleError, match="a multiple of 3"):
        plan_change(kept["out"], 2, strategy=strategies.mixed().then(strategies.keep()))


def test_an_end_alone_stands_behind_trying_what_was_asked_for(kept: Network) -> None:
    out = kept["out"]
    assert not delta_nout(out, 2, strategy=strategies.keep())
    with pytest.raises(ImpossibleError):
        delta_nout(out, 2, strategy=strategies.fail())
    assert plan_change(out, 3, strategy=strategies.fail()).sizes["out"] == (6, 9)


def test_a_message_alone_stands_before_what_happens_anyway(net: Network, caplog: pytest.LogCaptureFixture) -> None:
    assert not delta_nout(net["out"], 2, strategy=strategies.log("error"), on_failure="keep")
    with pytest.warns(RelaxedWarning):
        assert delta_nout(net["out"], 2, strategy=strategies.log("error", "now"))
    assert caplog.messages == [WHY, f"now\n{WHY}"]


# -- messages ----------------------------------------------------------------------------------


def test_warnings_say_why(net: Network) -> None:
    chain = strategies.mixed().then(strategies.warn("taken instead")).then(strategies.relaxed())
    with pytest.warns(RelaxedWarning) as said:
        change = delta_nout(net["out"], 2, strategy=chain)
    assert [str(one.message) for one in said] == [f"{WHY}\ntaken instead"]
    assert (change.sizes["out"], change.explanation) == ((6, 9), WHY)
    with pytest.warns(RelaxedWarning, match="The nearest sizes were used instead"):
        delta_nout(net["out"], 2, strategy=strategies.mixed().then(strategies.warn()).then(strategies.relaxed()))


VERBS: dict[str, Callable[[Strategy], object]] = {
    "delta_nout": lambda strategy: delta_nout(residual()["out"], 2, strategy=strategy),
    "plan_change": lambda strategy: plan_change(residual()["out"], 2, strategy=strategy),
    "remove": lambda strategy: remove(narrow()["first"], strategy=strategy),
    "remove.plan": lambda strategy: remove.plan(narrow()["first"], strategy=strategy),
}


@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)
def test_warnings_name_the_line_of_the_caller(verb: Callable[[Strategy], object]) -> None:
    with warnings.catch_warnings(record=True, action="always") as said:
        verb(strategies.exact().then(strategies.warn()).then(strategies.relaxed()))
    assert [one.filename for one in said] == [__file__]


def test_one_can_warn_and_keep(kept: Network) -> None:
    for text, ending in (("", "Nothing was changed."), ("a pity", "a pity")):
        with pytest.warns(RelaxedWarning) as said:
            delta_nout(kept["out"], 2, strategy=strategies.mixed().then(strategies.warn(text)).then(strategies.keep()))
        assert [str(one.message) for one in said] == [f"{WHY}\n{ending}"]


@pytest.mark.parametrize(
    ("level", "number"),
    [("info", logging.INFO), ("WARNING", logging.WARNING), ("Error", logging.ERROR), (logging.DEBUG, 10), (15, 15)],
)
def test_the_log_says_why(kept: Network, caplog: pytest.LogCaptureFixture, level: int | str, number: int) -> None:
    caplog.set_level(logging.DEBUG, "solver_nas")
    chain = strategies.mixed().then(strategies.log(level, "what now?")).then(strategies.keep())
    assert not delta_nout(kept["out"], 2, strategy=chain)
    assert caplog.record_tuples == [("solver_nas", number, f"what now?\n{WHY}")]


def test_the_log_is_silent_where_nothing_went_wrong_or_nobody_listens(
    net: Network, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "solver_nas")
    relax = strategies.relaxed()
    assert delta_nout(net["out"], 3, strategy=strategies.mixed().then(strategies.log()).then(relax))
    assert delta_nout(net["out"], 2, strategy=strategies.mixed().then(strategies.log("info")).then(relax))
    assert caplog.records == []
    assert delta_nout(net["out"], 2, strategy=strategies.mixed().then(strategies.log()).then(relax))
    assert [record.levelname for record in caplog.records] == ["WARNING"]


@pytest.mark.parametrize("level", ["loud", "", None, 1.5, ["info"]])
def test_levels_that_do_not_exist(level: Any) -> None:
    for word in (strategies.log, strategies.log_changes):
        with pytest.raises(RequestError, match=r"a log level is a number or one of .*info.*, got "):
            word(level)


# -- time --------------------------------------------------------------------------------------

SIDE = 16
LITTLE = 1e-9  # seconds; nothing is found in that
ENOUGH = 0.5  # seconds, to find a selection; to prove one takes minutes


def slow() -> tuple[Network, int, dict[Any, Any]]:
    """A rectangle with shared columns, a quarter of which is to stay: the solver cannot prove what is best."""
    net = Network()
    x = nn.dense(net.input("in", 2), SIDE * SIDE, name="x")
    rows = nn.reshape(x, (SIDE, SIDE), name="rows")
    net.output(nn.flatten(nn.scale(rows, axis=2, name="scale"), name="flat"))
    worth = np.random.default_rng(0).uniform(0.5, 1, SIDE * SIDE)
    return net, (SIDE // 2) ** 2 - SIDE * SIDE, {net["x"]: worth}


def test_what_is_found_in_time_is_used() -> None:
    net, delta, worth = slow()
    chain = strategies.mixed(time_limit=ENOUGH).then(strategies.mixed(utility=unused))
    certificate = plan_change(net["x"], delta, utility=worth, strategy=chain).certificate
    assert certificate.status.value == "feasible"
    assert certificate.gap > 0.01


def test_or_the_next_step_is_taken(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "solver_nas")
    net, delta, worth = slow()
    chain = strategies.mixed(time_limit=ENOUGH, on_timeout="next").then(strategies.log("info", "too slow"))
    plan = plan_change(net["x"], delta, utility=worth, strategy=chain.then(strategies.relaxed(time_limit=ENOUGH)))
    assert plan.sizes["x"] == (SIDE**2, SIDE**2 // 4)
    assert plan.certificate.status.value == "feasible"  # there is no step behind it
    (said,) = caplog.messages
    assert said.startswith("too slow\n")
    assert f"the best solution was not proven within {ENOUGH} s" in said


@pytest.mark.parametrize("on_timeout", ["use", "next"])
def test_where_nothing_is_found_the_next_step_is_taken(on_timeout: Any) -> None:
    net, delta, worth = slow()
    chain = strategies.mixed(time_limit=LITTLE, on_timeout=on_timeout).then(strategies.mixed(time_limit=ENOUGH))
    plan = plan_change(net["x"], delta, utility=worth, strategy=chain)
    assert len(plan.notes) == 1
    assert plan.notes[0].startswith("an earlier step ran out of time")


def test_without_a_next_step_it_is_an_error() -> None:
    net, delta, worth = slow()
    before, structure = everything(net), net.graph
    twice = strategies.mixed(time_limit=LITTLE).then(strategies.exact(time_limit=LITTLE))
    for chain in (twice, twice.then(strategies.fail()), strategies.mixed(time_limit=LITTLE)):
        with pytest.raises(TimeLimitError, match="no solution was found within 1e-09 s; give it more time"):
            delta_nout(net["x"], delta, utility=worth, strategy=chain)
    assert (everything(net), net.graph) == (before, structure)


def test_a_step_without_a_limit_has_that_of_the_call() -> None:
    net, delta, worth = slow()
    with pytest.raises(TimeLimitError, match="within 1e-09 s"):
        plan_change(net["x"], delta, utility=worth, strategy=strategies.mixed(), time_limit=LITTLE)
    chain = strategies.mixed(time_limit=ENOUGH)
    plan = plan_change(net["x"], delta, utility=worth, strategy=chain, time_limit=LITTLE)
    assert plan.sizes["x"] == (SIDE**2, SIDE**2 // 4)


@pytest.mark.parametrize(("seconds", "on_timeout"), [(LITTLE, "use"), (ENOUGH, "next")])
def test_one_can_keep_everything_if_there_was_no_time(seconds: float, on_timeout: Any) -> None:
    net, delta, worth = slow()
    chain = strategies.mixed(time_limit=seconds, on_timeout=on_timeout).then(strategies.keep())
    change = delta_nout(net["x"], delta, utility=worth, strategy=chain)
    assert not change
    assert f"within {seconds} s" in change.explanation


def test_no_time_is_not_told_as_an_impossible_request(caplog: pytest.LogCaptureFixture) -> None:
    net, delta, worth = slow()
    chain = strategies.mixed(time_limit=LITTLE).then(strategies.log()).then(strategies.relaxed(time_limit=ENOUGH))
    plan = plan_change(net["x"], delta, utility=worth, strategy=chain)
    assert "request is impossible" not in caplog.text
    assert "request was impossible" not in str(plan)


# -- the most new neurons ----------------------------------------------------------------------

Key = tuple[float, ...]
Side = NDArray[np.float64]


def missed(wishes: Sequence[tuple[int, int, int]]) -> tuple[int, int]:
    """How far sizes are from their wishes, given as (before, delta, after), and how many fall short."""
    distance = sum(abs(after - (before + delta)) for before, delta, after in wishes)
    short = sum(
        after < before + delta if delta > 0 else after > before + delta if delta < 0 else False
        for before, delta, after in wishes
    )
    return distance, short


def subsets(worth: Side) -> Iterator[tuple[int, float]]:
    """Every choice of neurons to keep: how many they are, and what they are worth."""
    for chosen in itertools.product((False, True), repeat=len(worth)):
        yield sum(chosen), float(worth[list(chosen)].sum())


def possible(wishes: Sequence[tuple[int, Any, int]]) -> bool:
    """Whether exact wishes, given as (before, delta, after), are met; no size may vanish."""
    return all(
        after >= 1 and (not isinstance(delta, int) or after == before + delta) for before, delta, after in wishes
    )


def best(keys: Sequence[Key]) -> tuple[float, float] | None:
    """Deviation and utility of the best selection."""
    return (min(keys)[0], -min(keys)[2]) if keys else None


def agrees(plan: Plan, expected: tuple[float, float] | None, most: int, rows: dict[str, int]) -> None:
    """The plan is as good as the best selection of all; no row of the vertices gets more than the limit."""
    assert expected is not None
    assert (plan.certificate.deviation, plan.certificate.objective) == pytest.approx(expected)
    for name, number in rows.items():
        assert (plan.indices[name] < 0).sum() <= most * number
    plan.check()


WORTHS = st.lists(st.integers(-3, 5), min_size=1, max_size=4).map(lambda worth: np.array(worth, float))
MOST = st.integers(0, 3)


@settings(max_examples=100)
@given(WORTHS, st.integers(-3, 8), st.booleans(), MOST)
@example(np.ones(2), 6, False, 3)  # far more is asked for than may come
def test_one_layer_gets_no_more_than_the_limit(worth: Side, delta: int, wanted: bool, most: int) -> None:
    net = Network()
    layer = nn.dense(net.input("in", 2), len(worth), name="layer")
    net.output(nn.dense(layer, 2, name="out"))
    delta = max(delta, 1 - len(worth))
    wish: Any = delta if wanted else relaxed(delta)
    keys = [
        (*missed([(len(worth), delta, old + fresh)]), -gain)
        for (old, gain), fresh in itertools.product(subsets(worth), range(most + 1))
        if old and possible([(len(worth), wish, old + fresh)])
    ]
    strategy = strategies.mixed(most_new=most)
    if not keys:
        with pytest.raises(ImpossibleError, match=f"not more than {most} new neurons may be inserted at any one place"):
            plan_change(layer, wish, utility={layer: worth}, strategy=strategy)
        return
    plan = plan_change(layer, wish, utility={layer: worth}, strategy=strategy)
    agrees(plan, best(keys), most, {"layer": 1})


@settings(max_examples=100)
@given(WORTHS, WORTHS, st.integers(-5, 8), st.integers(-2, 4), st.booleans(), MOST)
def test_each_of_several_layers_gets_no_more_than_the_limit(
    left: Side, right: Side, delta: int, other: int, wanted: bool, most: int
) -> None:
    """The first layer stands twice in a concatenation, the second once."""
    net = Network()
    x = net.input("in", 2)
    a, b = nn.dense(x, len(left), name="a"), nn.dense(x, len(right), name="b")
    both = concat([a, b, a], name="both")
    net.output(nn.dense(both, 2, name="out"))
    size, delta, other = both.nout, max(delta, 1 - both.nout), max(other, 1 - len(left))
    wish: Any = delta if wanted else relaxed(delta)
    keys = []
    for (old_a, gain_a), (old_b, gain_b) in itertools.product(subsets(left), subsets(right)):
        for new_a, new_b in itertools.product(range(most + 1), repeat=2):
            after = (old_a + new_a, 2 * (old_a + new_a) + old_b + new_b)
            if old_a and old_b and possible([(size, wish, after[1])]):
                key = missed(
                    [(size, 0 if wanted else delta, size if wanted else after[1]), (len(left), other, after[0])]
                )
                keys.append((*key, -gain_a - gain_b))
    wishes, utility = {both: wish, a: relaxed(other)}, {a: left, b: right}
    strategy = strategies.mixed(most_new=most)
    if not keys:
        with pytest.raises(ImpossibleError):
            plan_change(wishes, utility=utility, strategy=strategy)
        return
    agrees(plan_change(wishes, utility=utility, strategy=strategy), best(keys), most, {"a": 1, "b": 1})


def shapes(worth: Side, most: int) -> Iterator[tuple[tuple[bool, ...], int, float]]:
    """Every way to keep neurons of a rectangle: rows that live, columns, and what is kept is worth."""
    for chosen in itertools.product((False, True), repeat=worth.size):
        keep: NDArray[np.bool_] = np.array(chosen).reshape(worth.shape)
        alive, old = np.any(keep, axis=1), np.sum(keep, axis=1)
        for columns in range(1, worth.shape[1] + most + 1):
            fresh = (columns - old)[alive]
            # New columns are for rectangles that keep all their rows.
            if alive.any() and (fresh >= 0).all() and (fresh <= (most if alive.all() else 0)).all():
                yield tuple(alive.tolist()), columns, float(worth[keep].sum())


EACH_LIMIT = pytest.mark.parametrize("most", [0, 1, 2])


@EACH_LIMIT
def test_each_row_of_a_rectangle_gets_no_more_than_the_limit(most: int) -> None:
    """A convolution in two groups: two rows on either side, which live and die together."""
    net = Network()
    a = nn.conv(net.input("in", (1, 2, 2)), 6, 1, name="a")
    b = nn.conv(a, 4, 1, groups=2, name="b")
    net.output(nn.conv(b, 1, 1, name="out"))
    strategy = strategies.mixed(most_new=most)
    for seed, delta in itertools.product(range(2), (-3, -2, -1, 1, 2, 4)):
        rng = np.random.default_rng(seed)
        left, right = rng.integers(-2, 6, (2, 3)).astype(float), rng.integers(-2, 6, (2, 2)).astype(float)
        keys = [
            (*missed([(6, delta, sum(rows) * columns), (4, 1, sum(rows) * other)]), -gain - more)
            for (rows, columns, gain), (alive, other, more) in itertools.product(
                shapes(left, most), shapes(right, most)
            )
            if rows == alive
        ]
        utility = {a: left.reshape(-1), b: right.reshape(-1)}
        plan = plan_change({a: relaxed(delta), b: relaxed(1)}, utility=utility, strategy=strategy)
        agrees(plan, best(keys), most, {"a": 2, "b": 2})


@EACH_LIMIT
def test_each_head_gets_no_more_than_the_limit(most: int) -> None:
    net = Network()
    x = net.input("in", (3, 2), axis=-1)
    net.output(nn.attention(x, num_heads=2, head_dim=1, value_dim=3, units=2, name="a"))
    worth, strategy = np.array([[1.0, 5, 2], [4, 3, -1]]), strategies.mixed(most_new=most)
    for delta in (-2, 2, 4, 6):
        keys = [(*missed([(6, delta, sum(rows) * columns)]), -gain) for rows, columns, gain in shapes(worth, most)]
        utility = {net["a.value"]: worth.reshape(-1)}
        plan = plan_change(net["a.heads"], relaxed(delta), utility=utility, strategy=strategy)
        agrees(plan, best(keys), most, {"a.value": 2})


@pytest.mark.parametrize("most", [0, 1, 2])
def test_shared_columns_get_no_more_than_the_limit(most: int) -> None:
    net = Network()
    x = nn.dense(net.input("in", 2), 6, name="x")
    net.output(nn.flatten(nn.scale(nn.reshape(x, (2, 3)), axis=2), name="flat"))
    worth, strategy = np.array([[1.0, 5, 2], [4, 3, 1]]), strategies.mixed(most_new=most)
    for delta in (-3, -2, 1, 2, 4):
        keys = [
            (*missed([(6, delta, len(rows) * (len(columns) + fresh))]), -float(worth[np.ix_(rows, columns)].sum()))
            for rows, columns in itertools.product(places(2), places(3))
            for fresh in range(most + 1 if len(rows) == 2 else 1)
        ]
        plan = plan_change(x, relaxed(delta), utility={x: worth.reshape(-1)}, strategy=strategy)
        agrees(plan, best(keys), most, {"x": 2})


def places(size: int) -> list[list[int]]:
    return [list(some) for number in range(1, size + 1) for some in itertools.combinations(range(size), number)]


def test_an_explanation_names_the_limit(kept: Network) -> None:
    with pytest.raises(ImpossibleError) as caught:
        plan_change(kept["out"], 6, strategy=strategies.mixed(most_new=1).then(strategies.fail()))
    assert caught.value.reasons == ("not more than 1 new neurons may be inserted at any one place",)
    assert plan_change(kept["out"], 6, strategy=strategies.mixed(most_new=2)).sizes["out"] == (6, 12)
    with pytest.raises(ImpossibleError, match="a multiple of 3"):
        plan_change(kept["out"], 5, strategy=strategies.mixed(most_new=1))


def test_an_explanation_is_of_the_last_attempt(kept: Network) -> None:
    wishes = {kept["split"]: 1, kept["start"]: relaxed(2)}
    with pytest.raises(ImpossibleError, match="a multiple of 3"):
        plan_change(wishes, strategy=strategies.mixed(most_new=0).then(strategies.exact()))


def test_pruning_first_and_new_neurons_only_where_it_must_be(net: Network) -> None:
    chain = strategies.mixed(most_new=0).then(strategies.mixed())
    shrunk = plan_change(net["out"], -3, utility={net["start"]: -1.0}, strategy=chain)
    assert (shrunk.indices["out"] >= 0).all()
    grown = plan_change(net["out"], 3, strategy=chain)
    assert (grown.indices["out"] < 0).sum() == 3


# -- utilities ---------------------------------------------------------------------------------


def test_a_step_may_have_a_utility_of_its_own() -> None:
    net = plain()
    hidden, rising = net["hidden"], {net["hidden"]: np.arange(4.0)}
    own = strategies.mixed(utility=rising)
    assert plan_change(hidden, -2, utility=unused, strategy=own).indices["hidden"].tolist() == [2, 3]
    falling = {hidden: -np.arange(4.0)}
    chain = strategies.mixed(utility=rising, most_new=0).then(strategies.mixed())
    plan = plan_change(hidden, 1, utility=falling, strategy=chain)
    assert plan.indices["hidden"].tolist() == [0, -1, -1, -1, -1]
    assert plan.utilities["hidden"].tolist() == falling[hidden].tolist()


def test_steps_of_one_utility_ask_for_it_once() -> None:
    asked = []

    def utility(v: Any) -> float:
        asked.append(v.name)
        return 1.0

    net = residual()
    chain = strategies.exact().then(strategies.exact()).then(strategies.relaxed())
    assert delta_nout(net["out"], 2, utility=utility, strategy=chain)
    assert sorted(asked) == sorted(set(asked))


def test_sizes_that_are_worth_most() -> None:
    net = plain()
    surplus = strategies.mixed(utility=lambda v: np.arange(v.nout) - 1.5 if v.name == "hidden" else 1)
    assert delta_size(net, strategy=surplus)
    assert net["hidden"].nout == 2


# -- new weights -------------------------------------------------------------------------------


def constant(rng: np.random.Generator, shape: tuple[int, ...], spread: float, value: float = 3.0) -> Any:  # noqa: ARG001 - an initialiser
    return np.full(shape, value)


def test_a_step_may_make_its_own_weights() -> None:
    net = plain()
    assert delta_nout(net["hidden"], 1, strategy=strategies.mixed(init=constant))
    assert net["hidden"].op.weight[4].tolist() == [3, 3, 3]
    assert net["out"].op.weight[:, 4].tolist() == [3, 3]
    assert delta_nout(net["hidden"], 1, init=constant, strategy=strategies.mixed(init="zeros"))
    assert not net["hidden"].op.weight[5].any()


def test_the_step_that_works_makes_the_weights() -> None:
    net = plain()
    chain = strategies.mixed(most_new=1, init=unused).then(strategies.mixed(init="zeros"))
    assert delta_nout(net["hidden"], 2, init=unused, strategy=chain)
    assert not net["hidden"].op.weight[4:].any()


@pytest.mark.parametrize("where", ["call", "step"])
def test_options_are_passed_on(where: str) -> None:
    net = plain()
    step = strategies.mixed(options={"value": 7.0}, init=constant if where == "step" else None)
    assert delta_nout(net["hidden"], 1, init=constant if where == "call" else "preserve", strategy=step)
    assert net["hidden"].op.weight[4].tolist() == [7, 7, 7]


def test_options_are_those_of_the_time_of_the_call() -> None:
    options = {"value": 7.0}
    step = strategies.mixed(init=constant, options=options)
    options["value"] = 8.0
    net = plain()
    assert delta_nout(net["hidden"], 1, strategy=step)
    assert net["hidden"].op.weight[4].tolist() == [7, 7, 7]


@pytest.mark.parametrize("init", ["preserve", "zeros"])
def test_options_need_someone_to_take_them(kept: Network, init: Any) -> None:
    with pytest.raises(RequestError, match=rf"options are passed on to a function .* but init is '{init}'"):
        delta_nout(kept["out"], 3, init=init, strategy=strategies.mixed(options={"value": 7.0}))


@pytest.mark.parametrize("where", ["call", "step"])
def test_every_layer_may_have_its_own(where: str) -> None:
    """A mapping is about the arrays of a vertex; those that it leaves out keep the network's function."""
    net = plain()
    x, before = np.ones((1, 3)), plain()(np.ones((1, 3)))
    init: Any = {net["hidden"]: constant}
    options: dict[str, Any] = {"init": init} if where == "call" else {"strategy": strategies.mixed(init=init)}
    assert delta_nout(net["hidden"], 1, **options)
    assert net["hidden"].op.weight[4].tolist() == [3, 3, 3]
    assert net["out"].op.weight[:, 4].tolist() == [0, 0]
    assert np.allclose(net(x), before)
    assert delta_nout(net["hidden"], 1, init={net["hidden"]: "zeros", net["out"]: constant})
    assert not net["hidden"].op.weight[5].any()
    assert net["out"].op.weight[:, 5].tolist() == [3, 3]


@pytest.mark.parametrize("init", ["ones", 3, {"hidden": "ones"}])
def test_weights_that_nothing_makes(init: Any) -> None:
    net = plain()
    before = everything(net)
    init = {net[name]: one for name, one in init.items()} if isinstance(init, dict) else init
    for options in ({"init": init}, {"strategy": strategies.mixed(init=init)}):
        with pytest.raises(RequestError, match="init is 'preserve', 'zeros', a callable, or a mapping from vertices"):
            delta_nout(net["hidden"], 1, **options)
    assert everything(net) == before


# -- call-backs --------------------------------------------------------------------------------


def test_callbacks_see_the_changed_model_in_their_order(net: Network) -> None:
    seen: list[tuple[str, object]] = []

    def note(name: str) -> Callable[[Change], None]:
        return lambda change: seen.append((name, (change.model["out"].nout, change.sizes["out"], bool(change))))

    chain = strategies.mixed().after(note("a")).then(strategies.relaxed().after(note("b")).after(note("c")))
    assert delta_nout(net["out"], 3, strategy=chain.then(strategies.after(note("d"))))
    assert seen == [(name, (9, (6, 9), True)) for name in "abcd"]


def test_callbacks_alone_accompany_what_happens_anyway(net: Network) -> None:
    sizes = []
    watch = strategies.after(lambda change: sizes.append(change.sizes["out"]))
    assert delta_nout(net["out"], 3, strategy=watch)
    with pytest.warns(RelaxedWarning):
        delta_nout(net["out"], 2, strategy=watch)
    assert not delta_nout(net["out"], 2, strategy=watch, on_failure="keep")
    with pytest.raises(ImpossibleError):
        delta_nout(net["out"], 2, strategy=watch, on_failure="raise")
    assert sizes == [(6, 9), (9, 12)]


def test_callbacks_are_not_called_where_nothing_is_done(kept: Network) -> None:
    chain = strategies.mixed().after(unused)
    assert not delta_nout(kept["out"], 2, strategy=chain.then(strategies.keep()))
    plan_change(kept["out"], 3, strategy=chain)
    remove.plan(narrow()["first"], strategy=chain)


MAKES: dict[str, Callable[[Network, Strategy], Change]] = {
    "delta_nout": lambda net, strategy: delta_nout(net["out"], 3, strategy=strategy),
    "delta_nin": lambda net, strategy: delta_nin(net["joined"], (1, None, None), strategy=strategy),
    "delta_size": lambda net, strategy: delta_size(net, utility=lambda v: np.arange(v.nout) - 3.0, strategy=strategy),
    "insert": lambda net, strategy: insert(net["start"], nn.relu, strategy=strategy),
    "create_edge": lambda net, strategy: create_edge(net["joined"], net["out"], strategy=strategy),
}


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
@pytest.mark.parametrize("make", MAKES.values(), ids=MAKES)
def test_a_callback_that_raises_takes_the_change_back(
    make: Callable[[Network, Strategy], Change], error: type[BaseException]
) -> None:
    net, told = residual(), list[Change]()
    net.history = 2
    assert delta_nout(net["out"], 3)
    before, structure, handle = everything(net), net.graph, net["split"]

    def fail(change: Change) -> None:
        assert change
        assert everything(net) != before
        nn.fit(net, np.ones((2, 6)), np.ones((2, net["out"].nout)), steps=1)
        raise error

    with pytest.raises(error):
        make(net, strategies.mixed().after(told.append).after(fail).after(unused))
    assert everything(net) == before
    assert net.graph is structure
    assert (handle.nout, len(told)) == (3, 1)
    net.undo()
    assert net["out"].nout == 6
    with pytest.raises(Exception, match="1 edits cannot be taken back, 0 can"):
        net.undo()


def test_a_callback_may_change_more(net: Network) -> None:
    before = everything(net)
    more = strategies.after(lambda change: delta_nout(change.model["out"], 3))
    assert delta_nout(net["out"], 3, strategy=more)
    assert net["out"].nout == 12
    net.undo()
    assert everything(net) == before


def test_validate_looks_at_the_model(net: Network) -> None:
    wide_enough = strategies.validate(lambda model: model["out"].nout >= 6)
    before = everything(net)
    with pytest.raises(RequestError, match="did not pass the check of the strategy and was taken back"):
        delta_nout(net["out"], -3, strategy=wide_enough)
    assert everything(net) == before
    assert delta_nout(net["out"], 3, strategy=wide_enough)
    assert delta_nout(net["out"], -3, strategy=strategies.validate(lambda model: None)), "only `False` is a no"  # noqa: ARG005

    def broken(model: Network) -> bool:
        raise LookupError(repr(model))

    with pytest.raises(LookupError, match="<Network"):
        delta_nout(net["out"], 3, strategy=strategies.validate(broken))
    assert net["out"].nout == 6


def test_changes_can_be_logged(net: Network, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "solver_nas")
    first = delta_nout(net["out"], 3, strategy=strategies.log_changes())
    second = insert(net["start"], nn.relu, strategy=strategies.mixed().then(strategies.log_changes("error")))
    assert caplog.record_tuples == [
        ("solver_nas", logging.INFO, str(first)),
        ("solver_nas", logging.ERROR, str(second)),
    ]


# -- verbs -------------------------------------------------------------------------------------


def test_inputs_too(net: Network) -> None:
    before = everything(net)
    chain = strategies.exact().then(strategies.keep())
    assert not delta_nin({net["out"]: (relaxed(2), None)}, strategy=chain)
    assert everything(net) == before
    assert delta_nin({net["out"]: (relaxed(2), None)}, strategy=strategies.mixed())
    assert net["out"].nin == (9, 9)
    assert delta_nin(net["joined"], (1, None, None), strategy=strategies.mixed(most_new=1))
    assert net["joined"].nin == (4, 4, 4)


def test_a_removal_that_does_not_fit_exactly() -> None:
    """The preferred size is a relaxed wish, so that `exact` insists on it."""
    net = narrow()
    before, structure = everything(net), net.graph
    chain = strategies.exact()
    with pytest.raises(ImpossibleError, match=r"(?s)remove first .*\(an input: its size is given from outside\)"):
        remove(net["first"], strategy=chain)
    change = remove(net["first"], strategy=chain.then(strategies.keep()))
    assert not change
    assert change.explanation.startswith("remove first is impossible.")
    assert everything(net) == before
    assert net.graph is structure
    assert remove(net["first"], strategy=chain.then(strategies.mixed(utility={net["first"]: [1, 5, 2, 4, 3]})))
    assert net["second"].nin == (3,)
    assert np.array_equal(net["second"].op.weight, narrow()["second"].op.weight[:, [1, 3, 4]])


@pytest.mark.filterwarnings("ignore:.*sizes could not be increased")
def test_an_edge_with_a_limit_of_new_neurons() -> None:
    """Summands of four and six neurons: the smaller one grows, unless it may not."""

    def net() -> Network:
        net = Network(seed=1)
        small = nn.dense(net.input("in", 3), 4, name="small")
        total = nn.add([small, nn.dense(net["in"], 4, name="other")], name="total")
        net.output(nn.dense(total, 2, name="out"), nn.dense(nn.dense(net["in"], 6, name="large"), 1, name="aside"))
        return net

    for most, size in ((None, 6), (2, 6), (1, 5), (0, 4)):
        one = net()
        assert create_edge(one["large"], one["total"], strategy=strategies.mixed(most_new=most))
        assert one["total"].nout == one["large"].nout == size
    one = net()
    before = everything(one)
    strict = strategies.exact(most_new=1).then(strategies.keep())
    assert not create_edge(one["large"], one["total"], strategy=strict)
    assert everything(one) == before


def test_dry_runs_of_structural_verbs_that_keep_everything() -> None:
    with pytest.raises(ImpossibleError, match="remove first is impossible"):
        remove.plan(narrow()["first"], strategy=strategies.exact().then(strategies.keep()))


# -- bad input ---------------------------------------------------------------------------------


@pytest.mark.parametrize("word", [strategies.mixed, strategies.exact, strategies.relaxed])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"on_timeout": "keep"}, r"on_timeout is 'use' \(the best that was found\) or 'next' \(step\), got 'keep'"),
        ({"time_limit": 0}, "the time limit is a positive number of seconds, got 0"),
        ({"time_limit": -1.5}, "the time limit is a positive number of seconds, got -1.5"),
        ({"time_limit": float("nan")}, "the time limit is a positive number of seconds, got nan"),
        ({"time_limit": True}, "the time limit is a positive number of seconds, got True"),
        ({"most_new": -1}, "most_new is a whole number of neurons from 0 on, got -1"),
        ({"most_new": 1.5}, "most_new is a whole number of neurons from 0 on, got 1.5"),
        ({"most_new": "1"}, "most_new is a whole number of neurons from 0 on, got '1'"),
    ],
)
def test_arguments_that_make_no_sense(word: Callable[..., Strategy], arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        word(**arguments)


def test_words_that_do_not_fit_together() -> None:
    for what in (strategies.keep, "keep", None):
        with pytest.raises(
            RequestError, match=r"a strategy is followed by a strategy, such as strategies\.keep\(\), got "
        ):
            strategies.mixed().then(what)  # type: ignore[arg-type]  # what is tested
    for word in (strategies.after, strategies.mixed().after):
        with pytest.raises(RequestError, match="a call-back is a function of a Change, got 'print'"):
            word("print")  # type: ignore[arg-type]  # what is tested


@pytest.mark.parametrize("strategy", [strategies.keep, "mixed", 3])
def test_what_is_no_strategy(kept: Network, strategy: Any) -> None:
    verbs: list[Callable[..., object]] = [
        lambda **options: delta_nout(kept["out"], 3, **options),
        lambda **options: delta_nin(kept["joined"], (1, None, None), **options),
        lambda **options: delta_size(kept, **options),
        lambda **options: plan_change(kept["out"], 3, **options),
        lambda **options: remove(kept["joined"], **options),
        lambda **options: insert.plan(kept["start"], nn.relu, **options),
    ]
    for verb in verbs:
        with pytest.raises(RequestError, match=r"a strategy is made with solver_nas\.strategies, got "):
            verb(strategy=strategy)


@pytest.mark.parametrize("utility", [3, "much"])
def test_what_is_no_utility(kept: Network, utility: Any) -> None:
    with pytest.raises(RequestError, match="a utility is a function of a vertex, or a mapping"):
        plan_change(kept["out"], 3, strategy=strategies.mixed(utility=utility))


LATE: dict[str, Callable[[], object]] = {
    "time limit": lambda: strategies.mixed(time_limit="1"),  # type: ignore[arg-type]  # what is tested
    "options": lambda: strategies.mixed(options=3),  # type: ignore[arg-type]  # what is tested
    "check": lambda: strategies.validate(3),  # type: ignore[arg-type]  # what is tested
    "steps": lambda: Strategy((3,)),  # type: ignore[arg-type]  # what is tested
    "no vertex": lambda: delta_nout(plain()["hidden"], 1, init={"hidden": "zeros"}),  # type: ignore[dict-item]  # what is tested
    "foreign vertex": lambda: delta_nout(plain()["hidden"], 1, init={plain()["hidden"]: "zeros"}),
    "word": lambda: delta_nout(plain()["hidden"], 1, on_failure="x", strategy=strategies.log_changes()),  # type: ignore[arg-type]  # what is tested
}


@pytest.mark.parametrize("make", LATE.values(), ids=LATE)
def test_bad_input_that_should_be_told_at_once(make: Callable[[], object]) -> None:
    with pytest.raises((RequestError, GraphError)):
        make()
