"""Files of installed packages that contain weights; the packages are not imported."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from bindsearch.errors import EncoderError


def packaged_file(package: str, distribution: str, relative: str) -> Path:
    """Return the path of a file in an installed package, without running the package's code.

    Args:
        package: Name that the package is imported by.
        distribution: Name that it is installed by.
        relative: Path of the file in the package.

    Raises:
        EncoderError: the package is not installed, or the file is missing.
    """
    spec = importlib.util.find_spec(package)
    folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    if not folders:
        raise EncoderError(f"package {distribution} is missing; install it with: pip install {distribution}")
    path = Path(folders[0]) / relative
    if not path.is_file():
        raise EncoderError(f"{path} is missing; install it again with: pip install --force-reinstall {distribution}")
    return path
