"""The captcha reader and the letter detector of ddddocr, on rendered captchas and scattered letters.

Source: ddddocr 1.6.1, `core/ocr_engine.py`, `core/detection_engine.py`.
"""

from __future__ import annotations

import ast
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from tests.benchmarks.measures.boxes import apart, found
from tests.benchmarks.measures.real import Real
from tests.benchmarks.measures.rendering import CAPTCHA, captcha, scattered
from tests.benchmarks.measures.transcripts import character_accuracy, decoded
from tests.benchmarks.measures.wheels import Wheel

if TYPE_CHECKING:
    from tests.benchmarks.measures.boxes import Boxes
    from tests.benchmarks.measures.real import Array, Run
    from tests.benchmarks.measures.rendering import Page, Pixels

DDDDOCR = Wheel("ddddocr", "1.6.1", "ddddocr")
_LETTERS = 5  # of a captcha
_SIDE = 416  # pixels of a canvas
_SIZES = (40, 60)  # of the letters on it, pixels; larger ones the detector overlooks: F1 0.68 for 60 to 90
_STRIDES = (8, 16, 32)  # pixels per cell of the detector's three heads
_CERTAIN, _OVERLAP = 0.1, 0.45  # detector: least score of a box, largest overlap of two


def models() -> tuple[Real, ...]:
    """Reader, detector."""
    return (
        Real(
            name="ddddocr common",
            wheel=DDDDOCR,
            file="common.onnx",
            input_shapes={"input1": (1, 1, 64, 160)},
            samples=lambda: {"input1": np.stack([_grey(pixels) for pixels, _ in _captchas(seed=1, count=64)])},
            score=_reading,
            measure="character accuracy",
            expected=0.99,
            rows=1,
        ),
        Real(
            name="ddddocr common_det",
            wheel=DDDDOCR,
            file="common_det.onnx",
            input_shapes={"images": (1, 3, _SIDE, _SIDE)},
            samples=lambda: {"images": np.stack([_colours(one.pixels) for one in _canvases(seed=1, count=16)])},
            score=_detection,
            measure="F1 at IoU 0.5",
            expected=0.97,
            rows=1,
        ),
    )


def _reading(run: Run) -> float:
    """Which part of the letters of some captchas is read."""
    pairs = []
    for pixels, text in _captchas(seed=0, count=64):
        (scores,) = run({"input1": _grey(pixels)[None]}).values()
        pairs.append((text, decoded(scores[:, 0], _alphabet())))
    return character_accuracy(pairs)


def _detection(run: Run) -> float:
    """The harmonic mean of which part of the letters is found and which part of the boxes is a letter."""
    hits = boxes = 0
    for one in _canvases(seed=0, count=32):
        (rows,) = run({"images": _colours(one.pixels)[None]}).values()
        guessed = _boxes(rows[0].astype(np.float64))
        hits += found(one.boxes, guessed)
        boxes += len(one.boxes) + len(guessed)
    return 2 * hits / boxes


def _boxes(rows: Array) -> Boxes:
    """What the detector means (YOLOX): centres relative to cells, logarithms of sizes in cells, two scores."""
    cells, strides = _cells()
    centres = (rows[:, :2] + cells) * strides
    halves = np.exp(rows[:, 2:4]) * strides / 2
    scores = rows[:, 4] * rows[:, 5]
    certain = scores > _CERTAIN
    boxes = np.concatenate([centres - halves, centres + halves], axis=1)[certain]
    return apart(np.clip(boxes, 0, _SIDE), scores[certain], _OVERLAP)


@cache
def _cells() -> tuple[Array, Array]:
    """Column and row of the cell of every box, and the size of the cell."""
    sides = [_SIDE // stride for stride in _STRIDES]
    cells = [np.stack(np.meshgrid(range(side), range(side)), axis=2).reshape(-1, 2) for side in sides]
    strides = [np.full((side * side, 1), stride) for side, stride in zip(sides, _STRIDES, strict=True)]
    return np.concatenate(cells), np.concatenate(strides)


@cache
def _alphabet() -> list[str]:
    """The symbols of the reader: a list in a module of the package that is read, not run."""
    module = ast.parse(DDDDOCR.file("charsets.py").read_text(encoding="utf-8"))
    lists = {ast.unparse(node.targets[0]): node.value for node in module.body if isinstance(node, ast.Assign)}
    return [str(symbol) for symbol in ast.literal_eval(lists["CHARSET_BETA"])]


@cache
def _captchas(seed: int, count: int) -> tuple[tuple[Pixels, str], ...]:
    rng = np.random.default_rng(seed)
    texts = ["".join(rng.choice(list(CAPTCHA), _LETTERS)) for _ in range(count)]
    return tuple((captcha(text, rng), text) for text in texts)


@cache
def _canvases(seed: int, count: int) -> tuple[Page, ...]:
    rng = np.random.default_rng(seed)
    return tuple(scattered(rng, _SIDE, int(rng.integers(4, 8)), _SIZES) for _ in range(count))


def _grey(pixels: Pixels) -> Array:
    """One channel, from 0 to 1."""
    return (pixels[None] / 255).astype(np.float32)


def _colours(pixels: Pixels) -> Array:
    """Channels first, blue before red, from 0 to 255."""
    return pixels[:, :, ::-1].transpose(2, 0, 1).astype(np.float32)
