"""How a plan is kept in a file: which neurons stay, readable, and only for the model that it was made for."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from solver_nas.change import Plan
from solver_nas.classes import classify
from solver_nas.errors import PlanError, RequestError, RuleError, StoreError
from solver_nas.files import replace_file
from solver_nas.graph import Port
from solver_nas.plan import draw
from solver_nas.solve import Certificate, Selection, Status
from solver_nas.weights import Initialisers

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from solver_nas.frontend import Model
    from solver_nas.graph import Graph
    from solver_nas.labels import IntArray, Labels, Neurons

FORMAT = "solver_nas.plan"
VERSION = 1

_LARGEST = 2**28  # bytes of a file that is read


def fingerprint(model: Model) -> str:
    """A number that two models share only if they have the same vertices, edges and arrays; 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for vertex in sorted(model.graph.vertices, key=lambda vertex: vertex.name):
        ports = [(port.vertex, port.output) for port in vertex.inputs]
        parameters = sorted((role, one.key, list(one.shape)) for role, one in vertex.parameters.items())
        digest.update(json.dumps([vertex.name, vertex.kind, ports, parameters]).encode())
    for key in sorted(model.arrays):
        array = np.ascontiguousarray(model.arrays[key])
        digest.update(f"{key}:{array.dtype}:{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def save_plan(plan: Plan, path: str | os.PathLike[str]) -> None:
    """Write a plan to a file, from which `load_plan` makes one that does the same.

    A file that is there is replaced in one go.

    Args:
        plan: of sizes, with new weights that are made in the usual way.
        path: the file's, by custom with the suffix `.json`.

    Raises:
        RequestError: this is another kind of plan, or it has weights that a function of the caller's makes or that
            were refitted.
        OSError: the file cannot be written.

    >>> import tempfile
    >>> from solver_nas import Network, nn, plan_change
    >>> net = Network()
    >>> hidden = nn.dense(net.input("in", 2), 4, name="hidden")
    >>> net.output(nn.dense(hidden, 1, name="out"))
    >>> plan = plan_change(hidden, -1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_plan(plan, folder + "/plan.json")
    ...     again = load_plan(net, folder + "/plan.json")
    >>> bool((again.indices["hidden"] == plan.indices["hidden"]).all())
    True
    """
    if not isinstance(plan, Plan):
        raise RequestError(f"only plans of sizes can be kept in a file, got {type(plan).__name__}")
    if plan.init.default is not None or plan.init.own:
        raise RequestError("a plan whose new weights are made by a function cannot be kept in a file")
    if plan.compensation is not None:
        raise RequestError(
            "a plan is kept without its refitted weights: save it before, and compensate what was loaded"
        )
    replace_file(path, _laid_out(_described(plan)).encode())


def _described(plan: Plan) -> dict[str, object]:
    labels = plan.model.labels
    certificate = asdict(plan.certificate)
    certificate.update(status=plan.certificate.status.value, gap=plan.certificate.gap)
    arrays = plan.model.arrays
    return {
        "format": FORMAT,
        "version": VERSION,
        "model": {
            "fingerprint": fingerprint(plan.model),
            "vertices": len(plan.model),
            "parameters": sum(int(array.size) for array in arrays.values()),
        },
        "request": [str(limit) for limit in plan.limits],
        "costs": plan.costs,
        "sizes": {name: f"{old} -> {new}" for name, (old, new) in plan.sizes.items() if old != new},
        "neurons": _neurons(plan, labels),
        "certificate": certificate,
        "seed": plan.seed,
        "notes": list(plan.notes),
        "utilities": {name: worth.tolist() for name, worth in plan.utilities.items()},
    }


def _laid_out(document: Mapping[str, object]) -> str:
    """JSON with a line for every entry of a table."""
    parts = []
    for key, value in document.items():
        told = json.dumps(value, ensure_ascii=False, allow_nan=False)
        if isinstance(value, dict) and value:
            rows = (f"  {json.dumps(name)}: {json.dumps(one, ensure_ascii=False)}" for name, one in value.items())
            told = "{\n" + ",\n".join(rows) + "\n }"
        parts.append(f" {json.dumps(key)}: {told}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _neurons(plan: Plan, labels: Labels) -> dict[str, str]:
    """What happens to neurons, told by the first vertex that has them."""
    class_of, _ = classify(labels)
    told: set[int] = set()
    found = {}
    for name, level in _levels(plan.blueprint.before, labels):
        mine = class_of[level["label"].reshape(-1)]
        index = plan.blueprint.moves.flat(level)[1]
        if len(index) == len(mine) and np.array_equal(index, np.arange(len(index))):
            continue
        news = set(mine.tolist()) - told
        if news:
            told |= news
            found[name] = written_index(index)
    return found


def _levels(graph: Graph, labels: Labels) -> Iterator[tuple[str, Neurons]]:
    """Every array of neurons by a name: that of the vertex, and for rows of a rectangle, which rows."""
    for name in graph.order:
        blocks = labels.tensors[Port(name)].blocks
        for place, block in enumerate(blocks):
            for depth, level in enumerate(block.levels):
                last = place == len(blocks) - 1 and depth == len(block.levels) - 1
                yield name if last else f"{name} (axes {block.axes[: depth + 1]})", level
    # Groups and heads that only exist inside of an operation.
    for key, level in labels.sources.items():
        yield f"{key[0]} ({' '.join(map(str, key[1:]))})", level


def written_index(index: NDArray[np.intp]) -> str:
    """Old positions in their new order, in short: `"0-3 7 +2"` keeps five of them and adds two.

    >>> written_index(np.array([0, 1, 2, 3, 7, -1, -1]))
    '0-3 7 +2'
    """
    parts = []
    steps = np.arange(len(index))
    for (new, _), run in groupby(zip(index.tolist(), steps.tolist(), strict=True), key=_run):
        places = [place for place, _ in run]
        first, last = places[0], places[-1]
        parts.append(f"+{len(places)}" if new else f"{first}-{last}" if last > first else f"{first}")
    return " ".join(parts)


def _run(pair: tuple[int, int]) -> tuple[bool, int]:
    place, step = pair
    return (True, 0) if place < 0 else (False, place - step)


def read_index(text: str) -> NDArray[np.intp]:
    """The inverse of `written_index`.

    Raises:
        StoreError: this is no list of positions.
    """
    found: list[int] = []
    for part in text.split():
        match = re.fullmatch(r"(\+?)(\d{1,9})(?:-(\d{1,9}))?", part)
        if match is None or (match[1] and match[3]):
            raise StoreError(f"{part!r} is neither a position, a range such as 0-7, nor a number of new neurons (+2)")
        first = int(match[2])
        if match[1]:
            found += [-1] * min(first, _LARGEST)
        else:
            found += range(first, int(match[3] or first) + 1)
    return np.array(found, np.intp)


def load_plan(model: Model, path: str | os.PathLike[str]) -> Plan:
    """The plan that was kept in a file, for the model that it was made for.

    Args:
        model: bit for bit the model that the plan was made for.
        path: of a file that `save_plan` has written.

    Raises:
        StoreError: this is no plan, or a damaged one.
        PlanError: it was made for another model.
        OSError: there is no such file.
    """
    document = _document(Path(path))
    known, mine = _text(document, "model", "fingerprint"), fingerprint(model)
    if known != mine:
        raise PlanError(
            f"the plan was made for another model ({known[:12]}, this one is {mine[:12]}): names, sizes or weights "
            f"differ; make a new plan"
        )
    labels = model.labels
    class_of, count = classify(labels)
    neurons = {name: read_index(str(text)) for name, text in _mapping(document, "neurons").items()}
    selection = _selection(model, labels, class_of, count, neurons)
    try:
        certificate = _certificate(_mapping(document, "certificate"))
        blueprint = draw(model.graph, labels, class_of, selection, certificate)
    except (PlanError, RuleError) as error:
        raise StoreError(f"{str(path)!r}: the neurons that it keeps do not fit together: {error}") from error
    for name, level in _levels(model.graph, labels):
        if name in neurons and not np.array_equal(blueprint.moves.flat(level)[1], neurons[name]):
            raise StoreError(f"{str(path)!r}: the neurons of {name!r} do not fit those of other vertices")
    utilities = {name: _worth(name, worth) for name, worth in _mapping(document, "utilities").items()}
    seed = document.get("seed")
    if not isinstance(seed, int) or seed < 0:
        raise StoreError(f"{str(path)!r}: seed is {seed!r}, it should be a whole number from 0 on")
    notes = tuple(map(str, cast("list[object]", document.get("notes") or [])))
    return Plan(model, blueprint, utilities, seed, Initialisers(), notes)


def _document(path: Path) -> dict[str, Any]:
    if path.stat().st_size > _LARGEST:
        raise StoreError(f"{str(path)!r} has more than {_LARGEST:,} bytes; that is no plan")
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{str(path)!r} is no plan: {error}") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise StoreError(f"{str(path)!r} is no plan: its format is not {FORMAT!r}")
    if document.get("version") != VERSION:
        raise StoreError(
            f"{str(path)!r} is a plan of version {document.get('version')!r}, this version of the library reads "
            f"{VERSION}; update the library, or make the plan again"
        )
    return document


def _mapping(document: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = document.get(key)
    if not isinstance(found, dict):
        raise StoreError(f"the plan has no table {key!r}; it is damaged")
    return found


def _text(document: Mapping[str, Any], table: str, key: str) -> str:
    found = _mapping(document, table).get(key)
    if not isinstance(found, str):
        raise StoreError(f"the plan does not say {table}.{key}; it is damaged")
    return found


def _worth(name: str, worth: object) -> NDArray[np.float64]:
    try:
        array = np.array(worth, np.float64)
    except (TypeError, ValueError) as error:
        raise StoreError(f"the utilities of {name!r} are no row of numbers; the plan is damaged") from error
    if array.ndim != 1 or not np.isfinite(array).all():
        raise StoreError(f"the utilities of {name!r} are no row of numbers; the plan is damaged")
    return array


def _certificate(told: Mapping[str, Any]) -> Certificate:
    try:
        numbers = {key: float(told[key]) for key in ("objective", "bound", "promised")}
        counts = {key: int(told[key]) for key in ("deviation", "neurons", "classes", "buckets")}
        seconds = {str(phase): float(one) for phase, one in told["seconds"].items()}
        made = Certificate(
            Status(told["status"]),
            numbers["objective"],
            numbers["bound"],
            counts["deviation"],
            counts["neurons"],
            counts["classes"],
            counts["buckets"],
            seconds,
            numbers["promised"],
            str(told["method"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise StoreError(f"the plan's certificate is damaged: {error}") from error
    if not all(map(math.isfinite, (made.objective, made.bound, made.promised))):
        raise StoreError("the plan's certificate is damaged: its numbers are not finite")
    return made


def _selection(
    model: Model, labels: Labels, class_of: IntArray, count: int, neurons: Mapping[str, NDArray[np.intp]]
) -> Selection:
    lives = np.ones(count, bool)
    inserted, leading = np.zeros(count, np.int64), np.zeros(count, np.int64)
    known = dict(_levels(model.graph, labels))
    for name, index in neurons.items():
        if name not in known:
            raise StoreError(f"the plan speaks of a vertex {name!r}, which the model does not have; it is damaged")
        mine = class_of[known[name]["label"].reshape(-1)]
        old = index[index >= 0]
        if len(old) and old.max() >= len(mine):
            raise StoreError(f"the plan keeps neuron {old.max()} of {name!r}, which has {len(mine)}; it is damaged")
        gone = np.ones(len(mine), bool)
        gone[old] = False
        lives[mine[gone]] = False
        place = -1
        for one, run in groupby(index.tolist()):
            if one >= 0:
                place = one
                continue
            new = len(list(run))
            (inserted if place >= 0 else leading)[mine[max(place, 0)]] = new
    return Selection(lives, inserted, leading if leading.any() else None)
