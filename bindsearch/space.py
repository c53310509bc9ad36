"""`bindsearch.vectors` under its former name, for encoders of other packages."""

from bindsearch.vectors import l2_normalize

__all__ = ["l2_normalize"]
