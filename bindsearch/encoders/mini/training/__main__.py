"""Training of the audio and IMU towers: InfoNCE towards the text embeddings of the labels. See TRAINING.md.

Run as `python -m bindsearch.encoders.mini.training --data DIR --tower audio --leave-out 4 --seed 0 --out FILE`, where
DIR contains the folders `audio_esc10` and `imu_uci_har`. The same seed on the same machine gives the same weights.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from bindsearch.encoders.mini.training.audio import train_audio
from bindsearch.encoders.mini.training.imu import train_imu
from bindsearch.encoders.mini.training.objective import save_network


def main(arguments: Sequence[str] | None = None) -> None:
    """Train one tower and write its weights."""
    parser = argparse.ArgumentParser(
        prog="python -m bindsearch.encoders.mini.training",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with audio_esc10 and imu_uci_har")
    parser.add_argument("--tower", choices=["audio", "imu"], required=True)
    parser.add_argument("--leave-out", type=int, help="fold of ESC-10 or subject of UCI HAR that is not trained on")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="safetensors file to write")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    train = train_audio if options.tower == "audio" else train_imu
    save_network(train(options.data, leave_out=options.leave_out, seed=options.seed), options.out)


if __name__ == "__main__":
    main()
