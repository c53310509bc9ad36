"""Checks of installed libraries: versions, damaged files, and the formats that they read."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from bindsearch.environment import (
    ENCODER_EXTRAS,
    ENGINE_EXTRAS,
    EXTRAS,
    FITS,
    check_libraries,
    distribution_of,
    does_fit,
    failed_module,
    fault_of,
    install_command,
    is_truncated_elf,
    needs_text,
    project_requirements,
    reason_of,
    repair_command,
    shadowing_path,
    unmet_requirements,
    version_of,
)
from bindsearch.errors import InstallationError

if TYPE_CHECKING:
    from packaging.requirements import Requirement


class Level(StrEnum):
    """Severity of a finding: nothing to do, an optional part is missing, or something is broken."""

    OK = "ok"
    NOTE = "note"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Check:
    """Finding about one part of an installation.

    Attributes:
        topic: Group of the finding, such as "libraries".
        name: Part that was checked.
        level: Severity.
        message: Result.
        remedy: What to do, "" if there is nothing to do.
    """

    topic: str
    name: str
    level: Level
    message: str
    remedy: str = ""


def checked(topic: str, name: str, message: str, remedy: str, level: Level = Level.NOTE) -> Check:
    """Return a finding of this level if there is something to do, else that the part is in order."""
    return Check(topic, name, level if remedy else Level.OK, message, remedy)


LIGHT = (
    "numpy", "scipy", "pyarrow", "duckdb", "PIL", "av", "soundfile", "faiss", "tokenizers", "safetensors",
    "watchfiles",
)  # fmt: skip
"""Modules that are imported as a check; together they take a few tenths of a second."""

HEAVY = ("torch", "torchaudio", "torchvision", "open_clip", "timm")
"""Modules that take seconds to import: files and versions are checked, and the modules are imported only if `deep`."""

VIDEO_CODECS = ("h264", "hevc", "vp9", "av1")
SOUND_CODECS = ("aac", "mp3", "opus", "flac")

SHOWN_FILES = 2


def check_installed(*, deep: bool) -> Iterator[Check]:
    """Check every library that this project requires, and the installed ones of extras.

    Args:
        deep: Import the HEAVY modules too.
    """
    from packaging.requirements import Requirement

    optional = {**EXTRAS, **ENCODER_EXTRAS, **ENGINE_EXTRAS}
    modules = {distribution_of(module): module for module in (*LIGHT, *HEAVY, *optional)}
    light = (*LIGHT, *(module for module in EXTRAS if find_spec(module)))
    rare = (module for module in (*ENCODER_EXTRAS, *ENGINE_EXTRAS) if find_spec(module))
    imported = (*light, *HEAVY, *rare) if deep else light
    for line in project_requirements():
        requirement = Requirement(line)
        version = version_of(requirement.name)
        module = modules.get(requirement.name)
        extra = optional.get(module or "")
        if version is None:
            level = Level.PROBLEM if extra is None else Level.NOTE
            optional_remedy = f"to install it: pip install 'bindsearch[{extra}]'"
            remedy = install_command(requirement.name) if extra is None else optional_remedy
            yield Check("libraries", requirement.name, level, "not installed", remedy)
            continue
        problem = _problem(requirement, version, module, imports=module in imported)
        if problem is None:
            tested_range = f" (tested: {requirement.specifier})" if requirement.specifier else ""
            yield Check("libraries", requirement.name, Level.OK, f"{version}{tested_range}")
        else:
            yield problem


def check_codecs() -> Iterator[Check]:
    """Check which formats the libraries read."""
    for module, check in (("av", _ffmpeg), ("soundfile", _libsndfile), ("PIL", _pillow)):
        with suppress(InstallationError):  # reported by `check_installed`
            check_libraries([module])
            yield from check()
    for module, extra in EXTRAS.items():
        kind = {"heic": "HEIC pictures", "raw": "camera raw pictures", "pdf": "PDF", "rtf": "RTF"}[extra]
        is_installed = find_spec(module) is not None
        remedy = "" if is_installed else f"to read them: pip install 'bindsearch[{extra}]'"
        yield checked("codecs", kind, "read" if is_installed else "not read", remedy)


def _problem(requirement: Requirement, version: str, module: str | None, *, imports: bool) -> Check | None:
    """Return the finding about an installed library; None if there is no problem."""
    name = requirement.name

    def problem(message: str, remedy: str) -> Check:
        return Check("libraries", name, Level.PROBLEM, f"{version}: {message}", remedy)

    if module is not None and (shadow := shadowing_path(module)) is not None:
        return problem(f"is imported from {shadow}, not from the installed package", f"remove or rename {shadow}")
    reinstall = f"pip install --force-reinstall --no-deps {name}=={version}"
    if damaged := damaged_files(name):  # before the import, which may kill the process
        more = f" and {len(damaged) - SHOWN_FILES} more" if len(damaged) > SHOWN_FILES else ""
        return problem(f"damaged: {', '.join(damaged[:SHOWN_FILES])}{more}", reinstall)
    torch = version_of("torch")
    if module is not None and module in FITS and torch is not None and not does_fit(module, version, torch):
        return problem(f"was not tested with torch {torch}", repair_command(module))
    if unmet := unmet_requirements(name):
        needs = "; ".join(needs_text(*unmet_requirement) for unmet_requirement in unmet)
        return problem(needs, "pip install " + " ".join(f"'{requirement_text}'" for requirement_text, _ in unmet))
    if not requirement.specifier.contains(version, prereleases=True):
        return problem(f"is not a tested version ({requirement.specifier})", install_command(name))
    try:
        if imports and module is not None:
            import_module(module)
    except Exception as error:
        fault = fault_of(failed_module(error) or module or name, reason_of(error))
        return Check("libraries", name, Level.PROBLEM, fault.fault, fault.remedy)
    return None


def damaged_files(distribution: str) -> list[str]:
    """Return the files of an installed distribution that are missing, shorter than recorded, or truncated."""
    installed = metadata.distribution(distribution)
    site_folder = str(installed.locate_file(""))
    damaged = []
    for line in (installed.read_text("RECORD") or "").splitlines():
        name, _, size = line.rpartition(",")
        name = name.rpartition(",")[0].strip('"')
        is_library = name.endswith(".so") or ".so." in name
        if not size.isdigit() or not (is_library or name.endswith((".py", ".safetensors", ".pth"))):
            continue
        path = os.path.join(site_folder, name)  # noqa: PTH118  (tens of thousands of paths)
        try:
            size_found = os.stat(path).st_size  # noqa: PTH116
        except OSError:
            damaged.append(f"{name} is missing")
            continue
        if size_found < int(size) or (is_library and is_truncated_elf(Path(path))):
            damaged.append(f"{name} has {size_found} of {size} bytes")
    return damaged


def _ffmpeg() -> Iterator[Check]:
    """Check the decoders of FFmpeg in PyAV."""
    import av
    from av.codec import Codec

    def reads(name: str) -> bool:
        try:
            Codec(name, "r")
        except ValueError:  # UnknownCodecError
            return False
        return True

    version = ".".join(map(str, av.library_versions["libavcodec"]))
    for kind, names in (("video", VIDEO_CODECS), ("sound", SOUND_CODECS)):
        missing = [name for name in names if not reads(name)]
        message = f"libavcodec {version} reads {', '.join(name for name in names if name not in missing)}"
        yield _codecs(f"{kind} (PyAV)", message, missing, "install PyAV", "av")


def _libsndfile() -> Iterator[Check]:
    """Check the formats of libsndfile."""
    import soundfile

    formats = [name for name in ("WAV", "FLAC", "OGG", "AIFF", "CAF") if name in soundfile.available_formats()]
    message = f"{soundfile.__libsndfile_version__} reads {', '.join(formats)}"
    yield Check("codecs", "sound (libsndfile)", Level.OK, message)


def _pillow() -> Iterator[Check]:
    """Check the formats of Pillow."""
    from PIL import features

    formats = {"jpg": "JPEG", "zlib": "PNG", "libtiff": "TIFF", "webp": "WebP", "avif": "AVIF"}
    missing = [name for feature, name in formats.items() if not features.check(feature)]
    read = ", ".join(name for name in formats.values() if name not in missing)
    yield _codecs("pictures (Pillow)", f"reads {read}", missing, "install Pillow", "pillow")


def _codecs(name: str, message: str, missing: Sequence[str], install: str, distribution: str) -> Check:
    """Return the finding about the formats that a library reads, and those that are missing."""
    if missing:
        message += f", not {', '.join(missing)}"
    remedy = f"{install} from its wheel, which includes them: pip install --force-reinstall {distribution}"
    return checked("codecs", name, message, remedy if missing else "")
