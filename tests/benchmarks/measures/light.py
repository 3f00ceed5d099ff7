"""Four well-known architectures without their weights, which seeded random ones replace.

In the files every weight is 0.02, so that all results are equal whatever is removed. Only exactness can be measured,
and on logits: the softmax at the end hides errors.
"""

from __future__ import annotations

from functools import cache, partial
from math import prod
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import helper, numpy_helper

from tests.benchmarks.measures.real import Real, runner
from tests.benchmarks.measures.wheels import Wheel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from onnx import ModelProto, NodeProto

    from tests.benchmarks.measures.real import Array, Run

ONNX = Wheel("onnx", "", "onnx")
_FOLDER = "backend/test/data/light"
_ARCHITECTURES = {
    "inception_v1": "data_0", "squeezenet": "data_0", "resnet50": "gpu_0/data_0", "bvlc_alexnet": "data_0",
}  # fmt: skip
_PICTURE = (3, 224, 224)
_COARSE = 14  # rows and columns of a picture that differ: convolutions see edges and plains, as in photographs
_PICTURES, _SAMPLES = 4, 8  # that are measured, that are for calibration
_BETWEEN = (0.5, 1.5)  # scales and variances of batch normalisations


def models() -> tuple[Real, ...]:
    """Inception, SqueezeNet, ResNet-50, AlexNet."""
    return tuple(
        Real(
            name=f"light {architecture}",
            wheel=ONNX,
            file=f"{_FOLDER}/light_{architecture}.onnx",
            input_shapes={name: (1, *_PICTURE)},
            samples=partial(_samples, name),
            score=partial(_closeness, architecture, name),
            measure="- relative distance to the original's logits",
            expected=0.0,
            rows=1,
            prepared=with_random_weights,
        )
        for architecture, name in _ARCHITECTURES.items()
    )


def with_random_weights(model: ModelProto, seed: int = 0) -> ModelProto:
    """A copy with weights after He, biases around zero, normalisations around one, and no softmax at the end."""
    rng = np.random.default_rng(seed)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    weights = {name: _drawn(rng, role, shape) for name, role, shape in _parameters(model)}
    nodes = [node for node in graph.node if not set(node.output) & set(weights)]
    softmax = nodes.pop()
    assert softmax.op_type == "Softmax"
    graph.output[0].name = softmax.input[0]
    tensors = [tensor for tensor in graph.initializer if tensor.name not in weights]
    tensors += [numpy_helper.from_array(value, name) for name, value in weights.items()]
    known = {value.name for value in graph.input}
    # Files of this age list their initializers as inputs as well.
    graph.input.extend(
        helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        for tensor in tensors if tensor.name not in known
    )  # fmt: skip
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(tensors)
    return copy


def _parameters(model: ModelProto) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """Name, role and shape of every parameter: a role is the kind of node that reads it and the place there."""
    makers = {node.output[0]: node for node in model.graph.node}
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type not in {"Conv", "Gemm", "BatchNormalization"}:
            continue
        for place, name in enumerate(node.input[1:], start=1):
            source = _before_reshape(name, makers)
            shape = tensors[makers[source].input[0]] if source in makers else tensors[source]
            sizes = numpy_helper.to_array(shape).tolist() if source in makers else shape.dims
            yield source, f"{node.op_type} {place}", tuple(sizes)


def _before_reshape(name: str, makers: dict[str, NodeProto]) -> str:
    while name in makers and makers[name].op_type == "Reshape":
        name = makers[name].input[0]
    return name


def _drawn(rng: np.random.Generator, role: str, shape: tuple[int, ...]) -> Array:
    if role in {"Conv 1", "Gemm 1"}:
        # Linear layers of these files are stored as (outputs, inputs), some with two dimensions of one before.
        read = prod(shape[1:]) if role == "Conv 1" else shape[-1]
        return rng.standard_normal(shape, dtype=np.float32) * np.float32(np.sqrt(2 / read))
    if role in {"BatchNormalization 1", "BatchNormalization 4"}:
        return rng.uniform(*_BETWEEN, shape).astype(np.float32)
    return rng.normal(0, 0.1, shape).astype(np.float32)


def _closeness(architecture: str, name: str, run: Run) -> float:
    """How far logits are from the original's, in parts of what these are on average."""
    logits, wanted = _logits(run, name), _original(architecture, name)
    return 0.0 - float(np.abs(logits - wanted).mean() / np.abs(wanted).mean())


@cache
def _original(architecture: str, name: str) -> Array:
    model = onnx.load(ONNX.file(f"{_FOLDER}/light_{architecture}.onnx"))
    return _logits(runner(with_random_weights(model)), name)


def _logits(run: Run, name: str) -> Array:
    return np.concatenate([logits for one in _pictures(_PICTURES, 0) for logits in run({name: one[None]}).values()])


def _samples(name: str) -> dict[str, Array]:
    return {name: _pictures(_SAMPLES, 1)}


def _pictures(count: int, seed: int) -> Array:
    """Random squares, and noise on them."""
    rng = np.random.default_rng(seed)
    channels, height, width = _PICTURE
    squares = rng.normal(size=(count, channels, _COARSE, _COARSE))
    large = np.kron(squares, np.ones((height // _COARSE, width // _COARSE)))
    return (large + rng.normal(0, 0.2, large.shape)).astype(np.float32)
