"""Whole PyTorch models: how long tracing takes, how much can change, and whether what comes out is right.

`python -m tests.benchmarks.torch_models cases` goes through the small cases of the tests, and likewise `architectures`
(the 32 on which the peers were measured), `torchvision` (every classifier) and `timm` (one or two models per module).
Names of models (parts of them) may follow.

Each model is built twice with the same random weights, non-trivial statistics included, in double precision. One is
shrunk to half of its multiplications, another grown by three neurons in every group that can change, all at once; an
oracle that zeroes instead of removing (tests/torch/oracle.py) compares what comes out with the other, in place and
stand-alone. Every model runs in a process of its own, which may take so many minutes.
"""

# mypy: disable-error-code="no-untyped-call"
# timm and torchvision have no types.

from __future__ import annotations

import argparse
import logging
import multiprocessing
import re
import resource
import time
import traceback
import warnings
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from solver_nas import plan_change, relaxed, shrink
from solver_nas.classes import classify
from solver_nas.errors import CaptureError, ImpossibleError, SolverNasError
from solver_nas.inspection import inspect
from solver_nas.limits import macs, now, removed_at_most
from solver_nas.torch import trace
from tests.benchmarks.torch_names import TIMM
from tests.torch.architectures import ARCHITECTURES
from tests.torch.cases import Case, case, images
from tests.torch.oracle import Inputs, Outcome, judge
from tests.torch.small_cases import CASES
from tests.torch.torchvision_ready import make_ready

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from multiprocessing.connection import Connection

    from solver_nas.change import Plan
    from solver_nas.torch.model import TorchModel

_GROWN = 3
_REMOVED = 0.8  # of each layer: what has one neuron left often is 0 behind a ReLU, and nothing can be compared
_SOLVING = 5.0  # seconds for a plan
_GAP = 1e-2  # from which on it is told that the solver was not done
_SIZES = (64, 96, 128, 192, 224, 256, 288, 299, 384)  # pixels, of which the first is taken that works
_MOST = 400_000_000  # parameters: of what is larger, double precision takes more than 20 GB
_OUTPUT = "what the model returns stays as it is"  # pins something in every model
_SHOWN = 110  # characters of a reason


@dataclass
class Row:
    """What became of one model."""

    name: str
    traced: float = float("nan")
    planned: float = float("nan")
    applied: float = float("nan")
    vertices: int = 0
    parameters: int = 0
    free: float = float("nan")
    half: str = ""
    grown: str = ""
    groups: int = 0
    pinned: Counter[str] = field(default_factory=Counter)
    seconds: float = float("nan")
    gigabytes: float = float("nan")

    def __str__(self) -> str:
        """In one line, with the reasons in a second one."""
        reasons = "; ".join(f"{often} x {why[:_SHOWN]}" for why, often in self.pinned.most_common(2))
        return (
            f"{self.name:<34} {self.traced:>5.1f} {self.planned:>5.1f} {self.applied:>5.1f}  {self.vertices:>5} "
            f"{self.parameters / 1e6:>6.1f}M {self.free:>6.1%}  half: {self.half}; "
            f"growth of {self.groups}: {self.grown}  ({self.seconds:.0f} s, {self.gigabytes:.1f} GB)"
            + (f"\n{'':<36}pinned {sum(self.pinned.values())}: {reasons}" if self.pinned else "")
        )


@dataclass
class Totals:
    """What became of all models."""

    rows: list[Row] = field(default_factory=list)

    def __str__(self) -> str:
        """A line for each question."""
        rows = self.rows
        lines = [f"{len(rows)} models, {sum(row.seconds for row in rows):.0f} s"]
        for what, words in (("half", [row.half for row in rows]), ("growth", [row.grown for row in rows])):
            found = Counter(_first(word) for word in words)
            lines.append(f"{what}: " + ", ".join(f"{often} {word}" for word, often in found.most_common()))
        shares = [row.free for row in rows if row.vertices]
        if shares:
            lines.append(
                f"free parameters: mean {np.mean(shares):.1%}, median {np.median(shares):.1%}, "
                f"{sum(share == 0 for share in shares)} models with none"
            )
            for what, times in (("trace", [r.traced for r in rows]), ("plan", [r.planned for r in rows])):
                lines.append(f"{what}: median {np.nanmedian(times):.2f} s, most {np.nanmax(times):.1f} s")
        reasons: Counter[str] = Counter()
        for row in rows:
            reasons.update(dict.fromkeys(row.pinned, 1))
        lines += [f"  pinned in {often} models: {why}" for why, often in reasons.most_common(15)]
        return "\n".join(lines)


def _first(words: str) -> str:
    """The outcome in a sentence that begins with it."""
    found = re.match(r"right|not judged|[^:]*", words)
    return found.group() if found else words


def examine(one: Case, row: Row) -> None:
    """Fill in a row."""
    inputs = Inputs(one.inputs(), one.kwargs()).wide()
    start = time.perf_counter()
    module = one.build().double()
    row.parameters = sum(parameter.numel() for parameter in module.parameters())
    if row.parameters > _MOST:
        row.half = row.grown = "too large"
        return
    start = time.perf_counter()
    try:
        model = _traced(module, inputs)
    except CaptureError as error:
        row.half = row.grown = f"refused: {_told(error)}"
        return
    row.traced = time.perf_counter() - start
    looks = inspect(model)
    row.vertices = len(looks.parts)
    row.free = looks.free_parameters / max(looks.parameters, 1)
    reasons = [_general(reason) for reasons in looks.pinned.values() for reason in reasons]
    row.pinned = Counter(reason for reason in reasons if reason != _OUTPUT)
    row.half = _changed(one, model, inputs, row, _halved)
    del model, module
    model = _traced(one.build().double(), inputs)
    names = groups(model)
    row.groups = len(names)
    if names:
        row.grown = _changed(one, model, inputs, Row(""), partial(_all_grown, names=names))


def _traced(module: nn.Module, inputs: Inputs) -> TorchModel:
    args, kwargs = inputs.copies()
    return trace(module, args, kwargs)


def groups(model: TorchModel) -> list[str]:
    """A vertex for each set of neurons that can change."""
    class_of, _ = classify(model.labels)
    found: dict[bytes, str] = {}
    for handle in model:
        classes = np.unique(class_of[model.tensor(handle.name).neurons["label"]])
        if (classes != class_of[0]).any():
            found.setdefault(classes.tobytes(), handle.name)
    return list(found.values())


def _halved(model: TorchModel) -> Plan:
    return shrink.plan(
        model, [macs(model) <= 0.5 * now, removed_at_most(_REMOVED)], normalise="mean", time_limit=_SOLVING
    )


def _all_grown(model: TorchModel, names: list[str]) -> Plan:
    return plan_change({model[name]: relaxed(_GROWN) for name in names}, time_limit=_SOLVING)


def _changed(one: Case, model: TorchModel, inputs: Inputs, row: Row, planned: Callable[[TorchModel], Plan]) -> str:
    start = time.perf_counter()
    try:
        plan = planned(model)
    except ImpossibleError as error:
        return f"impossible: {_told(error)}"
    except SolverNasError as error:
        return f"no plan: {type(error).__name__} {_told(error)}"
    row.planned = time.perf_counter() - start
    start = time.perf_counter()
    try:
        plan.apply()
    except SolverNasError as error:
        return f"refused at the change: {type(error).__name__} {_told(error)}"
    row.applied = time.perf_counter() - start
    original, training = one.build().double(), model.structure.training
    verdict = judge(original, model.module, model.standalone(), plan.blueprint.arrays, inputs, training=training)
    if verdict.outcome is Outcome.RIGHT:
        gap = plan.certificate.gap
        late = f" (not proven: gap {gap:.0e})" if gap > _GAP else ""
        return f"right {verdict.in_place:.0e} {verdict.standalone:.0e}{late}"
    return f"{verdict.outcome.value}: {verdict}"


def _told(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " | ".join(lines[:2])[: 2 * _SHOWN]


def _general(reason: str) -> str:
    """A reason without what is particular to one model."""
    return re.sub(r"\s*\([\w/.]+\.py:\d+.*", " (...)", re.sub(r"\d+", "N", reason))


# -- models ----------------------------------------------------------------------------------------


def _torchvision() -> Iterator[Case]:
    make_ready()
    import torchvision

    for name in torchvision.models.list_models(module=torchvision.models):
        yield _fitting(name, partial(_torchvision_model, name))


def _torchvision_model(name: str, **options: Any) -> nn.Module:
    import torchvision

    if name in ("googlenet", "inception_v3"):
        options |= {"init_weights": False, "aux_logits": False}
    if "image_size" in options and "vit" not in name and "maxvit" not in name:
        raise TypeError
    if name == "maxvit_t" and "image_size" in options:
        options = {"input_size": (options["image_size"],) * 2}
    model: nn.Module = torchvision.models.get_model(name, weights=None, **options)
    return model


def _timm() -> Iterator[Case]:
    make_ready()
    for name in TIMM:
        yield _fitting(name, partial(_timm_model, name))


def _timm_model(name: str, **options: Any) -> nn.Module:
    import timm

    if "image_size" in options:
        options["img_size"] = options.pop("image_size")
    model: nn.Module = timm.create_model(name, pretrained=False, **options)
    return model


def _fitting(name: str, make: Callable[..., nn.Module]) -> Case:
    """A case that looks for the smallest picture when it is built; its inputs are those of the latest build."""
    found: list[tuple[int, dict[str, int]]] = []

    def look() -> tuple[int, dict[str, int]]:
        if not found:
            found.append(_smallest(make))
        return found[0]

    return Case(
        name,
        lambda: case(name, partial(make, **look()[1]), images(look()[0])).build(),
        lambda: images(look()[0])(),  # noqa: PLW0108 - looks only when it is called
    )


@torch.no_grad()
def _smallest(make: Callable[..., nn.Module]) -> tuple[int, dict[str, int]]:
    """The smallest picture that a model takes, and the options that it is made with."""
    plain = make().eval()
    for size in _SIZES:
        choices: list[dict[str, int]] = [{}, {"image_size": size}]
        for options in choices:
            try:
                module = make(**options).eval() if options else plain
                out = module(*images(size)())
            except Exception:  # noqa: BLE001 - whatever the model says, the next size is tried
                continue
            if all(bool(leaf.isfinite().all()) for leaf in torch.utils._pytree.tree_leaves(out)):
                return size, options
    raise ValueError("it takes none of these sizes")


# -- processes -------------------------------------------------------------------------------------


def _worker(one: Case, pipe: Connection) -> None:
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    torch.set_num_threads(1)
    row, start = Row(one.name), time.perf_counter()
    try:
        examine(one, row)
    except Exception as error:  # noqa: BLE001 - a row for whatever happens
        place = traceback.extract_tb(error.__traceback__)[-1]
        words = f"CRASH: {type(error).__name__} {_told(error)} at {place.filename}:{place.lineno}"
        row.half, row.grown = row.half or words, row.grown or words
    row.seconds = time.perf_counter() - start
    row.gigabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    pipe.send(row)


def examined(one: Case, minutes: float) -> Row:
    """A row, made in another process."""
    context = multiprocessing.get_context("fork")
    mine, its = context.Pipe(duplex=False)
    process = context.Process(target=_worker, args=(one, its))
    start = time.perf_counter()
    process.start()
    its.close()
    words = f"CRASH: not done after {minutes:g} minutes"
    try:
        if mine.poll(60 * minutes):
            row: Row = mine.recv()
            return row
    except EOFError:
        words = "CRASH: the process died"
    finally:
        process.kill()
        process.join()
    return Row(one.name, half=words, grown=words, seconds=time.perf_counter() - start)


def _cases(what: str) -> Iterable[Case]:
    match what:
        case "cases":
            return CASES
        case "architectures":
            return ARCHITECTURES
        case "torchvision":
            return _torchvision()
        case _:
            return _timm()


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["cases", "architectures", "torchvision", "timm"])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--minutes", type=float, default=5.0, help="the most that a model may take")
    given = parser.parse_args()
    make_ready()
    totals = Totals()
    trace(nn.Linear(2, 2), torch.ones(2, 2))  # what is imported only then is no part of the first row
    print(f"torch {torch.__version__}, one thread, double precision; seconds to trace, plan, apply; vertices, free")
    try:
        for one in _cases(given.what):
            if not given.names or any(name in one.name for name in given.names):
                row = examined(one, given.minutes)
                totals.rows.append(row)
                print(row, flush=True)
    except KeyboardInterrupt:
        print("interrupted")
    print(totals)


if __name__ == "__main__":
    main()
