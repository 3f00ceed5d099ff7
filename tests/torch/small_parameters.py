"""Small models in which a parameter, a buffer or a plain number of the module is read in an unusual way."""

# mypy: disable-error-code="no-any-return, no-untyped-call"
# For mypy, a call of a module is Any, and some functions of torch are untyped.

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - the name that everyone gives it
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune
from torch.nn.utils import weight_norm as old_weight_norm

from tests.torch.cases import Expectation, case, images, normal


class Direct(nn.Module):
    """A parameter of some rank between two convolutions; it broadcasts against (B, C, H, W)."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1)
        self.direct = nn.Parameter(torch.zeros(shape))
        self.conv2 = nn.Conv2d(16, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(F.relu(self.conv1(x)) * self.direct)


class DirectLinear(nn.Module):
    """A parameter of rank 1 that is a gain, and one of rank 2 that is a table."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(8, 16)
        self.gain = nn.Parameter(torch.zeros(16))
        self.table = nn.Parameter(torch.zeros(5, 16))
        self.fc2 = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.relu(self.fc1(x)) * self.gain + self.table)


class ListedParameters(nn.Module):
    """`ParameterList` and `ParameterDict`, which have no forward of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.ParameterList([nn.Parameter(torch.zeros(s)) for s in ((8, 16), (16, 16), (16, 4))])
        self.shifts = nn.ParameterDict(
            {"first": nn.Parameter(torch.zeros(16)), "second": nn.Parameter(torch.zeros(16))}
        )

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(x @ self.weights[0] + self.shifts["first"])
        x = torch.relu(x @ self.weights[1] + self.shifts["second"])
        return x @ self.weights[2]


class MatmulWeight(nn.Module):
    """x @ w with w (in, out), unlike nn.Linear."""

    def __init__(self) -> None:
        super().__init__()
        self.w1, self.b1 = nn.Parameter(torch.zeros(8, 16)), nn.Parameter(torch.zeros(16))
        self.w2 = nn.Parameter(torch.zeros(16, 4))

    def forward(self, x: Tensor) -> Tensor:
        return torch.matmul(torch.tanh(torch.addmm(self.b1, x, self.w1)), self.w2)


class ChannelBuffer(nn.Module):
    """Buffers of channel width, one of them not persistent."""

    mean: Tensor
    std: Tensor

    def __init__(self, channels: int = 16) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, 4, 1)
        self.register_buffer("mean", torch.randn(1, channels, 1, 1))
        self.register_buffer("std", torch.rand(channels, 1, 1) + 0.5, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(F.relu((self.conv1(x) - self.mean) / self.std))


class FrozenBatchNorm(nn.Module):
    """As in torchvision's detectors: everything is a buffer, and computed with."""

    weight: Tensor
    bias: Tensor
    mean: Tensor
    var: Tensor

    def __init__(self, channels: int = 16) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, 4, 1)
        for name, least in (("weight", 0.5), ("bias", -0.5), ("mean", -0.5), ("var", 0.5)):
            self.register_buffer(name, torch.rand(channels) + least)

    def forward(self, x: Tensor) -> Tensor:
        weight, bias, mean, var = (one.reshape(1, -1, 1, 1) for one in (self.weight, self.bias, self.mean, self.var))
        scale = weight * (var + 1e-5).rsqrt()
        return self.conv2(F.relu(self.conv1(x) * scale + (bias - mean * scale)))


class IntAttributes(nn.Module):
    """Hand-made sizes that `forward` reads; nobody but the author knows what they belong to."""

    def __init__(self) -> None:
        super().__init__()
        self.channels, self.side = 16, 4
        self.conv = nn.Conv2d(3, self.channels, 3, stride=2, padding=1)
        self.fc1 = nn.Linear(self.channels * self.side * self.side, 32)
        self.fc2 = nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv(x))
        if x.shape[1] != self.channels:
            raise ValueError(f"expected {self.channels} channels, got {x.shape[1]}")
        x = x.reshape(-1, self.channels * self.side * self.side)
        return self.fc2(F.gelu(self.fc1(x)))


@dataclass
class Config:
    """The kind of object that is shared by all modules of a model."""

    hidden_size: int = 32
    num_heads: int = 4
    intermediate_size: int = 64

    @property
    def head_dim(self) -> int:
        """Width of a head."""
        return self.hidden_size // self.num_heads


class ConfiguredBlock(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.qkv = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.up = nn.Linear(config.hidden_size, config.intermediate_size)
        self.down = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        b, t, _ = x.shape
        heads, width = self.config.num_heads, self.config.head_dim
        q, k, v = (
            y.view(b, t, heads, width).transpose(1, 2) for y in self.qkv(x).split(self.config.hidden_size, dim=2)
        )
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2)
        x = x + self.proj(y.reshape(b, t, self.config.hidden_size))
        return x + self.down(F.gelu(self.up(x)))


class Configured(nn.Module):
    """Two blocks read the same config in `forward`: after pruning they may differ."""

    def __init__(self) -> None:
        super().__init__()
        config = Config()
        self.embed = nn.Linear(8, config.hidden_size)
        self.blocks = nn.ModuleList(ConfiguredBlock(config) for _ in range(2))
        self.head = nn.Linear(config.hidden_size, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


class PlainConv(nn.Module):
    """What the parametrised cases start from."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.fc = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv2(F.relu(self.conv1(x))))
        return self.fc(x.mean(dim=(2, 3)))


class Softplus(nn.Module):
    """Keeps a weight positive; position by position."""

    def forward(self, weight: Tensor) -> Tensor:
        return F.softplus(weight)


class Symmetric(nn.Module):
    """Ties the two axes of a square weight."""

    def forward(self, weight: Tensor) -> Tensor:
        return weight.triu() + weight.triu(1).transpose(-1, -2)


class SymmetricLinear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(8, 16), nn.Linear(16, 16), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc3(F.gelu(self.fc2(F.gelu(self.fc1(x)))))


def _weight_norm(module: nn.Module) -> None:
    parametrizations.weight_norm(module.get_submodule("conv1"))
    parametrizations.weight_norm(module.get_submodule("conv2"))
    module.eval()  # the modules that torch adds are born in train mode


def _old_weight_norm(module: nn.Module) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # deprecated, but vocoders are full of it
        old_weight_norm(module.get_submodule("conv2"))


def _spectral_norm(module: nn.Module) -> None:
    parametrizations.spectral_norm(module.get_submodule("conv2"))
    module.eval()


def _orthogonal(module: nn.Module) -> None:
    parametrizations.orthogonal(module.get_submodule("fc2"))
    module.eval()


def _softplus(module: nn.Module) -> None:
    parametrize.register_parametrization(module.get_submodule("conv2"), "weight", Softplus())
    module.eval()


def _symmetric(module: nn.Module) -> None:
    parametrize.register_parametrization(module.get_submodule("fc2"), "weight", Symmetric())
    module.eval()


def _masked(module: nn.Module) -> None:
    prune.ln_structured(module.get_submodule("conv1"), "weight", amount=4, n=2, dim=0)
    prune.l1_unstructured(module.get_submodule("conv2"), "weight", amount=0.5)


class WeightNormByHand(nn.Module):
    """g * v / norm(v) for each output."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(8, 16)
        self.v, self.g = nn.Parameter(torch.zeros(16, 16)), nn.Parameter(torch.zeros(16, 1))
        self.fc2 = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.g * self.v / self.v.norm(dim=1, keepdim=True)
        return self.fc2(F.gelu(F.linear(F.gelu(self.fc1(x)), weight)))


class LowRank(nn.Module):
    """LoRA: weight + b @ a, added to the weight or to the output."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(8, 32), nn.Linear(32, 4)
        self.a, self.b = nn.Parameter(torch.zeros(6, 8)), nn.Parameter(torch.zeros(32, 6))
        self.down, self.up = nn.Linear(32, 6, bias=False), nn.Linear(6, 4, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(F.linear(x, self.fc1.weight + 0.5 * (self.b @ self.a), self.fc1.bias))
        return self.fc2(x) + 0.5 * self.up(self.down(x))


PARAMETERS = (
    case("parameter_rank_0", Direct, images(8)),
    case("parameter_rank_1_linear", DirectLinear, normal((5, 8)), note="ranks 1 and 2"),
    case("parameter_rank_2", lambda: Direct(8, 8), images(8), note="no channel axis: stays as it is"),
    case("parameter_rank_3", lambda: Direct(16, 1, 1), images(8)),
    case("parameter_rank_4", lambda: Direct(1, 16, 8, 8), images(8)),
    case("parameter_list", ListedParameters, normal((8,))),
    case("matmul_weight", MatmulWeight, normal((8,))),
    case("channel_buffer", ChannelBuffer, images(8)),
    case("frozen_batch_norm", FrozenBatchNorm, images(8)),
    case("int_attributes", IntAttributes, images(8), note="`channels` must follow the width, or pin it with a reason"),
    case("config_object", Configured, normal((6, 8)), note="`hidden_size` is read by both blocks"),
    case("weight_norm", PlainConv, images(8), finish=_weight_norm, note="the norm of a row contains dropped inputs"),
    case(
        "weight_norm_old", PlainConv, images(8), finish=_old_weight_norm, note="`weight` is a tensor set by a pre-hook"
    ),
    case("weight_norm_by_hand", WeightNormByHand, normal((8,)), note="the norm of a row contains dropped inputs"),
    case("parametrized_elementwise", PlainConv, images(8), finish=_softplus, note="softplus(0) is not 0"),
    case(
        "parametrized_symmetric",
        SymmetricLinear,
        normal((8,)),
        finish=_symmetric,
        expectation=Expectation.PINNED,
        note="triu knows positions; inputs and outputs of fc2 are tied",
    ),
    case(
        "spectral_norm",
        PlainConv,
        images(8),
        finish=_spectral_norm,
        expectation=Expectation.PINNED,
        note="one number from the whole weight",
    ),
    case(
        "orthogonal",
        SymmetricLinear,
        normal((8,)),
        finish=_orthogonal,
        expectation=Expectation.PINNED,
        note="the weight comes from a matrix exponential",
    ),
    case("prune_masks", PlainConv, images(8), finish=_masked, note="weight = weight_orig * weight_mask, by a pre-hook"),
    case("low_rank", LowRank, normal((8,))),
)
