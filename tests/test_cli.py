"""The command prints what it says, and ends with the status that it says."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from solver_nas.cli import main
from solver_nas.demos import digits, xor
from solver_nas.errors import (
    ImpossibleError,
    RequestError,
    StoreError,
    TimeLimitError,
    TrainingError,
    VerificationError,
)

COMMAND = [sys.executable, "-c", "from solver_nas.cli import main; main(prog_name='solver-nas')"]
Call = Callable[..., Result]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(main, [*arguments])


def test_the_demo_tells_losses_and_saves_a_picture(call: Call, tmp_path: Path) -> None:
    result = call("demo")
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.stdout.splitlines() if "optimal" in line] == [
        "least",
        "random",
        "most",
    ]
    assert f"{xor.run(0).least.loss:.3g}" in result.stdout
    assert "The picture is in xor.png." in result.stdout
    assert (tmp_path / "xor.png").read_bytes().startswith(b"\x89PNG")


def test_the_picture_goes_where_it_is_wanted(call: Call, tmp_path: Path) -> None:
    assert "The picture is in mine.svg." in call("demo", "xor", "--picture", "mine.svg").stdout
    assert [path.name for path in tmp_path.iterdir()] == ["mine.svg"]


def test_without_matplotlib_there_is_all_but_the_picture(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    result = call("demo")
    assert result.exit_code == 0
    assert "most" in result.stdout
    assert "pip install 'solver_nas[demo]'" in result.stderr


def test_json_is_the_fractions_of_the_library_and_of_the_reference(call: Call, tmp_path: Path) -> None:
    result = call("demo", "--json", "--seeds", "3", "--seed", "5")
    assert result.exit_code == 0
    told = json.loads(result.stdout)
    trials = [xor.run(seed) for seed in (5, 6, 7)]
    assert told["seeds"] == 3
    assert told["order"] == sum(trial.ordered for trial in trials) / 3
    assert told["close_1e-5"] == sum(abs(trial.least.loss - trial.original) < 1e-5 for trial in trials) / 3
    others = [xor.run(seed, xor.Metric.ACTIVATION_CONTRIBUTION) for seed in (5, 6, 7)]
    assert told["activation_contribution"]["order"] == sum(trial.ordered for trial in others) / 3
    assert told["activation_contribution"]["median_loss"]["least"] == sorted(t.least.loss for t in others)[1]
    assert call("demo", "--json", "--seeds", "3", "--seed", "5").stdout == result.stdout
    assert not list(tmp_path.iterdir())


def test_several_seeds_make_a_table_of_fractions(call: Call) -> None:
    result = call("demo", "--seeds", "2")
    assert result.exit_code == 0
    assert "most > random > least" in result.stdout
    assert "ActivationContribution" in result.stdout
    assert "100%" in result.stdout


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Digits without the training, which test_digits.py is about."""
    monkeypatch.setattr(digits, "train", lambda *_, **__: None)


@pytest.mark.usefixtures("quick")
def test_digits_tell_sizes_and_accuracies(call: Call) -> None:
    result = call("demo", "digits")
    assert result.exit_code == 0
    rows = {line.split()[0]: line for line in result.stdout.splitlines() if line.strip()}
    assert rows["mixed"].split()[2:] == ["32", "16", "16", "16"]
    told = json.loads(call("demo", "digits", "--json").stdout)
    assert f"{told['accuracy']['original']:.1%}" in rows["accuracy"]
    assert "selection" not in call("demo", "digits", "--seeds", "2").stdout


def test_failures_are_told_in_one_line(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    # Before anything is trained, so that no result is lost to a slip.
    for path, reason in (("no/such/folder/x.png", "no/such/folder"), ("x.xyz", "ends in .png")):
        result = call("demo", "--picture", path)
        assert result.exit_code == 2
        assert reason in " ".join(result.stderr.split())

    def fail(seed: int) -> None:
        raise TrainingError(f"seed {seed} is cursed")

    monkeypatch.setattr(xor, "run", fail)
    result = call("demo", "--seed", "3")
    assert result.exit_code == 1
    assert result.stderr == "solver-nas: seed 3 is cursed\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["demo", "chess"],
        ["demo", "--seeds", "0"],
        ["demo", "--seed", "-1"],
        ["demo", "digits", "--picture", "x.png"],
        ["demo", "--seeds", "2", "--picture", "x.png"],
        ["nothing"],
    ],
    ids=" ".join,
)
def test_wrong_usage_has_its_own_status(call: Call, arguments: list[str]) -> None:
    result = call(*arguments)
    assert result.exit_code == 2
    assert "Error" in result.stderr


def test_help_has_examples_and_says_what_statuses_mean(call: Call) -> None:
    for command in ((), ("demo",), ("solve",)):
        result = call(*command, "--help")
        assert result.exit_code == 0
        lines = [line.strip() for line in result.stdout.splitlines()]
        assert any(line.startswith(" ".join(("solver-nas", *command))) for line in lines[lines.index("Examples:") :])
        statuses = [line.split()[0] for line in lines[lines.index("Exit status:") + 1 :]]
        assert statuses == ["0", "1", "2", "3", "4", "130"]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (StoreError("no"), 1),
        (TimeLimitError("no"), 1),
        (FileNotFoundError("no"), 1),
        (RequestError("no"), 2),
        (ImpossibleError("no"), 3),
        (VerificationError("no"), 4),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_error_has_its_status(call: Call, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int) -> None:
    def fail(_: int) -> None:
        raise error

    monkeypatch.setattr(xor, "run", fail)
    result = call("demo")
    assert (result.exit_code, result.stdout, result.stderr) == (status, "", "solver-nas: no\n")


def test_ctrl_c_ends_with_a_line(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(xor, "run", interrupt)
    result = call("demo")
    assert (result.exit_code, result.stdout, result.stderr) == (130, "", "solver-nas: interrupted\n")


@pytest.mark.parametrize(
    ("words", "offered"),
    [("solver-nas so", {"solve"}), ("solver-nas solve --ma", {"--macs"}), ("solver-nas demo d", {"digits"})],
)
def test_shells_complete_commands_and_options(words: str, offered: set[str]) -> None:
    asked = {"COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    environment = {**os.environ, "_SOLVER_NAS_COMPLETE": "complete_bash", **asked}
    done = subprocess.run(COMMAND, env=environment, capture_output=True, text=True, check=True, timeout=60)
    assert set(done.stdout.split()) == offered


def test_the_completion_of_a_shell_can_be_shown() -> None:
    environment = {**os.environ, "_SOLVER_NAS_COMPLETE": "source_bash"}
    done = subprocess.run(COMMAND, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert "complete -o default -F _solver_nas_completion solver-nas" in done.stdout
    assert "--install-completion" in CliRunner().invoke(main, ["--help"]).stdout
