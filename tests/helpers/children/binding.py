"""Bind a tower of the constructed world; for tests that kill it or run several of it.

python binding.py TABLE OUT STEPS SETTING...

STEPS: a file that gets a line for each step, with its number and loss.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from bindsearch.binding.bind import BindOptions, bind
from bindsearch.binding.training import train
from bindsearch.binding.training.train import StepReport
from bindsearch.encoders import registry
from helpers.bound_world import THERMAL_SETTINGS, WorldEncoder


def main() -> None:
    """Train as told, with a checkpoint after each step."""
    table, out, steps, *settings = sys.argv[1:]
    torch.set_num_threads(1)
    registry.BUILT_IN = {**registry.BUILT_IN, "world": WorldEncoder}
    train.CHECKPOINT_S = 0.0
    with Path(steps).open("a") as file:

        def write(report: StepReport) -> None:
            file.write(f"{report.step} {report.loss!r}\n")
            file.flush()

        work = BindOptions(work=Path(steps).parent / "work")
        bind(table, "thermal", "world", out, settings=[*THERMAL_SETTINGS, *settings], options=work, on_step=write)


if __name__ == "__main__":
    main()
