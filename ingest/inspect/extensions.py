"""Extensions of file names: the modality that they promise, and those that are left out."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from bindsearch.environment import raise_installation_fault
from bindsearch.ingest.media.kinds import EXTENSIONS, PICTURES, SOUNDS, VIDEOS
from bindsearch.ingest.media.sniff import sniff_file
from bindsearch.small_files import open_regular
from bindsearch.types import Modality

UNFINISHED = frozenset(
    (".bak", ".old", ".orig", ".tmp", ".temp", ".part", ".partial", ".crdownload", ".download", ".thm", ".lrv")
)
"""Extensions of backups, unfinished downloads and cameras' small copies: left out whatever they contain."""


def has_media_extension(name: str) -> bool:
    """Return whether a file name has the extension of media other than text; tables and arrays may be media."""
    return EXTENSIONS.get(extension_of(name), Modality.TEXT) is not Modality.TEXT


def modality_by_name(name: str) -> Modality | None:
    """Return the usual modality of a file name's extension; None for tables, arrays and unknown extensions."""
    return EXTENSIONS.get(extension_of(name))


def is_ignored(path: Path, name: str) -> bool:
    """Return whether `classify` skips a file because it has the extension of no media and no content of media either.

    The first bytes of a file with an unknown extension are read; one that cannot be read is skipped.
    """
    extension = extension_of(name)
    if is_known(extension):
        return False
    if extension in UNFINISHED:
        return True
    try:
        with open_regular(path) as file:
            return sniff_file(file, extension)[0] not in PICTURES | SOUNDS | VIDEOS
    except OSError as error:
        raise_installation_fault(error)
        return True


def is_known(extension: str) -> bool:
    """Return whether it is an extension of media, or none."""
    return not extension or extension in EXTENSIONS


def reason_of_ignored(name: str) -> str:
    """Return the reason why a file with an unknown extension is skipped."""
    return f"not media: {extension_of(name)}"


def extension_of(name: str) -> str:
    """Return the extension of a name in lower case; of a table in gzip both, ".csv.gz"."""
    suffixes = [suffix.lower() for suffix in PurePosixPath(name).suffixes[-2:]]
    both = "".join(suffixes)
    return both if both in EXTENSIONS else "".join(suffixes[-1:])
