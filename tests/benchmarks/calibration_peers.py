"""Without any training, against Torch-Pruning 1.6.1: `python -m tests.benchmarks.calibration_peers [names]`.

The sentence encoder MiniLM and EfficientNet-lite0 with 0.9, 0.75 and 0.5 of their multiplications (of linear layers
and convolutions): `shrink(..., data=samples)` here; Torch-Pruning with the largest part to keep that fits, by
bisection, with three of its importances: L2 norms layer by layer, L2 norms ranked in the whole model, and Taylor
ranked in the whole model. Its gradients are those of the same samples: of the cross-entropy with the class that the
module itself takes for right, and of telling texts apart from each other when every fourth token is missing. What a
module returns keeps its size on both sides.
"""

# mypy: disable-error-code="no-untyped-call"
# Torch-Pruning has no types.

from __future__ import annotations

import argparse
import copy
import logging
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from solver_nas import calibrate, shrink
from solver_nas.limits import macs, now
from solver_nas.torch import trace
from tests.benchmarks.measures.modules import real_modules
from tests.benchmarks.torch_peers import multiplications

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.benchmarks.measures.modules import RealModule

_NAMES = ("minilm", "efficientnet-lite0")
_SHARES = (0.9, 0.75, 0.5)
_STEPS = 8  # of a bisection
_SOLVING = 5.0  # seconds
_TEMPERATURE = 0.05  # of similarities, as the encoder was trained
_FOURTH = 4
_IMPORTANCES = ("L2 uniform", "L2 global", "Taylor global")


class _Example(NamedTuple):
    """Usual inputs, by position and by name."""

    args: tuple[Any, ...]
    given: dict[str, Any]

    def inputs(self) -> tuple[Any, ...]:
        return self.args

    def kwargs(self) -> dict[str, Any]:
        return self.given


def size(module: nn.Module, real: RealModule) -> float:
    """Multiplications for the example."""
    example: Any = _Example(*real.example())
    return multiplications(module, example)


def taylor(module: nn.Module, real: RealModule) -> None:
    """Leave gradients with the parameters, summed over all samples."""
    module.zero_grad()
    for sample in real.samples():
        (_contrast if isinstance(sample, dict) else _surprise)(module, sample).backward()


def _surprise(module: nn.Module, images: Tensor) -> Tensor:
    found = module(images)
    return nn.functional.cross_entropy(found, found.argmax(dim=1))


def _contrast(module: nn.Module, texts: dict[str, Tensor]) -> Tensor:
    mask = texts["attention_mask"]
    part = mask * (torch.arange(mask.shape[1]) % _FOURTH != _FOURTH - 1)
    whole, less = (_vectors(module, {**texts, "attention_mask": one}) for one in (mask, part))
    return nn.functional.cross_entropy(whole @ less.T / _TEMPERATURE, torch.arange(len(mask)))


def _vectors(module: nn.Module, texts: dict[str, Tensor]) -> Tensor:
    found, mask = module(**texts)[0], texts["attention_mask"][..., None]
    return nn.functional.normalize((found * mask).sum(dim=1) / mask.sum(dim=1), dim=1)


def pruned(module: nn.Module, real: RealModule, ratio: float, how: str) -> None:
    """Torch-Pruning, in place; the module has gradients."""
    import torch_pruning as tp  # type: ignore[import-untyped, unused-ignore] # an extra of this command alone

    args, kwargs = real.example()
    ignored: list[nn.Module] = [each for each in module.modules() if isinstance(each, nn.Embedding)]
    heads = {}
    for name, each in module.named_modules():
        if name.endswith(("output.dense", "pooler.dense", "classifier")):
            ignored.append(each)
        if name.endswith((".query", ".key", ".value")):
            heads[each] = 12
    importance = (
        tp.importance.TaylorImportance() if how.startswith("Taylor") else tp.importance.MagnitudeImportance(p=2)
    )
    pruner = tp.pruner.BasePruner(
        module,
        args[0] if args else kwargs,
        importance=importance,
        pruning_ratio=ratio,
        global_pruning=how.endswith("global"),
        ignored_layers=ignored,
        num_heads=heads,
        prune_head_dims=True,
        output_transform=lambda out: out[0] if isinstance(out, tuple | dict) else out,
    )
    pruner.step()
    for each in module.modules():
        attention: Any = each
        if hasattr(each, "num_attention_heads") and hasattr(each, "query"):
            attention.all_head_size = attention.query.out_features
            attention.attention_head_size = attention.query.out_features // attention.num_attention_heads


def theirs(real: RealModule, share: float, how: str) -> tuple[float, float]:
    """Score, and the part of the multiplications that is left, with the largest part to keep that fits."""
    module = real.build()
    whole = size(module, real)
    taylor(module, real)
    low, high = 0.0, 1.0
    best: tuple[float, float] = (float("nan"), float("nan"))
    for _ in range(_STEPS):
        ratio = (low + high) / 2
        smaller = copy.deepcopy(module)
        for mine, its in zip(smaller.parameters(), module.parameters(), strict=True):
            mine.grad = None if its.grad is None else its.grad.clone()
        pruned(smaller, real, ratio, how)
        left = size(smaller, real) / whole
        if left <= share:
            high, best = ratio, (real.score(smaller), left)
        else:
            low = ratio
    return best


def ours(real: RealModule) -> Iterator[tuple[float, float]]:
    """Score, and the part of the multiplications that is left, for each budget."""
    for share in _SHARES:
        module = real.build()
        whole = size(module, real)
        args, kwargs = real.example()
        model = trace(module, args, kwargs)
        mask = "attention_mask" if "attention_mask" in kwargs else None
        calibration = calibrate(model, real.samples(), mask=mask, progress=False)
        shrink(model, limits=[macs(model) <= share * now], data=calibration, time_limit=_SOLVING, progress=False)
        yield real.score(module), size(module, real) / whole


def main() -> None:
    """Print a row for each module and budget."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    torch.set_num_threads(1)
    for real in real_modules():
        if real.name not in _NAMES or (given.names and not any(name in real.name for name in given.names)):
            continue
        print(f"{real.name}: {real.measure}, {real.score(real.build()):.3f}")
        for share, (score, left) in zip(_SHARES, ours(real), strict=True):
            told = [f"ours {score:.3f} ({left:.3f})"]
            for how in _IMPORTANCES:
                # As many multiplications as are left here, whatever either side counts.
                its, its_left = theirs(real, max(left, share), how)
                told.append(f"{how} {its:.3f} ({its_left:.3f})")
            print(f"  at {share}: {'; '.join(told)}", flush=True)


if __name__ == "__main__":
    main()
