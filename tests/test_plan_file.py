"""Plans in files do the same, for the same model only."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from solver_nas import Network, nn, plan_change, relaxed, shrink
from solver_nas.errors import PlanError, RequestError, StoreError
from solver_nas.limits import now, params
from solver_nas.plan_file import fingerprint, load_plan, read_index, save_plan, written_index
from solver_nas.testing.zoo import ZOO
from tests.unchanged import network


@pytest.mark.parametrize("name", sorted(ZOO))
@pytest.mark.parametrize("delta", [-1, 2])
def test_it_does_the_same(name: str, delta: int, tmp_path: Path) -> None:
    net = ZOO[name].build(0)
    handle = next(v for v in net if v.nout > 2 and v.kind != "input" and v.parameters)
    plan = plan_change({handle: relaxed(delta)}, seed=3)
    save_plan(plan, tmp_path / "plan.json")
    again = load_plan(net, tmp_path / "plan.json")
    again.check()
    assert again.certificate == plan.certificate
    one, other = plan.build(), again.build()
    assert one.keys() == other.keys()
    assert all(np.array_equal(one[key], other[key]) for key in one)


def test_readable(tmp_path: Path) -> None:
    net = network()
    plan = shrink.plan(net, [params(net) <= 0.7 * now])
    save_plan(plan, tmp_path / "plan.json")
    found = json.loads((tmp_path / "plan.json").read_text())
    assert found["version"] == 1
    assert found["request"] == ["params <= 0.7 * now", "keep_outputs=True, the default"]
    assert found["costs"]["params <= 0.7 * now"][0] == 54
    assert all(" -> " in sizes for sizes in found["sizes"].values())


@given(st.lists(st.integers(0, 30), unique=True), st.lists(st.integers(0, 30), max_size=4))
def test_positions_are_read_as_they_were_written(kept: list[int], new: list[int]) -> None:
    index = np.array(kept, np.intp)
    for place in new:
        index = np.insert(index, min(place, len(index)), -1)
    assert np.array_equal(read_index(written_index(index)), index)


def test_another_model_is_refused(tmp_path: Path) -> None:
    net, other = network(), network()
    plan = plan_change(net["a"], -1)
    save_plan(plan, tmp_path / "plan.json")
    assert fingerprint(net) == fingerprint(other)
    other["a"].op.weight = other["a"].op.weight + 1e-9
    with pytest.raises(PlanError, match="made for another model"):
        load_plan(other, tmp_path / "plan.json")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        pytest.param({"format": "other"}, "its format is not", id="format"),
        pytest.param({"version": 2}, "a plan of version 2", id="version"),
        pytest.param({"model": 3}, "no table 'model'", id="model"),
        pytest.param({"neurons": {"a": "0-9"}}, "keeps neuron 9 of 'a'", id="beyond"),
        pytest.param({"neurons": {"z": "0"}}, "a vertex 'z'", id="unknown"),
        pytest.param({"neurons": {"a": "0-x"}}, "neither a position", id="text"),
        pytest.param({"neurons": {"a": "0 1", "b": "1 2"}}, "do not fit", id="contradiction"),
        pytest.param({"certificate": {}}, "certificate is damaged", id="certificate"),
        pytest.param({"utilities": {"a": ["x"]}}, "utilities of 'a'", id="utilities"),
        pytest.param({"seed": "x"}, "seed is", id="seed"),
    ],
)
def test_what_is_damaged(change: dict[str, object], text: str, tmp_path: Path) -> None:
    net, path = network(), tmp_path / "plan.json"
    save_plan(plan_change(net["a"], -1), path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(StoreError, match=text):
        load_plan(net, path)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "\x00", "[" * 100_000])
def test_what_is_no_plan(text: str, tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(StoreError, match="is no plan"):
        load_plan(network(), tmp_path / "plan.json")


def test_weights_of_functions_cannot_be_kept(tmp_path: Path) -> None:
    net = Network()
    layer = nn.dense(net.input("in", 2), 4, name="layer")
    net.output(nn.dense(layer, 1, name="out"))
    plan = plan_change(layer, 1, init=lambda rng, shape, spread: rng.normal(0, spread, shape))
    with pytest.raises(RequestError, match="made by a function"):
        save_plan(plan, tmp_path / "plan.json")
    assert not list(tmp_path.iterdir())
