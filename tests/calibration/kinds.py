"""One small convolutional network in every form that the library reads."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from solver_nas import Network, nn, onnx
from solver_nas.editable import Editable
from solver_nas.torch import trace

Array = NDArray[Any]


class Kind(NamedTuple):
    """A form of the network: image (3, 6, 6) -> conv 8 -> relu -> conv 8 -> relu -> flat -> dense 5.

    Args:
        name: of the form.
        inner: the second convolution.
        role: of its weight.
        outputs: vertices that only stand for what is returned.
        fixed: whether it takes four samples at a time and no other number.
    """

    name: str
    inner: str
    role: str
    outputs: tuple[str, ...]
    fixed: bool

    def build(self) -> Editable:
        """The network, with weights of its own but the same ones every time."""
        made: Editable = {"numpy": numpy_net, "onnx": onnx_net, "torch": torch_net}[self.name]()
        return made

    def samples(self, count: int, seed: int = 0) -> Array:
        """Images in which channels hang together, so that neurons do, too."""
        rng = np.random.default_rng([seed, 7])
        mixed = rng.normal(size=(count, 2, 6, 6))
        x = np.stack([mixed[:, 0], mixed[:, 1], mixed[:, 0] - mixed[:, 1]], axis=1) + 0.3
        return x.astype(np.float32)

    def run(self, model: Any, x: Array) -> Array:
        """What the model returns, by itself."""
        if self.name == "torch":
            with torch.no_grad():
                found: Array = model.module(torch.from_numpy(x)).numpy()
            return found
        if self.name == "onnx":
            (value,) = model(x=x).values()
            return np.asarray(value)
        return np.asarray(model(x))


KINDS = (
    Kind("numpy", "second", "weight", (), fixed=False),
    Kind("onnx", "second", "W", ("out",), fixed=False),
    Kind("torch", "2", "weight", ("output",), fixed=True),
)


def weights() -> dict[str, Array]:
    """Of all three layers."""
    rng = np.random.default_rng(0)
    shapes = {"w1": (8, 3, 3, 3), "b1": (8,), "w2": (8, 8, 3, 3), "b2": (8,), "w3": (5, 8 * 16), "b3": (5,)}
    return {name: rng.normal(0.0, 0.25, shape).astype(np.float32) for name, shape in shapes.items()}


def numpy_net() -> Network:
    """Of NumPy layers."""
    made = weights()
    net = Network(dtype=np.float32)
    first = nn.conv(net.input("x", (3, 6, 6)), 8, 3, padding=1, activation="relu", name="first")
    second = nn.conv(first, 8, 3, activation="relu", name="second")
    net.output(nn.dense(nn.flatten(second, name="flat"), 5, name="last"))
    for name, number in (("first", 1), ("second", 2), ("last", 3)):
        net.arrays[f"{name}.weight"], net.arrays[f"{name}.bias"] = made[f"w{number}"], made[f"b{number}"]
    return net


def onnx_net() -> onnx.OnnxModel:
    """As an ONNX model."""
    made = weights()
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], name="first", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], name="relu1"),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], name="second"),
        helper.make_node("Relu", ["c2"], ["r2"], name="relu2"),
        helper.make_node("Flatten", ["r2"], ["f"], name="flat"),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["out"], name="last", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 6, 6])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", 5])],
        [numpy_helper.from_array(array, name) for name, array in made.items()],
    )
    return onnx.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9))


def torch_net() -> Any:
    """As a module of PyTorch."""
    made = {name: torch.from_numpy(array) for name, array in weights().items()}
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, padding=1),
        torch.nn.ReLU(inplace=True),
        torch.nn.Conv2d(8, 8, 3),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(128, 5),
    ).eval()
    for name, number in (("0", 1), ("2", 2), ("5", 3)):
        layer = net.get_submodule(name)
        layer.load_state_dict({"weight": made[f"w{number}"], "bias": made[f"b{number}"]})
    return trace(net, torch.zeros(4, 3, 6, 6))
