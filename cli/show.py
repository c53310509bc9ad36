"""`bindsearch show`: what reaches the encoder of one file, and why."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from bindsearch.cli.options import DecodingOptions, JsonOption, StoreOption, argument, option
from bindsearch.cli.output import can_print, check_output, picked, print_json, print_line, print_message
from bindsearch.cli.parse import decoding
from bindsearch.cli.settings.complete import complete_encoders
from bindsearch.errors import EXIT_SOME_FAILED, UsageError
from bindsearch.types import clock_span

if TYPE_CHECKING:
    from bindsearch.operations.show.curves import Curve
    from bindsearch.operations.show.show_file import ShownFile

SPARK_CELLS = 40
SHOWN_SEGMENTS = 12
SHOWN_TEXT_CHARACTERS = 2000
LABEL = 12


def show_command(
    file: Annotated[str, argument("FILE", "File, also as MODALITY:FILE or FILE@10s-20s, as in a query.")],
    png: Annotated[Path | None, option("--png OUT", "Draw the chosen segment into this PNG file.")] = None,
    segment: Annotated[int | None, option("--segment N", "Number of the segment to show; default: 1.")] = None,
    at: Annotated[float | None, option("--at S", "Show the segment at this time instead, in seconds.")] = None,
    root: Annotated[
        Path | None,
        option(
            "--root DIR",
            "Folder that is to be indexed; default: the collection that contains the file, else the nearest "
            "folder above it with a .bindsearch.toml, else its own.",
        ),
    ] = None,
    encoder: Annotated[
        str | None, option("--encoder NAME", "Encoder; default: that of the store, else mini.", complete_encoders)
    ] = None,
    *,
    decoded: DecodingOptions,
    store: StoreOption = None,
    json: JsonOption = False,
) -> int:
    """Show what reaches the encoder for a file, and why: decoded exactly as `index` does, but nothing is written.

    Prints the modality and what decided it, notes on what was assumed or converted, measured values, the segments, and
    the content of one: curves of motion, depth in metres, thermal values, sound level, times of frames, passages. A
    file that `index` leaves out is reported with the reason; exits with 3 if indexing the file would fail.

    Examples: bindsearch show walk.csv --png walk.png
    bindsearch show depth:scan.png --json
    bindsearch show tour.mp4 --at 65
    """
    from bindsearch.shards.connect import connect

    if png is not None:
        check_output("--png", png, (".png",), [file])
    with connect(store, encoder=encoder) as opened:
        shown = opened.show(file, segment=segment, at_s=at, root=root, **decoding(decoded))
    drawn = None if shown.chosen is None else png
    if drawn is not None:
        from bindsearch.atomic import atomic_write
        from bindsearch.operations.show.picture import draw_file

        picture = draw_file(shown)
        try:
            with atomic_write(drawn) as target:
                picture.save(target, "PNG")
        except OSError as error:
            raise UsageError(f"--png {drawn} cannot be written: {error.strerror or error}") from error
    if json:
        print_json(_facts(shown, drawn))
    else:
        _print(shown)
    if drawn is not None and (total := sum(shown.counts.values())) > 1:
        print_message(f"note: {png} shows segment {shown.number} of {total}; choose another one by --segment or --at")
    if png is not None and drawn is None:
        print_message(f"note: {png} is not written: the file has no segment to draw")
    if shown.problem:
        print_message(f"failed: {shown.path}: {shown.problem}")
    return EXIT_SOME_FAILED if shown.problem else 0


def _facts(shown: ShownFile, png: Path | None) -> dict[str, Any]:
    """Return a file for `--json`."""
    return {
        **picked(shown, "path root encoder modality why"),
        "problem": shown.problem or None,
        "notes": shown.notes,
        "measured": dict(shown.measured),
        "counts": dict(shown.counts),
        "segments": [
            {**picked(one, "modality start_s end_s text"), "left_out": one.left_out or None} for one in shown.segments
        ],
        "shown": None if shown.chosen is None else _content_facts(shown),
        "png": None if png is None else png.absolute(),
    }


def _content_facts(shown: ShownFile) -> dict[str, Any]:
    """Return the content of the chosen segment."""
    from bindsearch.media import Frames, Motion, Sound
    from bindsearch.operations.show.curves import curves_of, size_of

    assert shown.chosen is not None
    media = shown.chosen.media
    curves = []
    for curve in curves_of(media):
        low, median, high = curve.summary()
        curves.append({"name": curve.name, "unit": curve.unit, "min": low, "median": median, "max": high})
    return {
        "segment": shown.number,
        "size": size_of(media),
        "sample_rate_hz": float(media.sample_rate_hz) if isinstance(media, Motion | Sound) else None,
        "times_s": media.times_s.tolist() if isinstance(media, Frames) else None,
        "curves": curves,
    }


def _print(shown: ShownFile) -> None:
    """Print a file as text."""
    print_line(str(shown.path))
    if shown.modality is not None:
        _print_row("modality", f"{shown.modality} ({shown.why})")
    elif not shown.problem:
        _print_row("left out", shown.why)
    _print_row("root", str(shown.root))
    for number, note in enumerate(shown.notes):
        _print_row("" if number else "notes", note)
    if shown.measured:
        from bindsearch.operations.show.curves import MEASURED_UNITS

        values = (f"{name} {value:.6g} {MEASURED_UNITS.get(name, '')}" for name, value in shown.measured.items())
        _print_row("measured", ", ".join(value.strip() for value in values))
    if shown.chosen is None:
        return
    _print_row("segments", ", ".join(f"{count} {modality}" for modality, count in shown.counts.items()))
    _print_segments(shown)
    _print_content(shown)


def _print_row(label: str, text: str) -> None:
    print_line(f"{label:{LABEL}}{text}")


def _print_segments(shown: ShownFile) -> None:
    """Print the first segments, if there are several, and those after them as a count."""
    total = sum(shown.counts.values())
    if total == 1:
        return
    for number, one in enumerate(shown.segments[:SHOWN_SEGMENTS], 1):
        text = "" if one.text is None else " ".join(one.text.split())[:80]
        place = f"{one.modality}{clock_span(one.start_s, one.end_s)}"
        reason = f"no vector: {one.left_out}" if one.left_out else ""
        _print_row(f"{number:6}", "  ".join(part for part in (place, text, reason) if part))
    if total > SHOWN_SEGMENTS:
        _print_row("", f"... and {total - SHOWN_SEGMENTS} more (--json lists them)")


def _print_content(shown: ShownFile) -> None:
    """Print the content of the chosen segment."""
    from bindsearch.media import Frames
    from bindsearch.operations.show.curves import curves_of, size_of

    piece = shown.chosen
    assert piece is not None
    span = clock_span(piece.start_s, piece.end_s)
    _print_row(f"segment {shown.number}", f"{piece.modality}{span}, {size_of(piece.media)}")
    if 0 < shown.number <= len(shown.segments) and (reason := shown.segments[shown.number - 1].left_out):
        _print_row("", f"no vector: {reason}")
    if isinstance(piece.media, Frames):
        times = ", ".join(f"{time_s:.2f}" for time_s in piece.media.times_s[:20])
        more = ", ..." if len(piece.media.times_s) > 20 else ""
        _print_row("", f"frames at {times}{more} s")
    curves = curves_of(piece.media)
    width = max((len(curve.name) for curve in curves), default=0)
    for curve in curves:
        low, median, high = curve.summary()
        numbers = f"{low:.4g} to {high:.4g} {curve.unit}".rstrip()
        _print_row("", f"{curve.name:{width}}  {_spark(curve)}  {numbers}, median {median:.4g}")
    if piece.text is not None:
        for line in piece.text[:SHOWN_TEXT_CHARACTERS].splitlines():
            _print_row("", line)
        if len(piece.text) > SHOWN_TEXT_CHARACTERS:
            _print_row("", "...")


def _spark(curve: Curve) -> str:
    """Return a curve over time, or the histogram of pixels, as one line of blocks."""
    from bindsearch.operations.show.curves import binned

    blocks = "▁▂▃▄▅▆▇█" if can_print("▁█") else "_.,-~+*#"
    bins = binned(curve.values, SPARK_CELLS, is_series=curve.is_series)
    low, high = float(bins.min()), float(bins.max())
    steps = (bins - low) / (high - low) * (len(blocks) - 1) if high > low else bins * 0
    return "".join(blocks[round(step)] for step in steps.tolist())
