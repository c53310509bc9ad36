"""Time of motion recordings: the rate, pauses, and time stamps that are coarse, in bursts or out of order.

The unit of a time column is the one in its name, else the one of s, ms, us, ns with a rate between 4 Hz and 4 kHz (its
four ranges are a factor of 1000 apart: at most one fits). The rate is the number of steps in all runs without a pause,
divided by their length. A pause is longer than 1 s and ten mean steps.

Time stamps say when a row was written, not when it was measured: rows of one packet (Bluetooth LE), and rows within
one step of a coarse clock (whole seconds), have nearly equal stamps. Such rows are spread evenly; the rate is counted
from the start of the second packet to that of the last, since the first may be cut. Other uneven stamps are resampled
linearly. Stamps that step back a little are sorted; a long step back starts a new run behind the previous one.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bindsearch.errors import MediaError, UsageError
from bindsearch.ingest.media.imu.table import count_of
from bindsearch.ingest.media.options import check_imu_rate, check_limit

_WAY_OUT = "give sample_rate_hz in the sidecar <file>.json"
_LONGEST_PAUSE_S = 1.0
_MAX_BAD_SHARE = 0.05
"""Share of rows with missing or backward time stamps up to which a file is repaired."""

_SLOWEST_HZ, _FASTEST_HZ = 4.0, 4000.0
_PACKET_HZ = 500.0
"""Rows of one packet follow each other faster than this; sensors of phones and watches do not."""

_ONE_STEP = 1.05
"""Deviation of a coarse clock in steps: one, and rounding errors of decimal stamps."""

_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"))
_EPOCH_S = (631_152_000.0, 4_102_444_800.0)
"""1990 to 2100 in seconds since 1970."""


@dataclass(frozen=True, slots=True)
class ImuRun:
    """A recording without pauses: `samples` float32 (n, 6) evenly spaced from `start_s` (seconds) on."""

    samples: NDArray[np.float32]
    start_s: float


@dataclass(frozen=True, slots=True)
class Clock:
    """The time of the n rows of a table."""

    rate_hz: float
    source: str  # of the rate, such as "'time_s'"
    order: NDArray[np.int64] | None  # rows in the order of time, (n,); None: as they are
    runs: tuple[tuple[int, int], ...]  # first row and end row of each run without a pause, in that order
    times_s: NDArray[np.float64]  # of each row from the first, (n,); ascending within a run
    is_even: tuple[bool, ...]  # whether the rows of a run are evenly spaced; else they have to be resampled
    notes: tuple[str, ...]  # what was assumed or repaired


def stated_rate(rate_hz: float, source: str) -> float:
    """Return a rate after checking that it is one of motion; MediaError: it is not."""
    try:
        return check_imu_rate(rate_hz, source)
    except UsageError as error:
        raise MediaError(str(error)) from error


def read_clock(raw: NDArray[Any], name: str, step_s: float | None) -> Clock:
    """Return the clock of a time column.

    `raw`: its values, (n,), n at least 2; `step_s`: seconds per step, if known.

    Raises:
        MediaError: it does not advance, is a sample counter, runs backwards or has too many missing values; or the
            rate is not that of a motion sensor.
    """
    ticks, notes = _ticks(raw, name)
    steps = np.diff(ticks)
    if not steps.any():
        raise MediaError(f"time column {name!r} does not advance: {_WAY_OUT}")
    back = np.flatnonzero(steps < 0)
    if len(back) and (len(back) > max(1, _MAX_BAD_SHARE * len(ticks)) or len(ticks) < 20):
        others = f", and in {len(back) - 1} others" if len(back) > 1 else ""
        raise MediaError(f"time column {name!r} runs backwards in row {back[0] + 2}{others}")
    unit = ""
    if step_s is None:
        start = float(raw[0]) if np.isfinite(raw[0]) else 0.0
        step_s, unit = time_unit(steps, start, name)
    times_s = ticks * step_s
    order, times_s, restarts, more = _sorted(times_s, name)
    notes += more
    times_s, runs = _runs(times_s, restarts)
    rate_hz, is_packed = _rate(times_s, runs, name)
    if is_packed:
        notes += (f"time column {name!r} is coarse or in bursts: the rows are spread evenly",)
    if len(restarts):
        times_s = _one_after_another(times_s, runs, restarts, rate_hz)
        times = "once" if len(restarts) == 1 else f"{len(restarts)} times"
        notes += (f"time column {name!r} starts again {times}, first in row {restarts[0] + 1}: a new run each",)
    is_even = tuple(is_packed or _is_even(times_s[a:b], rate_hz) for a, b in runs)
    return Clock(rate_hz, f"{name!r}{unit}", order, runs, times_s, is_even, notes)


def even_clock(rate_hz: float, source: str, count: int) -> Clock:
    """Return the clock of `count` rows at a known rate."""
    return Clock(rate_hz, source, None, ((0, count),), np.zeros(count), (True,), ())


def even_runs(samples: NDArray[np.float32], clock: Clock, max_samples: int) -> list[ImuRun]:
    """Return the samples (n, 6) of a table as evenly spaced runs.

    Raises:
        MediaError: more than `max_samples` result.
    """
    rate_hz, times_s = clock.rate_hz, clock.times_s
    parts = list(zip(clock.runs, clock.is_even, strict=True))
    count = sum(b - a if even else int((times_s[b - 1] - times_s[a]) * rate_hz) + 1 for (a, b), even in parts)
    check_limit(count, max_samples, f"at {rate_hz:g} Hz the recording has {count} samples", "samples")
    if clock.order is not None:
        samples = samples[clock.order]
    return [
        ImuRun(samples[a:b], float(times_s[a])) if even else _resample(_untied(times_s[a:b]), samples[a:b], rate_hz)
        for (a, b), even in parts
    ]


def _ticks(raw: NDArray[Any], name: str) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Return a time column from its first value on, float64 (n,), missing values interpolated, with notes."""
    notes: tuple[str, ...] = ()
    is_good = np.isfinite(raw) if raw.dtype.kind in "biuf" else np.zeros(len(raw), np.bool_)
    bad = np.flatnonzero(~is_good)
    if len(bad) == len(raw):
        raise MediaError(f"time column {name!r} has no numbers: {_WAY_OUT}")
    if len(bad) > _MAX_BAD_SHARE * len(raw):
        raise MediaError(
            f"time column {name!r} has no number in {len(bad)} of {len(raw)} rows, first in row {bad[0] + 1}"
        )
    lowest, highest = float(raw[is_good].min()), float(raw[is_good].max())
    if raw.dtype.kind in "iu" and highest - lowest < 2**62:
        # subtracted as integers: nanoseconds since 1970 need more digits than float64 has
        ticks = (raw.astype(np.uint64) - raw[:1].astype(np.uint64)).view(np.int64).astype(np.float64)
    else:
        ticks = raw.astype(np.float64)
        with np.errstate(over="ignore"):
            ticks = ticks - ticks[is_good][0]
    if len(bad):
        good = np.flatnonzero(is_good)
        ticks[bad] = np.interp(bad, good, ticks[good])
        rows = count_of(len(bad), "row")
        notes = (f"time column {name!r} has no number in {rows}, first in row {bad[0] + 1}: interpolated",)
    if not np.isfinite(ticks).all() or highest - lowest > 1e300:
        raise MediaError(f"time column {name!r} runs from {lowest:g} to {highest:g}: the span is too long")
    return ticks, notes


def time_unit(steps: NDArray[np.float64], start: float, name: str) -> tuple[float, str]:
    """Return seconds per step of a time column whose name does not say it, and the unit for messages.

    `steps`: differences of its values, (n - 1,), of which `start` is the first.

    Raises:
        MediaError: it counts rows, or no unit gives a rate of motion.
    """
    forward = steps[steps >= 0]
    is_epoch = [_EPOCH_S[0] < abs(start) * unit_s < _EPOCH_S[1] for unit_s, _ in _UNITS]
    is_counter = float(np.mean(forward == 1.0)) > 0.9 if len(forward) else False
    if is_counter and not any(is_epoch):
        raise MediaError(f"time column {name!r} counts rows (it steps by 1), which gives no rate: {_WAY_OUT}")
    for (unit_s, unit), is_since_1970 in zip(_UNITS, is_epoch, strict=True):
        if is_since_1970 and 0.5 <= _mean_rate(forward * unit_s) <= 20_000:
            return unit_s, f" in {unit}"
    for unit_s, unit in _UNITS:
        if _SLOWEST_HZ <= _mean_rate(forward * unit_s) < _FASTEST_HZ:
            return unit_s, f" in {unit}"
    raise MediaError(
        f"the unit of time column {name!r} is not clear (it steps by {np.median(forward) if len(forward) else 0:g}): "
        f"rename it to time_s, time_ms, time_us or time_ns, or {_WAY_OUT}"
    )


def _mean_rate(steps_s: NDArray[np.float64]) -> float:
    """Return the number of steps per second of a clock, without its pauses; 0 if it has no steps."""
    short = steps_s[steps_s <= _LONGEST_PAUSE_S + 1e-6]
    if not short.any():
        short = steps_s  # coarser than a second
    total = float(short.sum())
    return len(short) / total if total > 0 else 0.0


def _sorted(
    times_s: NDArray[np.float64], name: str
) -> tuple[NDArray[np.int64] | None, NDArray[np.float64], NDArray[np.int64], tuple[str, ...]]:
    """Sort rows that are out of order by little.

    Returns:
        The order of the rows (None: as they are), their times, the rows in which time starts again, and notes.
    """
    steps = np.diff(times_s)
    back = np.flatnonzero(steps < 0)
    if not len(back):
        return None, times_s, back, ()
    limit_s = min(max(10 / max(_mean_rate(steps[steps >= 0]), 1e-9), 0.5), _LONGEST_PAUSE_S)
    restarts = back[steps[back] < -limit_s] + 1
    order = np.arange(len(times_s))
    for a, b in pairwise((0, *restarts.tolist(), len(times_s))):
        order[a:b] = a + np.argsort(times_s[a:b], kind="stable")
    swapped = len(back) - len(restarts)
    if not swapped:
        return None, times_s, restarts, ()
    note = f"time column {name!r} runs backwards in {count_of(swapped, 'row')} by less than {limit_s:.2g} s: sorted"
    return order, times_s[order], restarts, (note,)


def _runs(
    times_s: NDArray[np.float64], restarts: NDArray[np.int64]
) -> tuple[NDArray[np.float64], tuple[tuple[int, int], ...]]:
    """Return the times, and the runs between pauses and restarts; pauses between packets are none."""
    times_s = times_s - times_s[: restarts[0] if len(restarts) else None].min()
    steps = np.diff(times_s)
    is_restart = np.zeros(len(steps), bool)
    is_restart[restarts - 1] = True
    forward = steps[~is_restart]
    limit_s = max(_LONGEST_PAUSE_S + 1e-6, 10 / max(_mean_rate(forward), 1e-9))
    pauses = forward[forward > limit_s]
    if len(pauses) >= 3:
        edges = np.flatnonzero(is_restart | (steps > limit_s)) + 1
        first, last = np.concatenate([[0], edges]), np.concatenate([edges, [len(times_s)]]) - 1
        lengths_s, counts = times_s[last] - times_s[first], last - first
        pause_s = float(np.median(pauses))
        is_packet = np.median(lengths_s) < 0.1 * pause_s and float(counts.sum()) >= _PACKET_HZ * float(lengths_s.sum())
        if is_packet and np.median(counts) >= 1:
            limit_s = max(limit_s, 5 * pause_s)
    breaks = np.flatnonzero(is_restart | (steps > limit_s)) + 1
    return times_s, tuple(pairwise((0, *breaks.tolist(), len(times_s))))


def _rate(times_s: NDArray[np.float64], runs: tuple[tuple[int, int], ...], name: str) -> tuple[float, bool]:
    """Return the rate over all runs in Hz, and whether the rows are in packets or of a coarse clock."""
    source = "the rate of the time column"
    ends = np.array([b for _, b in runs[:-1]], np.int64)
    steps = np.delete(np.diff(times_s), ends - 1)
    total = float(steps.sum())
    if total <= 0:
        raise MediaError(f"time column {name!r} does not advance between pauses: {_WAY_OUT}")
    mean, median = total / len(steps), float(np.median(steps))
    ties = float(np.mean(steps == 0))
    deviation_s = max(_deviation(times_s[a:b]) for a, b in runs)
    if ties <= 0.1 and median / 2 < mean < median * 2:
        return stated_rate(1 / _step_without_losses(steps, mean, median, deviation_s), source), False
    # packets start with rows after a step above the mean
    starts = [a + 1 + np.flatnonzero(np.diff(times_s[a:b]) > mean) for a, b in runs]
    counts = np.concatenate([np.diff(rows) for rows in starts])
    lengths_s = np.concatenate([np.diff(times_s[rows]) for rows in starts])
    if len(counts) >= 2 and (ties > 0.1 or (_varies_little(counts) and _varies_little(lengths_s))):
        return stated_rate(float(counts.sum()) / float(lengths_s.sum()), source), True
    if median > 0 and ties <= 0.1:  # rows are missing here and there
        return stated_rate(1 / _step_without_losses(steps, median, median, deviation_s), source), False
    raise MediaError(f"time column {name!r} is too coarse to give the rate: {_WAY_OUT}")


def _step_without_losses(steps: NDArray[np.float64], mean: float, median: float, deviation_s: float) -> float:
    """Return the mean of steps without those over lost rows; `mean` if there are none, or most steps differ.

    Steps of a coarse clock, such as 2 and 3 ms at 400 Hz, are no losses: the stamps stay near even ones
    (`deviation_s`).
    """
    is_step = steps < 1.5 * median
    if deviation_s < _ONE_STEP * median or is_step.all() or not _varies_little(steps[is_step]):
        return mean
    return float(steps[is_step].mean())


def _deviation(times_s: NDArray[np.float64]) -> float:
    """Return the greatest distance in seconds between times and even ones with the same ends."""
    return float(np.abs(times_s - np.linspace(times_s[0], times_s[-1], len(times_s))).max())


def _varies_little(values: NDArray[Any]) -> bool:
    low, median, high = np.percentile(values, (25, 50, 75))
    return bool(high - low <= 0.5 * median)


def _one_after_another(
    times_s: NDArray[np.float64], runs: tuple[tuple[int, int], ...], restarts: NDArray[np.int64], rate_hz: float
) -> NDArray[np.float64]:
    """Return the times with every restarted run moved behind the run before it."""
    moved, again, shift = times_s.copy(), set(restarts.tolist()), 0.0
    for (_, previous), (a, b) in pairwise(runs):
        if a in again:
            shift = moved[previous - 1] + 1 / rate_hz - times_s[a]
        moved[a:b] = times_s[a:b] + shift
    return moved


def _is_even(times_s: NDArray[np.float64], rate_hz: float) -> bool:
    """Return whether no row is further than half a step from its place in an even run.

    In a coarse clock, which has few different steps, a row may be one step away.
    """
    if abs((times_s[-1] - times_s[0]) * rate_hz - (len(times_s) - 1)) >= 0.5:
        return False
    distance = _deviation(times_s) * rate_hz
    return distance < 0.5 or (distance < _ONE_STEP and len(np.unique(np.round(np.diff(times_s), 6))) <= 3)


def _untied(times_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ascending times with rows of equal times spread evenly up to the next time."""
    first = np.flatnonzero(np.concatenate([[True], np.diff(times_s) > 0]))
    if len(first) in (1, len(times_s)):
        return times_s
    distinct = times_s[first]
    step = (distinct[-1] - distinct[0]) / (first[-1] - first[0])
    end = distinct[-1] + step * (len(times_s) - first[-1])
    rows = np.arange(len(times_s))
    return np.asarray(np.interp(rows, np.append(first, len(times_s)), np.append(distinct, end)))


def _resample(times_s: NDArray[np.float64], samples: NDArray[np.float32], rate_hz: float) -> ImuRun:
    """Return one run on an even grid, by linear interpolation."""
    grid = times_s[0] + np.arange(int((times_s[-1] - times_s[0]) * rate_hz + 1e-6) + 1) / rate_hz
    columns = [np.interp(grid, times_s, samples[:, axis]) for axis in range(samples.shape[1])]
    return ImuRun(np.column_stack(columns).astype(np.float32), float(times_s[0]))
