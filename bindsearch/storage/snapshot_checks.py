"""Checks of the files of snapshots, and the error that a damaged one raises."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Self

from bindsearch.environment import raise_installation_fault
from bindsearch.errors import SnapshotDamagedError, StoreError
from bindsearch.small_files import is_not_regular

REMEDY = "run `bindsearch compact` to rebuild it"

SMALL_FILE_BYTES = 4 << 20
"""Size below which a file is checked at once: that takes a millisecond, and threads have to be started."""

CHECK_THREADS = 2


class Checks:
    """Checks of mapped files: those of large ones run in threads, beside the block of a `with` statement.

    The block must read nothing but numbers: texts of a damaged file may end the process. At its end all checks are
    awaited; if one finds damage, SnapshotDamagedError is raised, also in place of an error of the block.
    """

    def __init__(self) -> None:
        """Start with no checks."""
        self._pool: ThreadPoolExecutor | None = None
        self._running: list[Future[None]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        is_interrupted = kind is not None and not issubclass(kind, Exception)
        with suppress(SnapshotDamagedError, StoreError) if is_interrupted else nullcontext():
            self.wait()

    def run(self, path: Path, size_bytes: int, check: Callable[[], None]) -> None:
        """Run a check of the file at `path`, which raises any error for damage.

        Raises:
            SnapshotDamagedError: the file is small, and damaged.
        """

        def checked() -> None:
            with damage_told(path):
                check()

        if size_bytes < SMALL_FILE_BYTES:
            checked()
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(CHECK_THREADS, thread_name_prefix="check")
        self._running.append(self._pool.submit(checked))

    def wait(self) -> None:
        """Wait for all checks.

        Raises:
            SnapshotDamagedError: a file is damaged.
        """
        try:
            for running in self._running:
                running.result()
        finally:
            self._running.clear()
            if self._pool is not None:
                self._pool.shutdown()
                self._pool = None


@contextmanager
def damage_told(path: Path) -> Iterator[None]:
    """Tell damage of a file that is read in the block from an error that says nothing about its content.

    Raises:
        SnapshotDamagedError: the file is missing or damaged.
        StoreError: it cannot be read now.
    """
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        raise SnapshotDamagedError(f"snapshot file {path} is missing: {REMEDY}") from error
    except Exception as error:
        raise_installation_fault(error)
        if isinstance(error, StoreError | MemoryError):
            raise
        # Arrow's own errors have no number.
        if isinstance(error, OSError) and error.errno is not None and not is_not_regular(error):
            raise StoreError(f"snapshot file {path} cannot be read ({error.strerror or error})") from error
        raise SnapshotDamagedError(f"snapshot file {path} is damaged: {REMEDY}") from error
