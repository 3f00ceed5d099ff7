"""Weights that remain are refitted: closer to what was, and never farther from it."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from solver_nas import Network, calibrate, delta_nout, limits, nn, plan_change, save_plan, shrink
from solver_nas.errors import CalibrationError, PlanError, RequestError
from solver_nas.passage import is_held
from solver_nas.torch import trace
from tests.calibration.kinds import KINDS, Kind


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def kind(request: Any) -> Kind:
    found: Kind = request.param
    return found


def hidden(seed: int = 0, *, bias: bool = True, units: int = 8) -> Network:
    """4 -> units -> 3."""
    net = Network(seed=seed)
    first = nn.dense(net.input("x", 4), units, activation="tanh", name="hidden")
    net.output(nn.dense(first, 3, bias=bias, name="out"))
    return net


def samples(count: int = 64, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=(count, 4))


def distance(one: Any, other: Any) -> float:
    """Mean square of the difference, as a fraction of the variance."""
    return float(((one - other) ** 2).mean() / ((other - other.mean(axis=0)) ** 2).mean())


@given(seed=st.integers(0, 500), bias=st.booleans())
def test_with_all_data_there_are_it_is_least_squares(seed: int, bias: bool) -> None:
    net, x = hidden(seed, bias=bias), samples(seed=seed)
    a, y = np.asarray(net.activations(x)["hidden"]), np.asarray(net(x))
    plan = plan_change(net["hidden"], -4)
    plan.compensate(calibrate(net, x, held_back=0)).apply()
    design = a[:, plan.indices["hidden"]]
    design = np.column_stack([design, np.ones(len(x))]) if bias else design
    fitted, *_ = np.linalg.lstsq(design, y, rcond=None)
    assert distance(np.asarray(net(x)), y) == pytest.approx(distance(design @ fitted, y), rel=1e-3, abs=1e-9)


def test_a_network_comes_closer_to_what_it_was(kind: Kind) -> None:
    plain, refitted = kind.build(), kind.build()
    x, fresh = kind.samples(64), kind.samples(32, seed=1)
    before = kind.run(plain, fresh[:4])
    found = calibrate(refitted, x)
    for model, data in ((plain, None), (refitted, found)):
        plan = plan_change({model[kind.inner]: -3, model[_first(kind)]: -3})
        (plan if data is None else plan.compensate(data)).apply()
    one, other = (distance(kind.run(model, fresh[:4]), before) for model in (plain, refitted))
    assert other < 0.5 * one


def _first(kind: Kind) -> str:
    return {"numpy": "first", "onnx": "first", "torch": "0"}[kind.name]


def test_a_plan_stays_what_it_was_and_the_model_too(kind: Kind) -> None:
    model = kind.build()
    found = calibrate(model, kind.samples(32))
    arrays = {key: np.array(array) for key, array in model.arrays.items()}
    plan = plan_change(model[kind.inner], -3)
    refitted = plan.compensate(found)
    assert plan.compensation is None
    assert refitted.compensation is not None
    assert refitted.compensation.arrays
    for key, array in model.arrays.items():
        assert np.array_equal(np.asarray(array), arrays[key])
    plan.check()
    refitted.check()
    built = refitted.build()
    for key, array in refitted.compensation.arrays.items():
        assert np.array_equal(np.asarray(built[key]), array)


def test_what_was_applied_is_what_was_planned(kind: Kind) -> None:
    model = kind.build()
    plan = plan_change(model[kind.inner], -3).compensate(calibrate(model, kind.samples(32)))
    built = {key: np.array(array) for key, array in plan.build().items()}
    plan.apply()
    for key, array in model.arrays.items():
        assert np.array_equal(np.asarray(array), built[key])


def test_undo_takes_refitted_weights_back(kind: Kind) -> None:
    model = kind.build()
    model.history = 1
    arrays = {key: np.array(array) for key, array in model.arrays.items()}
    plan_change(model[kind.inner], -3).compensate(calibrate(model, kind.samples(32))).apply()
    model.undo()
    for key, array in model.arrays.items():
        assert np.array_equal(np.asarray(array), arrays[key])


def test_same_samples_same_bits(kind: Kind) -> None:
    found = []
    for _ in range(2):
        model = kind.build()
        plan = plan_change(model[kind.inner], -3).compensate(calibrate(model, kind.samples(32)))
        assert plan.compensation is not None
        found.append({key: array.tobytes() for key, array in plan.compensation.arrays.items()})
    assert found[0] == found[1]


def test_copies_and_constants_go_without_a_trace() -> None:
    net = hidden(units=6)
    weight, bias = net.arrays["hidden.weight"].copy(), net.arrays["hidden.bias"].copy()
    weight[3], bias[3] = weight[1], bias[1]
    weight[4], bias[4] = 0.0, 0.7
    net.arrays["hidden.weight"], net.arrays["hidden.bias"] = weight, bias
    x, fresh = samples(), samples(seed=5)
    before = np.asarray(net(fresh))
    utility = np.array([1.0, 1, 1, 0, 0, 1])
    plan = plan_change(net["hidden"], -2, utility={net["hidden"]: utility})
    plan.compensate(calibrate(net, x)).apply()
    assert distance(np.asarray(net(fresh)), before) < 1e-8


def test_noise_is_not_learned() -> None:
    # Few samples of many neurons: a fit without a check would be far off.
    net, x, fresh = hidden(units=60), samples(16), samples(500, seed=5)
    before = np.asarray(net(fresh))
    plan = plan_change(net["hidden"], -30)
    plain, refitted = copy.deepcopy(net), plan.compensate(calibrate(net, x))
    plan_change(plain["hidden"], -30).apply()
    refitted.apply()
    assert distance(np.asarray(net(fresh)), before) <= 1.05 * distance(np.asarray(plain(fresh)), before)


@given(seed=st.integers(0, 300), count=st.integers(8, 24))
def test_on_what_is_held_back_it_is_never_worse(seed: int, count: int) -> None:
    net, x = hidden(seed), samples(count, seed)
    found = calibrate(net, x)
    plan = plan_change(net["hidden"], -5).compensate(found)
    assert plan.compensation is not None
    assert plan.compensation.error <= plan.compensation.plain
    for refit in plan.compensation.refits.values():
        assert refit.left <= refit.error


def test_a_single_sample_leaves_everything_as_it_is() -> None:
    net = hidden()
    plan = plan_change(net["hidden"], -3).compensate(calibrate(net, samples(1)))
    assert plan.compensation is not None
    assert not plan.compensation.arrays
    assert "no batch of samples could be held back" in str(plan)


@pytest.mark.parametrize("x", [np.zeros((32, 4)), np.ones((32, 4))], ids=["zeros", "ones"])
def test_inputs_that_do_not_vary_give_something_defined(x: Any) -> None:
    net = hidden()
    before = np.asarray(net(x))
    plan_change(net["hidden"], -4).compensate(calibrate(net, x)).apply()
    assert np.allclose(np.asarray(net(x)), before, atol=1e-6)


def test_dead_neurons_are_no_hurdle() -> None:
    net = Network(seed=0)
    first = nn.dense(net.input("x", 4), 8, activation="relu", name="hidden")
    net.output(nn.dense(first, 3, name="out"))
    net.arrays["hidden.bias"] = np.where(np.arange(8) < 4, -100.0, 0.1)
    x = samples()
    before = np.asarray(net(x))
    found = calibrate(net, x)
    plan_change(net["hidden"], -3).compensate(found).apply()
    assert np.allclose(np.asarray(net(x)), before)


@pytest.mark.parametrize("share", [-0.1, 1e-9, 0.6, 2.0, True, "a", None, float("nan")])
def test_other_shares_cannot_be_held_back(share: Any) -> None:
    with pytest.raises(CalibrationError, match="a share of the batches"):
        calibrate(hidden(), samples(), held_back=share)


@given(share=st.floats(0.001, 0.5), count=st.integers(1, 500))
def test_what_is_held_back_is_the_share_that_was_asked_for(share: float, count: int) -> None:
    assert abs(sum(is_held(number, share) for number in range(count)) - share * count) <= 1


@pytest.mark.parametrize("count", [2, 3])
def test_one_of_a_few_batches_is_held_back(count: int) -> None:
    net, x = hidden(), samples(64 * count)
    found = calibrate(net, np.split(x, count), batch_size=64)
    assert found.held_back == 1 / count
    plan = plan_change(net["hidden"], -4).compensate(found)
    assert plan.compensation is not None
    assert plan.compensation.error < plan.compensation.plain


@pytest.mark.parametrize("kind", [np.complex128, str, object])
def test_samples_are_real_numbers(kind: Any) -> None:
    net = hidden()
    with pytest.raises(CalibrationError, match="input 'x' takes real numbers"):
        calibrate(net, samples().astype(kind))
    assert not net.observers


def test_weights_that_changed_since_are_not_overwritten() -> None:
    net = hidden()
    plan = plan_change(net["hidden"], -3).compensate(calibrate(net, samples()))
    net.arrays["out.weight"] = 5 * net.arrays["out.weight"]
    before = {key: np.array(array) for key, array in net.arrays.items()}
    with pytest.raises(PlanError, match="weights have changed since they were refitted; call compensate again"):
        plan.apply()
    assert all(np.array_equal(net.arrays[key], array) for key, array in before.items())
    plan.compensate(calibrate(net, samples())).apply()
    assert net["hidden"].nout == 5


def test_the_calibration_of_another_model_is_refused() -> None:
    net, other = hidden(), hidden()
    found = calibrate(other, samples())
    with pytest.raises(RequestError, match="calibration of another model"):
        plan_change(net["hidden"], -3).compensate(found)
    with pytest.raises(RequestError, match="calibration of another model"):
        shrink(net, [limits.params(net) <= 0.5 * limits.now], data=found)


def test_an_old_plan_is_refused() -> None:
    net = hidden()
    plan, found = plan_change(net["hidden"], -3), calibrate(net, samples())
    delta_nout(net["hidden"], -1)
    with pytest.raises(PlanError, match="has changed since"):
        plan.compensate(found)


def test_refitted_plans_are_not_kept_in_files(tmp_path: Any) -> None:
    net = hidden()
    plan = plan_change(net["hidden"], -3).compensate(calibrate(net, samples()))
    with pytest.raises(RequestError, match="without its refitted weights"):
        save_plan(plan, tmp_path / "plan.json")


def test_weights_that_are_shared_are_left_alone() -> None:
    net = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Tanh(), torch.nn.Linear(6, 6), torch.nn.Tanh())
    module: Any = torch.nn.Sequential(*net, net[2], torch.nn.Linear(6, 2))
    model = trace(module, torch.zeros(4, 4))
    plan = plan_change(model["0"], -2).compensate(calibrate(model, torch.randn(64, 4)))
    assert plan.compensation is not None
    assert not any(key.startswith("2.") for key in plan.compensation.arrays)


def test_growth_is_left_alone() -> None:
    net, x = hidden(), samples()
    before = np.asarray(net(x))
    plan_change(net["hidden"], 3).compensate(calibrate(net, x)).apply()
    assert np.allclose(np.asarray(net(x)), before)


def test_concatenated_added_and_normalised_layers_are_refitted() -> None:
    net = Network(seed=1)
    x = net.input("x", 4)
    left, right = nn.dense(x, 12, activation="tanh", name="left"), nn.dense(x, 6, activation="tanh", name="right")
    joined = nn.concat([left, right], name="joined")
    both = nn.add([nn.dense(joined, 12, name="one"), left], name="both")
    net.output(nn.dense(nn.layer_norm(both, name="norm"), 3, name="out"))
    data, fresh = samples(200), samples(100, seed=9)
    before, plain = np.asarray(net(fresh)), copy.deepcopy(net)
    half = [limits.params(net) <= 0.6 * limits.now]
    shrink(net, half, data=data)
    shrink(plain, [limits.params(plain) <= 0.6 * limits.now], data=data, compensate=False)
    one, other = (distance(np.asarray(model(fresh)), before) for model in (plain, net))
    assert other < 0.5 * one


def test_a_module_is_refitted_in_place_with_its_optimizer() -> None:
    kind = KINDS[2]
    model: Any = kind.build()
    module = model.module
    optimizer = torch.optim.Adam(module.parameters())
    module(torch.from_numpy(kind.samples(4))).sum().backward()
    optimizer.step()
    plan = plan_change(model["2"], -3).compensate(calibrate(model, kind.samples(32)))
    assert plan.compensation is not None
    plan.apply(optimizer)
    assert np.array_equal(module[5].weight.detach().numpy(), plan.compensation.arrays["5.weight"])
    assert optimizer.state[module[5].weight]["exp_avg"].shape == module[5].weight.shape
    assert module[5].weight.requires_grad


def test_one_call_does_it_all(kind: Kind) -> None:
    plain, refitted = kind.build(), kind.build()
    x = kind.samples(64)
    before = kind.run(plain, kind.samples(4, seed=1))
    shrink(plain, [limits.params(plain) <= 0.5 * limits.now])
    change = shrink(refitted, [limits.params(refitted) <= 0.5 * limits.now], data=x)
    one, other = (distance(kind.run(model, kind.samples(4, seed=1)), before) for model in (plain, refitted))
    assert other < one
    assert "layers refitted; error of the outputs on samples held back" in str(change)
    assert limits.params(refitted).value <= 0.5 * limits.params(kind.build()).value
