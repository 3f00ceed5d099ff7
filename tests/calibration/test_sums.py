"""Residual sums and normalisations in a refit: what one branch lost, the other makes good."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from solver_nas import Network, calibrate, nn, onnx, plan_change
from solver_nas.linear import Norm
from solver_nas.torch import trace

if TYPE_CHECKING:
    from solver_nas.editable import Editable
    from solver_nas.linear import Array

RNG = np.random.default_rng(4)
ROWS = 512


def arrays() -> dict[str, Array]:
    """Parameters of all layers; seeded."""
    rng = np.random.default_rng(1)
    shapes = {"stem": (10, 4), "stream": (5, 10), "hidden": (12, 10), "branch": (5, 12), "head": (3, 5)}
    made = {f"{name}.weight": rng.normal(0.0, 0.7, shape) for name, shape in shapes.items()}
    made |= {f"{name}.bias": rng.normal(size=shape[0]) for name, shape in shapes.items() if name != "branch"}
    made |= {"norm.mean": rng.normal(size=5), "norm.var": rng.uniform(0.5, 2.0, 5)}
    made |= {"norm.scale": rng.normal(size=5), "norm.shift": rng.normal(size=5)}
    return {name: array.astype(np.float32) for name, array in made.items()}


def of_numpy() -> Editable:
    net = Network(dtype=np.float32)
    stem = nn.dense(net.input("x", 4), 10, activation="relu", name="stem")
    stream = nn.dense(stem, 5, name="stream")
    hidden = nn.dense(stem, 12, activation="relu", name="hidden")
    branch = nn.batch_norm(nn.dense(hidden, 5, bias=False, name="branch"), name="norm")
    net.output(nn.dense(nn.add([stream, branch], name="sum"), 3, name="head"))
    net.arrays.update(arrays())
    return net


def of_onnx() -> Editable:
    made = arrays()

    def gemm(x: str, name: str) -> Any:
        given = [x, f"{name}.weight", *([f"{name}.bias"] if f"{name}.bias" in made else [])]
        return helper.make_node("Gemm", given, [f"{name}.out"], name=name, transB=1)

    norm = [f"norm.{role}" for role in ("scale", "shift", "mean", "var")]
    nodes = [
        gemm("x", "stem"),
        helper.make_node("Relu", ["stem.out"], ["s"], name="relu"),
        gemm("s", "stream"),
        gemm("s", "hidden"),
        helper.make_node("Relu", ["hidden.out"], ["h"], name="relu2"),
        gemm("h", "branch"),
        helper.make_node("BatchNormalization", ["branch.out", *norm], ["n"], name="norm"),
        helper.make_node("Add", ["stream.out", "n"], ["t"], name="sum"),
        gemm("t", "head"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("head.out", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(array, name) for name, array in made.items()],
    )
    return onnx.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9))


class Residual(torch.nn.Module):
    """The same in PyTorch."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.stream = torch.nn.Linear(4, 10), torch.nn.Linear(10, 5)
        self.hidden, self.branch = torch.nn.Linear(10, 12), torch.nn.Linear(12, 5, bias=False)
        self.norm, self.head = torch.nn.BatchNorm1d(5), torch.nn.Linear(5, 3)

    def forward(self, x: Any) -> Any:
        x = torch.relu(self.stem(x))
        total = self.stream(x)
        total += self.norm(self.branch(torch.relu(self.hidden(x))))
        return self.head(total)


def of_torch() -> Editable:
    names = {"norm.mean": "norm.running_mean", "norm.var": "norm.running_var"}
    names |= {"norm.scale": "norm.weight", "norm.shift": "norm.bias"}
    module = Residual().eval()
    state = {names.get(name, name): torch.from_numpy(array) for name, array in arrays().items()}
    module.load_state_dict(state, strict=False)
    return trace(module, torch.zeros(ROWS, 4))


KINDS = (of_numpy, of_onnx, of_torch)


def output(model: Any, name: str, x: Array) -> Any:
    """What the vertex whose name begins so computes."""
    (found,) = (vertex for vertex in model.graph.order if vertex.split(".")[0] == name)
    (batch,) = model.batches([x], len(x))
    return np.array(model.course().start(batch).value(found))


@pytest.mark.parametrize("build", KINDS)
def test_a_branch_is_fitted_to_what_is_missing_in_the_sum(build: Any) -> None:
    model = build()
    x = RNG.normal(size=(ROWS, 4)).astype(np.float32)
    total = output(model, "stream", x) + output(model, "norm", x)
    calibration = calibrate(model, x, held_back=0, progress=False)
    plan = plan_change(model["stem"], -6, utility=lambda _: 1.0).compensate(calibration, progress=False)
    plan.apply()
    stream, branch = output(model, "stream", x), output(model, "norm", x)
    hidden = np.maximum(output(model, "hidden", x), 0)
    design = np.hstack([hidden, np.ones((len(x), 1))])

    def fitted(wanted: Array) -> float:
        """What is missing at best, with all rows at once."""
        best, *_ = np.linalg.lstsq(design, wanted.astype(np.float64), rcond=None)
        return float(((design @ best - wanted) ** 2).sum())

    missing = float(((stream + branch - total) ** 2).sum())
    assert missing == pytest.approx(fitted(total - stream), rel=0.01)


def test_means_and_variances_follow_what_is_read_then() -> None:
    net = Network()
    x = net.input("x", 4)
    first = nn.dense(x, 9, activation="relu", name="first")
    pooled = nn.dense(first, 6, activation="relu", name="second")
    net.output(nn.dense(nn.batch_norm(pooled, name="norm"), 3, name="head"))
    net.arrays["norm.mean"], net.arrays["norm.var"] = RNG.normal(size=6), RNG.uniform(0.5, 2.0, 6)
    data = RNG.normal(size=(400, 4))
    before = net.activations(data)["second"]
    calibration = calibrate(net, data, held_back=0, progress=False)
    plan = plan_change(net["first"], -5, utility=lambda _: 1.0)
    made = plan.compensate(calibration, progress=False).compensation
    assert made is not None
    old = {key: np.asarray(net.arrays[key]) for key in ("norm.mean", "norm.var")}
    plan.compensate(calibration, progress=False).apply()
    after = net.activations(data)["second"]
    for neuron in range(6):
        slope, shift = np.polyfit(after[:, neuron], before[:, neuron], 1)
        if slope > 0:
            assert net.arrays["norm.mean"][neuron] == pytest.approx((old["norm.mean"][neuron] - shift) / slope)
            assert net.arrays["norm.var"][neuron] == pytest.approx((old["norm.var"][neuron] + 1e-5) / slope**2 - 1e-5)


@pytest.mark.parametrize("build", KINDS)
def test_norms_are_found(build: Any) -> None:
    model = build()
    places = [model.fittable(vertex) for vertex in model.graph.vertices]
    (norm,) = (place for place in places if isinstance(place, Norm))
    assert np.array_equal(model.arrays[norm.mean], arrays()["norm.mean"])
    assert np.array_equal(model.arrays[norm.variance], arrays()["norm.var"])


def test_what_is_left_alone_says_why() -> None:
    net = Network(seed=1)
    x = net.input("x", 4)
    first = nn.dense(x, 6, activation="relu", name="first")
    net.output(nn.dense(first, 6, name="one"))
    calibration = calibrate(net, RNG.normal(size=(1, 4)), progress=False)
    plan = plan_change(net["first"], -2).compensate(calibration, progress=False)
    assert plan.compensation is not None
    assert plan.compensation.refits["one"].how == "left as it is: there are too few samples"


def test_a_copy_is_not_touched() -> None:
    net = of_numpy()
    twin = copy.deepcopy(net)
    data = RNG.normal(size=(64, 4)).astype(np.float32)
    plan_change(net["stem"], -5).compensate(calibrate(net, data, progress=False), progress=False).apply()
    assert all(np.array_equal(twin.arrays[key], array) for key, array in arrays().items())
