"""`bindsearch encoders`: which encoders there are, and which fit a purpose."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

from bindsearch.cli.options import JsonOption, option
from bindsearch.cli.output import human_bytes, print_json, print_line, print_message

if TYPE_CHECKING:
    from bindsearch.encoders.listing import EncoderEntry

_LANGUAGES = {"en": "English", "many": "many languages"}
_NEEDS = {"cpu": "runs well on a CPU", "gpu": "slow without a GPU"}


def encoders_command(
    purpose: Annotated[
        str | None,
        option(
            "--for REQUIREMENTS",
            "Only encoders that fit, the best first: requirements such as 'free licence, all media, CPU'.",
        ),
    ] = None,
    json: JsonOption = False,
) -> int:
    """List the encoders: built in, of other packages, pulled, bound, and known models that can be pulled.

    With --for, those that fit: free licence, all media (text, pictures, videos, sounds), all modalities, a modality
    (photos, sounds, motion, ...), CPU, no download, many languages. Exit code 1 if none does.

    Example: bindsearch encoders --for "free licence, all media, CPU"
    """
    from bindsearch.encoders.listing import State, fitting_encoders, list_encoders
    from bindsearch.encoders.model_store.installed import damaged_models

    for fault in damaged_models():
        print_message(f"damaged: {fault}")
    entries = list_encoders()
    shown = entries if purpose is None else fitting_encoders(entries, purpose)
    if json:
        print_json({"encoders": [{**asdict(entry), "measured": dict(entry.measured or {})} for entry in shown]})
        return 0 if shown else 1
    for entry in shown:
        _print_entry(entry)
    if not shown:  # as only requirements leave out
        print_message("no encoder fits all requirements: leave one out, or bind one of your own (`bindsearch bind`)")
        return 1
    if purpose is not None:
        name, is_to_pull = shown[0].name, shown[0].state is State.TO_PULL
        way = "get it with: bindsearch model pull" if is_to_pull else "use it with: bindsearch index PATH --encoder"
        print_message(f"fits best: {name}; {way} {name}")
    return 0


def _print_entry(entry: EncoderEntry) -> None:
    print_line(f"{entry.name}  ({entry.state})")
    if entry.problem:
        print_line(f"    {entry.problem}")
        return
    size = "" if entry.parameters_m is None else f"{entry.parameters_m / 1000:.2g} billion parameters"
    if entry.size_bytes is not None:
        size = human_bytes(entry.size_bytes)
    facts = [", ".join(entry.modalities), f"d {entry.dim}" if entry.dim else "", size, entry.license]
    facts += [_LANGUAGES.get(entry.languages, entry.languages), _NEEDS.get(entry.needs, "")]
    print_line(f"    {'; '.join(filter(None, facts))}")
    if entry.good_for:
        print_line(f"    for {entry.good_for}")
    for figure, value in (entry.measured or {}).items():
        print_line(f"    measured: {figure}: {value:g}")
