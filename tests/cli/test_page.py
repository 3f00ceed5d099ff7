"""docs/command-line.md shows what the commands print; times aside."""

from __future__ import annotations

import json
import re
import shlex
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from solver_nas.cli import main

PAGE = (Path(__file__).parents[2] / "docs" / "command-line.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


#: Commands that solve, and the output below each.
SHOWN = [
    (command, output)
    for (kind, command), (after, output) in pairwise(BLOCKS)
    if (kind, after) == ("bash", "text") and command.startswith("solver-nas solve")
]


def run(command: str) -> Result:
    program, *arguments = shlex.split(command)
    assert program == "solver-nas"
    return CliRunner().invoke(main, arguments)


def timeless(found: dict[str, Any]) -> dict[str, Any]:
    # These are optimal, so that the gap is rounding.
    assert found["gap"] < 1e-9
    return {key: value for key, value in found.items() if key not in ("seconds", "phases", "gap", "bound")}


@pytest.fixture(autouse=True)
def _problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (problem,) = (text for _, text in BLOCKS if '"total_utility"' in text)
    Path("problem.json").write_text(problem, encoding="utf-8")


@pytest.mark.parametrize(("command", "output"), SHOWN, ids=[command.strip() for command, _ in SHOWN])
def test_commands_print_what_is_shown(command: str, output: str) -> None:
    result = run(command)
    if output.startswith("{"):
        assert timeless(json.loads(result.stdout)) == timeless(json.loads(output))
    elif output.startswith("solver-nas: "):
        assert (result.exit_code, result.stderr) == (3, output)
    else:
        assert words(result.stdout) == words(output)


def words(table: str) -> list[list[str]]:
    """Without times, rounding, and how wide it is."""
    lines = [line.split() for line in table.replace("─", "").splitlines()]
    return [line for line in lines if line and line[0] not in ("time", "gap")]


def test_the_complaint_that_is_shown_is_made() -> None:
    text = Path("problem.json").read_text(encoding="utf-8")
    Path("problem.json").write_text(text.replace('"oc": 6', '"oc": 7'), encoding="utf-8")
    assert run("solver-nas solve problem.json").stderr in [text for _, text in BLOCKS]


def test_every_option_and_key_is_explained() -> None:
    options = set(re.findall(r"--[a-z-]+", run("solver-nas solve --help").stdout)) - {"--help"}
    assert {option for option in options if f"`{option}`" not in PAGE} == set()
    keys = json.loads(run("solver-nas solve problem.json --json").stdout)
    assert {key for key in keys if f"`{key}`" not in PAGE} == set()
