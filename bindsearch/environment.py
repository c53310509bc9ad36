"""Detection of libraries that cannot be loaded, and the commands that repair the installation."""

from __future__ import annotations

import errno
import os
import re
import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType

from bindsearch.errors import InstallationError

PROJECT = "bindsearch"

DISTRIBUTIONS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "PIL": ("pillow",),
        "faiss": ("faiss-gpu", "faiss-cpu"),
        "open_clip": ("open_clip_torch",),
        "pi_heif": ("pi-heif",),
        "qdrant_client": ("qdrant-client",),
        "qdrant_edge": ("qdrant-edge-py",),
    }
)
"""Distributions that provide a module, if their name differs from the module's."""

EXTRAS: Mapping[str, str] = MappingProxyType({"pi_heif": "heic", "rawpy": "raw", "pypdfium2": "pdf", "striprtf": "rtf"})
"""The extra of this project that installs each optional module that reads files."""

ENCODER_EXTRAS: Mapping[str, str] = MappingProxyType(
    {"transformers": "hf", "sentence_transformers": "st", "diffusers": "generate"}
)
"""The extra that installs each optional module that runs models."""

ENGINE_EXTRAS: Mapping[str, str] = MappingProxyType(
    {"qdrant_client": "qdrant", "qdrant_edge": "qdrant", "psycopg": "pgvector", "pgvector": "pgvector"}
)
"""The extra that installs each optional module that exports to engines."""

FITS: Mapping[str, tuple[tuple[str, str], ...]] = MappingProxyType(
    {
        "torchaudio": ((">=2.13,<2.15", "==2.11.1"), (">=2.11,<2.15", "==2.11.0")),
        "torchvision": (
            (">=2.14,<2.15", ">=0.29,<0.29.2"),
            (">=2.13,<2.14", "==0.28.*"),
            (">=2.12,<2.13", "==0.27.*"),
            (">=2.11,<2.12", "==0.26.*"),
        ),
    }
)
"""Pairs (torch versions, compatible versions of the library), newest first.

Measured by importing every combination (Linux x86-64, 2026-11-28). torchaudio's metadata requires torch>=2.11 only, but
2.11.1 needs a symbol that torch has from 2.13 on, and 2.11.0 rejects the CUDA version of torch 2.15. torchvision 0.29.2
requires torch>=2.14 only, but is built with a newer CUDA than torch 2.14."""

_TRANSIENT_ERRORS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR})

_RECORDED_REASON = re.compile(
    r"No module named|ImportError|ModuleNotFoundError|[Cc]annot import name|partially initialized module"
    r"|Could not load this library|cannot load library|library not found|Library not loaded|dlopen\("
    r"|undefined symbol|file too short|invalid ELF header|cannot open shared object file|DLL load failed"
    r"|operator torchvision::nms does not exist"
)
"""Failure reasons that earlier versions recorded if a library could not be loaded."""

_RECORDED_EXTRA = re.compile(r"need the extra \[(\w+)\]")


def check_libraries(modules: Iterable[str]) -> None:
    """Import each of these modules.

    Raises:
        InstallationError: a module is missing, truncated, cannot be loaded or is incompatible with another library.
    """
    with installation_faults():
        for module in modules:
            _check_library(module)


@cache
def _check_library(module: str) -> None:
    if (path := next(filter(is_truncated_elf, _shared_libraries(_top(module))), None)) is not None:
        raise fault_of(_top(module), f"{path} is truncated")  # loading it would kill the process with a bus error
    import_module(module)


def _shared_libraries(module: str) -> Iterator[Path]:
    """Yield shared libraries in a module's folder, its direct subfolders, and the sibling folders created by wheels."""
    try:
        spec = find_spec(module)
    except (ImportError, ValueError):
        return
    if spec is None or spec.origin is None:
        return
    site = Path(spec.origin).parent if spec.submodule_search_locations is None else Path(spec.origin).parents[1]
    distributions = [name.replace("-", "_") for name in DISTRIBUTIONS.get(module, (module,))]
    siblings = [f"_{module}_data", *(f"{name}.libs" for name in distributions)]
    folders = [site / name for name in siblings]
    if spec.submodule_search_locations is not None:
        package = site / module
        folders += [package, *(package / entry.name for entry in _entries(package) if entry.is_dir())]
    for folder in folders:
        yield from (folder / entry.name for entry in _entries(folder) if ".so" in entry.name)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []


def is_truncated_elf(path: Path) -> bool:
    """Return whether a 64-bit little-endian ELF file ends before its last segment.

    Follows the program headers of the ELF-64 object file format, version 1.5. False for files of other formats and for
    missing files.
    """
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            head = file.read(64)
            if head[:6] != b"\x7fELF\x02\x01":
                return False
            if len(head) < 64:
                return True
            offset, entry_bytes, count = struct.unpack_from("<Q", head, 32)[0], *struct.unpack_from("<HH", head, 54)
            file.seek(offset)
            headers = file.read(entry_bytes * count)
    except OSError:
        return False
    if len(headers) < entry_bytes * count or entry_bytes < 56:
        return True
    segments = (struct.unpack_from("<QQQQ", headers, start + 8) for start in range(0, len(headers), entry_bytes))
    return any(start + in_file > size for start, _, _, in_file in segments)


@contextmanager
def installation_faults() -> Iterator[None]:
    """Convert exceptions of failed library imports into InstallationError; usable as a decorator.

    Raises:
        InstallationError: a library could not be loaded. Other exceptions propagate unchanged.
    """
    try:
        yield
    except Exception as error:
        raise_installation_fault(error)
        raise


def raise_installation_fault(error: BaseException) -> None:
    """Raise an InstallationError if `error` was caused by a library that could not be loaded; otherwise return.

    Call it first in handlers that treat any other exception of a library as a damaged file.

    Raises:
        InstallationError: a library could not be loaded.
    """
    fault = installation_fault(error)
    if fault is not None:
        raise fault from (None if fault is error else error)


def installation_fault(error: BaseException) -> InstallationError | None:
    """Return the InstallationError for an `error` caused by a library that could not be loaded; otherwise None."""
    if isinstance(error, InstallationError):
        return error
    module = failed_module(error)
    return None if module is None else fault_of(module, reason_of(error))


def failed_module(error: BaseException) -> str | None:
    """Return the top-level module whose import raised `error`; None if no library import raised it.

    An import is recognised by the frame of a module body in the traceback, because libraries that cannot be loaded
    raise ImportError, OSError, RuntimeError and others.
    """
    transient = isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in _TRANSIENT_ERRORS)
    if transient or not isinstance(error, Exception):
        return None
    import traceback

    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    bodies = [str(frame.f_globals.get("__name__")) for frame in frames if frame.f_code.co_name == "<module>"]
    names = [name for name in map(_top, bodies) if name not in (PROJECT, "__main__")]
    if isinstance(error, ModuleNotFoundError) and error.name:
        names.append(_top(error.name))
    elif isinstance(error, ImportError) and not names:
        raiser = str(frames[-1].f_globals.get("__name__")) if frames else ""
        names.append(_top(error.name or raiser))
    return names[-1] if names and names[-1] not in ("", PROJECT) else None


def fault_of(module: str, reason: str) -> InstallationError:
    """Return the error for a module that cannot be loaded, with versions, reason and repair command."""
    distribution = distribution_of(module)
    version = version_of(distribution)
    if version is None:
        fault = f"the library {distribution} is missing ({reason})"
        return InstallationError(fault, install_command(distribution))
    torch = version_of("torch") if module in FITS else None
    with_torch = f" with torch {torch}" if torch is not None else ""
    needs = "".join(f", and {needs_text(*unmet)}" for unmet in unmet_requirements(distribution))
    fault = f"{distribution} {version} cannot be loaded{with_torch} ({reason}){needs}"
    if (shadow := shadowing_path(module)) is not None:
        imported = f"it is imported from {shadow}, not from the installed package"
        return InstallationError(f"{fault}: {imported}", f"remove or rename {shadow}")
    return InstallationError(fault, repair_command(module))


def needs_text(wanted: str, version: str | None) -> str:
    """Return a clause that names an unmet requirement and the installed version (None: not installed)."""
    return f"it needs {wanted}, but {version or 'none'} is installed"


def repair_command(module: str) -> str:
    """Return the pip command that repairs an installed library, with versions that are known to work together."""
    from packaging.specifiers import SpecifierSet

    distribution = distribution_of(module)
    version = version_of(distribution)
    torch = version_of("torch")
    if module in FITS and torch is not None:
        wanted = next((fitting for needs, fitting in FITS[module] if SpecifierSet(needs).contains(torch)), None)
        if wanted is None:
            return f"{install_command('torch')} '{requirement_of(distribution)}'"
        if version is None or not SpecifierSet(wanted).contains(version):
            return f"pip install '{distribution}{wanted}' 'torch=={torch}'"
    if missing := unmet_requirements(distribution):
        return "pip install " + " ".join(f"'{requirement}'" for requirement, _ in missing)
    return f"pip install --force-reinstall --no-deps {distribution}=={version}"


def install_command(distribution: str) -> str:
    """Return the pip command that installs a distribution within the version range of this project."""
    return f"pip install '{requirement_of(distribution)}'"


def does_fit(module: str, version: str, torch: str) -> bool:
    """Return whether a version of a library is known to load with that version of torch."""
    from packaging.specifiers import SpecifierSet

    return any(SpecifierSet(needs).contains(torch) and version in SpecifierSet(fits) for needs, fits in FITS[module])


def distribution_of(module: str) -> str:
    """Return the distribution that provides a module; of several, one that is installed."""
    names = DISTRIBUTIONS.get(module, (module,))
    return next((name for name in names if version_of(name) is not None), names[0])


@cache
def version_of(distribution: str) -> str | None:
    """Return the installed version of a distribution; None if it is not installed or its metadata is damaged."""
    from importlib import metadata

    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def requirement_of(distribution: str) -> str:
    """Return this project's requirement for a distribution, such as "av<19,>=18"; without one, its name."""
    from packaging.utils import canonicalize_name

    wanted = canonicalize_name(distribution)
    matching = (name for name in project_requirements() if canonicalize_name(re.split(r"[^\w.-]", name)[0]) == wanted)
    return next(matching, distribution)


@cache
def project_requirements() -> tuple[str, ...]:
    """Return the requirements of this project on this platform, extras included, as "name<2,>=1"."""
    from importlib import metadata

    from packaging.requirements import Requirement

    try:
        declared = metadata.requires(PROJECT) or []
    except metadata.PackageNotFoundError:  # run from a folder without an installation
        declared = []
    requirements = []
    for line in declared:
        requirement = Requirement(line)
        extras = {"", *EXTRAS.values(), *ENCODER_EXTRAS.values(), *ENGINE_EXTRAS.values()}
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in extras):
            requirements.append(f"{requirement.name}{requirement.specifier}")
    return tuple(requirements)


def unmet_requirements(distribution: str) -> list[tuple[str, str | None]]:
    """Return the unmet requirements of an installed distribution, each with the installed version (None: missing)."""
    from importlib import metadata

    from packaging.requirements import InvalidRequirement, Requirement

    unmet: list[tuple[str, str | None]] = []
    for line in metadata.requires(distribution) or []:
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        version = version_of(requirement.name)
        if version is None or not requirement.specifier.contains(version, prereleases=True):
            unmet.append((f"{requirement.name}{requirement.specifier}", version))
    return unmet


def shadowing_path(module: str) -> Path | None:
    """Return the path that a module is imported from if it is not the installed distribution; otherwise None."""
    from importlib import metadata

    try:
        spec = find_spec(module)
        installed = metadata.distribution(distribution_of(module))
    except (ImportError, ValueError, metadata.PackageNotFoundError):
        return None
    origin = None if spec is None else spec.origin or next(iter(spec.submodule_search_locations or ()), None)
    if origin is None or origin in ("built-in", "frozen"):
        return None
    path, site = Path(origin).absolute(), Path(str(installed.locate_file(""))).absolute()
    is_installed = path.is_relative_to(site) or path.resolve().is_relative_to(site.resolve())
    is_editable = ".pth," in (installed.read_text("RECORD") or "")
    return None if is_installed or is_editable else path


def is_installation_failure(reason: str) -> bool:
    """Return whether a recorded failure was caused by the installation, so that the file is worth another try.

    That is the case for reasons that earlier versions recorded if a library could not be loaded, and for extras that
    were missing and are installed now.
    """
    if (extra := _RECORDED_EXTRA.search(reason)) is not None:
        optional = {**EXTRAS, **ENCODER_EXTRAS}
        return any(name == extra[1] and find_spec(module) is not None for module, name in optional.items())
    return _RECORDED_REASON.search(reason) is not None


def reason_of(error: BaseException) -> str:
    """Return the message of the innermost cause as one line of at most 200 characters."""
    while error.__cause__ is not None:
        error = error.__cause__
    line = " ".join(str(error).split())
    return line[:200] if line else type(error).__name__


def _top(name: str) -> str:
    return name.partition(".")[0]
