"""Commands about models, as a person or a script runs them."""

from __future__ import annotations

import json
import os
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from solver_nas.cli import main
from solver_nas.onnx import load
from tests.benchmarks.onnx_fuzz import small_model
from tests.onnx.models import Builder


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "model.onnx").write_bytes(small_model().SerializeToString())
    return tmp_path / "model.onnx"


def run(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def told(*words: object) -> dict[str, Any]:
    result = run(*words, "--json")
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


SHAPE = ("--input-shape", "x=2x3x10")


def test_inspect(path: Path) -> None:
    found = told("inspect", path, *SHAPE)
    parts = {part["name"]: part for part in found["vertices"]}
    assert parts["conv"]["neurons"] == 8
    assert parts["conv"]["groups"] == parts["add"]["groups"]
    assert parts["conv"]["groups"] != parts["lstm"]["groups"]
    assert parts["y"]["free"] == 0
    assert found["parameters"] == sum(array.size for array in load(path).arrays.values() if array.dtype.kind == "f")
    assert 0 < found["free_macs"] < found["macs"]
    text = run("inspect", path, "--all", *SHAPE).output
    for word in ("Vertices that change together", "conv", "In all", "can change", "MACs"):
        assert word in text
    assert "sizes are open" in run("inspect", path).output


def test_what_is_pinned_is_told(path: Path) -> None:
    proto = small_model()
    proto.graph.node[1].op_type, proto.graph.node[1].domain = "Mystery", "com.example"
    opset = proto.opset_import.add()
    opset.domain, opset.version = "com.example", 1
    path.write_bytes(proto.SerializeToString())
    found = told("inspect", path)
    assert found["pinned"]["relu"] == ["nobody knows the operator 'com.example::Mystery'"]
    assert "nobody knows the operator" in " ".join(run("inspect", path).output.split())


def test_explain(path: Path) -> None:
    possible = run("explain", path, "--set", "conv=-2")
    assert possible.exit_code == 0
    refused = run("explain", path, "--set", "head=-1", "--json")
    assert refused.exit_code == 3
    found = json.loads(refused.stdout)
    assert found["possible"] is False
    assert found["nearest"]["head"] == [5]
    assert any("what the model returns" in reason for reason in found["reasons"])


def test_plan_and_apply(path: Path, tmp_path: Path) -> None:
    plan, out = tmp_path / "plan.json", tmp_path / "out.onnx"
    found = told("plan", path, *SHAPE, "--macs", 0.6, "--multiple", 2, "-o", plan)
    assert found["after"]["macs"] <= 0.6 * found["before"]["macs"]
    assert found["gap"] <= 1e-3
    assert found["output"] == str(plan)
    before = path.read_bytes()
    result = run("apply", path, plan, "-o", out)
    assert result.exit_code == 0, result.output
    assert path.read_bytes() == before
    sizes = {name: sizes[1] for name, sizes in found["sizes"].items()}
    model = load(out)
    assert {name: model[name].nout for name in sizes} == sizes
    other = run("apply", out, plan, "-o", tmp_path / "never.onnx")
    assert other.exit_code == 1
    assert "made for another model" in other.stderr
    assert not (tmp_path / "never.onnx").exists()


def test_shrink_does_both(path: Path, tmp_path: Path) -> None:
    found = told("shrink", path, "--params", 0.7, "--keep", "lstm", "-o", tmp_path / "out.onnx")
    model = load(tmp_path / "out.onnx")
    assert model["lstm"].nout == 6
    assert found["after"]["parameters"] <= 0.7 * found["before"]["parameters"]
    text = run("shrink", path, "--set", "c*v=-2", "-o", tmp_path / "out.onnx").output
    assert "Sizes that change" in text
    assert "Written to" in text


def test_frozen_layers_stay(path: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    told("shrink", path, "--params", 0.8, "--freeze", "deep", "-o", out)
    before, after = load(path), load(out)
    assert np.array_equal(before.arrays["w2"], after.arrays["w2"])


def test_samples_decide_what_is_worth_keeping(path: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    data = tmp_path / "samples.npz"
    np.savez(data, x=rng.normal(size=(4, 3, 10)).astype(np.float32), flag=np.array(True))
    plain = told("plan", path, "--set", "conv=-4")
    seen = told("plan", path, "--set", "conv=-4", "--data", data)
    assert plain["sizes"] == seen["sizes"]
    assert plain["objective"] != seen["objective"]
    assert "needs samples" in run("plan", path, "--set", "conv=-4", "--utility", "activation").stderr


def test_compare(path: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    told("shrink", path, "--set", "conv=-4", "-o", out)
    found = told("compare", path, out, *SHAPE, "--repeats", 3)
    assert found["parameters"][1] < found["parameters"][0]
    assert found["macs"][1] < found["macs"][0]
    assert found["bytes"] == [path.stat().st_size, out.stat().st_size]
    assert found["distance"] == max(found["distances"].values()) > 0
    assert set(found["distances"]) == {output.name for output in small_model().graph.output}
    assert told("compare", path, path, "--repeats", 1)["distance"] == 0
    assert "distance of outputs" in run("compare", path, out, "--repeats", 1).output


def test_objects_have_the_keys_that_are_documented(path: Path, tmp_path: Path) -> None:
    page = Path(__file__, "../../../docs/command-line.md").resolve().read_text()
    section = page.split("## JSON of the commands about models")[1].split("\n## ")[0]
    documented = {}
    for part in re.split(r"\n(?=`\w+`[^\n]*:\n)", section)[1:]:
        heading, table = part.split(":\n", 1)
        keys = [key for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for key in re.findall(r"`(\w+)`", row)]
        documented.update(dict.fromkeys(re.findall(r"`(\w+)`", heading), keys))
    plan, out = tmp_path / "plan.json", tmp_path / "out.onnx"
    wish = ("--set", "conv=-4")
    found = {
        "inspect": told("inspect", path),
        "explain": told("explain", path, *wish),
        "plan": told("plan", path, *wish, "-o", plan),
        "apply": told("apply", path, plan, "-o", out),
        "shrink": told("shrink", path, *wish, "-o", out),
        "compare": told("compare", path, out, "--repeats", 1),
        "draw": told("draw", path, "-o", tmp_path / "model.svg"),
    }
    assert {name: sorted(keys) for name, keys in documented.items()} == {
        name: sorted(one) for name, one in found.items()
    }
    (vertices,) = re.findall(r"^\| `vertices` \| one object each: (.*) \|$", section, re.MULTILINE)
    assert sorted(re.findall(r"`(\w+)`", vertices.replace("`null`", ""))) == sorted(found["inspect"]["vertices"][0])


def test_the_version_is_told() -> None:
    assert run("--version").output.strip() == version("solver_nas")


def test_what_has_no_neurons_cannot_change(path: Path) -> None:
    result = run("explain", path, "--set", "flag=-1")
    assert result.exit_code == 2
    assert "nout(flag) is 0: it has no neurons that could change" in result.stderr


def test_two_things_about_one_vertex(path: Path) -> None:
    result = run("explain", path, "--set", "conv=-1", "--set", "conv=-2")
    assert result.exit_code == 2
    assert "--set says two things about 'conv': -1 and -2" in result.stderr


def test_amounts_with_limits_are_shown(path: Path) -> None:
    found = told("plan", path, "--memory", 0.8, "--activations", 0.9, *SHAPE)
    assert len(found["limits"]) == 2
    for limit, (before, after) in found["limits"].items():
        assert after <= (0.8 if "memory" in limit and "activation" not in limit else 0.9) * before
    assert "weight_memory" in run("plan", path, "--memory", 0.8).output


def test_files_beside_a_model_count(path: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("solver_nas.onnx.store._LARGE", 16)
        told("shrink", path, "--set", "conv=-2", "-o", out, "--external")
    beside = tmp_path / "out.onnx.data"
    assert told("compare", path, out, "--repeats", 1)["bytes"][1] == out.stat().st_size + beside.stat().st_size


def test_a_pipe_is_no_place_for_a_model(path: Path, tmp_path: Path) -> None:
    place = tmp_path / "pipe"
    os.mkfifo(place)
    result = run("shrink", path, "--set", "conv=-1", "-o", place)
    assert result.exit_code == 2
    assert "is no file" in result.stderr
    assert place.is_fifo()


def test_what_is_joined_is_in_two_groups(tmp_path: Path) -> None:
    made = Builder()
    x = made.input("x", "n", 6)
    both = made.node("Concat", made.dense(x, 6, 4, "one"), made.dense(x, 6, 8, "two"), axis=1, name="both")
    made.output(made.dense(both, 12, 3, "head"), ["n", 3])
    (tmp_path / "model.onnx").write_bytes(made.model().SerializeToString())
    found = told("inspect", tmp_path / "model.onnx")
    parts = {part["name"]: part["groups"] for part in found["vertices"]}
    assert (parts["one"], parts["two"], parts["both"]) == ({"1": 4}, {"2": 8}, {"1": 4, "2": 8})
    assert found["groups"] == {"1": ["one", "both"], "2": ["two", "both"]}


def test_what_is_impossible_is_an_object_too(path: Path) -> None:
    result = run("plan", path, "--params", 0.0001, "--json")
    assert result.exit_code == 3
    found = json.loads(result.stdout)
    assert found["status"] == "impossible"
    (limit,) = found["limits"]
    assert limit.startswith("params <= 0.0001 * now")
    assert found["reachable"][limit] > 0


def test_names_are_whole_where_nobody_looks(path: Path) -> None:
    proto = small_model()
    long = "a/very/long/name/of/a/node/that/no/table/on/a/terminal/has/any/room/for/conv"
    proto.graph.node[0].name = long
    path.write_bytes(proto.SerializeToString())
    lines = run("inspect", path, "--all").output.splitlines()
    assert any(long in line for line in lines)
    assert [line for line in lines if line != line.rstrip()] == []


def test_draw(path: Path, tmp_path: Path) -> None:
    plan, picture = tmp_path / "plan.json", tmp_path / "model.svg"
    told("plan", path, "--set", "conv=-2", "-o", plan)
    assert told("draw", path, "--plan", plan, "-o", picture)["output"] == str(picture)
    text = picture.read_text(encoding="utf-8")
    assert "conv" in text
    assert "8 → 6" in text
    assert run("draw", path, "-o", tmp_path / "model.gif").exit_code == 2


@pytest.mark.parametrize(
    ("words", "status", "text"),
    [
        pytest.param(("plan", "--set", "conf=-1"), 2, "did you mean 'conv'", id="a name that nobody has"),
        pytest.param(("plan", "--set", "conv"), 2, "a vertex and a number", id="no number"),
        pytest.param(("plan",), 2, "say what is wanted", id="no wish"),
        pytest.param(("plan", "--macs", 0), 2, "a fraction of what there is now", id="nothing may stay"),
        pytest.param(("plan", "--params", 0.0001), 3, "params", id="too little"),
        pytest.param(("plan", "--macs", 0.5), 2, "--input-shape x=?x3x10", id="open sizes"),
        pytest.param(("plan", "--macs", 0.5, "--input-shape", "x=2"), 2, "has the shape", id="another rank"),
        pytest.param(("plan", "--minimum", 4), 2, "say what is wanted", id="nothing but a minimum"),
        pytest.param(("plan", "--params", 0.5, "-o", "no/plan.json"), 2, "there is no folder 'no'", id="no folder"),
        pytest.param(("plan", "--input-shape", "x=axb"), 2, "a name and sizes", id="no sizes"),
        pytest.param(("explain",), 2, "say what should change", id="nothing to explain"),
    ],
)
def test_what_is_wrong_is_told(path: Path, words: tuple[object, ...], status: int, text: str) -> None:
    command, *rest = words
    result = run(command, path, *rest)
    assert result.exit_code == status, result.output
    assert text in " ".join(result.stderr.split())
    assert "Traceback" not in result.output


def test_a_file_that_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"nothing")
    result = run("inspect", tmp_path / "model.onnx")
    assert result.exit_code == 1
    assert "no ONNX model" in result.stderr
    assert run("inspect", tmp_path / "missing.onnx").exit_code == 2


def test_nothing_is_written_if_it_computes_something_else(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("solver_nas.onnx.runtime.distance", lambda *_: float("inf"))
    out = tmp_path / "out.onnx"
    result = run("shrink", path, "--set", "conv=-4", "-o", out)
    assert result.exit_code == 4
    assert not out.exists()
