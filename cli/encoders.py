"""`bindsearch encoders` and `bindsearch bench`: which encoders there are, and how fast they run."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from bindsearch.arguments import to_choice
from bindsearch.cli.aliases import Command
from bindsearch.cli.options import DeviceOption, JsonOption, option
from bindsearch.cli.output import human_bytes, print_json, print_line, print_message
from bindsearch.cli.settings.complete import complete_encoders

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


bench_app = typer.Typer(no_args_is_help=True)


@bench_app.callback()
def _bench() -> None:
    """Measure the speed of encoders on this machine.

    Example: bindsearch bench encode --modality text --encoder mini
    """


@bench_app.command("encode", cls=Command)
def encode_command(
    modality: Annotated[str, option("--modality M", "Modality to embed: text, image, video, ...")],
    encoder: Annotated[str, option("--encoder NAME", "Encoder to measure.", complete_encoders)] = "imagebind-huge",
    random_weights: Annotated[
        bool, option("--random-weights", "Use random weights for imagebind-huge; needs no download.")
    ] = False,
    dtype: Annotated[
        str | None, option("--dtype D", "Format of random weights: fp32, bf16, fp16; default: the fastest.")
    ] = None,
    device: DeviceOption = "auto",
    batch: Annotated[int | None, option("--batch N", "Batch size.")] = None,
    seconds: Annotated[float, option("--seconds S", "Duration of the measurement.")] = 10.0,
    compile_: Annotated[bool, option("--compile", "Use torch.compile (worth it for long GPU runs).")] = False,
    json: JsonOption = False,
) -> None:
    """Embed synthetic media of one modality; report items/s, GFLOP/s, memory and MFU (FLOP/s relative to a matmul).

    Example: bindsearch bench encode --encoder imagebind-huge --random-weights --modality image
    """
    from bindsearch.encoders.benchmark import bench_encoder
    from bindsearch.encoders.torch_runtime.device import Runtime
    from bindsearch.types import Modality

    wanted = to_choice(modality, Modality, "modality")
    if sys.stderr.isatty():
        print_message(f"measuring {encoder}, {modality}, for about {seconds:g} s")
    speed = bench_encoder(
        encoder,
        wanted,
        runtime=Runtime(device, compile_),
        random_weights=random_weights,
        dtype=dtype,
        batch=batch,
        seconds=seconds,
    )
    if json:
        print_json(asdict(speed))
        return
    run = f"{speed.dtype} on {speed.device}, batches of {speed.batch}"
    print_line(f"encoder   {speed.encoder}, {speed.modality}, {run}")
    print_line(f"speed     {speed.items_per_s:.4g} items/s")
    if speed.gflop_per_item and speed.gflop_per_s and speed.mfu:
        print_line(
            f"rate      {speed.gflop_per_s:.4g} GFLOP/s ({speed.gflop_per_item:.4g} an item), MFU {speed.mfu:.1%}"
        )
    print_line(f"matmul    {speed.matmul_gflop_per_s:.4g} GFLOP/s in the same run")
    print_line(f"memory    {human_bytes(speed.peak_memory_bytes)} peak; tower loaded in {speed.load_s:.2f} s")
