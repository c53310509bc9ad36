"""Alias of `bindsearch.types` under its former name, for encoders in other packages."""

from bindsearch.types import Modality

__all__ = ["Modality"]
