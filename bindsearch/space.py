"""Alias of `bindsearch.vectors` under its former name, for encoders in other packages."""

from bindsearch.vectors import l2_normalize

__all__ = ["l2_normalize"]
