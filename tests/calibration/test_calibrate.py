"""Samples go in, statistics come out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from solver_nas import Network, calibrate, delta_nout, nn, shrink
from solver_nas.errors import CalibrationError
from solver_nas.limits import now, params
from solver_nas.observe import Observations, observed
from solver_nas.torch import trace
from tests.calibration.kinds import KINDS, Kind


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def kind(request: Any) -> Kind:
    found: Kind = request.param
    return found


def _inner(x: Any) -> Any:
    """What the second convolution reads."""
    net = KINDS[0].build()
    assert isinstance(net, Network)
    return np.asarray(net.activations(x)["first"], np.float64)


def _read(kind: Kind) -> str:
    """The vertex that it reads."""
    return {"numpy": "first", "onnx": "relu1", "torch": "1"}[kind.name]


def test_statistics_are_those_of_all_samples_and_positions(kind: Kind) -> None:
    model, x = kind.build(), kind.samples(12)
    found = calibrate(model, x, held_back=0)
    rows = np.moveaxis(_inner(x), 1, -1).reshape(-1, 8)
    known = observed(model[_read(kind)]).statistics
    assert known is not None
    assert (found.samples, known.count) == (12, len(rows))
    assert np.allclose(known.mean, rows.mean(axis=0), atol=1e-6)
    assert known.gram is not None
    assert np.allclose(known.gram, rows.T @ rows / len(rows), atol=1e-5)


def test_batches_of_any_size_give_the_same(kind: Kind) -> None:
    one, other = kind.build(), kind.build()
    x = kind.samples(12)
    calibrate(one, [x[:1], x[1:8], x[8:]], held_back=0)
    calibrate(other, x, batch_size=5, held_back=0)
    left, right = (observed(model[_read(kind)]).statistics for model in (one, other))
    assert left is not None
    assert right is not None
    assert left.count == right.count
    assert np.allclose(left.moments, right.moments, rtol=1e-6)


def test_the_same_samples_give_the_same_bits(kind: Kind) -> None:
    found = []
    for _ in range(2):
        model = kind.build()
        calibrate(model, kind.samples(8))
        statistics = observed(model[_read(kind)]).statistics
        assert statistics is not None
        found.append((statistics.mean.tobytes(), statistics.moments.tobytes()))
    assert found[0] == found[1]


def test_statistics_follow_their_neurons(kind: Kind) -> None:
    model = kind.build()
    calibrate(model, kind.samples(8))
    before = observed(model[kind.inner]).statistics
    change = delta_nout(model[kind.inner], -3)
    assert change.plan is not None
    after, index = observed(model[kind.inner]).statistics, change.plan.indices[kind.inner]
    assert before is not None
    assert after is not None
    assert np.array_equal(after.mean, before.mean[index])


@pytest.mark.parametrize(
    ("samples", "told"),
    [
        ([], "there are none"),
        (np.full((8, 3, 6, 6), np.nan, np.float32), "NaN or infinity in batch 0"),
        ([np.zeros((4, 3, 6, 6), np.float32), np.full((4, 3, 6, 6), np.inf, np.float32)], "infinity in batch 1"),
        (3, "samples are arrays"),
        (np.zeros((8, 3, 5, 6), np.float32), "6"),
    ],
)
def test_useless_samples_change_nothing(kind: Kind, samples: object, told: str) -> None:
    model = kind.build()
    calibrate(model, kind.samples(8))
    before = dict(model.observers)
    with pytest.raises(CalibrationError, match=told):
        calibrate(model, samples)
    assert model.observers == before


@pytest.mark.parametrize("size", [0, -1, 2.5, True])
def test_sizes_of_batches_are_positive_numbers(size: Any) -> None:
    with pytest.raises(CalibrationError, match="a batch size is a positive number"):
        calibrate(KINDS[0].build(), KINDS[0].samples(4), batch_size=size)


@pytest.mark.filterwarnings("ignore:overflow encountered")
def test_activations_that_are_no_numbers_are_told_by_name() -> None:
    net = Network()
    net.output(nn.dense(nn.dense(net.input("x", 2), 3, name="hidden"), 1))
    net.arrays["hidden.weight"] = np.full((3, 2), 1e308)
    with pytest.raises(CalibrationError, match="'hidden' computes NaN or infinity"):
        calibrate(net, np.ones((4, 2)))
    net.arrays["hidden.weight"] = np.full((3, 2), 1e200)
    with pytest.raises(CalibrationError, match="computes numbers whose squares are infinite"):
        calibrate(net, np.ones((4, 2)))
    assert not any(isinstance(one, Observations) and one.statistics for one in net.observers.values())


def test_too_few_samples_for_a_module_are_told() -> None:
    model = KINDS[2].build()
    with pytest.raises(CalibrationError, match="fewer than the model takes at once"):
        calibrate(model, KINDS[2].samples(3))


def test_targets_may_come_behind_inputs(kind: Kind) -> None:
    model, x = kind.build(), kind.samples(8)
    found = calibrate(model, [(x[:4], np.arange(4)), (x[4:], np.arange(4, 8))], batch_size=4)
    assert [list(np.asarray(batch.target)) for batch in found.batches] == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_a_loader_of_torch_will_do() -> None:
    model, x = KINDS[2].build(), torch.from_numpy(KINDS[2].samples(10))
    loader: Any = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, torch.arange(10)), batch_size=3)
    found = calibrate(model, loader)
    assert (found.samples, len(found.batches)) == (8, 2)


def test_inputs_by_name_and_those_that_are_no_tensors() -> None:
    class Two(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.other = torch.nn.Linear(3, 6), torch.nn.Linear(6, 2)

        def forward(self, x: torch.Tensor, *, scale: torch.Tensor, twice: bool = False) -> torch.Tensor:
            y: torch.Tensor = self.other(torch.relu(self.one(x * scale)))
            return 2 * y if twice else y

    kwargs = {"x": torch.ones(2, 3), "scale": torch.ones(2, 1), "twice": True}
    model = trace(Two(), kwargs=kwargs)
    found = calibrate(model, {"x": torch.randn(6, 3), "scale": torch.rand(6, 1)})
    assert found.samples == 6
    with pytest.raises(CalibrationError, match="by name"):
        calibrate(model, {"x": torch.randn(6, 3)})
    with pytest.raises(CalibrationError, match="a batch is a mapping"):
        calibrate(model, torch.randn(6, 3))


class Steps(torch.nn.Module):
    """(batch, steps, 3) -> (batch, steps, 2), silent where a mask is zero."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.other = torch.nn.Linear(3, 8), torch.nn.Linear(8, 2)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.other(torch.tanh(self.one(x))) * mask[:, :, None]
        return y


def padded(filling: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Sequences of different lengths, and which of their steps count."""
    mask = (torch.arange(6) < torch.arange(1, 7).repeat(6)[:, None]).float()
    x = torch.randn(36, 6, 3, generator=torch.Generator().manual_seed(1))
    return torch.where(mask[:, :, None] > 0, x, torch.tensor(filling)), mask


def test_what_is_masked_counts_for_nothing() -> None:
    found = []
    _, mask = padded(0.0)
    for filling in (0.0, 50.0):
        x, _ = padded(filling)
        model = trace(Steps(), (torch.zeros(4, 6, 3), torch.ones(4, 6)))
        calibration = calibrate(model, (x, mask), mask="mask")
        statistics = observed(model["tanh"]).statistics
        assert statistics is not None
        plan = shrink.plan(model, [params(model) <= 0.6 * now], data=calibration)
        assert plan.compensation is not None
        refitted = {key: array.tobytes() for key, array in plan.compensation.arrays.items()}
        found.append((statistics.count, statistics.moments.tobytes(), refitted, plan.compensation.error))
    assert found[0] == found[1]
    held = sum(int(mask[start : start + 4].sum()) for start in range(12, 36, 16))
    assert found[0][0] == int(mask.sum()) - held


@pytest.mark.parametrize(
    ("mask", "told"), [("nothing", "there is no input 'nothing'"), ("x", "a number for each sample")]
)
def test_masks_are_inputs_with_a_number_for_each_step(mask: str, told: str) -> None:
    model = trace(Steps(), (torch.zeros(4, 6, 3), torch.ones(4, 6)))
    with pytest.raises(CalibrationError, match=told):
        calibrate(model, padded(0.0), mask=mask)
    assert not model.observers


def test_many_neurons_have_no_pairs_and_that_is_said() -> None:
    net = Network()
    net.output(nn.dense(nn.dense(net.input("x", 2), 2100, name="hidden"), 1))
    found = calibrate(net, np.ones((4, 2)))
    assert found.coarse == ("hidden",)
    assert "only means and variances (more than 2048 neurons): hidden" in str(found)


def test_something_else_is_no_model() -> None:
    with pytest.raises(CalibrationError, match="expected a network"):
        calibrate(torch.nn.Linear(2, 2), np.ones((2, 2)))  # type: ignore[arg-type] # that is what is tested
