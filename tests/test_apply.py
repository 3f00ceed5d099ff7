"""Plans are carried out as a whole, or not at all."""

import copy
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from solver_nas import Network, Plan, concat, delta_nout, nn, plan_change
from solver_nas import apply as apply_module
from solver_nas.errors import PlanError
from solver_nas.frontend import Handle
from solver_nas.testing.zoo import ZOO, inputs


def network(seed: int = 0) -> Network:
    net = Network(seed=seed)
    x = net.input("in", 3)
    a = nn.dense(x, 6, activation="relu", name="a")
    b = nn.dense(a, 6, name="b")
    both = concat([a + b, a], name="both")
    net.output(nn.dense(both, 2, name="out"))
    return net


def everything(net: Network) -> tuple[object, ...]:
    """All that a network is, bit for bit."""
    arrays = {key: (array.dtype.str, array.shape, array.tobytes()) for key, array in net.arrays.items()}
    return net.graph, tuple(net.graph.vertices), arrays, dict(net.observers)


def worth(v: Handle) -> np.ndarray:
    return np.random.default_rng(v.nout).random(v.nout)


class FailureError(Exception):
    """What the tests below make happen."""


FAULTS: list[tuple[object, str]] = [
    (apply_module, "take"),
    (apply_module, "fill"),
    (np.random, "default_rng"),
    (Network, "fill_of"),
    (Network, "commit"),
]


@pytest.mark.parametrize("error", [FailureError, KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize(("owner", "name"), FAULTS, ids=[name for _, name in FAULTS])
def test_a_failure_at_any_call_leaves_every_bit(
    owner: object, name: str, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Let the first call of a step fail, then the second, and so on until there are no more."""
    original: Callable[..., object] = getattr(owner, name)
    failures = 0
    for nth in range(100):
        net = network()
        plan = plan_change({net["a"]: -2, net["out"]: 1}, utility=worth)
        before = everything(net)
        calls = iter(range(1000))

        def failing(*args: object, calls: object = calls, nth: int = nth, **kwargs: object) -> object:
            if next(calls) == nth:  # type: ignore[call-overload]  # an iterator
                raise error(name)
            return original(*args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(owner, name, failing)
            try:
                plan.apply()
            except error:
                failures += 1
                assert everything(net) == before
            else:
                break
        plan.apply()
        assert net["a"].nout == 4
    assert failures, f"{name} was never called"


def test_every_line_of_applying_may_be_interrupted() -> None:
    """An interrupt between any two lines of our code: before the last assignment nothing has changed."""
    package = str(Path(apply_module.__file__).parent)
    states = set()
    watching = sys.gettrace()  # coverage, if it is measured
    for stop in range(2000):
        net = network()
        plan = plan_change({net["a"]: -2, net["out"]: 1}, utility=worth)
        before = everything(net)
        lines = iter(range(10**6))

        def tracer(frame: object, event: str, _: object, lines: object = lines, stop: int = stop) -> object:
            if not frame.f_code.co_filename.startswith(package):  # type: ignore[attr-defined]  # a frame
                return None
            if event == "line" and next(lines) == stop:  # type: ignore[call-overload]  # an iterator
                raise KeyboardInterrupt
            return tracer

        sys.settrace(tracer)  # type: ignore[arg-type]  # typed for the interpreter
        try:
            plan.apply()
        except KeyboardInterrupt:
            done = everything(net) != before
            states.add(done)
            if done:
                assert net["a"].nout == 4
                net(np.ones((1, 3)))
        else:
            break
        finally:
            sys.settrace(watching)
    assert False in states


def test_a_plan_is_for_one_state_of_one_model() -> None:
    net = network()
    first, second = plan_change(net["a"], -1, utility=worth), plan_change(net["a"], -2, utility=worth)
    second.apply()
    before = everything(net)
    for plan in (first, second):
        with pytest.raises(PlanError, match="the model has changed since this plan was made; make a new plan"):
            plan.apply()
    assert everything(net) == before


def test_what_a_plan_says_cannot_be_written_to() -> None:
    plan = plan_change(network()["a"], -1, utility=worth)
    with pytest.raises(ValueError, match="read-only"):
        plan.indices["a"][0] = 3


def test_copies_are_untouched() -> None:
    net = network()
    twin = copy.deepcopy(net)
    before = everything(twin)[2]
    delta_nout(net["a"], -3, utility=worth)
    assert everything(twin)[2] == before
    assert (net["a"].nout, twin["a"].nout) == (3, 6)


def test_what_accompanies_parameters_is_selected_alike() -> None:
    net = network()
    plan = plan_change({net["a"]: -2, net["out"]: 1}, utility=worth)
    marks = {key: np.arange(array.size, dtype=float).reshape(array.shape) for key, array in net.arrays.items()}
    followed = plan.follow(marks)
    old, new = dict(net.arrays), plan.build()
    for key, array in new.items():
        kept = followed[key] != 0
        assert followed[key].shape == array.shape
        assert (old[key].reshape(-1)[followed[key][kept].astype(int)] == array[kept]).all()
    with pytest.raises(PlanError, match=r"the array for parameter 'a.weight' has shape \(1,\)"):
        plan.follow({"a.weight": np.zeros(1)})
    with pytest.raises(PlanError, match=r"there is no parameter 'module.a.weight'; keys are those of the model's own"):
        plan.follow({"module.a.weight": marks["a.weight"]})


SCRIPT = """
import numpy as np
from solver_nas import plan_change, relaxed
from solver_nas.testing.zoo import ZOO
for name in ("grouped convolution", "shuffle unit", "residual", "attention", "concat with itself"):
    net = ZOO[name].build(3)
    v = [v for v in net.vertices if v.kind != "input" and v.nout > 2][-2]
    for delta in (-2, 2):
        rng = np.random.default_rng(5)
        plan = plan_change(v, relaxed(delta), utility=lambda u: rng.random(u.nout), seed=7)
        arrays = plan.build()
        print(name, {n: i.tolist() for n, i in plan.indices.items()})
        print(plan.certificate.objective, plan.certificate.bound)
        print([(k, a.tobytes().hex()) for k, a in sorted(arrays.items())])
"""


def test_same_seed_same_plan_bit_for_bit() -> None:
    runs = [
        subprocess.run(
            [sys.executable, "-c", SCRIPT],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert runs[0] == runs[1]
    assert "grouped convolution" in runs[0]


@pytest.mark.parametrize("name", ["residual", "lstm", "attention", "grouped convolution"])
def test_an_empty_request_gives_an_empty_plan(name: str) -> None:
    net = ZOO[name].build(0)
    before = everything(net)
    batch = list(inputs(net, np.random.default_rng(0)).values())
    computed = net(*batch)
    plan: Plan = plan_change(net, utility=worth)
    assert plan.empty
    assert str(plan).startswith("nothing changes")
    assert plan.apply()
    assert everything(net) == before
    assert (net(*batch) == computed).all()


def test_a_broken_plan_does_not_pass_the_check() -> None:
    from dataclasses import replace

    net = network()
    plan = plan_change(net["a"], -2, utility=worth)
    plan.check()
    wrong = {**plan.indices, "a": plan.indices["a"][::-1] + 1}
    shorter = {**plan.indices, "a": plan.indices["a"][:-1]}
    other = {name: vector + 1 for name, vector in plan.utilities.items()}
    for broken in (
        replace(plan, blueprint=replace(plan.blueprint, indices=wrong)),
        replace(plan, blueprint=replace(plan.blueprint, indices=shorter)),
        replace(plan, utilities=other),
    ):
        with pytest.raises(PlanError):
            broken.check()
