"""Calibration that was interrupted goes on where it was."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from solver_nas import calibrate
from solver_nas.checkpoint import Checkpoint
from solver_nas.errors import CalibrationError
from solver_nas.observe import Observations
from solver_nas.torch import trace
from tests.calibration.kinds import KINDS, Kind

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(params=KINDS, ids=[kind.name for kind in KINDS])
def kind(request: Any) -> Kind:
    found: Kind = request.param
    return found


def samples(count: int = 52, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=(count, 3, 6, 6)).astype(np.float32)


def known(model: Any) -> dict[str, tuple[Any, ...]]:
    """All statistics that were recorded."""
    found = {}
    for name, seen in model.observers.items():
        assert isinstance(seen, Observations)
        if seen.statistics is not None:
            one = seen.statistics
            found[name] = (one.count, one.mean.tobytes(), one.moments.tobytes(), one.ridge)
    return found


def test_an_interrupted_calibration_goes_on_bit_for_bit(
    kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parted = kind.build(), kind.build()
    x = samples()
    calibrate(whole, x, batch_size=4, checkpoint=tmp_path / "whole.npz", progress=False)
    path = tmp_path / "parted.npz"
    keep, calls = Checkpoint.keep, []

    def interrupted(self: Checkpoint, done: int, arrays: Any) -> None:
        keep(self, done, arrays)
        calls.append(done)
        if len(calls) == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Checkpoint, "keep", interrupted)
        with pytest.raises(KeyboardInterrupt):
            calibrate(parted, x, batch_size=4, checkpoint=path, progress=False)
    assert not parted.observers
    assert calls == [2, 4, 6]

    started = []
    course = type(parted.course())
    watch = course.watch

    def counted(self: Any, batch: Any, names: Any) -> Any:
        started.append(batch)
        return watch(self, batch, names)

    monkeypatch.setattr(course, "watch", counted)
    calibrate(parted, x, batch_size=4, checkpoint=path, progress=False)
    assert len(started) == 1 + 13 - 6  # the first one tells whether it is the same model
    assert known(parted) == known(whole)
    assert known(parted)


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    one, other = KINDS[0].build(), KINDS[0].build()
    path = tmp_path / "kept.npz"
    first = calibrate(one, samples(), checkpoint=path, progress=False)
    before = path.read_bytes()
    second = calibrate(other, samples(), checkpoint=path, progress=False)
    assert path.read_bytes() == before
    assert known(one) == known(other)
    assert first.watched == second.watched


@pytest.mark.parametrize("what", ["model", "samples", "share"])
def test_checkpoints_of_something_else_are_refused(tmp_path: Path, what: str) -> None:
    path = tmp_path / "kept.npz"
    model = KINDS[0].build()
    calibrate(model, samples(), checkpoint=path, progress=False)
    before, recorded = path.read_bytes(), known(model)
    if what == "model":
        key = "second.bias"
        model.arrays[key] = np.asarray(model.arrays[key]) + 1
    with pytest.raises(CalibrationError, match="delete it, or give another path"):
        calibrate(
            model,
            samples(seed=what == "samples"),
            held_back=0.5 if what == "share" else 0.25,
            checkpoint=path,
            progress=False,
        )
    assert path.read_bytes() == before
    assert known(model) == recorded


@pytest.mark.parametrize("content", [b"", b"something else", b"PK\x03\x04 half a file"])
def test_files_that_are_no_checkpoints_are_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "kept.npz"
    path.write_bytes(content)
    with pytest.raises(CalibrationError, match="no checkpoint of a calibration"):
        calibrate(KINDS[0].build(), samples(), checkpoint=path, progress=False)
    assert path.read_bytes() == content


def test_places_that_cannot_be_written_are_told(tmp_path: Path) -> None:
    model = KINDS[0].build()
    with pytest.raises(CalibrationError, match="no checkpoint can be kept"):
        calibrate(model, samples(), checkpoint=tmp_path, progress=False)
    with pytest.raises(CalibrationError, match="no checkpoint can be kept"):
        calibrate(model, samples(), checkpoint=tmp_path / "missing" / "kept.npz", progress=False)
    assert not model.observers


class Turned(torch.nn.Module):
    """A number in the code, which is no parameter."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last, self.factor = torch.nn.Linear(4, 8), torch.nn.Linear(8, 3), factor

    def forward(self, x: Any) -> Any:
        return self.last(torch.relu(self.first(x) * self.factor))


def test_the_checkpoint_of_a_model_with_the_same_parameters_is_not_taken(tmp_path: Path) -> None:
    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    one, other = (trace(Turned(factor), x[:8]) for factor in (1.0, -1.0))
    calibrate(one, x, checkpoint=tmp_path / "c.npz", progress=False)
    with pytest.raises(CalibrationError, match="is of another model"):
        calibrate(other, x, checkpoint=tmp_path / "c.npz", progress=False)
    assert not other.observers
