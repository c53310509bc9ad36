"""Indexes a folder with the null encoder in small batches; run by tests that kill it or search beside it.

python indexing_child.py STORE FOLDER [--kill-at N] [--pause SECONDS] [--log FILE]

--kill-at: SIGKILL itself at the Nth sync of a file or folder. --pause: sleep after each commit.
--log: append the number of items after each commit. Prints the number of syncs at the end.
"""

import argparse
import os
import signal
import sys
import time
from pathlib import Path

import bindsearch as bs
from bindsearch.ingest import pipeline, writer


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("store", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kill-at", type=int, default=0)
    parser.add_argument("--pause", type=float, default=0.0)
    parser.add_argument("--log", type=Path)
    arguments = parser.parse_args()
    pipeline.COMMIT_SEGMENTS = 25
    writer.MAX_SMALL_FILES, writer.MAX_PARTS = 3, 4  # so that merges and new bases are among what is killed
    real_sync, syncs = os.fsync, 0
    real_commit, items = writer.Writer.commit, 0

    def sync(descriptor: int) -> None:
        nonlocal syncs
        syncs += 1
        if syncs == arguments.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        real_sync(descriptor)

    def commit(self: writer.Writer, batch: writer.StagedBatch) -> None:
        nonlocal items
        items += len(batch.items)
        if arguments.log:  # before the commit: a reader may see it at once
            with arguments.log.open("a") as log:
                log.write(f"{items}\n")
        real_commit(self, batch)
        time.sleep(arguments.pause)

    os.fsync = sync
    writer.Writer.commit = commit  # type: ignore[method-assign]
    with bs.connect(arguments.store, encoder="null") as store:
        store.index(arguments.folder)
    sys.stdout.write(f"{syncs}\n")


if __name__ == "__main__":
    main()
