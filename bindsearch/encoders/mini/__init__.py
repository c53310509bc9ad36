"""Default encoder: seven modalities in the 384-d space of all-MiniLM-L6-v2, with weights from installed packages.

Importing this module loads neither torch nor weights.
"""

from bindsearch.encoders.mini.encoder import MiniEncoder

__all__ = ["MiniEncoder"]
