"""Commands with samples: neurons are measured, weights refitted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from solver_nas.cli import main
from solver_nas.onnx import load
from tests.calibration.kinds import KINDS

KIND = KINDS[1]


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """A model and samples for it."""
    built: Any = KIND.build()
    built.save(tmp_path / "model.onnx")
    np.savez(tmp_path / "samples.npz", x=KIND.samples(64))
    return tmp_path / "model.onnx", tmp_path / "samples.npz"


def run(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def off(path: Path, original: Path) -> float:
    """How far outputs are off, as a fraction of their variance, on samples that nobody has seen."""
    x = KIND.samples(64, seed=3)
    found, wanted = (next(iter(load(one)(x=x).values())) for one in (path, original))
    return float(((found - wanted) ** 2).mean() / ((wanted - wanted.mean(axis=0)) ** 2).mean())


def test_samples_make_a_smaller_model_that_computes_nearly_the_same(files: tuple[Path, Path], tmp_path: Path) -> None:
    model, samples = files
    plain, refitted = tmp_path / "plain.onnx", tmp_path / "refitted.onnx"
    assert run("shrink", model, "--params", 0.6, "-o", plain).exit_code == 0
    result = run("shrink", model, "--params", 0.6, "--data", samples, "-o", refitted)
    assert result.exit_code == 0, result.output
    assert "layers refitted; error of the outputs on samples held back" in result.output
    assert off(refitted, model) < 0.5 * off(plain, model)


def test_json_tells_how_far_outputs_are_off(files: tuple[Path, Path], tmp_path: Path) -> None:
    model, samples = files
    out = tmp_path / "out.onnx"
    result = run("shrink", model, "--params", 0.6, "--data", samples, "-o", out, "--json")
    assert result.exit_code == 0, result.output
    refit = json.loads(result.stdout)["refit"]
    assert refit["layers"] > 0
    assert refit["error"] < refit["without"]
    assert 0.3 * off(out, model) < refit["error"] < 3 * off(out, model)
    without = run("shrink", model, "--params", 0.6, "--data", samples, "--no-refit", "-o", out, "--json")
    assert json.loads(without.stdout)["refit"] is None


@pytest.mark.parametrize("utility", ["l1", "l2", "activation", "reconstruction", "measured"])
def test_every_utility_goes_with_samples(utility: str, files: tuple[Path, Path], tmp_path: Path) -> None:
    model, samples = files
    out = tmp_path / "out.onnx"
    words = ("--params", 0.6, "--utility", utility, "--data", samples, "-o", out, "--json")
    result = run("shrink", model, *words)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["after"]["parameters"] <= 0.6 * found["before"]["parameters"]


@pytest.mark.parametrize("utility", ["activation", "reconstruction", "measured"])
def test_what_needs_samples_says_so(utility: str, files: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    result = run("shrink", files[0], "--params", 0.6, "--utility", utility, "-o", out)
    assert result.exit_code != 0
    assert "needs samples" in result.output
    assert not out.exists()


def test_samples_with_nan_end_in_a_line(files: tuple[Path, Path], tmp_path: Path) -> None:
    model, _ = files
    np.savez(tmp_path / "bad.npz", x=np.full((4, 3, 6, 6), np.nan, np.float32))
    result = run("shrink", model, "--params", 0.6, "--data", tmp_path / "bad.npz", "-o", tmp_path / "out.onnx")
    assert result.exit_code != 0
    assert "NaN" in result.output
    assert "Traceback" not in result.output
    assert not (tmp_path / "out.onnx").exists()


def test_a_plan_is_kept_without_refitted_weights(files: tuple[Path, Path], tmp_path: Path) -> None:
    model, samples = files
    plan, out = tmp_path / "plan.json", tmp_path / "out.onnx"
    assert run("plan", model, "--params", 0.6, "--data", samples, "-o", plan).exit_code == 0
    result = run("apply", model, plan, "-o", out)
    assert result.exit_code == 0, result.output
    assert out.exists()
