"""Utilities, against their formulas written out."""

from __future__ import annotations

from typing import Any

import autograd.numpy as anp
import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from solver_nas import Network, calibrate, delta_nout, nn, normalised, onnx, shrink, utilities
from solver_nas.errors import CalibrationError, RequestError, UtilityError
from solver_nas.limits import now, params
from tests.calibration.kinds import KINDS, Kind
from tests.onnx.models import Builder

WITHOUT_GRADIENTS = (
    utilities.activation_deviation,
    utilities.activation_mean,
    utilities.activation_times_outgoing,
    utilities.contribution,
    utilities.default_utility,
    utilities.deviation_times_outgoing,
    utilities.l1,
    utilities.magnitude,
    utilities.random(3),
    utilities.reconstruction,
    utilities.ensemble(utilities.l1, utilities.reconstruction),
    normalised(utilities.activation_mean, "rank"),
)


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def kind(request: Any) -> Kind:
    found: Kind = request.param
    return found


def mean_square(found: Any, target: Any) -> Any:
    """A loss for all front ends."""
    return ((found - target) ** 2).mean()


def small() -> tuple[Network, Any]:
    """4 -> 6 -> 3, and samples."""
    net = Network(seed=0)
    hidden = nn.dense(net.input("x", 4), 6, activation="tanh", name="hidden")
    net.output(nn.dense(hidden, 3, name="out"))
    return net, np.random.default_rng(0).normal(size=(20, 4))


@pytest.mark.parametrize("utility", WITHOUT_GRADIENTS, ids=lambda utility: utility.__qualname__)
def test_every_utility_can_be_given_to_a_verb(kind: Kind, utility: Any) -> None:
    model = kind.build()
    calibrate(model, kind.samples(16))
    before = params(model).value
    shrink(model, [params(model) <= 0.6 * now], utility=utility)
    assert params(model).value <= 0.6 * before


def test_every_form_of_a_network_has_the_same_utilities(kind: Kind) -> None:
    found = []
    for one in (KINDS[0], kind):
        model = one.build()
        calibrate(model, one.samples(16), held_back=0)
        vectors = [np.asarray(utility(model[one.inner])) for utility in WITHOUT_GRADIENTS[:8]]
        found.append(np.stack(vectors))
    assert np.allclose(found[0], found[1], rtol=1e-3)


def test_moments_where_neurons_are_read() -> None:
    net, x = small()
    calibrate(net, x, held_back=0)
    a = np.asarray(net.activations(x)["hidden"])
    assert np.allclose(np.asarray(utilities.activation_mean(net["hidden"])), np.abs(a.mean(axis=0)))
    assert np.allclose(np.asarray(utilities.activation_deviation(net["hidden"])), a.std(axis=0))
    outgoing = np.linalg.norm(net.arrays["out.weight"], axis=0)
    assert np.allclose(np.asarray(utilities.deviation_times_outgoing(net["hidden"])), a.std(axis=0) * outgoing)
    incoming = np.abs(net.arrays["hidden.weight"]).sum(axis=1) + np.abs(net.arrays["hidden.bias"])
    assert np.allclose(np.asarray(utilities.l1(net["hidden"])), incoming)


def test_gradients_of_networks_of_numpy() -> None:
    net, x = small()
    y = np.zeros((20, 3))
    calibrate(net, [(x[:7], y[:7]), (x[7:], y[7:])], loss=lambda found, target: anp.mean((found - target) ** 2))
    a, found = np.asarray(net.activations(x)["hidden"]), np.asarray(net(x))
    gradient = 2 * found @ net.arrays["out.weight"] / 3  # of each sample's own mean square
    assert np.allclose(np.asarray(utilities.taylor(net["hidden"])), np.abs(a * gradient).mean(axis=0))
    assert np.allclose(np.asarray(utilities.fisher(net["hidden"])), ((a * gradient) ** 2).mean(axis=0) / 2)


def test_gradients_of_modules_are_those_of_networks_of_numpy() -> None:
    found = []
    for kind in (KINDS[0], KINDS[2]):
        model, x = kind.build(), kind.samples(16)
        y: Any = np.zeros((16, 5), np.float32)
        calibrate(
            model, (torch.from_numpy(x), torch.from_numpy(y)) if kind.name == "torch" else (x, y), loss=mean_square
        )
        # In a network of NumPy layers, the activation is part of the layer; a silent one has no gradient.
        found.append([np.asarray(utility(model[kind.inner])) for utility in (utilities.taylor, utilities.fisher)])
    assert np.allclose(found[0], found[1], rtol=1e-3)


def test_onnx_models_have_no_gradients() -> None:
    model = KINDS[1].build()
    with pytest.raises(CalibrationError, match="ONNX models have no gradients"):
        calibrate(model, KINDS[1].samples(8), loss=mean_square)
    assert not model.observers


@pytest.mark.parametrize("loss", [lambda found, _: found, lambda _, __: 3.0], ids=["several", "a constant"])
def test_a_loss_is_one_number_that_depends_on_the_outputs(loss: Any) -> None:
    model = KINDS[2].build()
    with pytest.raises(CalibrationError, match="the loss is one number"):
        calibrate(model, KINDS[2].samples(8), loss=loss)
    assert not model.observers


def test_gradients_follow_their_neurons() -> None:
    net, x = small()
    calibrate(net, (x, np.zeros((20, 3))), loss=lambda found, target: anp.mean((found - target) ** 2))
    before = np.asarray(utilities.taylor(net["hidden"]))
    change = delta_nout(net["hidden"], -2, utility=utilities.taylor)
    assert change.plan is not None
    assert np.array_equal(np.asarray(utilities.taylor(net["hidden"])), before[change.plan.indices["hidden"]])
    assert np.array_equal(change.plan.indices["hidden"], np.sort(np.argsort(before, kind="stable")[2:]))


@pytest.mark.parametrize("utility", [utilities.taylor, utilities.fisher])
def test_what_was_not_recorded_is_asked_for(utility: Any) -> None:
    net, x = small()
    calibrate(net, x, held_back=0)
    with pytest.raises(UtilityError, match=r"call calibrate\(model, batches, loss=...\) first"):
        utility(net["hidden"])


def test_random_ones_are_the_same_for_the_same_seed_and_differ_between_vertices() -> None:
    net = Network()
    one = nn.dense(net.input("x", 2), 5, name="one")
    other = nn.dense(one, 5, name="other")
    first = np.asarray(utilities.random(1)(one))
    assert np.array_equal(first, np.asarray(utilities.random(1)(one)))
    assert not np.array_equal(first, np.asarray(utilities.random(2)(one)))
    assert not np.array_equal(first, np.asarray(utilities.random(1)(other)))


def test_ensembles_are_weighted_sums() -> None:
    net, x = small()
    calibrate(net, x, held_back=0)
    both = utilities.ensemble(utilities.l1, utilities.activation_mean, weights=[2, 1], normalise="sum")
    one, other = (np.asarray(utility(net["hidden"])) for utility in (utilities.l1, utilities.activation_mean))
    assert np.allclose(np.asarray(both(net["hidden"])), 2 * one / one.sum() + other / other.sum())


@pytest.mark.parametrize("wrong", [{}, {"weights": [1.0]}, {"weights": [1.0, np.nan]}])
def test_wrong_ensembles_are_refused(wrong: dict[str, Any]) -> None:
    some = () if not wrong else (utilities.l1, utilities.magnitude)
    with pytest.raises(RequestError, match="an ensemble has"):
        utilities.ensemble(*some, **wrong)


def hidden_reader() -> Any:
    """An ONNX model whose first layer is read by weights inside the branches of an If, and nothing else."""
    made = Builder()
    x, flag = made.input("x", "n", 6), made.input("flag", dtype=TensorProto.BOOL)
    y = made.node("Relu", made.linear(x, 6, 8, "first"))
    rng = np.random.default_rng(3)
    branches = []
    for name in ("then", "else"):
        weight = numpy_helper.from_array(rng.normal(size=(8, 4)).astype(np.float32), f"{name}.weight")
        nodes = [
            helper.make_node("Tanh", [y], [f"{name}.tanh"], name=f"{name}.tanh"),
            helper.make_node("MatMul", [f"{name}.tanh", f"{name}.weight"], [f"{name}.out"], name=name),
        ]
        output = helper.make_tensor_value_info(f"{name}.out", TensorProto.FLOAT, ["n", 4])
        branches.append(helper.make_graph(nodes, name, [], [output], [weight]))
    y = made.node("If", flag, then_branch=branches[0], else_branch=branches[1])
    made.output(made.linear(made.node("Relu", y), 4, 3, "head"), ["n", 3])
    return onnx.load(made.model())


@pytest.mark.parametrize(
    "utility", [utilities.contribution, utilities.reconstruction, utilities.activation_times_outgoing]
)
def test_neurons_read_inside_branches_count_where_they_are_made(utility: Any) -> None:
    model = hidden_reader()
    x = np.random.default_rng(0).normal(size=(64, 6)).astype(np.float32)
    data = [{"x": x[at : at + 8], "flag": np.array(at % 16 == 0)} for at in range(0, 64, 8)]
    calibration = calibrate(model, data, held_back=0, progress=False)
    assert any(name.startswith("then.tanh") for name in calibration.unseen)
    maker = next(vertex for vertex in model if vertex.name.startswith("first") and vertex.nout == 8)
    worth = np.asarray(utility(maker))
    assert worth.shape == (8,)
    assert np.isfinite(worth).all()
    assert (worth > 0).any()
    change = shrink(model, [params(model) <= 0.8 * now], data=calibration, progress=False)
    assert change
