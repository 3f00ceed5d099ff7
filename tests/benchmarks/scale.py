"""How planning scales with the number of neurons, phase by phase: `python -m tests.benchmarks.scale`.

Networks are graphs without arrays, since a million neurons need no weights to be planned. The baseline is
the neuron-by-neuron program of the reference implementation (one binary and one integer per neuron, solved
by HiGHS), run in a process of its own and on the same machine.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import statistics
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from solver_nas import Network, delta_nout, nn
from solver_nas.graph import Graph, Parameter, Port, Vertex
from solver_nas.plan import draw
from solver_nas.posing import pose
from solver_nas.requests import output_targets
from solver_nas.rules import label
from solver_nas.solve import certify, select, solve

if TYPE_CHECKING:
    from collections.abc import Callable

    from solver_nas.requests import Delta

REPEATS = 5


def dense(name: str, source: str, size: int, width: int) -> Vertex:
    """A dense vertex of `width` neurons behind `size` others."""
    parameters = {
        "weight": Parameter(f"{name}.weight", (width, size)),
        "bias": Parameter(f"{name}.bias", (width,)),
    }
    return Vertex(name, "dense", (Port(source),), {"activation": "relu"}, parameters)


def given(width: int) -> Vertex:
    """An input."""
    return Vertex("in", "input", (), {"shape": (width,), "axis": 0})


def total(*names: str, into: str) -> Vertex:
    """A sum."""
    return Vertex(into, "add", tuple(map(Port, names)))


def residual(neurons: int) -> tuple[Graph, str]:
    """A residual stage: blocks of an inner layer, an outer layer and a sum, all of one width."""
    width = max(8, min(1024, int(math.sqrt(neurons) * 1.5)))
    blocks = max(1, (neurons - width) // (3 * width))
    vertices = [given(16), dense("stem", "in", 16, width)]
    last = "stem"
    for place in range(blocks):
        vertices += [
            dense(f"inner{place}", last, width, width),
            dense(f"outer{place}", f"inner{place}", width, width),
            total(last, f"outer{place}", into=f"sum{place}"),
        ]
        last = f"sum{place}"
    return Graph([*vertices, dense("head", last, width, 10)]), last


def concatenated(neurons: int) -> tuple[Graph, str]:
    """Branches of different widths side by side, joined and read by one layer."""
    branches = 16
    unit = max(1, neurons // (branches * (branches + 1)))
    vertices = [given(16)]
    vertices += [dense(f"branch{place}", "in", 16, unit * (place + 1)) for place in range(branches)]
    vertices.append(Vertex("joined", "concat", tuple(Port(f"branch{b}") for b in range(branches)), {"axis": -1}))
    width = unit * branches * (branches + 1) // 2
    return Graph([*vertices, dense("head", "joined", width, 10)]), "joined"


def mixed(neurons: int) -> tuple[Graph, str]:
    """Residual blocks whose outer part is a concatenation of two branches."""
    width = 2 * max(4, min(512, int(math.sqrt(neurons) * 0.75)))
    blocks = max(1, (neurons - width) // (4 * width))
    vertices = [given(16), dense("stem", "in", 16, width)]
    last = "stem"
    for place in range(blocks):
        left, right = f"left{place}", f"right{place}"
        vertices += [
            dense(f"inner{place}", last, width, width),
            dense(left, f"inner{place}", width, width // 2),
            dense(right, f"inner{place}", width, width // 2),
            Vertex(f"joined{place}", "concat", (Port(left), Port(right)), {"axis": -1}),
            total(last, f"joined{place}", into=f"sum{place}"),
        ]
        last = f"sum{place}"
    return Graph([*vertices, dense("head", last, width, 10)]), last


NETWORKS: dict[str, Callable[[int], tuple[Graph, str]]] = {
    "residual": residual,
    "concat": concatenated,
    "mixed": mixed,
}


def planned(graph: Graph, name: str, delta: Delta, utility: dict[str, np.ndarray]) -> dict[str, Any]:
    """Plan one change from the bare graph, with the time of every phase in seconds."""
    clock = [time.perf_counter()]
    labels = label(graph)
    clock.append(time.perf_counter())
    targets = output_targets(graph, labels, [(name, delta)])
    problem = pose(labels, targets, lambda port: utility[port.vertex])
    clock.append(time.perf_counter())
    counts = solve(problem)
    clock.append(time.perf_counter())
    certificate = certify(problem, counts, {})
    draw(graph, labels, problem.class_of, select(problem, counts), certificate)
    clock.append(time.perf_counter())
    seconds = dict(zip(("label", "pose", "solve", "plan"), np.diff(clock).tolist(), strict=True))
    return {
        "seconds": {**seconds, "total": clock[-1] - clock[0]},
        "buckets": len(problem.buckets),
        "objective": certificate.objective,
        "bound": certificate.bound,
        "status": certificate.status.value,
    }


def measure(kind: str, neurons: int, *, insert: bool, repeats: int, seed: int = 0) -> dict[str, Any]:
    """The median of several plans of one kind and size."""
    graph, name = NETWORKS[kind](neurons)
    labels = label(graph)
    rng = np.random.default_rng(seed)
    utility = {port.vertex: rng.random(len(tensor.neurons)) for port, tensor in labels.tensors.items()}
    size = len(labels.tensors[Port(name)].neurons)
    step = max(1, size // 4)
    delta: Delta = step if insert else -step
    runs = [planned(graph, name, delta, utility) for _ in range(repeats)]
    middle = {
        phase: statistics.median(run["seconds"][phase] for run in runs)
        for phase in ("label", "pose", "solve", "plan", "total")
    }
    count = sum(len(tensor.neurons) for tensor in labels.tensors.values())
    return {**runs[0], "seconds": middle, "network": kind, "neurons": count, "insert": insert}


def small(repeats: int) -> float:
    """Seconds for a whole `delta_nout` on 2 -> 32 -> 1 neurons; the median."""
    seconds = []
    for seed in range(repeats):
        net = Network(seed=seed)
        hidden = nn.dense(net.input("in", 2), 32, activation="relu", name="hidden")
        net.output(nn.dense(hidden, 1, activation="sigmoid", name="out"))
        start = time.perf_counter()
        delta_nout(hidden, -16)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def baseline(blocks: int, inner: int, outer: int, delta: int, seconds: float) -> dict[str, Any]:
    """The same stage with variables for every neuron, in a process of its own."""
    numbers = map(str, (blocks, inner, outer, delta, seconds))
    command = [sys.executable, "-m", "tests.benchmarks.neuron_milp", *numbers]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def stage(blocks: int, inner: int, outer: int, delta: int, seed: int = 0) -> dict[str, Any]:
    """A stage of bottleneck blocks with this library: two inner layers, an outer one and a sum in each."""
    vertices, last = [given(16), dense("stem", "in", 16, outer)], "stem"
    for place in range(blocks):
        first, second, third = (f"{name}{place}" for name in ("first", "second", "third"))
        vertices += [
            dense(first, last, outer, inner),
            dense(second, first, inner, inner),
            dense(third, second, inner, outer),
            total(last, third, into=f"sum{place}"),
        ]
        last = f"sum{place}"
    graph = Graph(vertices)
    rng = np.random.default_rng(seed)
    utility = {v.name: rng.random(v.parameters["bias"].shape[0]) for v in vertices if v.parameters}
    utility |= {f"sum{place}": rng.random(outer) for place in range(blocks)}
    runs = [planned(graph, last, delta, utility) for _ in range(REPEATS)]
    runs.sort(key=lambda run: float(run["seconds"]["total"]))
    return runs[len(runs) // 2]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--largest", type=int, default=1_000_000, help="largest number of neurons")
    parser.add_argument("--repeats", type=int, default=REPEATS, help="runs per row; the median is shown")
    parser.add_argument("--milp-seconds", type=float, default=120.0, help="time limit of the baseline")
    parser.add_argument("--no-milp", action="store_true", help="leave the baseline out")
    options = parser.parse_args()
    print(
        f"Python {platform.python_version()}, numpy {np.__version__}, {platform.machine()}, median of {options.repeats}"
    )
    print(
        f"{'network':<9} {'neurons':>9} {'':>6} "
        f"{'label':>9} {'pose':>9} {'solve':>9} {'plan':>9} {'total':>9}  counts gap"
    )
    for kind in NETWORKS:
        rows = []
        neurons = 1000
        while neurons <= options.largest:
            for insert in (False, True):
                rows.append(measure(kind, neurons, insert=insert, repeats=options.repeats))
                print(_line(rows[-1]))
            neurons *= 10
        print(_growth(rows))
    print(f"\ndelta_nout on a network of XOR's size, applied: {1000 * small(options.repeats):.1f} ms")
    if not options.no_milp:
        _against_milp(options.milp_seconds)


def _line(row: dict[str, Any]) -> str:
    seconds = row["seconds"]
    assert isinstance(seconds, dict)
    times = " ".join(f"{1000 * seconds[phase]:7.1f}ms" for phase in ("label", "pose", "solve", "plan", "total"))
    gap = float(str(row["bound"])) - float(str(row["objective"]))
    what = "insert" if row["insert"] else "prune"
    return f"{row['network']:<9} {row['neurons']:>9,} {what:>6} {times}  {row['buckets']:>5} {gap:.1e}"


def _growth(rows: list[dict[str, Any]]) -> str:
    """The exponent of the time over the whole range, beside that of n log n."""
    first, last = rows[0], rows[-2]
    span = math.log(last["neurons"] / first["neurons"]) if len(rows) > 2 else math.nan
    bend = math.log(math.log(last["neurons"]) / math.log(first["neurons"])) if len(rows) > 2 else math.nan
    grown = math.log(last["seconds"]["total"] / first["seconds"]["total"])
    return f"{'':<9} time grows as n^{grown / span:.2f} when pruning; n log n would be n^{1 + bend / span:.2f}"


def _against_milp(limit: float) -> None:
    blocks, inner, outer = 10, 448, 1024
    neurons = outer + blocks * (2 * inner + 2 * outer)
    print(f"\nresidual stage, {neurons:,} neurons, against variables for every neuron (HiGHS, own process)")
    for delta in (-256, 256):
        ours, theirs = stage(blocks, inner, outer, delta), baseline(blocks, inner, outer, delta, limit)
        seconds, other = ours["seconds"], float(theirs["seconds"])
        program = seconds["pose"] + seconds["solve"]
        print(
            f"  {delta:+d}: pose and solve {1000 * program:.1f} ms, everything {1000 * seconds['total']:.1f} ms "
            f"({ours['status']}); HiGHS {other:.2f} s ({theirs['status']}); "
            f"ratio {other / program:,.0f} for the program, {other / seconds['total']:,.0f} for everything"
        )


if __name__ == "__main__":
    main()
