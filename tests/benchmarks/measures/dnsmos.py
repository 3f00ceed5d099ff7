"""The judge of speech quality of speechmos (DNSMOS), on speech with more or less noise.

Nobody has listened to these recordings: what counts is how far a model is from the original.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from tests.benchmarks.measures.real import Real, runner
from tests.benchmarks.measures.speech import RATE, recording
from tests.benchmarks.measures.wheels import Wheel

if TYPE_CHECKING:
    from tests.benchmarks.measures.real import Array, Feed, Run

SPEECHMOS = Wheel("speechmos", "0.0.1.1", "speechmos")
_FILE = "dnsmos_models/sig_bak_ovr.onnx"
_SECONDS = 9.01  # the model knows no other length
_DECIBELS = (-5.0, 0.0, 5.0, 10.0, 15.0, 20.0, 30.0, 45.0)  # how much louder speech is than noise, a recording each
_BATCH = 2  # recordings; more take much memory and are no faster
_EVERY = 2  # to calibrate with: the activations of one take 350 MB


def models() -> tuple[Real, ...]:
    """The model for signal, background and overall quality."""
    return (
        Real(
            name="speechmos",
            wheel=SPEECHMOS,
            file=_FILE,
            input_shapes={"input_1": (1, round(_SECONDS * RATE))},
            samples=lambda: {"input_1": _recordings(seed=1)[::_EVERY]},
            score=lambda run: 0.0 - float(np.abs(_scores(run) - _original()).mean()),
            measure="- distance to the original's scores",
            expected=0.0,
        ),
    )


def _scores(run: Run) -> Array:
    """The three scores of all recordings, before they are mapped to the scale of listeners."""
    given = _recordings(seed=0)
    feeds: list[Feed] = [{"input_1": given[at : at + _BATCH]} for at in range(0, len(given), _BATCH)]
    return np.concatenate([scores for feed in feeds for scores in run(feed).values()])


@cache
def _original() -> Array:
    return _scores(runner(SPEECHMOS.file(_FILE)))


@cache
def _recordings(seed: int) -> Array:
    rng = np.random.default_rng(seed)
    sounds = [recording(rng, _SECONDS, decibels).sound for decibels in _DECIBELS]
    return np.stack(sounds).astype(np.float32)
