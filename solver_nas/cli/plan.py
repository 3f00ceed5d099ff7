"""`solver-nas plan`, `apply` and `shrink`: which neurons stay, written down, and carried out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from solver_nas import api, fit, utilities
from solver_nas.calibrate import calibrate
from solver_nas.cli.console import failures_told, impossible_told, show_json, show_table, waiting
from solver_nas.cli.models import (
    Data,
    Json,
    ModelFile,
    Shapes,
    Wishes,
    arrays,
    limits_of,
    opened,
    shortened,
    totals_after,
    wishes,
    writable,
)
from solver_nas.cli.options import shared
from solver_nas.errors import RequestError
from solver_nas.frontend import Handle
from solver_nas.inspection import inspect
from solver_nas.magnitude import magnitude
from solver_nas.normalise import normalised
from solver_nas.plan_file import load_plan, save_plan
from solver_nas.report.tables import table
from solver_nas.solve import GAP, TIME_LIMIT
from solver_nas.worth import default_utility

if TYPE_CHECKING:
    from rich.table import Table

    from solver_nas.calibrate import Calibration
    from solver_nas.change import Plan
    from solver_nas.compensate import Compensation
    from solver_nas.limits import Limit
    from solver_nas.onnx import OnnxModel

PLAN_EXAMPLES = (
    "solver-nas plan model.onnx --macs 0.5 --multiple 8 -o plan.json",
    "solver-nas plan model.onnx --set conv1=-16 --freeze 'head*' -o plan.json",
    "solver-nas plan model.onnx --params 0.5 --utility activation --data samples.npz",
)
APPLY_EXAMPLES = ("solver-nas apply model.onnx plan.json -o smaller.onnx",)
SHRINK_EXAMPLES = (
    "solver-nas shrink model.onnx --macs 0.5 -o smaller.onnx",
    "solver-nas shrink model.onnx --macs 0.5 --data samples.npz -o smaller.onnx",
)
_ROWS = 40  # of a table, unless all are wanted


class Utility(StrEnum):
    """What a neuron is worth."""

    L2 = "l2"
    L1 = "l1"
    ACTIVATION = "activation"
    RECONSTRUCTION = "reconstruction"
    MEASURED = "measured"


class Scale(StrEnum):
    """How neurons of different layers are weighed against each other."""

    NONE = "none"
    MEAN = "mean"
    SUM = "sum"
    L2 = "l2"
    GAUSSIAN = "gaussian"
    RANK = "rank"


Macs = Annotated[
    float | None, typer.Option(metavar="LIMIT", help="Multiplications: up to 1 a fraction of now, above 1 an amount.")
]
Params = Annotated[float | None, typer.Option(metavar="LIMIT", help="Parameters, likewise.")]
Memory = Annotated[float | None, typer.Option(metavar="LIMIT", help="Bytes of all parameters, likewise.")]
Activations = Annotated[
    float | None, typer.Option(metavar="LIMIT", help="Bytes of activations that are in memory at once, likewise.")
]
Multiple = Annotated[int, typer.Option(metavar="NUMBER", min=1, help="Sizes that change become multiples of it.")]
Minimum = Annotated[int, typer.Option(metavar="NUMBER", min=1, help="No size gets smaller than that.")]
Keep = Annotated[list[str] | None, typer.Option(metavar="PATTERN", help="Vertices that keep their number of neurons.")]
Freeze = Annotated[
    list[str] | None,
    typer.Option(metavar="PATTERN", help="Vertices whose inputs, outputs and arrays stay as they are."),
]
Worth = Annotated[
    Utility | None,
    typer.Option(
        help="l2, l1: norms of a neuron's weights. activation: what it contributes to its readers on --data. "
        "reconstruction: what of that no refit can save. measured: that, in the unit of the outputs.",
        show_default="measured with --data, otherwise l2",
    ),
]
Normalise = Annotated[
    Scale | None,
    typer.Option(
        help="Puts the utilities of all layers on one scale.", show_default="none for activation, otherwise mean"
    ),
]
TimeLimit = Annotated[float, typer.Option(metavar="SECONDS", help="Search ends after that in any case.")]
Gap = Annotated[
    float, typer.Option(metavar="FRACTION", help="Search ends when so little of the utility is left to be gained.")
]
Seed = Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Random choices of the solver, and new weights.")]
Out = Annotated[Path, typer.Option("-o", "--output", metavar="OUT.onnx", help="Where the changed model goes.")]
External = Annotated[
    bool | None,
    typer.Option(
        "--external/--embedded",
        help="Keep large tensors in a file beside the model, or in it.",
        show_default="as it was; beside it above 2 GB",
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The options that say what is wanted of a model; `shared` makes them options of a command."""

    model: ModelFile
    sizes: Wishes = None
    macs: Macs = None
    params: Params = None
    memory: Memory = None
    activations: Activations = None
    multiple: Multiple = 1
    minimum: Minimum = 1
    keep: Keep = None
    freeze: Freeze = None
    utility: Worth = None
    normalise: Normalise = None
    data: Data = None
    input_shape: Shapes = None
    time_limit: TimeLimit = TIME_LIMIT
    gap: Gap = GAP
    seed: Seed = 0
    as_json: Json = False


@shared(Asked)
def plan(
    asked: Asked,
    *,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="PLAN.json", help="Where the plan is written.")
    ] = None,
) -> None:
    """Find out which neurons to keep, and write that down; the model itself stays as it is.

    With --set, the named vertices change and what hangs together with them; with limits alone, any of them may lose
    neurons, and none may get new ones.
    """
    with failures_told(), impossible_told(quiet=not asked.as_json):
        writable(output)
        model, found, seconds = _planned(asked, refit=False)
        if output is not None:
            save_plan(found, output)
        _Told(model, found, seconds, asked.as_json).show(output)


@shared(Asked)
def shrink(
    asked: Asked,
    *,
    output: Out,
    refit: Annotated[bool, typer.Option(help="Whether weights are refitted if there are samples.")] = True,
    external: External = None,
) -> None:
    """Plan and apply in one go.

    With --data, what neurons are worth is measured, and the weights that remain are refitted so that the model computes
    what it did as far as that can be done without training.

    The changed model is checked, run, and compared with the original without the neurons that go, before anything is
    written.
    """
    with failures_told(), impossible_told(quiet=not asked.as_json):
        writable(output)
        model, found, seconds = _planned(asked, refit=refit)
        told = _Told(model, found, seconds, asked.as_json)
        _carry_out(model, found, output, seconds, external=external, quiet=asked.as_json)
        told.show(output)


def apply(
    model: ModelFile,
    plan: Annotated[
        Path,
        typer.Argument(help="What `solver-nas plan` has written.", metavar="PLAN.json", exists=True, dir_okay=False),
    ],
    output: Out,
    data: Data = None,
    input_shape: Shapes = None,
    external: External = None,
    as_json: Json = False,
) -> None:
    """Carry a plan out that was made for this model; another one is refused.

    The changed model is checked, run, and compared with the original without the neurons that go, before anything is
    written.
    """
    with failures_told():
        writable(output)
        start = time.perf_counter()
        with waiting("reading", quiet=as_json):
            opened_model = opened(model, input_shape, data)
            found = load_plan(opened_model, plan)
        seconds = {"read": time.perf_counter() - start}
        told = _Told(opened_model, found, seconds, as_json)
        _carry_out(opened_model, found, output, seconds, external=external, quiet=as_json)
        told.show(output)


def _planned(asked: Asked, *, refit: bool) -> tuple[OnnxModel, Plan, dict[str, float]]:
    """The model, the plan for it, with new weights if there are samples and it is wanted, and how long what took."""
    clock = [time.perf_counter()]
    with waiting("reading", quiet=asked.as_json):
        model = opened(asked.model, asked.input_shape, asked.data)
        clock.append(time.perf_counter())
        changes = wishes(model, asked.sizes)
        limits = limits_of(
            model,
            macs_at_most=asked.macs,
            params_at_most=asked.params,
            memory_at_most=asked.memory,
            peak_at_most=asked.activations,
            multiple=asked.multiple,
            at_least=asked.minimum,
            keep=asked.keep,
            frozen=asked.freeze,
        )
        clock.append(time.perf_counter())
    wanted = (asked.macs, asked.params, asked.memory, asked.activations)
    if not changes and all(one is None for one in wanted) and asked.multiple == 1:
        raise RequestError("say what is wanted: --set NAME=-16, or a limit such as --macs 0.5")
    worths, calibration = _worths(asked, model, refit=refit)
    clock.append(time.perf_counter())
    seconds = {"read": clock[1] - clock[0], "labels": clock[2] - clock[1], "utility": clock[3] - clock[2]}
    plans = []
    with waiting("solving", quiet=asked.as_json):
        for worth in worths:
            plans.append(_solved(asked, model, changes, limits, worth))
            for name, taken in plans[-1].certificate.seconds.items():
                seconds[name] = seconds.get(name, 0.0) + taken
    if calibration is None or not (refit or len(plans) > 1):
        return model, plans[0], seconds
    start = time.perf_counter()
    show = False if asked.as_json else None
    judged = [fit.refitted(plan, calibration, compensate=refit, progress=show) for plan in plans]
    seconds["refit"] = time.perf_counter() - start
    return model, min(judged, key=lambda one: one[1])[0], seconds


def _worths(asked: Asked, model: OnnxModel, *, refit: bool) -> tuple[list[Callable[[Handle], Any]], Calibration | None]:
    """What a neuron is worth, on one scale for all layers, and what is known from samples, if there are any.

    Several where it is measured, of which the one is to be taken that gets closest.
    """
    kind = asked.utility or (Utility.L2 if asked.data is None else Utility.MEASURED)
    norms = kind in (Utility.L1, Utility.L2)
    scale = asked.normalise or (Scale.MEAN if norms else Scale.NONE)
    if asked.data is None:
        if not norms:
            raise RequestError(f"--utility {kind.value} needs samples to pass through the model: --data FILE.npz")
        return [normalised(_UTILITIES[kind], scale.value)], None
    show = False if asked.as_json else None
    calibration = calibrate(model, arrays(asked.data), progress=show)
    own = _UTILITIES.get(kind)
    found = [worth for worth in fit.candidates(calibration, own, compensate=refit, progress=show) if callable(worth)]
    return [normalised(worth, scale.value) for worth in found], calibration


#: All but what is measured, which is made from a calibration.
_UTILITIES: dict[Utility, Callable[[Handle], Any]] = {
    Utility.L2: magnitude,
    Utility.L1: utilities.l1,
    Utility.ACTIVATION: default_utility,
    Utility.RECONSTRUCTION: utilities.reconstruction,
}


def _solved(
    asked: Asked, model: OnnxModel, changes: dict[Handle, int], limits: list[Limit], worth: Callable[[Handle], Any]
) -> Plan:
    solving: dict[str, Any] = {"time_limit": asked.time_limit, "gap": asked.gap, "seed": asked.seed}
    if not changes:
        return fit.shrink.plan(model, limits, utility=worth, **solving)
    free = model if limits else ()
    return api.plan_change(changes, also=free, limits=limits, utility=worth, on_failure="raise", **solving)


def _carry_out(
    model: OnnxModel, plan: Plan, output: Path, seconds: dict[str, float], *, external: bool | None, quiet: bool
) -> None:
    start = time.perf_counter()
    with waiting("applying and comparing", quiet=quiet):
        plan.apply()
        seconds["apply"] = time.perf_counter() - start
        start = time.perf_counter()
        model.save(output, external=external)
        seconds["write"] = time.perf_counter() - start


class _Told:
    """What a command says about a plan; what was before is looked up before it is carried out."""

    def __init__(self, model: OnnxModel, plan: Plan, seconds: dict[str, float], as_json: bool) -> None:
        self._plan, self._seconds, self._as_json = plan, seconds, as_json
        before = inspect(model)
        self._before = {"parameters": before.parameters, "macs": before.macs}
        self._makers = {part.name for part in before.parts if part.makes}
        self._after = totals_after(plan)
        self._limited = dict(plan.costs)

    def show(self, where: Path | None) -> None:
        """Print it."""
        if self._as_json:
            show_json(self._object(where))
            return
        show_table(self._sizes())
        show_table(self._costs())
        typer.echo(str(self._plan.certificate))
        if self._plan.compensation is not None:
            typer.echo(str(self._plan.compensation))
        for note in self._plan.notes:
            typer.echo(note)
        typer.echo(", ".join(f"{phase} {one:.2f} s" for phase, one in self._seconds.items()))
        if where is not None:
            typer.echo(f"Written to {where}.")

    def _sizes(self) -> Table:
        changed = [(name, sizes) for name, sizes in self._plan.sizes.items() if sizes[0] != sizes[1]]
        shown = [(name, sizes) for name, sizes in changed if name in self._makers] or changed
        rows = [[shortened(name), str(old), str(new)] for name, (old, new) in shown[:_ROWS]]
        left = len(changed) - len(rows)
        if left:
            rows.append([f"({left} more follow)", "", ""])
        return table("Sizes that change", ["vertex", "before", "after"], rows)

    def _costs(self) -> Table:
        rows = []
        for name, text in (("parameters", "parameters"), ("macs", "MACs")):
            old, new = self._before[name], self._after[name]
            if old is not None and new is not None:
                rows.append([text, f"{old:,}", f"{new:,}", f"{new / old:.1%}" if old else ""])
        for limit, (was, becomes) in self._limited.items():
            rows.append([limit, f"{was:,.12g}", f"{becomes:,.12g}", f"{becomes / was:.1%}" if was else ""])
        return table("In all", ["", "before", "after", "share"], rows)

    def _object(self, where: Path | None) -> dict[str, object]:
        certificate = self._plan.certificate
        return {
            "status": certificate.status.value,
            "objective": certificate.objective,
            "bound": certificate.bound,
            "gap": certificate.gap,
            "sizes": {name: list(sizes) for name, sizes in self._plan.sizes.items() if sizes[0] != sizes[1]},
            "before": dict(self._before),
            "after": dict(self._after),
            "limits": {limit: list(amounts) for limit, amounts in self._limited.items()},
            "seconds": self._seconds,
            "refit": _refit(self._plan.compensation),
            "notes": list(self._plan.notes),
            "output": None if where is None else str(where),
        }


def _refit(found: Compensation | None) -> dict[str, object] | None:
    """What refitting has led to; what is not known is left out."""
    if found is None:
        return None
    errors = {"error": found.error, "without": found.plain}
    known = {name: error for name, error in errors.items() if math.isfinite(error)}
    return {"layers": found.layers, **known}
