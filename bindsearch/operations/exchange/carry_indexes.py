"""Indexes of merged stores: taken over with their operating points where the rows are the same, else built again.

An index and its points are measurements of certain rows in a certain order. They hold in another store if its first
rows of the modality are the same vectors in the same order, all live, and the index settings are equal. The store is
then in the state of the source with rows added to it, and the usual policy decides (`index_policy`): a tail is scanned,
appended or a reason to build, and points are measured again for modalities of queries that the source had none of.
In any other case nothing is taken over: points that were measured with other rows say nothing about these.

Latencies in the points are those of the machine that measured them, as in a store that was copied.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from bindsearch.errors import IndexDamagedError
from bindsearch.indexes.index_files import publish_index
from bindsearch.operations.context import StoreContext
from bindsearch.operations.index_policy import read_index_settings
from bindsearch.operations.optimize import APPEND_ROWS, next_generation
from bindsearch.reports import OnStage
from bindsearch.search.generation import Generation, open_reader
from bindsearch.search.partition import Partition
from bindsearch.storage.session import open_writer


def carry_indexes(context: StoreContext, sources: Mapping[str, Generation], on_stage: OnStage) -> list[str]:
    """Take over indexes of other stores for partitions that have none and begin with the same rows.

    Args:
        context: Store that the rows were merged into.
        sources: Generations of the other stores by their names.
        on_stage: Called with the name of each stage.

    Returns:
        A line for each index that was taken over.

    Raises:
        StoreLockedError: another process is writing.
    """
    notices: list[str] = []
    if not any(source.manifest.indexes for source in sources.values()):
        return notices
    with open_writer(context.path, context.encoder, context.segments) as (_, _, writer):
        writer.compact()
        settings = read_index_settings(context.path)
        target = open_reader(context.path).current()
        for modality, partition in target.partitions.items():
            for name, source in () if modality in target.manifest.indexes else sources.items():
                other = source.partitions.get(modality)
                if other is None or other.index is None or other.index.manifest.settings != settings:
                    continue
                on_stage(f"{modality}: comparing the rows with those of {name}")
                if not _begins_with(partition, other):
                    continue
                writer.set_indexes({modality: _publish(context, partition, other)})
                points = len(other.index.manifest.points)
                notices.append(f"the {modality} index of {name} is taken over, with {points} operating points")
                break
    return notices


def _begins_with(partition: Partition, other: Partition) -> bool:
    """Return whether the first rows of a partition are the rows that the index of another covers, all live."""
    assert other.index is not None
    n = other.index.manifest.n
    if n > partition.n or other.moved:
        return False
    if any(each.alive is not None and not each.alive.flags[:n].all() for each in (partition, other)):
        return False
    for start in range(0, n, APPEND_ROWS):
        rows = np.arange(start, min(start + APPEND_ROWS, n))
        if not np.array_equal(partition.rows.gather(rows), other.rows.gather(rows)):
            return False
    return True


def _publish(context: StoreContext, partition: Partition, other: Partition) -> tuple[str, str]:
    """Write the index of another partition for the same rows; return its folder and the digest of its manifest."""
    opened = other.index
    assert opened is not None
    n = opened.manifest.n
    try:
        codes = None if opened.manifest.gpu_parameters is None else other.open_gpu_codes()
    except IndexDamagedError:  # the policy has them built where a GPU needs them
        codes = None
    manifest = replace(
        opened.manifest,
        generation=next_generation(context.path, partition.modality),
        last_vector_id=int(partition.vector_ids[n - 1]),
        files={},
        gpu_parameters=None if codes is None else opened.manifest.gpu_parameters,
        gpu_points=() if codes is None else opened.manifest.gpu_points,
    )
    return publish_index(context.path, manifest, opened.index, partition.vector_ids[:n], opened.statistics, codes)
