"""Write a checkpoint with the keys, shapes and format of imagebind_huge.pth (4.8 GB) and random weights.

    python benchmarks/make_imagebind_checkpoint.py FILE [--seed N]

It replaces the published checkpoint where only sizes matter: `bindsearch model pull imagebind-huge --from FILE`. Its
embeddings have no meaning.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from bindsearch.encoders.imagebind.config import HUGE
from bindsearch.encoders.imagebind.published_weights import random_checkpoint


def main() -> int:
    """Write the checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.save(random_checkpoint(HUGE, seed=arguments.seed), arguments.file)
    print(f"{arguments.file}: {arguments.file.stat().st_size / 1e9:.2f} GB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
