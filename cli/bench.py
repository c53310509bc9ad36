"""`bindsearch bench`: how fast this machine runs an encoder."""

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
    from bindsearch.encoders.benchmark import EncodeSpeed

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
    else:
        _print_speed(speed)


def _print_speed(speed: EncodeSpeed) -> None:
    run = f"{speed.dtype} on {speed.device}, batches of {speed.batch}"
    print_line(f"encoder   {speed.encoder}, {speed.modality}, {run}")
    print_line(f"speed     {speed.items_per_s:.4g} items/s")
    if speed.gflop_per_item and speed.gflop_per_s and speed.mfu:
        print_line(
            f"rate      {speed.gflop_per_s:.4g} GFLOP/s ({speed.gflop_per_item:.4g} an item), MFU {speed.mfu:.1%}"
        )
    print_line(f"matmul    {speed.matmul_gflop_per_s:.4g} GFLOP/s in the same run")
    print_line(f"memory    {human_bytes(speed.peak_memory_bytes)} peak; tower loaded in {speed.load_s:.2f} s")
