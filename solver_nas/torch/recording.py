"""Recording what neurons contribute while a module is trained by the user's own code."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch

from solver_nas.classes import classify
from solver_nas.errors import RecordingWarning, RequestError
from solver_nas.graph import Port
from solver_nas.labels import FIXED
from solver_nas.magnitude import own_labels
from solver_nas.observe import SMOOTHING, Contribution, Every, observed
from solver_nas.requests import is_whole

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from numpy.typing import NDArray

    from solver_nas.frontend import Handle
    from solver_nas.graph import Graph
    from solver_nas.labels import Labels
    from solver_nas.torch.model import TorchModel

    Worth: TypeAlias = NDArray[np.float64] | float

_SHOWN = 5  # vertices in a warning


class Recording:
    """A context in which contributions are recorded; made by `TorchModel.record`."""

    def __init__(self, model: TorchModel, every: int, smoothing: float | None) -> None:
        """Check the arguments; nothing is recorded before the context is entered.

        Raises:
            RequestError: numbers that make no sense.
        """
        if not is_whole(every) or every < 1:
            raise RequestError(f"every is a number of backward passes from 1 on, got {every!r}")
        self._smoothing = SMOOTHING if smoothing is None else smoothing
        if not 0 < self._smoothing <= 1:
            raise RequestError(f"smoothing is a number above 0 up to 1, got {smoothing!r}")
        self._model, self._every = model, every
        self._hooks: list[Any] = []

    def __enter__(self) -> Self:
        """Watch the modules."""
        modules = dict(self._model.module.named_modules())
        for name in self._model.makers:
            if name in modules:
                self._hooks.append(modules[name].register_forward_hook(self._hook(name)))
        if not self._hooks:
            raise RequestError("no vertex is the output of a module of its own, so that nothing can be recorded")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        """Stop watching; what was not seen is told."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        if kind is None:
            self._tell()

    def _tell(self) -> None:
        wanted = self._model.makers
        missing = [name for name in wanted if observed(self._model[name]).metric is None]
        if len(missing) == len(wanted):
            told = "nothing was recorded: no backward pass has reached the module; neurons are worth what they were"
        elif missing:
            shown = ", ".join(map(repr, missing[:_SHOWN])) + (", ..." if len(missing) > _SHOWN else "")
            told = (
                f"nothing was recorded for {shown}, whose outputs are those of no module, or which no backward pass "
                f"has reached; the norms of their weights stand in, with the mean of what was recorded for the others"
            )
        else:
            return
        warnings.warn(RecordingWarning(told), stacklevel=3)

    def _hook(self, name: str) -> Any:
        def forward(_: torch.nn.Module, __: Any, output: Any) -> Any:
            if not torch.is_grad_enabled():
                return None
            if isinstance(output, torch.Tensor) and output.is_floating_point() and not output.requires_grad:
                # Frozen, as all before it; a copy, since a leaf must not be written into.
                output = output.detach().requires_grad_().clone()
                self._watch(name, output)
                return output
            # What a recurrence returns first is its output.
            first = output[0] if isinstance(output, tuple) and output else output
            if isinstance(first, torch.Tensor) and first.requires_grad:
                self._watch(name, first)
            return None

        return forward

    def _watch(self, name: str, output: torch.Tensor) -> None:
        hook: Any = output.register_hook  # which has no types
        hook(lambda grad: self._seen(name, output.detach(), grad.detach()))

    def _seen(self, name: str, output: torch.Tensor, grad: torch.Tensor) -> None:
        """One more backward pass has reached a vertex."""
        model = self._model
        handle = model[name]
        known = observed(handle)
        contribution = known.contribution or Contribution(self._smoothing, Every(self._every))
        if not contribution.due(contribution.steps):
            contribution = contribution.skipped()
        else:
            new = _by_neuron((output * grad).abs(), handle)
            if new is None:
                return
            contribution = contribution.averaged(new)
        model.adopt({}, {name: replace(known, contribution=contribution)})


def _by_neuron(values: torch.Tensor, handle: Handle) -> NDArray[np.float64] | None:
    """The mean over all other axes; `None` where the output has another shape than the vertex."""
    tensor = handle.model.labels.tensors[Port(handle.name)]
    axes, rank = tensor.blocks[-1].axes, len(tensor.shape)
    if values.dim() != rank:
        if axes != (rank - 1,) or values.shape[-1] != tensor.shape[-1]:
            return None
        # Code that flattens tokens around a matrix product.
        values, axes, rank = values.reshape(-1, values.shape[-1]), (1,), 2
    if tuple(values.shape[axis] for axis in axes) != tensor.blocks[-1].neurons.shape:
        return None
    rest = [axis for axis in range(rank) if axis not in axes]
    means = values.double().mean(rest) if rest else values.double()
    order = np.argsort(np.argsort(axes))
    found: NDArray[np.float64] = means.cpu().numpy().transpose(order).reshape(-1)
    return found


def makers(graph: Graph, labels: Labels) -> list[str]:
    """The vertices whose parameters make neurons that can go; of several results of one operation, the first."""
    class_of, _ = classify(labels)
    rest = class_of != class_of[FIXED]
    found = []
    for vertex in graph.vertices:
        mine = own_labels(labels, vertex) if vertex.parameters else rest[:0]
        if len(mine) and rest[mine].any():
            found.append(vertex.name)
            rest[mine] = False
    return found


def recorded(model: TorchModel, handle: Handle, norms: Callable[[], Worth]) -> Worth:
    """What was recorded of a vertex; for one that makes neurons and was not seen, its norms in a comparable unit.

    All others get nothing, so that unlike numbers are not added.

    Args:
        model: of which something was recorded.
        handle: one of its vertices.
        norms: what its neurons are worth without a recording.
    """
    metric = observed(handle).metric
    if metric is not None:
        return metric.copy()
    if handle.name not in model.makers:
        return 0.0
    worth = np.asarray(norms(), np.float64)
    seen = [found for one in model if (found := observed(one).metric) is not None]
    mean = float(worth.mean()) if worth.size else 0.0
    return worth * (float(np.concatenate(seen).mean()) / mean) if mean > 0 else worth
