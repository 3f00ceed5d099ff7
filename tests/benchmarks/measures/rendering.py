"""Pictures of text: lines, pages, captchas, scattered letters; the same for the same seed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from tests.benchmarks.measures.wheels import Wheel

Pixels = NDArray[np.uint8]
_FONTS = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSerif", "DejaVuSansMono")
_MATPLOTLIB = Wheel("matplotlib", "", "matplotlib")
_TEXT = (
    "about after again began below carry clear court doubt early eight every field final first forty front given"
    " great green happy heard heavy house human known large later light limit major money month mouth never night"
    " north often other paper party peace point power press price quiet reach ready right river round scene seven"
    " short small sound south space spent stand start state still stood store story study sugar table taken terms"
    " there thing third today touch trade truth under until voice waste water wheel where white whole woman world"
)
_WORDS = _TEXT.split()
#: Letters that nobody takes for another one, whatever the font and the size.
CAPTCHA = "abdefghkmnpqrtwy2345678"
SCATTERED = "ABDEFGHKMNPQRTWXY345678"


@dataclass(frozen=True, eq=False)
class Page:
    """A picture and what is on it.

    Attributes:
        pixels: shape `(height, width, 3)`.
        boxes: left, top, right, bottom of everything, a row each.
    """

    pixels: Pixels
    boxes: NDArray[np.float64]


def phrase(rng: np.random.Generator) -> str:
    """Three words and a number."""
    words = [str(word) for word in rng.choice(_WORDS, 3)]
    return " ".join([words[0].capitalize(), *words[1:], str(rng.integers(10, 9999))])


def line(text: str, rng: np.random.Generator, height: int = 48) -> Pixels:
    """A line of dark text on light ground, shape `(height, width, 3)`."""
    font = _font(str(rng.choice(_FONTS)), round(height * rng.uniform(0.55, 0.65)))
    left, top, right, bottom = font.getbbox(text)
    image = Image.new("RGB", (round(right - left) + height // 2, height), _shade(rng, 215, 256))
    place = (height / 4 - left, (height - bottom - top) / 2)
    ImageDraw.Draw(image).text(place, text, font=font, fill=_shade(rng, 0, 80))
    return _noisy(image, rng, 4)


def page(rng: np.random.Generator, side: int, lines: int) -> Page:
    """A square page with lines of different sizes below each other."""
    image = Image.new("RGB", (side, side), _shade(rng, 215, 256))
    draw = ImageDraw.Draw(image)
    pitch = side / lines
    boxes = []
    for row in range(lines):
        font, text = _font(str(rng.choice(_FONTS)), round(pitch * rng.uniform(0.3, 0.42))), phrase(rng)
        x = rng.uniform(8, max(9, side - font.getlength(text) - 8))
        place = (x, pitch * (row + rng.uniform(0.2, 0.4)))
        draw.text(place, text, font=font, fill=_shade(rng, 0, 80))
        boxes.append(draw.textbbox(place, text, font=font))
    return Page(_noisy(image, rng, 4), np.array(boxes, dtype=np.float64))


def captcha(text: str, rng: np.random.Generator, height: int = 64) -> Pixels:
    """Turned letters crossed by lines, in grey, shape `(height, width)`; the width depends on the number of letters."""
    pitch = round(height * 0.62)
    width = pitch * len(text) + height // 4
    ground, ink = int(rng.integers(210, 256)), int(rng.integers(0, 80))
    image = Image.new("L", (width, height), ground)
    for place, letter in enumerate(text):
        mask = _letter(letter, round(height * rng.uniform(0.6, 0.75)), rng.uniform(-15, 15), rng)
        x = height // 8 + pitch * place + (pitch - mask.width) // 2
        y = (height - mask.height) // 2 + int(rng.integers(-4, 5))
        image.paste(ink, (x, y), mask)
    draw = ImageDraw.Draw(image)
    for _ in range(2):
        ends = [(0, int(rng.integers(height))), (width, int(rng.integers(height)))]
        draw.line(ends, fill=(ground + ink) // 2, width=1)
    return _noisy(image, rng, 8)


def scattered(rng: np.random.Generator, side: int, letters: int, sizes: tuple[int, int]) -> Page:
    """Turned letters of several colours and font sizes, apart from each other, on a colourful ground."""
    coarse = rng.integers(120, 256, (8, 8, 3)).astype(np.uint8)
    image = Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)
    boxes: list[tuple[int, int, int, int]] = []
    while len(boxes) < letters:
        mask = _letter(str(rng.choice(list(SCATTERED))), int(rng.integers(*sizes)), rng.uniform(-30, 30), rng)
        x, y = (int(rng.integers(4, side - size - 4)) for size in mask.size)
        box = (x, y, x + mask.width, y + mask.height)
        if all(box[0] > b[2] or b[0] > box[2] or box[1] > b[3] or b[1] > box[3] for b in boxes):
            image.paste(_shade(rng, 0, 110), (x, y), mask)
            boxes.append(box)
    return Page(_noisy(image, rng, 6), np.array(boxes, dtype=np.float64))


def _letter(letter: str, size: int, degrees: float, rng: np.random.Generator) -> Image.Image:
    """The mask of a letter, no larger than the letter is."""
    font = _font(str(rng.choice(_FONTS)), size)
    mask = Image.new("L", (2 * size, 2 * size))
    ImageDraw.Draw(mask).text((size, size), letter, font=font, fill=255, anchor="mm")
    turned = mask.rotate(degrees, Image.Resampling.BICUBIC)
    return turned.crop(turned.getbbox())


def _noisy(image: Image.Image, rng: np.random.Generator, deviation: float) -> Pixels:
    pixels = np.asarray(image, dtype=np.float64)
    return np.clip(pixels + rng.normal(0, deviation, pixels.shape), 0, 255).astype(np.uint8)


def _shade(rng: np.random.Generator, low: int, high: int) -> tuple[int, int, int]:
    red, green, blue = (int(level) for level in rng.integers(low, high, 3))
    return red, green, blue


@cache
def _font(name: str, size: int) -> ImageFont.FreeTypeFont:
    path = _MATPLOTLIB.file(f"mpl-data/fonts/ttf/{name}.ttf")
    # The layout engine that is part of every Pillow: the other one is a library of the system.
    return ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)
