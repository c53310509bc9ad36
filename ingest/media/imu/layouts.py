"""Layouts of apps, loggers and data sets: recognised by the header, or chosen by the sidecar's `layout`.

The layouts of one table are data (`presets`): which columns it has, which of them are the axes, their units, the time.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bindsearch.errors import MediaError
from bindsearch.ingest.media.imu.columns import find_columns
from bindsearch.ingest.media.imu.frames import frame_by_attitude
from bindsearch.ingest.media.imu.presets import PRESETS, Preset
from bindsearch.ingest.media.imu.table import Layout, Table
from bindsearch.ingest.media.imu.units import ACCELERATION, gravity_unit, measure, unit_of
from bindsearch.ingest.media.sidecar import Sidecar

JOINED_LAYOUTS = ("sensor-logger", "phyphox", "wisdm", "uci-har", "kitti-oxts")
"""Layouts of recordings in several files, which `joining` reads."""

USUAL_RATE_HZ = 50.0
"""Rate that the statistics of values assume before the time is read."""

SIGNS_UNKNOWN = (
    "signs read as Android's (+9.8 along the axis that points up): for a recording of an iPhone or Apple Watch give "
    'frame: "ios" ("android" ends this note)'
)
"""Note on recordings of apps on iOS that do not show whose signs they have."""

LAYOUTS = tuple(dict.fromkeys([*(preset.name for preset in PRESETS), *JOINED_LAYOUTS]))
"""Names of all layouts."""


def lay_out(table: Table, sidecar: Sidecar) -> tuple[Table, Sidecar]:
    """Return a table with the columns of its layout, and the sidecar with the facts of the layout that it lacks.

    Raises:
        MediaError: the sidecar names an unknown layout or one that the table does not have, the table has one sensor
            only, or two columns of one name that is needed.
    """
    name, layout = sidecar.layout, table.layout
    if name is not None and name not in LAYOUTS:
        raise MediaError(f"sidecar layout {name!r}: expected one of {', '.join(sorted(LAYOUTS))}")
    presets = [preset for preset in PRESETS if layout is None and name in (None, preset.name)]
    preset = next((preset for preset in presets if _fits(preset, table, is_said=name is not None)), None)
    if preset is not None:
        table, layout = _without_wrong_unit(*_apply(preset, table))
    if name is not None and (layout is None or layout.name != name):
        if any(preset.name == name for preset in PRESETS):
            raise MediaError(f"sidecar layout {name!r}: its columns are not among {', '.join(table.columns)[:160]}")
        raise MediaError(f"sidecar layout {name!r}: the other files of the recording are not beside this one")
    if layout is None and not sidecar.axes:
        _check_names(table)
    if twice := [axis for axis in sidecar.axes if axis in table.repeated]:
        raise MediaError(f"several columns are named {twice[0]!r}: list the positions of the six axes instead")
    if layout is None:
        return table, sidecar
    table, layout = _with_frame(table, layout, sidecar)
    return replace(table, notes=(f"layout: {layout.name}", *table.notes)), merge_layout(sidecar, layout)


def _without_wrong_unit(table: Table, layout: Layout) -> tuple[Table, Layout]:
    """Return a layout without the unit of the accelerometer if the values clearly have another one."""
    said = layout.units.get("accelerometer")
    if said is None:
        return table, layout
    seen = gravity_unit(measure(_vectors(table, layout.axes[:3]), layout.sample_rate_hz or USUAL_RATE_HZ))
    if seen in (None, unit_of(said, ACCELERATION)):
        return table, layout
    units = {sensor: unit for sensor, unit in layout.units.items() if sensor != "accelerometer"}
    note = f"{layout.name} writes the accelerometer in {said}, but its values are in {seen}"
    return replace(table, notes=(*table.notes, note)), replace(layout, units=units)


def _vectors(table: Table, names: Sequence[str]) -> NDArray[np.float64]:
    """Return columns side by side, float64 (n, columns)."""
    return np.column_stack([np.asarray(table.columns[name], np.float64) for name in names])


def _with_frame(table: Table, layout: Layout, sidecar: Sidecar) -> tuple[Table, Layout]:
    """Return a layout of apps on iOS with its frame, by the app's files or by roll and pitch, and a note if it matters.

    Axes that a sidecar lists may have signs already: they have no other frame than its own.
    """
    attitude = next((preset.attitude for preset in PRESETS if preset.name == layout.name), ())
    if not attitude or sidecar.frame is not None:
        return table, layout
    frame, source = layout.frame, layout.frame_source
    if sidecar.axes:
        frame = None
    elif frame is None:
        frame, source = _frame_by_values(table, layout, attitude), "roll and pitch"
    notes = table.notes
    if frame == "ios":
        notes = (*notes, f"frame: ios, by {source}: the accelerometer is negated")
    elif frame is None and not any(str(axis).startswith("-") for axis in sidecar.axes[:3]):
        notes = (*notes, SIGNS_UNKNOWN)
    return replace(table, notes=notes), replace(layout, frame=frame)


def _frame_by_values(table: Table, layout: Layout, attitude: Sequence[str]) -> str | None:
    """Return the frame that roll and pitch show; None if they are missing or do not."""
    roll, pitch = (_find(pattern, list(table.columns)) for pattern in attitude)
    columns = find_columns(list(table.columns), layout.axes)
    if roll is None or pitch is None or columns is None:
        return None
    names = (*columns.axes[:3], roll, pitch)
    if len({len(table.columns[name]) for name in names}) > 1:
        return None
    return frame_by_attitude(_vectors(table, names[:3]), *_vectors(table, names[3:]).T)


def merge_layout(sidecar: Sidecar, layout: Layout) -> Sidecar:
    """Return a sidecar with the facts of a layout that it lacks; units belong to the layout's own axes."""
    is_timed = sidecar.time is not None or layout.time is not None
    return replace(
        sidecar,
        axes=sidecar.axes or layout.axes,
        units=sidecar.units if sidecar.axes else {**layout.units, **sidecar.units},
        time=layout.time if sidecar.time is None else sidecar.time,
        sample_rate_hz=sidecar.sample_rate_hz or (None if is_timed else layout.sample_rate_hz),
        frame=sidecar.frame or layout.frame,
    )


def layout_by_names(names: Sequence[str], preamble: Sequence[str]) -> str | None:
    """Return the name of the layout that a header has, "a or b" where the values decide; None if it has none."""
    table = Table({name: np.empty(0) for name in names}, preamble=tuple(preamble))
    fitting = []
    for preset in PRESETS:
        if _fits(replace(preset, check=None), table, is_said=False):
            fitting.append(preset.name)
            if preset.check is None:
                break
    return " or ".join(dict.fromkeys(fitting)) or None


def _check_names(table: Table) -> None:
    """Raise for one sensor only, or for a motion column whose name is repeated."""
    columns = find_columns(list(table.columns))
    if columns is None and table.lone is not None:
        raise MediaError(table.lone)
    if columns is None and table.columns and all(name.startswith("column ") for name in table.columns):
        raise MediaError(
            f"the table has {len(table.columns)} columns without names: expected 6, accelerometer x, y, z then "
            "gyroscope x, y, z, or 7 with the time first, or axes in the sidecar <file>.json"
        )
    used = () if columns is None else (*columns.axes, columns.time)
    if twice := [name for name in used if name in table.repeated]:
        raise MediaError(
            f"several columns are named {twice[0]!r}: list the positions of the six axes, numbers from 0, under axes "
            "in the sidecar <file>.json"
        )


def _fits(preset: Preset, table: Table, *, is_said: bool) -> bool:
    """Return whether a table has the columns of a layout; `is_said`: marks and other columns do not matter."""
    names = list(table.columns)
    if _axes(preset, names) is None:
        return False
    is_recognised = is_said or (
        preset.width in (None, len([name for name in names if name]))
        and (not preset.marks or any(re.search(preset.marks, line) for line in table.preamble))
        and all(any(_matches(pattern, name) for name in names) for pattern in preset.needs)
    )
    return is_recognised and (preset.check is None or preset.check(table))


def _matches(pattern: str, name: str) -> bool:
    """Return whether a name is that of a pattern, also with a unit in brackets behind it."""
    bare = re.sub(r"\s*[(\[][^()\[\]]*(?:\([^()]*\))?[)\]]\s*$", "", name)
    return any(re.fullmatch(pattern, text, re.IGNORECASE) for text in (name, bare))


def _find(pattern: str, names: Sequence[str]) -> str | None:
    return next((name for name in names if _matches(pattern, name)), None)


def _triple(pattern: str, names: Sequence[str]) -> tuple[str, ...] | None:
    """Return the three columns of a pattern; one without "{}" matches all three, in their order."""
    if "{}" in pattern:
        found = [_find(pattern.replace("{}", axis), names) for axis in "xyz"]
    else:
        found = [*[name for name in names if _matches(pattern, name)], None][:3]
    return None if None in found or len(found) < 3 else tuple(map(str, found))


def _axes(preset: Preset, names: Sequence[str]) -> tuple[str, ...] | None:
    """Return the six axes of a layout, sums as "a+b"; None if the table lacks one."""
    accelerometer = None
    for terms in preset.accelerometer:
        triples = [_triple(term, names) for term in terms]
        if all(triples):
            accelerometer = tuple("+".join(parts) for parts in zip(*(t for t in triples if t), strict=True))
            break
    gyroscope = next((triple for pattern in preset.gyroscope if (triple := _triple(pattern, names))), None)
    return None if accelerometer is None or gyroscope is None else accelerometer + gyroscope


def _apply(preset: Preset, table: Table) -> tuple[Table, Layout]:
    """Return the table with columns for the sums and the time of a layout, and the layout."""
    if preset.prepare is not None:
        table = preset.prepare(table)
    axes = _axes(preset, list(table.columns))
    assert axes is not None
    columns = table.columns | {axis: _sum(table, axis) for axis in axes}
    seconds, time = table.seconds, None
    for pattern, step_s in preset.time:
        found = [_find(part, list(table.columns)) for part in pattern.split("+")]
        name = "+".join(map(str, found))
        if None in found or not np.isfinite(values := _sum(table, name)).all():
            continue
        if step_s is not None and not table.seconds.issuperset(map(str, found)):
            start = values[:1] if values.dtype.kind in "iu" else 0.0
            values = (values - start).astype(np.float64) * step_s
        if step_s is not None:
            seconds |= {name}
        columns[name], time = values, name
        break
    notes = (*table.notes, preset.note) if preset.note else table.notes
    rate_hz = preset.rate_hz
    if preset.rate_pattern:
        said = next((match for line in table.preamble if (match := re.search(preset.rate_pattern, line))), None)
        rate_hz = float(said[1]) if said else None
    table = replace(table, columns=columns, seconds=seconds, notes=notes)
    return table, Layout(preset.name, axes, preset.units, time, None if time else rate_hz)


def _sum(table: Table, name: str) -> NDArray[Any]:
    """Return a column, or the sum of columns joined by "+"."""
    if name in table.columns:
        return table.columns[name]
    return np.asarray(sum(np.asarray(table.columns[part], np.float64) for part in name.split("+")))
