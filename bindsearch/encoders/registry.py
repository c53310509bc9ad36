"""Encoders by name: those built in, installed models, and those of other packages. Loads no torch.

Another package offers an encoder by an entry point of the group `bindsearch.encoders`: a callable without arguments
that returns one. examples/custom_encoder is such a package.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, cast

from bindsearch.encoders.base import Encoder
from bindsearch.encoders.torch_runtime.device import Runtime, check_device
from bindsearch.errors import BindSearchError, EncoderError, UsageError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "bindsearch.encoders"
LISTED = ("mini",)
"""Built-in encoders that messages name; null is for tests."""

FAMILIES = {"imagebind-": "imagebind", "openclip:": "openclip"}
"""Beginnings of names of models, and the family whose code runs them."""

Options = Mapping[str, str | int | float | bool]


def _make_mini() -> Encoder:
    from bindsearch.encoders.mini import MiniEncoder

    return MiniEncoder()


def _make_null() -> Encoder:
    from bindsearch.encoders.null import NullEncoder

    return NullEncoder()


BUILT_IN: Mapping[str, Callable[[], Encoder]] = MappingProxyType({"mini": _make_mini, "null": _make_null})
"""Encoders without a model to install, by name: functions that import and make them."""


def load_encoder(
    name: str,
    *,
    options: Options | None = None,
    runtime: Runtime = Runtime(),  # noqa: B008  (frozen)
) -> Encoder:
    """Return the encoder of that name; its towers load when they are first needed.

    `options` are preprocessing options by name, where the encoder has any to set (`has_options`).

    Raises:
        EncoderError: no encoder has that name, its model is not here, or the package that offers it is at fault.
        UsageError: `options` differ from those of an encoder that has none to set, or `runtime` asks for a device of
            one that has no choice.
    """
    check_device(runtime.device)
    family = _family(name)
    if family is not None or name in BUILT_IN:
        _refuse_shadows(name)
    if family is not None:
        return _load_model(name, family, options, runtime)
    if runtime.device not in ("auto", "cpu") or runtime.compile:
        what = "compiled" if runtime.compile else f"moved to {runtime.device}"
        raise UsageError(f"the encoder {name} cannot be {what}: it chooses itself how to run, leave that out")
    encoder = BUILT_IN[name]() if name in BUILT_IN else _load_from_package(name)
    return _with_own_options(encoder, options)


def supports_device(name: str) -> bool:
    """Return whether the encoder of that name can be told where to run; others run on the CPU."""
    return _family(name) is not None


def has_options(name: str) -> bool:
    """Return whether the encoder of that name has preprocessing options to set."""
    return _family(name) == "imagebind"


def _family(name: str) -> str | None:
    return next((family for prefix, family in FAMILIES.items() if name.startswith(prefix)), None)


def _load_model(name: str, family: str, options: Options | None, runtime: Runtime) -> Encoder:
    from bindsearch.encoders.model_store.installed import read_model

    manifest = read_model(name)
    if manifest.family != family:
        raise EncoderError(
            f"the model {name} is of the family {manifest.family!r} instead of {family!r}: pull it again"
        )
    if family == "imagebind":
        from bindsearch.encoders.imagebind.encoder import ImageBindEncoder

        return ImageBindEncoder(manifest, options=options, runtime=runtime)
    from bindsearch.encoders.openclip.encoder import OpenClipEncoder

    return _with_own_options(OpenClipEncoder(manifest, runtime=runtime), options)


def _with_own_options(encoder: Encoder, options: Options | None) -> Encoder:
    if not options:
        return encoder
    own = encoder.options
    for key, value in options.items():
        if key not in own or not _same(own[key], value):
            has = f"has {key}={own[key]}" if key in own else f"has no option {key}"
            raise UsageError(f"{key}={value} cannot be set: the encoder {encoder.name} {has}, and none to set")
    return encoder


def _same(own: object, given: object) -> bool:
    """Return whether two values of an option are the same; a command line gives texts."""
    try:
        return own == given or float(str(own)) == float(str(given))
    except ValueError:
        return str(own) == str(given)


def _load_from_package(name: str) -> Encoder:
    found = [point for point in _entry_points() if point.name == name]
    if not found:
        raise EncoderError(_unknown(name))
    if len(found) > 1:
        homes = " and ".join(sorted(map(_home, found)))
        raise EncoderError(f"the encoder {name} is offered by {homes}: uninstall all but one")
    (point,) = found
    try:
        make = point.load()
        encoder = make()
    except BindSearchError:
        raise
    except Exception as error:  # other people's code: whatever it raises is its fault, and one line says whose
        raise EncoderError(
            f"the encoder {name} of the package {_home(point)} cannot be loaded "
            f"({type(error).__name__}: {error}): repair or uninstall that package"
        ) from error
    if lacking := _lacking(encoder):
        raise EncoderError(
            f"the encoder {name} of the package {_home(point)} lacks {', '.join(lacking)}: "
            "see bindsearch.encoders.Encoder for what an encoder has"
        )
    if encoder.name != name:
        raise EncoderError(
            f"the encoder {name} of the package {_home(point)} calls itself {encoder.name!r}: "
            "both names must be the same, or a store could not find it again"
        )
    return cast("Encoder", encoder)


def _lacking(encoder: object) -> list[str]:
    """Return what of the protocol an object does not have; asks no property, which might load weights."""
    lacking = []
    for member, declared in vars(Encoder).items():
        if member.startswith("_"):
            continue
        value = inspect.getattr_static(encoder, member, None)
        if value is None or (inspect.isfunction(declared) and not _callable(value)):
            lacking.append(f"{member}()" if inspect.isfunction(declared) else member)
    return lacking


def _callable(value: object) -> bool:
    return callable(value) or isinstance(value, classmethod | staticmethod)


def _entry_points() -> list[EntryPoint]:
    from importlib.metadata import entry_points

    return list(entry_points(group=GROUP))


def _home(point: EntryPoint) -> str:
    return point.dist.name if point.dist else point.value


def _refuse_shadows(name: str) -> None:
    if shadows := [point for point in _entry_points() if point.name == name]:
        raise EncoderError(
            f"the package {_home(shadows[0])} offers an encoder {name}, which is a name of BindSearch's own: "
            "uninstall it, or have it renamed"
        )


def _unknown(name: str) -> str:
    from bindsearch.encoders.model_store.installed import list_models

    models = [model.name for model in list_models()]
    others = sorted({point.name for point in _entry_points()})
    known = [f"the encoders are {', '.join(LISTED)}"]
    known += [f"installed models: {', '.join(models)}"] if models else []
    known += [f"of other packages: {', '.join(others)}"] if others else []
    resume_hint = "`bindsearch model pull` downloads imagebind-huge or openclip:MODEL/PRETRAINED"
    return f"unknown encoder {name!r}: {'; '.join(known)}; {resume_hint}"
