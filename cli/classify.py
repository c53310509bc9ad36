"""`bindsearch classify`: classes of files, and columns of classes of a store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from bindsearch.cli import options as opts
from bindsearch.cli.options import argument, option
from bindsearch.cli.output import picked, plural, print_json, print_line, print_message, print_notices
from bindsearch.cli.progress import show_rows
from bindsearch.errors import EXIT_SOME_FAILED, UsageError

if TYPE_CHECKING:
    from bindsearch.encoders.zero_shot import ClassNames
    from bindsearch.operations.classify.column import ColumnReport
    from bindsearch.operations.classify.files import ClassifiedFile

SHOWN_LABELS = 50
"""Labels of a column whose numbers of items are printed, most frequent first."""


def classify_command(
    files: Annotated[
        list[str] | None, argument("[FILE...]", "Files of any modality; image:FILE and FILE@10s-20s as in queries.")
    ] = None,
    labels: Annotated[
        str | None, option("--labels LABEL,LABEL", "Names of the classes; cat|kitten is one class of two names.")
    ] = None,
    labels_file: Annotated[
        Path | None, option("--labels-file FILE", "Text file of classes instead: one a line, its names separated by |.")
    ] = None,
    templates: Annotated[
        str | None,
        option(
            "--templates SET",
            "Templates of the names: general (default), imagenet, sound, motion, none, or a file with one a line.",
        ),
    ] = None,
    encoder: Annotated[
        str | None, option("--encoder NAME", "Encoder of the files; default: that of the store, mini if there is none.")
    ] = None,
    top: Annotated[int, option("--top N", "Number of classes to show for each file.")] = 5,
    modality: Annotated[
        str | None,
        option("--modality M", "Modality of the files, or of the segments of a column; default: that of each file."),
    ] = None,
    imu_rate: opts.ImuRateOption = None,
    write_column: Annotated[
        str | None,
        option(
            "--write-column NAME",
            "Write the class of each item of the store into a column for --where; without labels: of new items, "
            "with the labels that it has.",
        ),
    ] = None,
    write_probability: Annotated[
        str | None, option("--write-probability NAME", "With --write-column: column of the probability.")
    ] = None,
    remove_column: Annotated[str | None, option("--remove-column NAME", "Remove a column that was written.")] = None,
    collection: opts.CollectionOption = None,
    dry_run: Annotated[bool, option("--dry-run", "With --write-column: count the classes, write nothing.")] = False,
    device: opts.DeviceOption = "auto",
    store: opts.StoreOption = None,
    json: opts.JsonOption = False,
) -> int:
    """Name the classes of files by labels in words, or write the class of each item of a store into a column.

    Nothing is trained: a class is a text in the encoder's space, and a file has the class whose text is nearest. A
    column is made from the stored vectors, without reading files.

    Examples: bindsearch classify photo.jpg sound.wav --labels dog,cat,car
    bindsearch classify --write-column animal --labels-file animals.txt --collection photos
    bindsearch search "at night" --where "animal = 'dog'"
    """
    of_columns = {"--write-probability": write_probability, "--collection": collection, "--dry-run": dry_run or None}
    of_files = {"--encoder": encoder, "--imu-rate": imu_rate}
    _check_options(bool(files), write_column, remove_column, of_columns, of_files)
    from bindsearch.shards.connect import connect

    if remove_column is not None:
        connect(store).remove_column(remove_column)
        if json:
            print_json({"removed": remove_column.lower()})
        else:
            print_line(f"removed the column {remove_column.lower()}")
        return 0
    classes = _read_labels(labels, labels_file, needed=write_column is None)
    opened = connect(store, device=device)
    if write_column is not None:
        with show_rows("classifying") as (on_rows, _):
            report = opened.classify(
                classes,
                column=write_column,
                probability_column=write_probability,
                templates=templates,
                collections=collection or (),
                modality=modality,
                dry_run=dry_run,
                on_rows=on_rows,
            )
        _print_column(report, as_json=json)
        return 0
    assert classes is not None  # they were needed
    chosen: dict[str, Any] = {"top": top, "modality": modality, "imu_rate_hz": imu_rate}
    chosen["templates"] = templates or "general"
    with show_rows("classifying") as (on_rows, _):
        chosen["on_rows"] = on_rows
        if encoder is None and opened.exists:
            classified = opened.classify_files(files or (), classes, **chosen)
        else:
            from bindsearch.operations.classify.files import classify

            classified = classify(files or (), classes, encoder=encoder or "mini", device=device, **chosen)
    return _print_files(classified, as_json=json)


def _check_options(
    has_files: bool, column: str | None, removed: str | None, of_columns: Mapping[str, Any], of_files: Mapping[str, Any]
) -> None:
    """Check that options belong together. Raises UsageError: they do not, or an option of the others is not None."""
    if removed is not None and (has_files or column is not None):
        raise UsageError("--remove-column only removes: classify in another command")
    if has_files and column is not None:
        raise UsageError("files are not written into a column: give either files or --write-column")
    if not has_files and column is None and removed is None:
        raise UsageError("nothing to classify: give files, or --write-column NAME for the items of the store")
    others = of_files if column is not None or removed is not None else of_columns
    if wrong := [name for name, given in others.items() if given not in (None, [])]:
        where = "--write-column" if others is of_columns else "files"
        raise UsageError(f"{wrong[0]} belongs to {where}: leave it out")


def _read_labels(labels: str | None, file: Path | None, *, needed: bool) -> ClassNames | None:
    """Return the classes that were given; None: none. Raises UsageError: invalid, given twice, or missing."""
    if labels is not None and file is not None:
        raise UsageError("--labels and --labels-file are both given: leave one out")
    if labels is None and file is None:
        if needed:
            raise UsageError("there are no labels: give --labels a,b,c or --labels-file FILE")
        return None
    from bindsearch.operations.classify.labels import read_labels, to_classes

    return to_classes(labels.split(",")) if labels is not None else read_labels(file or "")


def _print_files(classified: Sequence[ClassifiedFile], *, as_json: bool) -> int:
    """Print the classes of files and return the exit code."""
    from bindsearch.operations.classify.labels import ONLY_COMPARED

    failed = [file for file in classified if file.failure]
    if as_json:
        files = [
            {
                "file": file.source,
                "modality": file.modality,
                "classes": [asdict(one) for one in file.classes],
                "notices": file.notices,
                "failure": file.failure or None,
            }
            for file in classified
        ]
        print_json({"files": files, "notices": [ONLY_COMPARED]})
    else:
        for number, file in enumerate(classified):
            if file.failure:
                continue
            if number:
                print_line("")
            print_line(f"{file.source}  ({file.modality})")
            for one in file.classes:
                print_line(f"  {one.probability:6.1%}  cosine {one.cosine:6.3f}  {one.label}")
            print_notices(file.notices)
        for file in failed:
            print_message(f"failed: {file.source}: {file.failure}")
        if len(failed) < len(classified):
            print_message(f"note: {ONLY_COMPARED}")
    return EXIT_SOME_FAILED if failed else 0


def _print_column(report: ColumnReport, *, as_json: bool) -> None:
    if as_json:
        data = picked(report, "probability labels replaced items classified without_vectors cancelled")
        counted = {"counts": dict(report.counts), **picked(report, "dry_run took_s")}
        print_json({"column": report.name, **data, **counted})
        return
    from bindsearch.operations.classify.labels import ONLY_COMPARED

    for label, n in [*report.counts.items()][:SHOWN_LABELS]:
        print_line(f"{n:8}  {label}")
    if (rest := len(report.counts) - SHOWN_LABELS) > 0:
        print_line(f"          ... and {rest} more labels")
    written = "nothing was written" if report.dry_run else "replaced" if report.replaced else "written"
    print_line(
        f"column {report.name}: {plural(report.items, 'item')} with a class, {report.classified} of them new; {written}"
    )
    if report.without_vectors:
        print_message(f"note: {plural(report.without_vectors, 'item')} without a vector of this modality have no class")
    if report.cancelled:
        print_message(f"note: {plural(report.cancelled, 'item')} whose segments have opposite vectors have no class")
    print_message(f"note: {ONLY_COMPARED}")
    if not report.dry_run:
        print_message(
            "note: files that are indexed from now on have no class until it is written again: bindsearch classify "
            f"--write-column {report.name}"
        )
