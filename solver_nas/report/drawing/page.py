"""A picture as a page for a browser: to be moved, enlarged and searched, without anything from elsewhere."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from html import escape

from solver_nas.report.drawing.text import tag
from solver_nas.report.printable import printable

_STYLE = """
html,body{margin:0;height:100%;overflow:hidden;background:#fff;font:13px 'DejaVu Sans',Verdana,Arial,sans-serif}
svg{width:100%;height:100%;display:block;cursor:grab;touch-action:none;user-select:none}
svg.dragged{cursor:grabbing}
form{position:fixed;right:12px;bottom:12px;padding:6px;background:#fff;border:1px solid #999;border-radius:6px}
input,button{font:inherit;padding:3px 7px}
input{width:15em}
output{display:inline-block;min-width:6em;padding:0 6px}
pre{position:fixed;left:12px;bottom:12px;margin:0;padding:8px 12px;max-width:45%;max-height:45%;overflow:hidden;
background:#fff;border:1px solid #999;border-radius:6px;white-space:pre-wrap;overflow-wrap:anywhere;font:inherit;
pointer-events:none}
pre:empty{display:none}
.box{cursor:pointer}
.box,.wire{transition:opacity .12s}
.focus .box:not(.on),.focus .wire:not(.on){opacity:.22}
.focus .box.on .frame{stroke:#111;stroke-width:2.5}
.box.hit .frame,.box.hit .changed{stroke:#cc0000;stroke-width:5}
"""

# It has to be XML as well, hence no ampersands and no signs for "less than"; names are read from the picture, as
# text, and shown as text.
_SCRIPT = """
'use strict';
const svg = document.querySelector('svg'), note = document.querySelector('pre');
const field = document.querySelector('input'), found = document.querySelector('output');
const boxes = [...document.querySelectorAll('.box')], wires = [...document.querySelectorAll('.wire')];
const whole = svg.getAttribute('viewBox').split(' ').map(Number);
let view = whole.slice(), size = 1, kept = null, drag = null, hits = [], turn = -1;
const told = new Map();
for (const box of boxes) {
  const title = box.querySelector('title');
  told.set(box, title.textContent);
  title.remove();
}
svg.removeAttribute('width');
svg.removeAttribute('height');
const scale = () => Math.min(svg.clientWidth / view[2], svg.clientHeight / view[3]);
const show = next => { view = next; size = scale(); svg.setAttribute('viewBox', view.join(' ')); };
const look = (x, y, size) => {
  const wide = svg.clientWidth / size, high = svg.clientHeight / size;
  show([x - wide / 2, y - high / 2, wide, high]);
};
const point = event => new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
const zoom = (x, y, factor) => {
  const size = Math.min(8, Math.max(0.02, scale() * factor)), real = size / scale();
  show([x - (x - view[0]) / real, y - (y - view[1]) / real, view[2] / real, view[3] / real]);
};
const middle = factor => zoom(view[0] + view[2] / 2, view[1] + view[3] / 2, factor);
const focus = box => {
  svg.classList.toggle('focus', box !== null);
  note.textContent = box === null ? '' : told.get(box);
  if (box === null) return;
  const groups = new Set(box.dataset.groups.split(' ').filter(Boolean));
  for (const other of boxes)
    other.classList.toggle('on', other === box ? true : other.dataset.groups.split(' ').some(one => groups.has(one)));
  for (const wire of wires) wire.classList.toggle('on', [wire.dataset.from, wire.dataset.to].includes(box.id));
};
const seek = () => {
  const text = field.value.trim().toLowerCase();
  hits = text ? boxes.filter(box => box.dataset.names.toLowerCase().includes(text)) : [];
  for (const box of boxes) box.classList.toggle('hit', hits.includes(box));
  turn = -1;
  found.textContent = text ? `${hits.length} found` : '';
};
const jump = () => {
  if (hits.length === 0) return;
  turn = (turn + 1) % hits.length;
  const rect = hits[turn].getBoundingClientRect();
  const at = point({clientX: rect.x + rect.width / 2, clientY: rect.y + rect.height / 2});
  look(at.x, at.y, Math.max(1, scale()));
  found.textContent = `${turn + 1} of ${hits.length}`;
};
svg.addEventListener('wheel', event => {
  event.preventDefault();
  const at = point(event);
  zoom(at.x, at.y, Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)));
}, {passive: false});
svg.addEventListener('pointerdown', event => {
  drag = {x: event.clientX, y: event.clientY, view: view.slice(), moved: false, box: event.target.closest('.box')};
  svg.setPointerCapture(event.pointerId);
});
svg.addEventListener('pointermove', event => {
  if (drag === null) return;
  const x = event.clientX - drag.x, y = event.clientY - drag.y;
  drag.moved = drag.moved ? true : Math.hypot(x, y) > 3;
  svg.classList.toggle('dragged', drag.moved);
  if (drag.moved) show([drag.view[0] - x / scale(), drag.view[1] - y / scale(), view[2], view[3]]);
});
svg.addEventListener('pointerup', () => {
  if (drag === null) return;
  if (!drag.moved) { kept = kept === drag.box ? null : drag.box; focus(kept); }
  svg.classList.remove('dragged');
  drag = null;
});
svg.addEventListener('pointercancel', () => { drag = null; });
for (const box of boxes) {
  box.addEventListener('pointerenter', () => { if (kept === null) focus(box); });
  box.addEventListener('pointerleave', () => { if (kept === null) focus(null); });
}
field.addEventListener('input', seek);
document.querySelector('form').addEventListener('submit', event => { event.preventDefault(); jump(); });
document.querySelector('#closer').addEventListener('click', () => middle(1.4));
document.querySelector('#further').addEventListener('click', () => middle(1 / 1.4));
document.querySelector('#whole').addEventListener('click', () => show(whole.slice()));
const corner = size => show([view[0], view[1], svg.clientWidth / size, svg.clientHeight / size]);
window.addEventListener('resize', () => corner(size));
show(whole.slice());
if (0.6 > size) corner(0.8);
"""


def page(picture: str, title: str) -> str:
    """A page around a picture; it is XML too.

    Args:
        picture: an `svg` element.
        title: of the window; may be empty.
    """
    script = b64encode(sha256(_SCRIPT.encode()).digest()).decode()
    # Whatever a name may contain: nothing is loaded, and no script runs but ours.
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{script}'"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name_="viewport", content="width=device-width"),
        tag("title", escape(printable(title) or "network")),
        tag("style", _STYLE),
    )
    body = tag("body", picture, _form(), tag("pre", ""), tag("script", _SCRIPT))
    return "<!DOCTYPE html>\n" + tag("html", head, body, xmlns="http://www.w3.org/1999/xhtml", lang="en") + "\n"


def _form() -> str:
    return tag(
        "form",
        tag("input", type="search", placeholder="find a vertex, Enter: next", aria_label="find a vertex by its name"),
        tag("output", " "),
        tag("button", "+", type="button", id="closer", title="closer"),
        tag("button", "\N{MINUS SIGN}", type="button", id="further", title="further away"),
        tag("button", "whole", type="button", id="whole", title="show everything"),
    )
