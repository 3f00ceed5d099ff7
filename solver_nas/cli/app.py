"""The commands that there are."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from solver_nas.cli import compare, demo, draw, explain, inspect, plan, solve
from solver_nas.cli.console import epilog

main = typer.Typer(
    epilog=epilog("solver-nas demo", "solver-nas solve problem.json --macs 0.5", "solver-nas solve --help"),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(version("solver_nas"))
        raise typer.Exit


@main.callback()
def _root(
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Change the architecture of trained networks: provably the best neurons stay."""


main.command(epilog=epilog(*demo.EXAMPLES))(demo.demo)
main.command(epilog=epilog(*inspect.EXAMPLES))(inspect.inspect)
main.command(epilog=epilog(*explain.EXAMPLES))(explain.explain)
main.command(epilog=epilog(*plan.PLAN_EXAMPLES))(plan.plan)
main.command(epilog=epilog(*plan.APPLY_EXAMPLES))(plan.apply)
main.command(epilog=epilog(*plan.SHRINK_EXAMPLES))(plan.shrink)
main.command(epilog=epilog(*compare.EXAMPLES))(compare.compare)
main.command(epilog=epilog(*draw.EXAMPLES))(draw.draw)
main.command(epilog=epilog(*solve.EXAMPLES))(solve.solve)
