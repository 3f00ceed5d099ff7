"""From a blueprint and weights to new weights; nothing is changed in place."""

from __future__ import annotations

from collections import ChainMap
from typing import TYPE_CHECKING, cast

import numpy as np

from solver_nas.errors import PlanError
from solver_nas.weights import fill, take

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, MutableMapping

    from solver_nas.plan import Blueprint
    from solver_nas.weights import Array, Initialisers


def build(
    blueprint: Blueprint,
    arrays: Mapping[str, Array],
    fill_of: Callable[[str, str], float | None],
    seed: int,
    init: Initialisers,
) -> MutableMapping[str, Array]:
    """Every array of the changed model.

    Args:
        blueprint: what becomes of each parameter.
        arrays: the present parameters, by key; not written to.
        fill_of: what a new entry of (vertex, role) starts with; `None` for weights.
        seed: for random weights.
        init: makes new weights.

    Returns:
        All parameters by key; those that do not change are the same objects.
    """
    owner = {
        parameter.key: (vertex.name, role)
        for vertex in blueprint.before.vertices
        for role, parameter in vertex.parameters.items()
    }
    made: dict[str, Array] = {}
    for place, (key, plan) in enumerate(blueprint.arrays.items()):
        array = arrays[key]
        taken = take(array.reshape(plan.view), plan.picks)
        # Every array has its own stream, so that its new weights do not depend on other arrays.
        rng = np.random.default_rng([seed, place])
        spread = float(array.std()) or float(1 / np.sqrt(max(array[0].size, 1)))
        value = fill_of(*owner[key])
        if value is None and all(pick.role == "follow" for pick in plan.picks):
            value = 0.0  # a bias
        filled = fill(taken, plan.picks, value, init.of(owner[key][0]), rng, spread)
        made[key] = filled.reshape(plan.shape)
    # Those that stay are not even looked at: they may be large, and elsewhere.
    return ChainMap(made, cast("MutableMapping[str, Array]", arrays))


def follow(blueprint: Blueprint, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Select from arrays of the parameters' shapes as from the parameters; new entries are zero.

    Raises:
        PlanError: an array has another shape than its parameter had.
    """
    shapes = {
        parameter.key: parameter.shape
        for vertex in blueprint.before.vertices
        for parameter in vertex.parameters.values()
    }
    made = dict(arrays)
    for key, array in arrays.items():
        if key in shapes and array.shape != shapes[key]:
            raise PlanError(f"the array for parameter {key!r} has shape {array.shape}, the parameter {shapes[key]}")
        if key in blueprint.arrays:
            plan = blueprint.arrays[key]
            made[key] = take(array.reshape(plan.view), plan.picks).reshape(plan.shape)
    return made
