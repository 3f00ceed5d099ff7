"""Several rounds instead of one, and curves of the user's own measure."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from solver_nas import Network, limits, nn, shrink, strategies, trade_off
from solver_nas.errors import ImpossibleError, RequestError
from solver_nas.limits import now, params, sizes
from tests.calibration.kinds import KINDS, Kind


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def kind(request: Any) -> Kind:
    found: Kind = request.param
    return found


def small() -> Network:
    """4 -> 12 -> 12 -> 3."""
    net = Network(seed=0)
    first = nn.dense(net.input("x", 4), 12, activation="tanh", name="first")
    second = nn.dense(first, 12, activation="tanh", name="second")
    net.output(nn.dense(second, 3, name="out"))
    return net


X, HELD = (np.random.default_rng(seed).normal(size=(64, 4)) for seed in (0, 1))


def test_rounds_come_to_the_limits_by_equal_factors(kind: Kind) -> None:
    model: Any = kind.build()
    model.history = 1
    before = params(model).value
    arrays = {key: np.array(array) for key, array in model.arrays.items()}
    change = shrink(model, [params(model) <= 0.4 * now], data=kind.samples(32), rounds=3)
    assert change
    assert params(model).value <= 0.4 * before
    model.undo()
    for key, array in model.arrays.items():
        assert np.array_equal(np.asarray(array), arrays[key])


def test_every_round_is_told() -> None:
    net, seen = small(), list[float]()
    before = params(net).value

    def told(_: object) -> None:
        seen.append(params(net).value / before)

    change = shrink(net, [params(net) <= 0.4 * now], data=X, rounds=3, strategy=strategies.after(told))
    assert len(seen) == len(change.rounds) == 3
    assert change.sizes["first"] == (12, net["first"].nout)
    text = str(change)
    assert re.search(rf"^first +12 +{net['first'].nout} ", text, re.MULTILINE)
    assert text.index("round 1, compared") < text.index("on the way to params <= 0.4 * now") < text.index("round 3")
    assert f"params <= 0.4 * now (= {0.4 * before:.6g})" in text.partition("round 3")[2]
    for share, place in zip(seen, (1, 2, 3), strict=True):
        assert 0.6 * 0.4 ** (place / 3) < share <= 0.4 ** (place / 3)


def test_the_round_that_loses_too_much_is_taken_back() -> None:
    net = small()
    wanted = np.asarray(net(HELD))

    def nearness(model: Any) -> float:
        return -float(((np.asarray(model(HELD)) - wanted) ** 2).mean() / wanted.var())

    change = shrink(net, [params(net) <= 0.1 * now], data=X, rounds=6, metric=nearness, tolerance=0.05)
    assert "was taken back: the metric fell from -0 to -" in str(change)
    assert nearness(net) >= -0.05
    assert 0.1 < params(net).value / params(small()).value < 1


def test_if_the_first_round_loses_too_much_nothing_happens() -> None:
    net = small()
    arrays = dict(net.arrays)
    change = shrink(net, [params(net) <= 0.5 * now], metric=lambda model: params(model).value, tolerance=1.0)
    assert not change
    assert all(net.arrays[key] is array for key, array in arrays.items())


def test_other_limits_hold_on_the_way() -> None:
    net = small()
    wanted = [
        params(net) <= 0.4 * now,
        limits.multiple_of(2),
        limits.minimum(4, of="first"),
        limits.removed_at_most(0.25, of="second"),
        sizes[net["second"]] <= 11,
        limits.freeze("out"),
    ]
    with pytest.raises(ImpossibleError):
        shrink(net, wanted, rounds=3)
    assert net["second"].nout == 12
    wanted[0] = params(net) <= 0.7 * now
    shrink(net, wanted, rounds=3)
    assert (net["first"].nout % 2, net["second"].nout % 2) == (0, 0)
    assert net["first"].nout >= 4
    assert 9 <= net["second"].nout <= 11


def test_an_error_in_a_later_round_takes_all_of_them_back() -> None:
    net, calls = small(), list[int]()
    arrays = dict(net.arrays)

    def metric(_: object) -> float:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return 0.0

    with pytest.raises(KeyboardInterrupt):
        shrink(net, [params(net) <= 0.3 * now], data=X, rounds=4, metric=metric)
    assert all(net.arrays[key] is array for key, array in arrays.items())


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"rounds": 0}, "rounds is a number from 1 on"),
        ({"rounds": 1.5}, "rounds is a number from 1 on"),
        ({"metric": lambda _: "good"}, "a metric is a function of the model that returns a number"),
        ({"metric": lambda _: float("nan")}, "the metric is NaN"),
    ],
    ids=["none", "half", "words", "nan"],
)
def test_what_makes_no_sense_is_told(options: dict[str, Any], told: str) -> None:
    net = small()
    with pytest.raises(RequestError, match=told):
        shrink(net, [params(net) <= 0.5 * now], **options)


def test_rounds_have_no_plan_and_no_limits_of_old_neurons() -> None:
    net = small()
    with pytest.raises(RequestError, match="cannot be planned, nor several rounds"):
        shrink.plan(net, [params(net) <= 0.5 * now], rounds=2)
    with pytest.raises(RequestError, match="cannot be kept in several rounds"):
        shrink(net, [params(net) <= 0.5 * now, limits.keep(net["first"], [3])], rounds=2)


def test_samples_that_come_once_are_there_in_every_round() -> None:
    net = small()
    shrink(net, [params(net) <= 0.5 * now], data=(X[start : start + 8] for start in range(0, 64, 8)), rounds=2)
    assert params(net).value <= 0.5 * params(small()).value


def test_a_curve_of_the_users_own_measure(kind: Kind, tmp_path: Any) -> None:
    model: Any = kind.build()
    wanted = kind.run(model, kind.samples(4, seed=5))
    arrays = {key: np.array(array) for key, array in model.arrays.items()}

    def nearness(changed: Any) -> float:
        return -float(((kind.run(changed, kind.samples(4, seed=5)) - wanted) ** 2).mean() / wanted.var())

    curve = trade_off(model, params(model), (0.4, 0.7, 1.0), data=kind.samples(32), metric=nearness)
    assert curve.metric == pytest.approx(0, abs=1e-9)
    found = [point.metric for point in curve.points]
    assert None not in found
    assert found[0] < found[1] < found[2] + 1e-9  # type: ignore[operator] # just checked
    for key, array in model.arrays.items():
        assert np.array_equal(np.asarray(array), arrays[key])
    assert "metric" in str(curve)
    assert curve.best(10.0) is curve.points[0]
    with pytest.raises(RequestError, match="no point is within"):
        trade_off(model, params(model), (0.3,), metric=nearness).best(1e-9)
    curve.save(tmp_path / "curve.svg")
    picture = (tmp_path / "curve.svg").read_text()
    assert "metric" in picture
    # The plan of a point can be carried out afterwards.
    curve.points[1].plan.apply()
    assert nearness(model) == pytest.approx(found[1])


def test_a_curve_without_a_measure_has_no_best_point() -> None:
    net = small()
    with pytest.raises(RequestError, match="give trade_off a metric"):
        trade_off(net, params(net), (0.5,)).best(0.1)
