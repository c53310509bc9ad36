"""Radiometric JPEGs: the sensor's 16-bit values inside a JPEG, and the degrees that FLIR's constants give them.

FLIR: the APP1 segments that begin with "FLIR" joined are an FFF file of records; record 1 has the values, as a 16-bit
PNG (often with its bytes swapped) or plain, record 0x20 the constants (ExifTool, lib/Image/ExifTool/FLIR.pm).
DJI: the APP3 segments joined are the values (GDAL, frmts/jpeg: ReadDJIMetadata); how they become degrees is known to
DJI's Thermal SDK only.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from bindsearch.errors import MediaError
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.media.pictures.pillow import check_size, read_embedded_png

_KELVIN_C = 273.15
_PLAIN_MARKERS = frozenset({0x01, *range(0xD0, 0xD9)})
"""Markers without a segment: TEM, RST0..7, SOI (ITU-T T.81, table B.1)."""
_START_OF_SCAN, _END = 0xDA, 0xD9
_APP1, _APP3, _APP4 = 0xE1, 0xE3, 0xE4
_FLIR = b"FLIR\x00"
_DJI_HEADER = bytes.fromhex("aa551206")
"""Begins DJI's APP4, in either byte order (ExifTool, lib/Image/ExifTool/DJI.pm: ThermalParams)."""
_DJI_SIZES = ((640, 512), (512, 640))
"""Sensor's width and height where the JPEG is enlarged (GDAL pull request 13101)."""

_MAX_SEGMENTS = 4096
_MAX_RECORDS = 1024
_RAW_DATA, _CAMERA = 1, 0x20
_RAW_HEADER_BYTES = 32
_CAMERA_BYTES = 0x310


@dataclass(frozen=True, slots=True)
class RadiometricData:
    """Sensor values of a radiometric JPEG, uint16 (height, width), not turned, and a note on where they come from.

    `degrees_c` is float64 of the same shape, NaN where the constants give none; None: no constants.
    """

    raw: NDArray[np.uint16]
    degrees_c: NDArray[np.float64] | None
    note: str


@dataclass(frozen=True, slots=True)
class Planck:
    """Constants of a FLIR camera and of its surroundings (ExifTool, FLIR.pm: CameraInfo).

    Attributes:
        r1, r2, b, f, o: the calibration: raw = r1 / (r2 * (exp(b / kelvin) - f)) - o for a black body.
        emissivity: of the object, above 0 to 1.
        distance_m: of the object in metres.
        reflected_c, air_c, window_c: temperatures in degrees Celsius.
        window_transmission: share of a window in front of the camera, above 0 to 1.
        humidity: relative, 0 to 1.
        alpha1, alpha2, beta1, beta2, x: of the transmission of air.
    """

    r1: float
    r2: float
    b: float
    f: float
    o: float
    emissivity: float = 1.0
    distance_m: float = 0.0
    reflected_c: float = 20.0
    air_c: float = 20.0
    window_c: float = 20.0
    window_transmission: float = 1.0
    humidity: float = 0.5
    alpha1: float = 0.006569
    alpha2: float = 0.01262
    beta1: float = -0.002276
    beta2: float = -0.00667
    x: float = 1.9


def read_radiometric(path: Path, size: tuple[int, int], options: DecodeOptions) -> RadiometricData | None:
    """Read the sensor's values in the JPEG at `path`; None if it has no segments of a thermal camera.

    `size` is width and height of the JPEG's own picture. Raise MediaError if the segments are damaged, of an unknown
    form, or too large.
    """
    flir: dict[int, bytes] = {}
    plain = bytearray()
    is_dji, total, count = False, 0, 0
    with path.open("rb") as file:
        for marker, content in _segments(file):
            if marker == _APP1 and content.startswith(_FLIR) and len(content) >= 8:
                total += len(content)
                index, count = content[6], content[7] + 1
                if index in flir:
                    raise MediaError(f"FLIR segment {index} exists twice")
                flir[index] = content[8:]
            elif marker == _APP3:
                plain += content
            elif marker == _APP4:
                is_dji |= _is_dji(content)
            if total + len(plain) > options.max_array_bytes:
                raise MediaError(
                    f"its thermal segments have more than {options.max_array_bytes} bytes (--limit array=N)"
                )
    if flir:
        if sorted(flir) != list(range(count)):
            raise MediaError(f"{len(flir)} of {count} FLIR segments exist")
        records = _records(b"".join(flir[i] for i in range(count)))
        if _RAW_DATA not in records:
            return None  # as after an export
        raw = _raw_image(records[_RAW_DATA], options)
        shown = f"{raw.shape[1]}x{raw.shape[0]}"
        planck, assumed = _planck(records.get(_CAMERA, b""))
        if planck is not None:
            degrees = temperatures(raw, planck)
            known = degrees[np.isfinite(degrees)]
            if known.size >= degrees.size / 2 and -100 < float(np.median(known)) < 3000:
                note = f"FLIR's radiometric values ({shown}), emissivity {planck.emissivity:g}, {planck.distance_m:g} m"
                return RadiometricData(raw, degrees, note + assumed)
        return RadiometricData(raw, None, f"FLIR's radiometric values ({shown}) without usable constants: no degrees")
    return _dji(bytes(plain), size, options) if is_dji else None


def is_radiometric(path: Path, head: bytes) -> bool:
    """Return whether the JPEG at `path`, which begins with `head`, has the segments of a thermal camera.

    Other makers' files are not read further: the maker's name is in the EXIF block at the beginning.
    """
    if b"FLIR" not in head and b"DJI" not in head:
        return False
    with path.open("rb") as file:
        return any(
            (marker == _APP1 and content.startswith(_FLIR)) or (marker == _APP4 and _is_dji(content))
            for marker, content in _segments(file)
        )


def _is_dji(content: bytes) -> bool:
    return content[:4] in (_DJI_HEADER, _DJI_HEADER[::-1])


def temperatures(raw: NDArray[np.uint16], planck: Planck) -> NDArray[np.float64]:
    """Return degrees Celsius of the values of a FLIR camera; NaN where the constants give none.

    The object's signal is what remains after those of the window, the air and the surroundings that it reflects
    (FLIR, "The measurement formula" of the cameras' manuals; Tattersall, Thermimage: raw2temp):
    signal = w (t (e object + (1 - e) reflected) + (1 - t) air) + (1 - w) window, e: emissivity, t: transmission of air,
    w: of the window.
    """

    def signal_of(degrees_c: float) -> float:
        """Return the signal of a black body, raw + o."""
        return planck.r1 / (planck.r2 * (math.exp(planck.b / (degrees_c + _KELVIN_C)) - planck.f))

    ratio = planck.r1 / planck.r2
    tau, window, emissivity = transmission(planck), planck.window_transmission, planck.emissivity
    seen = (raw.astype(np.float64) + planck.o - (1 - window) * signal_of(planck.window_c)) / window
    foreign = (1 - tau) * signal_of(planck.air_c) + tau * (1 - emissivity) * signal_of(planck.reflected_c)
    signal = (seen - foreign) / (emissivity * tau)
    with np.errstate(all="ignore"):
        kelvin = planck.b / np.log(ratio / signal + planck.f)
    return np.where(np.isfinite(kelvin) & (signal > 0) & (kelvin > 0), kelvin - _KELVIN_C, np.nan)


def transmission(planck: Planck) -> float:
    """Return the transmission of air over the distance, 0 to 1 (FLIR's model with its constants of water vapour)."""
    air = planck.air_c
    water = planck.humidity * math.exp(1.5587 + 0.06939 * air - 0.00027816 * air**2 + 6.8455e-7 * air**3)
    way = math.sqrt(planck.distance_m)
    near = planck.x * math.exp(-way * (planck.alpha1 + planck.beta1 * math.sqrt(water)))
    return near + (1 - planck.x) * math.exp(-way * (planck.alpha2 + planck.beta2 * math.sqrt(water)))


def _segments(file: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield marker and content of a JPEG's application segments before its first scan (ITU-T T.81, annex B)."""
    for _ in range(_MAX_SEGMENTS):
        head = file.read(2)
        while len(head) == 2 and head[1] == 0xFF:  # fill bytes
            head = head[1:] + file.read(1)
        if len(head) < 2 or head[0] != 0xFF or head[1] in (_START_OF_SCAN, _END):
            return
        if head[1] in _PLAIN_MARKERS:
            continue
        length = int.from_bytes(file.read(2), "big")
        if length < 2:
            return
        content = file.read(length - 2)
        if len(content) < length - 2:
            return
        if head[1] in (_APP1, _APP3, _APP4):
            yield head[1], content


def _records(data: bytes) -> Mapping[int, bytes]:
    """Return the first record of each type of an FFF file."""
    if len(data) < 64 or data[:4] not in (b"FFF\0", b"AFF\0"):
        raise MediaError("FLIR segments without an FFF header")
    orders = [order for order in "><" if 100 <= struct.unpack_from(order + "I", data, 0x14)[0] < 200]
    if not orders:
        raise MediaError("FLIR segments of an unknown version")
    place, count = struct.unpack_from(orders[0] + "II", data, 0x18)
    if count > _MAX_RECORDS or place + 32 * count > len(data):
        raise MediaError("damaged directory of FLIR records")
    records: dict[int, bytes] = {}
    for i in range(count):
        kind, _, _, _, start, size = struct.unpack_from(orders[0] + "HHIIII", data, place + 32 * i)
        if kind in (_RAW_DATA, _CAMERA) and kind not in records:
            if start + size > len(data):
                raise MediaError(f"truncated FLIR record {kind}")
            records[kind] = data[start : start + size]
    return records


def _raw_image(record: bytes, options: DecodeOptions) -> NDArray[np.uint16]:
    """Return the values of a record of raw data."""
    if len(record) <= _RAW_HEADER_BYTES:
        raise MediaError("truncated FLIR record 1")
    order = "<" if record[1] == 0 else ">"  # the first number of a record is small
    width, height = struct.unpack_from(order + "HH", record, 2)
    content = record[_RAW_HEADER_BYTES:]
    if content.startswith(b"\x89PNG"):
        # most cameras write the samples of the PNG with their bytes swapped (ExifTool, FLIR.pm: RawData)
        return _smoother(read_embedded_png(content, options.max_pixels).byteswap())
    check_size((width, height), options.max_pixels, what="the FLIR raw data")
    if len(content) < (needed := 2 * width * height):
        raise MediaError(f"the FLIR raw data have {len(content)} bytes: {width}x{height} pixels need {needed}")
    return _smoother(np.frombuffer(content, order + "u2", width * height).astype(np.uint16).reshape(height, width))


def _smoother(raw: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Return values, or those with swapped bytes if their neighbours differ less: only one order is a picture."""
    swapped = raw.byteswap()

    def roughness(values: NDArray[np.uint16]) -> float:
        return float(np.abs(np.diff(values.astype(np.int32), axis=1)).mean()) if values.shape[1] > 1 else 0.0

    return swapped if roughness(swapped) < roughness(raw) else raw


def _planck(record: bytes) -> tuple[Planck | None, str]:
    """Return the constants of a camera record, and a note on those that are assumed; None: no calibration."""
    if len(record) < _CAMERA_BYTES:
        return None, ""
    order = "<" if record[1] == 0 else ">"

    def number(place: int) -> float:
        return float(struct.unpack_from(order + "f", record, place)[0])

    r1, b, f, r2 = (number(place) for place in (0x58, 0x5C, 0x60, 0x30C))
    o = float(struct.unpack_from(order + "i", record, 0x308)[0])
    if not (0 < r1 < 1e12 and 0 < b < 1e6 and abs(f) < 1e3 and 0 < r2 < 1e6):
        return None, ""
    humidity = number(0x3C)
    planck = Planck(
        r1, r2, b, f, o,
        emissivity=number(0x20),
        distance_m=number(0x24),
        reflected_c=number(0x28) - _KELVIN_C,
        air_c=number(0x2C) - _KELVIN_C,
        window_c=number(0x30) - _KELVIN_C,
        window_transmission=number(0x34) or 1.0,
        humidity=humidity / 100 if humidity > 2 else humidity,  # some files have it in percent (ExifTool)
        alpha1=number(0x70), alpha2=number(0x74), beta1=number(0x78), beta2=number(0x7C), x=number(0x80),
    )  # fmt: skip
    if _is_usable(planck):
        return planck, ""
    return Planck(r1, r2, b, f, o), ", its other constants are damaged: read as a black body without air"


def _is_usable(planck: Planck) -> bool:
    """Return whether surroundings are possible ones."""
    shares = (planck.emissivity, planck.window_transmission)
    degrees = (planck.reflected_c, planck.air_c, planck.window_c)
    air = (planck.alpha1, planck.alpha2, planck.beta1, planck.beta2, planck.x)
    return (
        all(0.01 <= share <= 1 for share in shares)
        and 0 <= planck.distance_m <= 1e5
        and 0 <= planck.humidity <= 1
        and all(-100 <= degree <= 1000 for degree in degrees)
        and all(abs(constant) <= 10 for constant in air)
        and 0.01 <= transmission(planck) <= 1.001
    )


def _dji(data: bytes, size: tuple[int, int], options: DecodeOptions) -> RadiometricData:
    """Return DJI's values, little-endian, in the size of the JPEG or of the sensor."""
    sizes = [(width, height) for width, height in (size, *_DJI_SIZES) if 2 * width * height == len(data)]
    if not sizes:
        raise MediaError(f"{len(data)} bytes of DJI's raw data are not {size[0]}x{size[1]} or 640x512 pixels")
    width, height = next((pair for pair in sizes if (pair[0] > pair[1]) == (size[0] > size[1])), sizes[0])
    check_size((width, height), options.max_pixels)
    raw = np.frombuffer(data, "<u2").astype(np.uint16).reshape(height, width)
    return RadiometricData(raw, None, f"DJI's radiometric values ({width}x{height}): degrees need DJI's Thermal SDK")
