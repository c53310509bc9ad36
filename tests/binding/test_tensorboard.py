"""Events for TensorBoard, which is an extra."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bindsearch.binding.training.checkpoint import TrainingLog
from bindsearch.errors import InstallationError


def test_missing_tensorboard_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(InstallationError) as raised:
        TrainingLog(tmp_path / "log.csv", tmp_path / "events", 0)
    assert str(raised.value) == (
        'TensorBoard is not installed: run pip install "bindsearch[tensorboard]", or omit --tensorboard'
    )


def test_events_are_those_of_the_log(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="TensorBoard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with TrainingLog(tmp_path / "log.csv", tmp_path / "events", 0) as log:
        for step in (1, 2):
            log.write(step, loss=step / 4, scale=20.0)
    events = EventAccumulator(str(tmp_path / "events")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(1, 0.25), (2, 0.5)]
    assert (tmp_path / "log.csv").read_text().splitlines()[1].startswith("1,,0.25,")
