"""Against Torch-Pruning 1.6.1, in one run: `python -m tests.benchmarks.torch_peers speed|kept [names]`.

`speed`: seconds from a module to the pruned module, and how much memory that takes at its peak, for each of the 32
architectures. Torch-Pruning prunes 30 % of all channels (about half of the multiplications), and verifies nothing;
here, half of the multiplications are asked for, and the result is tried out before it is taken over. Both in single
precision, each in a process of its own.

`kept`: how much utility is left at half of the parameters, or of the multiplications. A channel is worth the L2 norm
of its weights, in each convolution or linear layer that makes it; what is kept is a fraction of the sum over all
layers but the last. `default` are random weights as torchvision makes them; `gains` the same with a log-normal gain
(sigma 0.5) for each neuron, to imitate trained weights. Every layer keeps a channel or more. Torch-Pruning is given
the largest part to keep that fits, by bisection, with its default importance: ranked globally, or the same part of
each layer.
"""

# mypy: disable-error-code="no-untyped-call"
# Torch-Pruning and torchvision have no types.

from __future__ import annotations

import argparse
import copy
import logging
import multiprocessing
import resource
import time
import warnings
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from solver_nas import delta_nout, shrink
from solver_nas.limits import macs, now, params
from solver_nas.torch import trace
from tests.torch.architectures import ARCHITECTURES
from tests.torch.cases import images
from tests.torch.torchvision_ready import make_ready

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

    from numpy.typing import NDArray

    from solver_nas.frontend import Handle
    from tests.torch.cases import Case

_TIMEOUT = 120.0  # seconds for one pruning
_RATIO = 0.3  # of the channels: leaves about half of the multiplications
_STEPS = 10  # of a bisection: Torch-Pruning counts whole channels
_BUDGET = 0.5
_MEGABYTE = 2**20
_KEPT = ("vgg16_bn", "resnet50", "mobilenet_v2")


# -- speed -----------------------------------------------------------------------------------------


class Cost(NamedTuple):
    """What one pruning took.

    Args:
        seconds: from module to pruned module.
        megabytes: at the peak, more than before.
        left: fraction of the multiplications that are left.
        trouble: why it did not work; empty if it did.
    """

    seconds: float = float("nan")
    megabytes: float = float("nan")
    left: float = float("nan")
    trouble: str = ""


def _ours(module: nn.Module, one: Case) -> None:
    model = trace(module, one.inputs(), one.kwargs())
    shrink(model, limits=[macs(model) <= _BUDGET * now], normalise="mean")


def _theirs(module: nn.Module, one: Case) -> None:
    arguments = one.inputs()
    given: Any = arguments[0] if len(arguments) == 1 and not one.kwargs() else list(arguments)
    if one.kwargs():
        names = ["input_ids"] if len(arguments) == 1 else ["input_ids", "attention_mask"]
        given = {**dict(zip(names, arguments, strict=True)), **one.kwargs()}
    pruner(module, given, _RATIO, ranked=True).step()


def pruner(module: nn.Module, given: Any, ratio: float, *, ranked: bool) -> Any:
    """Torch-Pruning with its default importance; the last layer is left out.

    Args:
        given: example inputs.
        ratio: of channels that go.
        ranked: in the whole model instead of layer by layer.
    """
    import torch_pruning as tp  # type: ignore[import-untyped, unused-ignore] # an extra of this command alone

    (*_, last) = (each for each in module.modules() if isinstance(each, nn.Conv2d | nn.Linear))
    return tp.pruner.BasePruner(
        module,
        given,
        importance=tp.importance.MagnitudeImportance(p=2),
        pruning_ratio=ratio,
        global_pruning=ranked,
        ignored_layers=[last],
    )


def _measured(one: Case, prune: Callable[[nn.Module, Case], None], pipe: Connection) -> None:
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    torch.set_num_threads(1)
    module = one.build()
    before = multiplications(module, one)
    memory = resident()
    start = time.perf_counter()
    try:
        prune(module, one)
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        cost = Cost(seconds, max(peak - memory, 0.0), multiplications(module, one) / before)
        if cost.left == 1:
            cost = cost._replace(trouble="nothing was pruned")
    except Exception as error:  # noqa: BLE001 - whatever happens is told
        cost = Cost(trouble=f"{type(error).__name__}: {str(error).splitlines()[0][:60] if str(error) else ''}")
    pipe.send(cost)


def resident() -> float:
    """Megabytes that this process has at present."""
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - no path of ours
        return int(file.read().split()[1]) * resource.getpagesize() / _MEGABYTE


def measured(one: Case, prune: Callable[[nn.Module, Case], None]) -> Cost:
    """What a pruning takes, in another process."""
    context = multiprocessing.get_context("fork")
    mine, its = context.Pipe(duplex=False)
    process = context.Process(target=_measured, args=(one, prune, its))
    process.start()
    its.close()
    try:
        if mine.poll(_TIMEOUT):
            cost: Cost = mine.recv()
            return cost
        return Cost(trouble=f"not done after {_TIMEOUT:.0f} s")
    except EOFError:
        return Cost(trouble="the process died")
    finally:
        process.kill()
        process.join()


@torch.no_grad()
def multiplications(module: nn.Module, one: Case) -> float:
    """Those of convolutions and linear layers."""
    total = 0.0

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        weight = layer.weight
        assert isinstance(weight, Tensor)
        if isinstance(layer, nn.ConvTranspose2d):
            total += inputs[0].numel() * weight[0].numel()
        elif isinstance(layer, nn.Linear):
            total += output.numel() * weight.shape[1]
        else:
            total += output.numel() * weight[0].numel()

    layers = (nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
    hooks = [each.register_forward_hook(count) for each in module.modules() if isinstance(each, layers)]
    try:
        module(*one.inputs(), **one.kwargs())
    finally:
        for hook in hooks:
            hook.remove()
    return total


def warm_up() -> None:
    """Both sides once, so that what is imported only then is part of no row."""
    delta_nout(trace(_small(), torch.ones(2, 4))["0"], -4)
    pruner(_small(), torch.ones(2, 4), 0.5, ranked=True).step()


def _small() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))


def speed(names: list[str]) -> None:
    """Print a row for each architecture."""
    warm_up()
    print(f"{'':<26} {'ours':>7} {'theirs':>7} {'ratio':>6}   {'MB ours':>7} {'theirs':>7}   MACs left, ours, theirs")
    ratios, memories = [], []
    try:
        for one in ARCHITECTURES:
            if names and not any(name in one.name for name in names):
                continue
            ours, theirs = measured(one, _ours), measured(one, _theirs)
            ratio = ours.seconds / theirs.seconds
            print(
                f"{one.name:<26} {ours.seconds:>7.2f} {theirs.seconds:>7.2f} {ratio:>6.2f}   {ours.megabytes:>7.0f} "
                f"{theirs.megabytes:>7.0f}   {ours.left:>6.1%} {theirs.left:>6.1%}   "
                + "; ".join(f"{who}: {cost.trouble}" for who, cost in (("ours", ours), ("theirs", theirs)) if cost[3]),
                flush=True,
            )
            if not ours.trouble and not theirs.trouble:
                ratios.append(ratio)
                memories.append(ours.megabytes / max(theirs.megabytes, 1.0))
    except KeyboardInterrupt:
        print("interrupted")
    if ratios:
        print(
            f"{len(ratios)} that both can do: seconds, ours / theirs: median {np.median(ratios):.2f}, "
            f"{np.min(ratios):.2f} to {np.max(ratios):.2f}; memory: median {np.median(memories):.2f}"
        )


# -- kept utility ----------------------------------------------------------------------------------


def weighted(name: str, *, gains: bool) -> nn.Module:
    """A model of torchvision with random weights."""
    make_ready()
    import torchvision

    torch.manual_seed(0)
    module: nn.Module = torchvision.models.get_model(name, weights=None).eval()
    if gains:
        with torch.no_grad():
            for each in module.modules():
                if isinstance(each, nn.Conv2d | nn.Linear):
                    gain = torch.exp(0.5 * torch.randn(len(each.weight)))
                    each.weight.mul_(gain.reshape(-1, *[1] * (each.weight.dim() - 1)))
    return module


Worths = dict[str, "NDArray[np.float64]"]


def worths(module: nn.Module) -> Worths:
    """What each channel is worth, by layer, without the last one."""
    found = {
        name: each.weight.detach().double().flatten(1).norm(dim=1).numpy()
        for name, each in module.named_modules()
        if isinstance(each, nn.Conv2d | nn.Linear)
    }
    found.popitem()
    return found


def numbered(module: nn.Module) -> None:
    """Write the number of each channel where Torch-Pruning does not look: running means, and biases without a norm."""
    with torch.no_grad():
        for each in module.modules():
            if isinstance(each, nn.BatchNorm2d):
                assert each.running_mean is not None
                each.running_mean.copy_(torch.arange(each.num_features))
            elif isinstance(each, nn.Linear):
                each.bias.copy_(torch.arange(each.out_features))


def kept_by_number(module: nn.Module, worth: Worths) -> float:
    """The fraction of utility in a numbered module that has been pruned."""
    left, layers = 0.0, list(module.named_modules())
    for place, (name, each) in enumerate(layers):
        if name not in worth:
            continue
        if isinstance(each, nn.Linear):
            numbers: Any = each.bias
        else:
            # In these models, the norm is what comes next.
            norm = next(other for _, other in layers[place:] if isinstance(other, nn.BatchNorm2d))
            numbers = norm.running_mean
        left += float(worth[name][numbers.detach().long().numpy()].sum())
    return left / sum(float(one.sum()) for one in worth.values())


def size(module: nn.Module, cost: str) -> float:
    """Parameters, or multiplications for one picture."""
    if cost == "params":
        return float(sum(parameter.numel() for parameter in module.parameters()))
    return multiplications(module, _PICTURES)


class _Pictures(NamedTuple):
    """As much of a `Case` as is asked for."""

    @staticmethod
    def inputs() -> tuple[Any, ...]:
        """One picture of 224 pixels."""
        return (images(224)()[0][:1],)

    @staticmethod
    def kwargs() -> dict[str, Any]:
        """Nothing."""
        return {}


_PICTURES: Any = _Pictures()


def best_fit(module: nn.Module, cost: str, worth: Worths, *, ranked: bool) -> float:
    """What Torch-Pruning keeps with the largest part that fits into half the cost."""
    budget = _BUDGET * size(module, cost)
    low, high, best = 0.0, 1.0, float("nan")
    for _ in range(_STEPS):
        ratio = (low + high) / 2
        smaller = copy.deepcopy(module)
        pruner(smaller, _PICTURES.inputs()[0], ratio, ranked=ranked).step()
        if size(smaller, cost) <= budget:
            high, best = ratio, kept_by_number(smaller, worth)
        else:
            low = ratio
    return best


def kept(names: list[str]) -> None:
    """Print a row for each model, weights and cost."""
    print(f"{'':<14} {'weights':<8} {'cost':<7} {'ours':>7} {'gap':>8} {'seconds':>8}   global  uniform")
    for name in _KEPT:
        for gains in (False, True):
            for cost in ("params", "macs"):
                if names and not any(part in name for part in names):
                    continue
                module = weighted(name, gains=gains)
                worth = worths(module)
                numbered(module)
                ranked, uniform = (best_fit(module, cost, worth, ranked=flag) for flag in (True, False))
                start = time.perf_counter()
                model = trace(module, _PICTURES.inputs())

                def value(handle: Handle, worth: Worths = worth) -> NDArray[np.float64] | float:
                    return worth.get(handle.name, 0.0)

                limit = (params if cost == "params" else macs)(model) <= _BUDGET * now
                plan = shrink.plan(model, [limit], utility=value)
                plan.apply()
                seconds = time.perf_counter() - start
                print(
                    f"{name:<14} {'gains' if gains else 'default':<8} {cost:<7} {kept_by_number(module, worth):>7.4f} "
                    f"{plan.certificate.gap:>8.1e} {seconds:>8.1f}   {ranked:.4f}  {uniform:.4f}",
                    flush=True,
                )


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["speed", "kept"])
    parser.add_argument("names", nargs="*")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    torch.set_num_threads(1)
    make_ready()
    print(f"torch {torch.__version__}, Torch-Pruning {version('torch-pruning')}, one thread, seed 0")
    (speed if given.what == "speed" else kept)(given.names)


if __name__ == "__main__":
    main()
