"""The search benchmark's figures as a Markdown table and as JSON."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from search_cases import Bench, LimitCheck

ASKED = ("figure", "seen", "wanted", "")
MEASURED = ("case", "system", "setting", "recall@10", "p50 ms", "p95 ms")
SWEPT = ("source", "system", "setting", "recall@10", "p50 ms")
BUILT = ("store", "vectors", "commit s", "vectors/s", "build s", "MB on disk")


def as_table(bench: Bench) -> str:
    """Return the limits, the measurements, the cost of building, and notes."""
    parts = ["## Asked", _table(ASKED, map(_limit_row, bench.asked))]
    parts += ["## Measured", _table(MEASURED, _measured(bench))]
    if bench.swept:
        parts += ["## Settings tried on others, pictures sought", _table(SWEPT, _swept(bench))]
    if bench.builds or bench.peer_build_s:
        parts += ["## Building", _table(BUILT, _built(bench))]
    parts += [f"* {note}" for note in bench.notes]
    return "\n\n".join(parts) + "\n"


def as_json(bench: Bench) -> dict[str, Any]:
    """Return the same figures as data."""
    return {
        "vectors": bench.data.n,
        "asked": [{**asdict(check), "met": check.met} for check in bench.asked],
        "measured": [{"case": measured.case, **asdict(measured.timed)} for measured in bench.measured],
        "swept": [
            {
                "source": attempt.source,
                "system": attempt.system,
                "setting": attempt.setting.name,
                "recall": attempt.recall,
                "p50_ms": attempt.p50_ms,
            }
            for attempt in bench.swept
        ],
        "builds": {name: asdict(figures) for name, figures in bench.builds.items()},
        "peer_build_s": bench.peer_build_s,
        "notes": bench.notes,
    }


def _limit_row(check: LimitCheck) -> tuple[str, ...]:
    sign = "<=" if check.at_most else ">="
    return (
        check.what,
        f"{_figure(check.seen)} {check.unit}".strip(),
        f"{sign} {_figure(check.limit)}",
        "met" if check.met else "missed",
    )


def _figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _measured(bench: Bench) -> Iterable[tuple[str, ...]]:
    for measured in bench.measured:
        timed = measured.timed
        times = (f"{timed.p50_ms:.2f}", f"{timed.p95_ms:.2f}")
        yield (measured.case, timed.system, timed.setting, f"{timed.recall:.3f}", *times)


def _swept(bench: Bench) -> Iterable[tuple[str, ...]]:
    for attempt in bench.swept:
        yield (attempt.source, attempt.system, attempt.setting.name, f"{attempt.recall:.3f}", f"{attempt.p50_ms:.2f}")


def _built(bench: Bench) -> Iterable[tuple[str, ...]]:
    for name, built in bench.builds.items():
        rates = (f"{built.commit_s:.1f}", f"{built.vectors_per_s:,.0f}", f"{built.optimize_s:.1f}")
        yield (name, f"{built.vectors:,}", *rates, f"{built.bytes_on_disk / 1e6:,.0f}")
    for name, build_s in bench.peer_build_s.items():
        yield (name, "", "", "", f"{build_s:.1f}", "")


def _table(columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [columns, tuple("---" for _ in columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
