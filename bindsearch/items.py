"""`bindsearch.types` under its former name, for encoders of other packages."""

from bindsearch.types import Modality

__all__ = ["Modality"]
