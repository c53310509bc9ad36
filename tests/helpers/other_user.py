"""Folders that a process of another user may enter."""

from pathlib import Path


def open_to_all(path: Path) -> None:
    """Let other users enter a folder and the temporary folders of pytest above it, which are for their owner alone."""
    for folder in (path, *path.parents):
        if folder.owner() == path.owner() and not folder.stat().st_mode & 0o001:
            folder.chmod(0o755)
