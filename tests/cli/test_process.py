"""`solver-nas solve` as a process: interrupted, at a terminal, cut off."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.solve.problems import path_of
from tests.stored.problems import Layer, built, encoded, small

COMMAND = [str(Path(sys.executable).with_name("solver-nas")), "solve"]


def test_the_command_is_installed() -> None:
    arguments = [*COMMAND, str(path_of("vgg_small_default")), "--params", "0.5", "--json"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True, timeout=120)
    assert done.stderr == ""
    assert json.loads(done.stdout)["kept"] == pytest.approx(0.8691, abs=1e-4)


INTERRUPTED = """
import os, signal, threading
from solver_nas.cli import main
# A process that was started in the background may have been told to ignore interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)
threading.Timer(2.0, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
main(prog_name="solver-nas")
"""


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_ctrl_c_ends_with_a_line_and_nothing_else(tmp_path: Path, form: tuple[str, ...]) -> None:
    # Every layer reads every group: nothing that could be proven in a minute.
    rng = np.random.default_rng(0)
    layers: list[Layer] = [(i, j, 1, 9, 10) for i in range(40) for j in range(40)]
    (tmp_path / "hard.json").write_bytes(encoded(built([rng.random(20).tolist() for _ in range(40)], layers)))
    arguments = ["solve", "hard.json", "--params", "0.5", "--gap", "0", "--time-limit", "60", *form]
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=55,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "solver-nas: interrupted\n")


def test_terminals_see_that_it_is_at_work() -> None:
    pty = pytest.importorskip("pty", reason="there are no such terminals here")
    terminal, end = pty.openpty()
    command = [*COMMAND, str(path_of("vgg_small_gains")), "--params", "0.5"]
    for form, working in (([], True), (["--json"], False)):
        subprocess.run([*command, *form], stdout=subprocess.DEVNULL, stderr=end, check=True, timeout=120)
        os.write(end, b".")
        assert (b"solving" in os.read(terminal, 1_000_000)) is working
    os.close(end)
    os.close(terminal)


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_nobody_has_to_read_to_the_end(form: list[str]) -> None:
    command = [*COMMAND, str(path_of("vgg_small_default")), *form]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1


def test_letters_that_cannot_be_shown_are_written_as_numbers(tmp_path: Path) -> None:
    (tmp_path / "odd.json").write_bytes(encoded(small() | {"model": "сеть"}))
    command = [*COMMAND, str(tmp_path / "odd.json")]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
    assert r"\u0441\u0435\u0442\u044c, made up" in done.stdout
