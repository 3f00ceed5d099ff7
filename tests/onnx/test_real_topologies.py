"""Well-known architectures that the package onnx brings along, with random weights.

Pretrained models are the business of `python -m tests.benchmarks.onnx_models`.
"""

from __future__ import annotations

import numpy as np
import pytest

from solver_nas import shrink
from solver_nas.inspection import inspect
from solver_nas.limits import macs, multiple_of, now
from solver_nas.onnx import OnnxModel, load
from tests.benchmarks.measures import Real
from tests.benchmarks.measures.light import models

REALS = {real.name: real for real in models()}
NAMES = pytest.mark.parametrize("name", ["light squeezenet", "light inception_v1"])


def _opened(real: Real) -> OnnxModel:
    return load(real.proto(), real.input_shapes)


def _picture() -> dict[str, np.ndarray]:
    return {"data_0": np.random.default_rng(0).normal(size=(1, 3, 224, 224)).astype(np.float32)}


@NAMES
def test_all_of_it_can_change_but_its_interface(name: str) -> None:
    found = inspect(_opened(REALS[name]))
    assert set(found.pinned.values()) == {("what the model returns stays as it is",)}
    assert found.free_parameters > 0.9 * found.parameters
    fixed = [part for part in found.parts if part.makes and not part.free]
    # What makes the classes.
    assert {part.neurons for part in fixed} == {1000}


@NAMES
@pytest.mark.parametrize("multiple", [1, 8])
def test_half_of_the_multiplications(name: str, multiple: int) -> None:
    model = _opened(REALS[name])
    before = macs(model).value
    sizes = {handle.name: handle.nout for handle in model}
    change = shrink(model, [macs(model) <= 0.5 * now, multiple_of(multiple)])
    assert macs(model).value <= 0.5 * before
    assert change.certificate is not None
    assert change.certificate.gap <= 1e-3
    changed = [handle for handle in model if handle.nout != sizes[handle.name]]
    assert changed
    assert all(handle.nout % multiple == 0 for handle in changed)
    # It was compared when it was applied; here, that it was saved as it was compared.
    again = load(model.proto)
    (one,), (other,) = model(_picture()).values(), again(_picture()).values()
    assert np.array_equal(one, other)


def test_shared_inputs_of_old_formats_follow() -> None:
    # In the third version of the format, initializers are inputs as well.
    model = _opened(REALS["light squeezenet"])
    shrink(model, [macs(model) <= 0.7 * now])
    proto = model.proto
    assert proto.ir_version == 3
    declared = {value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in proto.graph.input}
    for tensor in proto.graph.initializer:
        assert declared[tensor.name] == list(tensor.dims)
