"""Models for which a refit is easily wrong: told from what the module itself computes before and afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

from solver_nas import Network, calibrate, limits, plan_change, shrink, utilities
from solver_nas import nn as layers
from solver_nas.errors import CalibrationError, RequestError
from solver_nas.passage import is_held
from solver_nas.torch import trace

if TYPE_CHECKING:
    from solver_nas.calibrate import Calibration
    from solver_nas.change import Plan
    from solver_nas.compensate import Compensation


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def held(calibration: Calibration) -> dict[str, Any]:
    """All samples that were held back."""
    batches = [b.inputs for number, b in enumerate(calibration.batches) if is_held(number, calibration.held_back)]
    return {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}


def refitted(plan: Plan) -> Compensation:
    assert plan.compensation is not None
    return plan.compensation


def measured(module: Any, calibration: Calibration, plan: Plan) -> float:
    """How far the module is from itself after a change, on what was held back."""
    inputs = held(calibration)
    with torch.no_grad():
        before = module(**inputs).double()
        plan.apply()
        after = module(**inputs).double()
    return float(((after - before) ** 2).mean() / ((before - before.mean(0)) ** 2).mean())


class Mixer(nn.Module):
    """A layer between the positions."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.mix, self.head = nn.Linear(6, 32), nn.Linear(8, 8), nn.Linear(32, 5)

    def forward(self, x: Any) -> Any:
        h = torch.tanh(self.embed(x))
        h = h + self.mix(h.transpose(1, 2)).transpose(1, 2)
        return self.head(torch.relu(h))


def test_layers_between_positions_are_left() -> None:
    # So many rows that a part of them is drawn: those of before and afterwards would not belong together.
    module, x = Mixer(), torch.randn(2048, 8, 6)
    model = trace(module, x[:256])
    calibration = calibrate(model, x, progress=False)
    plan = plan_change(model["embed"], -12).compensate(calibration, progress=False)
    refits = refitted(plan).refits
    assert refits["mix"].how.startswith("left as it is: ")
    assert refits["head"].how == "refitted"
    told = refitted(plan).error
    assert measured(module, calibration, plan) == pytest.approx(told, rel=0.05)


class Positions(nn.Module):
    """A number for each position is added."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.shift, self.head = nn.Linear(6, 16), nn.Parameter(torch.randn(8, 1)), nn.Linear(16, 5)

    def forward(self, x: Any) -> Any:
        return self.head(torch.relu(torch.tanh(self.embed(x)) + self.shift))


def test_what_is_added_to_positions_is_left() -> None:
    module, x = Positions(), torch.randn(64, 8, 6)
    model = trace(module, x[:8])
    shift = module.shift.detach().clone()
    plan = plan_change(model["embed"], -8).compensate(calibrate(model, x, progress=False), progress=False)
    assert refitted(plan).layers == 1
    plan.apply()
    assert torch.equal(module.shift, shift)


def test_outputs_that_lose_neurons_are_compared_as_far_as_they_are_left() -> None:
    net = Network(seed=0)
    hidden = layers.dense(net.input("x", 4), 8, activation="tanh", name="hidden")
    net.output(layers.dense(hidden, 6, name="out"))
    x = np.random.default_rng(0).normal(size=(64, 4))
    calibration = calibrate(net, x, held_back=0, progress=False)
    before = np.asarray(net(x))
    plan = plan_change({net["out"]: -2, net["hidden"]: -4}).compensate(calibration, progress=False)
    wanted = before[:, plan.indices["out"]]
    told = refitted(plan)
    plan.apply()
    found = ((np.asarray(net(x)) - wanted) ** 2).mean() / ((wanted - wanted.mean(axis=0)) ** 2).mean()
    assert told.error == pytest.approx(found, rel=0.1)  # batches and outputs weigh the same
    assert told.error < told.plain


class Choosing(nn.Module):
    """Returns which class it is."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 16), nn.Linear(16, 5)

    def forward(self, x: Any) -> Any:
        return self.last(torch.relu(self.first(x))).argmax(-1)


def test_what_an_argmax_chooses_from_is_compared() -> None:
    module, x = Choosing(), torch.randn(64, 6)
    model = trace(module, x[:8])
    calibration = calibrate(model, x, progress=False)
    plan = plan_change(model["first"], -12).compensate(calibration, progress=False)
    assert 0 < refitted(plan).error < refitted(plan).plain
    assert any(max(error for _, error in curve) > 0 for curve in utilities.measured(calibration).curves.values())


class Rounding(nn.Module):
    """Returns whole numbers, and nothing that could be compared."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 16), nn.Linear(16, 5)

    def forward(self, x: Any) -> Any:
        return self.last(torch.relu(self.first(x))).abs().to(torch.int64) * 0


def test_without_outputs_that_vary_nothing_is_refitted() -> None:
    x = torch.randn(64, 6)
    model = trace(Rounding(), x[:8])
    plan = plan_change(model["first"], -12).compensate(calibrate(model, x, progress=False), progress=False)
    assert not refitted(plan).arrays
    assert "not vary on it" in str(plan)


class Block(nn.Module):
    """A residual branch that ends in a normalisation."""

    def __init__(self, size: int, inside: int) -> None:
        super().__init__()
        self.up, self.down, self.norm = nn.Linear(size, inside), nn.Linear(inside, size), nn.BatchNorm1d(size)

    def forward(self, x: Any) -> Any:
        return torch.relu(x + self.norm(self.down(torch.relu(self.up(x)))))


@pytest.mark.parametrize("weak", [0.0, 1e-8, 1e-4, 1e-2])
def test_a_branch_that_hardly_adds_anything_is_not_blown_up(weak: float) -> None:
    module = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), Block(16, 12), Block(16, 12), nn.Linear(16, 5))
    x = torch.randn(1024, 6) * 3
    for _ in range(60):
        module(x)
    last: Any = module[3]
    with torch.no_grad():
        last.norm.weight[:6] = weak
    model = trace(module.eval(), x[:128])
    calibration = calibrate(model, x, progress=False)
    plan = plan_change({model["2.up"]: -8, model["3.up"]: -8}).compensate(calibration, progress=False)
    assert refitted(plan).arrays
    for key, array in refitted(plan).arrays.items():
        assert np.abs(array).max() < 20 * np.abs(np.asarray(model.arrays[key])).max(), key


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions(kind: torch.dtype) -> None:
    module = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 5)).to(kind)
    x = torch.randn(64, 6).to(kind)
    model = trace(module, x[:8])
    calibration = calibrate(model, x, progress=False)
    plan = plan_change(model["0"], -8).compensate(calibration, progress=False)
    told = refitted(plan)
    assert told.error < told.plain
    assert module[0].weight.dtype == kind


class Reader(nn.Module):
    """As many classes as steps, or not; words are counted by a mask."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.embed, self.first, self.last = nn.Embedding(20, 16), nn.Linear(16, 24), nn.Linear(24, classes)

    def forward(self, ids: Any, attention_mask: Any) -> Any:
        hidden, counting = torch.relu(self.first(self.embed(ids))), attention_mask.unsqueeze(-1).float()
        return self.last((hidden * counting).sum(1) / counting.sum(1))


@pytest.mark.parametrize("classes", [7, 8])
def test_classes_are_no_positions(classes: int) -> None:
    module, ids = Reader(classes), torch.randint(0, 20, (256, 8))
    mask = (torch.arange(8)[None] < torch.randint(1, 5, (256, 1))).long()
    model = trace(module, kwargs={"ids": ids[:8], "attention_mask": mask[:8]})
    calibration = calibrate(model, {"ids": ids, "attention_mask": mask}, mask="attention_mask", progress=False)
    plan = plan_change(model["first"], -16).compensate(calibration, progress=False)
    told = refitted(plan).error
    assert measured(module, calibration, plan) == pytest.approx(told, rel=0.05)


class Listener(nn.Module):
    """A convolution over words that are counted by a mask."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv1d(6, 16, 1), nn.Conv1d(16, 5, 1)

    def forward(self, x: Any, mask: Any) -> Any:
        return self.last(torch.tanh(self.first(x))) * mask.unsqueeze(1)


def test_convolutions_are_fitted_where_positions_count() -> None:
    module, x = Listener(), torch.randn(64, 6, 9)
    mask = (torch.arange(9)[None] < torch.randint(2, 5, (64, 1))).float()
    noisy = torch.where(mask.unsqueeze(1) > 0, x, 50 * x)  # what fills up is nothing like the rest
    found = []
    for samples in (x, noisy):
        model = trace(module, kwargs={"x": samples[:8], "mask": mask[:8]})
        calibration = calibrate(model, {"x": samples, "mask": mask}, mask="mask", progress=False)
        plan = plan_change(model["first"], -8, utility=lambda _: 1.0).compensate(calibration, progress=False)
        found.append(refitted(plan))
    assert np.array_equal(found[0].arrays["last.weight"], found[1].arrays["last.weight"])
    assert found[0].error == found[1].error


@pytest.mark.parametrize("scale", [1.0, 3e-2, 1e-3])
def test_small_variances_are_no_less_than_zero(scale: float) -> None:
    net = Network(seed=0)
    first = layers.dense(net.input("x", 6), 32, activation="relu", name="first")
    second = layers.dense(first, 16, activation="relu", name="second")
    net.output(layers.dense(layers.batch_norm(second, name="norm"), 5, name="head"))
    rng = np.random.default_rng(0)
    x = rng.normal(size=(512, 6))
    for role in ("weight", "bias"):
        net.arrays[f"second.{role}"] = scale * net.arrays[f"second.{role}"]
    seen = np.asarray(net.activations(x)["second"])
    net.arrays["norm.mean"], net.arrays["norm.var"] = seen.mean(axis=0), seen.var(axis=0)
    norm = np.asarray(net.activations(x)["norm"])
    calibration = calibrate(net, x, held_back=0, progress=False)
    plan = plan_change(net["first"], -24, utility=lambda _: 1.0)
    plain = plan.compensate(calibration, progress=False)
    refit = refitted(plain).refits["norm"]
    assert refit.left <= refit.error
    plain.apply()
    assert (np.asarray(net.arrays["norm.var"]) >= 0).all()
    deviation = np.sqrt(seen.var(axis=0) + 1e-5)
    missing = (np.asarray(net.activations(x)["norm"]) - norm) * deviation
    assert (missing**2).sum() / (seen**2).sum() == pytest.approx(refit.left, rel=0.02)


@pytest.mark.parametrize("training", [False, True])
def test_gradients_behind_batch_norms(training: bool) -> None:
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
    x, y = torch.rand(16, 1, 8, 8), torch.randint(3, (16,))
    module.train(training)
    model = trace(module, x[:16])
    calibrate(model, (x, y), loss=nn.functional.cross_entropy, progress=False)
    first, rest = module.eval()[:1], module[1:]
    seen = first(x).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(nn.functional.cross_entropy(rest(seen), y), [seen])
    slopes = (seen.detach() * gradient).sum(dim=(2, 3)) * len(x)
    assert np.allclose(utilities.taylor(model["0"]), slopes.abs().mean(0), rtol=1e-4)
    assert np.allclose(utilities.fisher(model["0"]), (slopes**2).mean(0) / 2, rtol=1e-4)


def _dense() -> Network:
    net = Network(seed=0)
    net.output(layers.dense(layers.dense(net.input("x", 4), 8, activation="tanh", name="hidden"), 3, name="out"))
    return net


@pytest.mark.parametrize("count", [3, 5])
def test_targets_belong_to_samples(count: int) -> None:
    net, x = _dense(), np.zeros((4, 4))
    with pytest.raises(CalibrationError, match="4 samples, and targets of shape"):
        calibrate(net, (x, np.zeros(count)), loss=lambda found, target: ((found - target) ** 2).mean())


def test_a_loss_without_targets_says_so() -> None:
    net, x = _dense(), np.random.default_rng(0).normal(size=(16, 4))
    with pytest.raises(CalibrationError, match="batches have no targets"):
        calibrate(net, x, loss=lambda found, target: ((found - target) ** 2).mean(), progress=False)
    calibrate(net, x, loss=lambda found, _: (found**2).mean(), progress=False)
    assert np.ptp(utilities.taylor(net["hidden"])) > 0


def test_masks_hold_zeros_and_ones() -> None:
    module, ids = Reader(7), torch.randint(0, 20, (16, 8))
    given = {"ids": ids, "attention_mask": torch.ones(16, 8, dtype=torch.long)}
    model = trace(module, kwargs={name: array[:8] for name, array in given.items()})
    with pytest.raises(CalibrationError, match="a mask holds zeros and ones, input 'ids' holds"):
        calibrate(model, given, mask="ids", progress=False)


@pytest.mark.parametrize("x", [np.ones((32, 4)), np.array([[0.1, 0.2, -0.3, 0.4]])], ids=["constant", "single"])
def test_samples_that_are_all_the_same_say_nothing_about_neurons(x: Any) -> None:
    net = _dense()
    with pytest.raises(CalibrationError, match="what neurons compute is the same for all of these samples"):
        shrink(net, [limits.params(net) <= 0.5 * limits.now], data=x, progress=False)
    assert net["hidden"].nout == 8


def test_what_is_no_calibration_is_told() -> None:
    net = _dense()
    plan: Any = plan_change(net["hidden"], -2)
    with pytest.raises(RequestError, match="call calibrate"):
        plan.compensate(np.zeros((4, 4)))
    with pytest.raises(CalibrationError, match=r"utility=measured\(calibration\)"):
        plan_change(net["hidden"], -2, utility=utilities.measured)
