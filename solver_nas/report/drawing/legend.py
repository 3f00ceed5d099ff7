"""What the signs of a picture mean, for those that occur in it."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from solver_nas.groups import ALWAYS
from solver_nas.report.drawing.faces import COLOURS, GREY, LANES, lock
from solver_nas.report.drawing.text import advance, number, tag

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from solver_nas.report.drawing.boxes import Box

_SIGN, _HIGH = 44.0, 18.0  # pixels, size of a sign
_FIRST = ALWAYS + 1
_ROW, _GAP = 26.0, 26.0  # pixels from row to row, and between entries


def legend(boxes: Sequence[Box], width: float, *, planned: bool, long: bool) -> tuple[str, float]:
    """The signs with their meanings, row by row, and how high they are.

    Args:
        boxes: what is drawn.
        width: how wide a row may be.
        planned: whether there is a plan.
        long: whether some connections are drawn as long ones.
    """
    x, y = 0.0, 0.0
    parts = []
    for sign, note in _entries(boxes, planned=planned, long=long):
        wide = _SIGN + 8 + advance(note)
        if x and x + wide > width:
            x, y = 0.0, y + _ROW
        text = tag("text", escape(note), x=_SIGN + 8, y=13.0, class_="note")
        parts.append(tag("g", sign, text, transform=f"translate({number(x)},{number(y)})"))
        x += wide + _GAP
    return "".join(parts), y + _ROW


def _entries(boxes: Sequence[Box], *, planned: bool, long: bool) -> Iterator[tuple[str, str]]:
    yield from _colours(boxes)
    if any(box.terminal for box in boxes):
        yield _sign("#ffffff", rx=_HIGH / 2), "input or output"
    if any(box.pinned for box in boxes):
        frame = {"x": 2.0, "y": 2.0, "width": _SIGN - 4, "height": _HIGH - 4, "rx": 4.0}
        pin = tag("rect", fill=GREY, **frame) + tag("rect", class_="pin", **frame)
        yield pin + lock(_SIGN / 2, 8.5), "pinned: it and what it reads stay as they are (why: point at it)"
    if planned:
        pill = tag("rect", x=0.0, y=2.0, width=_SIGN, height=14.0, rx=7.0, class_="pill")
        yield pill + _example("9 \N{RIGHTWARDS ARROW} 6", "new"), "neurons before and after the plan"
    vertices = sum(len(box.vertices) for box in boxes)
    if vertices > len(boxes):
        note = f"several vertices that leave the neurons as they are, in one box ({vertices} in {len(boxes)})"
        yield _sign("#ffffff") + _example("A + B"), note
    yield _line("#666666", "1.2"), "tensor"
    if long:
        yield _line(LANES[0], "1.8"), "tensor that goes a long way (colours only tell neighbours apart)"


def _colours(boxes: Sequence[Box]) -> Iterator[tuple[str, str]]:
    groups = [{group for group, _ in box.shares} - {ALWAYS} for box in boxes]
    # The first group has the first colour.
    neurons = next((often for box in boxes for group, often in box.shares if group == _FIRST), None)
    if neurons is not None:
        note = f"{neurons} neurons of group {_FIRST}: wherever that number and colour stand, they change together"
        yield _sign(COLOURS[0]) + _example(f"{neurons} #{_FIRST}"), note
    if any(len(found) > 1 for found in groups):
        half = tag("rect", x=_SIGN / 2, y=0.0, width=_SIGN / 2, height=_HIGH, fill=COLOURS[1])
        sign = _sign(COLOURS[0], stroke="none") + half + _sign("none")
        yield sign, "several groups side by side, as in a concatenation"
    if not all(groups):
        yield _sign(GREY), "nothing that could change"


def _example(text: str, kind: str = "count") -> str:
    return tag("text", escape(text), x=_SIGN / 2, y=13.0, class_=kind)


def _sign(fill: str, *, rx: float = 4.0, stroke: str = "#777") -> str:
    return tag("rect", x=0.0, y=0.0, width=_SIGN, height=_HIGH, rx=rx, fill=fill, stroke=stroke)


def _line(colour: str, width: str) -> str:
    line = tag("path", d=f"M2,9H{number(_SIGN - 8)}", stroke=colour, stroke_width=width, fill="none")
    return line + tag("path", d=f"M{number(_SIGN - 2)},9l-7,-3.5v7z", fill=colour)
