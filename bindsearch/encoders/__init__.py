"""Encoders by name. Importing this package loads no weights and no torch."""

from __future__ import annotations

from bindsearch.encoders.base import Encoder, encode_media
from bindsearch.errors import EncoderError

__all__ = ["Encoder", "encode_media", "load_encoder"]

ENCODERS = ("mini",)


def load_encoder(name: str) -> Encoder:
    """Return the encoder of that name; its towers load when they are first needed.

    Raises:
        EncoderError: no encoder has that name.
    """
    if name == "mini":
        from bindsearch.encoders.mini import MiniEncoder

        return MiniEncoder()
    if name == "null":
        from bindsearch.encoders.null import NullEncoder

        return NullEncoder()
    raise EncoderError(f"unknown encoder {name!r}: the encoders are {', '.join(ENCODERS)}")
