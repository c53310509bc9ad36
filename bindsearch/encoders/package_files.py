"""Installed packages, not imported: whether those of an extra are there, and files in them."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from bindsearch.errors import EncoderError, InstallationError


def check_extra(needs: str, extra: str, *modules: str) -> None:
    """Check that the modules of an extra are installed, without loading them.

    Raises:
        InstallationError: one is missing; the message names the extra after `needs`, such as "detectors need".
    """
    if any(find_spec(module) is None for module in modules):
        raise InstallationError(f"{needs} the extra [{extra}]", f"pip install 'bindsearch[{extra}]'")


def packaged_file(package: str, distribution: str, relative: str) -> Path:
    """Return the path of a file in a package, installed as a `distribution`, without running the package's code.

    Raises:
        EncoderError: the package is not installed, or the file is missing.
    """
    spec = find_spec(package)
    folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    if not folders:
        raise EncoderError(f"package {distribution} is missing; install it with: pip install {distribution}")
    path = Path(folders[0]) / relative
    if not path.is_file():
        raise EncoderError(f"{path} is missing; install it again with: pip install --force-reinstall {distribution}")
    return path
