"""Worker process: inspects and decodes files one after the other, as ordered.

    python -m bindsearch.ingest.workers.main SOCKET ARENA

(file descriptors; started by `bindsearch.ingest.workers.process`)

It inspects the files that it is sent, and decodes each as soon as the run wants it; see `protocol` for the messages.
A crash ends this process, not the run.
"""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from bindsearch.ingest.inspect.inspect_file import InspectOptions, InspectResult, SourceFile, check_same, inspect_file
from bindsearch.ingest.workers.protocol import RunEndedError, WorkerEnd
from bindsearch.media import NO_READING, merge_readings

if TYPE_CHECKING:
    from bindsearch.encoders.base import Encoder


def serve(channel: WorkerEnd, encoder: Encoder) -> None:
    """Do jobs until the run ends."""
    from bindsearch.ingest.workers.prepare import failure_of

    options: InspectOptions | None = None
    inspected: dict[int, tuple[SourceFile, InspectResult]] = {}
    while (order := channel.receive()) is not None:
        if isinstance(order, InspectOptions):
            options = order
            continue
        assert options is not None
        if isinstance(order, tuple):
            number, is_wanted = order
            file, inspection = inspected.pop(number)
            order = [(number, file, inspection)] if is_wanted else []
        for number, file, inspection in order:
            channel.begin(number)
            try:
                if inspection is None:
                    found = inspect_file(file, options)
                    inspected[number] = file, found
                    channel.send(found)
                    continue
                for answer in _decoded(file, inspection, encoder, options):
                    channel.send(answer)
            except RunEndedError:
                raise
            except BaseException as error:  # not even a panic of a library may end the worker
                channel.send(failure_of(error))


def _decoded(
    file: SourceFile, inspection: InspectResult, encoder: Encoder, options: InspectOptions
) -> Iterator[object]:
    """Yield the segments of a file, then its reading."""
    from bindsearch.ingest.workers.prepare import prepare_file

    reading = NO_READING
    for segment in prepare_file(file, inspection, encoder, options.decode):
        reading = merge_readings(reading, segment.reading)
        yield segment
    check_same(file.path, inspection.content_state)
    yield reading


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
        channel.send(f"{type(error).__name__}: {error}")
        return
    channel.send("")
    with contextlib.suppress(RunEndedError):
        serve(channel, encoder)


if __name__ == "__main__":
    main(sys.argv[1:])
