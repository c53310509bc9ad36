"""Libraries that cannot be loaded: copies of installed ones that are cut off, and stubs that raise."""

from __future__ import annotations

import shutil
from importlib import metadata
from pathlib import Path

from bindsearch import environment

NATIVE = {
    "av": "av/_core*.so",
    "soundfile": "_soundfile_data/libsndfile*",
    "torchaudio": "torchaudio/lib/libtorchaudio*.so",
    "faiss": "faiss/_swigfaiss*.so",
    "torchvision": "torchvision/_C*.so",
}
"""A library of each module that cannot do without it."""


def copy_installed(module: str, folder: Path) -> None:
    """Copy what is installed of a module, so that it is found there first; large files are linked."""
    distribution = metadata.distribution(environment.distribution_of(module))
    tops = {file.parts[0] for file in distribution.files or () if file.parts[0] not in ("..", "__pycache__")}
    for top in tops:
        source = Path(str(distribution.locate_file(top)))
        if source.is_dir():
            shutil.copytree(source, folder / top, copy_function=_copy_or_link)
        elif source.is_file():
            shutil.copy(source, folder / top)


def _copy_or_link(source: str, target: str) -> None:
    if Path(source).stat().st_size > 1 << 20:
        Path(target).symlink_to(source)
    else:
        shutil.copy(source, target)


def cut_off(path: Path, size: int) -> None:
    content = path.read_bytes()[:size]
    path.unlink()
    path.write_bytes(content)


def break_library(folder: Path, module: str, how: str) -> Path:
    """Make a folder in which a module is found that cannot be imported; to be put on the path."""
    folder.mkdir()
    if how == "cut off":
        copy_installed(module, folder)
        (library,) = list(folder.glob(NATIVE[module]))[:1]
        cut_off(library, 20_000)
    elif how == "missing":
        (folder / f"{module}.py").write_text(f"raise ModuleNotFoundError('No module named {module}', name='{module}')")
    else:
        (folder / f"{module}.py").write_text(f"raise {how}('libstub.so: cannot be loaded')")
    return folder
