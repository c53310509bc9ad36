"""Classification of files, with the reason: an explicit rule, else content and name.

Rules come from `--modality-rule MODALITY=GLOB` and from the folder's `.bindsearch.toml` (folder_settings.py). A glob
(ingest/inspect/globs.py) is matched against the path inside the collection. The first matching rule decides.
Without a rule, the first bytes of a file decide, not its extension. A folder or name part (split where letters and
digits end) `depth|disparity|midas`, `thermal|therm|tir|ir|lwir|mwir|infrared` or `imu|accel|gyro` decides between kinds
of image and table; the part nearest to the end of the path takes precedence. `rgb`, `visible`, `color` and `colour`
exclude these modalities, so that `thermal_set/visible/1.jpg` is an image. A folder `flir` is thermal if no other part
says anything: the maker's name is in visible pictures' names too. A JPEG with the values of a thermal camera is thermal
unless a part excludes it.

16-bit grey pictures, arrays, PFM and EXR files are depth only by such a name, by a sidecar with `depth_unit`, `fx` or
`baseline_m`, or by a rule: X-rays, microscopy and depth cameras have the same numbers.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeAlias

from bindsearch.environment import raise_installation_fault
from bindsearch.errors import BindSearchError, InstallationError, MediaError
from bindsearch.ingest.inspect.extensions import UNFINISHED, extension_of, is_known, reason_of_ignored
from bindsearch.ingest.inspect.path_words import named_modality
from bindsearch.ingest.inspect.rules import Rule, rule_for
from bindsearch.ingest.media.imu.columns import find_columns
from bindsearch.ingest.media.imu.joining import find_recording, lone_sensor
from bindsearch.ingest.media.imu.layouts import layout_by_names
from bindsearch.ingest.media.imu.tables import column_names
from bindsearch.ingest.media.imu.text_table import Structure, text_structure
from bindsearch.ingest.media.kinds import (
    ANIMATIONS,
    EXTENSIONS,
    PICTURES,
    SOUNDS,
    SOUNDS_IN_VIDEOS,
    VIDEOS,
    extensions_of,
)
from bindsearch.ingest.media.numpy_files import npy_header, npz_names
from bindsearch.ingest.media.pictures.depth_map.units import DEPTH_ARRAYS, masked_name
from bindsearch.ingest.media.pictures.frame_count import count_frames
from bindsearch.ingest.media.pictures.radiometric import is_radiometric
from bindsearch.ingest.media.pictures.temperatures import looks_like_temperatures
from bindsearch.ingest.media.sidecar import Sidecar
from bindsearch.ingest.media.sidecar_file import read_sidecar
from bindsearch.ingest.media.sniff import HEAD_BYTES, sniff_file
from bindsearch.ingest.media.texts.documents import NOTEBOOK, document_kind
from bindsearch.small_files import open_regular
from bindsearch.types import Modality


@dataclass(frozen=True, slots=True)
class Classification:
    """Modality of a file and the reason; modality None: the file is skipped."""

    modality: Modality | None
    why: str


ReadFacts: TypeAlias = Callable[[Path], Sidecar]
"""Function that returns what is declared about a file, in its sidecar, a list or a folder's settings."""

TEXT_TABLES = extensions_of("table")
"""Extensions of text tables, besides .txt, which may be prose."""

_AMBIGUOUS = (
    "is ambiguous: name it or its folder depth or thermal, or use --modality-rule image=GLOB (depth=, thermal=)"
)
_MAX_GREY_PIXELS = 1 << 25
"""Maximum number of pixels of a picture named depth whose colours are compared."""
_DRAFT_PX = 256

_COLOUR = frozenset({"webp", "heif", "avif", "raw"})
"""Kinds of image that are never taken for single-channel ones; opening them only to check that is too slow."""


def classify(
    path: Path,
    rel_path: str,
    rules: Sequence[Rule],
    *,
    root_name: str = "",
    read_facts: ReadFacts = read_sidecar,
) -> Classification:
    """Classify a file; damaged or unknown files do not raise.

    Args:
        path: the file.
        rel_path: its path inside the collection.
        rules: explicit rules, which take precedence.
        root_name: name of the collection's folder, which may name a modality too.
        read_facts: returns what is declared about a table: by default, what its sidecar says.

    Raises:
        InstallationError: a library cannot be loaded.
    """
    posix = rel_path.replace("\\", "/")
    name = posix.rsplit("/", 1)[-1]
    if any(part.startswith(".") for part in posix.split("/")):
        return Classification(None, "hidden")
    if name.lower().endswith(".json"):
        return Classification(None, "sidecar" if path.with_name(path.name[:-5]).is_file() else "not media: .json")
    if (rule := rule_for(posix, rules)) is not None:
        return Classification(rule.modality, f"rule {rule.modality}={rule.pattern}")
    extension = extension_of(name)
    if extension in UNFINISHED:
        return Classification(None, reason_of_ignored(name))
    try:
        with open_regular(path) as file:
            kind, head = sniff_file(file, extension)
        if not is_known(extension) and kind not in PICTURES | SOUNDS | VIDEOS:
            return Classification(None, reason_of_ignored(name))
        named = named_modality(f"{root_name}/{posix}")
        if named is not None and named[0] is Modality.DEPTH and (masked := masked_name(name)) is not None:
            return Classification(None, f"mask of {masked}")
        return _by_content(path, name, head, kind, extension, named, read_facts)
    except InstallationError:
        raise
    except OSError as error:
        raise_installation_fault(error)
        if error.errno == errno.EINVAL:  # raised by `open_regular`
            return Classification(None, str(error.strerror))
        return Classification(EXTENSIONS.get(extension), f"extension {extension}, unreadable: {error.strerror}")
    except Exception as error:  # an unexpected header must not end the scan
        raise_installation_fault(error)
        return Classification(EXTENSIONS.get(extension), f"extension {extension}, damaged: {type(error).__name__}")


def _by_content(
    path: Path,
    name: str,
    head: bytes,
    kind: str | None,
    extension: str,
    named: tuple[Modality, str] | None,
    read_facts: ReadFacts,
) -> Classification:
    """Return the classification by content and name."""
    expected = EXTENSIONS.get(extension)
    if (document := document_kind(Path(name), head)) is not None and document != NOTEBOOK:
        return Classification(Modality.TEXT, f"{document} document")
    if kind in PICTURES:
        return _picture(path, head, kind, named, read_facts)
    if kind in VIDEOS:
        audio = extension in SOUNDS_IN_VIDEOS
        return Classification(Modality.AUDIO if audio else Modality.VIDEO, f"{kind} content")
    if kind in SOUNDS:
        return Classification(Modality.AUDIO, f"{kind} content")
    if kind == "npy":
        return _npy(path, named, read_facts)
    if kind in ("pfm", "exr"):
        return _depth_only(path, kind, named, read_facts)
    if kind is None and extension in (*TEXT_TABLES, ".txt"):
        if named is not None and named[0] is Modality.THERMAL and looks_like_temperatures(head):
            return Classification(Modality.THERMAL, f"table of numbers named {named[1]!r}")
        names_itself = named_modality(name) is not None
        verdict = _text_table(path, name, extension, named, read_facts, names_itself=names_itself)
        if verdict is not None:
            return verdict
    if kind in ("zip", "parquet") or extension in (".npz", ".parquet", ".npy"):
        return _table(path, kind, extension, named, read_facts)
    if expected is None:
        return Classification(None, "not media: no extension and no known content")
    return Classification(
        expected, f"extension {extension}" + ("" if expected is Modality.TEXT else ", content not recognised")
    )


def _picture(
    path: Path, head: bytes, kind: str, named: tuple[Modality, str] | None, read_facts: ReadFacts
) -> Classification:
    """Return the classification of an image."""
    if kind in ANIMATIONS and _is_animated(path, kind):
        return Classification(Modality.VIDEO, f"animated {kind}")
    if kind == "jpeg" and named is None and is_radiometric(path, head):
        return Classification(Modality.THERMAL, "jpeg with the values of a thermal camera")
    is_16_bit = _sixteen_bit_grey(path, head, kind)
    if named is not None and named[0] is Modality.THERMAL:
        return Classification(Modality.THERMAL, f"{kind} named {named[1]!r}")
    if named is not None and named[0] is Modality.DEPTH:
        if is_16_bit or (kind not in _COLOUR and _single_channel(path)):
            return Classification(Modality.DEPTH, f"single-channel {kind} named {named[1]!r}")
        return Classification(Modality.IMAGE, f"{kind} named {named[1]!r}, but with colour channels")
    if is_16_bit and named is None:
        return _said_depth(path, read_facts) or Classification(None, f"16-bit single-channel {kind} {_AMBIGUOUS}")
    return Classification(Modality.IMAGE, f"{kind} content")


def _is_animated(path: Path, kind: str) -> bool:
    with path.open("rb") as file:
        return count_frames(file, kind, enough=2) > 1


def _sixteen_bit_grey(path: Path, head: bytes, kind: str) -> bool:
    if kind == "png":
        return len(head) > 25 and head[24] == 16 and head[25] == 0
    return kind == "tiff" and _mode(path).startswith("I;16")


def _single_channel(path: Path) -> bool:
    """Return whether it has one channel, or an unreadable header: then the decoder reports the error.

    Renderings of depth with three equal channels count: they are no pictures of colours either.
    """
    mode = _mode(path)
    return mode in ("", "L", "LA", "I", "F") or mode.startswith("I;16") or (mode in ("RGB", "RGBA") and _is_grey(path))


def _is_grey(path: Path) -> bool:
    """Return whether the colours of an RGB picture are equal, and more than one; of a JPEG, a small copy decides."""
    from bindsearch.ingest.media.pictures.pillow import open_picture

    try:
        with open_picture(path, max_pixels=_MAX_GREY_PIXELS) as picture:
            picture.draft(None, (_DRAFT_PX, _DRAFT_PX))
            red, green, blue = picture.split()[:3]
            lowest, highest = red.getextrema()
            return lowest != highest and red.tobytes() == green.tobytes() == blue.tobytes()
    except Exception as error:  # a library fails on damaged data
        raise_installation_fault(error)
        return False


def _mode(path: Path) -> str:
    """Return Pillow's mode of an image; "" if it cannot be read."""
    from bindsearch.ingest.media.pictures.pillow import open_picture

    try:
        with open_picture(path, max_pixels=1 << 62) as picture:
            return picture.mode
    except Exception as error:  # a library fails on an invalid header
        raise_installation_fault(error)
        return ""


def _npy(path: Path, named: tuple[Modality, str] | None, read_facts: ReadFacts) -> Classification:
    """Return the classification of an npy file."""
    if named is not None and named[0] is not Modality.IMAGE:
        return Classification(named[0], f"npy named {named[1]!r}")
    try:
        with path.open("rb") as file:
            shape = npy_header(file)[0]
    except MediaError as error:
        return Classification(None, f"not media: {error}")
    if (said := _said_depth(path, read_facts)) is not None:
        return said
    if len(shape) == 2 and shape[1] == 6:
        return Classification(Modality.IMU, f"npy of shape {shape}: six columns are motion")
    return Classification(
        None, f"npy of shape {shape} is ambiguous: name it or its folder depth, thermal or imu, or use --modality-rule"
    )


def _depth_only(path: Path, kind: str, named: tuple[Modality, str] | None, read_facts: ReadFacts) -> Classification:
    """Return the classification of a file of a format for depth and other values."""
    if named is not None and named[0] is Modality.DEPTH:
        return Classification(Modality.DEPTH, f"{kind} named {named[1]!r}")
    return _said_depth(path, read_facts) or Classification(
        None, f"{kind} is ambiguous: name it or its folder depth or disparity, or use --modality-rule depth=GLOB"
    )


def _said_depth(path: Path, read_facts: ReadFacts) -> Classification | None:
    """Return depth if metadata of depth is declared for the file; else None."""
    try:
        sidecar = read_facts(path)
    except (BindSearchError, OSError) as error:
        raise_installation_fault(error)
        return Classification(None, f"not media: {error}")
    if sidecar.depth_unit or sidecar.fx or sidecar.baseline_m:
        return Classification(Modality.DEPTH, "depth_unit, fx or baseline_m is declared")
    return None


def _text_table(
    path: Path,
    name: str,
    extension: str,
    named: tuple[Modality, str] | None,
    read_facts: ReadFacts,
    *,
    names_itself: bool,
) -> Classification | None:
    """Return the classification of a text table; None for a .txt that is prose.

    Args:
        path: the file, in an archive a copy with another name.
        name: its own name.
        extension: of its name.
        named: modality that its path names, and the part of the path.
        read_facts: returns what is declared about the file.
        names_itself: the file's own name names it.
    """
    label = extension.lstrip(".")
    try:
        recording = find_recording(path)
        if recording is not None and recording.main != path.as_posix():
            return Classification(None, f"part of {PurePosixPath(recording.main).name}")
        if recording is not None:
            others = ", ".join(sorted({PurePosixPath(part).name for part in recording.parts.values()})[:4])
            return Classification(Modality.IMU, f"{label}, a recording with {others}")
        structure = text_structure(path)
        if extension == ".txt" and not _is_number_table(path, structure):
            return None
        names = list((structure and structure.names) or ())
        layout = (
            layout_by_names(names or [f"column {i}" for i in range(structure.width)], structure.preamble)
            if structure
            else None
        )
        if layout is not None:
            return Classification(Modality.IMU, f"{label} in the layout of {layout}")
        if find_columns(names) is not None:
            return Classification(Modality.IMU, f"{label} with accelerometer and gyroscope columns")
        sidecar = read_facts(path)
        if sidecar.axes or sidecar.layout:
            said = "axes are" if sidecar.axes else f"layout {sidecar.layout} is"
            return Classification(Modality.IMU, f"{label} whose {said} declared")
        if (reason := lone_sensor(name, names)) is not None:
            return Classification(None, reason)
    except (BindSearchError, OSError) as error:
        raise_installation_fault(error)
        return Classification(None, f"not media: {error}")
    if named is not None and named[0] is Modality.IMU and extension not in (".txt", ".dat"):
        if 0 < len(names) < 6 and not names_itself:
            return Classification(None, f"not media: {label} of {len(names)} columns in a folder named {named[1]!r}")
        return Classification(Modality.IMU, f"{label} named {named[1]!r}")
    if named is not None and named[0] is Modality.IMU and structure is not None and structure.width in (6, 7):
        return Classification(Modality.IMU, f"{label} named {named[1]!r}, {structure.width} columns of numbers")
    if extension == ".txt":
        return Classification(
            None,
            "numbers, not prose, and without accelerometer and gyroscope columns: a sidecar <file>.json with axes or "
            "layout makes it motion",
        )
    return Classification(None, f"not media: {label} without accelerometer and gyroscope columns")


def _is_number_table(path: Path, structure: Structure | None) -> bool:
    """Return whether a .txt is numbers: under a tenth of its characters below the header are letters."""
    if structure is None or structure.width < 2:
        return False
    with path.open("rb") as file:
        lines = file.read(HEAD_BYTES).decode(errors="replace").splitlines()[structure.start :]
    rows = re.sub(r"(?<=\d)[eE][+-]?(?=\d)|\bnan\b", "", "".join("".join(lines).split()), flags=re.IGNORECASE)
    return sum(map(str.isalpha, rows)) < 0.1 * len(rows) and sum(map(str.isdigit, rows)) > 0.4 * len(rows)


def _table(
    path: Path,
    kind: str | None,
    extension: str,
    named: tuple[Modality, str] | None,
    read_facts: ReadFacts,
) -> Classification:
    """Return the classification of a table in a binary format: motion if its name or its columns say so."""
    label = extension.lstrip(".") or str(kind)
    if kind == "zip" and extension != ".npz":
        return Classification(None, "not media: zip content")
    if kind == "zip" and named is not None and named[0] is Modality.DEPTH:
        return Classification(Modality.DEPTH, f"npz named {named[1]!r}")
    if named is not None and (named[0] is Modality.IMU or extension == ".npy"):
        return Classification(named[0], f"{label} named {named[1]!r}")
    try:
        if find_columns(column_names(path)) is not None or _npz_motion(path, kind):
            return Classification(Modality.IMU, f"{label} with accelerometer and gyroscope columns")
        if read_facts(path).axes:
            return Classification(Modality.IMU, f"{label} whose axes are declared")
        depth = [name for name in npz_names(path) if name.lower() in DEPTH_ARRAYS] if kind == "zip" else []
        if depth:
            return Classification(Modality.DEPTH, f"npz with an array named {depth[0]!r}")
    except (BindSearchError, OSError) as error:
        raise_installation_fault(error)
        return Classification(None, f"not media: {error}")
    return Classification(None, f"not media: {label} without accelerometer and gyroscope columns")


def _npz_motion(path: Path, kind: str | None) -> bool:
    if kind != "zip":
        return False
    names = {name.lower() for name in npz_names(path)}
    accelerometer, gyroscope = {"accelerometer", "accel", "acc", "acceleration"}, {"gyroscope", "gyro", "gyr"}
    return bool(names & accelerometer and names & gyroscope)
