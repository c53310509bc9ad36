"""Files and folders that systems and programs keep beside people's own: ignored unless a collection says otherwise.

`!NAME/` in a `.bindsearchignore` includes a folder again, `default_ignore = false` in the `.bindsearch.toml` of a
collection's root all of them. Hidden ones, such as `.thumbnails`, `.git` and `.Trashes`, are not listed here.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

PREFIX = "ignored by default: "
"""Beginning of the reason why such a file or folder is left out."""

FOLDERS: Mapping[str, str] = MappingProxyType(
    {
        "@eadir": "thumbnails of a Synology NAS",
        "#recycle": "recycle bin of a NAS",
        "@recycle": "recycle bin of a NAS",
        "@recently-snapshot": "snapshots of a NAS",
        "#snapshot": "snapshots of a NAS",
        "$recycle.bin": "recycle bin of Windows",
        "recycler": "recycle bin of Windows",
        "system volume information": "of Windows",
        "lost+found": "of the file system",
        "__macosx": "attributes of macOS",
        "node_modules": "packages of programs",
        "site-packages": "packages of programs",
        "dist-packages": "packages of programs",
        "bower_components": "packages of programs",
        "__pycache__": "cache of Python",
    }
)
"""Folders by name in lower case, and what is in them."""

FILES: Mapping[str, str] = MappingProxyType(
    {
        "thumbs.db": "thumbnails of Windows",
        "ehthumbs.db": "thumbnails of Windows",
        "ehthumbs_vista.db": "thumbnails of Windows",
        "desktop.ini": "settings of Windows",
    }
)
"""Files by name in lower case, and what they are."""


def default_reason(name: str, *, is_dir: bool) -> str | None:
    """Return why a file or folder is ignored by default, by its name; None if it is not."""
    lower = name.lower()
    what = (FOLDERS if is_dir else FILES).get(lower)
    return None if what is None else f"{PREFIX}{lower}, {what}"


def is_in_default(rel_path: str) -> bool:
    """Return whether a file at a path, such as a member of an archive, is ignored by default or in such a folder."""
    *folders, name = rel_path.split("/")
    is_listed = default_reason(name, is_dir=False) is not None
    return is_listed or any(default_reason(folder, is_dir=True) is not None for folder in folders)
