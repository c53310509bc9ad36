"""The data sets by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from bindsearch.arguments import did_you_mean
from bindsearch.errors import UsageError
from bindsearch.evaluation.datasets.dataset import DataSet, Source

DATASETS: Mapping[str, Source] = MappingProxyType({})
"""The data sets that `read_dataset` knows, by the name that `bindsearch eval` takes."""


def read_dataset(name: str, folder: Path, split: str | None = None) -> DataSet:
    """Read the list of a data set; its media are not opened.

    Args:
        name: Its name in DATASETS.
        folder: The folder with the layout that the entry describes.
        split: The part that is read; None: the one that figures are published for.

    Raises:
        UsageError: the name or the split is unknown, the folder has another layout, or none of the files is there.
    """
    source = DATASETS.get(name)
    if source is None:
        near = did_you_mean(name, tuple(DATASETS))
        raise UsageError(f"data set {name!r} is unknown: {near}choose from {', '.join(DATASETS)}")
    if split is not None and split not in source.splits:
        raise UsageError(f"{name} has no split {split!r}: choose from {', '.join(source.splits)}")
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder: {name} is read from a folder with {source.layout}")
    return source.read(folder, split or source.splits[0])
