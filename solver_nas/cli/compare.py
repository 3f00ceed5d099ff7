"""`solver-nas compare`: what two models cost, how fast they are, and how far apart their outputs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from solver_nas.cli.console import failures_told, show_json, show_table, waiting
from solver_nas.cli.models import Data, Json, ModelFile, Shapes, arrays, opened, shortened
from solver_nas.report.tables import table

if TYPE_CHECKING:
    from rich.table import Table

    from solver_nas.onnx import OnnxModel
    from solver_nas.onnx.comparison import Comparison

EXAMPLES = (
    "solver-nas compare model.onnx smaller.onnx",
    "solver-nas compare model.onnx smaller.onnx --data samples.npz --json",
)


def compare(
    first: ModelFile,
    second: Annotated[
        Path, typer.Argument(help="Another one.", metavar="OTHER.onnx", exists=True, dir_okay=False, readable=True)
    ],
    data: Data = None,
    input_shape: Shapes = None,
    repeats: Annotated[int, typer.Option(min=1, help="How often both are run, in turn, to measure time.")] = 10,
    as_json: Json = False,
) -> None:
    """Compare two models: parameters, multiplications, file size, time in onnxruntime, and their outputs.

    Both are run in turn with the same inputs, on one thread; random inputs without --data. Times are medians. The
    distance of outputs is relative to the largest number of each output.
    """
    with failures_told():
        from solver_nas.onnx.comparison import compare as compared

        with waiting("running both", quiet=as_json):
            inputs = None if data is None else arrays(data)
            pair = opened(first, input_shape), opened(second, input_shape)
            found = compared(*pair, inputs, repeats=repeats)
        sizes = _stored(first, pair[0]), _stored(second, pair[1])
        if as_json:
            show_json(_object(found, sizes))
        else:
            show_table(_table(found, sizes))


def _stored(path: Path, model: OnnxModel) -> int:
    """Bytes of a model's file and of those beside it."""
    return sum(file.stat().st_size for file in (path, *model.read_as[0].beside))


def _object(found: Comparison, sizes: tuple[int, int]) -> dict[str, object]:
    return {
        "parameters": list(found.parameters),
        "macs": list(found.macs),
        "bytes": list(sizes),
        "seconds": list(found.seconds),
        "time_ratio": found.seconds[1] / found.seconds[0],
        "distance": found.distance if math.isfinite(found.distance) else None,
        "distances": {name: one if math.isfinite(one) else None for name, one in found.distances.items()},
        "inputs": "random" if found.random else "given",
    }


def _table(found: Comparison, sizes: tuple[int, int]) -> Table:
    rows = [
        _row("parameters", *found.parameters),
        _row("MACs", *found.macs),
        _row("bytes", *sizes),
        ["milliseconds", *(f"{1000 * one:.2f}" for one in found.seconds), f"{found.seconds[1] / found.seconds[0]:.1%}"],
        ["distance of outputs", "", _distance(found.distance), ""],
    ]
    if len(found.distances) > 1:
        rows += [[f"  {shortened(name)}", "", _distance(one), ""] for name, one in found.distances.items()]
    inputs = "random inputs" if found.random else "given inputs"
    return table(f"Compared with {inputs}", ["", "first", "second", "share"], rows)


def _distance(found: float) -> str:
    return f"{found:.2e}" if math.isfinite(found) else "other shapes"


def _row(name: str, old: int | None, new: int | None) -> list[str]:
    if old is None or new is None:
        return [name, "sizes are open", "", ""]
    return [name, f"{old:,}", f"{new:,}", f"{new / old:.1%}" if old else ""]
