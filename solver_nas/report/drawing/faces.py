"""How a box looks: its texts, its size and its colours."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from solver_nas.groups import ALWAYS
from solver_nas.report.drawing.text import advance, shortened, tag, wrapped
from solver_nas.report.printable import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from solver_nas.groups import Shares
    from solver_nas.report.drawing.boxes import Box
    from solver_nas.report.drawing.places import Point, Size

#: Light colours for black text that everybody can tell apart.
#: Source: Paul Tol, "Colour schemes", SRON/EPS/TN/09-002, issue 3.2, scheme "light", without olive,
#: which is too near to pear, the last one.
COLOURS = ("#77aadd", "#ee8866", "#eedd88", "#ffaabb", "#99ddff", "#44bb99", "#bbcc33")
#: Dark colours for long connections. Source: as above, from "vibrant" and "dark", and two more.
LANES = ("#0077bb", "#cc3311", "#225522", "#882288", "#666600", "#222255")
GREY, INK = "#dddddd", "#111111"
LINE = 14.0  # pixels from one line of text to the next
_NAME, _KINDS, _LINES = 26, 24, 2  # characters of a name, of a line of kinds; lines of kinds
_PAD, _NARROWEST = 9.0, 92.0  # pixels
_NUMBERS = 2  # groups that are named in a box
_LOCK = 13.0  # pixels that the lock takes
#: Says nothing about what is computed, and some exporters put it behind everything.
_SILENT = "Identity"


@dataclass(frozen=True, slots=True)
class Face:
    """The texts of a box.

    Args:
        name: of its first vertex, shortened.
        kinds: what it computes, in lines.
        width: how many neurons it has, and will have.
        groups: the numbers of its groups.
        size: width and height in pixels.
    """

    name: str
    kinds: tuple[str, ...]
    width: str
    groups: str
    size: Size


def face(box: Box) -> Face:
    """What a box says."""
    name = shortened(printable(box.vertices[0][0]), _NAME)
    kinds = [kind for place, (_, kind) in enumerate(box.vertices) if not place or kind != _SILENT]
    lines = wrapped([shortened(printable(kind), _KINDS) for kind in kinds], _KINDS, _LINES, " + ")
    width, groups = _width(box), _groups(box.shares)
    widest = max(
        advance(name) * 1.08 + (_LOCK if box.pinned else 0.0),  # bold letters are wider
        *(advance(line) for line in lines),
        advance(width) * 1.08 + advance(groups) + 26,
    )
    rows = 1 + len(lines) + bool(width or groups)
    return Face(name, tuple(lines), width, groups, (max(_NARROWEST, widest + 2 * _PAD), LINE * rows + 10))


def _width(box: Box) -> str:
    resize = box.resize
    if resize is not None and resize.changed:
        return f"{resize.before} \N{RIGHTWARDS ARROW} {resize.after}"
    return str(box.neurons) if box.neurons else ""


def _groups(shares: Shares) -> str:
    numbers = [f"#{group}" for group, _ in shares if group != ALWAYS]
    more = [f"+{len(numbers) - _NUMBERS}"] if len(numbers) > _NUMBERS else []
    return " ".join([*numbers[:_NUMBERS], *more])


def told(box: Box) -> str:
    """Everything about a box, in lines of text."""
    (name, kind), *folded = [(printable(name), printable(kind)) for name, kind in box.vertices]
    lines = [name, kind, f"shape ({', '.join('?' if size is None else str(size) for size in box.shape)})"]
    lines += [
        f"{neurons} neurons are always kept" if group == ALWAYS else f"{neurons} neurons in group #{group}"
        for group, neurons in box.shares
    ] or ["no axis that could change its size"]
    if box.resize is not None:
        before, after, kept = box.resize
        lines.append(f"planned: {before} neurons become {after}, {kept} kept and {after - kept} new")
    lines += [f"pinned: {printable(reason)}" for reason in box.pinned]
    if folded:
        lines += ["and behind it, neuron by neuron:", *(f"  {kind}  {name}" for name, kind in folded)]
    return "\n".join(lines)


def fill(shares: Shares, colours: Mapping[int, int], key: str) -> tuple[str, str]:
    """The fill of a box, and the definition that it needs; several groups stand side by side.

    Args:
        shares: its groups.
        colours: group -> colour.
        key: names the definition.
    """
    parts = [(GREY if group == ALWAYS else COLOURS[colours[group]], neurons) for group, neurons in shares]
    if len({colour for colour, _ in parts}) < 2 and len(parts) < 2:
        return (parts[0][0] if parts else GREY), ""
    total, before, stops = sum(neurons for _, neurons in parts), 0, list[str]()
    for colour, neurons in parts:
        edges = (before / total, (before + neurons) / total)
        stops += [tag("stop", offset=f"{edge:.4f}", stop_color=colour) for edge in edges]
        before += neurons
    return f"url(#{key})", tag("linearGradient", *stops, id=key)


def drawn(box: Box, look: Face, centre: Point, paint: str) -> str:
    """A box with its texts.

    Args:
        box: what it stands for.
        look: its texts.
        centre: its middle.
        paint: its fill.
    """
    (width, height), (middle, y) = look.size, centre
    top, right = y - height / 2, middle + width / 2
    frame = {"x": middle - width / 2, "y": top, "width": width, "height": height}
    frame["rx"] = height / 2 if box.terminal else 5.0
    changed = box.resize is not None and box.resize.changed
    parts = [tag("rect", fill=paint, class_="changed" if changed else "frame", **frame)]
    if box.pinned:
        parts += [tag("rect", class_="pin", **frame), lock(right - _PAD - 4, top + 11)]
    line = top + LINE + 2
    parts.append(tag("text", escape(look.name), x=middle, y=line, class_="name"))
    for kinds in look.kinds:
        line += LINE
        parts.append(tag("text", escape(kinds), x=middle, y=line))
    return "".join([*parts, _sizes(look, middle, line + LINE, changed=changed)])


def _sizes(look: Face, middle: float, y: float, *, changed: bool) -> str:
    """The last line: how many neurons, and in which groups."""
    if not look.width and not look.groups:
        return ""
    wide, gap = advance(look.width) * 1.08, 14.0 if look.groups else 0.0
    left = middle - (wide + gap + advance(look.groups)) / 2
    pill = tag("rect", x=left - 5, y=y - 10.5, width=wide + 10, height=13.5, rx=6.75, class_="pill") if changed else ""
    count = tag("text", escape(look.width), x=left + wide / 2, y=y, class_="new" if changed else "count")
    groups = tag("text", look.groups, x=left + wide + gap + advance(look.groups) / 2, y=y, class_="group")
    return pill + count + (groups if look.groups else "")


def lock(x: float, y: float) -> str:
    """A padlock about ten pixels high around a point."""
    bow = tag("path", d=f"M{x - 2.6:.1f},{y:.1f}v-2.4a2.6,2.6 0 0 1 5.2,0v2.4", class_="bow")
    return bow + tag("rect", x=x - 4, y=y - 0.5, width=8.0, height=6.0, rx=1.0, fill=INK)
