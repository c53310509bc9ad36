"""Indexing of folders as they change."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from bindsearch.errors import StoreLockedError, UsageError
from bindsearch.ingest.scan.file_events import watch_changes
from bindsearch.ingest.targets import changed_targets
from bindsearch.ingest.workers.pool import Decoders
from bindsearch.operations.context import StoreContext
from bindsearch.operations.index import FindTargets, IndexRequest, at_paths, index_targets
from bindsearch.reports import IndexReport

LOCKED_SECONDS = 0.5
"""Delay in seconds between two attempts to get the writer's lock."""


def watch_paths(
    context: StoreContext,
    paths: Sequence[Path],
    request: IndexRequest,
    on_report: Callable[[IndexReport], None],
    stop: threading.Event,
    *,
    rescan_s: float,
    polling: bool,
) -> None:
    """Index folders, then their changes, until `stop` is set.

    While another process is writing, changes wait.

    Args:
        context: Store, encoder and GPUs.
        paths: Folders to watch.
        request: Options of each run.
        on_report: Called with the report of each run.
        stop: Event that ends the watch.
        rescan_s: Interval of full rescans in seconds.
        polling: Poll for changes (for network file systems without change events).
    """
    with Decoders(context.encoder, context.decode) as decoders:
        decoders.check_libraries()
        skipped = frozenset({context.path.resolve()})
        changes = watch_changes(paths, stop=stop, skipped_folders=skipped, rescan_s=rescan_s, polling=polling)
        with closing(changes):
            for change in changes:
                find = at_paths([path for path in paths if path.is_dir()], context.path)
                if not change.rescan:
                    find = _at_changes(change.paths, context.path)
                while not stop.is_set():
                    try:
                        on_report(index_targets(context, find, request, decoders))
                    except StoreLockedError:
                        stop.wait(LOCKED_SECONDS)
                        continue
                    except UsageError as error:  # for example, an ignore file that is being written
                        on_report(IndexReport(notices=[str(error)]))
                    break


def _at_changes(paths: Sequence[Path], store: Path) -> FindTargets:
    """Return a function that finds the targets of changed paths."""
    return lambda catalog, _: changed_targets(paths, catalog.collections(), store)
