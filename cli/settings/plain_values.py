"""Values of options that are taken as they are, without the library that Typer converts values with.

Typer imports Pydantic and builds a converter for each option of a command, given or not: 0.1 s. Most options are not
given, most others are texts, and their defaults have the right type already. If a later Typer does not call
`get_runtime_param`, or has none, it converts all values itself.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any, get_args, get_origin


def with_plain_values(parameters: list[Any]) -> list[Any]:
    """Return the same parameters of Typer, which take values without conversion where none is needed."""
    for parameter in parameters:
        descriptor = getattr(parameter, "type_descriptor", None)
        is_made = "get_runtime_param" in vars(parameter)
        if is_made or descriptor is None or not hasattr(parameter, "get_runtime_param"):
            continue
        info = descriptor.parameter_info
        needs_check = info.parser is not None or info.min is not None or info.max is not None
        plain = None if needs_check else _plain_type(descriptor.annotation)
        coercion = SimpleNamespace(coerce=partial(_coerce, plain, parameter.get_runtime_param))
        parameter.get_runtime_param = partial(lambda made: made, coercion)
    return parameters


def _coerce(plain: type | None, build: Callable[[], Any], value: Any, param: Any, ctx: Any) -> Any:
    """Return a value in the type of a parameter: unchanged if it has the type `plain`, else as Typer converts it."""
    is_list = param.multiple or param.nargs == -1
    if value is None:
        return () if is_list else None
    if plain is not None:
        if is_list and isinstance(value, list | tuple) and all(type(one) is plain for one in value):
            return [*value]
        if not is_list and type(value) is plain:
            return value
    return build().coerce(value, param=param, ctx=ctx)


def _plain_type(annotation: Any) -> type | None:
    """Return the type of a value, or of the values of a list, if a value of this type is taken as it is."""
    one = get_args(annotation)[0] if get_origin(annotation) is list else annotation
    return one if one in (str, int, float) else None
