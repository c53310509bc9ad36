"""`bindsearch reindex`: move a store over to another encoder."""

from __future__ import annotations

from typing import Annotated

import typer

from bindsearch.cli.index import EXIT_SOME_FAILED
from bindsearch.cli.options import (
    AsOption,
    DeviceOption,
    EncoderOptions,
    ImuRateOption,
    JsonLinesOption,
    JsonOption,
    LimitOption,
    StoreOption,
)
from bindsearch.cli.parse import parse_encoder_options, parse_limits
from bindsearch.cli.progress import print_report, show_progress


def reindex_command(
    encoder: Annotated[str, typer.Option(help="The encoder to move to.", metavar="NAME")],
    encoder_option: EncoderOptions = None,
    store: StoreOption = None,
    as_: AsOption = None,
    imu_rate: ImuRateOption = None,
    max_: LimitOption = None,
    prune: Annotated[
        bool, typer.Option("--prune", help="Leave out items that cannot be embedded now, instead of refusing.")
    ] = False,
    device: DeviceOption = "auto",
    json: JsonOption = False,
    json_lines: JsonLinesOption = False,
) -> int:
    """Embed everything anew with another encoder. Searches see the old store until all is done.

    An interrupted run goes on where it was. The room of a second store is needed meanwhile, and items get new numbers.
    Example: bindsearch reindex --encoder imagebind-huge
    """
    from bindsearch.store import connect

    with connect(store, device=device) as opened, show_progress(as_lines=json_lines) as shown:
        report = opened.reindex(
            encoder,
            encoder_options=parse_encoder_options(encoder_option),
            rules=as_ or (),
            imu_rate_hz=imu_rate,
            limits=parse_limits(max_),
            prune=prune,
            on_progress=shown.progress,
            on_stage=shown.stage,
        )
    print_report(report, as_json=json, as_lines=json_lines)
    return EXIT_SOME_FAILED if report.failures else 0
