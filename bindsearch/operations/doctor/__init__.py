"""Check of an installation: machine, libraries, codecs, encoders, store and system limits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bindsearch.operations.doctor.libraries import Check, Level, check_codecs, check_installed
from bindsearch.operations.doctor.machine import check_disk, check_gpu, check_machine, check_watch_limits
from bindsearch.operations.doctor.models import check_encoders, check_store, embed_samples

__all__ = ["Check", "Level", "diagnose"]


def diagnose(store: Path, *, deep: bool = False) -> Iterator[Check]:
    """Check everything that a run needs. Nothing is written, and torch is not imported unless `deep` is set.

    Args:
        store: Folder of the store to check; it may be missing.
        deep: Import torch and the libraries that depend on it, and embed one tiny item of each modality.

    Yields:
        One finding after the other.
    """
    yield from check_machine()
    yield from check_installed(deep=deep)
    yield from check_gpu(deep=deep)
    yield from check_codecs()
    yield from check_encoders()
    yield from check_store(store)
    yield from check_disk(store)
    yield from check_watch_limits()
    if deep:
        yield from embed_samples(store)
