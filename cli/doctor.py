"""`bindsearch doctor`: check the installation and report how to repair it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

from bindsearch.cli.options import JsonOption, StoreOption, option
from bindsearch.cli.output import plural, print_json, print_line

if TYPE_CHECKING:
    from bindsearch.operations.doctor import Check

EXIT_PROBLEMS = 5


def doctor_command(
    deep: Annotated[
        bool, option("--deep", "Also import torch and embed a tiny item of each modality (takes seconds).")
    ] = False,
    store: StoreOption = None,
    json: JsonOption = False,
) -> int:
    """Check Python, libraries, GPU, codecs, encoders, store and disk; report how to fix each problem.

    Changes nothing. Exits with 0 if no problem is found, else with 5.

    Example: bindsearch doctor --deep
    """
    from bindsearch.operations.doctor import Level, diagnose
    from bindsearch.storage.config import resolve_store

    place = resolve_store(store)
    checks: list[Check] = []
    topic = ""
    for check in diagnose(place, deep=deep):
        checks.append(check)
        if json:
            continue
        heading = "" if check.topic == topic else check.topic
        print_line(f"{heading:10} {check.level.value:8} {check.name}: {check.message}")
        if check.remedy:
            print_line(f"{'':19} -> {check.remedy}")
        topic = check.topic
    problems = sum(check.level is Level.PROBLEM for check in checks)
    if json:
        print_json({"healthy": not problems, "checks": [asdict(check) for check in checks]})
    else:
        print_line(plural(problems, "problem") if problems else "no problems")
    return EXIT_PROBLEMS if problems else 0
