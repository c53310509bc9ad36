"""`bindsearch verify`: whether a store is as it was written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from bindsearch.cli.options import JsonOption, StoreOption
from bindsearch.cli.output import human_bytes, plural, print_json, print_line, print_message, show_stages

if TYPE_CHECKING:
    from bindsearch.operations.verify.findings import Report

EXIT_FINDINGS = 5
SHOWN_PLACES = 3


def verify_command(
    store: StoreOption = None,
    files: Annotated[
        bool, typer.Option("--files", help="Look too whether the media files have changed or gone since.")
    ] = False,
    content: Annotated[
        bool,
        typer.Option("--content", help="As --files, and read them: finds changed bytes of the same size and time."),
    ] = False,
    json: JsonOption = False,
) -> int:
    """Check every byte of a store against what was written, and that all of it fits together. Nothing is changed.

    Each finding names what mends it. The exit code is 0 where there is none, else 5. Example: bindsearch verify --files
    """
    from bindsearch.operations.verify.findings import finding_record
    from bindsearch.store import connect

    with show_stages() as on_stage:
        report = connect(store).verify(files=files, content=content, on_stage=on_stage)
    if json:
        print_json(
            {
                "findings": [finding_record(one) for one in report.findings],
                "unchecked": list(report.unchecked),
                "read_bytes": report.read_bytes,
                "took_s": round(report.took_s, 3),
            }
        )
    else:
        _print_report(report)
    return EXIT_FINDINGS if report.findings else 0


def _print_report(report: Report) -> None:
    for one in report.findings:
        print_line(f"{one.kind}: {one.message}")
        if one.count > 1:
            for place in one.where[:SHOWN_PLACES]:
                print_line(f"    {place}")
            if one.count > SHOWN_PLACES:
                print_line(f"    ... {one.count} in all")
    for what in report.unchecked:
        print_message(f"note: {what}")
    found = plural(len(report.findings), "finding") if report.findings else "nothing wrong"
    print_line(f"{found}; {human_bytes(report.read_bytes)} read in {report.took_s:.1f} s")
