"""The commands that check, repair and rearrange a store, and check the installation."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from bindsearch.cli.options import DeviceOption, JsonOption, OnOption, StoreOption, argument, option
from bindsearch.cli.output import human_bytes, picked, plural, print_json, print_line, print_notices, show_stages
from bindsearch.errors import EXIT_SOME_FAILED, UsageError

if TYPE_CHECKING:
    from bindsearch.operations.doctor import Check

EXIT_FINDINGS = EXIT_PROBLEMS = 5
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
        data = {"findings": [*map(finding_record, report.findings)], **picked(report, "unchecked read_bytes")}
        print_json({**data, "took_s": round(report.took_s, 3)})
    else:
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
    return EXIT_FINDINGS if report.findings else 0


def compact_command(store: StoreOption = None, on: OnOption = None, json: JsonOption = False) -> None:
    """Repair the store, remove deleted rows and unreferenced files, and compact the catalog.

    Damaged vectors are discarded: run `bindsearch index` on their collection to embed them again.

    Example: bindsearch compact
    """
    from bindsearch.operations.verify.findings import finding_record
    from bindsearch.shards.connect import connect

    with connect(store, on=on) as opened, show_stages() as on_stage:
        done = opened.compact(on_stage=on_stage)
    if json:
        found = {"mended": [*map(finding_record, done.repaired)], "left": [*map(finding_record, done.remaining)]}
        print_json({**picked(done, "before_bytes after_bytes"), **found})
        return
    for one in done.repaired:
        print_line(f"repaired: {one.kind}: {one.message}")
    for one in done.remaining:
        print_line(f"remaining: {one.kind}: {one.message}")
    print_line(f"{human_bytes(done.before_bytes)} before, {human_bytes(done.after_bytes)} now")


def recover_command(store: StoreOption = None, json: JsonOption = False) -> int:
    """Rebuild a damaged, missing or outdated catalog from the snapshot that searches use.

    Nothing is embedded again. What is replaced is kept in the folder `lost` of the store. The next `bindsearch index`
    reads changed files, archives and manifests again. Exits with 3 if something was lost.

    Example: bindsearch recover --store my-store
    """
    from bindsearch.shards.connect import connect

    with show_stages() as on_stage:
        done = connect(store).recover(on_stage=on_stage)
    held = f"{plural(done.items, 'item')}, {plural(done.segments, 'segment')}"
    if json:
        print_json(picked(done, "reason source items segments losses"))
    elif done.reason:
        print_line(f"recovered from the {done.source}: {held}")
        print_line(f"reason: {done.reason}")
        for loss in done.losses:
            print_line(f"lost: {loss}")
    else:
        print_line(f"the catalog is sound: {held}")
    return EXIT_SOME_FAILED if done.losses else 0


def calibrate_command(
    pairs: Annotated[
        Path | None, argument("PAIRS", "CSV file with the columns query and answer; default: the captions in sidecars.")
    ] = None,
    device: DeviceOption = "auto",
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Fit the match of hits to queries whose answers you know, and keep it in the store.

    A query is a text, or a file after its modality: `image:dog.jpg`. An answer is the path of an indexed file; several
    rows may give several answers, an empty one says that nothing answers the query. Give some hundreds.

    Example: bindsearch calibrate answers.csv
    """
    from bindsearch.operations.calibrate import read_pairs
    from bindsearch.shards.connect import connect

    with connect(store, device=device) as opened:
        fitted = opened.calibrate(None if pairs is None else read_pairs(pairs))
    if json:
        pairs_data = [
            {**picked(pair, "source target queries matches"), "is_fitted": pair.coefficients is not None}
            for pair in fitted
        ]
        print_json({"pairs": pairs_data})
        return
    for pair in fitted:
        result = "fitted" if pair.coefficients is not None else "too few, as before"
        counts = f"{plural(pair.matches, 'answer')} of {plural(pair.queries, 'query')}".replace("querys", "queries")
        print_line(f"{pair.source:8} -> {pair.target:8} {counts}: {result}")


def reshard_command(
    shards: Annotated[int, option("--shards N", "Number of shards.", min=1)],
    device: DeviceOption = "auto",
    store: StoreOption = None,
    on: OnOption = None,
    json: JsonOption = False,
) -> None:
    """Distribute the items of a sharded store to another number of shards. Nothing is embedded again.

    Items get new ids. If it is interrupted, run it again; searches use the old shards until it is done.

    Example: bindsearch reshard --shards 128 --store /data/store
    """
    from bindsearch.shards.connect import connect
    from bindsearch.shards.store import ShardedStore

    with connect(store, on=on, device=device) as opened, show_stages() as on_stage:
        if not isinstance(opened, ShardedStore):
            opened.config  # noqa: B018  (raises if there is no store)
            raise UsageError(f"the store {opened.path} has no shards: index into another folder with --shards {shards}")
        done = opened.reshard(shards, on_stage=on_stage)
    if json:
        counted = picked(done, "before after items segments failures notices")
        print_json({**counted, "took_s": round(done.took_s, 3)})
        return
    print_line(
        f"{plural(done.after, 'shard')}, {done.before} before: {plural(done.items, 'item')}, "
        f"{plural(done.segments, 'segment')}"
    )
    print_notices(done.notices)


def relocate_command(
    old: Annotated[str, argument("OLD", "Folder that was indexed, or one above it.")],
    new: Annotated[str, argument("NEW", "Folder that it is now.")],
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Change the root of a collection whose folder was moved. Nothing is embedded again.

    A sample of its files is looked up in the new folder.

    Example: bindsearch relocate ~/Media /mnt/disk/Media
    """
    from bindsearch.shards.connect import connect

    report = connect(store).relocate(old, new)
    if json:
        collections = {str(before): after for before, after in report.collections.items()}
        print_json({"collections": collections, **picked(report, "items sampled found")})
        return
    for before, after in report.collections.items():
        print_line(f"{before} is now {after}")
    print_line(f"{plural(report.items, 'item')}; {report.found} of {report.sampled} sampled files found there")


def forget_command(
    paths: Annotated[
        list[str] | None, argument("PATH", "Files, folders, archives or archive members (photos.zip/a.jpg).")
    ] = None,
    item: Annotated[list[int] | None, option("--item ID", "Item id. Repeatable.")] = None,
    store: StoreOption = None,
    on: OnOption = None,
    json: JsonOption = False,
) -> None:
    """Remove files or folders from the store, with their recorded failures; the files on disk are kept.

    The next `index` of the folder adds them again, unless a .bindsearchignore file there excludes them.

    Example: bindsearch forget ~/Media/old
    """
    from bindsearch.shards.connect import connect

    with connect(store, on=on) as opened:
        forgotten = opened.forget(*(paths or ()), item_ids=item or ())
    if json:
        print_json({"forgotten": forgotten})
    else:
        print_line(f"removed {plural(forgotten, 'item')}; run `bindsearch compact` to free disk space")


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
