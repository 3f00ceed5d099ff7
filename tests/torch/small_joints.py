"""Small models in which channels are joined, cut, moved or tied in a way that is easy to get wrong."""

# mypy: disable-error-code="no-any-return, no-untyped-call"
# For mypy, a call of a module is Any, and some functions of torch are untyped.

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - the name that everyone gives it
from torch import Tensor, nn

from tests.torch.cases import Expectation, case, images, normal


class MaskColumn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(8, 16), nn.Linear(16, 4)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.fc2(mask * F.gelu(self.fc1(x)))


class PixelShuffle(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 48, 3, padding=1)
        self.shuffle = nn.PixelShuffle(2)
        self.conv3 = nn.Conv2d(12, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv1(x))
        return self.conv3(F.relu(self.shuffle(self.conv2(x))))


class ConcatSelf(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv1(x))
        return self.conv2(torch.cat([x, x], dim=1))


class Generator(nn.Module):
    """DCGAN: Linear -> view -> ConvTranspose."""

    def __init__(self, latent: int = 16, width: int = 32) -> None:
        super().__init__()
        self.fc = nn.Linear(latent, width * 4 * 4)
        self.up1 = nn.ConvTranspose2d(width, width // 2, 4, 2, 1)
        self.bn = nn.BatchNorm2d(width // 2)
        self.up2 = nn.ConvTranspose2d(width // 2, 3, 4, 2, 1)

    def forward(self, z: Tensor) -> Tensor:
        x = F.relu(self.fc(z)).view(-1, 32, 4, 4)
        x = F.relu(self.bn(self.up1(x)))
        return torch.tanh(self.up2(x))


class ConvBnAct(nn.Module):
    def __init__(self, c1: int, c2: int, k: int = 1, s: int = 1, g: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c1, c2, k, s, k // 2, groups=g, bias=False)
        self.bn = nn.BatchNorm2d(c2)
        self.act = nn.SiLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)))


class Bottleneck(nn.Module):
    def __init__(self, c1: int, c2: int, shortcut: bool = True) -> None:
        super().__init__()
        self.cv1 = ConvBnAct(c1, c2, 3)
        self.cv2 = ConvBnAct(c2, c2, 3)
        self.add = shortcut and c1 == c2

    def forward(self, x: Tensor) -> Tensor:
        return x + self.cv2(self.cv1(x)) if self.add else self.cv2(self.cv1(x))


class C2f(nn.Module):
    """As in YOLOv8: chunk in two, a chain of bottlenecks on the second half, all of them concatenated."""

    def __init__(self, c1: int, c2: int, n: int = 1, shortcut: bool = False) -> None:
        super().__init__()
        self.c = c2 // 2
        self.cv1 = ConvBnAct(c1, 2 * self.c)
        self.cv2 = ConvBnAct((2 + n) * self.c, c2)
        self.m = nn.ModuleList(Bottleneck(self.c, self.c, shortcut) for _ in range(n))

    def forward(self, x: Tensor) -> Tensor:
        y = list(self.cv1(x).chunk(2, 1))
        y.extend(m(y[-1]) for m in self.m)
        return self.cv2(torch.cat(y, 1))


class C2fSplit(C2f):
    """The other spelling of Ultralytics, for exporting: split with sizes from an attribute."""

    def forward(self, x: Tensor) -> Tensor:
        y = list(self.cv1(x).split((self.c, self.c), 1))
        y.extend(m(y[-1]) for m in self.m)
        return self.cv2(torch.cat(y, 1))


class DepthwiseMultiplier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1)
        self.depthwise = nn.Conv2d(8, 16, 3, padding=1, groups=8)
        self.bn = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv1(x))
        return self.conv2(F.relu6(self.bn(self.depthwise(x))))


class SqueezeExcite(nn.Module):
    def __init__(self, channels: int = 16, reduction: int = 4) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, channels, 3, padding=1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Sequential(
            nn.Linear(channels, channels // reduction),
            nn.ReLU(inplace=True),
            nn.Linear(channels // reduction, channels),
            nn.Sigmoid(),
        )
        self.conv2 = nn.Conv2d(channels, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv1(x))
        b, c, _, _ = x.size()
        y = self.fc(self.pool(x).view(b, c)).view(b, c, 1, 1)
        return self.conv2(x * y.expand_as(x))


class ChannelShuffle(nn.Module):
    def __init__(self, channels: int = 16, groups: int = 4) -> None:
        super().__init__()
        self.groups = groups
        self.conv1 = nn.Conv2d(3, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 1, groups=groups)
        self.conv3 = nn.Conv2d(channels, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv1(x))
        b, c, h, w = x.shape
        x = x.view(b, self.groups, c // self.groups, h, w).transpose(1, 2).contiguous().view(b, c, h, w)
        return self.conv3(F.relu(self.conv2(x)))


class ModuleTwice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1)
        self.shared = nn.Conv2d(16, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv1(x))
        return self.conv2(F.relu(self.shared(F.relu(self.shared(x)))))


class Siamese(nn.Module):
    """One module for two inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(8, 32), nn.GELU(), nn.Linear(32, 16))
        self.head = nn.Linear(32, 1)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        a, b = self.encoder(a), self.encoder(b)
        return self.head(torch.cat([torch.abs(a - b), a * b], dim=-1))


class Flip(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(torch.flip(F.relu(self.conv1(x)), dims=[1]))


class FlipResidual(Flip):
    """Position i stands or falls with position 15 - i."""

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv1(x))
        return self.conv2(x + torch.flip(x, dims=[1]))


class PermuteBuffer(nn.Module):
    order: Tensor

    def __init__(self, channels: int = 16) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, 4, 1)
        self.register_buffer("order", torch.randperm(channels))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(F.relu(self.conv1(x))[:, self.order])


class PermuteBufferResidual(PermuteBuffer):
    """Cycles of the permutation stand or fall together."""

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv1(x))
        return self.conv2(x + torch.index_select(x, 1, self.order))


class PermuteList(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1)
        self.conv2 = nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(F.relu(self.conv1(x))[:, [3, 0, 7, 1, 6, 2, 5, 4]])


class FlattenResidual(nn.Module):
    """flatten(conv) + linear: a linear neuron stands for one pixel of one channel."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.fc1 = nn.Linear(8 * 4 * 4, 8 * 4 * 4)
        self.fc2 = nn.Linear(8 * 4 * 4, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.flatten(F.relu(self.conv(x)), 1)
        return self.fc2(F.gelu(x + self.fc1(x)))


class SecondOutput(nn.Module):
    """The second output is the hidden activation itself."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(8, 32), nn.Linear(32, 16), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = F.gelu(self.fc2(F.gelu(self.fc1(x))))
        return self.fc3(features), features


class GroupedConv(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1, groups=4)
        self.conv3 = nn.Conv2d(32, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        return self.conv3(F.relu(self.conv2(x)))


JOINTS = (
    case("mask_column", MaskColumn, normal((8,), (1,))),
    case("pixel_shuffle", PixelShuffle, images(8)),
    case("concat_self", ConcatSelf, images(8)),
    case("linear_view_conv_transpose", Generator, normal((16,))),
    case(
        "c2f", lambda: C2f(8, 16, n=2, shortcut=True), images(8, channels=8), note="in and out are pinned by the model"
    ),
    case(
        "c2f_split",
        lambda: C2fSplit(8, 16, n=2),
        images(8, channels=8),
        note="reads the sizes of a split from `self.c`",
    ),
    case("depthwise_multiplier", DepthwiseMultiplier, images(8)),
    case("squeeze_excite", SqueezeExcite, images(8)),
    case("channel_shuffle", ChannelShuffle, images(8)),
    case("module_twice", ModuleTwice, images(8)),
    case("siamese", Siamese, normal((8,), (8,))),
    case("flip", Flip, images(8)),
    case("flip_residual", FlipResidual, images(8)),
    case("permute_buffer", PermuteBuffer, images(8), note="`order` must be rewritten"),
    case("permute_buffer_residual", PermuteBufferResidual, images(8), note="`order` must be rewritten"),
    case(
        "permute_list",
        PermuteList,
        images(8),
        expectation=Expectation.PINNED,
        note="the order is a literal in `forward`, which cannot be edited from outside",
    ),
    case("flatten_residual", FlattenResidual, images(8)),
    case("second_output", SecondOutput, normal((8,)), note="fc2 is an output and stays; fc1 is free"),
    case("grouped_conv", GroupedConv, images(8), note="one producer channel alone cannot go: one per group can"),
)
