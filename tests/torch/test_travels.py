"""What belongs to a module stays with it when its sizes change."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from solver_nas import delta_nout, plan_change
from solver_nas.torch import trace
from tests.torch.nets import convnet, images


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
