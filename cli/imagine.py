"""`bindsearch imagine`: pictures made from a query."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from bindsearch.cli.options import DeviceOption, ImuRateOption, JsonOption, StoreOption, TermOptions, argument, option
from bindsearch.cli.output import print_json, print_line, print_message
from bindsearch.cli.parse import read_terms
from bindsearch.cli.progress import show_rows
from bindsearch.cli.settings.complete import complete_encoders
from bindsearch.errors import UsageError


def imagine_command(
    words: Annotated[
        list[str] | None,
        argument("[TEXT]", "Text, with or without quotes; or a file that exists. text:WORDS is always a text."),
    ] = None,
    *,
    options: TermOptions,
    out: Annotated[
        Path | None, option("--out FILE", "PNG file to write; several pictures are numbered after it.")
    ] = None,
    model: Annotated[
        str | None,
        option(
            "--model NAME", "Decoder: unclip:ORG/NAME, or the folder of a pipeline; default: the one that is installed."
        ),
    ] = None,
    encoder: Annotated[
        str | None,
        option(
            "--encoder NAME", "Encoder of the query, without a store; default: that of the store.", complete_encoders
        ),
    ] = None,
    prompt: Annotated[str, option("--prompt TEXT", "Text for the decoder besides the query; default: none.")] = "",
    strength: Annotated[
        float,
        option(
            "--strength X",
            "How strongly the query drives the picture, 0 to 1: noise of level (1 - X) * 999 (of a decoder with "
            "1000 levels) is added to its embedding.",
        ),
    ] = 1.0,
    seed: Annotated[
        int | None, option("--seed N", "Seed of the noise; the same one gives the same picture. Default: drawn.")
    ] = None,
    steps: Annotated[int, option("--steps N", "Steps of a picture; more are slower and finer.")] = 25,
    size: Annotated[
        str | None,
        option("--size WIDTH[xHEIGHT]", "Size in pixels, such as 768 or 768x512; default: that of the decoder."),
    ] = None,
    count: Annotated[int, option("--count N", "Number of pictures; each has the next seed.")] = 1,
    any_space: Annotated[
        bool, option("--any-space", "Make a picture although the encoder is not in the space of the decoder.")
    ] = False,
    imu_rate: ImuRateOption = None,
    device: DeviceOption = "auto",
    dtype: Annotated[
        str | None, option("--dtype FORMAT", "fp16, bf16 or fp32; default: fp16 on a GPU, else fp32.")
    ] = None,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Make a picture from a query of any modality: its embedding takes the place of a picture's in a decoder.

    The decoder is an unCLIP pipeline of diffusers (the extra generate). The encoder must be in the space of its picture
    encoder, as imagebind-huge is in that of OpenCLIP ViT-H; this is measured. The PNG file records what it is made of.

    Examples: bindsearch imagine "waves on a beach" --out waves.png
    bindsearch imagine --query '0.5*image:fruit.jpg + 0.5*audio:birds.wav' --out birds.png --seed 7
    bindsearch imagine --audio rain.wav --encoder imagebind-huge --model ./stable-unclip --out rain.png
    """
    from bindsearch.generation.settings import PictureSettings, parse_size

    if out is None:
        raise UsageError("there is no file to write: give --out picture.png")
    settings = PictureSettings(
        prompt=prompt,
        strength=strength,
        steps=steps,
        seed=seed,
        size=None if size is None else parse_size(size),
        count=count,
        dtype=dtype,
        any_space=any_space,
    )
    asked = read_terms(words, options)
    from bindsearch.generation.imagine import imagine
    from bindsearch.shards.connect import connect

    notices: list[str] = []

    def note(text: str) -> None:
        notices.append(text)
        print_message(f"note: {text}")

    with show_rows("drawing") as (on_steps, _):
        opened = connect(store, device=device) if encoder is None else None
        made = imagine(
            asked,
            store=opened,
            encoder=encoder,
            model=model,
            out=out,
            settings=settings,
            imu_rate_hz=imu_rate,
            device=device,
            on_notice=note,
            on_steps=on_steps,
        )
    if json:
        print_json({"pictures": [{"path": str(one.path), **one.record} for one in made], "notices": notices})
        return
    for one in made:
        print_line(f"{one.path}  seed {one.record['seed']}")
