"""Running ONNX models: sessions of onnxruntime, and inputs that are made up."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper, shape_inference

from solver_nas.errors import ExtraError, RequestError, StoreError
from solver_nas.onnx import store
from solver_nas.onnx.facts import Source
from solver_nas.onnx.operator import PREFIX
from solver_nas.onnx.source import LARGEST_FILE, size_of
from solver_nas.onnx.trials import BATCHES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from solver_nas.onnx.facts import Facts
    from solver_nas.onnx.structure import Structure

Array = NDArray[Any]

#: A session of onnxruntime, which ships no types.
Session = Any

#: What to do if no inputs suit a model.
SUITABLE = "give inputs that suit the model: load(..., inputs=...), or --data FILE.npz on the command line"
BATCH = 2  # samples that are made up
_LARGEST = 2**28  # numbers in inputs that are made up
_TOKENS = 8  # numbers that integers are drawn from where nothing says how many there may be


def session(model: ModelProto, *, threads: int = 1, optimise: bool = True) -> Session:
    """A session that runs a model on the CPU.

    Raises:
        StoreError: onnxruntime cannot run it.
        ExtraError: onnxruntime is not installed.
    """
    try:
        import onnxruntime as ort
    except ImportError as error:
        raise ExtraError("running ONNX models needs onnxruntime: pip install 'solver_nas[onnx]'") from error
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = threads
    options.enable_cpu_mem_arena = False  # each session would keep what it once has taken
    if not optimise:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        if size_of(model) <= LARGEST_FILE:
            return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            store.write(model, path, external=True)
            return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no class of their own
        raise StoreError(f"onnxruntime cannot run the model: {_first_line(error)}") from error


def run(runner: Session, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """The outputs of a model, by name.

    Raises:
        StoreError: it cannot compute them.
    """
    names = [one.name for one in runner.get_outputs()]
    try:
        found = runner.run(names, dict(inputs))
    except Exception as error:
        raise StoreError(f"onnxruntime cannot run the model: {_first_line(error)}") from error
    return dict(zip(names, map(np.asarray, found), strict=True))


def single(node: NodeProto, given: Mapping[str, Array], facts: Facts) -> dict[str, Array] | None:
    """The outputs of one node for known inputs; `None` if onnxruntime cannot compute them."""
    context = facts.context
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in given.items()
    ]
    outputs = [helper.make_empty_tensor_value_info(name) for name in node.output if name]
    graph = helper.make_graph([node], "one", inputs, outputs)
    opsets = [helper.make_opsetid(domain, version) for domain, version in context.opsets.items()]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=context.ir_version)
    try:
        return run(session(shape_inference.infer_shapes(model)), given)
    except StoreError:
        return None


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def checked(structure: Structure, inputs: object, *, rows: bool = False) -> dict[str, Array]:
    """Arrays by the names of inputs, of the types and sizes that the model takes.

    Real numbers come in its precision, and whole numbers of fewer bits in its own.

    Args:
        structure: of the model.
        inputs: what the caller has given.
        rows: whether there may be any number of samples, also where the model takes a certain one at a time.

    Raises:
        RequestError: something else.
    """
    if not isinstance(inputs, Mapping):
        name = next(iter(structure.inputs), "input")
        raise RequestError(
            f"give arrays by the names of inputs, such as {{{name!r}: ...}}, got {type(inputs).__name__}"
        )
    given = {str(name): np.asarray(array) for name, array in inputs.items()}
    if set(given) != set(structure.inputs):
        raise RequestError(f"the model takes the inputs {sorted(structure.inputs)}, got {sorted(given)}")
    found = {}
    for name, array in given.items():
        fact = structure.facts[name]
        shape, dtype = structure.declared[name], np.dtype(helper.tensor_dtype_to_np_dtype(fact.dtype))
        fits = len(shape) == array.ndim and all(
            want in (None, size) or (rows and axis == 0)
            for axis, (want, size) in enumerate(zip(shape, array.shape, strict=True))
        )
        suits = array.dtype.kind == dtype.kind == "f" or np.can_cast(array.dtype, dtype, "safe")
        if not fits or not suits:
            told = " x ".join("?" if size is None else str(size) for size in shape) or "a single number"
            raise RequestError(
                f"input {name!r} takes {dtype} of shape {told}, got {array.dtype} of shape {array.shape}"
            )
        found[name] = array.astype(dtype, copy=False)
    return found


def made_up(
    structure: Structure, sizes: Mapping[str, Sequence[int]], rng: np.random.Generator, spread: float = 1.0
) -> dict[str, Array]:
    """Random inputs: normal numbers, and positions where tables are read.

    Args:
        structure: of the model.
        sizes: shape of every input.
        rng: randomness.
        spread: standard deviation of real numbers.
    """
    found = {}
    if (total := sum(prod(shape) for shape in sizes.values())) > _LARGEST:
        raise StoreError(f"inputs of {total:,} numbers would be needed to try the model out")
    for name, shape in sizes.items():
        dtype = np.dtype(helper.tensor_dtype_to_np_dtype(structure.facts[name].dtype))
        found[name] = _random(structure, name, dtype, tuple(shape), rng, spread)
    return found


def _random(
    structure: Structure,
    name: str,
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    rng: np.random.Generator,
    spread: float,
) -> Array:
    if dtype.kind == "f":
        return rng.normal(0.0, spread, shape).astype(dtype)
    if dtype.kind == "b":
        return rng.integers(0, 2, shape).astype(bool)
    if dtype.kind in "iu":
        return rng.integers(0, _limit(structure, name), shape).astype(dtype)
    if dtype.kind == "c":
        return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(dtype)
    return rng.normal(0.0, spread, shape).astype(dtype)


def _limit(structure: Structure, name: str) -> int:
    """How many numbers integers of an input may be drawn from: positions in the smallest table that they reach."""
    graph = structure.graph
    reached, front = set(), [structure.inputs[name]]
    limits = []
    while front:
        vertex = front.pop()
        if vertex in reached:
            continue
        reached.add(vertex)
        for reader in graph.consumers(vertex):
            kind = graph.vertex(reader).kind.removeprefix(PREFIX)
            if kind == "Gather":
                limits += [
                    parameter.shape[0] for parameter in graph.vertex(reader).parameters.values() if parameter.shape
                ]
            elif kind in _PASSING:
                front.append(reader)
    return min(limits, default=_TOKENS)


_PASSING = frozenset({"Cast", "Reshape", "Squeeze", "Unsqueeze", "Identity", "Transpose", "Slice", "Flatten", "Expand"})


def distance(one: Mapping[str, Array], other: Mapping[str, Array]) -> float:
    """The largest difference between outputs, relative to the largest number of that output.

    Numbers that are far larger than most, such as those that stand for minus infinity, are compared apart from the
    others, which would count as rounding next to them.

    Returns:
        Infinity if shapes differ, or if something is not finite in one and something else in the other.
    """
    if one.keys() != other.keys():
        return float("inf")
    return max((_apart(one[name], other[name], _in_two_parts) for name in one), default=0.0)


def distances(one: Mapping[str, Array], other: Mapping[str, Array]) -> dict[str, float]:
    """The largest difference of every output that both have, relative to the largest number of that output.

    Returns:
        By name; infinity if shapes differ, or if something is not finite in one and something else in the other.
    """
    return {name: _apart(one[name], other[name], _relative) for name in one if name in other}


def _apart(one: Array, other: Array, measure: Callable[[Array, Array], float]) -> float:
    one, other = np.asarray(one), np.asarray(other)
    if one.shape != other.shape or one.dtype != other.dtype:
        return float("inf")
    if one.dtype.kind not in "fc":
        return 0.0 if np.array_equal(one, other) else float("inf")
    one, other = one.astype(np.float64), other.astype(np.float64)
    there = np.isfinite(one)
    if not np.array_equal(np.where(there, 0, one), np.where(np.isfinite(other), 0, other), equal_nan=True):
        return float("inf")
    return measure(np.abs(one[there] - other[there]), np.abs(one[there]))


_HUGE = 1e4  # times the median


def _in_two_parts(apart: Array, sizes: Array) -> float:
    usual = float(np.median(sizes[sizes > 0])) if (sizes > 0).any() else 0.0
    huge = sizes > _HUGE * usual
    return max(_relative(apart[part], sizes[part]) for part in (huge, ~huge))


def _relative(apart: Array, sizes: Array) -> float:
    largest, scale = float(apart.max(initial=0.0)), float(sizes.max(initial=0.0))
    if not largest:
        return 0.0
    return largest / scale if scale > np.finfo(np.float32).tiny else float("inf")


def trial_shapes(structure: Structure, trial: int = 2, batch: int = BATCH) -> dict[str, tuple[int, ...]]:
    """Shapes of inputs that the model takes, with few samples where their number is open.

    Args:
        structure: of the model.
        trial: which of the two sets of sizes that it was tried out with: 2 or 3.
        batch: how many samples.
    """
    found = {}
    for name in structure.inputs:
        fact = structure.facts[name]
        sizes = zip(fact.at(2).shape or (), fact.at(trial).shape or (), fact.sized or (), strict=True)
        found[name] = tuple(batch if fixed is None and first in BATCHES else size or 0 for first, size, fixed in sizes)
    return found


def largest(structure: Structure, trial: int) -> int:
    """How many numbers the largest tensor of a model has, for one sample, as far as shapes are known."""
    sizes = (fact.at(trial).shape for fact in structure.facts.known.values() if fact.source is Source.DATA)
    most = max((prod(shape) for shape in sizes if shape is not None and None not in shape), default=0)  # type: ignore[arg-type] # just checked
    batch = 1
    for name in structure.inputs:
        fact = structure.facts[name]
        shape, fixed, first = fact.at(trial).shape, fact.sized, fact.at(2).shape
        if shape and fixed and first and fixed[0] is None and first[0] in BATCHES:
            batch = max(batch, shape[0] or 1)
    return most // batch


def samples(structure: Structure, rng: np.random.Generator) -> Iterator[dict[str, Array]]:
    """Inputs that show whether two models compute the same: two sets of sizes, as many samples as memory allows."""
    for trial in (2, 3):
        batch = min(_NUMBERS // max(largest(structure, trial), 1), _SAMPLES)
        if batch:
            yield made_up(structure, trial_shapes(structure, trial, batch), rng)


def trials(structure: Structure, rng: np.random.Generator) -> Iterator[dict[str, Array]]:
    """Inputs to try in turn until the model takes them: other lengths, and positive numbers alone."""
    usual = trial_shapes(structure)
    shapes = [_other_sizes(structure, usual, size) for size in _LENGTHS]
    # What takes gigabytes, such as attention between pixels, comes last.
    shapes.insert(0 if largest(structure, 2) * BATCH <= _LARGEST_TENSOR else len(shapes), usual)
    for one in [shape for place, shape in enumerate(shapes) if shape not in shapes[:place]]:
        given = made_up(structure, one, rng)
        yield given
        yield {name: np.abs(array) if array.dtype.kind == "f" else array for name, array in given.items()}


def suitable(runner: Session, trials: Iterable[Mapping[str, Array]], hint: str = SUITABLE) -> Mapping[str, Array]:
    """The first inputs that a model takes.

    Raises:
        StoreError: there are none; the hint says what to do.
    """
    first: StoreError | None = None
    for given in trials:
        try:
            run(runner, given)
        except StoreError as error:
            first = first or error
        else:
            return given
    raise StoreError(f"{first}; {hint}")


_SAMPLES = 16  # that models are compared with, where they take any number
_NUMBERS = 2**24  # in the largest tensor that these make
_LARGEST_TENSOR = 2**27  # numbers
_LENGTHS = (32, 24, 8, 1)  # that open sizes are tried with where those of `trial_shapes` do not do


def _other_sizes(structure: Structure, usual: Mapping[str, tuple[int, ...]], size: int) -> dict[str, tuple[int, ...]]:
    """Another number for all sizes that are open, but for the number of samples."""
    return {
        name: tuple(
            size if fixed is None and now != BATCH else now
            for now, fixed in zip(shape, structure.facts[name].sized or (), strict=True)
        )
        for name, shape in usual.items()
    }
