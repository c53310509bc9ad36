"""Context of an operation that writes to a store: its folder, encoder, segment lengths and GPUs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bindsearch.encoders import has_options, load_encoder
from bindsearch.encoders.base import Encoder
from bindsearch.encoders.torch_runtime.device import Runtime
from bindsearch.indexes.gpu.placement import GpuResidency
from bindsearch.storage.config import STORE_FILE, SegmentLengths, check_encoder, read_config
from bindsearch.types import DecodeIn

DEFAULT_ENCODER = "mini"

Options = Mapping[str, str | int | float | bool]


@dataclass(frozen=True)
class StoreContext:
    """Context of an operation that writes to a store.

    Attributes:
        path: Folder of the store.
        encoder: Encoder of the store.
        segments: Segment lengths that a new store is created with.
        gpus: GPUs that indexes are built and searched on.
        decode: Where files are decoded: in worker processes or in threads.
    """

    path: Path
    encoder: Encoder
    segments: SegmentLengths
    gpus: GpuResidency
    decode: DecodeIn = DecodeIn.PROCESS


def load_store_encoder(path: Path, encoder: str | Encoder | None, options: Options, runtime: Runtime) -> Encoder:
    """Load the encoder of the store at `path`, or of the store that will be created there.

    Args:
        path: Folder of the store.
        encoder: A name or an encoder; None: the encoder that the store was created with, `mini` for a new store.
        options: Preprocessing options of an encoder given by name; they override those that the store was created with.
        runtime: Device and settings that towers run with.

    Returns:
        The encoder, ready to use.

    Raises:
        StoreError: the store was created with another encoder.
        EncoderError: there is no such encoder, or its model is not installed.
        UsageError: the encoder has no such option.
    """
    config = read_config(path) if (path / STORE_FILE).is_file() else None
    name = encoder
    if name is None:
        name = DEFAULT_ENCODER if config is None else config.encoder
    if isinstance(name, str):
        if config is not None and name == config.encoder and has_options(name):
            options = {**config.encoder_options, **options}
        loaded = load_encoder(name, options=options, runtime=runtime)
    else:
        loaded = name
    if config is not None:
        check_encoder(config, loaded, path)
    return loaded
