"""An encoder that kills its process, hangs or tells where it runs, as a text asks; importable by workers."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from bindsearch.encoders.null import NullEncoder
from bindsearch.media import Media, Passage


class CrashingEncoder(NullEncoder):
    """An encoder whose process can be made to crash.

    `log`: a file that gets a line "process text" for each text prepared. A text "crash" kills the process, "crash once"
    only if the log does not contain it yet, "hang" never ends.
    """

    def __init__(self, log: Path) -> None:
        self._log = log

    def prepare(self, media: Media) -> NDArray[Any]:
        assert isinstance(media, Passage)
        seen = self._log.read_text() if self._log.exists() else ""
        with self._log.open("a") as log:
            log.write(f"{os.getpid()} {media.text}\n")
        if media.text == "crash" or (media.text == "crash once" and "crash once" not in seen):
            os.kill(os.getpid(), signal.SIGSEGV)
        if media.text == "hang":
            time.sleep(60)
        return super().prepare(media)
