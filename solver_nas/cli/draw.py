"""`solver-nas draw`: a model as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from solver_nas.cli.console import failures_told, show_json, waiting
from solver_nas.cli.models import Json, ModelFile, Shapes, opened, writable
from solver_nas.plan_file import load_plan
from solver_nas.report.drawing import draw as drawn

EXAMPLES = (
    "solver-nas draw model.onnx -o model.svg",
    "solver-nas draw model.onnx --plan plan.json -o model.html",
)


def draw(
    model: ModelFile,
    output: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="FILE.svg|html", help="A picture, or a page to zoom and search in."),
    ],
    plan: Annotated[
        Path | None,
        typer.Option(
            "--plan", metavar="PLAN.json", exists=True, dir_okay=False, help="Show the widths that a plan leads to."
        ),
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="A box for every vertex, also for activations and the like.")
    ] = False,
    input_shape: Shapes = None,
    as_json: Json = False,
) -> None:
    """Draw a model: vertices that can only change together in one colour, pinned ones marked, and widths.

    Activations and other vertices that only follow are drawn in the box of the layer that they follow, unless all
    are wanted.
    """
    with failures_told():
        writable(output)
        with waiting("drawing", quiet=as_json):
            opened_model = opened(model, input_shape)
            planned = None if plan is None else load_plan(opened_model, plan)
            drawn(opened_model, output, plan=planned, title=model.name, fold=not every)
        if as_json:
            show_json({"output": str(output), "vertices": len(opened_model)})
        else:
            typer.echo(f"The picture is in {output}.")
