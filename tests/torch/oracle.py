"""Whether a changed module computes what it should, by zeroing instead of removing.

The original with exactly the dropped numbers set to zero, the changed module and its stand-alone twin are run in double
precision. What takes positions of an axis together and is no sum of products cannot be right to the last digit, since
the number of positions enters it; there, both sides are given the same:

- the mean and the variance of a normalisation are replaced by one number for each call, taken from the original;
- the result of any other mean, variance or norm over an axis that has changed its size is that of the original;
- a softmax over such an axis is the identity;
- attention is scaled by the size that its heads had.

Nothing here is shared with the verification of the front end: not the zeros, not the comparison, not the exceptions.
"""

# mypy: disable-error-code="no-untyped-call"
# Modes of torch have no types.

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from math import prod
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name that everyone gives it
from numpy.typing import NDArray
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from solver_nas.plan import ArrayPlan

TOLERANCE = 1e-6  # relative to the largest output: double precision, statistics that are not of the same rounding
_LEAST = 1e-5  # likewise: how far apart outputs for different inputs have to be
_NARROW = (torch.float16, torch.bfloat16, torch.float32)
_SEED = 0


class Outcome(Enum):
    """What the oracle says."""

    RIGHT = "right"
    WRONG = "WRONG"
    UNJUDGED = "not judged"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the oracle says, and why.

    Args:
        outcome: the word.
        in_place: how far the changed module is from the original, relative to the largest number of an output.
        standalone: how far the stand-alone twin is from the changed module.
        reason: what is wrong, or what stands in the way.
        given: how many results over changed axes were given to the changed module.
    """

    outcome: Outcome
    in_place: float = float("nan")
    standalone: float = float("nan")
    reason: str = ""
    given: int = 0

    def __str__(self) -> str:
        """In one line."""
        numbers = f"{self.in_place:.0e} {self.standalone:.0e}"
        return " ".join(part for part in (self.outcome.value, numbers, self.reason) if part)


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a module is called with; copied for every call."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    def copies(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Code may write into what it is given."""
        args, kwargs = pytree.tree_map(_copied, (self.args, dict(self.kwargs)))
        return args, kwargs

    def wide(self) -> Inputs:
        """In double precision."""
        args, kwargs = pytree.tree_map(_widened, (self.args, dict(self.kwargs)))
        return Inputs(args, kwargs)


def judge(
    original: nn.Module,
    changed: nn.Module,
    twin: nn.Module | None,
    arrays: Mapping[str, ArrayPlan],
    inputs: Inputs,
    *,
    training: bool = False,
) -> Verdict:
    """Compare a changed module with the original.

    Args:
        original: as it was before; what is dropped is set to zero in it.
        changed: as it is now.
        twin: the stand-alone module, if it is to be judged.
        arrays: how every parameter that changes was made.
        inputs: for all three.
        training: whether to judge what the module computes in training mode, too: heads of its own, for instance.
            Dropout and batch normalisation are as in evaluation.
    """
    reason = values_differ(original, changed, arrays)
    if reason:
        return Verdict(Outcome.WRONG, reason=reason)
    zeroed, inputs = zeroing(original, arrays), inputs.wide()
    verdict = _judged(zeroed, changed, twin, inputs, training=False)
    if not training or verdict.outcome is not Outcome.RIGHT:
        return verdict
    other = _judged(zeroed, changed, None, inputs, training=True)
    return other if other.outcome is not Outcome.RIGHT else verdict


def _judged(
    zeroed: nn.Module, changed: nn.Module, twin: nn.Module | None, inputs: Inputs, *, training: bool
) -> Verdict:
    seen = Survey()
    try:
        plain = run(changed, inputs, seen, training=training)
    except Exception as error:  # noqa: BLE001 - whatever the module raises
        return Verdict(Outcome.WRONG, reason=f"the changed module cannot be run: {_told(error)}")
    standalone = float("nan")
    if twin is not None:
        try:
            alone = run(twin, inputs, Survey(), training=training)
        except Exception as error:  # noqa: BLE001 - likewise
            return Verdict(Outcome.WRONG, reason=f"the stand-alone module cannot be run: {_told(error)}")
        standalone = distance(plain, alone)
        if not standalone <= TOLERANCE:
            return Verdict(Outcome.WRONG, standalone=standalone, reason="the stand-alone module is another one")
    found = Verdict(Outcome.UNJUDGED, reason="nothing was run")
    for sums in (False, True):
        given = Original(seen.lengths, sums=sums)
        expected = run(zeroed, inputs, given, training=training)
        if not _finite(expected):
            return Verdict(Outcome.UNJUDGED, standalone=standalone, reason="the original returns no finite numbers")
        if not _varies(expected):
            return Verdict(Outcome.UNJUDGED, standalone=standalone, reason="the output does not depend on the input")
        # Products of matrices are carried out in another way where a size is 1.
        odd = {name for name in given.taken | seen.taken if given.taken[name] != seen.taken[name]} - _ODD
        if odd:
            reason = f"other operations are run: {', '.join(sorted(odd))}"
            return Verdict(Outcome.WRONG, standalone=standalone, reason=reason)
        changing = Changed(given)
        found = _verdict(distance(expected, run(changed, inputs, changing, training=training)), standalone, changing)
        if found.outcome is Outcome.RIGHT:
            break
    return found


def _verdict(difference: float, standalone: float, changing: Changed) -> Verdict:
    if difference <= TOLERANCE:
        return Verdict(Outcome.RIGHT, difference, standalone, given=changing.used)
    if changing.grown:
        reason = f"new positions are under {', '.join(sorted(changing.grown))}, where they are not silent"
        return Verdict(Outcome.UNJUDGED, difference, standalone, reason, changing.used)
    if changing.odd:
        reason = f"an axis that changes is under {', '.join(sorted(changing.odd))}"
        return Verdict(Outcome.UNJUDGED, difference, standalone, reason, changing.used)
    return Verdict(Outcome.WRONG, difference, standalone, "it is another function", changing.used)


def _told(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"


# -- parameters ------------------------------------------------------------------------------------


def positions(plan: ArrayPlan) -> NDArray[np.intp]:
    """For every entry of the new parameter (in its view), where it was in the old one, laid out flat; -1 for new."""
    sizes = list(plan.view)
    for pick in plan.picks:
        sizes[pick.axis] = pick.index.shape[-1]
    here = [np.asarray(axis) for axis in np.indices(sizes, sparse=True)]
    old, known = list(here), np.ones((), bool)
    for pick in plan.picks:
        old[pick.axis] = pick.index[tuple(here[axis] for axis in (*pick.outer, pick.axis))]
        known = known & (old[pick.axis] >= 0)
    flat = np.zeros((), np.intp)
    for axis, stride in enumerate(prod(plan.view[axis + 1 :]) for axis in range(len(plan.view))):
        flat = flat + old[axis] * stride
    return np.where(known, flat, -1)


def values_differ(original: nn.Module, changed: nn.Module, arrays: Mapping[str, ArrayPlan]) -> str:
    """Which parameter does not hold what the plan says; empty if all do."""
    before, after = tensors(original), tensors(changed)
    if before.keys() != after.keys():
        return f"parameters have come or gone: {sorted(before.keys() ^ after.keys())}"
    known = {id(before[key]): plan for key, plan in arrays.items()}
    for name, tensor in before.items():
        plan = known.get(id(tensor))
        old, new = tensor.detach().numpy(), after[name].detach().numpy()
        if plan is None:
            # Those of integers may hold positions, which move.
            if old.dtype.kind == "f" and not np.array_equal(old, new):
                return f"{name} is not in the plan, and has changed"
            continue
        if new.shape != plan.shape:
            return f"{name} has shape {new.shape} instead of {plan.shape}"
        if old.dtype.kind != "f":
            continue
        origin = positions(plan).reshape(-1)
        if not np.array_equal(new.reshape(-1)[origin >= 0], old.reshape(-1)[origin[origin >= 0]]):
            return f"{name} does not hold what the plan says"
    return ""


def zeroing(module: nn.Module, arrays: Mapping[str, ArrayPlan]) -> nn.Module:
    """Set to zero, in place, what is dropped."""
    by_name = tensors(module)
    for key, plan in arrays.items():
        tensor = by_name[key]
        if not tensor.is_floating_point():
            continue
        origin, stays = positions(plan), np.zeros(tensor.numel(), bool)
        stays[origin[origin >= 0]] = True
        with torch.no_grad():
            tensor.mul_(torch.from_numpy(stays.reshape(tuple(tensor.shape))))
    return module


def tensors(module: nn.Module) -> dict[str, Tensor]:
    """All parameters and buffers under all of their names."""
    return {
        **dict(module.named_parameters(remove_duplicate=False)),
        **dict(module.named_buffers(remove_duplicate=False)),
    }


# -- runs ------------------------------------------------------------------------------------------


class Wide(TorchDispatchMode):
    """Everything in double precision, dropout off, batch normalisation with its statistics, 0 / 0 is 0."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: Counter[str] = Counter()  # how often each operation was run that takes positions together

    def __torch_dispatch__(
        self, func: OpOverload, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Carry an operation out."""
        given = {name: _wider(value) for name, value in (kwargs or {}).items()}
        values = tuple(_wider(value) for value in args)
        name = func._schema.name.removeprefix("aten::")
        if name == "bernoulli_":
            return values[0].fill_(values[1] if len(values) > 1 and isinstance(values[1], float) else 0.5)
        if name in _BATCH_NORMS and values[3] is not None:
            values = (*values[:5], False, *values[6:])
        result = self.carried_out(name, func, values, given)
        return _settled(result) if name in _DIVISIONS else result

    def carried_out(self, name: str, func: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """An operation, which may be replaced."""
        call = self.call_of(name, func, args, kwargs)
        if call is None:
            return func(*args, **kwargs)
        place = self.taken[name]
        self.taken[name] += 1
        return self.replaced((name, place), call)

    def replaced(self, key: Key, call: Call) -> Any:  # noqa: ARG002 - for those who replace
        """An operation that takes positions together."""
        return call.plain()

    def attention_scale(self, size: int) -> float:
        """By what products of queries and keys are multiplied, where the code does not say."""
        return float(size**-0.5)

    @staticmethod
    def call_of(name: str, func: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
        """An operation that takes positions together; `None` if this one does not."""
        if name not in _TOGETHER:
            return None
        names = [argument.name for argument in func._schema.arguments]
        named = {**dict(zip(names, args, strict=False)), **kwargs}
        x = args[0]
        if not isinstance(x, Tensor) or not x.is_floating_point():
            return None
        match name:
            case "native_layer_norm":
                length = prod(named["normalized_shape"])
            case "native_group_norm":
                length = int(named["C"] // named["group"]) * int(named["HxW"])
            case _ if name in _BATCH_NORMS:
                if named["running_mean"] is not None:
                    return None
                length = x.numel() // x.shape[1]
            case "bmm" | "baddbmm":
                length = named["batch2" if name == "baddbmm" else "mat2"].shape[-2]
            case _:
                dims = named.get("dim")
                axes = range(x.dim()) if dims is None or dims == [] else dims if isinstance(dims, list) else [dims]
                length = prod(x.shape[axis] for axis in axes) if x.dim() else 1
        return Call(name, func, args, kwargs, named, length)


Key = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Call:
    """An operation that takes `length` positions together."""

    name: str
    func: OpOverload
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    named: dict[str, Any]
    length: int

    def plain(self) -> Any:
        """The result."""
        return self.func(*self.args, **self.kwargs)

    def scaled(self, scale: float) -> Any:
        """A normalisation whose statistics are one number."""
        x: Tensor = self.named["input"]
        shape = [-1 if axis == 1 else 1 for axis in range(x.dim())]
        y = x * scale
        for name, how in (("weight", torch.mul), ("bias", torch.add)):
            learned = self.named[name]
            if learned is not None:
                y = how(y, learned if self.name == "native_layer_norm" else learned.reshape(shape))
        _, *statistics = self.plain()
        return y, *statistics


class Survey(Wide):
    """Along how many positions each operation goes."""

    def __init__(self) -> None:
        super().__init__()
        self.lengths: dict[Key, int] = {}

    def replaced(self, key: Key, call: Call) -> Any:
        """Note it."""
        self.lengths[key] = call.length
        return call.plain()


class Original(Wide):
    """Keep what the changed module is given.

    Args:
        lengths: how many positions each operation will go along.
        sums: whether sums are given, too.
    """

    def __init__(self, lengths: Mapping[Key, int], *, sums: bool) -> None:
        super().__init__()
        self.lengths, self.sums = lengths, sums
        self.lengths_before: dict[Key, int] = {}
        self.scales: dict[Key, float] = {}
        self.results: dict[Key, Any] = {}
        self.identities: set[Key] = set()
        self.odd: set[Key] = set()
        self.heads: list[int] = []

    def replaced(self, key: Key, call: Call) -> Any:
        """Keep scales and results."""
        self.lengths_before[key] = call.length
        changes = self.lengths.get(key) != call.length
        if call.name in _NORMS:
            if changes or call.name not in _BATCH_NORMS:
                size = float(call.named["input"].square().mean().sqrt())
                self.scales[key] = 1 / size if size else 1.0
                return call.scaled(self.scales[key])
        elif changes and call.name in _SOFTMAX:
            self.identities.add(key)
            return call.args[0].clone()
        elif changes:
            if call.name in _STATISTICS or (self.sums and call.name in _SUMS):
                self.results[key] = pytree.tree_map(_copied, call.plain())
            else:
                self.odd.add(key)
        return call.plain()

    def attention_scale(self, size: int) -> float:
        """Note the size of the heads."""
        self.heads.append(size)
        return float(size**-0.5)


class Changed(Wide):
    """Use what the original has left."""

    def __init__(self, original: Original) -> None:
        super().__init__()
        self.original, self.used = original, 0
        self.odd: set[str] = set()
        self.grown: set[str] = set()  # statistics with new positions among the old ones
        self.heads = list(reversed(original.heads))

    def replaced(self, key: Key, call: Call) -> Any:
        """Take scales and results."""
        if call.name in _STATISTICS and call.length > self.original.lengths_before[key]:
            self.grown.add(call.name)
        if key in self.original.scales:
            return call.scaled(self.original.scales[key])
        if key in self.original.identities:
            self.used += 1
            return call.args[0].clone()
        result = call.plain()
        if key in self.original.odd:
            self.odd.add(call.name)
        elif key in self.original.results:
            kept = self.original.results[key]
            if _shapes(kept) == _shapes(result):
                self.used += 1
                return pytree.tree_map(_copied, kept)
            self.odd.add(call.name)
        return result

    def attention_scale(self, size: int) -> float:
        """That of the original."""
        return float((self.heads.pop() if self.heads else size) ** -0.5)


_BATCH_NORMS = frozenset({"native_batch_norm", "_native_batch_norm_legit"})
_NORMS = frozenset({"native_layer_norm", "native_group_norm", *_BATCH_NORMS})
_STATISTICS = frozenset({"mean", "var", "std", "var_mean", "std_mean", "linalg_vector_norm", "norm"})
_SOFTMAX = frozenset({"_softmax", "_log_softmax"})
_SUMS = frozenset({"sum", "amax", "amin", "max", "min", "prod", "logsumexp"})
_ODD = frozenset({"bmm", "baddbmm", "cumsum", "sort", "topk", "median", "argmax", "argmin"})
_TOGETHER = _NORMS | _STATISTICS | _SOFTMAX | _SUMS | _ODD
_DIVISIONS = frozenset({"div", "div_", "rsqrt", "reciprocal", "pow", "_weight_norm_interface"})


@torch.no_grad()
def run(module: nn.Module, inputs: Inputs, mode: Wide, *, training: bool = False) -> list[Any]:
    """All leaves of what a module returns, in evaluation or training mode, which is as it was before then."""
    args, kwargs = inputs.copies()
    modes = {each: each.training for each in module.modules()}
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        for each in modes:
            each.training = training  # not by `eval()`, which exported modules refuse
        with torch.random.fork_rng(devices=[]), _attention(mode), mode:
            torch.manual_seed(_SEED)
            found = module(*args, **kwargs)
    finally:
        torch.set_default_dtype(default)
        for each, was in modes.items():
            each.training = was
    return [leaf for leaf in pytree.tree_leaves(found) if isinstance(leaf, Tensor)]


@contextmanager
def _attention(mode: Wide) -> Iterator[None]:
    """Ask for the scale of attention, and do without the fused layers of `nn.TransformerEncoder`."""
    plain: Callable[..., Tensor] = F.scaled_dot_product_attention

    def scaled(query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if len(args) < _SCALE_PLACE and kwargs.get("scale") is None:
            kwargs["scale"] = mode.attention_scale(query.shape[-1])
        return plain(query, key, value, *args, **kwargs)

    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(value=False)
    F.scaled_dot_product_attention = scaled
    try:
        yield
    finally:
        F.scaled_dot_product_attention = plain
        torch.backends.mha.set_fastpath_enabled(value=fast)


_SCALE_PLACE = 4  # of `scale`, behind query, key and value: mask, dropout, causal


def _wider(value: Any) -> Any:
    return torch.float64 if isinstance(value, torch.dtype) and value in _NARROW else value


def _widened(value: Any) -> Any:
    return value.double() if isinstance(value, Tensor) and value.is_floating_point() else value


def _copied(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value


def _settled(result: Any) -> Any:
    """What zeros were divided by is zero."""
    return pytree.tree_map(lambda one: one.nan_to_num_(0, 0, 0) if isinstance(one, Tensor) else one, result)


def _shapes(result: Any) -> list[Any]:
    return [leaf.shape for leaf in pytree.tree_leaves(result) if isinstance(leaf, Tensor)]


def _finite(outputs: Sequence[Tensor]) -> bool:
    floats = [one for one in outputs if one.is_floating_point() and one.numel()]
    return bool(floats) and all(bool(one.isfinite().any() and not one.isnan().any()) for one in floats)


def _varies(outputs: Sequence[Tensor]) -> bool:
    """Whether the samples of a batch lead to different numbers: what is cut off from the input is always right."""
    batches = [one.double() for one in outputs if one.dim() and len(one) > 1 and one.is_floating_point()]
    if not batches:
        return True
    return any(float((one[0] - one[1]).abs().nan_to_num(0, 0, 0).max()) > _LEAST * _largest(one) for one in batches)


def _largest(output: Tensor) -> float:
    return float(output.abs().nan_to_num(0, 0, 0).max())


def distance(expected: Sequence[Tensor], found: Sequence[Tensor]) -> float:
    """The largest difference, relative to the largest number of that output."""
    if [one.shape for one in expected] != [other.shape for other in found]:
        return float("inf")
    largest = 0.0
    for one, other in zip(expected, found, strict=True):
        if one.is_floating_point() and one.numel():
            finite = one.isfinite()
            if not torch.equal(finite, other.isfinite()):
                return float("inf")
            scale = float(one[finite].abs().max()) if finite.any() else 0.0
            difference = float((one - other)[finite].abs().max()) if finite.any() else 0.0
            largest = max(largest, difference / (scale or 1.0))
    return largest
