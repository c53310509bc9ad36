"""Preprocessing for ImageBind's towers, one module per modality.

The functions return NumPy arrays, are thread-safe and load no tower. Importing this package does not load torch.
"""

from __future__ import annotations

from bindsearch.encoders.imagebind.preprocessing.options import Preprocessing, parse_preprocessing

__all__ = ["Preprocessing", "parse_preprocessing"]
