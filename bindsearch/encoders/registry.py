"""Encoders by name: built-in ones, installed models, and those of other packages; torch is not loaded.

A package provides an encoder by an entry point of the group `bindsearch.encoders`: a callable without arguments that
returns an encoder. examples/custom_encoder is such a package.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

from bindsearch.arguments import did_you_mean
from bindsearch.encoders.base import DIM_OPTION, OF_SECOND, Encoder
from bindsearch.encoders.torch_runtime.device import Runtime, check_device
from bindsearch.errors import BindSearchError, EncoderError, UsageError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from bindsearch.encoders.model_store.installed import ModelManifest

GROUP = "bindsearch.encoders"
LISTED = ("mini",)
"""Built-in encoders that are shown in messages; null is for tests."""

FAMILIES = {"imagebind-": "imagebind"} | {f"{name}:": name for name in ("openclip", "timm", "st", "hf", "bound")}
"""Family whose code runs a model, by the prefix of the model's name."""

OTHER_USES: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("owlv2:", "owlvit:"), "bindsearch locate QUERY FILE --detector"),
        "unclip:": "bindsearch imagine QUERY --out picture.png --model",
    }
)
"""Start of the command that a model is used with which is not an encoder, by prefix of its name; the name follows."""

JOINT = "+"
"""Between the names of two encoders that are loaded as one."""

BRIDGE = "bridge"
"""Key in the manifest of a bound model that is made of two encoders and a map between their spaces."""

SETTABLE_OF_HF = ("joint", "towers")
"""Options that can be set of models of transformers, of those types that have them."""

Options = Mapping[str, str | int | float | bool]


def _make(path: str, *arguments: Any, **options: Any) -> Any:
    """Create an encoder of a class, named by its module in this folder, a colon and its own name."""
    module, _, name = path.partition(":")
    return getattr(import_module(f"bindsearch.encoders.{module}"), name)(*arguments, **options)


BUILT_IN: Mapping[str, Callable[[], Encoder]] = MappingProxyType(
    {"mini": partial(_make, "mini:MiniEncoder"), "null": partial(_make, "null:NullEncoder")}
)
"""Encoders without a model to install, by name: functions that import and make them."""

_CLASSES = {
    "hf": "HfEncoder",
    "imagebind": "ImageBindEncoder",
    "openclip": "OpenClipEncoder",
    "st": "StEncoder",
    "timm": "TimmEncoder",
}
"""Class in the module `encoder` of a family that is not bound."""


def load_encoder(
    name: str,
    *,
    options: Options | None = None,
    runtime: Runtime = Runtime(),  # noqa: B008  (frozen)
) -> Encoder:
    """Return an encoder by name; its towers load on first use.

    Args:
        name: Name of a built-in encoder, of an installed model, or of an encoder of another package.
        options: Preprocessing options by name, for an encoder that has any to set (`has_options`).
        runtime: Device and settings that towers run with.

    Raises:
        EncoderError: the name is unknown, the model is not installed, or the encoder of a package cannot be loaded.
        UsageError: `options` differ from the fixed options of an encoder, or `runtime` has settings for an encoder that
            supports none.
    """
    given = dict(options or {})
    if (dim := given.pop(DIM_OPTION, None)) is not None:
        from bindsearch.encoders.shortened import shorten

        return shorten(load_encoder(name, options=given, runtime=runtime), dim)
    check_device(runtime.device)
    for part in name.split(JOINT):
        if (command := other_use(part)) is not None:
            from bindsearch.encoders.model_store.source import is_detector

            own = f"; hf:{part.partition(':')[2]} embeds its texts and pictures" if is_detector(part) else ""
            raise EncoderError(f"{part} is not an encoder: use it with `{command}`{own}")
    if JOINT in name:
        from bindsearch.encoders.combined.encoder import load_combined

        return load_combined(name, partial(load_part, runtime=runtime), given)
    family = _family(name)
    is_own = family is not None or name in BUILT_IN
    if shadows := [point for point in _entry_points() if is_own and point.name == name]:
        raise EncoderError(
            f"the package {_package_of(shadows[0])} provides an encoder {name}, which is a reserved name: "
            "uninstall the package, or rename its encoder"
        )
    if family is not None:
        return _load_model(name, family, options, runtime)
    if runtime.device not in ("auto", "cpu") or runtime.compile:
        what = "compiled" if runtime.compile else f"run on {runtime.device}"
        raise UsageError(f"the encoder {name} cannot be {what}: it has no such setting, omit the option")
    encoder = BUILT_IN[name]() if name in BUILT_IN else _load_from_package(name)
    return _check_options(encoder, options)


def shipped_calibration(name: str) -> Path | None:
    """Return the file of match probabilities that is shipped with an encoder; None if there is none."""
    path = Path(__file__).parent / name / "calibration.json"
    return path if name in BUILT_IN and path.is_file() else None


def other_use(name: str) -> str | None:
    """Return the command that a model is used with which is not an encoder; None for encoders."""
    return next((f"{command} {name}" for prefix, command in OTHER_USES.items() if name.startswith(prefix)), None)


def supports_device(name: str) -> bool:
    """Return whether the device of an encoder can be chosen; others run on the CPU."""
    return any(_family(part) is not None for part in name.split(JOINT))


def has_options(name: str) -> bool:
    """Return whether an encoder has preprocessing options to set."""
    return JOINT in name or _family(name) in ("imagebind", "st", "hf")


def kept_options(name: str, recorded: Options) -> Options:
    """Return those options that a store has recorded which its encoder is loaded with; others follow from its model.

    Raises:
        EncoderError: a bound model is not installed, or its manifest is damaged.
    """
    if _family(name) == "bound":  # those of what it is made of
        from bindsearch.encoders.model_store.installed import read_model

        of_parts = {key: value for key, value in recorded.items() if not key.endswith("_tower")}
        return kept_options(JOINT.join(parts_of(read_model(name))), of_parts)
    if JOINT in name:
        first, _, second = name.partition(JOINT)
        of_second = {key.removeprefix(OF_SECOND): recorded[key] for key in recorded if key.startswith(OF_SECOND)}
        of_first = {key: value for key, value in recorded.items() if not key.startswith(OF_SECOND)}
        kept_second = {OF_SECOND + key: value for key, value in kept_options(second, of_second).items()}
        return {**kept_options(first, of_first), **kept_second}
    if _family(name) == "hf":
        kept = {DIM_OPTION, *SETTABLE_OF_HF} & recorded.keys()
    else:
        kept = set(recorded) if has_options(name) else {DIM_OPTION} & recorded.keys()
    return {key: recorded[key] for key in sorted(kept)}


def parts_of(manifest: ModelManifest) -> list[str]:
    """Return the names of the encoders that a bound model is made of; none of other models, or of a damaged one."""
    facts = manifest.architecture if isinstance(manifest.architecture, dict) else {}
    bridged = facts.get(BRIDGE)
    parts = bridged if isinstance(bridged, list) else [{"encoder": facts.get("hub")}]
    names = [part.get("encoder") for part in parts if isinstance(part, dict)] if manifest.family == "bound" else []
    return [part for name in names if isinstance(name, str) for part in name.split(JOINT)]


def _load_from_package(name: str) -> Encoder:
    """Return the encoder that one package provides by an entry point."""
    points = [point for point in _entry_points() if point.name == name]
    if not points:
        raise EncoderError(_unknown_message(name))
    if len(points) > 1:
        packages = " and ".join(sorted(map(_package_of, points)))
        raise EncoderError(f"the encoder {name} is provided by {packages}: uninstall all but one")
    what = f"the encoder {name} of the package {_package_of(points[0])}"
    try:
        encoder = points[0].load()()
    except BindSearchError:
        raise
    except Exception as error:  # code of other packages may raise anything; the message names the package
        fault = f"{type(error).__name__}: {error}"
        raise EncoderError(f"{what} cannot be loaded ({fault}): repair or uninstall that package") from error
    if missing := _lacking(encoder):
        way_out = "see bindsearch.encoders.Encoder for the required members"
        raise EncoderError(f"{what} lacks {', '.join(missing)}: {way_out}")
    if encoder.name != name:
        way_out = "both names must be the same, so that a store can load it"
        raise EncoderError(f"{what} has the name {encoder.name!r}: {way_out}")
    return cast("Encoder", encoder)


def _family(name: str) -> str | None:
    """Return the family of a model's name; None for other encoders."""
    return next((family for prefix, family in FAMILIES.items() if name.startswith(prefix)), None)


def _load_model(name: str, family: str, options: Options | None, runtime: Runtime) -> Encoder:
    """Return the encoder of an installed model."""
    from bindsearch.encoders.model_store.installed import read_model

    manifest = read_model(name)
    if manifest.family != family:
        of = f"is of the family {manifest.family!r} instead of {family!r}"
        raise EncoderError(f"the model {name} {of}: pull it again")
    if family == "bound":  # its hub is loaded first; options are those of the hub
        from bindsearch.encoders.bound.encoder import BoundEncoder, read_hub

        if BRIDGE in manifest.architecture:
            from bindsearch.encoders.combined.encoder import load_bridged

            return load_bridged(manifest, partial(load_part, runtime=runtime), options)
        hub_name, hub_options = read_hub(manifest)
        hub = load_part(hub_name, {**hub_options, **(options or {})}, runtime)
        return BoundEncoder(manifest, hub, runtime=runtime)
    make = partial(_make, f"{family}.encoder:{_CLASSES[family]}", manifest, runtime=runtime)
    if family in ("openclip", "timm"):
        return _check_options(make(), options)
    encoder: Encoder = make(options=options or {})
    if family == "hf":
        settable = getattr(encoder, "settable", ())
        return _check_options(encoder, {key: value for key, value in (options or {}).items() if key not in settable})
    return encoder


def load_part(name: str, options: Options | None, runtime: Runtime) -> Encoder:
    """Return an encoder, such as one that another is made of; one without a choice of its device runs on the CPU."""
    return load_encoder(name, options=options, runtime=runtime if supports_device(name) else Runtime())


def _check_options(encoder: Encoder, options: Options | None) -> Encoder:
    """Return the encoder; raise UsageError if options differ from its fixed ones."""
    if not options:
        return encoder
    own = encoder.options
    for key, value in options.items():
        if key not in own or not _same(own[key], value):
            has = f"{encoder.name} has {key}={own[key]}" if key in own else f"{encoder.name} has no option {key}"
            raise UsageError(f"{key}={value} cannot be set: the encoder {has}, and its options are fixed")
    return encoder


def _same(own: object, given: object) -> bool:
    """Return whether two values of an option are the same; values from a command line are texts."""
    try:
        return own == given or float(str(own)) == float(str(given))
    except ValueError:
        return str(own) == str(given)


def _lacking(encoder: object) -> list[str]:
    """Return the members of the protocol that an object lacks; properties are not evaluated: they may load weights."""
    missing = []
    for member, declared in vars(Encoder).items():
        if member.startswith("_"):
            continue
        value, is_method = inspect.getattr_static(encoder, member, None), inspect.isfunction(declared)
        if value is None or (is_method and not (callable(value) or isinstance(value, classmethod | staticmethod))):
            missing.append(f"{member}()" if is_method else member)
    return missing


def _entry_points() -> list[EntryPoint]:
    """Return the encoders that other packages provide."""
    from importlib.metadata import entry_points

    return list(entry_points(group=GROUP))


def package_encoders() -> list[str]:
    """Return the names of encoders that other packages provide, sorted."""
    return sorted({point.name for point in _entry_points()})


def _package_of(point: EntryPoint) -> str:
    """Return the name of the package of an entry point."""
    return point.dist.name if point.dist else point.value


def _unknown_message(name: str) -> str:
    """Return the message for an unknown encoder: known names, and how to download a model."""
    from bindsearch.encoders.model_store.installed import list_models

    models = [model.name for model in list_models() if other_use(model.name) is None]
    others = package_encoders()
    near = did_you_mean(name, [*LISTED, *models, *others])
    parts = [f"{near}the encoders are {', '.join(LISTED)}"]
    parts += [f"installed models: {', '.join(models)}"] if models else []
    parts += [f"of other packages: {', '.join(others)}"] if others else []
    hint = "`bindsearch model pull` downloads imagebind-huge, openclip:MODEL/PRETRAINED, timm:MODEL, st:ORG/NAME or "
    hint += "hf:ORG/NAME"
    return f"unknown encoder {name!r}: {'; '.join(parts)}; {hint}"
