"""`bindsearch locate`: where files answer a query."""

from __future__ import annotations

import json as json_format
import os
import shlex
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from bindsearch.arguments import looks_like_path, shown
from bindsearch.atomic import atomic_write
from bindsearch.cli import options as opts
from bindsearch.cli.options import argument, option
from bindsearch.cli.output import check_output, json_text, print_json, print_message
from bindsearch.cli.parse import read_terms, read_words
from bindsearch.cli.progress import show_rows
from bindsearch.cli.settings.complete import complete_detectors, complete_encoders, complete_paths
from bindsearch.errors import EXIT_SOME_FAILED, UsageError
from bindsearch.search.query import PREFIXES

if TYPE_CHECKING:
    from bindsearch.operations.locate.locate import LocatedFile

EXIT_NOTHING_FOUND = 1
PNG, JSON = ".png", ".json"
MAX_OWN_BYTES = 1 << 30


def locate_command(
    words: Annotated[
        list[str] | None,
        argument(
            "[QUERY] [FILE...]",
            "Query, then files to look in: pictures, videos, sounds, motion; depth:FILE and FILE@10s-20s as in "
            "queries. With a query by options, all are files.",
        ),
    ] = None,
    *,
    media: opts.MediaTerms,
    query: opts.QueryOption = None,
    like: Annotated[
        list[str] | None,
        option("--like ITEM", "Look in an indexed item, by id or path. Repeatable.", complete_paths),
    ] = None,
    threshold: Annotated[
        float | None,
        option(
            "--threshold X",
            "Least relevance of boxes and spans, above 0 and at most 1; default: 0.9, with --detector 0.2.",
        ),
    ] = None,
    against: Annotated[
        list[str] | None,
        option(
            "--against QUERY",
            "Compare the query with this, such as 'a wall' or audio:rain.wav, in place of the built-in texts. "
            "Repeatable.",
        ),
    ] = None,
    detail: Annotated[
        int, option("--detail N", "1 to 4: finer maps and curves, which take 9, 25 or 49 times as long.")
    ] = 1,
    max_boxes: Annotated[int, option("--max-boxes N", "Most boxes or spans of a file.")] = 20,
    out: Annotated[
        Path | None,
        option("--out FILE", "Write a drawing of one file (.png), or the result with heat maps (.json)."),
    ] = None,
    encoder: Annotated[
        str | None, option("--encoder NAME", "Encoder; default: that of the store, else mini.", complete_encoders)
    ] = None,
    detector: Annotated[
        str | None,
        option(
            "--detector NAME",
            "Boxes of this detector, such as owlv2:ORG/NAME; --encoder embeds the query if it shares its space.",
            complete_detectors,
        ),
    ] = None,
    imu_rate: opts.ImuRateOption = None,
    device: opts.DeviceOption = "auto",
    store: opts.StoreOption = None,
    json: opts.JsonOption = False,
) -> int:
    """Show where files answer a query: boxes of pictures and videos, spans of sounds and motion.

    A part answers if its relevance reaches the threshold: how much nearer it is to the query than to texts such as
    "object" and "background", or to what --against gives. The drawing and the JSON record the query and the model.
    Exits with 1 if nothing reaches the threshold.

    Examples: bindsearch locate "a dog" photo.jpg clip.mp4
    bindsearch locate --audio bark.wav photo.jpg --out bark.png
    bindsearch locate "a dog barking" walk.wav --against "a car" --against "rain"
    bindsearch locate "a dog" photo.jpg --detector owlv2:google/owlv2-base-patch16-ensemble
    """
    has_query = any((*vars(media).values(), query))
    given = words or []
    if not has_query:
        _check_order(given)
    asked, files = (None, given) if has_query else (given[:1], given[1:])
    if not has_query and not asked:
        raise UsageError('there is no query: give one before the files, such as bindsearch locate "a dog" photo.jpg')
    sources = [*files, *(f"like:{item}" for item in like or ())]
    if not sources:
        raise UsageError("there is nothing to look in: give files after the query, or --like ITEM")
    if out is not None:
        asked_files = [str(one) for given in vars(media).values() for one in given or () if isinstance(one, Path)]
        check_output("--out", out, (PNG, JSON), [*asked_files, *sources])
        _check_own(out)
        if out.suffix.lower() == PNG and len(sources) > 1:
            raise UsageError(f"--out {out}: a drawing shows one file: give one, or a name that ends in .json")
    terms = read_terms(asked, opts.TermOptions(**vars(media), query=query))
    from bindsearch.cli.locate.output import files_data, print_files
    from bindsearch.operations.locate.by_detector import DETECTOR_THRESHOLD, locate_by_detector
    from bindsearch.operations.locate.locate import locate
    from bindsearch.operations.locate.relevance import THRESHOLD, LocateOptions
    from bindsearch.shards.connect import connect

    negatives = tuple(map(read_words, against or ()))
    if threshold is None:
        threshold = THRESHOLD if detector is None else DETECTOR_THRESHOLD
    options = LocateOptions(threshold, negatives, detail, max_boxes)
    with show_rows("locating") as (_, on_stage), connect(store, device=device) as opened:
        asking: dict[str, Any] = {"options": options, "imu_rate_hz": imu_rate, "on_stage": on_stage}
        if detector is not None and opened.exists:
            located = opened.locate_by_detector(terms, sources, detector, encoder=encoder, **asking)
        elif detector is not None:
            located = locate_by_detector(terms, sources, detector, encoder=encoder, device=device, **asking)
        elif encoder is None and opened.exists:
            located = opened.locate_files(terms, sources, **asking)
        else:
            located = locate(terms, sources, encoder=encoder or "mini", device=device, **asking)
    is_written = out is not None and _write(out, located, imu_rate)
    if json:
        print_json(files_data(located))
    else:
        print_files(located)
    if is_written:
        print_message(f"written: {out}")
    if any(file.failure for file in located):
        return EXIT_SOME_FAILED
    has_any = any(file.located is not None and (file.located.boxes or file.located.spans) for file in located)
    return 0 if has_any else EXIT_NOTHING_FOUND


def _check_order(words: Sequence[str]) -> None:
    """Check that no word after the first one is a part of the query.

    Raises:
        UsageError: one names no file and does not look like a path, as in `photo.jpg "a dog"` and `a dog photo.jpg`.
    """
    other = next((word for word in words[1:] if not _names_file(word)), None)
    if other is None:
        return
    files = [word for word in words if _names_file(word)]
    query = " ".join(word for word in words if word not in files) or "a dog"
    line = shlex.join(["bindsearch", "locate", query, *(files[:1] or ["FILE"])]) + (" ..." if files[1:] else "")
    raise UsageError(f"there is no file {shown(other)}: the query comes first and has to be quoted, such as {line}")


def _names_file(word: str) -> bool:
    """Return whether a word is a file, or looks like one that does not exist, whose failure says so."""
    path, at, span = word.rpartition("@")
    is_named = word.partition(":")[0] in PREFIXES or (at and path and span[:1].isdecimal())
    return bool(is_named) or looks_like_path(word) or os.path.lexists(word)


def _check_own(out: Path) -> None:
    """Check that what is at a path, if anything, is a file that `locate` wrote. Raises UsageError: it is not."""
    if not os.path.lexists(out):
        return
    from bindsearch.operations.recording import read_record
    from bindsearch.small_files import read_small_file

    record: Any = None
    if out.suffix.lower() == PNG:
        record = read_record(out)
    else:
        with suppress(OSError, ValueError, RecursionError):
            record = json_format.loads(read_small_file(out, MAX_OWN_BYTES))
    if not isinstance(record, dict) or record.get("command") != "locate":
        raise UsageError(f"--out {out} is there, and `locate` has not written it: give another name")


def _write(out: Path, located: Sequence[LocatedFile], imu_rate_hz: float | None) -> bool:
    """Write the drawing of a file, or the result as JSON, and return whether there is one: of unreadable files none.

    An existing file is replaced at once or not at all. Raises UsageError: it cannot be, or is another one meanwhile.
    """
    from bindsearch.cli.locate.output import files_data

    _check_own(out)
    try:
        if out.suffix.lower() == JSON:
            with atomic_write(out) as file:
                text = json_text(files_data(located))
                file.write(text.encode("utf-8", "backslashreplace"))  # names of files need not be UTF-8
        elif located[0].located is not None:
            from bindsearch.ingest.media.options import DecodeOptions
            from bindsearch.operations.locate.drawing import write_drawing

            write_drawing(located[0], out, DecodeOptions(imu_rate_hz=imu_rate_hz))
        else:
            print_message(f"note: {out} is not written: there is nothing to draw")
            return False
    except (OSError, ValueError) as error:  # a record that is too long is a ValueError
        raise UsageError(f"--out {out} cannot be written: {getattr(error, 'strerror', None) or error}") from error
    return True
