"""`bindsearch verify`: check a store for damage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from bindsearch.cli.options import JsonOption, OnOption, StoreOption, option
from bindsearch.cli.output import human_bytes, picked, plural, print_json, print_line, print_notices, show_stages

if TYPE_CHECKING:
    from bindsearch.operations.verify.findings import Report

EXIT_FINDINGS = 5
SHOWN_PLACES = 3


def verify_command(
    store: StoreOption = None,
    on: OnOption = None,
    check_media: Annotated[
        bool, option("--check-media", "Also check media files for changes, by size and time.")
    ] = False,
    hash_media: Annotated[
        bool, option("--hash-media", "Also check media files for changes, by content (reads all of them).")
    ] = False,
    json: JsonOption = False,
) -> int:
    """Check the store's files for consistency and checksums. Changes nothing.

    Each finding names the repair. Exits with 0 if nothing is found, else with 5.

    Example: bindsearch verify --check-media
    """
    from bindsearch.operations.verify.findings import finding_record
    from bindsearch.shards.connect import connect

    with connect(store, on=on) as opened, show_stages() as on_stage:
        report = opened.verify(check_media=check_media, hash_media=hash_media, on_stage=on_stage)
    if json:
        findings = [finding_record(one) for one in report.findings]
        data = {"findings": findings, **picked(report, "unchecked read_bytes")}
        print_json({**data, "took_s": round(report.took_s, 3)})
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
    print_notices(report.unchecked)
    found = plural(len(report.findings), "finding") if report.findings else "no problems found"
    print_line(f"{found}; {human_bytes(report.read_bytes)} read in {report.took_s:.1f} s")
