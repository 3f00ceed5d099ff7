"""Small models whose state, modes, hooks or branches have to survive, or have to be refused."""

# mypy: disable-error-code="no-any-return, no-untyped-call"
# For mypy, a call of a module is Any, and some functions of torch are untyped.

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name that everyone gives it
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tests.torch.cases import Expectation, case, images, normal


class Layers(nn.Module):
    """What most models of this file consist of."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.conv2, self.bn2 = nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.dropout = nn.Dropout(0.25)
        self.fc = nn.Linear(16, 4)


class Plain(Layers):
    """The model that modes and hooks are tried with."""

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)) + x)
        return self.fc(self.dropout(x.mean((2, 3))))


class DataBranch(Plain):
    def forward(self, x: Tensor) -> Tensor:
        if x.mean() > 0:
            return super().forward(x)
        return -super().forward(x)


class ItemBranch(Plain):
    """A number out of a tensor decides how often the layer runs."""

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        for _ in range(1 + int(x.amax().item()) % 3):
            x = F.relu(self.bn2(self.conv2(x)))
        return self.fc(x.mean((2, 3)))


class SelectedRows(Plain):
    """How many rows are left is data."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x[x.mean((1, 2, 3)) > -1])


class ShapeBranch(Plain):
    """Depends on the picture's size, not on its content."""

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] > 32:
            x = F.max_pool2d(x, 2)
        return super().forward(x)


class WidthBranch(Plain):
    """Another way is taken as soon as a channel has gone."""

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        if x.shape[1] == 16:
            x = 2 * x
        return self.fc(F.relu(self.bn2(self.conv2(x))).mean((2, 3)))


class TrainingOnlyHead(Layers):
    """GoogLeNet: a second head that eval mode never runs, but that reads what may be pruned."""

    def __init__(self) -> None:
        super().__init__()
        self.auxiliary = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Any:
        x = F.relu(self.bn1(self.conv1(x)))
        y = self.fc(self.dropout(F.relu(self.bn2(self.conv2(x))).mean((2, 3))))
        return (y, self.auxiliary(x.mean((2, 3)))) if self.training else y


class Unused(Plain):
    """Layers and parameters that nothing reads."""

    def __init__(self) -> None:
        super().__init__()
        self.forgotten = nn.Linear(16, 16)
        self.left_over = nn.Parameter(torch.zeros(16))


class TwoNames(Plain):
    """One module is an attribute twice, so that its parameters have two names."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(self.conv1, self.bn1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.backbone(x))
        return self.fc(F.relu(self.bn2(self.conv2(x))).mean((2, 3)))


class SharedWeight(nn.Module):
    """Two modules with one weight but a bias each, one of them transposed."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(8, 16), nn.Linear(16, 16), nn.Linear(16, 16)
        self.fc3.weight = self.fc2.weight
        self.bias = nn.Parameter(torch.zeros(8))

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.fc3(F.gelu(self.fc2(F.gelu(self.fc1(x))))))
        return F.linear(x, self.fc1.weight.t(), self.bias)


class FrozenBackbone(Plain):
    """A part runs under `torch.no_grad()`."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            x = F.relu(self.bn1(self.conv1(x)))
        return self.fc(F.relu(self.bn2(self.conv2(x))).mean((2, 3)))


class NoGradForward(Plain):
    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)


class Autocast(Plain):
    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            return super().forward(x)


class Checkpointed(Plain):
    def forward(self, x: Tensor) -> Tensor:
        x = checkpoint(self.stem, x, use_reentrant=False)
        return self.fc(F.relu(self.bn2(self.conv2(x))).mean((2, 3)))

    def stem(self, x: Tensor) -> Tensor:
        return F.relu(self.bn1(self.conv1(x)))


class InPlace(Plain):
    """Everything that can be done in place is."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn1(self.conv1(x)).relu_()
        y = self.bn2(self.conv2(x))
        y += x
        y.mul_(0.5).clamp_(min=0)
        return self.fc(y.mean((2, 3)))


class DictOutput(Layers):
    def forward(self, x: Tensor) -> dict[str, Any]:
        features = F.relu(self.bn1(self.conv1(x)))
        logits = self.fc(F.relu(self.bn2(self.conv2(features))).mean((2, 3)))
        return {"logits": logits, "pair": [logits.softmax(-1), {"index": logits.argmax(-1)}]}


class DictInput(Layers):
    """A dict in, an optional tensor by name."""

    def forward(self, batch: dict[str, Tensor], scale: Tensor | None = None) -> Tensor:
        x = F.relu(self.bn1(self.conv1(batch["image"])))
        if scale is not None:
            x = x * scale
        return self.fc(F.relu(self.bn2(self.conv2(x))).mean((2, 3)))


@dataclass
class Result:
    """A class of the user, which torch does not know how to take apart."""

    logits: Tensor
    hidden: Tensor


class ClassOutput(Layers):
    def forward(self, x: Tensor) -> Result:
        x = F.relu(self.bn1(self.conv1(x)))
        hidden = F.relu(self.bn2(self.conv2(x))).mean((2, 3))
        return Result(self.fc(hidden), hidden)


class CustomFunction(torch.autograd.Function):
    """Straight-through rounding."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: ARG004 - given by torch
        return x.round()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ARG004 - given by torch
        return gradient


class Rounded(Plain):
    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = CustomFunction.apply(4 * x) / 4
        return self.fc(F.relu(self.bn2(self.conv2(x))).mean((2, 3)))


def _freeze_first(module: nn.Module) -> None:
    module.get_submodule("conv1").requires_grad_(False)
    module.get_submodule("bn1").requires_grad_(False)


def _freeze_all(module: nn.Module) -> None:
    module.requires_grad_(False)


def _train(module: nn.Module) -> None:
    """Training, but with one norm in eval mode, as when fine-tuning."""
    module.train()
    module.get_submodule("bn1").eval()


def _double(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:  # noqa: ARG001 - given by torch
    return 2 * output


def _shift(module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:  # noqa: ARG001 - given by torch
    return (inputs[0] + 0.5,)


def _hooks(module: nn.Module) -> None:
    """They change what is computed."""
    module.get_submodule("conv1").register_forward_hook(_double)
    module.get_submodule("bn2").register_forward_pre_hook(_shift)


@dataclass
class Recorder:
    """A hook that only looks: `shapes` grows with each call."""

    shapes: list[torch.Size]

    def __call__(self, module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:  # noqa: ARG002 - as above
        self.shapes.append(output.shape)


def _recorder(module: nn.Module) -> None:
    module.get_submodule("conv2").register_forward_hook(Recorder([]))


def _pictured() -> tuple[dict[str, Tensor]]:
    return ({"image": images(8)()[0]},)


GUARDS = (
    case(
        "data_branch",
        DataBranch,
        images(8),
        expectation=Expectation.REFUSED,
        note="`if x.mean() > 0`",
    ),
    case(
        "item_branch",
        ItemBranch,
        images(8),
        expectation=Expectation.REFUSED,
        note="`range(int(x.amax().item()))`",
    ),
    case(
        "selected_rows",
        SelectedRows,
        images(8),
        expectation=Expectation.REFUSED,
        note="the batch size is data; the channels are not, so pruning would be fine too",
    ),
    case("shape_branch", ShapeBranch, images(8), note="right only for pictures like the example, which must be said"),
    case(
        "width_branch",
        WidthBranch,
        images(8),
        expectation=Expectation.REFUSED,
        note="`if x.shape[1] == 16`: the pruned model takes the other way; pinning, or a check afterwards, is fine",
    ),
    case(
        "training_only_head",
        TrainingOnlyHead,
        images(8),
        expectation=Expectation.PINNED,
        note="eval mode never shows `auxiliary`, which breaks in training unless bn1 is pinned or this is refused",
    ),
    case("unused", Unused, images(8), note="`forgotten` and `left_over` stay as they are"),
    case("two_names", TwoNames, images(8)),
    case("shared_weight", SharedWeight, normal((8,)), note="16 inputs and outputs of one weight are tied"),
    case("frozen_part", Plain, images(8), finish=_freeze_first, note="`requires_grad` stays False where it was"),
    case("frozen", Plain, images(8), finish=_freeze_all, note="`requires_grad` stays False"),
    case("train_mode", Plain, images(8), finish=_train, note="in train mode, except bn1; statistics must not move"),
    case("no_grad_block", FrozenBackbone, images(8)),
    case("no_grad_forward", NoGradForward, images(8)),
    case("autocast_off", Autocast, images(8)),
    case("checkpointed", Checkpointed, images(8)),
    case("changing_hooks", Plain, images(8), finish=_hooks, note="hooks stay and are part of the function"),
    case("recording_hook", Plain, images(8), finish=_recorder, note="the hook stays, and sees no call of the tracer"),
    case("in_place", InPlace, images(8)),
    case("dict_output", DictOutput, images(8)),
    case("dict_input", DictInput, _pictured, kwargs=lambda: {"scale": torch.tensor(1.5)}),
    case(
        "class_output",
        ClassOutput,
        images(8),
        expectation=Expectation.REFUSED,
        note="`torch.export` knows no such class; a clear error, or the tensors found in its fields",
    ),
    case("custom_function", Rounded, images(8), expectation=Expectation.PINNED, note="an autograd.Function"),
)
