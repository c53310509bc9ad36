"""`bindsearch retry`: try the files again that failed."""

from __future__ import annotations

from bindsearch.cli.index import EXIT_SOME_FAILED
from bindsearch.cli.options import (
    AsOption,
    DeviceOption,
    ImuRateOption,
    JsonLinesOption,
    JsonOption,
    LimitOption,
    StoreOption,
)
from bindsearch.cli.parse import parse_limits
from bindsearch.cli.progress import print_report, show_progress


def retry_command(
    store: StoreOption = None,
    as_: AsOption = None,
    imu_rate: ImuRateOption = None,
    max_: LimitOption = None,
    device: DeviceOption = "auto",
    json: JsonOption = False,
    json_lines: JsonLinesOption = False,
) -> int:
    """Try the files again that failed (see `bindsearch status --failed`), with other options where you give some.

    Example: bindsearch retry --max pixels=500000000
    """
    from bindsearch.store import connect

    with connect(store, device=device) as opened, show_progress(as_lines=json_lines) as shown:
        report = opened.retry(
            rules=as_ or (), imu_rate_hz=imu_rate, limits=parse_limits(max_), on_progress=shown.progress
        )
    print_report(report, as_json=json, as_lines=json_lines)
    return EXIT_SOME_FAILED if report.failures else 0
