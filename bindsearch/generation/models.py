"""Decoders on disk: an installed model, or a folder of the user. Nothing is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bindsearch.arguments import shown, to_path_text
from bindsearch.encoders.model_store.download import hash_sha256
from bindsearch.encoders.model_store.hub import describe_folder
from bindsearch.encoders.model_store.installed import list_models, read_model, snapshot_folder
from bindsearch.encoders.model_store.snapshot_files import choose_files, digest_of, read_folder
from bindsearch.encoders.unclip.folder import CONFIGS, PipelineShape, folder_files, read_shape, weight_files
from bindsearch.errors import EncoderError, UsageError
from bindsearch.types import PathLike

PREFIX = "unclip:"
HOW_TO_INSTALL = (
    f"`bindsearch model pull {PREFIX}ORG/NAME` installs one, such as {PREFIX}stabilityai/stable-diffusion-2-1-unclip"
)


@dataclass(frozen=True, slots=True)
class DecoderFiles:
    """A decoder on disk.

    Attributes:
        name: Name of the model, or path of its folder.
        folder: Folder of the pipeline.
        license: Licence of the weights, "not stated" if it is unknown.
        digest: SHA-256 over the paths and digests of its files, hex: the same in a folder and installed.
        shape: Sizes of the pipeline.
    """

    name: str
    folder: Path
    license: str
    digest: str
    shape: PipelineShape


def find_decoder(model: PathLike | None) -> DecoderFiles:
    """Return a decoder; its configurations are checked.

    Args:
        model: Name of an installed model, "unclip:ORG/NAME", or a folder; None: the one that is installed.

    Raises:
        UsageError: there is no such folder, or it has to be chosen which decoder to use.
        EncoderError: the model is not installed, or it is not an unCLIP pipeline, or it is damaged.
    """
    given = _only_installed() if model is None else to_path_text(model)
    if given.startswith(PREFIX):
        manifest = read_model(given)
        folder = snapshot_folder(manifest)
        shape = read_shape(given, folder_files(folder))
        return DecoderFiles(given, folder, manifest.license, manifest.source_sha256, shape)
    folder = Path(given).expanduser()
    if not folder.is_dir():
        problem = "is not a folder" if folder.exists() else "does not exist"
        raise UsageError(f"the model {shown(given)} {problem}: give {PREFIX}ORG/NAME or the folder of a pipeline")
    _check_links(folder)
    shape = read_shape(str(folder), folder_files(folder))
    try:
        files = choose_files(str(folder), read_folder(str(folder), folder))[0]
        digest = digest_of({file.path: hash_sha256(folder / file.path, lambda _done, _total: None) for file in files})
        stated = describe_folder(folder, ()).license
    except OSError as error:
        raise UsageError(f"the model {shown(given)} cannot be read: {error}") from error
    return DecoderFiles(str(folder), folder, stated or "not stated", digest, shape)


def _check_links(folder: Path) -> None:
    """Check that no component is a link to a folder, which the digest would not look into.

    Raises:
        UsageError: one is.
    """
    for path in CONFIGS.values():
        if (folder / path).parent.is_symlink():
            raise UsageError(f"{(folder / path).parent} is a link: copy the folder, so that all files are recorded")


def count_parameters(decoder: DecoderFiles) -> int:
    """Return the number of weights of all components, from the headers of their files.

    Raises:
        EncoderError: a file is damaged.
    """
    from safetensors import SafetensorError, safe_open

    total = 0
    for path in weight_files(decoder.folder):
        try:
            with safe_open(path, framework="np") as file:
                for name in file.keys():  # noqa: SIM118  (not a mapping)
                    size = 1
                    for side in file.get_slice(name).get_shape():
                        size *= side
                    total += size
        except (OSError, SafetensorError) as error:
            raise EncoderError(f"{path} cannot be read ({error}): install the model again") from error
    return total


def _only_installed() -> str:
    """Return the name of the decoder that is installed.

    Raises:
        EncoderError: there is none.
        UsageError: there are several.
    """
    names = [manifest.name for manifest in list_models() if manifest.name.startswith(PREFIX)]
    if not names:
        raise EncoderError(f"no decoder is installed: {HOW_TO_INSTALL}; or give the folder of one (--model FOLDER)")
    if len(names) > 1:
        raise UsageError(f"several decoders are installed: choose one with --model, of {', '.join(names)}")
    return names[0]
