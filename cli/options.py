"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

from bindsearch.errors import UsageError

StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store", help="The store's folder; default: $BINDSEARCH_STORE, else the user's data directory.", metavar="DIR"
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
ImuRateOption = Annotated[
    float | None,
    typer.Option("--imu-rate", help="Sample rate of motion files that carry none themselves.", metavar="HZ"),
]
DeviceOption = Annotated[
    str,
    typer.Option("--device", help="Where towers run: auto (a GPU where there is one), cpu, cuda, cuda:N.", metavar="D"),
]
EncoderOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--encoder-option",
        help="A preprocessing option of the encoder in a new store, such as spatial_crops=3. Repeatable.",
        metavar="NAME=VALUE",
    ),
]


def parse_encoder_options(options: list[str] | None) -> dict[str, str | int | float | bool] | None:
    """{"spatial_crops": "3"} from ["spatial_crops=3"]; None from none.

    Raises:
        UsageError: one has no "=".
    """
    parsed: dict[str, str | int | float | bool] = {}
    for option in options or []:
        name, equals, value = option.partition("=")
        if not equals or not name:
            raise UsageError(f"--encoder-option {option!r}: expected NAME=VALUE, such as spatial_crops=3")
        parsed[name] = value
    return parsed or None
