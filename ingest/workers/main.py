"""Worker process: inspects and decodes files one after the other, as ordered.

    python -m bindsearch.ingest.workers.main SOCKET ARENA

(file descriptors; started by `bindsearch.ingest.workers.process`)

It answers each job in turn: an inspection with its result, a decoding with its segments as they come, then `Done`.
A crash ends this process, not the run.
"""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from bindsearch.ingest.inspect.inspect_file import check_same, inspect_file
from bindsearch.ingest.workers.messages import Done, Job, Ready, SegmentFacts, Setup, Unusable
from bindsearch.ingest.workers.protocol import RunEndedError, WorkerEnd
from bindsearch.media import NO_READING, merge_readings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bindsearch.encoders.base import Encoder


def serve(channel: WorkerEnd, encoder: Encoder) -> None:
    """Do jobs until the run ends."""
    from bindsearch.ingest.workers.prepare import failure_of

    setup: Setup | None = None
    while (order := channel.receive()) is not None:
        if isinstance(order, Setup):
            setup = order
            continue
        assert setup is not None
        for job in order:
            try:
                for message, views in _outcome(job, setup, encoder):
                    channel.send(message, views)
            except RunEndedError:
                raise
            except BaseException as error:  # not even a panic of a library may end the worker
                channel.send(failure_of(error))


def _outcome(job: Job, setup: Setup, encoder: Encoder) -> Iterator[tuple[object, NDArray[Any] | None]]:
    """Yield the answers to a job, with the views of segments."""
    from bindsearch.ingest.workers.prepare import prepare_file

    if job.inspection is None:
        yield inspect_file(job.file, setup.inspect), None
        return
    reading = NO_READING
    for segment in prepare_file(job.file, job.inspection, encoder, setup.decode):
        reading = merge_readings(reading, segment.reading)
        yield SegmentFacts(segment.modality, segment.start_s, segment.end_s, segment.text), segment.views
    check_same(job.file.path, job.inspection.content_state)
    yield Done(reading), None


def main(arguments: Sequence[str]) -> None:
    """Serve over the given file descriptors."""
    import pickle

    from bindsearch.ingest.workers.process import ProcessWorkerEnd

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the run decides when its workers end
    channel = ProcessWorkerEnd(*map(int, arguments))
    packed = channel.receive()
    try:
        encoder = pickle.loads(packed)
    except BaseException as error:  # the encoder's own code may raise anything in another process
        channel.send(Unusable(f"{type(error).__name__}: {error}"))
        return
    channel.send(Ready())
    with contextlib.suppress(RunEndedError):
        serve(channel, encoder)


if __name__ == "__main__":
    main(sys.argv[1:])
