"""store.json: what a store was made with, fixed for its life."""

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
    """The store used where none is named: $BINDSEARCH_STORE, else `store` in the user's data directory."""
    if named := os.environ.get(STORE_VARIABLE):
        return Path(named).expanduser()
    from platformdirs import user_data_path

    return user_data_path("bindsearch", appauthor=False) / "store"


def resolve_store(path: PathLike | None) -> Path:
    """The folder of a store: the one named, else the default.

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
        """Of sound."""

    @property
    def video_segment_s(self) -> float:
        """Of video."""

    @property
    def imu_segment_s(self) -> float:
        """Of motion."""


@dataclass(frozen=True)
class StoreConfig:
    """Format version, the encoder with its weights and options, segment lengths in seconds, dimensions."""

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
    """The configuration of a new store."""
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
        StoreError: the file is damaged or of another format version.
    """
    try:
        data = json.loads((store / STORE_FILE).read_text())
    except (FileNotFoundError, NotADirectoryError):
        raise StoreNotFoundError(f"no store at {store}: make one with `bindsearch index FOLDER`") from None
    except (OSError, ValueError) as error:
        raise StoreError(
            f"{store / STORE_FILE} cannot be read ({error}): put it back, or index into another store"
        ) from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        found = data.get("format") if isinstance(data, dict) else None
        raise StoreError(f"{store / STORE_FILE} has format {found}, this BindSearch reads {FORMAT}")
    try:
        return StoreConfig(**data)
    except TypeError as error:
        raise StoreError(f"{store / STORE_FILE} is damaged: {error}") from error


def check_encoder(config: StoreConfig, encoder: Encoder, store: Path) -> None:
    """Refuse an encoder whose vectors would not be comparable with those in the store.

    Raises:
        StoreError: another encoder, other weights or other preprocessing options; names both.
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


def _differences(held: Mapping[str, object], given: Mapping[str, object]) -> str:
    keys = sorted(key for key in {*held, *given} if held.get(key) != given.get(key))
    return ", ".join(f"{key}={held.get(key)}, not {given.get(key)}" for key in keys)
