"""Vectors of files that were embedded before, kept in a folder of the user's choice.

One folder an encoder, by its digest; in it files of NumPy arrays, each written once: keys, and a vector for each. What
has another content, span, crop or declaration has another key, so that nothing is out of date. The folder may be
deleted at any time.
"""

from __future__ import annotations

import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from bindsearch.atomic import atomic_write
from bindsearch.errors import UsageError
from bindsearch.hashing import fingerprint_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from bindsearch.encoders.base import Encoder

FLUSH_S = 5.0
"""Seconds of work that a run that is killed loses."""

FLUSH_ROWS = 4096
_KEY = "S32"


class VectorCache:
    """Vectors of one encoder by key; not to be used by several threads."""

    def __init__(self, folder: Path, encoder: Encoder, clock: Callable[[], float] = time.monotonic) -> None:
        """Read the vectors of an encoder.

        Args:
            folder: Folder of the cache; it is made if it is missing.
            encoder: Encoder that the vectors are of.
            clock: Returns seconds.

        Raises:
            UsageError: the folder cannot be made or read.
        """
        self._folder = folder / encoder.digest
        self._dim = encoder.dim
        self._clock = clock
        self._known: dict[bytes, NDArray[np.float32]] = {}
        self._new: dict[bytes, NDArray[np.float32]] = {}
        self._flushed = clock()
        self.notes: list[str] = []
        """Files of the cache that could not be used, one line each."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            files = sorted(self._folder.glob("*.npz"))
        except OSError as error:
            raise UsageError(f"--cache {folder} cannot be used: {error.strerror or error}") from error
        for file in files:
            self._read(file)

    def __len__(self) -> int:
        """Return the number of vectors."""
        return len(self._known)

    def get(self, key: str) -> NDArray[np.float32] | None:
        """Return the vector (d,) of a key; None if there is none."""
        return self._known.get(key.encode())

    def add(self, key: str, vector: NDArray[np.float32]) -> None:
        """Keep the vector (d,) of a key; it is written within FLUSH_S seconds of work."""
        self._known[key.encode()] = self._new[key.encode()] = vector
        if len(self._new) >= FLUSH_ROWS or self._clock() - self._flushed >= FLUSH_S:
            self.flush()

    def flush(self) -> None:
        """Write what is new.

        Raises:
            UsageError: it cannot be written.
        """
        import numpy as np

        self._flushed = self._clock()
        if not self._new:
            return
        name = fingerprint_of(*(key.decode() for key in self._new))
        try:
            with atomic_write(self._folder / f"{name}.npz") as file:
                np.savez(file, keys=np.array([*self._new], _KEY), vectors=np.stack([*self._new.values()]))
        except OSError as error:
            raise UsageError(f"--cache {self._folder} cannot be written: {error.strerror or error}") from error
        self._new.clear()

    def _read(self, path: Path) -> None:
        """Take the vectors of a file; one that is damaged is noted, and what was in it is embedded again."""
        import numpy as np

        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                keys, vectors = arrays["keys"], arrays["vectors"]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            self.notes.append(f"the file {path.name} of the cache is damaged ({error}): its vectors are made again")
            return
        if keys.ndim != 1 or vectors.shape != (len(keys), self._dim) or vectors.dtype != np.float32:
            self.notes.append(f"the file {path.name} of the cache is damaged (shape): its vectors are made again")
            return
        self._known.update(zip(keys.astype(_KEY).tolist(), vectors, strict=True))
