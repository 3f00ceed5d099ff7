"""Batches go through models step by step, and what comes out is what the model computes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from solver_nas import Network, nn, onnx
from solver_nas.editable import Editable
from solver_nas.errors import CalibrationError
from solver_nas.torch import trace
from tests.calibration.kinds import KINDS, Kind


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def kind(request: Any) -> Kind:
    found: Kind = request.param
    return found


def test_the_end_is_what_the_model_returns(kind: Kind) -> None:
    model = kind.build()
    (batch,) = model.batches([kind.samples(4)], 4)
    (found,) = model.course().start(batch).finish().values()
    assert np.allclose(found, kind.run(model, kind.samples(4)), atol=1e-6)


def test_stopping_at_every_vertex_makes_no_difference(kind: Kind) -> None:
    model = kind.build()
    (batch,) = model.batches([kind.samples(4)], 4)
    passage = model.course().start(batch)
    for name in model.graph.order:
        if model.graph.vertex(name).inputs and name not in kind.outputs:
            passage.reach(name)
            passage.value(name)
    (found,) = passage.finish().values()
    assert np.allclose(found, kind.run(model, kind.samples(4)), atol=1e-6)


def test_a_fork_goes_its_own_way(kind: Kind) -> None:
    model = kind.build()
    (batch,) = model.batches([kind.samples(4)], 4)
    passage = model.course().start(batch)
    value = np.array(passage.value(kind.inner))
    fork = passage.fork()
    fork.put(kind.inner, np.zeros_like(value))
    (silent,), (found,) = fork.finish().values(), passage.finish().values()
    assert np.allclose(found, kind.run(model, kind.samples(4)), atol=1e-6)
    assert not np.allclose(silent, found, atol=1e-3)


def test_what_is_put_in_place_is_what_comes_later_reads(kind: Kind) -> None:
    model = kind.build()
    first, other = model.batches([kind.samples(4), kind.samples(4, seed=1)], 4)
    course = model.course()
    passage, twin = course.start(first), course.start(other)
    twin.value(kind.inner)
    # From here on, the second batch is what the first one is.
    twin.put(kind.inner, np.array(passage.value(kind.inner)))
    (found,), (wanted,) = twin.finish().values(), passage.finish().values()
    assert np.array_equal(found, wanted)


def test_exchanged_parameters_count_from_then_on(kind: Kind) -> None:
    model = kind.build()
    (batch,) = model.batches([kind.samples(4)], 4)
    course = model.course()
    running = course.start(batch)
    running.reach(kind.inner)
    before = dict(model.arrays)
    key = model.graph.vertex(kind.inner).parameters[kind.role].key
    course.exchange(key, 2 * np.asarray(before[key]))
    late, fresh = running.finish(), course.start(batch).finish()
    untouched = model.course().start(batch).finish()
    for name in late:
        assert np.array_equal(late[name], fresh[name])
        assert not np.allclose(late[name], untouched[name], atol=1e-3)
    assert np.array_equal(np.asarray(model.arrays[key]), np.asarray(before[key]))


def test_passages_only_go_forward(kind: Kind) -> None:
    model = kind.build()
    (batch,) = model.batches([kind.samples(4)], 4)
    passage = model.course().start(batch)
    passage.finish()
    with pytest.raises(CalibrationError, match="only goes forward"):
        passage.reach(kind.inner)


def test_batches_are_parted_and_joined(kind: Kind) -> None:
    model = kind.build()
    x = kind.samples(10)
    parts = list(model.batches([x[:3], x[3:]], 4))
    sizes = [batch.rows for batch in parts]
    assert sizes == ([4, 4] if kind.fixed else [4, 4, 2])
    (name,) = parts[0].inputs
    assert np.array_equal(np.concatenate([np.asarray(part.inputs[name]) for part in parts]), x[: sum(sizes)])


@pytest.mark.parametrize("given", [np.zeros((4, 3), np.float32), {"nothing": np.zeros(1)}, (1, 2, 3)])
def test_what_a_model_does_not_take_is_refused(kind: Kind, given: object) -> None:
    with pytest.raises(CalibrationError):
        list(kind.build().batches([given], 4))


def test_memory_counts_what_is_to_be_read() -> None:
    net = Network()
    net.output(nn.dense(nn.dense(net.input("in", 4), 8, name="a"), 2, name="b"))
    (batch,) = net.batches([np.ones((5, 4))], 5)
    passage = net.course().start(batch)
    passage.reach("b")
    assert passage.nbytes == 5 * 8 * 8


def _looping() -> Editable:
    """A model with a dense layer inside of a branch."""
    weight = numpy_helper.from_array(np.ones((3, 3), np.float32), "w")
    inside = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="inner")],
        "then",
        [],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 3])],
    )
    other = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["z"])],
        "else",
        [],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, [None, 3])],
    )
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["s"], keepdims=0),
        helper.make_node("Greater", ["s", "zero"], ["c"]),
        helper.make_node("If", ["c"], ["out"], then_branch=inside, else_branch=other),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 3])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [None, 3])],
        [weight, numpy_helper.from_array(np.zeros((), np.float32), "zero")],
    )
    return onnx.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9))


def test_what_is_inside_of_a_branch_cannot_be_looked_at_and_the_rest_can() -> None:
    model = _looping()
    (batch,) = model.batches([np.ones((2, 3), np.float32)], 2)
    passage = model.course().start(batch)
    name = next(vertex.name for vertex in model.graph.vertices if vertex.kind == "onnx.MatMul")
    with pytest.raises(CalibrationError, match="inside the body of a loop or branch"):
        passage.reach(name)
    (found,) = passage.finish().values()
    assert np.array_equal(found, np.full((2, 3), 3))


def test_operations_in_place_do_not_reach_another_passage() -> None:
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(inplace=True), torch.nn.Linear(4, 2))
    model = trace(net, torch.ones(2, 3))
    (batch,) = model.batches([torch.randn(2, 3)], None)
    passage = model.course().start(batch)
    before = np.array(passage.value("0"))
    fork = passage.fork()
    fork.finish()
    assert np.array_equal(passage.value("0"), before)
