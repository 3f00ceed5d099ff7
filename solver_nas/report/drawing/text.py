"""How texts of strangers become short, printable and as wide as they look."""

from __future__ import annotations

from html import escape
from unicodedata import east_asian_width

SIZE = 11.0  # of the letters, pixels
# Widths by height, rounded up from DejaVu Sans; Verdana is as wide, all others in use are narrower.
_THIN, _PLAIN, _CAPITAL, _BROAD, _DOUBLE = 0.36, 0.63, 0.72, 0.99, 1.2
_THIN_ONES = frozenset(" !'(),./:;I[]fijlt|-")
_BROAD_ONES = frozenset("%+<=>@MW_mw#~")
_ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"


def shortened(text: str, limit: int) -> str:
    """The beginning and the end of a text that is longer than `limit` characters.

    >>> shortened("model.layers.17.attention.weight", 15)
    'model.l….weight'
    """
    if len(text) <= limit:
        return text
    tail = (limit - 1) // 2
    return text[: limit - 1 - tail] + _ELLIPSIS + text[len(text) - tail :]


def advance(text: str, size: float = SIZE) -> float:
    """About how many pixels a text takes: which font a viewer has is not known."""
    return sum(map(_advance, text)) * size


def _advance(letter: str) -> float:
    if letter in _THIN_ONES:
        return _THIN
    if letter in _BROAD_ONES:
        return _BROAD
    if east_asian_width(letter) in "WF":
        return _DOUBLE
    return _CAPITAL if letter.isupper() else _PLAIN


def wrapped(words: list[str], limit: int, lines: int, joint: str) -> list[str]:
    """Words in at most so many lines of about `limit` characters; how many do not fit stands at the end.

    >>> wrapped(["Conv", "Add", "Relu", "Mul", "Add", "Erf"], 13, 2, " + ")
    ['Conv + Add +', 'Relu … 3 more']
    """
    made: list[str] = []
    for place, word in enumerate(words):
        last = place + 1 == len(words)
        room = limit if last or len(made) < lines else limit - len(f" {_ELLIPSIS} 99 more")
        if made and len(made[-1] + joint + word) <= room:
            made[-1] += joint + word
        elif len(made) < lines:
            made = [*(line if line.endswith(joint.rstrip()) else line + joint.rstrip() for line in made), word]
        else:
            made[-1] += f" {_ELLIPSIS} {len(words) - place} more"
            break
    return made


def tag(name: str, /, *children: str, **attributes: object) -> str:
    """An XML element; `children` are XML already, attributes are escaped, and `_` in their names stands for `-`."""
    said = "".join(f' {key.rstrip("_").replace("_", "-")}="{_value(value)}"' for key, value in attributes.items())
    return f"<{name}{said}>{''.join(children)}</{name}>" if children else f"<{name}{said}/>"


def number(value: float) -> str:
    """A coordinate, to a tenth of a pixel: the same on every machine."""
    return f"{round(value, 1) + 0.0:g}" if abs(value) < 1e5 else f"{value:.0f}"


def _value(value: object) -> str:
    # A plain line break in an attribute would be read as a blank.
    return number(value) if isinstance(value, float) else escape(str(value)).replace("\n", "&#10;")
