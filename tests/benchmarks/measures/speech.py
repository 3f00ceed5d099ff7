"""Speech that a machine reads aloud, with pauses and noise; the same for the same seed."""

from __future__ import annotations

import io
import shutil
import subprocess
import wave
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter, resample_poly

from tests.benchmarks.measures.rendering import phrase

Sound = NDArray[np.float64]
RATE = 16_000  # samples per second, of everything here
_ESPEAK_RATE = 22_050
_VOICES = ("en-us", "en-gb", "en-gb-scotland", "de", "es", "fr")
_PITCHES, _SPEEDS = (20, 80), (130, 200)  # espeak-ng's units; words per minute
_QUIET = 0.01  # below it is no speech yet, or no longer; the peak is one half


@dataclass(frozen=True, eq=False)
class Recording:
    """What a microphone would have heard.

    Attributes:
        sound: shape `(samples,)`, in -1 to 1.
        speaking: shape `(samples,)`, where somebody speaks.
    """

    sound: Sound
    speaking: NDArray[np.bool_]


def recording(rng: np.random.Generator, seconds: float, decibels: float) -> Recording:
    """Phrases with pauses between them, and noise that is so much weaker than the speech.

    Raises:
        FileNotFoundError: espeak-ng is missing; says what to install.
    """
    samples = round(seconds * RATE)
    clean, speaking = np.zeros(samples), np.zeros(samples, dtype=np.bool_)
    at = round(rng.uniform(0.3, 1.0) * RATE)
    while at < samples:
        spoken = _spoken(
            phrase(rng), str(rng.choice(_VOICES)), int(rng.integers(*_PITCHES)), int(rng.integers(*_SPEEDS))
        )
        part = spoken[: samples - at]
        clean[at : at + len(part)], speaking[at : at + len(part)] = part, True
        at += len(spoken) + round(rng.uniform(0.6, 1.8) * RATE)
    level = np.sqrt(np.mean(clean[speaking] ** 2)) * 10 ** (-decibels / 20)
    return Recording(np.clip(clean + level * _noise(rng, samples), -1, 1), speaking)


def _noise(rng: np.random.Generator, samples: int) -> Sound:
    """Noise as of wind or machines, with more low than high tones, of deviation one."""
    noise: Sound = np.asarray(lfilter([1.0], [1.0, -rng.uniform(0.0, 0.9)], rng.normal(size=samples)))
    noise /= noise.std()
    return noise


@cache
def _spoken(text: str, voice: str, pitch: int, speed: int) -> Sound:
    """A text, read aloud, with a peak of one half and without silence before and after it."""
    program = shutil.which("espeak-ng")
    if program is None:
        raise FileNotFoundError("the program espeak-ng is missing; run `apt-get install -y espeak-ng`")
    command = [program, "-v", voice, "-p", str(pitch), "-s", str(speed), "-z", "--stdout", text]
    spoken = subprocess.run(command, check=True, capture_output=True).stdout
    with wave.open(io.BytesIO(spoken)) as file:
        assert file.getframerate() == _ESPEAK_RATE
        sound = np.frombuffer(file.readframes(file.getnframes()), np.int16).astype(np.float64)
    slower: Sound = np.asarray(resample_poly(sound, RATE, _ESPEAK_RATE))
    slower /= 2 * np.abs(slower).max()
    loud = np.flatnonzero(np.abs(slower) > _QUIET)
    return slower[loud[0] : loud[-1] + 1]
