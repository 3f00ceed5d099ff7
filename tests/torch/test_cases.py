"""The models that judge the front end are what their cases promise."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from tests.torch.architectures import ARCHITECTURES
from tests.torch.cases import BATCH, Case, Expectation
from tests.torch.small_cases import CASES, SIXTEEN
from tests.torch.small_guards import Result

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN:UserWarning")

#: The biggest: a second or more, and up to half a gigabyte for each build.
SLOW = {"vgg16_bn", "vit_b_16"}


def _named(cases: tuple[Case, ...]) -> list[Any]:
    return [pytest.param(c, id=c.name, marks=[pytest.mark.slow] if c.name in SLOW else []) for c in cases]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@torch.no_grad()
def run(case: Case, module: nn.Module) -> list[Tensor]:
    """All tensors of the output."""
    output = module(*case.inputs(), **case.kwargs())
    if isinstance(output, Result):
        output = (output.logits, output.hidden)
    return [leaf for leaf in pytree.tree_leaves(output) if isinstance(leaf, Tensor)]


@pytest.mark.parametrize("case", _named((*CASES, *ARCHITECTURES)))
def test_each_build_is_the_same_model(case: Case) -> None:
    state = torch.get_rng_state()
    first, second = case.build(), case.build()
    assert torch.equal(torch.get_rng_state(), state)
    outputs = []
    for module in (first, second):
        torch.manual_seed(0)  # for the dropout of the case in train mode
        outputs.append(run(case, module))
    assert outputs[0]
    for a, b in zip(*outputs, strict=True):
        assert torch.equal(a, b)
        assert a.isfinite().all()
    assert any(len(output) == BATCH and (output[0] != output[1]).any() for output in outputs[0])


@pytest.mark.parametrize("case", _named((*CASES, *ARCHITECTURES)))
def test_no_weight_is_trivial(case: Case) -> None:
    module = case.build()
    assert module.training is (case.name == "train_mode")
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point() and tensor.numel() > 1 and not name.endswith("_mask"):
            assert tensor.std() > 0, name
    for name, parameter in module.named_parameters():
        assert parameter.is_leaf, name


def test_names_are_unique() -> None:
    names = [case.name for case in (*CASES, *ARCHITECTURES)]
    assert len(set(names)) == len(names)
    assert len(ARCHITECTURES) == 32
    assert set(SIXTEEN) <= set(names)
    assert len(set(SIXTEEN)) == 16
    assert set(names) >= SLOW


def test_what_is_not_expected_to_work_says_why() -> None:
    for case in (*CASES, *ARCHITECTURES):
        assert case.expectation is Expectation.WORKS or case.note
