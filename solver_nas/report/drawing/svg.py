"""A picture of boxes and connections as SVG."""

from __future__ import annotations

from html import escape
from itertools import combinations, product
from typing import TYPE_CHECKING

from solver_nas.groups import ALWAYS
from solver_nas.report.drawing.colouring import coloured
from solver_nas.report.drawing.faces import COLOURS, INK, LANES, drawn, face, fill, told
from solver_nas.report.drawing.layers import layers
from solver_nas.report.drawing.legend import legend
from solver_nas.report.drawing.places import places
from solver_nas.report.drawing.routes import routes
from solver_nas.report.drawing.text import advance, number, tag
from solver_nas.report.printable import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from solver_nas.report.drawing.boxes import Box
    from solver_nas.report.drawing.layers import Layers
    from solver_nas.report.drawing.places import Places
    from solver_nas.report.drawing.routes import Route

_MARGIN = 24.0  # pixels around everything
_NARROWEST = 760.0  # pixels, so that the legend has room
_TITLE = 18.0  # pixels, size of its letters
_NEAR = 2  # rows: so near to each other, groups should not have the same colour
_LONG = 3  # rows: a connection that goes down so many is hard to follow among others
_STYLE = f"""
text{{font:11px 'DejaVu Sans',Verdana,Helvetica,Arial,sans-serif;fill:{INK};text-anchor:middle}}
.title{{font-size:18px;font-weight:bold;text-anchor:start}}
.name,.count,.new{{font-weight:bold}}
.new{{fill:#fff}}
.legend text.note{{text-anchor:start}}
.pill{{fill:{INK}}}
.frame{{stroke:#777;stroke-width:1}}
.changed{{stroke:{INK};stroke-width:2.5}}
.pin{{fill:none;stroke:{INK};stroke-width:4;stroke-dasharray:2.5 3}}
.bow{{fill:none;stroke:{INK};stroke-width:1.6}}
.halo{{fill:none;stroke:#fff;stroke-width:4.5}}
.edge{{fill:none;stroke:#666;stroke-width:1.2}}
.head{{fill:#666}}
"""


def svg(boxes: Sequence[Box], *, title: str, planned: bool) -> str:
    """The picture, with a title and an explanation of what its signs mean.

    Args:
        boxes: producers first.
        title: stands above; may be empty.
        planned: whether to explain how changes are shown.
    """
    sizes = [face(box).size for box in boxes]
    made = layers([box.inputs for box in boxes])
    where = places(made, sizes)
    ways = routes(made, where, sizes)
    width = max(where.size[0], _NARROWEST, advance(printable(title), _TITLE * 1.1))
    below = _TITLE + 16 if title else 0.0
    key, high = legend(boxes, width, planned=planned, long=any(way.rows >= _LONG for way in ways))
    shown, definitions = _boxes(boxes, made, where)
    aside, top = max(0.0, (width - where.size[0]) / 2), below + high + 20
    body = [
        tag("text", escape(printable(title)), x=0.0, y=_TITLE, class_="title") if title else "",
        tag("g", key, class_="legend", transform=f"translate(0,{number(below)})"),
        tag("g", *_edges(ways), *shown, transform=f"translate({number(aside)},{number(top)})"),
    ]
    view = (-_MARGIN, -_MARGIN, width + 2 * _MARGIN, top + where.size[1] + 2 * _MARGIN)
    return _page(view, definitions, body, title)


def _page(view: tuple[float, float, float, float], definitions: str, body: Sequence[str], title: str) -> str:
    x, y, width, height = view
    return tag(
        "svg",
        tag("title", escape(printable(title) or "network")),
        tag("style", _STYLE),
        tag("defs", definitions or " "),
        tag("rect", x=x, y=y, width=width, height=height, fill="#ffffff"),
        *body,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=" ".join(map(number, view)),
        width=width,
        height=height,
    )


def _pairs(boxes: Sequence[Box], made: Layers) -> dict[tuple[int, int], int]:
    """Boxes whose groups should look different: connected ones first of all, and those in rows near each other."""
    rows = [[node for node in row if node < made.boxes] for row in made.rows]
    found: dict[tuple[int, int], int] = {}
    for place, row in enumerate(rows):
        below = [node for near in rows[place + 1 : place + _NEAR + 1] for node in near]
        found.update(dict.fromkeys(combinations(row, 2), 1))
        found.update(dict.fromkeys(product(row, below), 1))
    # Outweighs any number of boxes that are merely near.
    found.update({(source, target): len(boxes) for target, box in enumerate(boxes) for source in box.inputs})
    return found


def _boxes(boxes: Sequence[Box], made: Layers, where: Places) -> tuple[list[str], str]:
    """All boxes, and what is defined for them."""
    colours = coloured([box.shares for box in boxes], _pairs(boxes, made), len(COLOURS))
    found, definitions = [], []
    for place, box in enumerate(boxes):
        paint, definition = fill(box.shares, colours, f"fill{place}")
        definitions.append(definition)
        found.append(
            tag(
                "g",
                tag("title", escape(told(box))),
                drawn(box, face(box), where.centres[place], paint),
                class_="box",
                id=f"box{place}",
                data_names="\n".join(printable(name) for name, _ in box.vertices),
                data_groups=" ".join(str(group) for group, _ in box.shares if group != ALWAYS),
            )
        )
    return found, "".join(definitions)


def _edges(found: Sequence[Route]) -> list[str]:
    """All connections; what leaves one box has one colour."""
    long = dict.fromkeys(route.source for route in found if route.rows >= _LONG)
    colours = {source: LANES[place % len(LANES)] for place, source in enumerate(long)}
    made = []
    for source in dict.fromkeys(route.source for route in found):
        ours = [route for route in found if route.source == source]
        made += [tag("path", d=route.path, class_="halo") for route in ours]
        made += [_edge(route, colours[source] if route.rows >= _LONG else "") for route in ours]
    return made


def _edge(route: Route, colour: str) -> str:
    x, y = route.tip
    tip = f"M{number(x)},{number(y)}l-3.5,-7h7z"
    line = {"stroke": colour, "stroke_width": "1.8"} if colour else {}
    return tag(
        "g",
        tag("path", d=route.path, class_="lane" if colour else "edge", fill="none", **line),
        tag("path", d=tip, class_="" if colour else "head", **({"fill": colour} if colour else {})),
        class_="wire",
        data_from=f"box{route.source}",
        data_to=f"box{route.target}",
    )
