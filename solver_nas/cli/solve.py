"""`solver-nas solve`: how a size problem that needs no network is solved, phase by phase."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from solver_nas.cli.console import failures_told, show_json, show_table, waiting
from solver_nas.errors import ImpossibleError
from solver_nas.report.tables import table
from solver_nas.solve import GAP, TIME_LIMIT
from solver_nas.stored import Ask, Cost, answer, read

if TYPE_CHECKING:
    from rich.table import Table

    from solver_nas.stored import Amounts, Answer

EXAMPLES = (
    "solver-nas solve problem.json --params 0.5",
    "solver-nas solve problem.json --macs 2e9 --params 0.8 --multiple 8",
    "solver-nas solve problem.json --macs 0.5 --gap 0 --time-limit 60 --json",
)
_LARGEST_SEED = 2**31 - 1  # the solver's


def solve(
    problem: Annotated[
        Path,
        typer.Argument(
            help="A file with a size problem.", metavar="PROBLEM.json", exists=True, dir_okay=False, readable=True
        ),
    ],
    params: Annotated[
        float | None,
        typer.Option(metavar="LIMIT", help="How many parameters may stay: up to 1 a fraction, above 1 an amount."),
    ] = None,
    macs: Annotated[
        float | None, typer.Option(metavar="LIMIT", help="How many multiplications may stay, likewise.")
    ] = None,
    multiple: Annotated[
        int, typer.Option(metavar="NUMBER", min=1, help="Every group keeps a multiple of so many neurons.")
    ] = 1,
    gap: Annotated[
        float,
        typer.Option(metavar="FRACTION", help="Search ends when so little of the utility is left to be gained."),
    ] = GAP,
    time_limit: Annotated[float, typer.Option(metavar="SECONDS", help="Search ends after that in any case.")] = (
        TIME_LIMIT
    ),
    seed: Annotated[int, typer.Option(min=0, max=_LARGEST_SEED, help="Random choices of the solver.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Solve a size problem that is stored as JSON, and say how good the solution is and what took how long.

    It says which neurons can only go together, what each is worth, and what layers of such widths cost, so that
    no network is needed. The most utility is kept within the limits; with none of them, everything stays.
    """
    with failures_told():
        limits = {cost: limit for cost, limit in ((Cost.PARAMS, params), (Cost.MACS, macs)) if limit is not None}
        ask = Ask(limits, multiple)
        start = time.perf_counter()
        with waiting("solving", quiet=as_json):
            document = read(problem)
            seconds = time.perf_counter() - start
            found = answer(document, ask, time_limit=time_limit, seed=seed, gap=gap)
        phases = {"read": seconds, **found.seconds}
        if as_json:
            show_json(_object(found, phases))
        else:
            show_table(_table(found, phases))
        if found.conflicts:
            raise ImpossibleError(f"impossible: {'; '.join(found.conflicts)}", found.conflicts)


def _object(found: Answer, phases: dict[str, float]) -> dict[str, object]:
    kept, bound = found.fractions or (None, None)
    certificate = found.certificate
    return {
        "status": found.status.value,
        "kept": kept,
        "bound": bound,
        "gap": None if certificate is None else certificate.gap,
        "method": None if certificate is None else certificate.method,
        "seconds": sum(phases.values()),
        "phases": phases,
        **_numbers(found),
        "groups": list(found.kept) or None,
        "costs": {cost.value: amounts._asdict() for cost, amounts in found.costs.items()},
        "conflicts": list(found.conflicts),
    }


def _numbers(found: Answer) -> dict[str, int]:
    """How large the problem is."""
    budgets = found.problem.budgets
    counts = [*found.problem.sizes, *(count for budget in budgets for count in budget.counts)]
    return {
        "neurons": found.problem.positions,
        "classes": sum(found.document.sizes),
        "counts": len(found.problem.buckets),
        "sizes": len({count.key for count in counts if not count.rigid}),
        "products": sum(len(budget.terms) for budget in budgets),
        "multiples": len(found.problem.grids),
    }


_NAMES = {
    "neurons": "neurons",
    "classes": "classes",
    "counts": "counts to be found",
    "sizes": "constrained sizes",
    "products": "products in limits",
    "multiples": "multiples",
}


def _table(found: Answer, phases: dict[str, float]) -> Table:
    rows = [(_NAMES[key], f"{value:,}") for key, value in _numbers(found).items()]
    rows.append(("status", found.status.value))
    if found.certificate is not None and found.fractions is not None:
        kept, bound = found.fractions
        rows += [("utility kept", f"{kept:.5f}"), ("  at most", f"{bound:.5f}")]
        rows.append(("  gap", f"{found.certificate.gap:.1g}"))
    rows += [(cost.value, _change(amounts)) for cost, amounts in found.costs.items()]
    rows += [(f"time to {phase}", f"{1000 * seconds:,.1f} ms") for phase, seconds in phases.items()]
    return table("", [found.document.title or "size problem", ""], rows)


def _change(amounts: Amounts) -> str:
    change = f"{amounts.before:,}" if amounts.after is None else f"{amounts.before:,} -> {amounts.after:,}"
    return change if amounts.limit is None else f"{change} (<= {amounts.limit:,})"
