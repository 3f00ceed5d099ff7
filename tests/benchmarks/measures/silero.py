"""The voice activity detectors of Silero, on speech with pauses and noise.

Source: silero-vad 6.2.3, `sequence_vad.py`, for frames and their context.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.stats import rankdata

from tests.benchmarks.measures.real import Real, runner
from tests.benchmarks.measures.speech import RATE, recording
from tests.benchmarks.measures.wheels import Wheel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.benchmarks.measures.real import Array, Feed, Run

SILERO = Wheel("silero-vad", "6.2.3", "silero_vad")
_OP15 = "data/silero_vad_16k_op15.onnx"
_FRAME, _CONTEXT = 512, 64  # samples that are judged, samples before them that are seen too
_SECONDS, _DECIBELS = 30.0, (5.0, 10.0, 15.0, 20.0)  # of a recording; how much louder speech is than noise
_STATE = 128  # neurons that remember
_SAMPLES = 256  # frames of a sequence to calibrate with
_EVERY = 60  # frames, of each recording, to calibrate with if every one comes with what was before
_MOSTLY = 0.5  # of a frame has to be speech


def models() -> tuple[Real, ...]:
    """The model that takes a whole sequence, and the one that takes a frame."""
    return (
        Real(
            name="silero sequence",
            wheel=SILERO,
            file="data/silero_vad_16k_sequence.onnx",
            input_shapes={"input": (_SAMPLES, _CONTEXT + _FRAME), "h": (1, 1, _STATE), "c": (1, 1, _STATE)},
            samples=lambda: {"input": _sequences(seed=1), "h": _zeros(1, 1), "c": _zeros(1, 1)},
            axes={"input": 0},
            score=lambda run: _area([_sequence(run, frames) for frames in _frames(seed=0)[0]]),
            measure="AUC",
            expected=0.99,
        ),
        Real(
            name="silero op15",
            wheel=SILERO,
            file=_OP15,
            input_shapes={"input": (1, _CONTEXT + _FRAME), "state": (2, 1, _STATE), "sr": ()},
            samples=_remembering,
            axes={"input": 0, "state": 1},
            score=lambda run: _area(_steps(run, _frames(seed=0)[0])),
            measure="AUC",
            expected=0.99,
        ),
    )


def _sequences(seed: int) -> Array:
    """Two sequences from each recording, one after the other: first the first ones of all, then the second ones."""
    frames = _frames(seed)[0]
    return np.concatenate([one[at : at + _SAMPLES] for at in (0, _SAMPLES) for one in frames])


def _sequence(run: Run, frames: Array) -> Array:
    """How sure the model is of speech in every frame of a recording."""
    return run({"input": frames, "h": _zeros(1, 1), "c": _zeros(1, 1)})["speech_probs"]


def _steps(run: Run, frames: Array) -> Array:
    """The same frame by frame, for all recordings at once: shape `(recordings, frames)`."""
    return np.stack([results["output"][:, 0] for _, results in _passed(run, frames)], axis=1)


def _passed(run: Run, frames: Array) -> Iterator[tuple[Feed, Feed]]:
    """What the model gets and gives, frame by frame."""
    state = _zeros(2, len(frames))
    for frame in frames.transpose(1, 0, 2):
        feed = {"input": frame, "state": state, "sr": np.array(RATE)}
        results = run(feed)
        state = results["stateN"]
        yield feed, results


def _remembering() -> Feed:
    """Frames from all over some recordings, with what the original remembers when it gets there."""
    feeds = [feed for feed, _ in _passed(runner(SILERO.file(_OP15)), _frames(seed=1)[0])][::_EVERY]
    rows = {"input": 0, "state": 1}
    stacked = {name: np.concatenate([feed[name] for feed in feeds], axis=axis) for name, axis in rows.items()}
    return {**stacked, "sr": np.array(RATE)}


def _zeros(layers: int, rows: int) -> Array:
    """What the model remembers at the beginning."""
    return np.zeros((layers, rows, _STATE), dtype=np.float32)


def _area(found: Array | list[Array]) -> float:
    """How often a frame with speech gets more than one without (area under the curve, Mann-Whitney)."""
    speaking = _frames(seed=0)[1].ravel()
    ranks = rankdata(np.ravel(found))
    with_speech = int(speaking.sum())
    above = ranks[speaking].sum() - with_speech * (with_speech + 1) / 2
    return float(above / (with_speech * (len(speaking) - with_speech)))


@cache
def _frames(seed: int) -> tuple[Array, Array]:
    """Frames with what comes before them, shape `(recordings, frames, 576)`, and in which somebody speaks."""
    rng = np.random.default_rng(seed)
    recordings = [recording(rng, _SECONDS, decibels) for decibels in _DECIBELS]
    count = len(recordings[0].sound) // _FRAME
    padded = [np.pad(one.sound, (_CONTEXT, 0)).astype(np.float32) for one in recordings]
    frames = [sliding_window_view(sound, _CONTEXT + _FRAME)[::_FRAME][:count] for sound in padded]
    speaking = [one.speaking[: count * _FRAME].reshape(count, _FRAME).mean(axis=1) > _MOSTLY for one in recordings]
    return np.stack(frames), np.stack(speaking)
