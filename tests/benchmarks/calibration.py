"""How good real models still are when they are shrunk without any training.

`python -m tests.benchmarks.calibration` shrinks every model to 0.9, 0.75 and 0.5 of its multiplications: every layer by
the same share and L1 norms (`uniform`), L2 norms weighed against each other (`global`), the best of several utilities
from samples (`single`), and `shrink(..., data=samples)` (`full`), and prints the model's own measure and how far its
outputs are off. Names of models (parts of them) may follow. Samples to calibrate with and data to measure with have
nothing in common.

What is refused since it computes nothing that could be verified counts as `-inf`.

`python -m tests.benchmarks.calibration xor` and `digits` do the same with small networks that are trained first: half
of the hidden layer of XOR for 100 seeds, half of the channels of a network for digits for 8. `feed-forward` takes the
same share of the feed-forward neurons from each layer of MiniLM.

`python -m tests.benchmarks.calibration cost` prints how long calibrating, measuring, planning and refitting take, and
the peak memory, a process for each model.
"""

from __future__ import annotations

import argparse
import copy
import multiprocessing
import resource
import time
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from solver_nas import calibrate, normalised, plan_change, shrink, utilities
from solver_nas.demos import digits, xor
from solver_nas.errors import ImpossibleError, SolverNasError, VerificationError
from solver_nas.limits import macs, now, removed_at_most
from solver_nas.onnx import load
from solver_nas.outcomes import error_of, judged, outcome, spread_of
from tests.benchmarks.measures import real_models, runner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from solver_nas.calibrate import Calibration
    from solver_nas.change import Plan
    from solver_nas.editable import Editable
    from solver_nas.passage import Batch
    from tests.benchmarks.measures.modules import RealModule
    from tests.benchmarks.measures.real import Real

_SHARES = (0.9, 0.75, 0.5)
_ROWS = 2  # samples that changes of ONNX models are tried out with
_HALVINGS = 6  # in the search for the share that every layer loses
_SOLVING = 5.0  # seconds
_SINGLE: dict[str, Callable[[Any], Any]] = {
    "deviation x outgoing": utilities.deviation_times_outgoing,
    "activation x outgoing": normalised(utilities.activation_times_outgoing, "mean"),
    "contribution": utilities.contribution,
    "reconstruction": utilities.reconstruction,
}


@dataclass
class Subject:
    """A model with its measure.

    Args:
        name: of the model.
        model: opened or traced; comes back to what it was with `undo`.
        samples: to calibrate with.
        score: how good the model is.
        measure: what that is.
    """

    name: str
    model: Editable
    samples: Any
    score: Callable[[], float]
    measure: str


def subjects(names: Sequence[str]) -> Iterator[Subject]:
    """All models, or those with such names, one after the other."""
    for real in real_models():
        if not names or any(name in real.name for name in names):
            yield _opened(real)
    yield from modules(names)


def _opened(real: Real) -> Subject:
    batches = real.batches()
    few = batches[0] if len(batches) > 1 else {name: array[:_ROWS] for name, array in batches[0].items()}
    model = load(real.proto(), real.input_shapes, inputs=few)
    return Subject(real.name, model, batches, lambda: real.score(runner(model.proto)), real.measure)


def modules(names: Sequence[str]) -> Iterator[Subject]:
    """Those of PyTorch."""
    from tests.benchmarks.measures.modules import real_modules

    for real in real_modules():
        if not names or any(name in real.name for name in names):
            yield _traced(real)


def _traced(real: RealModule) -> Subject:
    from solver_nas.torch import trace

    module = real.build()
    args, kwargs = real.example()
    model = trace(module, args, kwargs, history=1)
    return Subject(real.name, model, real.samples(), lambda: real.score(module), real.measure)


class Distance:
    """How far outputs are off, on the last quarter of the samples, which nothing is fitted to."""

    def __init__(self, model: Editable, batches: Sequence[Batch]) -> None:
        """Remember what the outputs are."""
        self._model, self._batches, mask = model, batches, _mask(batches)
        self._counting = [batch.counting(mask) for batch in batches]
        self._wanted = self._outputs()
        self._scale = spread_of(self._wanted)

    def _outputs(self) -> list[dict[str, Any]]:
        course, names = self._model.course(), judged(self._model)
        pairs = zip(self._batches, self._counting, strict=True)
        return [outcome(course.start(batch), names, counting) for batch, counting in pairs]

    def __call__(self) -> float:
        """As a fraction of their variance; of probabilities, before the softmax or sigmoid."""
        pairs = zip(self._outputs(), self._wanted, strict=True)
        return float(np.mean([error_of(found, wanted, self._scale) for found, wanted in pairs]))


def uniform(model: Editable, share: float) -> Plan:
    """Every layer loses the same share, as far as rounding and groups allow, by L1 norms."""
    low, high, best = 0.0, 1.0, None
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        try:
            limits = [macs(model) <= share * now, removed_at_most(middle)]
            best = shrink.plan(model, limits, utility=utilities.l1, normalise="mean", time_limit=_SOLVING)
            high = middle
        except (ImpossibleError, TimeoutError):
            low = middle
    return best or shrink.plan(model, [macs(model) <= share * now], utility=utilities.l1, normalise="mean")


def rows(subject: Subject) -> None:
    """Print what is left of a model at each budget."""
    model = subject.model
    original = subject.score()
    batches = list(model.batches(_list(subject.samples), None))
    kept = batches[: max(1, len(batches) * 3 // 4)]
    distance = Distance(model, batches[len(kept) :] or batches)
    given = [dict(batch.inputs) if _by_name(model, batch) else tuple(batch.inputs.values()) for batch in kept]
    calibration = calibrate(model, given, batch_size=_size(kept), mask=_mask(kept), progress=False)
    for share in _SHARES:
        found: dict[str, tuple[float, float]] = {}

        def judge(name: str, plan: Plan, found: dict[str, tuple[float, float]] = found) -> None:
            try:
                plan.apply()
            except VerificationError:
                # What is left is so far off that nobody can tell whether it is what was planned.
                found[name] = (float("-inf"), float("inf"))
                return
            found[name] = (subject.score(), distance())
            model.undo()

        limits = [macs(model) <= share * now]
        judge("uniform", uniform(model, share))
        judge("global", shrink.plan(model, limits, utility=utilities.magnitude, normalise="mean", time_limit=_SOLVING))
        for name, utility in _SINGLE.items():
            judge(name, shrink.plan(model, limits, utility=utility, time_limit=_SOLVING))
        judge("full", shrink.plan(model, limits, data=calibration, time_limit=_SOLVING, progress=False))
        single = max(_SINGLE, key=lambda name: found[name])
        told = "; ".join(
            f"{name} {found[key][0]:.3f} ({found[key][1]:.3f})"
            for name, key in (
                ("uniform", "uniform"),
                ("global", "global"),
                (f"single, {single}", single),
                ("full", "full"),
            )
        )
        print(f"{subject.name:<22} {subject.measure}, {original:.3f}, at {share}: {told}", flush=True)


def _list(samples: Any) -> list[Any]:
    return list(samples) if isinstance(samples, list) else [samples]


def _by_name(model: Editable, batch: Batch) -> bool:
    """Whether a front end wants these inputs by name."""
    example = getattr(model, "_inputs", None)
    return not batch.rows or example is None or not example.args


def _mask(batches: Sequence[Batch]) -> str | None:
    """The input that says which positions count, if there is one."""
    return "attention_mask" if "attention_mask" in batches[0].inputs else None


def _size(batches: Sequence[Batch]) -> int:
    """So many samples at once that there are at least eight batches."""
    return max(1, min(8, sum(max(batch.rows, 1) for batch in batches) // 8))


def _cost(name: str) -> None:
    """Print what it takes to calibrate one model, measure it, plan for three quarters, and refit it."""
    (subject,) = [one for one in subjects([name]) if one.name == name]
    batches = list(subject.model.batches(_list(subject.samples), None))
    clock = [time.perf_counter()]
    calibration: Calibration = calibrate(subject.model, _list(subject.samples), mask=_mask(batches), progress=False)
    clock.append(time.perf_counter())
    sensitive = utilities.measured(calibration, progress=False)
    clock.append(time.perf_counter())
    plan = shrink.plan(subject.model, [macs(subject.model) <= 0.75 * now], utility=sensitive, time_limit=_SOLVING)
    clock.append(time.perf_counter())
    plan = plan.compensate(calibration, progress=False)
    clock.append(time.perf_counter())
    seconds = dict(zip(("calibrate", "measure", "plan", "refit"), np.diff(clock), strict=True))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    told = ", ".join(f"{what} {one:.1f} s" for what, one in seconds.items())
    print(f"{name:<22} {calibration.samples} samples: {told}; peak memory {peak:,.0f} MB", flush=True)


def _xor(seeds: int = 100) -> None:
    """Half of the hidden neurons of networks that have learned XOR, by three utilities, with and without a refit."""
    counts = dict.fromkeys(("ordered", "near, refitted", "near, by the utility alone"), 0)
    for seed in range(seeds):
        network = xor.train(seed)
        original, rng = xor.loss(network), np.random.default_rng(seed)

        def lost(utility: Callable[[Any], Any], *, refit: bool, network: Any = network) -> float:
            twin = copy.deepcopy(network)
            # The truth table is all there is, so that nothing can be held back.
            calibration = calibrate(twin, xor.X, held_back=0, progress=False)
            plan = plan_change(twin["hidden"], -xor.HIDDEN // 2, utility=utility)
            (plan.compensate(calibration, progress=False) if refit else plan).apply()
            return xor.loss(twin)

        def opposite(vertex: Any) -> Any:
            worth = np.asarray(utilities.reconstruction(vertex)) * np.ones(vertex.nout)
            return 2 * worth.sum() - worth

        def drawn(vertex: Any, rng: np.random.Generator = rng) -> Any:
            return rng.uniform(size=vertex.nout)

        refitted, plain = (lost(utilities.reconstruction, refit=refit) for refit in (True, False))
        random = float(np.median([lost(drawn, refit=False) for _ in range(xor.DRAWS)]))
        counts["ordered"] += lost(opposite, refit=False) > random > refitted
        counts["near, refitted"] += abs(refitted - original) < xor.CLOSE
        counts["near, by the utility alone"] += abs(plain - original) < xor.CLOSE
    told = ", ".join(f"{what}: {count} of {seeds}" for what, count in counts.items())
    print(f"xor: {told}", flush=True)


def _digits(seeds: int = 8) -> None:
    """Half of all channels of networks that read digits, with and without a refit; accuracy on images held back."""
    found = []
    for seed in range(seeds):
        data, network = digits.load(seed), digits.build(seed)
        digits.train(network, data, epochs=6, rate=0.005, seed=seed)
        row = [digits.accuracy(network, data)]
        for utility in (None, utilities.reconstruction, utilities.magnitude):
            for refit in (False, True):
                twin = copy.deepcopy(network)
                # Some of the images that it was trained on, and none that it is judged by.
                calibration = calibrate(twin, data.x[:400], progress=False)
                request = {twin[name]: delta for name, delta in digits.REQUEST.items()}
                plan = plan_change(request, utility=utility)
                (plan.compensate(calibration, progress=False) if refit else plan).apply()
                row.append(digits.accuracy(twin, data))
        found.append(row)
    names = [
        f"{name}, {how}" for name in ("contribution", "reconstruction", "magnitude") for how in ("alone", "refitted")
    ]
    told = ", ".join(
        f"{name} {mean:.3f}" for name, mean in zip(["original", *names], np.mean(found, axis=0), strict=True)
    )
    print(f"digits, {seeds} seeds: {told}", flush=True)


def _feed_forward() -> None:
    """A share of the feed-forward neurons of every layer of MiniLM, by three utilities, with and without a refit."""
    for share in (0.25, 0.5, 0.75):
        told = []
        for name in ("magnitude", "activation_times_outgoing", "reconstruction"):
            for refit in (False, True):
                (subject,) = modules(["minilm"])
                calibration = calibrate(subject.model, subject.samples, mask="attention_mask", progress=False)
                wide = [vertex for vertex in subject.model if vertex.name.endswith("intermediate.dense")]
                request = {vertex: -int(share * vertex.nout) for vertex in wide}
                plan = plan_change(request, utility=getattr(utilities, name))
                (plan.compensate(calibration, progress=False) if refit else plan).apply()
                told.append(f"{name}{', refitted' if refit else ''} {subject.score():.3f}")
        print(f"minilm, {share:.0%} of the feed-forward neurons removed: {'; '.join(told)}", flush=True)


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    if given.names[:1] == ["cost"]:
        for subject in subjects(given.names[1:]):
            process = multiprocessing.get_context("spawn").Process(target=_cost, args=(subject.name,))
            process.start()
            process.join()
        return
    for name, run in (("xor", _xor), ("digits", _digits), ("feed-forward", _feed_forward)):
        if name in given.names:
            run()
    names = [name for name in given.names if name not in ("xor", "digits", "feed-forward")]
    for subject in subjects(names) if names or not given.names else ():
        try:
            rows(subject)
        except SolverNasError as error:
            print(f"{subject.name:<22} {type(error).__name__}: {str(error).splitlines()[0]}", flush=True)


if __name__ == "__main__":
    main()
