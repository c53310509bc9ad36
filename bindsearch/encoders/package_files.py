"""Files of installed packages that carry weights: found by path, never imported."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from bindsearch.errors import EncoderError


def packaged_file(package: str, distribution: str, relative: str) -> Path:
    """The path of a file inside an installed package, without running the package's code.

    Raises:
        EncoderError: the package is not installed or the file is not in it.
    """
    spec = importlib.util.find_spec(package)
    folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    if not folders:
        raise EncoderError(f"package {distribution} is missing; install it with: pip install {distribution}")
    path = Path(folders[0]) / relative
    if not path.is_file():
        raise EncoderError(f"{path} is missing; install it again with: pip install --force-reinstall {distribution}")
    return path
