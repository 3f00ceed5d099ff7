"""From a module and example inputs to a graph of PyTorch's core operations, with the origin of every number in it."""

from __future__ import annotations

import logging
import warnings
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from functools import wraps
from io import StringIO
from typing import TYPE_CHECKING, Any

import torch
from torch.fx import traceback
from torch.utils import _pytree as pytree

from solver_nas.errors import CaptureError, RequestError
from solver_nas.torch.flatten import no_autocast
from solver_nas.torch.nodes import own_frame
from solver_nas.torch.sealing import seal
from solver_nas.torch.shadow import mark, shadow_of, whole_numbers
from solver_nas.torch.trees import Attribute, sources
from solver_nas.torch.verify import called
from solver_nas.torch.watching import Record, Watch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch.export import ExportedProgram


@dataclass(frozen=True, slots=True, eq=False)
class Capture:
    """A module, written down.

    Args:
        program: what it computes with the example inputs.
        record: which numbers its code handed to which operations.
        training: whether it was captured in training mode.
    """

    program: ExportedProgram
    record: Record
    training: bool


def capture(
    module: torch.nn.Module,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    opaque: Sequence[str] = (),
    *,
    everything: bool = True,
) -> Capture:
    """Write down what a module computes.

    It is captured in evaluation mode. Before, a copy of it is run once: so it is known to take these inputs, and what
    its code keeps from one call to the next, in places that copies share, is made of real tensors.

    Args:
        module: stays as it is.
        args: example inputs.
        kwargs: example inputs by name.
        opaque: submodules that are not looked into.
        everything: in training mode instead, where the module uses more parameters there (auxiliary heads).

    Raises:
        CaptureError: its operations cannot be written down.
        RequestError: it does not take these inputs.
    """
    _run(module, args, kwargs)
    found = _captured(module, args, kwargs, opaque, training=False)
    unused = _unused(found) if everything else []
    if not unused:
        return found
    try:
        other = _captured(module, args, kwargs, opaque, training=True)
    except (CaptureError, RequestError):
        return found
    return other if len(_unused(other)) < len(unused) else found


def _unused(found: Capture) -> list[str]:
    """Parameters that nothing reads."""
    nodes = {node.name: node for node in found.program.graph.nodes if node.op == "placeholder"}
    signature = found.program.graph_signature
    return [name for node, name in signature.inputs_to_parameters.items() if not nodes[node].users]


def _captured(
    module: torch.nn.Module,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    opaque: Sequence[str],
    *,
    training: bool,
) -> Capture:
    shadow = shadow_of(module, runs=bool(opaque)).train(training)
    seal(shadow, args, kwargs, opaque)
    record = Record()
    mark(shadow, record.claims)
    forward, now = shadow.forward, dict[Attribute, int]()

    @wraps(forward)
    def watched(*args: Any, **kwargs: Any) -> Any:
        watch = Watch(record)
        for name, tensor in [*shadow.named_parameters(), *shadow.named_buffers()]:
            watch.know(tensor, name)
        for place, tensor in enumerate(pytree.tree_leaves((args, kwargs))):
            if isinstance(tensor, torch.Tensor):
                watch.know(tensor, f"input {place}")
        with watch:
            found = forward(*args, **kwargs)
        # Looked at now, since the exporter sets attributes back.
        now.update(whole_numbers(shadow, plain=False))
        return found

    shadow.forward = watched
    fast, level = torch.backends.mha.get_fastpath_enabled(), logging.root.manager.disable
    try:
        torch.backends.mha.set_fastpath_enabled(value=False)
        # Failures are told by the error, and not by pages of graphs and log messages.
        logging.disable(logging.WARNING)
        with (
            _left_alone(module),
            no_autocast(),
            redirect_stderr(StringIO()),
            warnings.catch_warnings(),
            traceback.preserve_node_meta(),
            torch.enable_grad(),
        ):
            warnings.simplefilter("ignore")
            program = torch.export.export(shadow, tuple(args), dict(kwargs), strict=False)
    except Exception as error:
        raise _explained(error, module) from error
    finally:
        logging.disable(level)
        torch.backends.mha.set_fastpath_enabled(value=fast)
    _check_sizes(whole_numbers(module), now, record)
    return Capture(program, record, training)


@contextmanager
def _left_alone(module: torch.nn.Module) -> Iterator[None]:
    """Take off modules what hooks with the module in their closure put there while a copy runs."""
    attributes = [(part, dict(vars(part))) for part in module.modules()]
    try:
        yield
    finally:
        for part, before in attributes:
            now = vars(part)
            for name in now.keys() - before.keys():
                del now[name]
            now.update({name: value for name, value in before.items() if now.get(name) is not value})


def _check_sizes(before: Mapping[Attribute, int], now: Mapping[Attribute, int], record: Record) -> None:
    """Code that computes sizes and then changes what it has computed them from cannot be followed.

    Raises:
        CaptureError: it does.
    """
    numbers = (number for numbers in record.calls.values() for number in numbers if number.tree is not None)
    read = {source for number in numbers for source in sources(number.tree or 0) if isinstance(source, Attribute)}
    for attribute in sorted(read, key=str):
        if before.get(attribute) != now.get(attribute):
            raise CaptureError(
                f"the code reads a size from {attribute} and changes it while it runs ({before.get(attribute)} -> "
                f"{now.get(attribute)}), so that nobody knows what it is next time; {_WAYS_OUT}"
            )


_WAYS_OUT = (
    "name the submodule that does this in `opaque=(...)`, where need be after moving these lines into one of its own: "
    "what it touches then stays as it is; or export the model to ONNX and open that with solver_nas.onnx"
)


def _run(module: torch.nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Run a copy of a module.

    Raises:
        RequestError: it does not take these inputs.
    """
    shadow = shadow_of(module, runs=True, written=list(module.parameters())).eval()
    try:
        with _left_alone(module):
            called(shadow, args, kwargs)
    except Exception as error:
        raise RequestError(
            f"the module does not take these inputs: {_place(error)}{type(error).__name__}: {_first(error)}"
        ) from error


def _explained(error: Exception, module: torch.nn.Module) -> CaptureError:
    config = getattr(module, "config", None)
    cached = "call it with use_cache=False; or " if getattr(config, "use_cache", False) else ""
    return CaptureError(f"the module cannot be captured: {_place(error)}{_first(error)}; {cached}{_WAYS_OUT}")


def _first(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _place(error: BaseException) -> str:
    """The line of the user's code at which something went wrong."""
    frame = own_frame(error)
    return "" if frame is None else f"{frame.filename}:{frame.lineno}: "
