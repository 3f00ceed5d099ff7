"""What commands about models have in common: how a model is opened, and what may be asked of it."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from zipfile import BadZipFile

import numpy as np
import typer

from solver_nas.errors import RequestError, StoreError
from solver_nas.files import replaceable
from solver_nas.inspection import inspected
from solver_nas.limits import activation_memory, fixed, freeze, macs, minimum, multiple_of, now, params, weight_memory
from solver_nas.rules import label

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from solver_nas.change import Plan
    from solver_nas.frontend import Handle
    from solver_nas.limits import Expression, Limit, Peak
    from solver_nas.onnx import OnnxModel

ModelFile = Annotated[
    Path, typer.Argument(help="An ONNX model.", metavar="MODEL.onnx", exists=True, dir_okay=False, readable=True)
]
Shapes = Annotated[
    list[str] | None,
    typer.Option(
        "--input-shape",
        metavar="NAME=1x3x224x224",
        help="The shape of an input, with the batch; ? for a size that stays open. Needed where sizes are open.",
    ),
]
Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="FILE.npz",
        exists=True,
        dir_okay=False,
        help="Arrays by the names of inputs: with these, changes are tried out and activations recorded.",
    ),
]
Wishes = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=-16",
        help="Neurons more or fewer for a vertex, or =64 for how many; * in a name stands for any text.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def opened(path: Path, shapes: Sequence[str] | None = None, data: Path | None = None) -> OnnxModel:
    """The model in a file.

    Raises:
        StoreError: it is none.
        RequestError: a shape that makes no sense.
    """
    from solver_nas.onnx import load

    return load(path, dict(map(_shape, shapes or ())), inputs=None if data is None else arrays(data))


def _shape(text: str) -> tuple[str, tuple[int | None, ...]]:
    name, sign, sizes = text.rpartition("=")
    parts = re.split("[x,]", sizes) if sizes else []
    if not sign or not name or not all(re.fullmatch(r"\?|[1-9]\d{0,8}", part) for part in parts):
        raise RequestError(f"--input-shape is a name and sizes, such as image=1x3x224x224, got {text!r}")
    return name, tuple(None if part == "?" else int(part) for part in parts)


def arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays in a file that `numpy.savez` has written; nothing in it is executed.

    Raises:
        StoreError: it holds something else.
    """
    try:
        with path.open("rb") as file:
            found = np.load(file, allow_pickle=False)
            if isinstance(found, np.lib.npyio.NpzFile):
                return {name: found[name] for name in found.files}
    except (ValueError, OSError, EOFError, KeyError, BadZipFile) as error:
        raise StoreError(
            f"{str(path)!r} is no file of arrays: write arrays of numbers by the names of inputs with numpy.savez"
        ) from error
    raise StoreError(f"{str(path)!r} holds a single array; write arrays by the names of inputs with numpy.savez")


def wishes(model: OnnxModel, texts: Sequence[str] | None) -> dict[Handle, int]:
    """By how much which vertices are to change.

    Raises:
        RequestError: something that is no wish, or a name that no vertex has.
    """
    found: dict[Handle, int] = {}
    for text in texts or ():
        name, _, amount = text.rpartition("=")
        if not name or not re.fullmatch(r"[+-]?\d{1,9}", amount):
            raise RequestError(f"--set is a vertex and a number, such as conv1=-16, conv1=+8 or conv1=64, got {text!r}")
        for handle in vertices(model, name, "--set"):
            delta = int(amount) if amount[0] in "+-" else int(amount) - handle.nout
            if found.setdefault(handle, delta) != delta:
                raise RequestError(f"--set says two things about {handle.name!r}: {found[handle]:+d} and {delta:+d}")
    return found


def vertices(model: OnnxModel, pattern: str, option: str) -> tuple[Handle, ...]:
    """The vertices that a name or a pattern stands for.

    Raises:
        RequestError: there are none.
    """
    found = model.find(pattern)
    if not found:
        from difflib import get_close_matches

        near = get_close_matches(pattern, model.graph.order, n=3, cutoff=0.4)
        hint = f"; did you mean {', '.join(map(repr, near))}?" if near else ""
        raise RequestError(f"{option}: no vertex is called {pattern!r}{hint}; `solver-nas inspect` lists them")
    return found


def budget(cost: Expression | Peak, amount: float, option: str) -> Limit:
    """That something costs at most so much: up to 1 a fraction of what it costs now, above 1 an amount.

    Raises:
        RequestError: no such amount.
    """
    if not 0 < amount < float("inf"):
        raise RequestError(f"{option} is a fraction of what there is now (up to 1), or an amount, got {amount}")
    return cost <= amount * now if amount <= 1 else cost <= amount


def limits_of(
    model: OnnxModel,
    *,
    macs_at_most: float | None = None,
    params_at_most: float | None = None,
    memory_at_most: float | None = None,
    peak_at_most: float | None = None,
    multiple: int = 1,
    at_least: int = 1,
    keep: Sequence[str] | None = None,
    frozen: Sequence[str] | None = None,
) -> list[Limit]:
    """The limits that options ask for."""
    found: list[Limit] = []
    asked: tuple[tuple[str, float | None, Callable[[], Expression | Peak]], ...] = (
        ("--macs", macs_at_most, lambda: macs(model)),
        ("--params", params_at_most, lambda: params(model)),
        ("--memory", memory_at_most, lambda: weight_memory(model)),
        ("--activations", peak_at_most, lambda: activation_memory(model)),
    )
    for option, amount, cost in asked:
        if amount is not None:
            found.append(budget(cost(), amount, option))
    if macs_at_most is not None or peak_at_most is not None:
        _check_sizes(model)
    if multiple > 1:
        found.append(multiple_of(multiple))
    if at_least > 1:
        found.append(minimum(at_least))
    found += [fixed(vertices(model, pattern, "--keep")) for pattern in keep or ()]
    found += [
        freeze(vertices(model, pattern, "--freeze"), ("inputs", "outputs", "parameters")) for pattern in frozen or ()
    ]
    return found


def _check_sizes(model: OnnxModel) -> None:
    """Costs need sizes.

    Raises:
        RequestError: some sizes of inputs are open, with the option that gives them.
    """
    if inspected(model.graph, model.labels).macs is not None:
        return
    shapes = {name: model.structure.facts[name].sized or () for name in model.structure.inputs}
    options = [
        f"--input-shape {name}={'x'.join('?' if size is None else str(size) for size in shape)}"
        for name, shape in shapes.items()
        if None in shape
    ]
    raise RequestError(
        "multiplications and activations can only be counted when sizes are known; say numbers instead of ?: "
        + " ".join(options)
    )


def writable(path: Path | None) -> None:
    """Find out before all the work whether its result can be put there.

    Raises:
        RequestError: there is no folder, or something else than a file.
    """
    if path is None:
        return
    if not path.absolute().parent.is_dir():
        raise RequestError(f"there is no folder {str(path.parent)!r} to write {path.name!r} to")
    try:
        replaceable(path)
    except OSError as error:
        raise RequestError(str(error)) from error


def shortened(name: str, longest: int = 41) -> str:
    """A name for a table: what is too long loses its middle.

    On a terminal, `"encoder/block_number_one/layer_1/convolution_2"` becomes `"encoder/…onvolution_2"`.
    """
    front = longest * 2 // 5
    # Whoever reads a file or another program has room for whole names.
    return name if len(name) <= longest or not sys.stdout.isatty() else f"{name[:front]}…{name[front + 1 - longest :]}"


def totals_after(plan: Plan) -> Mapping[str, int | None]:
    """Parameters and multiplications of what a plan leads to; the latter are not known where sizes are open."""
    after = plan.blueprint.after
    found = inspected(after, label(after, memory=plan.blueprint.memory))
    return {"parameters": found.parameters, "macs": found.macs}
