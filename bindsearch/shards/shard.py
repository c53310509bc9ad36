"""A shard opened as a store: it can be searched and mended, but files come into it by its sharded store alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

from bindsearch.arguments import shell_command
from bindsearch.errors import UsageError
from bindsearch.store import Store


class Shard(Store):
    """A shard as a store; see `Store`. What would give it files of other shards is refused."""

    def __init__(self, root: Path, path: Path, **options: Any) -> None:
        """Prepare access to a shard of the sharded store in `root`; see `connect` for the options."""
        super().__init__(path, **options)
        self._root = root

    def index(self, *_: Any, **__: Any) -> NoReturn:
        """Raise UsageError: a shard has a share of the files of each folder."""
        raise self._refusal("index")

    def watch(self, *_: Any, **__: Any) -> NoReturn:
        """Raise UsageError: a shard has a share of the files of each folder."""
        raise self._refusal("watch")

    def retry(self, *_: Any, **__: Any) -> NoReturn:
        """Raise UsageError: a shard has a share of the files of each folder."""
        raise self._refusal("retry")

    def reindex(self, *_: Any, **__: Any) -> NoReturn:
        """Raise UsageError: all shards have one encoder."""
        raise self._refusal("index")

    def relocate(self, *_: Any, **__: Any) -> NoReturn:
        """Raise UsageError: collections have one root in all shards."""
        raise self._refusal("relocate")

    def _refusal(self, command: str) -> UsageError:
        instead = shell_command(command, "--store", self._root)
        return UsageError(f"{self.path} is a shard of {self._root}: run `{instead}` for all of its shards")
