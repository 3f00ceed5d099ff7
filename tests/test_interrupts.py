"""Ctrl-C, as it comes from a keyboard: to a process, at any moment."""

import subprocess
import sys

import pytest

COMMON = """
import os, signal, threading, time
from solver_nas import Network, delta_nout, nn, plan_change
# A process that was started in the background may have been told to ignore interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)
net = Network(seed=0)
x = net.input("in", 8)
layers = [nn.dense(x, WIDTH + i, name=f"l{i}") for i in range(COUNT)]
joined = [nn.concat([layers[i], layers[(i * 7 + 3) % COUNT], layers[(i * 5 + 1) % COUNT]], name=f"j{i}")
          for i in range(COUNT)]
net.output(nn.concat([nn.dense(j, 2) for j in joined]))
before = {key: array.tobytes() for key, array in net.arrays.items()}
"""

LATER = """
COUNT, WIDTH = 4, 8
exec(COMMON)
delta_nout(joined[0], -5)
before = {key: array.tobytes() for key, array in net.arrays.items()}
try:
    with net.transaction():
        delta_nout(joined[1], -3)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)
        print("nothing has happened")
except KeyboardInterrupt:
    print(before == {key: array.tobytes() for key, array in net.arrays.items()})
"""

DURING = """
COUNT, WIDTH = 30, 600
exec(COMMON)
threading.Timer(SECONDS, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
start = time.perf_counter()
try:
    plan_change({joined[i]: -20 - i for i in range(0, 30, 4)}, time_limit=20)
    time.sleep(5)
    print("nothing has happened")
except KeyboardInterrupt:
    quick = time.perf_counter() - start < SECONDS + 3
    print(quick and before == {key: array.tobytes() for key, array in net.arrays.items()})
"""


def run(script: str, **names: object) -> str:
    text = "".join(f"{name} = {value!r}\n" for name, value in {"COMMON": COMMON, **names}.items()) + script
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True, timeout=120)
    return done.stdout.strip()


def test_ctrl_c_works_after_the_solver_has_run() -> None:
    assert run(LATER) == "True"


@pytest.mark.parametrize("seconds", [0.2, 0.6])
def test_ctrl_c_works_while_the_solver_runs(seconds: float) -> None:
    assert run(DURING, SECONDS=seconds) == "True"
