"""Sounds in every container and codec that PyAV and soundfile write here."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import soundfile
from numpy.typing import NDArray

from bindsearch.ingest.media import sniff

WRITTEN: dict[str, tuple[str, str, str, int]] = {
    "wav": ("libsndfile", "WAV", "PCM_16", 16_000),
    "w64": ("libsndfile", "W64", "PCM_16", 16_000),
    "rf64": ("libsndfile", "RF64", "PCM_16", 16_000),
    "sph": ("libsndfile", "NIST", "PCM_16", 16_000),
    "voc": ("libsndfile", "VOC", "PCM_16", 16_000),
    "flac": ("libsndfile", "FLAC", "PCM_16", 44_100),
    "ogg": ("libsndfile", "OGG", "VORBIS", 44_100),
    "opus": ("libsndfile", "OGG", "OPUS", 48_000),
    "aiff": ("libsndfile", "AIFF", "PCM_16", 16_000),
    "au": ("libsndfile", "AU", "PCM_16", 16_000),
    "caf": ("libsndfile", "CAF", "PCM_16", 16_000),
    "aifc": ("aiff", "pcm_s16le", "s16", 16_000),
    "mp3": ("mp3", "libmp3lame", "fltp", 44_100),
    "mp2": ("mp2", "mp2", "s16", 44_100),
    "aac": ("adts", "aac", "fltp", 44_100),
    "m4a": ("ipod", "aac", "fltp", 44_100),
    "alac.m4a": ("ipod", "alac", "s16p", 44_100),
    "mka": ("matroska", "aac", "fltp", 44_100),
    "mp3.mka": ("matroska", "libmp3lame", "fltp", 44_100),
    "flac.mka": ("matroska", "flac", "s16", 44_100),
    "weba": ("webm", "libopus", "flt", 48_000),
    "oga": ("ogg", "flac", "s16", 44_100),
    "wma": ("asf", "wmav2", "fltp", 44_100),
    "amr": ("amr", "libopencore_amrnb", "s16", 8_000),
    "ac3": ("ac3", "ac3", "fltp", 48_000),
    "eac3": ("eac3", "eac3", "fltp", 48_000),
    "tta": ("tta", "tta", "s16", 44_100),
    "wv": ("wv", "wavpack", "s16p", 44_100),
    "ulaw.au": ("au", "pcm_mulaw", "s16", 8_000),
    "alac.caf": ("caf", "alac", "s16p", 44_100),
    "mp3.wav": ("wav", "libmp3lame", "fltp", 44_100),
    "adpcm.wav": ("wav", "adpcm_ima_wav", "s16p", 44_100),
    "mts": ("mpegts", "ac3", "fltp", 48_000),
    "aac.mts": ("mpegts", "aac", "fltp", 44_100),
    "mpg": ("mpeg", "mp2", "s16", 48_000),
    "flv": ("flv", "aac", "fltp", 44_100),
    "mp3.flv": ("flv", "libmp3lame", "fltp", 44_100),
    "3gp": ("3gp", "aac", "fltp", 44_100),
    "3g2": ("3g2", "aac", "fltp", 44_100),
    "mov": ("mov", "pcm_s16le", "s16", 44_100),
    "avi": ("avi", "libmp3lame", "fltp", 44_100),
}
"""By extension: libsndfile, format, subtype, sample rate in Hz; or FFmpeg's muxer, encoder, format, sample rate."""

_BITS_PER_S = {"libopencore_amrnb": 12_200, "wmav2": 64_000}


def write_container(path: Path, extension: str, samples: NDArray[np.float32]) -> Path:
    """Write mono samples at the rate of `WRITTEN[extension]`."""
    how, second, third, rate_hz = WRITTEN[extension]
    if how == "libsndfile":
        soundfile.write(path, samples, rate_hz, format=second, subtype=third)
        return path
    with av.open(str(path), "w", format=how) as container:
        stream = container.add_stream(second, rate=rate_hz, layout="mono")
        assert isinstance(stream, av.AudioStream)
        stream.codec_context.format = third
        if second in _BITS_PER_S:
            stream.bit_rate = _BITS_PER_S[second]
        mux_sound(container, stream, samples, rate_hz)
    return path


def mux_sound(container, stream, samples: NDArray[np.float32], rate_hz: int) -> None:  # type: ignore[no-untyped-def]
    """Encode mono samples into a stream and close it."""
    resampler = av.AudioResampler(format=stream.format, layout="mono", rate=rate_hz)
    for start in range(0, len(samples), 1 << 16):
        block = np.ascontiguousarray(samples[None, start : start + (1 << 16)], np.float32)
        frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = rate_hz, start, Fraction(1, rate_hz)
        for converted in resampler.resample(frame):
            container.mux(stream.encode(converted))
    container.mux(stream.encode(None))


def write_vbr_mp3(path: Path, samples: NDArray[np.float32], rate_hz: int, *, counted: bool) -> Path:
    """Write an mp3 of a varying bit rate; its first frame, which counts the others, is left out unless `counted`."""
    soundfile.write(path, samples, rate_hz, bitrate_mode="VARIABLE", compression_level=0.1)
    raw = path.read_bytes()
    frame = sniff._mpeg_frame(raw)
    if not counted:
        assert frame is not None
        path.write_bytes(raw[frame[1] :])
    return path
