"""What is traced, what it is called, and what is refused with which way out."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import nn

from solver_nas import delta_nout, plan_change
from solver_nas.errors import CaptureError, ImpossibleError, RequestError
from solver_nas.limits import minimum
from solver_nas.torch import trace
from tests.torch.nets import convnet, everything, images, mlp


def names(module: nn.Module, *args: Any) -> list[str]:
    return [handle.name for handle in trace(module, args)]


def test_vertices_are_called_as_modules_are() -> None:
    assert names(convnet(), images()) == [
        *("x", "conv1", "bn1", "relu", "conv2", "relu:2", "mean", "fc", "output"),
    ]


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.act, self.layer = nn.ReLU(), nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = self.act(self.layer(x))
        z = self.act(self.layer(y))
        return y, z


def test_what_is_called_twice_has_two_vertices_and_one_weight() -> None:
    model = trace(Twice(), torch.ones(1, 4))
    assert [handle.name for handle in model] == ["x", "layer", "act", "layer:2", "act:2", "output", "output:2"]
    assert model["layer"].vertex.parameters["weight"] == model["layer:2"].vertex.parameters["weight"]


def test_several_results_of_an_operation_have_a_vertex_each() -> None:
    class Halves(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(4, 8), nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            a, b = self.one(x).chunk(2, dim=-1)
            found: torch.Tensor = self.two(a * b)
            return found

    net = Halves()
    model = trace(net, torch.ones(1, 4))
    assert [handle.name for handle in model if "chunk" in handle.name] == ["chunk", "chunk:1"]
    delta_nout(model["one"], -2)
    assert net.one.out_features == 6


def test_a_utility_may_look_at_the_module_and_its_weight() -> None:
    net = convnet()
    model = trace(net, images())

    def utility(v: Any) -> Any:
        return 0.0 if v.weight is None else v.weight.abs().sum((1, 2, 3)).numpy()

    plan = plan_change(model["conv2"], -4, utility=utility)
    worth = net.conv2.weight.detach().abs().sum((1, 2, 3))
    assert set(plan.indices["conv2"].tolist()) == set(worth.topk(8).indices.tolist())
    assert model["conv2"].module is net.conv2
    assert model["relu"].module is net
    assert model["relu"].weight is None


def test_inputs_may_come_alone_by_position_and_by_name() -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(4, 8), nn.Linear(8, 2)

        def forward(self, x: torch.Tensor, shift: torch.Tensor | None = None, scale: float = 1.0) -> torch.Tensor:
            y = self.one(x) * scale
            found: torch.Tensor = self.two(y if shift is None else y + shift)
            return found

    x, shift = torch.ones(1, 4), torch.ones(1, 1)
    for args, kwargs in ((x, None), ((x, shift), None), ([x], {"shift": shift, "scale": 2.0})):
        net = Sum()
        model = trace(net, args, kwargs)
        assert delta_nout(model["one"], -2)
        assert net.two.in_features == 6


def test_nothing_of_the_module_changes_while_it_is_traced() -> None:
    net = convnet().train()
    calls: list[torch.Size] = []
    net.conv1.register_forward_hook(lambda _, __, output: calls.append(output.shape))
    before = everything(net)
    trace(net, images())
    assert everything(net) == before
    assert "forward" not in vars(net)


# -- refused ---------------------------------------------------------------------------------------------


def test_something_else_than_a_module_is_refused() -> None:
    with pytest.raises(RequestError, match=r"expected a torch\.nn\.Module, got builtin_function_or_method"):
        trace(torch.relu, torch.ones(1))  # type: ignore[arg-type] # on purpose


def test_inputs_that_a_module_does_not_take_are_refused_with_the_line() -> None:
    with pytest.raises(RequestError, match=r"the module does not take these inputs: .*cannot be multiplied"):
        trace(mlp(), torch.ones(1, 5))
    with pytest.raises(RequestError, match=r"the module does not take these inputs: .*missing 1 required"):
        trace(convnet())


class Branch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(4, 8)
        self.gate = Gate()
        self.head = nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.head(self.gate(torch.relu(self.body(x))))
        return found


class Gate(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.sum() > 0 else -x


def test_branches_that_depend_on_data_are_refused_with_line_and_ways_out() -> None:
    net = Branch()
    before = everything(net)
    with pytest.raises(CaptureError, match=r"test_trace\.py:\d+: .*data-dependent.*opaque.*ONNX"):
        trace(net, torch.ones(1, 4))
    assert everything(net) == before


def test_a_submodule_that_cannot_be_captured_may_be_opaque() -> None:
    net = Branch()
    model = trace(net, torch.ones(1, 4), opaque=["gate"])
    assert any("submodule 'gate' is opaque" in reason.rule for reason in model.labels.pinned)
    with pytest.raises(ImpossibleError, match="submodule 'gate' is opaque"):
        delta_nout(model["body"], -2, on_failure="raise")
    with pytest.raises(RequestError, match="there is no submodule 'door' to be opaque"):
        trace(net, torch.ones(1, 4), opaque=["door"])


def test_what_stands_beside_an_opaque_submodule_can_change() -> None:
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 6), Gate(), nn.Linear(6, 2))
    model = trace(net, torch.ones(3, 4), opaque=["3"])
    assert delta_nout(model["0"], -3)
    assert net(torch.ones(3, 4)).shape == (3, 2)


def test_code_that_changes_its_own_sizes_is_refused() -> None:
    class Growing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rows = 2
            self.one, self.two = nn.Linear(4, 8), nn.Linear(8, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.one(x).reshape(x.shape[0], self.rows, -1)
            self.rows = 4
            found: torch.Tensor = self.two(y.flatten(1))
            return found

    with pytest.raises(CaptureError, match=r"reads a size from rows and changes it while it runs \(2 -> 4\)"):
        trace(Growing(), torch.ones(1, 4))


def test_lazy_modules_have_to_be_called_first() -> None:
    net = nn.Sequential(nn.LazyLinear(8), nn.Linear(8, 2))
    with pytest.raises(CaptureError, match=r"'0\.weight' has no size yet: call the module once"):
        trace(net, torch.ones(1, 4))
    net(torch.ones(1, 4))
    assert trace(net, torch.ones(1, 4))["0"].nout == 8


def test_tensors_of_inference_mode_are_refused() -> None:
    with torch.inference_mode():
        net = mlp()
    with pytest.raises(CaptureError, match="was made in inference mode"):
        trace(net, torch.ones(1, 4))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of PyTorch's own
def test_compiled_and_parallel_modules_are_unwrapped() -> None:
    net: Any = mlp()
    compiled: Any = torch.compile(net)
    assert trace(compiled, torch.ones(1, 4)).module is net
    model = trace(nn.DataParallel(net), torch.ones(1, 4))
    assert model.module is net
    delta_nout(model["0"], -2)
    assert net.get_submodule("0").out_features == 6


def test_modules_in_other_languages_and_on_many_machines_are_refused_with_what_to_do() -> None:
    class DistributedDataParallel(nn.Module):
        """As PyTorch's, which cannot be made without processes."""

    with pytest.raises(CaptureError, match="trace the module inside, change it, and wrap it again"):
        trace(DistributedDataParallel(), torch.ones(1, 4))


# -- told ------------------------------------------------------------------------------------------------


class Written(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(4, 32), nn.Linear(32, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.one(x).view(-1, 4, 8)
        found: torch.Tensor = self.two(y.flatten(1))
        return found


def test_sizes_that_are_written_down_are_named_with_their_line() -> None:
    model = trace(Written(), torch.ones(1, 4))
    with pytest.raises(ImpossibleError, match=r"the size 8 is written down in the code \(test_trace\.py:\d+: y = self"):
        delta_nout(model["one"], -8, on_failure="raise")


def test_sizes_that_are_written_down_do_not_matter_to_a_module_of_its_own() -> None:
    net = Written()
    model = trace(net, torch.ones(2, 4), in_place=False)
    delta_nout(model["one"], -8)
    assert model.standalone()(torch.ones(2, 4)).shape == (2, 2)
    assert net.one.out_features == 32


def test_an_unknown_operator_pins_what_it_touches_and_is_named() -> None:
    net = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 6), nn.Linear(6, 2))
    net[1].register_forward_pre_hook(lambda _, args: (torch.linalg.pinv(args[0][:, None])[..., 0] * 0 + args[0],))
    model = trace(net, torch.ones(1, 4))
    assert model.labels.pinned
    assert delta_nout(model["1"], -2)


def test_limits_for_all_layers_leave_out_what_is_returned() -> None:
    net = nn.Sequential(nn.Linear(4, 12), nn.ReLU(), nn.Linear(12, 3))
    model = trace(net, torch.ones(1, 4))
    assert plan_change(model["0"], -8, limits=[minimum(4)]).sizes["0"] == (12, 4)


def test_importing_the_library_does_not_import_pytorch() -> None:
    code = "import sys, solver_nas; assert not {'torch', 'onnx'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_part_that_begins_at_a_number_is_told_by_that_number() -> None:
    class Rest(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(4, 8), nn.Linear(5, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.two(self.one(x)[:, 3:])
            return found

    model = trace(Rest(), torch.ones(1, 4))
    with pytest.raises(ImpossibleError, match=r"the size 3 is written down in the code"):
        plan_change(model["one"], -6, on_failure="raise")
