"""`solver-nas demo`: what happens to a small network that loses half of its neurons."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import numpy as np
import typer

from solver_nas.cli.console import failures_told, show_json, show_table
from solver_nas.demos import digits, xor
from solver_nas.errors import ExtraError
from solver_nas.progress import progress
from solver_nas.report.pictures import surfaces
from solver_nas.report.tables import table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rich.table import Table

    from solver_nas.solve import Certificate

T = TypeVar("T")


class Demo(StrEnum):
    """What there is to see."""

    XOR = "xor"
    DIGITS = "digits"


EXAMPLES = ("solver-nas demo", "solver-nas demo --seeds 100", "solver-nas demo digits --json")
FORMATS = (".png", ".svg", ".pdf", ".jpg")


def demo(
    name: Annotated[Demo, typer.Argument(help="What to show.", show_default=True)] = Demo.XOR,
    seed: Annotated[int, typer.Option(min=0, help="The first seed.")] = 0,
    seeds: Annotated[int, typer.Option(min=1, help="Repeat with as many seeds, and tell how often it works.")] = 1,
    picture: Annotated[
        Path | None, typer.Option(help="xor, one seed: where to save the picture.", show_default="xor.png")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and save no picture.")] = False,
) -> None:
    """Train a small network, remove half of its neurons, and see what is left of it.

    xor: a network of 2, 32 and 1 neurons loses the 16 hidden ones that are worth least, most, or random
    ones. Saves a picture of what each computes.

    digits: a convolutional network with a residual connection and a concatenation loses half of its channels
    by one request.
    """
    if picture is not None and (name is not Demo.XOR or seeds > 1 or as_json):
        raise typer.BadParameter("a picture is made of xor with one seed, without --json", param_hint="--picture")
    if picture is not None and picture.suffix.lower() not in FORMATS:
        raise typer.BadParameter(f"a picture is a file that ends in {', '.join(FORMATS)}", param_hint="--picture")
    if picture is not None and not picture.absolute().parent.is_dir():
        raise typer.BadParameter(f"there is no folder {str(picture.absolute().parent)!r}", param_hint="--picture")
    with failures_told():
        show = _show_xor if name is Demo.XOR else _show_digits
        show(seed, seeds, picture or Path("xor.png"), as_json)


def _show_xor(seed: int, seeds: int, picture: Path, as_json: bool) -> None:
    if seeds == 1 and not as_json:
        trial = xor.run(seed)
        show_table(_xor_table(trial))
        _save(trial, picture)
        return
    trials, reference = _repeat(
        seed, seeds, lambda number: (xor.run(number), xor.run(number, xor.Metric.ACTIVATION_CONTRIBUTION))
    )
    ours, theirs = xor.fractions(trials), xor.fractions(reference)
    if as_json:
        found = {
            "demo": "xor",
            "first_seed": seed,
            "seeds": seeds,
            **ours,
            "median_loss": xor.medians(trials),
        }
        other = {**theirs, "median_loss": xor.medians(reference)}
        show_json({**found, xor.Metric.ACTIVATION_CONTRIBUTION.value: other})
    else:
        show_table(_fraction_table(seeds, {"default utility": ours, "ActivationContribution": theirs}))


def _show_digits(seed: int, seeds: int, _: Path, as_json: bool) -> None:
    (trials,) = _repeat(seed, seeds, lambda number: (digits.run(number),))
    if as_json:
        found = {"demo": "digits", "first_seed": seed, "seeds": seeds, "accuracy": digits.means(trials)}
        show_json(found)
    else:
        show_table(_digits_table(trials))


def _repeat(seed: int, seeds: int, run: Callable[[int], tuple[T, ...]]) -> tuple[list[T], ...]:
    results = []
    with progress("seeds", seeds) as advance:
        for number in range(seed, seed + seeds):
            results.append(run(number))
            advance()
    return tuple(map(list, zip(*results, strict=True)))


def _xor_table(trial: xor.Trial) -> Table:
    rows = [["original", "", str(xor.HIDDEN), f"{trial.original:.3g}", ""]]
    for name, removed, pruned in (
        ("least", "those worth least", trial.least),
        ("random", f"random ones, median of {xor.DRAWS}", trial.random),
        ("most", "those worth most", trial.most),
    ):
        hidden = str(pruned.network["hidden"].nout)
        rows.append([name, removed, hidden, f"{pruned.loss:.3g}", _told(pruned.certificate)])
    title = f"XOR, {xor.REMOVED} of {xor.HIDDEN} hidden neurons removed (seed {trial.seed})"
    return table(title, ["network", "removed", "hidden", "loss", "selection"], rows, left=2)


def _fraction_table(seeds: int, found: Mapping[str, Mapping[str, float]]) -> Table:
    words = {
        "order": "most > random > least",
        "close_1e-5": "least within 1e-5 of original",
        "close_1e-3": "least within 1e-3 of original",
        "least_not_below_original": "least >= original",
        "original_below_1e-3": "original < 1e-3",
    }
    rows = [[text, *(f"{one[key]:.0%}" for one in found.values())] for key, text in words.items()]
    title = f"XOR, {xor.REMOVED} of {xor.HIDDEN} hidden neurons removed: how often each holds in {seeds} seeds"
    return table(title, ["losses", *found], rows)


def _digits_table(trials: Sequence[digits.Trial]) -> Table:
    mean, first = digits.means(trials), trials[0]
    choices = [choice.value for choice in digits.Choice]
    rows = [
        ["accuracy", *(f"{mean[name]:.1%}" for name in ("original", *choices))],
        ["  retrained", "", *(f"{mean[f'{name}_retrained']:.1%}" for name in choices)],
    ]
    seeds = f"mean of {len(trials)} seeds"
    if len(trials) == 1:
        seeds = f"seed {first.seed}"
        pruned = [first.pruned[choice] for choice in digits.Choice]
        rows.append(["parameters", f"{first.parameters:,}", *(f"{one.parameters:,}" for one in pruned)])
        for name, size in first.sizes.items():
            rows.append([f"{name} channels", str(size), *(str(one.sizes[name]) for one in pruned)])
        rows.append(["selection", "", *(one.certificate.status.value for one in pruned)])
        rows.append(["  gap", "", *(f"{one.certificate.gap:.0e}" for one in pruned)])
    title = f"Digits, half of the channels removed by one request ({seeds})"
    return table(title, ["removed", "none", *choices], rows)


def _told(certificate: Certificate) -> str:
    return f"{certificate.status.value}, gap {certificate.gap:.0e}"


def _save(trial: xor.Trial, path: Path) -> None:
    places = np.linspace(-0.5, 1.5, 101)
    networks = {
        f"original\nloss {trial.original:.2g}": trial.network,
        f"16 worth least removed\nloss {trial.least.loss:.2g}": trial.least.network,
        f"16 random ones removed\nloss {trial.random.loss:.2g}": trial.random.network,
        f"16 worth most removed\nloss {trial.most.loss:.2g}": trial.most.network,
    }
    panels = {title: xor.surface(network, places) for title, network in networks.items()}
    try:
        surfaces(panels, places, xor.X, xor.Y[:, 0], path, title=f"XOR, seed {trial.seed}")
    except ExtraError as error:
        typer.echo(f"no picture: {error}", err=True)
    else:
        typer.echo(f"The picture is in {path}.")
