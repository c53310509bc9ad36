"""Opening of a hit with the program that the system has for it, or a player that starts at its span."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bindsearch.arguments import shown
from bindsearch.errors import UsageError, first_line
from bindsearch.types import Modality

OPENER = "BINDSEARCH_OPENER"
"""Variable with a command that opens a hit, with {path} and {start_s} where they belong."""

_PLAYED = (Modality.VIDEO, Modality.AUDIO)
_PLAYERS = {"mpv": ("--start={start_s}", "{path}"), "vlc": ("--start-time={start_s}", "{path}")}
"""Arguments of players that can start at a time."""

_NO_STREAMS = [(os.POSIX_SPAWN_OPEN, stream, os.devnull, os.O_RDWR, 0) for stream in range(3)]
"""Actions that give a program no streams of this one, which may end before."""

_DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY")


def open_hit(hits: Sequence[Mapping[str, Any]], number: int) -> None:
    """Open the hit of a rank, and do not wait.

    Raises:
        UsageError: there is no such hit, its file is gone or in an archive, or nothing can open it here.
    """
    hit = next((one for one in hits if one["rank"] == number), None)
    if hit is None:
        count = len(hits)
        raise UsageError(
            f"--open {number}: there {'is 1 hit' if count == 1 else f'are {count} hits'}: give 1 to {count}"
        )
    if not Path(hit["path"]).is_file():
        where = "it is in an archive: unpack it" if not hit["is_missing"] else "the file is no longer there"
        raise UsageError(f"{hit['path']} cannot be opened: {where}")
    command = command_for(hit, os.environ, shutil.which)
    try:
        os.posix_spawnp(command[0], command, os.environ, file_actions=_NO_STREAMS, setpgroup=0)
    except OSError as error:
        raise UsageError(f"{command[0]} cannot be started: {error.strerror or error}: set {OPENER}") from error


def command_for(
    hit: Mapping[str, Any], environ: Mapping[str, str], which: Callable[[str], str | None], system: str = sys.platform
) -> list[str]:
    """Return the command that opens a hit, without a shell.

    `which` returns the path of a program, None if it is not there; `system` is as `sys.platform`.

    Raises:
        UsageError: there is no program, or no display to open it on.
    """
    given = environ.get(OPENER)
    if given:
        return _filled(_opener(given), hit)
    if system == "darwin":
        return ["open", hit["path"]]
    if not any(environ.get(name) for name in _DISPLAYS):
        raise UsageError(f"a hit cannot be opened without a display: set {OPENER} to a command such as 'less {{path}}'")
    if hit["modality"] in _PLAYED and hit["start_s"]:
        for player, arguments in _PLAYERS.items():
            if which(player) is not None:
                return _filled([player, *arguments], hit)
    if which("xdg-open") is None:
        raise UsageError(f"no program opens files here (xdg-open is not there): set {OPENER} to a command")
    return ["xdg-open", hit["path"]]


def _opener(given: str) -> list[str]:
    """Return the words of OPENER. Raises UsageError: it begins with no program, or has a quote that is not closed."""
    try:
        words = shlex.split(given)
    except ValueError as error:
        raise UsageError(f"{OPENER} is {shown(given)}: {first_line(error)}") from None
    if not words or not words[0] or "{path}" in words[0]:
        raise UsageError(f"{OPENER} is {shown(given)}: begin it with a program, such as 'less {{path}}'")
    return words


def _filled(words: Sequence[str], hit: Mapping[str, Any]) -> list[str]:
    """Return the words of a command with path and start of a hit; the path is appended if no word has it."""
    if not any("{path}" in word for word in words):
        words = [*words, "{path}"]
    start_s = f"{hit['start_s'] or 0:g}"
    return [word.replace("{start_s}", start_s).replace("{path}", hit["path"]) for word in words]
