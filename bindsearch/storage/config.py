"""Configuration of a store (store.json), fixed when the store is created."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from bindsearch.arguments import shell_command, shown, to_path
from bindsearch.atomic import atomic_write
from bindsearch.encoders.base import DIM_OPTION, Encoder
from bindsearch.errors import StoreError, StoreNotFoundError, UsageError
from bindsearch.small_files import check_seal, read_json, sealed
from bindsearch.types import PathLike

if TYPE_CHECKING:
    from bindsearch.encoders.torch_runtime.device import Runtime

FORMAT = 2
READABLE_FORMATS = (1, 2)
"""Format versions that can be read; format 1 has no digest."""

STORE_FILE = "store.json"
PUT_BACK = "put it back, or index into another store"
MAX_SEGMENT_S, MAX_DIM = 86_400.0 * 366, 1 << 20
"""Bounds of lengths of segments and of dimensions, beyond which a file is taken to be damaged."""

DEFAULT_ENCODER = "mini"

EncoderOptions = Mapping[str, str | int | float | bool]

STORE_VARIABLE = "BINDSEARCH_STORE"


def default_store() -> Path:
    """Return the default store: $BINDSEARCH_STORE (a path or a name), else `store` in the user's data directory.

    Raises:
        UsageError: the name is ambiguous (`bindsearch.storage.user_file.find_store`).
    """
    if named := os.environ.get(STORE_VARIABLE):
        from bindsearch.storage.user_file import find_store

        return find_store(named).expanduser()
    from platformdirs import user_data_path

    return user_data_path("bindsearch", appauthor=False) / "store"


def resolve_store(path: PathLike | None) -> Path:
    """Return the folder of a store: `path`, or the default if it is None.

    Raises:
        UsageError: the path is empty, or no path.
    """
    if path is None:
        return default_store()
    try:
        return to_path(path).expanduser()
    except RuntimeError as error:
        raise UsageError(f"the path {shown(path)} cannot be used: {error}") from None


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
        file.write(sealed(asdict(config), indent=2) + b"\n")


def read_config(store: Path) -> StoreConfig:
    """Read store.json.

    Raises:
        StoreNotFoundError: there is no store in that folder.
        StoreError: the file is damaged, has another format version, or cannot be read now.
    """
    config = read_json(store / STORE_FILE, lambda data: _checked(data, store / STORE_FILE), PUT_BACK)
    if config is None:
        raise StoreNotFoundError(f"no store at {store}: create one with `bindsearch index FOLDER`")
    return config


def _checked(data: dict[str, Any], path: Path) -> StoreConfig:
    """Return the configuration in store.json; raise ValueError for a field with an impossible value."""
    if data.get("format") not in READABLE_FORMATS:
        raise StoreError(f"{path} has format {data.get('format')}, this BindSearch reads up to {FORMAT}")
    check_seal(data, required=data["format"] == FORMAT)
    config = StoreConfig(**data)
    texts = (config.encoder, config.weights_digest, config.created)
    if not all(isinstance(text, str) for text in texts):
        raise ValueError(f"encoder, weights_digest or created is not a text: {texts!r:.80}")
    options = config.encoder_options
    if not isinstance(options, dict) or not all(isinstance(value, str | int | float) for value in options.values()):
        raise ValueError(f"encoder_options is {options!r:.80}")
    lengths = (config.audio_segment_s, config.video_segment_s, config.imu_segment_s)
    if not all(type(length) in (int, float) and 0 < length < MAX_SEGMENT_S for length in lengths):
        raise ValueError(f"the lengths of segments are {lengths!r:.80}")
    if type(config.dim) is not int or not 0 < config.dim <= MAX_DIM:
        raise ValueError(f"dim is {config.dim!r:.80}")
    return config


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
    cut_to = [options.get(DIM_OPTION) for options in (config.encoder_options, encoder.options)]
    if config.weights_digest != encoder.digest and cut_to[0] == cut_to[1]:
        from bindsearch.encoders.registry import kept_options

        kept = kept_options(config.encoder, config.encoder_options)  # without them, others would be taken
        options = [part for key, value in kept.items() for part in ("--encoder-option", f"{key}={value}")]
        remedy = shell_command("reindex", "--encoder", config.encoder, *options, "--store", store)
        raise StoreError(
            f"the store {store} holds vectors of other weights of {config.encoder} (digest {config.weights_digest}, "
            f"now {encoder.digest}): embed the files again with `{remedy}`, restore those weights, or index into "
            "another store (--store)"
        )
    stored, given = config.encoder_options, encoder.options
    keys = sorted(key for key in {*stored, *given} if stored.get(key) != given.get(key))
    if keys:
        was = (f"{key}={stored[key]}" if key in stored else f"no {key}" for key in keys)
        differences = ", ".join(f"{one}, not {given.get(key, 'none')}" for key, one in zip(keys, was, strict=True))
        raise StoreError(
            f"the store {store} was made with {differences}: "
            "leave the encoder's options as they are, or index into another store (--store)"
        )


def load_store_encoder(path: Path, encoder: str | Encoder | None, options: EncoderOptions, runtime: Runtime) -> Encoder:
    """Load the encoder of the store at `path`, or of the store that will be created there.

    Args:
        path: Folder of the store.
        encoder: A name or an encoder; None: the encoder that the store was created with, `mini` for a new store.
        options: Preprocessing options of an encoder given by name; they override those that the store was created with.
        runtime: Device and settings that towers run with.

    Raises:
        StoreError: the store was created with another encoder.
        EncoderError: there is no such encoder, or its model is not installed.
        UsageError: the encoder has no such option.
    """
    config = None
    with suppress(StoreNotFoundError):
        config = read_config(path)
    return load_encoder_of(config, path, encoder, options, runtime)


def load_encoder_of(
    config: StoreConfig | None, path: Path, encoder: str | Encoder | None, options: EncoderOptions, runtime: Runtime
) -> Encoder:
    """Load the encoder of a store with a configuration; None: of a new store. See `load_store_encoder`."""
    from bindsearch.encoders import load_encoder
    from bindsearch.encoders.registry import kept_options

    if encoder is None:
        encoder = DEFAULT_ENCODER if config is None else config.encoder
    if isinstance(encoder, str):
        if config is not None and encoder == config.encoder:
            options = {**kept_options(encoder, config.encoder_options), **options}
        encoder = load_encoder(encoder, options=options, runtime=runtime)
    if config is not None:
        check_encoder(config, encoder, path)
    return encoder
