"""Options that several commands share, declared once as the fields of a dataclass."""

from __future__ import annotations

import inspect
from dataclasses import MISSING, fields
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

if TYPE_CHECKING:
    from collections.abc import Callable

    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")


def shared(kind: type[T]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a command of a function whose first argument collects options.

    Args:
        kind: a dataclass; its fields are annotated as arguments of a command are.
    """
    known = fields(kind)
    hints = get_type_hints(kind, include_extras=True)

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def run(**given: Any) -> None:
            collected = kind(**{field.name: given.pop(field.name) for field in known})
            command(collected, **given)

        mine = get_type_hints(command, include_extras=True)
        own = list(inspect.signature(command).parameters.values())[1:]
        options = [(field.name, field.default, hints[field.name]) for field in known]
        options += [(one.name, one.default, mine[one.name]) for one in own]
        parameters = [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=inspect.Parameter.empty if default is MISSING else default,
                annotation=hint,
            )
            for name, default, hint in options
        ]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        del run.__wrapped__
        setattr(run, "__signature__", inspect.Signature(parameters))  # noqa: B010 - `inspect` reads it, no type knows it
        return run

    return decorate
