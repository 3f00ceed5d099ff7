"""What travels with a change of a module, and that a change which fails leaves nothing behind."""

from __future__ import annotations

import copy
import signal
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from solver_nas import delta_nout, plan_change
from solver_nas.errors import GraphError, PlanError, RequestError, VerificationError
from solver_nas.torch import TorchModel, trace
from solver_nas.torch.writing import Writing
from tests.torch.nets import ConvNet, convnet, everything, images, mlp

Optimizer = Callable[[Any], torch.optim.Optimizer]
OPTIMIZERS: dict[str, Optimizer] = {
    "sgd": lambda p: torch.optim.SGD(p, 0.01, momentum=0.9),
    "adam": lambda p: torch.optim.Adam(p, 0.01, amsgrad=True),
    "adamw": lambda p: torch.optim.AdamW(p, 0.01),
    "rmsprop": lambda p: torch.optim.RMSprop(p, 0.01, momentum=0.9, centered=True),
    "adagrad": lambda p: torch.optim.Adagrad(p, 0.01),
    "nadam": lambda p: torch.optim.NAdam(p, 0.01),
}


def trained(net: nn.Module, optimizer: torch.optim.Optimizer, x: torch.Tensor, steps: int = 3) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        net(x).square().mean().backward()
        optimizer.step()


# -- what travels ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_momenta_are_selected_with_the_indices_of_their_parameter(name: str) -> None:
    net, x = convnet().train(), images()
    optimizer = OPTIMIZERS[name](net.parameters())
    trained(net, optimizer, x)
    before = {key: value.clone() for key, value in optimizer.state[net.conv2.weight].items() if value.dim()}
    grads = net.conv2.weight.grad
    assert grads is not None
    grads = grads.clone()
    model = trace(net, x)
    plan = plan_change({model["conv1"]: -3, model["conv2"]: -5})
    rows, columns = (plan.indices[name].tolist() for name in ("conv2", "conv1"))
    plan.apply(optimizer=optimizer)
    assert before
    for key, value in before.items():
        found = optimizer.state[net.conv2.weight][key]
        assert torch.equal(found, value[rows][:, columns]), key
    assert net.conv2.weight.grad is not None
    assert torch.equal(net.conv2.weight.grad, grads[rows][:, columns])
    trained(net, optimizer, x)
    assert optimizer.state[net.conv2.weight]
    assert net.conv2.weight.shape == (7, 5, 3, 3)


def test_factored_moments_lose_the_same_rows_and_columns() -> None:
    net, x = mlp(), torch.ones(1, 4)
    optimizer = torch.optim.Adafactor(net.parameters())
    trained(net, optimizer, x)
    middle = net[2].weight
    rows_before, columns_before = (optimizer.state[middle][name].clone() for name in ("row_var", "col_var"))
    model = trace(net, x)
    plan = plan_change({model["0"]: -3, model["2"]: -2})
    plan.apply(optimizer=optimizer)
    assert torch.equal(optimizer.state[middle]["row_var"], rows_before[plan.indices["2"].tolist()])
    assert torch.equal(optimizer.state[middle]["col_var"], columns_before[:, plan.indices["0"].tolist()])
    trained(net, optimizer, x)


def test_new_neurons_have_no_momentum_and_leave_the_function_as_it_is() -> None:
    net, x = convnet(), images()
    optimizer = torch.optim.Adam(net.parameters(), 0.01)
    trained(net, optimizer, x)
    model = trace(net, x)
    model.follow_optimizer(optimizer)
    before = net(x)
    delta_nout(model["conv1"], 4)
    assert torch.allclose(net(x), before, atol=1e-6)
    momentum = optimizer.state[net.conv1.weight]["exp_avg"]
    assert momentum.shape == net.conv1.weight.shape == (12, 3, 3, 3)
    assert not momentum[8:].any()
    assert momentum[:8].any()
    trained(net, optimizer, x)
    assert optimizer.state[net.conv1.weight]["exp_avg"][8:].any() or not net.conv1.weight.grad[8:].any()


def test_an_optimizer_that_remembers_something_else_is_refused_by_name() -> None:
    net, x = mlp(), torch.ones(1, 4)
    optimizer = torch.optim.LBFGS(net.parameters(), max_iter=2)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss: torch.Tensor = net(x).square().mean()
        loss.backward()  # type: ignore[no-untyped-call] # PyTorch's
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call] # PyTorch's
    model = trace(net, x)
    before = everything(net)
    for name in ("0", "2"):  # its state is beside the first parameter alone
        with pytest.raises(RequestError, match=r"LBFGS remembers .* which cannot be followed: clear its state"):
            plan_change(model[name], -2).apply(optimizer=optimizer)
    assert everything(net) == before


def test_something_else_than_an_optimizer_is_refused() -> None:
    model = trace(mlp(), torch.ones(1, 4))
    with pytest.raises(RequestError, match=r"expected an optimizer of torch\.optim, got 'adam'"):
        plan_change(model["0"], -2).apply(optimizer="adam")


def test_parameters_stay_the_same_objects_with_all_that_hangs_on_them() -> None:
    net, x = convnet(), images()
    net.conv1.weight.requires_grad_(requires_grad=False)
    seen: list[torch.Size] = []
    net.conv2.weight.register_hook(lambda grad: seen.append(grad.shape))
    calls: list[int] = []
    net.fc.register_forward_hook(lambda *_: calls.append(1))
    held = dict(net.named_parameters())
    lost = net(x).sum()  # an old graph that is still there
    lost.backward()
    model = trace(net, x)
    calls.clear()
    delta_nout(model["conv2"], -4)
    assert {name: id(tensor) for name, tensor in held.items()} == {
        name: id(tensor) for name, tensor in net.named_parameters()
    }
    net(x).sum().backward()
    assert seen[-1] == (8, 8, 3, 3)
    assert calls
    assert not net.conv1.weight.requires_grad
    assert net.fc.weight.requires_grad
    assert (net.conv2.out_channels, net.fc.in_features) == (8, 8)
    assert not lost.isnan()


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_of_every_part_stays(training: bool) -> None:
    net, x = convnet().train(training), images()
    net.bn1.eval()
    model = trace(net, x)
    delta_nout(model["conv1"], -2)
    assert [part.training for part in net.modules()] == [training, training, False, training, training]
    assert net.bn1.num_features == 6


def test_a_batch_of_one_in_training_mode_is_no_trouble() -> None:
    net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2)).train()
    model = trace(net, torch.ones(1, 4))
    delta_nout(model["0"], -2)
    assert net.training
    assert net(torch.randn(3, 4)).shape == (3, 2)


@pytest.mark.parametrize(
    "dtype", [torch.bfloat16, torch.float16, torch.float64], ids=["bfloat16", "float16", "float64"]
)
def test_types_stay(dtype: torch.dtype) -> None:
    net, x = mlp().to(dtype), torch.ones(1, 4, dtype=dtype)
    kept = net[0].weight.detach().clone()
    model = trace(net, x)
    plan = plan_change(model["0"], -3)
    plan.apply()
    assert {tensor.dtype for tensor in net.parameters()} == {dtype}
    assert torch.equal(net[0].weight, kept[plan.indices["0"].tolist()])


def test_images_that_have_their_channels_last_keep_them_there() -> None:
    net = convnet().to(memory_format=torch.channels_last)
    model = trace(net, images())
    delta_nout(model["conv2"], -4)
    assert net.conv2.weight.is_contiguous(memory_format=torch.channels_last)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(10, 8)
        self.head = nn.Linear(8, 10, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.head(torch.tanh(self.embedding(ids)))
        return found


def test_what_is_tied_stays_tied() -> None:
    net = Tied()
    model = trace(net, torch.arange(4)[None])
    delta_nout(model["embedding"], -3)
    assert net.head.weight is net.embedding.weight
    assert net.head.weight.shape == (10, 5)
    assert (net.embedding.embedding_dim, net.head.in_features) == (5, 5)


def test_factors_of_new_neurons_start_with_one_and_can_learn() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(4, 8), nn.Linear(8, 2)
            self.factor, self.shift = nn.Parameter(torch.rand(8) + 1), nn.Parameter(torch.rand(8))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.two(torch.tanh(self.one(x)) * self.factor + self.shift)
            return found

    net, x = Scaled(), torch.randn(5, 4)
    model = trace(net, x)
    before = net(x)
    delta_nout(model["one"], 3)
    assert torch.allclose(net(x), before, atol=1e-6)
    assert torch.equal(net.factor[8:].detach(), torch.ones(3))
    assert torch.equal(net.shift[8:].detach(), torch.zeros(3))
    trained(net, torch.optim.SGD(net.parameters(), 0.1), x)
    assert net.two.weight[:, 8:].abs().min() > 0


def test_copies_are_models_of_copies() -> None:
    net, x = convnet(), images()
    model = trace(net, x)
    twin = copy.copy(model)
    delta_nout(twin["conv1"], -3)
    assert twin.module is not net
    assert net.conv1.out_channels == 8
    assert twin.module.get_submodule("conv1").out_channels == 5
    delta_nout(model["conv1"], -1)
    assert net.conv1.out_channels == 7
    assert copy.deepcopy(twin)["conv1"].nout == 5


def test_an_optimizer_of_another_module_is_refused() -> None:
    model = trace(mlp(), torch.ones(1, 4))
    with pytest.raises(RequestError, match="the optimizer has none of the module's parameters"):
        plan_change(model["0"], -2).apply(optimizer=torch.optim.Adam(mlp().parameters()))


def test_parametrizations_are_changed_behind_the_scenes() -> None:
    net = nn.Sequential(parametrizations.weight_norm(nn.Linear(4, 8)), nn.ReLU(), nn.Linear(8, 2))
    model = trace(net, torch.ones(1, 4))
    layer: Any = net[0]
    norms = layer.weight.detach().norm(dim=1) + layer.bias.detach().abs()
    plan = plan_change(model["0"], -3)
    assert set(plan.indices["0"].tolist()) == set(norms.topk(5).indices.tolist())
    plan.apply()
    assert net[0].weight.shape == (5, 4)
    assert net[0].out_features == 5
    assert net(torch.ones(3, 4)).shape == (3, 2)


# -- all or nothing ---------------------------------------------------------------------------------------


def _steps_of(change: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> int:
    """How many steps a change takes."""
    counted: list[int] = []
    real = Writing.carry_out

    def carry_out(self: Writing) -> None:
        counted.append(len(self))
        real(self)

    with monkeypatch.context() as patch:
        patch.setattr(Writing, "carry_out", carry_out)
        change()
    return counted[-1]


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt, MemoryError])
def test_a_change_that_fails_at_any_step_leaves_everything_as_it_was(
    failure: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    def setup() -> tuple[ConvNet, torch.optim.Optimizer, TorchModel]:
        net = convnet().train()
        optimizer = torch.optim.Adam(net.parameters(), 0.01)
        trained(net, optimizer, images())
        model = trace(net, images())
        model.follow_optimizer(optimizer)
        return net, optimizer, model

    net, optimizer, model = setup()
    steps = _steps_of(lambda: delta_nout({model["conv1"]: -3, model["conv2"]: -5}), monkeypatch)
    assert steps > 20
    net, optimizer, model = setup()
    real = Writing.step
    for bad in range(steps):
        before, graph = everything(net, optimizer), model.graph
        count = [0]

        def step(self: Writing, do: Any, undo: Any, bad: int = bad, count: list[int] = count) -> None:
            def broken() -> None:
                do()
                raise failure

            real(self, broken if count[0] == bad else do, undo)
            count[0] += 1

        with monkeypatch.context() as patch:
            patch.setattr(Writing, "step", step)
            with pytest.raises(failure):
                delta_nout({model["conv1"]: -3, model["conv2"]: -5})
        assert everything(net, optimizer) == before
        assert model.graph is graph
    assert delta_nout({model["conv1"]: -3, model["conv2"]: -5})
    assert net.conv1.weight.shape == (5, 3, 3, 3)


def test_ctrl_c_in_the_middle_takes_the_change_back() -> None:
    tensor, other = torch.zeros(3), torch.zeros(3)
    writing = Writing()
    writing.tensor(tensor, torch.ones(5), None)
    writing.step(lambda: signal.raise_signal(signal.SIGINT), lambda: None)
    writing.tensor(other, torch.ones(5), None)
    with pytest.raises(KeyboardInterrupt):
        writing.carry_out()
    assert torch.equal(tensor, torch.zeros(3))
    assert torch.equal(other, torch.zeros(3))


def test_code_that_computes_something_else_at_other_sizes_is_refused() -> None:
    class Fickle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(4, 8), nn.Linear(8, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.one(x)
            found: torch.Tensor = self.two(torch.relu(y) if y.shape[1] > 6 else torch.sigmoid(y))
            return found

    net = Fickle()
    model = trace(net, torch.ones(1, 4))
    before = everything(net)
    with pytest.raises(
        VerificationError,
        match=r"the code asks whether a tensor.s size along axis 1 > 6, and the answer would be another one",
    ):
        delta_nout(model["one"], -3)
    assert everything(net) == before
    assert delta_nout(model["one"], -1)


def test_a_transaction_takes_training_back_too() -> None:
    net, x = convnet().train(), images()
    optimizer = torch.optim.Adam(net.parameters(), 0.01)
    trained(net, optimizer, x)
    model = trace(net, x)
    model.follow_optimizer(optimizer)
    before = everything(net)

    def attempt() -> None:
        with model.transaction():
            delta_nout(model["conv1"], -3)
            for _ in range(2):
                net(x).sum().backward()
                optimizer.step()
            raise RuntimeError("not good enough")

    with pytest.raises(RuntimeError, match="not good enough"):
        attempt()
    held, numbers, _ = everything(net)
    assert numbers == before[1]
    learned = {name for name, _ in net.named_parameters()} | {"bn1.running_mean", "bn1.running_var"}
    assert {name: held[name] for name in learned} == {name: before[0][name] for name in learned}


def test_changes_can_be_taken_back() -> None:
    net, x = convnet(), images()
    model = trace(net, x, history=2)
    before = net(x)
    delta_nout(model["conv1"], -3)
    middle = net(x)
    delta_nout(model["conv2"], -5)
    model.undo()
    assert torch.equal(net(x), middle)
    assert net.conv2.out_channels == 12
    model.undo()
    assert torch.equal(net(x), before)
    with pytest.raises(GraphError, match="0 can"):
        model.undo()


# -- a module that lives on -----------------------------------------------------------------------------------


def test_training_and_checkpoints_in_between_are_seen() -> None:
    net, x = mlp(), torch.ones(1, 4)
    model = trace(net, x)
    with torch.no_grad():
        net[0].weight[3] = 0
        net[0].bias[3] = 0
    plan = plan_change(model["0"], -1)
    assert 3 not in plan.indices["0"]
    net.load_state_dict(mlp().state_dict())
    assert np.array_equal(model.arrays["0.weight"], net[0].weight.detach().numpy())


def test_a_module_that_something_else_has_changed_is_stale() -> None:
    net = mlp()
    model = trace(net, torch.ones(1, 4))
    plan = plan_change(model["0"], -1)
    net[0].weight = nn.Parameter(torch.ones(9, 4))
    with pytest.raises(GraphError, match=r"'0\.weight' has shape \(9, 4\) instead of \(8, 4\): the module has changed"):
        plan.apply()
    del net[0].weight
    with pytest.raises(GraphError, match=r"'0\.weight' is gone"):
        delta_nout(model["2"], -1)


def test_a_module_on_another_device_or_of_another_type_is_stale() -> None:
    net = mlp()
    model = trace(net, torch.ones(1, 4))
    net.double()
    with pytest.raises(GraphError, match=r"is torch\.float64 on cpu now: the module has changed"):
        delta_nout(model["0"], -1)


def test_a_plan_for_an_earlier_state_is_refused() -> None:
    model = trace(mlp(), torch.ones(1, 4))
    plan = plan_change(model["0"], -1)
    delta_nout(model["2"], -1)
    with pytest.raises(PlanError, match="the model has changed since this plan was made"):
        plan.apply()


def test_parameters_that_a_module_outside_holds_are_not_changed() -> None:
    shared = nn.Linear(4, 8)
    one, other = nn.Sequential(shared, nn.ReLU(), nn.Linear(8, 2)), nn.Sequential(nn.Linear(4, 8))
    other[0].weight = shared.weight
    model = trace(one, torch.ones(1, 4))
    before = everything(one)
    with pytest.raises(VerificationError, match=r"'0\.weight' is shared with a Linear outside of the module"):
        delta_nout(model["0"], -3)
    assert everything(one) == before


def test_the_structure_of_a_module_is_its_code() -> None:
    from solver_nas import remove

    model = trace(mlp(), torch.ones(1, 4))
    with pytest.raises(GraphError, match="would change the structure of the module, which is its code"):
        remove(model["1"])
    with pytest.raises(GraphError, match="is called as in the module's code"):
        model.rename("0", "first")


def test_without_a_module_changes_lead_to_modules_of_their_own() -> None:
    net, x = mlp(), torch.ones(2, 4)
    before = everything(net)
    model = trace(net, x, in_place=False)
    delta_nout(model["0"], -3)
    made = model.standalone()
    assert everything(net) == before
    assert made.get_parameter("0.weight").shape == (5, 4)
    assert made(x).shape == (2, 2)
    with pytest.raises(GraphError, match="changes of this model are not written into a module"):
        _ = model.module
    program = model.export()
    assert torch.allclose(program.module()(x), made(x))


@pytest.mark.parametrize("more", [-1, 0, 4])
def test_neurons_are_replaced_among_those_that_are_normalised_together(more: int) -> None:
    torch.manual_seed(0)
    norm, head = nn.LayerNorm(8), nn.Linear(8, 3)
    net = nn.Sequential(nn.Linear(4, 8), norm, head).eval()
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(1, 2, 8))
    scale, weight = norm.weight.detach().clone(), head.weight.detach().clone()
    worth = np.array([1.0, 2, 3, -9, -9, 6, 7, 8])
    plan = plan_change(trace(net, torch.randn(2, 4))["0"], more, utility=lambda v: worth if v.nout == 8 else 0.0)
    assert plan.indices["0"].tolist() == [0, 1, 2, 5, 6, 7, *[-1] * (2 + more)]
    plan.apply()
    kept = [0, 1, 2, 5, 6, 7]
    assert torch.equal(norm.weight[:6], scale[kept])
    assert torch.equal(head.weight[:, :6], weight[:, kept])
    assert norm.normalized_shape == (8 + more,)


class DualPath(nn.Module):
    """Some channels go one way, the rest another."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.conv = 8, nn.Conv2d(3, 12, 1)
        self.one, self.two = nn.Conv2d(8, 2, 1), nn.Conv2d(4, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        found: torch.Tensor = self.one(x[:, : self.first]) + self.two(x[:, self.first :])
        return found


@pytest.mark.parametrize("left", [6, 2])
def test_parts_stay_parts_where_less_is_left_than_they_had(left: int) -> None:
    torch.manual_seed(0)
    net = DualPath().eval()
    plan = plan_change(trace(net, images())["conv"], left - 12)
    kept = plan.indices["conv"]
    expected = net.conv.weight.detach()[torch.tensor(kept)]
    plan.apply()
    assert net.first == (kept < 8).sum() < left
    assert torch.equal(net.conv.weight, expected)


class Configured(nn.Module):
    """Sizes are read from an object that other modules may have, too."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config, self.a, self.b = config, nn.Linear(8, config.inner.width), nn.Linear(config.inner.width, 2)
        self.part = nn.Module()
        self.part.__dict__["again"] = config.inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.b(self.a(x).reshape(-1, 1, self.config.inner.width).flatten(1))
        return found


def test_configurations_of_other_modules_stay_as_they_are() -> None:
    config = SimpleNamespace(inner=SimpleNamespace(width=16, others=[3]), name="shared")
    one, other, x = Configured(config), Configured(config), torch.randn(2, 8)
    before = other(x)
    model = trace(one, x, history=1)
    delta_nout(model["a"], -4)
    assert one.config.inner.width == 12
    assert one.part.__dict__["again"] is one.config.inner
    assert config.inner.width == other.config.inner.width == 16
    assert other.config is config
    assert torch.equal(other(x), before)
    assert one(x).shape == (2, 2)
    model.undo()
    assert one.config.inner.width == 16
    assert one(x).shape == (2, 2)


class Counting(nn.Module):
    """Code that writes into buffers, parameters and other tensors while it runs."""

    steps: torch.Tensor
    average: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 16), nn.Linear(16, 4)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("average", torch.zeros(16))
        self.plain = torch.ones(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.steps.add_(1)
        y = self.a(x)
        self.average.lerp_(y.detach().mean(0), 0.5)
        self.plain += 1
        with torch.no_grad():
            self.b.bias.mul_(1.01)
        found: torch.Tensor = self.b(y)
        return found


def test_what_the_code_writes_into_is_not_touched_while_a_change_is_tried_out() -> None:
    torch.manual_seed(0)
    net, x = Counting(), torch.randn(2, 8)
    before = everything(net)
    model = trace(net, x)
    assert everything(net) == before
    bias, plain = net.b.bias.detach().clone(), net.plain.clone()
    plan = plan_change(model["a"], -4)
    plan.apply()
    assert torch.equal(net.b.bias, bias)
    assert torch.equal(net.plain, plain)
    assert (int(net.steps), tuple(net.average.shape), float(net.average.abs().sum())) == (0, (12,), 0.0)


class Sampling(nn.Module):
    """What is drawn is as large as the neurons are many."""

    def __init__(self) -> None:
        super().__init__()
        self.mean, self.spread, self.decoder = nn.Linear(4, 6), nn.Linear(4, 6), nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean, spread = self.mean(x), self.spread(x).exp()
        noise = torch.randn_like(mean) + torch.empty_like(mean).uniform_().log()
        found: torch.Tensor = self.decoder(mean + noise * spread)
        return found


def test_code_that_draws_random_numbers_can_be_changed() -> None:
    torch.manual_seed(0)
    net = Sampling()
    model = trace(net, torch.randn(3, 4))
    state = torch.get_rng_state()
    for delta in (-2, 3):
        assert delta_nout(model["mean"], delta)
    assert (net.mean.out_features, net.spread.out_features, net.decoder.in_features) == (7, 7, 7)
    assert torch.equal(torch.get_rng_state(), state)
