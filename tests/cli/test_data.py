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


def _bad(path: Path, what: str) -> None:
    """A file of samples that cannot be used."""
    x = np.zeros((4, 3, 6, 6), np.float32)
    with path.open("wb") as file:
        if what == "a single array":
            np.save(file, x)
        elif what == "text":
            file.write(b"text")
        elif what == "cut off":
            np.savez(file, x=x)
            file.truncate(100)
        else:
            samples: Any = {
                "NaN": {"x": np.full_like(x, np.nan)},
                "no samples": {"x": x[:0]},
                "objects": {"x": np.array([{}])},
                "another name": {"y": x},
                "another shape": {"x": x[0]},
                "letters": {"x": x.astype(str)},
            }[what]
            np.savez(file, **samples)


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("NaN", "NaN or infinity in batch 0"),
        ("no samples", "no samples in batch 0"),
        ("another name", "takes the inputs ['x'], got ['y']"),
        ("another shape", "of shape ? x 3 x 6 x 6, got float32 of shape (3, 6, 6)"),
        ("letters", "takes float32"),
        ("objects", "is no file of arrays"),
        ("text", "is no file of arrays"),
        ("cut off", "is no file of arrays"),
        ("a single array", "holds a single array"),
    ],
)
def test_samples_that_cannot_be_used_end_in_a_line(
    files: tuple[Path, Path], tmp_path: Path, what: str, told: str
) -> None:
    model, _ = files
    _bad(tmp_path / "bad.npz", what)
    result = run("shrink", model, "--params", 0.6, "--data", tmp_path / "bad.npz", "-o", tmp_path / "out.onnx")
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code in {1, 2}
    assert told in " ".join(result.output.split()), result.output
    assert not (tmp_path / "out.onnx").exists()


def test_a_plan_is_kept_without_refitted_weights(files: tuple[Path, Path], tmp_path: Path) -> None:
    model, samples = files
    plan, out = tmp_path / "plan.json", tmp_path / "out.onnx"
    assert run("plan", model, "--params", 0.6, "--data", samples, "-o", plan).exit_code == 0
    result = run("apply", model, plan, "-o", out)
    assert result.exit_code == 0, result.output
    assert out.exists()
