"""The spans of recordings as small files that browsers play: sound as MP3 or FLAC, video as WebM with its sound."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np

from bindsearch.environment import raise_installation_fault
from bindsearch.errors import MediaError
from bindsearch.ingest.media.decode import reason_of
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.media import DecodeHints, Frames, Sound
from bindsearch.operations.segment_media import Place, read_segment
from bindsearch.types import Modality

if TYPE_CHECKING:
    from numpy.typing import NDArray

FRAMES_PER_S = 8
LONGEST_S = 60.0
"""Longest part of a span of video that becomes a clip."""

_SHORTER_SIDE_PX = 240
_VIDEO_BITS_PER_S = 400_000
_SOUND_BITS_PER_S = 48_000
_OPUS_RATE_HZ = 48_000
_TICK_S = Fraction(1, 1000)
_MP3_RATES_HZ = (8000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
"""Sample rates of MPEG 1, 2 and 2.5, layer III."""


def clip_of(place: Place, options: DecodeOptions | None = None) -> tuple[bytes, str]:
    """Return a span of a sound or video as a file that browsers play, and its type as they name it.

    Args:
        place: The span; without one, the first segment.
        options: Limits and lengths of segments; None: the defaults.

    Raises:
        MediaError: the file is gone, has changed, or is damaged, or the clip cannot be written.
    """
    options = options or DecodeOptions()
    hints = DecodeHints(_SHORTER_SIDE_PX // 2, FRAMES_PER_S)
    if place.modality is Modality.VIDEO and place.start_s is not None and place.end_s is not None:
        place = replace(place, end_s=min(place.end_s, place.start_s + LONGEST_S))
    media = read_segment(place, options, hints).media
    try:
        if isinstance(media, Sound):
            return _sound_clip(media)
        if isinstance(media, Frames):
            return _webm(media, place.start_s or 0.0, _sound_of(place, options)), "video/webm"
    except Exception as error:  # libraries raise many errors
        raise_installation_fault(error)
        raise MediaError(f"cannot be written as a clip: {reason_of(error)}") from error
    raise MediaError(f"{place.modality} has no clip")


def _sound_clip(sound: Sound) -> tuple[bytes, str]:
    import soundfile

    file = BytesIO()
    samples = np.clip(sound.samples, -1, 1)
    form, media_type = ("MP3", "audio/mpeg") if sound.sample_rate_hz in _MP3_RATES_HZ else ("FLAC", "audio/flac")
    soundfile.write(file, samples, sound.sample_rate_hz, format=form)
    return file.getvalue(), media_type


def _sound_of(place: Place, options: DecodeOptions) -> Sound | None:
    """Return the sound of a span of video; None if it has none that can be read."""
    try:
        media = read_segment(replace(place, modality=Modality.AUDIO), options, DecodeHints(1, 1.0)).media
    except MediaError:
        return None
    return media if isinstance(media, Sound) else None


def _webm(frames: Frames, start_s: float, sound: Sound | None) -> bytes:
    """Return frames as VP8 and a sound as Opus in WebM; times start at 0."""
    import av

    file = BytesIO()
    height, width = (side - side % 2 for side in frames.rgb.shape[1:3])
    with av.open(file, "w", format="webm") as container:
        video = container.add_stream("libvpx", rate=FRAMES_PER_S)
        video.width, video.height, video.pix_fmt = max(2, width), max(2, height), "yuv420p"
        video.bit_rate, video.codec_context.time_base = _VIDEO_BITS_PER_S, _TICK_S
        video.options = {"deadline": "realtime", "cpu-used": "8"}
        audio = None if sound is None else container.add_stream("libopus", rate=_OPUS_RATE_HZ, layout="mono")
        if audio is not None:
            audio.bit_rate = _SOUND_BITS_PER_S
        for time_s, rgb in zip(frames.times_s.tolist(), frames.rgb, strict=True):
            frame = av.VideoFrame.from_ndarray(_even(rgb), format="rgb24")
            frame.pts, frame.time_base = round(max(0.0, time_s - start_s) / _TICK_S), _TICK_S
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if audio is not None and sound is not None:
            resampler = av.AudioResampler(format="flt", layout="mono", rate=_OPUS_RATE_HZ, frame_size=960)
            samples = np.ascontiguousarray(sound.samples[None])
            whole = av.AudioFrame.from_ndarray(samples, format="flt", layout="mono")
            whole.sample_rate, whole.pts, whole.time_base = sound.sample_rate_hz, 0, Fraction(1, sound.sample_rate_hz)
            for sound_frame in (*resampler.resample(whole), *resampler.resample(None)):
                container.mux(audio.encode(sound_frame))
            container.mux(audio.encode(None))
    return file.getvalue()


def _even(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return pixels with an even width and height, as chroma of half the size needs."""
    padded = np.pad(rgb, ((0, int(len(rgb) == 1)), (0, int(rgb.shape[1] == 1)), (0, 0)), mode="edge")
    height, width = (side - side % 2 for side in padded.shape[:2])
    return np.ascontiguousarray(padded[:height, :width])
