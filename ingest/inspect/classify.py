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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import TypeAlias

from bindsearch.environment import raise_installation_fault
from bindsearch.errors import BindSearchError, InstallationError, MediaError
from bindsearch.ingest.inspect.extensions import UNFINISHED, extension_of, is_known, reason_of_ignored
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

_ACCELEROMETERS = frozenset({"accelerometer", "accel", "acc", "acceleration"})
_GYROSCOPES = frozenset({"gyroscope", "gyro", "gyr"})
"""Names of arrays in an npz with motion."""

PARTS: Mapping[str, Modality] = MappingProxyType(
    {
        word: modality
        for modality, words in (
            (Modality.DEPTH, "depth depths depthmap depthmaps disparity disp midas"),
            (Modality.THERMAL, "thermal thermals therm thermo thermogram thermograms thermography"),
            (Modality.THERMAL, "ir tir lwir mwir infrared"),
            (Modality.IMU, "imu accel gyro accelerometer gyroscope"),
            (Modality.IMAGE, "rgb visible color colour"),
        )
        for word in words.split()
    }
)
"""Words of a path that name a modality."""

_PART = re.compile(r"(\d*)([a-z]+)")
"""A part of a path, and the digits directly before it."""
_SHORT_PART = 4
"""Shorter words do not count after digits: `x8ir3` is a random name."""


def named_modality(rel_path: str) -> tuple[Modality, str] | None:
    """Return the last part of the path that names a modality, and that modality; None if there is none."""
    for digits, part in reversed(_PART.findall(rel_path.lower())):
        if part in PARTS and not (digits and len(part) < _SHORT_PART):
            return PARTS[part], part
    folders = rel_path.lower().rpartition("/")[0]
    is_flir = any(part == "flir" for _, part in _PART.findall(folders))
    return (Modality.THERMAL, "flir") if is_flir else None


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
        named, part = named_modality(f"{root_name}/{posix}") or (None, "")
        if named is Modality.DEPTH and (masked := masked_name(name)) is not None:
            return Classification(None, f"mask of {masked}")
        return _by_content(_File(path, name, extension, kind, head, named, part, read_facts))
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


@dataclass(frozen=True, slots=True)
class _File:
    """A file to classify; `named`: the modality that its path names, and the part of the path."""

    path: Path
    name: str
    extension: str
    kind: str | None
    head: bytes
    named: Modality | None
    part: str
    read_facts: ReadFacts


def _by_content(file: _File) -> Classification:
    """Return the classification by content and name."""
    kind, extension = file.kind, file.extension
    expected = EXTENSIONS.get(extension)
    if (document := document_kind(Path(file.name), file.head)) is not None and document != NOTEBOOK:
        return Classification(Modality.TEXT, f"{document} document")
    if kind in PICTURES:
        return _picture(file, kind)
    if kind in VIDEOS and extension not in SOUNDS_IN_VIDEOS:
        return Classification(Modality.VIDEO, f"{kind} content")
    if kind in VIDEOS | SOUNDS:
        return Classification(Modality.AUDIO, f"{kind} content")
    if kind == "npy":
        return _npy(file)
    if kind in ("pfm", "exr"):
        if file.named is Modality.DEPTH:
            return Classification(Modality.DEPTH, f"{kind} named {file.part!r}")
        way_out = "name it or its folder depth or disparity, or use --modality-rule depth=GLOB"
        return _said_depth(file) or Classification(None, f"{kind} is ambiguous: {way_out}")
    if kind is None and extension in (*TEXT_TABLES, ".txt"):
        if file.named is Modality.THERMAL and looks_like_temperatures(file.head):
            return Classification(Modality.THERMAL, f"table of numbers named {file.part!r}")
        if (verdict := _text_table(file)) is not None:
            return verdict
    if kind in ("zip", "parquet") or extension in (".npz", ".parquet", ".npy"):
        return _table(file)
    if expected is None:
        return Classification(None, "not media: no extension and no known content")
    unknown = "" if expected is Modality.TEXT else ", content not recognised"
    return Classification(expected, f"extension {extension}{unknown}")


def _picture(file: _File, kind: str) -> Classification:
    """Return the classification of an image."""
    if kind in ANIMATIONS:
        with file.path.open("rb") as opened:
            if count_frames(opened, kind, enough=2) > 1:
                return Classification(Modality.VIDEO, f"animated {kind}")
    if kind == "jpeg" and file.named is None and is_radiometric(file.path, file.head):
        return Classification(Modality.THERMAL, "jpeg with the values of a thermal camera")
    if kind == "png":
        is_16_bit = file.head[24:26] == b"\x10\0"
    else:
        is_16_bit = kind == "tiff" and _mode(file.path).startswith("I;16")
    if file.named is Modality.THERMAL:
        return Classification(Modality.THERMAL, f"{kind} named {file.part!r}")
    if file.named is Modality.DEPTH:
        if is_16_bit or (kind not in _COLOUR and _single_channel(file.path)):
            return Classification(Modality.DEPTH, f"single-channel {kind} named {file.part!r}")
        return Classification(Modality.IMAGE, f"{kind} named {file.part!r}, but with colour channels")
    if is_16_bit and file.named is None:
        return _said_depth(file) or Classification(None, f"16-bit single-channel {kind} {_AMBIGUOUS}")
    return Classification(Modality.IMAGE, f"{kind} content")


def _single_channel(path: Path) -> bool:
    """Return whether a picture has one channel, three equal ones, or an unreadable header, which its decoder reports.

    Of an RGB picture, more than one colour must be there; of a JPEG, a small copy decides.
    """
    from bindsearch.ingest.media.pictures.pillow import open_picture

    mode = _mode(path)
    if mode not in ("RGB", "RGBA"):
        return mode in ("", "L", "LA", "I", "F") or mode.startswith("I;16")
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


def _npy(file: _File) -> Classification:
    """Return the classification of an npy file."""
    if file.named not in (None, Modality.IMAGE):
        return Classification(file.named, f"npy named {file.part!r}")
    try:
        with file.path.open("rb") as opened:
            shape = npy_header(opened)[0]
    except MediaError as error:
        return Classification(None, f"not media: {error}")
    if (said := _said_depth(file)) is not None:
        return said
    if len(shape) == 2 and shape[1] == 6:
        return Classification(Modality.IMU, f"npy of shape {shape}: six columns are motion")
    way_out = "name it or its folder depth, thermal or imu, or use --modality-rule"
    return Classification(None, f"npy of shape {shape} is ambiguous: {way_out}")


def _said_depth(file: _File) -> Classification | None:
    """Return depth if metadata of depth is declared for the file; else None."""
    try:
        sidecar = file.read_facts(file.path)
    except (BindSearchError, OSError) as error:
        raise_installation_fault(error)
        return Classification(None, f"not media: {error}")
    if sidecar.depth_unit or sidecar.fx or sidecar.baseline_m:
        return Classification(Modality.DEPTH, "depth_unit, fx or baseline_m is declared")
    return None


def _text_table(file: _File) -> Classification | None:
    """Return the classification of a text table, whose path may be that of a copy; None for a .txt that is prose."""
    path, extension = file.path, file.extension
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
        if structure is not None:
            columns = names or [f"column {i}" for i in range(structure.width)]
            if (layout := layout_by_names(columns, structure.preamble)) is not None:
                return Classification(Modality.IMU, f"{label} in the layout of {layout}")
        if find_columns(names) is not None:
            return Classification(Modality.IMU, f"{label} with accelerometer and gyroscope columns")
        sidecar = file.read_facts(path)
        if sidecar.axes or sidecar.layout:
            said = "axes are" if sidecar.axes else f"layout {sidecar.layout} is"
            return Classification(Modality.IMU, f"{label} whose {said} declared")
        if (reason := lone_sensor(file.name, names)) is not None:
            return Classification(None, reason)
    except (BindSearchError, OSError) as error:
        raise_installation_fault(error)
        return Classification(None, f"not media: {error}")
    if file.named is Modality.IMU and extension not in (".txt", ".dat"):
        if 0 < len(names) < 6 and named_modality(file.name) is None:
            return Classification(None, f"not media: {label} of {len(names)} columns in a folder named {file.part!r}")
        return Classification(Modality.IMU, f"{label} named {file.part!r}")
    if file.named is Modality.IMU and structure is not None and structure.width in (6, 7):
        return Classification(Modality.IMU, f"{label} named {file.part!r}, {structure.width} columns of numbers")
    if extension == ".txt":
        way_out = "a sidecar <file>.json with axes or layout makes it motion"
        return Classification(None, f"numbers, not prose, and without accelerometer and gyroscope columns: {way_out}")
    return Classification(None, f"not media: {label} without accelerometer and gyroscope columns")


def _is_number_table(path: Path, structure: Structure | None) -> bool:
    """Return whether a .txt is numbers: under a tenth of its characters below the header are letters."""
    if structure is None or structure.width < 2:
        return False
    with path.open("rb") as file:
        lines = file.read(HEAD_BYTES).decode(errors="replace").splitlines()[structure.start :]
    rows = re.sub(r"(?<=\d)[eE][+-]?(?=\d)|\bnan\b", "", "".join("".join(lines).split()), flags=re.IGNORECASE)
    return sum(map(str.isalpha, rows)) < 0.1 * len(rows) and sum(map(str.isdigit, rows)) > 0.4 * len(rows)


def _table(file: _File) -> Classification:
    """Return the classification of a table in a binary format: motion if its name or its columns say so."""
    path, is_zip = file.path, file.kind == "zip"
    label = file.extension.lstrip(".") or str(file.kind)
    if is_zip and file.extension != ".npz":
        return Classification(None, "not media: zip content")
    if is_zip and file.named is Modality.DEPTH:
        return Classification(Modality.DEPTH, f"npz named {file.part!r}")
    if file.named is Modality.IMU or (file.named is not None and file.extension == ".npy"):
        return Classification(file.named, f"{label} named {file.part!r}")
    try:
        has_columns = find_columns(column_names(path)) is not None
        arrays = [*npz_names(path)] if is_zip else []
        lower = {name.lower() for name in arrays}
        if has_columns or (lower & _ACCELEROMETERS and lower & _GYROSCOPES):
            return Classification(Modality.IMU, f"{label} with accelerometer and gyroscope columns")
        if file.read_facts(path).axes:
            return Classification(Modality.IMU, f"{label} whose axes are declared")
        if depth := [name for name in arrays if name.lower() in DEPTH_ARRAYS]:
            return Classification(Modality.DEPTH, f"npz with an array named {depth[0]!r}")
    except (BindSearchError, OSError) as error:
        raise_installation_fault(error)
        return Classification(None, f"not media: {error}")
    return Classification(None, f"not media: {label} without accelerometer and gyroscope columns")
