"""`solver-nas explain`: whether a change of sizes is possible, and if not, why not and what would be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from solver_nas import api
from solver_nas.cli.console import ExitStatus, failures_told, show_json, waiting
from solver_nas.cli.models import Json, ModelFile, Shapes, Wishes, opened, wishes
from solver_nas.errors import RequestError
from solver_nas.explain import EXPLAINING

if TYPE_CHECKING:
    from solver_nas.explain import Explanation

EXAMPLES = (
    "solver-nas explain model.onnx --set conv1=-16",
    "solver-nas explain model.onnx --set 'block1.*=-8' --set head=+3 --json",
)


def explain(
    model: ModelFile,
    sizes: Wishes = None,
    input_shape: Shapes = None,
    time_limit: Annotated[float, typer.Option(metavar="SECONDS", help="Search ends after that.")] = EXPLAINING,
    as_json: Json = False,
) -> None:
    """Say whether vertices can have other sizes together; if not, what stands in the way, and what would work.

    The exit status is 3 if they cannot.
    """
    with failures_told():
        with waiting("reading", quiet=as_json):
            opened_model = opened(model, input_shape)
            asked = wishes(opened_model, sizes)
            if not asked:
                raise RequestError("say what should change: --set NAME=-16")
            found = api.explain(asked, time_limit=time_limit)
        if as_json:
            show_json(_object(found))
        else:
            typer.echo(str(found))
        if not found:
            raise typer.Exit(ExitStatus.IMPOSSIBLE)


def _object(found: Explanation) -> dict[str, object]:
    return {
        "possible": bool(found),
        "reasons": list(found.reasons),
        "nearest": {name: list(sizes) for name, sizes in (found.nearest or {}).items()},
        "text": str(found),
    }
