"""The text detector, recogniser and line turner of RapidOCR, on rendered text.

Source: rapidocr 3.10.0, `ch_ppocr_det/utils.py`, `ch_ppocr_rec/main.py`, `ch_ppocr_cls/main.py`; boxes
are upright here.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import onnx
from PIL import Image
from scipy import ndimage

from tests.benchmarks.measures.boxes import found
from tests.benchmarks.measures.real import Real
from tests.benchmarks.measures.rendering import line, page, phrase
from tests.benchmarks.measures.transcripts import character_accuracy, decoded
from tests.benchmarks.measures.wheels import Wheel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.benchmarks.measures.boxes import Boxes
    from tests.benchmarks.measures.real import Array, Feed, Run
    from tests.benchmarks.measures.rendering import Page, Pixels

RAPIDOCR = Wheel("rapidocr", "3.10.0", "rapidocr")
_DETECTOR = "models/PP-OCRv6_det_small.onnx"
_RECOGNISER = "models/PP-OCRv6_rec_small.onnx"
_TURNER = "models/ch_ppocr_mobile_v2.0_cls_mobile.onnx"
_SIDE, _PAGES, _LINES = 640, 6, 9  # of a page: pixels; how many; lines on each
_SMALL_SIDE, _SMALL_LINES = 320, 5  # likewise, to calibrate with: all activations have to be in memory
_HEIGHT, _WIDTH = 48, 640  # of a line that is recognised
_TURNED = (48, 192)  # height and width of a line that may be upside down
_BATCH = 8
_INK, _BOX, _UNCLIP = 0.3, 0.5, 1.6  # detector: threshold of a pixel, of a box's mean, growth of a box
_SMALLEST = 3  # pixels, of a side


def models() -> tuple[Real, ...]:
    """Detector, recogniser, line turner."""
    return (
        Real(
            name="rapidocr det",
            wheel=RAPIDOCR,
            file=_DETECTOR,
            input_shapes={"x": (1, 3, _SIDE, _SIDE)},
            samples=lambda: {"x": np.stack([_normal(one.pixels) for one in _pages(1, 8, _SMALL_SIDE, _SMALL_LINES)])},
            score=_recall,
            measure="box recall",
            expected=1.0,
        ),
        Real(
            name="rapidocr rec",
            wheel=RAPIDOCR,
            file=_RECOGNISER,
            input_shapes={"x": (1, 3, _HEIGHT, 320)},
            samples=lambda: {"x": _padded([pixels for pixels, _ in _lines(seed=1, count=48)], _WIDTH)},
            score=_reading,
            measure="character accuracy",
            expected=1.0,
        ),
        Real(
            name="rapidocr cls",
            wheel=RAPIDOCR,
            file=_TURNER,
            input_shapes={"x": (1, 3, *_TURNED)},
            samples=lambda: _turned(seed=1, count=64)[0],
            score=_turning,
            measure="upright or rotated",
            expected=1.0,
        ),
    )


def _recall(run: Run) -> float:
    """Which part of the lines of some pages is found."""
    hits = lines = 0
    for one in _pages(0, _PAGES, _SIDE, _LINES):
        (probability,) = run({"x": _normal(one.pixels)[None]}).values()
        hits += found(one.boxes, _boxes(probability[0, 0]))
        lines += len(one.boxes)
    return hits / lines


def _boxes(probability: Array) -> Boxes:
    """Upright boxes around the spots of text, grown by as much as the detector was trained to shrink them."""
    spots, _ = ndimage.label(probability > _INK)
    boxes = []
    for rows, columns in ndimage.find_objects(spots):
        height, width = rows.stop - rows.start, columns.stop - columns.start
        if min(height, width) < _SMALLEST or probability[rows, columns].mean() < _BOX:
            continue
        grown = height * width * _UNCLIP / (2 * (height + width))
        boxes.append((columns.start - grown, rows.start - grown, columns.stop + grown, rows.stop + grown))
    return np.array(boxes, dtype=np.float64).reshape(-1, 4)


def _reading(run: Run) -> float:
    """Which part of the characters of some lines is read."""
    # The alphabet is in the metadata; the class before it is the blank, the one after it the space.
    alphabet = ["", *_alphabet(), " "]
    lines, pairs = _lines(seed=0, count=32), []
    for start in range(0, len(lines), _BATCH):
        batch = lines[start : start + _BATCH]
        (scores,) = run({"x": _padded([pixels for pixels, _ in batch], _WIDTH)}).values()
        pairs += [(text, decoded(row, alphabet)) for (_, text), row in zip(batch, scores, strict=True)]
    return character_accuracy(pairs)


def _turning(run: Run) -> float:
    """Which part of some lines, half of them upside down, is told to be what it is."""
    feed, upside_down = _turned(seed=0, count=64)
    (scores,) = run(feed).values()
    return float(np.mean(scores.argmax(axis=1) == upside_down))


@cache
def _alphabet() -> tuple[str, ...]:
    metadata = onnx.load(RAPIDOCR.file(_RECOGNISER)).metadata_props
    return tuple(next(entry.value for entry in metadata if entry.key == "character").split("\n"))


@cache
def _pages(seed: int, count: int, side: int, lines: int) -> tuple[Page, ...]:
    rng = np.random.default_rng(seed)
    return tuple(page(rng, side, lines) for _ in range(count))


@cache
def _lines(seed: int, count: int) -> tuple[tuple[Pixels, str], ...]:
    rng = np.random.default_rng(seed)
    texts = [phrase(rng) for _ in range(count)]
    return tuple((line(text, rng, _HEIGHT), text) for text in texts)


@cache
def _turned(seed: int, count: int) -> tuple[Feed, Array]:
    """Lines of which every other one is upside down, and which."""
    upside_down = np.arange(count) % 2
    pairs = zip(_lines(seed, count), upside_down, strict=True)
    pictures = [np.rot90(pixels, 2) if turned else pixels for (pixels, _), turned in pairs]
    return {"x": _padded(pictures, _TURNED[1])}, upside_down


def _padded(pictures: Sequence[Pixels], width: int) -> Array:
    """Lines as the models take them, squeezed into a width or filled up with zeros."""
    batch = np.zeros((len(pictures), 3, _HEIGHT, width), dtype=np.float32)
    for place, pixels in zip(batch, pictures, strict=True):
        fitting = Image.fromarray(pixels).resize((min(width, pixels.shape[1]), _HEIGHT), Image.Resampling.BILINEAR)
        place[:, :, : fitting.width] = _normal(np.asarray(fitting))
    return batch


def _normal(pixels: Pixels) -> Array:
    """Channels first, from -1 to 1."""
    return (pixels.transpose(2, 0, 1) / 127.5 - 1).astype(np.float32)
