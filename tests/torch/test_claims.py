"""Numbers that code makes something else of than sizes, and other things that cannot travel: told by name."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the name that everyone gives it
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from solver_nas import delta_nout, plan_change, shrink
from solver_nas.errors import CaptureError, GraphError, ImpossibleError, RequestError, SolverNasError, VerificationError
from solver_nas.inspection import inspect
from solver_nas.limits import macs
from solver_nas.torch import fit_config, load, save, trace
from tests.torch.nets import everything, mlp


class Gated(nn.Module):
    """A branch that is zero at first, as those of adapters: what becomes of it cannot be seen."""

    def __init__(self, scale: Callable[[Any, Tensor], Any]) -> None:
        super().__init__()
        self.scale, self.d = scale, 16
        self.a, self.b, self.c = nn.Linear(8, 16), nn.Linear(16, 4), nn.Linear(16, 4)
        nn.init.zeros_(self.c.weight)
        nn.init.zeros_(self.c.bias)

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x).reshape(-1, self.d)
        found: Tensor = self.b(F.gelu(y)) + self.c(y) * self.scale(self.d, y)
        return found


SCALES: dict[str, Callable[[Any, Tensor], Any]] = {
    "root": lambda d, _: math.sqrt(d),
    "quotient": lambda d, _: 1 / d,
    "power": lambda d, _: d**-0.5,
    "plain": lambda d, _: int(d) * 0.1,
    "numpy": lambda d, _: float(np.sqrt(d)),
    "bits": lambda d, _: float(d >> 2),
    "minimum": lambda d, _: float(min(d, 12)),
    "more": lambda d, _: 1.0 if d > 12 else -1.0,
    "shape": lambda _, y: 1.0 if y.shape[1] >= 12 else -1.0,
    "equal": lambda d, _: 1.0 if d == 16 else -1.0,
}


@pytest.mark.parametrize("name", SCALES)
def test_what_becomes_of_sizes_in_branches_that_are_zero_is_noticed(name: str) -> None:
    torch.manual_seed(0)
    net, x = Gated(SCALES[name]), torch.randn(2, 8)
    model = trace(net, x)
    before = everything(net)
    with pytest.raises((VerificationError, ImpossibleError)) as caught:
        plan_change(model["a"], -8, on_failure="raise").apply()
    told = str(caught.value) + "".join(getattr(caught.value, "reasons", ()))
    assert "the code makes a number of another kind" in told or "the answer would be another one" in told
    assert everything(net) == before


def test_errors_in_branches_that_are_zero_are_seen() -> None:
    # A number that was made of a size where nobody could see it.
    net, x = Gated(lambda *_: 1.0), torch.randn(2, 8)
    table = {16: 1.0}
    net.scale = lambda _, y: table.get(len(y[0].tolist()), -3.0) if not isinstance(y, FakeTensor) else 1.0
    model = trace(net, x)
    before = everything(net)
    with pytest.raises(VerificationError, match="the module's code computes something else with the new sizes"):
        delta_nout(model["a"], -4)
    assert everything(net) == before


def test_comparisons_that_come_out_alike_are_no_obstacle() -> None:
    net, x = Gated(SCALES["more"]), torch.randn(2, 8)
    assert delta_nout(trace(net, x)["a"], -2)
    assert net.d == 14


def test_an_attribute_that_was_changed_is_noticed() -> None:
    net, x = Gated(lambda *_: 1.0), torch.randn(2, 8)
    model = trace(net, x)
    plan = plan_change(model["a"], -8)
    net.d = 8
    with pytest.raises(GraphError, match=r"d is 8 instead of 16: the module has changed since it was traced"):
        plan.apply()
    assert net.d == 8


def test_views_of_other_parameters_are_refused() -> None:
    class Transposed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.decoder = nn.Linear(8, 4), nn.Linear(4, 8)
            self.decoder.weight = nn.Parameter(self.encoder.weight.T)

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = self.decoder(self.encoder(x))
            return found

    net = Transposed()
    plan = plan_change(trace(net, torch.randn(2, 8))["encoder"], -1)
    with pytest.raises(VerificationError, match=r"'(en|de)coder.weight' has the same memory as '(en|de)coder.weight'"):
        plan.apply()
    assert net.encoder.weight.data_ptr() == net.decoder.weight.data_ptr()


def test_changes_in_inference_mode_are_refused() -> None:
    net = mlp()
    plan = plan_change(trace(net, torch.randn(2, 4))["0"], -1)
    with torch.inference_mode(), pytest.raises(RequestError, match="leave it for the change"):
        plan.apply()
    plan.apply()
    assert not any(parameter.is_inference() for parameter in net.parameters())


def test_modules_without_numbers_are_refused() -> None:
    with pytest.raises(CaptureError, match="is on the meta device and has no numbers: load the weights first"):
        trace(mlp().to("meta"), torch.randn(2, 4))


class Keeper(torch.optim.SGD):
    """Remembers several tensors about a parameter in a list."""

    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for parameter in group["params"]:
                self.state[parameter]["factors"] = [torch.zeros(size) for size in parameter.shape]
        return closure


def _stepped(net: nn.Module, kind: Callable[..., torch.optim.Optimizer], **options: Any) -> torch.optim.Optimizer:
    optimizer = kind(net.parameters(), **options)
    net(torch.randn(2, next(iter(net.parameters())).shape[1])).square().sum().backward()
    optimizer.step()
    return optimizer


def test_memories_in_containers_are_refused() -> None:
    net = mlp()
    optimizer = _stepped(net, Keeper, lr=0.1)
    plan = plan_change(trace(net, torch.randn(2, 4))["0"], -1)
    with pytest.raises(
        RequestError, match="Keeper remembers several tensors about a parameter in a container, 'factors'"
    ):
        plan.apply(optimizer=optimizer)


@pytest.mark.parametrize("more", [2, -1])
def test_factored_memories_of_narrow_layers_follow(more: int) -> None:
    width = 1 if more > 0 else 3
    net = nn.Sequential(nn.Linear(8, width), nn.Tanh(), nn.Linear(width, 3))
    optimizer = _stepped(net, torch.optim.Adafactor)
    plan_change(trace(net, torch.randn(2, 8))["0"], more).apply(optimizer=optimizer)
    for parameter in net.parameters():
        state = optimizer.state[parameter]
        if parameter.dim() == 2:
            rows, columns = parameter.shape
            assert (tuple(state["row_var"].shape), tuple(state["col_var"].shape)) == ((rows, 1), (1, columns))
    optimizer.zero_grad()
    net(torch.randn(2, 8)).square().sum().backward()
    optimizer.step()


def test_sparse_gradients_are_refused() -> None:
    net = nn.Sequential(nn.Embedding(10, 6, sparse=True), nn.Linear(6, 2))
    x = torch.tensor([[1, 2]])
    net(x).sum().backward()
    model = trace(net, x)
    with pytest.raises(RequestError, match="gradients that are sparse cannot be followed"):
        delta_nout(model["0"], -2)
    net.zero_grad()
    assert delta_nout(model["0"], -2)


@pytest.mark.parametrize("where", [3, (6, 12)])
def test_tensors_are_split_as_numpy_splits(where: Any) -> None:
    class Parts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 18), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            one, two, three = self.a(x).tensor_split(where, dim=1)
            found: Tensor = self.b(one * two + three)
            return found

    net = Parts()
    model = trace(net, torch.randn(2, 4))
    if where == 3:
        assert delta_nout(model["a"], -3)
        assert net.b.in_features == 5
    else:
        with pytest.raises(SolverNasError):
            plan_change(model["a"], -3, on_failure="raise")


def test_modules_that_were_not_traced_are_told_apart() -> None:
    net = mlp()
    for ask in (lambda: shrink(net, []), lambda: macs(net), lambda: save(net, "x")):
        with pytest.raises(
            RequestError, match=r"got a Sequential: make a model of it first, with solver_nas.torch.trace"
        ):
            ask()
    with pytest.raises(RequestError, match="load takes a freshly built module and a file, in this order"):
        load("x", net)  # type: ignore[arg-type]
    with pytest.raises(RequestError, match=r"fit_config takes the changed module \(model.module\)"):
        fit_config(trace(net, torch.randn(2, 4)))  # type: ignore[arg-type]


def test_what_hooks_keep_is_what_the_module_has_computed() -> None:
    net = mlp()
    seen: list[Any] = [None]
    net.stat = torch.zeros(())

    def hook(_: nn.Module, __: Any, output: Tensor) -> None:
        net.stat = output.detach().mean()
        net.other = output.detach().mean()
        seen[0] = net.stat

    net[0].register_forward_hook(hook)
    model = trace(net, torch.randn(2, 4))
    assert float(net.stat) == 0.0
    assert not hasattr(net, "other")
    delta_nout(model["0"], -1)
    net(torch.randn(2, 4))
    assert float(net.stat) != 0.0


def test_one_submodule_may_be_opaque_by_its_name_alone() -> None:
    model = trace(mlp(), torch.randn(2, 4), opaque="2")
    assert inspect(model).pinned["2"]


def test_layers_in_plain_lists_are_reported() -> None:
    class Listed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = [nn.Linear(4, 8), nn.Linear(8, 2)]

        def forward(self, x: Tensor) -> Tensor:
            for layer in self.layers:
                x = layer(x)
            return x

    pinned = inspect(trace(Listed(), torch.randn(2, 4))).pinned
    assert sum("its weight is no parameter of the module" in why for reasons in pinned.values() for why in reasons) == 2
