"""Colours of frames: HDR as SDR by published values, matrix and range of the stream, transparency on white."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from bindsearch.ingest.media import hdr
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.media.recordings.video.read import read_video
from bindsearch.media import DecodeHints
from helpers.video_files import (
    BLUE,
    CORNERS,
    GREEN,
    RED,
    YELLOW,
    StreamPlan,
    are_near,
    corners,
    four_colours,
    write_streams,
)

TRANSPARENT = [(*RED, 255), (*GREEN, 0), (*BLUE, 128), (*YELLOW, 255)]
ON_WHITE = [RED, (255, 255, 255), (142, 142, 237), YELLOW]
WEIGHTS = {"bt709": (0.2126, 0.0722), "bt601": (0.299, 0.114), "bt2020": (0.2627, 0.0593)}
BT709_TO_BT2020 = [[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]]
"""Recommendation ITU-R BT.2087, 4 and BT.2100: weights of red and blue; linear light of BT.709 in BT.2020."""


def to_yuv(rgb: NDArray[np.floating], matrix: str, bits: int, *, full: bool = False) -> NDArray[np.uint16]:
    """Return the code values (height, width, 3) of R'G'B' in 0..1 (BT.2100, tables 6 and 9)."""
    red, blue = WEIGHTS[matrix]
    y = rgb @ np.array([red, 1 - red - blue, blue])
    chroma = [(rgb[..., 2] - y) / (2 - 2 * blue), (rgb[..., 0] - y) / (2 - 2 * red)]
    unit, largest = 1 << (bits - 8), (1 << bits) - 1
    scales = (0, largest, largest) if full else (16 * unit, 219 * unit, 224 * unit)
    codes = [scales[0] + scales[1] * y, *(128 * unit + scales[2] * part for part in chroma)]
    return np.clip(np.rint(np.stack(codes, axis=-1)), 0, largest).astype(np.uint16)


def write_yuv(path: Path, yuv: NDArray[np.uint16], bits: int, **tags: int) -> Path:
    """Write one second of lossless video of code values (height, width, 3), with colour tags."""
    name = f"yuv444p{bits}le" if bits > 8 else "yuv444p"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("ffv1", rate=2)
        stream.height, stream.width = yuv.shape[:2]
        stream.pix_fmt = name
        for tag, value in tags.items():
            setattr(stream.codec_context, tag, value)
        for index in range(2):
            frame = av.VideoFrame(stream.width, stream.height, name)
            for plane, values in zip(frame.planes, np.moveaxis(yuv, -1, 0), strict=True):
                row = values.astype("<u2" if bits > 8 else np.uint8)
                padded = np.zeros((plane.height, plane.line_size // row.itemsize), row.dtype)
                padded[:, : row.shape[1]] = row
                plane.update(padded.tobytes())
            for tag, value in tags.items():
                setattr(frame, tag, value)
            frame.pts, frame.time_base = index, Fraction(1, 2)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def first_frame(path: Path, side: int = 24) -> NDArray[np.uint8]:
    (span,) = read_video(path, DecodeHints(side, 1.0), DecodeOptions())
    return span.frames.rgb[0]


def display_light(colours: Sequence[tuple[int, ...]]) -> NDArray[np.floating]:
    """Return the light (48, 64, 3) of SDR colours in BT.2020, in cd/m2, with white at 203 (BT.2408, 5.1.3)."""
    light = 203 * (four_colours(64, 48, colours) / 255) ** 2.4
    return np.asarray(light @ np.array(BT709_TO_BT2020).T)


@pytest.mark.parametrize(
    ("nits", "signal"), [(0, 0), (1, 0.1500), (100, 0.5081), (203, 0.5807), (1000, 0.7518), (10_000, 1)]
)
def test_pq_has_the_published_values(nits: float, signal: float) -> None:
    """Of BT.2408, table 1 and annex 1; SMPTE ST 2084."""
    assert hdr.nits_to_pq(np.array(nits)) == pytest.approx(signal, abs=1e-4)
    assert hdr.pq_to_nits(np.array(signal)) == pytest.approx(nits, rel=2e-3, abs=1e-6)


@pytest.mark.parametrize(("signal", "nits"), [(0.0, 0), (0.38, 26), (0.75, 203), (1.0, 1000)])
def test_hlg_has_the_published_values(signal: float, nits: float) -> None:
    """Of BT.2408, table 1: 18 % grey and white of the reference level, on a display of 1000 cd/m2."""
    scene = np.full((1, 3), hdr.hlg_to_linear(np.array(signal)))
    assert hdr.hlg_to_nits(scene) == pytest.approx(nits, abs=1)


def test_the_curve_keeps_dark_light_and_reaches_white_at_the_peak() -> None:
    nits = np.linspace(0, 1000, 2001)
    shown = hdr.compress(nits)
    assert np.allclose(shown[nits <= 85], nits[nits <= 85], rtol=1e-6)
    assert shown[-1] == pytest.approx(hdr.REFERENCE_WHITE_NITS, rel=1e-3)
    assert (np.diff(shown) >= 0).all()
    assert hdr.compress(np.array([4000.0])) == pytest.approx(hdr.REFERENCE_WHITE_NITS, rel=1e-3)


@given(arrays(np.uint16, (2, 3, 3)), st.sampled_from([hdr.PQ, hdr.HLG]), st.integers(0, 22))
def test_any_signal_gives_pixels_and_grey_stays_grey(signal: NDArray[np.uint16], transfer: int, primaries: int) -> None:
    assert hdr.to_sdr(signal, transfer, primaries).shape == (2, 3, 3)
    grey = hdr.to_sdr(np.repeat(signal[..., :1], 3, axis=2), transfer, primaries)
    assert np.ptp(grey.astype(int), axis=2).max() <= 1


@pytest.mark.parametrize("bits", [10, 12])
def test_a_pq_video_has_the_colours_of_sdr(tmp_path: Path, bits: int) -> None:
    """At least as near as FFmpeg's zscale and tonemap=hable: red 149,31,18, green 5,114,18, yellow 146,133,21."""
    yuv = to_yuv(hdr.nits_to_pq(display_light(CORNERS)), "bt2020", bits)
    path = write_yuv(tmp_path / "a.mkv", yuv, bits, color_trc=16, color_primaries=9, colorspace=9, color_range=1)
    assert are_near(corners(first_frame(path)), CORNERS, 26)


def test_an_hlg_video_has_the_colours_of_sdr(tmp_path: Path) -> None:
    light = display_light(CORNERS) / hdr.PEAK_NITS
    luminance = light @ np.array([0.2627, 0.6780, 0.0593])
    scene = light * luminance[..., None] ** (1 / 1.2 - 1)
    signal = np.where(
        scene <= 1 / 12, np.sqrt(3 * scene), 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    )
    path = write_yuv(
        tmp_path / "a.mkv",
        to_yuv(signal, "bt2020", 10),
        10,
        color_trc=18,
        color_primaries=9,
        colorspace=9,
        color_range=1,
    )
    assert are_near(corners(first_frame(path)), CORNERS, 26)


@pytest.mark.parametrize(
    ("matrix", "lines", "tags"),
    [
        ("bt601", 480, {}),
        ("bt709", 720, {}),
        ("bt709", 1080, {}),
        ("bt709", 480, {"colorspace": 1}),
        ("bt601", 720, {"colorspace": 6}),
        ("bt2020", 720, {"colorspace": 9}),
        ("bt709", 720, {"color_range": 2}),
        ("bt601", 480, {"color_range": 2}),
    ],
)
def test_matrix_and_range_of_sdr(tmp_path: Path, matrix: str, lines: int, tags: dict[str, int]) -> None:
    rgb = four_colours(160, lines) / 255
    yuv = to_yuv(rgb, matrix, 8, full=tags.get("color_range") == 2)
    path = write_yuv(tmp_path / "a.mkv", yuv, 8, **tags)
    assert are_near(corners(first_frame(path, side=80)), CORNERS, 3)


@pytest.mark.parametrize(
    ("name", "codec", "pixel_format"),
    [
        ("a.mov", "qtrle", "argb"),
        ("b.mov", "png", "rgba"),
        ("c.mov", "prores_ks", "yuva444p10le"),
        ("d.webm", "libvpx-vp9", "yuva420p"),
        ("e.mkv", "ffv1", "yuva420p"),
        ("f.mkv", "ffv1", "bgra"),
        ("g.mkv", "ffv1", "gbrap10le"),
    ],
)
def test_transparent_frames_are_on_white(tmp_path: Path, name: str, codec: str, pixel_format: str) -> None:
    plan = StreamPlan(codec, pixel_format=pixel_format)
    path = write_streams(tmp_path / name, [plan], lambda _, plan: four_colours(*plan.size, TRANSPARENT))
    assert are_near(corners(first_frame(path)), ON_WHITE, 4)
