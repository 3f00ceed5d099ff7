"""Which sizes a model is tried out with where it leaves them open, and what is found out that way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING

import numpy as np
from onnx import ModelProto, TensorProto

from solver_nas.errors import RequestError, StoreError
from solver_nas.onnx import tensors
from solver_nas.onnx.facts import TRIALS, Fact, Facts, Seen, Source
from solver_nas.onnx.inference import SMALL, context_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from solver_nas.onnx.flatten import Program


def given_shapes(given: object) -> dict[str, tuple[int | None, ...]]:
    """Shapes of inputs as the caller has given them.

    Raises:
        RequestError: they are something else.
    """
    told = 'give input shapes as {"image": (1, 3, 224, 224)}, with positive integers, or None for what stays open'
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise RequestError(f"{told}; got {given!r}")
    found = {}
    for name, shape in given.items():
        good = isinstance(shape, Sequence) and not isinstance(shape, str)
        if not good or any(
            isinstance(size, bool) or not (size is None or (isinstance(size, int | np.integer) and size > 0))
            for size in shape
        ):
            raise RequestError(f"{told}; got {shape!r} for {name!r}")
        found[str(name)] = tuple(None if size is None else int(size) for size in shape)
    return found


def open_sizes(
    model: ModelProto, program: Program, given: Mapping[str, Sequence[int | None]], *, fill: bool = True
) -> dict[str, list[int | str]]:
    """Every input's shape, with names for sizes that are open.

    Args:
        model: for the declared shapes.
        program: for the inputs.
        given: shapes that the caller wants; `None` in them for sizes that stay open.
        fill: whether to put the caller's sizes in the place of open ones, and not only where nothing is declared.

    Raises:
        RequestError: an unknown input, or a shape that contradicts the model's.
        StoreError: an input without a shape.
    """
    declared = {value.name: value.type for value in model.graph.input}
    if unknown := set(given) - set(program.inputs):
        raise RequestError(f"there is no input {min(unknown)!r}; the inputs are {sorted(program.inputs)}")
    found: dict[str, list[int | str]] = {}
    for name in program.inputs:
        kind = declared[name]
        if not kind.HasField("tensor_type"):
            raise StoreError(
                f"input {name!r} is no tensor but a sequence, map or optional value; these are not supported"
            )
        wanted = given.get(name)
        if not kind.tensor_type.HasField("shape"):
            if wanted is None:
                raise StoreError(f"input {name!r} has no declared shape; give one: input_shapes={{{name!r}: (...)}}")
            found[name] = [f"{name}.{axis}" if size is None else int(size) for axis, size in enumerate(wanted)]
            continue
        sizes: list[int | str] = [
            dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else dim.dim_param or f"{name}.{axis}"
            for axis, dim in enumerate(kind.tensor_type.shape.dim)
        ]
        if wanted is not None:
            if len(wanted) != len(sizes):
                raise RequestError(f"input {name!r} has the shape {sizes}, got {tuple(wanted)}")
            for axis, size in enumerate(wanted):
                declared_size = sizes[axis]
                if size is not None and isinstance(declared_size, int) and declared_size != size:
                    raise RequestError(f"input {name!r} has the shape {sizes}, got {tuple(wanted)}")
                sizes[axis] = declared_size if size is None or not fill else int(size)
        found[name] = sizes
    return found


#: Trial sizes of first axes, which no layer is likely to have.
_FIRST = ((7, 11), (13, 17), (19, 23))
BATCHES = frozenset(pair[0] for pair in _FIRST)


def trial_sizes(shapes: Mapping[str, Sequence[int | str]]) -> Iterator[tuple[dict[str, int], ...]]:
    """Sets of numbers for open sizes, to be tried in turn until a model takes them."""
    first = list(dict.fromkeys(size for shape in shapes.values() for size in shape[:1] if isinstance(size, str)))
    rest = [size for shape in shapes.values() for size in shape[1:] if isinstance(size, str) and size not in first]
    rest = list(dict.fromkeys(rest))
    batches = [
        {name: _FIRST[place % len(_FIRST)][trial] + 100 * (place // len(_FIRST)) for place, name in enumerate(first)}
        for trial in range(TRIALS)
    ]
    alike = [dict.fromkeys(first, _FIRST[0][trial]) for trial in range(TRIALS)]
    ones = [dict.fromkeys(first, 1) for _ in range(TRIALS)]
    choices: list[Callable[[int, int], int]] = [
        # Multiples of 32 fit networks that halve and double; distinct ones cannot be mistaken for each other.
        lambda place, trial: 32 * (5 + 2 * place + 6 * trial + 2 * trial * place),
        lambda _, trial: 32 * (7, 12)[trial],
        lambda place, trial: 16 * (20 + 3 * place + 7 * trial),
        # Tables of positions may be short.
        lambda _, trial: (64, 48)[trial],
        lambda _, trial: (24, 16)[trial],
        lambda _, trial: (1, 2)[trial],
        lambda _, trial: 16000 * (1, 2)[trial],
    ]
    for chosen in choices:
        sizes = [{name: chosen(place, trial) for place, name in enumerate(rest)} for trial in range(TRIALS)]
        for batch in (batches, alike, ones) if first else (batches,):
            yield tuple({**batch[trial], **sizes[trial]} for trial in range(TRIALS))
        if not rest:
            return


def find_facts(model: ModelProto, program: Program, given: Mapping[str, Sequence[int | None]]) -> Facts:
    """Shapes and numbers of all values, for the first trial sizes that the model takes."""
    constants = {name: constant_fact(tensor, name) for name, tensor in program.constants.items()}
    bare = {value.name for value in model.graph.input if not value.type.tensor_type.HasField("shape")}
    fixed = open_sizes(model, program, given)
    declared = open_sizes(model, program, {name: shape for name, shape in given.items() if name in bare})
    if fixed == declared:
        return _first_that_fits(model, program, constants, declared)[0]
    _, sized = _first_that_fits(model, program, constants, fixed)
    try:
        _, free = _first_that_fits(model, program, constants, declared)
    except StoreError:
        # It is only known to work for the sizes that the caller has given.
        free = sized
    try:
        return _learned(model, program, constants, {name: (*free[name], *sized[name]) for name in sized})
    except StoreError:
        # Branches for the caller's sizes do not fit others.
        return _learned(model, program, constants, {name: (*sized[name], *sized[name]) for name in sized})


def _first_that_fits(
    model: ModelProto, program: Program, constants: Mapping[str, Fact], shapes: Mapping[str, Sequence[int | str]]
) -> tuple[Facts, dict[str, tuple[Seen, ...]]]:
    """The facts for the first trial sizes that the model takes, and these sizes."""
    first: StoreError | None = None
    for sizes in trial_sizes(shapes):
        inputs = {
            name: tuple(
                Seen(tuple(trial[size] if isinstance(size, str) else size for size in shape), None) for trial in sizes
            )
            for name, shape in shapes.items()
        }
        try:
            return _learned(model, program, constants, inputs), inputs
        except StoreError as error:
            first = first or error
    assert first is not None, "at least one set of sizes was tried"
    if any(isinstance(size, str) for shape in shapes.values() for size in shape):
        raise StoreError(
            f"{first}; some sizes of the inputs are open: say which ones to take with input_shapes"
        ) from first
    raise first


def _learned(
    model: ModelProto, program: Program, constants: Mapping[str, Fact], inputs: Mapping[str, tuple[Seen, ...]]
) -> Facts:
    types = {value.name: value.type.tensor_type.elem_type for value in model.graph.input}
    given = {name: Fact(types[name], Source.DATA, seen) for name, seen in inputs.items()}
    facts = Facts(context_of(model), constants, given)
    for step in program.steps:
        facts.learn(step)
    return facts


def constant_fact(tensor: TensorProto, name: str) -> Fact:
    """What is known about a tensor that the model holds."""
    shape = tuple(tensor.dims)
    if any(size < 0 for size in shape) or prod(shape) > tensors.LARGEST:
        raise StoreError(f"tensor {name!r} has the shape {shape}, which no array can have; the file is damaged")
    number = None
    if prod(shape) <= SMALL and tensor.data_type != TensorProto.STRING:
        number = tensors.read(tensor, name)
    return Fact(tensor.data_type, Source.CONSTANT, (Seen(shape, number),))
