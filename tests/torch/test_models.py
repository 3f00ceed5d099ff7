"""Models are changed right, or not at all."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from solver_nas import plan_change, relaxed, shrink
from solver_nas.classes import classify
from solver_nas.errors import CaptureError, ImpossibleError, VerificationError
from solver_nas.inspection import inspect
from solver_nas.limits import macs, now, removed_at_most
from solver_nas.torch import trace
from tests.torch.architectures import ARCHITECTURES
from tests.torch.cases import Case, Expectation
from tests.torch.oracle import Inputs, Outcome, Verdict, judge, tensors
from tests.torch.small_cases import CASES

if TYPE_CHECKING:
    from solver_nas.change import Plan
    from solver_nas.torch.model import TorchModel

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN:UserWarning")

_GROWN = 3
_REMOVED = 0.8  # of each layer: what has one neuron left often is 0 behind a ReLU, and nothing can be compared
_MOST_GROWN = 2  # groups for each case; the benchmark grows all of them
#: Architectures that take a second; the others take up to a minute.
FAST = {"squeezenet", "lstm_classifier_1_layer", "gru_classifier", "llama_fused"}
#: New neurons would have an effect, whatever their outgoing weights are; this is found out, and refused.
NEVER_SILENT = {"parametrized_elementwise", "cosine_logits"}
#: What is captured, but refused as soon as it would become something else.
GUARDED = {"width_branch"}
#: What new neurons do among others that are normalised together cannot be judged: the standardised weights are not 0.
UNJUDGED = {"weight_standardised", "scaled_standardised", "flat_standardised"}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def _parameters(cases: tuple[Case, ...]) -> list[Any]:
    slow = {case.name for case in ARCHITECTURES} - FAST
    found = []
    for case in cases:
        marks = [pytest.mark.slow] if case.name in slow else []
        found.append(pytest.param(case, id=case.name, marks=marks))
    return found


def inputs(case: Case) -> Inputs:
    return Inputs(case.inputs(), case.kwargs()).wide()


def traced(case: Case) -> TorchModel:
    args, kwargs = inputs(case).copies()
    return trace(case.build().double(), args, kwargs)


def groups(model: TorchModel) -> list[str]:
    """A vertex for each set of neurons that can change."""
    class_of, _ = classify(model.labels)
    found: dict[bytes, str] = {}
    for handle in model:
        classes = np.unique(class_of[model.tensor(handle.name).neurons["label"]])
        if (classes != class_of[0]).any():
            found.setdefault(classes.tobytes(), handle.name)
    return list(found.values())


def halving(model: TorchModel) -> Plan:
    return shrink.plan(model, [macs(model) <= 0.5 * now, removed_at_most(_REMOVED)], normalise="mean")


def verdict(case: Case, model: TorchModel, plan: Plan) -> Verdict:
    """Of a plan that has been applied."""
    training = model.structure.training
    original, arrays = case.build().double(), plan.blueprint.arrays
    return judge(original, model.module, model.standalone(), arrays, inputs(case), training=training)


def state(model: TorchModel) -> dict[str, bytes]:
    return {name: tensor.detach().numpy().tobytes() for name, tensor in tensors(model.module).items()}


EVERY = (*CASES, *ARCHITECTURES)
REFUSED = tuple(case for case in EVERY if case.expectation is Expectation.REFUSED)
ACCEPTED = tuple(case for case in EVERY if case.expectation is not Expectation.REFUSED)


@pytest.mark.parametrize("case", _parameters(ACCEPTED))
def test_half_the_multiplications_are_the_right_ones_or_impossible(case: Case) -> None:
    model = traced(case)
    before = state(model)
    assert groups(model) or (case.expectation is Expectation.PINNED and inspect(model).pinned)
    reasons: tuple[str, ...] = ()
    try:
        plan = halving(model)
        plan.apply()
    except ImpossibleError as error:
        reasons = error.reasons
    else:
        found = verdict(case, model, plan)
        allowed = {Outcome.RIGHT, Outcome.UNJUDGED} if case.name in UNJUDGED else {Outcome.RIGHT}
        assert found.outcome in allowed, found
        return
    assert reasons or not groups(model)
    assert state(model) == before


@pytest.mark.parametrize("case", _parameters(ACCEPTED))
def test_new_neurons_change_nothing(case: Case) -> None:
    model = traced(case)
    before = state(model)
    for name in groups(model)[:_MOST_GROWN]:
        plan = plan_change({model[name]: relaxed(_GROWN)})
        try:
            plan.apply()
        except VerificationError:
            assert case.name in NEVER_SILENT
            assert state(model) == before
            continue
        found = verdict(case, model, plan)
        allowed = {Outcome.RIGHT, Outcome.UNJUDGED} if case.name in UNJUDGED else {Outcome.RIGHT}
        assert found.outcome in allowed, f"{name}: {found}"
        model = traced(case)


@pytest.mark.parametrize("case", _parameters(REFUSED))
def test_what_cannot_be_right_is_refused(case: Case) -> None:
    if case.name not in GUARDED:
        with pytest.raises(CaptureError, match="cannot be captured"):
            traced(case)
        return
    model = traced(case)
    before = state(model)
    plan = halving(model)
    with pytest.raises(VerificationError, match="nothing was changed"):
        plan.apply()
    assert state(model) == before


@pytest.fixture
def halved() -> tuple[Case, TorchModel, Plan]:
    (case,) = (one for one in CASES if one.name == "no_grad_block")
    model = traced(case)
    plan = halving(model)
    plan.apply()
    assert verdict(case, model, plan).outcome is Outcome.RIGHT
    return case, model, plan


@pytest.mark.parametrize("name", ["conv1.weight", "bn1.running_mean", "conv2.bias", "fc.weight"])
def test_the_oracle_sees_numbers_that_change_places(halved: tuple[Case, TorchModel, Plan], name: str) -> None:
    case, model, plan = halved
    with torch.no_grad():
        tensors(model.module)[name].copy_(tensors(model.module)[name].flip(0))
    assert str(verdict(case, model, plan)) == f"WRONG nan nan {name} does not hold what the plan says"


@pytest.mark.parametrize("name", ["conv1.weight", "bn1.running_mean", "conv2.bias", "fc.weight"])
def test_the_oracle_sees_neurons_that_do_not_belong_together(halved: tuple[Case, TorchModel, Plan], name: str) -> None:
    case, model, plan = halved
    arrays = dict(plan.blueprint.arrays)
    picks = [replace(pick, index=np.ascontiguousarray(pick.index[::-1])) for pick in arrays[name].picks]
    arrays[name] = replace(arrays[name], picks=tuple(picks))
    with torch.no_grad():
        axes = [pick.axis for pick in picks]
        tensors(model.module)[name].copy_(tensors(model.module)[name].flip(axes))
    found = judge(case.build().double(), model.module, model.standalone(), arrays, inputs(case))
    assert found.outcome is Outcome.WRONG
    assert found.reason == "the stand-alone module is another one" or found.in_place > 1e-3
    found = judge(case.build().double(), model.module, None, arrays, inputs(case))
    assert found.outcome is Outcome.WRONG
    assert found.in_place > 1e-3


def test_the_oracle_sees_another_stand_alone_module(halved: tuple[Case, TorchModel, Plan]) -> None:
    case, model, plan = halved
    twin = model.standalone()
    with torch.no_grad():
        tensors(twin)["conv2.bias"].add_(1)
    found = judge(case.build().double(), model.module, twin, plan.blueprint.arrays, inputs(case))
    assert found.reason == "the stand-alone module is another one"
