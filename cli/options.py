"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

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
