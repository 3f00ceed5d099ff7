"""Changed modules in files: what is loaded computes the same, and what is wrong with a file is told."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from solver_nas import delta_nout, relaxed
from solver_nas.errors import StoreError
from solver_nas.torch import load, save, trace
from tests.torch.cases import Case, Expectation
from tests.torch.nets import convnet, everything, images, mlp
from tests.torch.small_cases import CASES

SAVED = [case for case in CASES if case.name in {"multihead_attention", "group_norm", "tied_embedding", "weight_norm"}]


@pytest.mark.parametrize("case", SAVED, ids=[case.name for case in SAVED])
def test_what_is_loaded_computes_bit_for_bit_the_same(case: Case, tmp_path: Path) -> None:
    assert case.expectation is Expectation.WORKS
    net, inputs = case.build(), case.inputs()
    model = trace(net, inputs, dict(case.kwargs()))
    (name, *_) = (handle.name for handle in model if handle.nout > 4 and handle.vertex.parameters)
    assert delta_nout(model[name], relaxed(-4))
    save(model, tmp_path / "net.safetensors")
    fresh = load(case.build(), tmp_path / "net.safetensors")
    assert fresh.state_dict().keys() == net.state_dict().keys()
    assert torch.equal(fresh(*inputs, **case.kwargs()), net(*inputs, **case.kwargs()))
    again = trace(fresh, inputs, dict(case.kwargs()))
    assert again[name].nout == model[name].nout


def test_what_was_loaded_can_be_changed_and_saved_again(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    model = trace(convnet(), images())
    delta_nout(model["conv1"], -2)
    save(model, path)
    second = load(convnet(), path)
    again = trace(second, images())
    delta_nout(again["conv2"], 3)
    save(again, path)
    third = load(convnet(), path)
    assert torch.equal(third(images()), second(images()))
    assert (third.get_parameter("conv2.weight").shape) == (15, 6, 3, 3)


def test_parameters_stay_the_same_objects_when_a_file_is_loaded(tmp_path: Path) -> None:
    model = trace(mlp(), torch.ones(1, 4))
    delta_nout(model["0"], -2)
    save(model, tmp_path / "net.safetensors")
    net = mlp()
    held = list(net.parameters())
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    load(net, tmp_path / "net.safetensors")
    assert all(one is other for one, other in zip(held, net.parameters(), strict=True))
    net(torch.ones(1, 4)).sum().backward()
    optimizer.step()


def _saved(tmp_path: Path) -> Path:
    model = trace(mlp(), torch.ones(1, 4))
    delta_nout(model["0"], -2)
    save(model, tmp_path / "net.safetensors")
    return tmp_path / "net.safetensors"


def _rewritten(
    path: Path, change: dict[str, str] | None = None, tensors: dict[str, torch.Tensor] | None = None
) -> None:
    with safe_open(path, framework="pt") as file:
        metadata, held = dict(file.metadata()), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    save_file({**held, **(tensors or {})}, path, {**metadata, **(change or {})})


def test_damaged_files_are_refused_and_the_module_stays(tmp_path: Path) -> None:
    path = _saved(tmp_path)
    data = path.read_bytes()
    net = mlp()
    before = everything(net)
    for bad, why in (
        (data[:-5], "not a whole safetensors file"),
        (b"", "not a whole safetensors file"),
        (data[:-1] + bytes([data[-1] ^ 1]), "its checksum does not fit its content"),
    ):
        path.write_bytes(bad)
        with pytest.raises(StoreError, match=why):
            load(net, path)
    path.write_bytes(data)
    _rewritten(path, {"format": "another"})
    with pytest.raises(StoreError, match="a safetensors file of another kind"):
        load(net, path)
    path.write_bytes(data)
    _rewritten(path, {"version": "2"})
    with pytest.raises(StoreError, match="its version is '2', this is 1; update solver_nas"):
        load(net, path)
    with pytest.raises(FileNotFoundError):
        load(net, tmp_path / "nothing")
    assert everything(net) == before


def test_modules_of_another_kind_are_refused(tmp_path: Path) -> None:
    path = _saved(tmp_path)
    cases: list[tuple[nn.Module, str]] = [
        (convnet(), "is in one of them only; build the module as it was built"),
        (mlp().double(), r"is torch\.float32 with \d axes in the file and torch\.float64"),
        (nn.Sequential(*mlp()[:4], nn.Linear(6, 2, bias=False)), "'4.bias' is in one of them only"),
    ]
    for net, why in cases:
        before = everything(net)
        with pytest.raises(StoreError, match=why):
            load(net, path)
        assert everything(net) == before
    tied = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    tied[2].weight = tied[0].weight
    with pytest.raises(StoreError, match="other parameters are shared"):
        load(tied, path)


class Scaled(nn.Module):
    """A number of type `float` that is computed from a size when the module is built."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = width**-0.5
        self.inner, self.head = nn.Linear(4, width), nn.Linear(width, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.head(self.inner(x) * self.scale)
        return found


def test_a_module_that_was_built_with_other_arguments_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    model = trace(Scaled(16), torch.ones(1, 4))
    delta_nout(model["inner"], -4)
    save(model, path)
    assert load(Scaled(16), path)(torch.ones(1, 4)).equal(model.module(torch.ones(1, 4)))
    other = Scaled(32)
    before = everything(other)
    with pytest.raises(StoreError, match=r"scale is 0\.25 in the file and 0\.1767.* in the module; build it with the"):
        load(other, path)
    assert everything(other) == before


def test_channels_that_come_last_stay_there(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    net = convnet().to(memory_format=torch.channels_last)
    delta_nout(trace(net, images())["conv1"], -2)
    save(trace(net, images()), path)
    fresh = load(convnet().to(memory_format=torch.channels_last), path)
    assert fresh.get_parameter("conv2.weight").is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(fresh(images()), net(images()))
