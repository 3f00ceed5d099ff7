"""Files: what is read with a model, what is written, and what is left alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper

from solver_nas import delta_nout, load_plan, plan_change, save_plan
from solver_nas.errors import RequestError, StoreError
from solver_nas.onnx import OnnxModel, load
from solver_nas.report.drawing import draw
from tests.benchmarks.onnx_fuzz import small_model
from tests.onnx.models import Builder


@pytest.fixture
def model() -> OnnxModel:
    return load(small_model(), {"x": (2, 3, 10)})


def _inputs() -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(1).normal(size=(2, 3, 10)).astype(np.float32), "flag": np.array(True)}


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    model = small_model()
    onnx.save_model(
        model,
        str(tmp_path / "model.onnx"),
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=16,
    )
    return tmp_path  # type: ignore[return-value] # a fixture


def test_tensors_beside_the_model(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("solver_nas.onnx.store._LARGE", 16)
    model = load(folder / "model.onnx")
    delta_nout(model["conv"], -2)
    outputs = model(_inputs())["y"]
    model.save(folder / "smaller.onnx", external=True)
    assert {path.name for path in folder.iterdir()} >= {"smaller.onnx", "smaller.onnx.data"}
    again = load(folder / "smaller.onnx")
    assert np.array_equal(again(_inputs())["y"], outputs)


@pytest.mark.parametrize("place", ["/etc/hostname", "../weights.bin", "missing.bin"])
def test_files_elsewhere_are_not_read(place: str, tmp_path: Path) -> None:
    proto = _pointing_to(place)
    (tmp_path / "inner").mkdir()
    (tmp_path / "weights.bin").write_bytes(bytes(10_000))
    (tmp_path / "inner" / "model.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(StoreError, match=r"outside of the model's folder|no such file"):
        load(tmp_path / "inner" / "model.onnx")
    with pytest.raises(StoreError, match="load the model from its path"):
        load(proto)


def test_a_link_does_not_lead_out(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "weights.bin").write_bytes(bytes(10_000))
    (tmp_path / "inner" / "link.bin").symlink_to(tmp_path / "weights.bin")
    (tmp_path / "inner" / "model.onnx").write_bytes(_pointing_to("link.bin").SerializeToString())
    with pytest.raises(StoreError, match="outside of the model's folder"):
        load(tmp_path / "inner" / "model.onnx")


def _pointing_to(place: str) -> ModelProto:
    proto = small_model()
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", place
    return proto


@pytest.mark.parametrize(
    ("source", "text"),
    [
        pytest.param(b"", "no graph that returns anything", id="empty"),
        pytest.param(b"not a model at all", "no ONNX model", id="text"),
        pytest.param(b"\x08\x07" * 40, "no ONNX model|no graph", id="numbers"),
        pytest.param(3, "a path, bytes or an onnx.ModelProto", id="a number"),
    ],
)
def test_what_is_no_model(source: object, text: str) -> None:
    with pytest.raises(StoreError, match=text):
        load(source)  # type: ignore[arg-type] # that is the point


@pytest.mark.parametrize(
    ("shapes", "text"),
    [
        pytest.param({"z": (1,)}, "there is no input 'z'", id="unknown"),
        pytest.param({"x": (2, 4, 10)}, "has the shape", id="contradiction"),
        pytest.param({"x": (2, 3)}, "has the shape", id="rank"),
    ],
)
def test_shapes_that_make_no_sense(shapes: dict[str, tuple[int, ...]], text: str) -> None:
    with pytest.raises(RequestError, match=text):
        load(small_model(), shapes)


def test_a_failed_save_leaves_what_was_there(model: OnnxModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "model.onnx"
    target.write_bytes(b"precious")

    def fail(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(KeyboardInterrupt):
        model.save(target)
    assert target.read_bytes() == b"precious"
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_tensors_stay_beside_the_model(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("solver_nas.onnx.store._LARGE", 16)
    model = load(folder / "model.onnx")
    delta_nout(model["conv"], -2)
    for place, beside in (("as_it_was", None), ("embedded", False)):
        model.save(folder / f"{place}.onnx", external=beside)
        assert (folder / f"{place}.onnx.data").exists() == (beside is None)
    assert (folder / "as_it_was.onnx.data").stat().st_mode == (folder / "as_it_was.onnx").stat().st_mode


@pytest.mark.parametrize("links", [True, False])
def test_two_files_are_written_or_none(links: bool, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("solver_nas.onnx.store._LARGE", 16)

    def refuse(*_: object) -> None:
        raise PermissionError("this file system has no links")

    if not links:
        monkeypatch.setattr("os.link", refuse)
    model = load(folder / "model.onnx")
    model.save(folder / "other.onnx")
    delta_nout(model["conv"], -2)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    move = Path.replace

    for name in ("other.onnx", "new.onnx"):

        def fail(self: Path, target: Path, name: str = name) -> Path:
            if target.name == name and self.suffix != ".before":
                raise KeyboardInterrupt
            return move(self, target)

        monkeypatch.setattr(Path, "replace", fail)
        with pytest.raises(KeyboardInterrupt):
            model.save(folder / name)
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before, name
    monkeypatch.setattr(Path, "replace", move)
    model.save(folder / "other.onnx")
    assert load(folder / "other.onnx").proto == model.proto
    assert {path.name for path in folder.iterdir()} == set(before)


@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_only_files_are_replaced(model: OnnxModel, kind: str, tmp_path: Path) -> None:
    place = tmp_path / "place.svg"
    os.mkfifo(place) if kind == "pipe" else place.mkdir()
    mode = place.stat().st_mode
    plan = plan_change(model["conv"], -2)
    for write in (model.save, lambda path: model.save(path, external=True), lambda path: save_plan(plan, path)):
        with pytest.raises(OSError, match="is no file"):
            write(place)
    with pytest.raises(OSError, match="is no file"):
        draw(model, place)
    assert place.stat().st_mode == mode
    assert [path.name for path in tmp_path.iterdir()] == ["place.svg"]
    with pytest.raises(StoreError, match="is no file"):
        load(place)


def test_names_that_are_hard(model: OnnxModel, tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    for place in (loop, tmp_path / "a\0b"):
        with pytest.raises(OSError, match="is no path of a file"):
            model.save(place)
    (tmp_path / "model.onnx.data").mkdir()
    for name in ("model.onnx", "n" * 245 + ".onnx"):
        model.save(tmp_path / name)
        assert load(tmp_path / name).proto == model.proto


def test_tensors_of_local_functions_are_read_from_the_models_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside, elsewhere = tmp_path / "inside", tmp_path / "elsewhere"
    numbers = np.random.default_rng(0).normal(size=(6, 8)).astype(np.float32)
    for folder, array in ((inside, numbers), (elsewhere, np.zeros_like(numbers))):
        folder.mkdir()
        (folder / "weights.bin").write_bytes(array.tobytes())
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[6, 8], data_location=TensorProto.EXTERNAL)
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "weights.bin"
    made = Builder()
    wide = made.node("Scaled", made.input("x", "n", 6), domain="my")
    made.output(made.dense(made.node("Relu", made.dense(wide, 8, 10, "first")), 10, 3, "head"), ["n", 3])
    proto = made.model()
    nodes = [
        helper.make_node("Constant", [], ["w"], value=tensor),
        helper.make_node("MatMul", ["a", "w"], ["b"], name="inner"),
    ]
    proto.functions.append(helper.make_function("my", "Scaled", ["a"], ["b"], nodes, proto.opset_import[:1]))
    (inside / "model.onnx").write_bytes(proto.SerializeToString())
    monkeypatch.chdir(elsewhere)
    model = load(inside / "model.onnx")
    given = {"x": np.ones((2, 6), np.float32)}
    (before,) = model(given).values()
    assert np.abs(before).max() > 0
    delta_nout(model["first"], 2)
    model.save(inside / "wider.onnx", external=False)
    monkeypatch.chdir(tmp_path)
    (after,) = load((inside / "wider.onnx").read_bytes())(given).values()
    assert np.allclose(before, after, atol=1e-5)


@pytest.mark.parametrize("shapes", [[1], "x", {"x": None}, {"x": "abc"}, {"x": (2.5, 3, 10)}, {"x": (True, 3, 10)}])
def test_shapes_that_are_none(shapes: object) -> None:
    with pytest.raises(RequestError, match="give input shapes as"):
        load(small_model(), shapes)  # type: ignore[arg-type] # that is the point


def test_a_plan_comes_back(model: OnnxModel, tmp_path: Path) -> None:
    plan = plan_change(model["conv"], -2)
    save_plan(plan, tmp_path / "plan.json")
    load_plan(model, tmp_path / "plan.json").apply()
    assert model["conv"].nout == 6
