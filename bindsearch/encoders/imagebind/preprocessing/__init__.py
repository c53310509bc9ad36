"""Preprocessing of each medium for ImageBind's towers: one module a modality, NumPy arrays out, thread-safe, no tower
loaded.

Importing this package does not load torch.
"""

from __future__ import annotations

from bindsearch.encoders.imagebind.preprocessing.options import Preprocessing, parse_preprocessing

__all__ = ["Preprocessing", "parse_preprocessing"]
