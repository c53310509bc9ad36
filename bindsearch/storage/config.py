"""Configuration of a store (store.json), fixed when the store is created."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from bindsearch.atomic import atomic_write
from bindsearch.encoders.base import Encoder
from bindsearch.errors import StoreError, StoreNotFoundError, UsageError
from bindsearch.types import PathLike

FORMAT = 1
STORE_FILE = "store.json"
STORE_VARIABLE = "BINDSEARCH_STORE"


def default_store() -> Path:
    """Return the default store: $BINDSEARCH_STORE, else `store` in the user's data directory."""
    if named := os.environ.get(STORE_VARIABLE):
        return Path(named).expanduser()
    from platformdirs import user_data_path

    return user_data_path("bindsearch", appauthor=False) / "store"


def resolve_store(path: PathLike | None) -> Path:
    """Return the folder of a store: `path`, or the default if it is None.

    Raises:
        UsageError: the path is empty.
    """
    if path is not None and not os.fspath(path):
        raise UsageError("the store's path is empty: name a folder")
    return default_store() if path is None else Path(path).expanduser()


class SegmentLengths(Protocol):
    """Lengths of segments in seconds."""

    @property
    def audio_segment_s(self) -> float:
        """Length of audio segments."""

    @property
    def video_segment_s(self) -> float:
        """Length of video segments."""

    @property
    def imu_segment_s(self) -> float:
        """Length of motion (IMU) segments."""


@dataclass(frozen=True)
class StoreConfig:
    """Content of store.json.

    Attributes:
        format: Format version.
        encoder: Name of the encoder.
        weights_digest: Digest of the encoder's weights.
        encoder_options: Preprocessing options of the encoder.
        audio_segment_s: Length of audio segments in seconds.
        video_segment_s: Length of video segments in seconds.
        imu_segment_s: Length of motion segments in seconds.
        dim: Dimensions of the embedding space.
        created: Time of creation, UTC, such as 2026-11-28T12:00:00Z.
    """

    format: int
    encoder: str
    weights_digest: str
    encoder_options: Mapping[str, str | int | float | bool]
    audio_segment_s: float
    video_segment_s: float
    imu_segment_s: float
    dim: int
    created: str


def new_config(encoder: Encoder, segments: SegmentLengths) -> StoreConfig:
    """Return the configuration of a new store."""
    return StoreConfig(
        format=FORMAT,
        encoder=encoder.name,
        weights_digest=encoder.digest,
        encoder_options=dict(encoder.options),
        audio_segment_s=segments.audio_segment_s,
        video_segment_s=segments.video_segment_s,
        imu_segment_s=segments.imu_segment_s,
        dim=encoder.dim,
        created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    )


def write_config(store: Path, config: StoreConfig) -> None:
    """Write store.json atomically."""
    with atomic_write(store / STORE_FILE) as file:
        file.write(json.dumps(asdict(config), indent=2).encode() + b"\n")


def read_config(store: Path) -> StoreConfig:
    """Read store.json.

    Raises:
        StoreNotFoundError: there is no store in that folder.
        StoreError: the file is damaged or has another format version.
    """
    try:
        data = json.loads((store / STORE_FILE).read_text())
    except (FileNotFoundError, NotADirectoryError):
        raise StoreNotFoundError(f"no store at {store}: create one with `bindsearch index FOLDER`") from None
    except (OSError, ValueError) as error:
        raise StoreError(
            f"{store / STORE_FILE} cannot be read ({error}): put it back, or index into another store"
        ) from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        version = data.get("format") if isinstance(data, dict) else None
        raise StoreError(f"{store / STORE_FILE} has format {version}, this BindSearch reads {FORMAT}")
    try:
        return StoreConfig(**data)
    except TypeError as error:
        raise StoreError(f"{store / STORE_FILE} is damaged: {error}") from error


def check_encoder(config: StoreConfig, encoder: Encoder, store: Path) -> None:
    """Check that an encoder's vectors are comparable with those in the store.

    Raises:
        StoreError: encoder, weights or preprocessing options differ; the message names both.
    """
    if config.encoder != encoder.name:
        raise StoreError(
            f"the store {store} holds vectors of encoder {config.encoder}, not of {encoder.name}: "
            "use that encoder, or index into another store (--store)"
        )
    if config.weights_digest != encoder.digest:
        raise StoreError(
            f"the store {store} holds vectors of other weights of {config.encoder} (digest {config.weights_digest}, "
            f"now {encoder.digest}): restore those weights, or index into another store (--store)"
        )
    if differences := _differences(config.encoder_options, encoder.options):
        raise StoreError(
            f"the store {store} was made with {differences}: "
            "leave the encoder's options as they are, or index into another store (--store)"
        )


def _differences(stored: Mapping[str, object], given: Mapping[str, object]) -> str:
    keys = sorted(key for key in {*stored, *given} if stored.get(key) != given.get(key))
    return ", ".join(f"{key}={stored.get(key)}, not {given.get(key)}" for key in keys)
