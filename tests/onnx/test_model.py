"""Whole ways: models are opened, changed, edited, saved and opened again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from solver_nas import (
    create_edge,
    delta_nout,
    explain,
    insert,
    plan_change,
    remove,
    remove_edge,
    replace,
    shrink,
)
from solver_nas.edit_plan import EditPlan
from solver_nas.errors import (
    CalibrationError,
    GraphError,
    ImpossibleError,
    PlanError,
    RequestError,
    StoreError,
    VerificationError,
)
from solver_nas.limits import macs, multiple_of, now, params
from solver_nas.onnx import OnnxModel, calibrate, load
from tests.benchmarks.onnx_fuzz import small_model


@pytest.fixture
def model() -> OnnxModel:
    return load(small_model(), {"x": (2, 3, 10)})


def _inputs(flag: bool = True) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(1).normal(size=(2, 3, 10)).astype(np.float32), "flag": np.array(flag)}


def test_unchanged_it_is_the_same_file(model: OnnxModel, tmp_path: Path) -> None:
    model.save(tmp_path / "same.onnx")
    assert (tmp_path / "same.onnx").read_bytes() == small_model().SerializeToString()
    assert load(tmp_path / "same.onnx").proto == small_model()


@pytest.mark.parametrize("flag", [True, False])
def test_what_shrinks_equals_the_original_without_what_goes(model: OnnxModel, flag: bool) -> None:
    # The weights that read the channel that goes are zero in the other model.
    plan = plan_change(model["conv"], -2)
    (gone,) = np.setdiff1d(np.arange(8), plan.indices["conv"]).reshape(1, -1)
    silent = small_model()
    for tensor in silent.graph.initializer:
        array = numpy_helper.to_array(tensor).copy()
        if tensor.name in ("w1", "b1"):
            array[gone] = 0
        if tensor.name == "w3":
            array[:, :, gone] = 0
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    expected = load(silent)(_inputs(flag))
    plan.apply()
    assert model["conv"].nout == 6
    assert np.allclose(model(_inputs(flag))["y"], expected["y"], atol=1e-5)


def test_literal_numbers_follow(model: OnnxModel) -> None:
    delta_nout(model["lstm"], -2)
    proto = model.proto
    (node,) = [node for node in proto.graph.node if node.op_type == "LSTM"]
    assert {a.name: a.i for a in node.attribute}["hidden_size"] == 4
    (reshape,) = [node for node in proto.graph.node if node.op_type == "Reshape"]
    (shape,) = [tensor for tensor in proto.graph.initializer if tensor.name == reshape.input[1]]
    assert numpy_helper.to_array(shape).tolist() == [0, 0, 2, 2]
    assert "heads" not in {tensor.name for tensor in proto.graph.initializer}


def test_outputs_stay_unless_they_are_freed(model: OnnxModel) -> None:
    with pytest.raises(ImpossibleError, match="what the model returns stays as it is"):
        delta_nout(model["head"], -1, on_failure="raise")
    assert "nearest possible: 5" in str(explain(model["head"], -1))
    free = load(small_model(), free_outputs=True)
    delta_nout(free["head"], -1)
    assert free(_inputs())["y"].shape == (2, 4)


def test_limits(model: OnnxModel) -> None:
    before = macs(model).value
    change = shrink(model, [macs(model) <= 0.6 * now, params(model) <= 0.8 * now, multiple_of(2)])
    assert macs(model).value <= 0.6 * before
    assert change.certificate is not None
    assert change.certificate.gap <= 1e-3
    assert model["conv"].nout % 2 == 0


def test_costs_need_sizes() -> None:
    model = load(small_model())
    with pytest.raises(RequestError, match="input_shapes"):
        shrink(model, [macs(model) <= 0.5 * now])
    with pytest.raises(RequestError, match="when the model is opened"):
        _ = macs(model, (3, 10)).value


def test_a_plan_is_for_one_state(model: OnnxModel) -> None:
    plan = plan_change(model["conv"], -2)
    delta_nout(model["lstm"], -2)
    with pytest.raises(PlanError, match="has changed since"):
        plan.apply()


def test_growing_changes_nothing(model: OnnxModel) -> None:
    before = model(_inputs())["y"]
    delta_nout(model["conv"], 4)
    assert model["conv"].nout == 12
    assert np.allclose(model(_inputs())["y"], before, atol=1e-6)


def test_what_grows_among_what_is_normalised_is_compared_without_it() -> None:
    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["a"], name="layer"),
        helper.make_node("LayerNormalization", ["a", "s"], ["n"], name="norm"),
        helper.make_node("Gemm", ["n", "v"], ["y"], name="head"),
    ]
    rng = np.random.default_rng(0)
    tensors = [
        numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name)
        for name, shape in (("w", (4, 6)), ("s", (6,)), ("v", (6, 3)))
    ]
    io = [helper.make_tensor_value_info(name, 1, ["n", size]) for name, size in (("x", 4), ("y", 3))]
    graph = helper.make_graph(nodes, "norm", io[:1], io[1:], tensors)
    model = load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
    delta_nout(model["layer"], 2)
    assert model["norm"].nout == 8


def test_nothing_is_changed_if_it_computes_something_else(model: OnnxModel, monkeypatch: pytest.MonkeyPatch) -> None:
    before = model.proto
    plan = plan_change(model["conv"], -2)
    built = plan.build()
    built["w1"] = built["w1"] + 0.1
    monkeypatch.setattr("solver_nas.change.build", lambda *_: built)
    with pytest.raises(VerificationError, match="differs from the original without the neurons that go"):
        plan.apply()
    assert model.proto == before


@pytest.mark.parametrize(
    ("inputs", "text"),
    [
        pytest.param({"x": np.zeros((2, 4, 10), np.float32)}, "takes the inputs", id="one is missing"),
        pytest.param(
            {"x": np.zeros((2, 4, 10), np.float32), "flag": np.array(True)}, "of shape .* x 3 x 10", id="shape"
        ),
        pytest.param({"x": np.zeros((2, 3, 10), int), "flag": np.array(True)}, "takes float32", id="type"),
        pytest.param(np.zeros((2, 3, 10)), "give arrays by the names of inputs", id="no names"),
    ],
)
def test_inputs_that_do_not_suit_are_told(model: OnnxModel, inputs: object, text: str) -> None:
    with pytest.raises(RequestError, match=text):
        load(small_model(), inputs=inputs)  # type: ignore[arg-type] # that is the point
    with pytest.raises(RequestError, match=text):
        model(inputs)  # type: ignore[arg-type] # likewise


def test_real_numbers_come_in_the_precision_of_the_model(model: OnnxModel) -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 10)).astype(np.float32)
    found, wanted = (model({"x": one, "flag": np.array(True)}) for one in (x.astype(np.float64), x))
    assert all(np.array_equal(found[name], wanted[name]) for name in wanted)


def test_what_cannot_be_tried_out_is_not_changed(model: OnnxModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise StoreError("no kernel")

    monkeypatch.setattr("solver_nas.onnx.runtime.run", fail)
    with pytest.raises(VerificationError, match="give inputs that suit the model"):
        delta_nout(model["conv"], -2)
    assert model["conv"].nout == 8


def test_codes_that_data_are_compared_with_stay() -> None:
    codes = numpy_helper.from_array(np.arange(6, dtype=np.int32).reshape(1, 1, 6), "codes")
    weight = numpy_helper.from_array(np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32), "w")
    nodes = [
        helper.make_node("Unsqueeze", ["x", "last"], ["u"], name="wide"),
        helper.make_node("Equal", ["u", "codes"], ["e"], name="hot"),
        helper.make_node("Cast", ["e"], ["f"], name="real", to=1),
        helper.make_node("MatMul", ["f", "w"], ["h"], name="table"),
        helper.make_node("MatMul", ["h", "v"], ["y"], name="head"),
    ]
    more = [
        numpy_helper.from_array(np.array([2]), "last"),
        numpy_helper.from_array(np.random.default_rng(1).normal(size=(4, 2)).astype(np.float32), "v"),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.INT32, ["n", 3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3, 2])
    graph = helper.make_graph(nodes, "codes", [x], [y], [codes, weight, *more])
    model = load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
    assert [reason.vertex for reason in model.labels.pinned] == ["hot"]
    delta_nout(model["table"], -2)
    assert (model["hot"].shape, model["table"].nout) == ((None, 3, 6), 2)


def test_edits_of_the_structure(model: OnnxModel) -> None:
    before, start = model(_inputs())["y"], model.proto
    kernel = np.eye(8, dtype=np.float32)[:, :, None]
    change = insert(model["deep"], lambda x: x.model.add("Conv", x, kernel, name="extra"))
    assert isinstance(change.plan, EditPlan)
    assert change.plan.unchanged
    assert model["extra"].inputs == (model["deep"],)
    assert model["add"].inputs[0] == model["extra"]
    assert np.allclose(model(_inputs())["y"], before, atol=1e-5)
    delta_nout(model["conv"], -2)
    assert model["extra"].nout == 6
    model.undo()
    remove(model["extra"])
    assert "extra" not in model
    assert np.allclose(model(_inputs())["y"], before, atol=1e-5)
    model.undo()
    assert "extra" in model
    onnx.checker.check_model(start, full_check=True)


def test_another_activation(model: OnnxModel) -> None:
    replace(model["relu"], lambda x: x.model.add("Tanh", x, name="relu"))
    assert model["relu"].kind == "onnx.Tanh"
    (node,) = [node for node in model.proto.graph.node if node.name == "relu"]
    assert node.op_type == "Tanh"


def test_edges_come_and_go(model: OnnxModel) -> None:
    before = model(_inputs())["y"]
    create_edge(model["conv"], model["add"])
    assert len(model["add"].inputs) == 3
    (node,) = [node for node in model.proto.graph.node if node.name == "add"]
    assert node.op_type == "Sum"
    model.undo()
    assert np.array_equal(model(_inputs())["y"], before)
    remove_edge(model["relu"], model["add"])
    assert len(model["add"].inputs) == 1


def test_inside_a_branch_only_sizes_change(model: OnnxModel) -> None:
    inside = next(handle for handle in model if handle.kind == "onnx.Mul")
    start = model.proto
    with pytest.raises(VerificationError, match="inside the body of a loop or a branch"):
        remove(inside)
    assert model.proto == start


def test_an_impossible_node_is_refused(model: OnnxModel) -> None:
    with pytest.raises(GraphError, match="nobody knows the operator 'Mystery'"):
        insert(model["conv"], lambda x: x.model.add("Mystery", x))
    with pytest.raises(GraphError, match="'Conv' cannot stand there"):
        insert(model["conv"], lambda x: x.model.add("Conv", x, np.zeros((4, 5, 3), np.float32)))


def test_a_transaction_takes_everything_back(model: OnnxModel) -> None:
    start = model.proto

    def edit() -> None:
        with model.transaction():
            delta_nout(model["conv"], -2)
            remove(model["relu"])
            raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        edit()
    assert model.proto == start


def test_names_and_metadata_survive() -> None:
    proto = small_model()
    proto.producer_name = "somebody"
    entry = proto.metadata_props.add()
    entry.key, entry.value = "alphabet", "abc"
    changed = load(proto)
    delta_nout(changed["conv"], -2)
    changed.rename("conv", "first")
    made = changed.proto
    assert (made.producer_name, made.metadata_props[0].value) == ("somebody", "abc")
    assert made.opset_import == proto.opset_import
    assert [node.name for node in made.graph.node] == ["first", *(node.name for node in proto.graph.node[1:])]


def test_what_a_neuron_contributes_is_recorded(model: OnnxModel) -> None:
    plain = np.asarray(model.default_utility(model["conv"]))
    calibrate(model, _inputs())
    seen = np.asarray(model.default_utility(model["conv"]))
    assert seen.shape == plain.shape
    assert not np.allclose(seen, plain)
    with pytest.raises(CalibrationError, match="takes the inputs"):
        calibrate(model, {"y": np.zeros(1)})
