"""Small models that slice, pad, fold or reshape along the channels."""

# mypy: disable-error-code="no-any-return, no-untyped-call"
# For mypy, a call of a module is Any, and some functions of torch are untyped.

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812 - the name that everyone gives it
from torch import Tensor, nn

from tests.torch.cases import Expectation, case, images, normal
from tests.torch.small_norms import Between


class PaddedShortcut(nn.Module):
    """Option A of the CIFAR ResNets: the shortcut is padded with zero channels on both sides."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, stride=2, padding=1)
        self.conv3 = nn.Conv2d(32, 32, 3, padding=1)
        self.fc = nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv1(x))
        shortcut = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 8, 8))
        x = F.relu(self.conv3(F.relu(self.conv2(x))) + shortcut)
        return self.fc(F.avg_pool2d(x, x.size()[3]).view(x.size(0), -1))


class PartialConv(nn.Module):
    """FasterNet: convolve the first channels, and write them into a copy."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1)
        self.partial = nn.Conv2d(4, 4, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        y = x.clone()
        y[:, :4] = self.partial(x[:, :4])
        return self.conv2(y)


class ShiftedChannels(nn.Module):
    """Temporal shift: an eighth of the channels moves forwards in time, an eighth backwards."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(8, 16), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc1(x)
        fold = x.size(-1) // 8
        out = torch.zeros_like(x)
        out[:, :-1, :fold] = x[:, 1:, :fold]
        out[:, 1:, fold : 2 * fold] = x[:, :-1, fold : 2 * fold]
        out[:, :, 2 * fold :] = x[:, :, 2 * fold :]
        return self.fc2(out)


class Focus(nn.Module):
    """YOLOv5: space to depth by slices."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(32, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv1(x))
        corners = [x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]]
        return self.conv2(torch.cat(corners, 1))


class UnevenSplit(nn.Module):
    """Literal sizes; a piece each is convolved, gated and passed on."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 20, 3, padding=1)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1)
        self.conv3 = nn.Conv2d(16, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        a, b, c = torch.split(self.conv1(x), [8, 8, 4], dim=1)
        return self.conv3(torch.cat([F.relu(self.conv2(a)), b * c.mean(1, keepdim=True)], dim=1))


class RestOfChannels(nn.Module):
    """As in SHViT: some channels go one way, the others, whose number is a difference of attributes, another."""

    def __init__(self) -> None:
        super().__init__()
        self.dim, self.part = 16, 6
        self.conv1 = nn.Conv2d(3, self.dim, 3, padding=1)
        self.norm = nn.GroupNorm(1, self.part)
        self.conv2 = nn.Conv2d(self.dim, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        one, rest = torch.split(F.relu(self.conv1(x)), [self.part, self.dim - self.part], dim=1)
        return self.conv2(torch.cat([self.norm(one), rest], dim=1))


class FlattenPixels(nn.Module):
    """The literal width of the flattened picture."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.fc1, self.fc2 = nn.Linear(128, 32), nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv(x)), 1)
        return self.fc2(F.gelu(self.fc1(x.view(-1, 128))))


class BilinearPooling(nn.Module):
    """Each pair of channels is a feature."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(3, 5, 3, padding=1)
        self.fc = nn.Linear(30, 4)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.conv1(x).flatten(2), self.conv2(x).flatten(2)
        return self.fc(torch.bmm(a, b.transpose(1, 2)).flatten(1))


class Volumes(nn.Module):
    """Conv3d, then time folded into the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv3d = nn.Conv3d(3, 8, 3, padding=1)
        self.bn = nn.BatchNorm3d(8)
        self.conv2d = nn.Conv2d(8 * 4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn(self.conv3d(x)))
        b, c, t, h, w = x.shape
        return self.conv2d(x.reshape(b, c * t, h, w))


class Waves(nn.Module):
    """Conv1d with weight as long as the sound, dilated, then a transposed one in groups."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(1, 16, 5, padding=4, dilation=2)
        self.up = nn.ConvTranspose1d(16, 8, 4, stride=2, padding=1, groups=2)
        self.conv2 = nn.Conv1d(8, 1, 3, padding="same")

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(F.leaky_relu(self.up(F.leaky_relu(self.conv1(x), 0.1)), 0.1))


class StackedBranches(nn.Module):
    """Selective kernels: branches are stacked, weighted by a softmax over them, and summed."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(3, 16, 5, padding=2)
        self.fc1, self.fc2 = nn.Linear(16, 8), nn.Linear(8, 32)
        self.conv3 = nn.Conv2d(16, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        branches = torch.stack([F.relu(self.conv1(x)), F.relu(self.conv2(x))], dim=1)
        squeezed = self.fc2(F.gelu(self.fc1(branches.sum(1).mean((2, 3)))))
        weights = squeezed.view(-1, 2, 16, 1, 1).softmax(dim=1)
        return self.conv3((branches * weights).sum(dim=1))


class Unfolded(nn.Module):
    """Convolution by unfold and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.fc1, self.fc2 = nn.Linear(8 * 9, 12), nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        columns = F.unfold(F.relu(self.conv(x)), 3).transpose(1, 2)
        return self.fc2(F.relu(self.fc1(columns)))


class Mixture(nn.Module):
    """Two experts, both run, weighted by a gate."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(8, 16)
        self.gate = nn.Linear(16, 2)
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(16, 24), nn.GELU(), nn.Linear(24, 16)) for _ in range(2))
        self.fc2 = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.fc1(x))
        weights = self.gate(x).softmax(-1)
        outputs = torch.stack([expert(x) for expert in self.experts], dim=-1)
        return self.fc2(torch.einsum("bci,bi->bc", outputs, weights))


class Messages(nn.Module):
    """Two rounds in which the nodes of a graph add up what their neighbours say, in two ways."""

    edges: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(8, 16), nn.Linear(16, 12), nn.Linear(12, 4)
        self.register_buffer("edges", torch.tensor([[0, 1, 1, 0], [1, 0, 1, 1]]))

    def forward(self, x: Tensor) -> Tensor:
        start, end = self.edges
        x = self.fc1(x)
        x = F.relu(torch.zeros_like(x).index_add(0, end, x[start]))
        said = self.fc2(x)
        heard = torch.zeros_like(said)
        heard[end] += said[start]
        return self.fc3(F.relu(heard))


class EveryOther(nn.Module):
    """Even and odd channels, by a step of two, are a pair of coordinates."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(8, 16), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc1(x)
        a, b = x[..., ::2], x[..., 1::2]
        return self.fc2(torch.stack([a * b, a - b], dim=-1).flatten(-2))


_pinned = partial(case, expectation=Expectation.PINNED)

SHAPES = (
    case("padded_shortcut", PaddedShortcut, images(8)),
    case("partial_conv", PartialConv, images(8), note="the first 4 channels, by a literal"),
    _pinned("shifted_channels", ShiftedChannels, normal((6, 8)), note="`fold` is a share of the width"),
    case("focus", Focus, images(8)),
    case("uneven_split", UnevenSplit, images(8), note="sizes of the split are literals; conv2 is free to lose outputs"),
    case("rest_of_channels", RestOfChannels, images(8)),
    case("flatten_pixels", FlattenPixels, images(8), note="128 is a literal; fc1 is free"),
    case("bilinear_pooling", BilinearPooling, images(8)),
    case("volumes", Volumes, normal((3, 4, 8, 8))),
    case("waves", Waves, normal((1, 32))),
    case("stacked_branches", StackedBranches, images(8)),
    case("unfolded", Unfolded, images(8)),
    case("mixture", Mixture, normal((8,))),
    case("messages", Messages, normal((8,))),
    _pinned("every_other", EveryOther, normal((8,)), note="channels stand or fall in pairs"),
    case("tile", lambda: Between(lambda x: x.repeat(1, 2, 1, 1), 32), images(8)),
    case("repeat_interleave", lambda: Between(lambda x: x.repeat_interleave(2, dim=1), 32), images(8)),
    case("pixel_unshuffle", lambda: Between(nn.PixelUnshuffle(2), 64), images(8)),
    _pinned("roll", lambda: Between(lambda x: x.roll(3, dims=1)), images(8), note="by a number of channels"),
    case("upsample", lambda: Between(nn.Upsample(scale_factor=2, mode="bilinear")), images(8)),
    _pinned(
        "roll_residual",
        lambda: Between(lambda x: x + x.roll(4, dims=1)),
        images(8),
        note="channels stand or fall in fours",
    ),
    case(
        "reflected_channels",
        lambda: Between(lambda x: F.pad(x.flatten(2).mT, (1, 1), mode="reflect").mT.unflatten(2, (8, 8)), 18),
        images(8),
        expectation=Expectation.PINNED,
        note="mirrored at both ends of the channels",
    ),
)
