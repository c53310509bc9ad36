"""The machine: Python, processor, GPU, free space and limits of the system."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from bindsearch.device import usable_cores
from bindsearch.encoders.model_store.installed import models_folder
from bindsearch.environment import check_libraries
from bindsearch.errors import InstallationError
from bindsearch.operations.doctor.check import Check, Level

PYTHONS = ((3, 11), (3, 13))
"""First and last minor version of Python that was tried."""

FEATURES = {"avx2": "AVX2", "avx512f": "AVX-512", "avx512_bf16": "AVX512-BF16", "amx_bf16": "AMX-BF16", "asimd": "NEON"}
"""Features of a processor that matter, as Linux names them: FAISS scans with the first two, towers multiply bfloat16
with the next two."""

LOW_SPACE_BYTES = 1 << 30
LOW_WATCHES = 65_536
LOW_INSTANCES = 128

INOTIFY = Path("/proc/sys/fs/inotify")


def check_machine() -> Iterator[Check]:
    """Look at Python, the system and the processor."""
    version = sys.version_info[:2]
    tried = PYTHONS[0] <= version <= PYTHONS[1]
    span = " to ".join(".".join(map(str, bound)) for bound in PYTHONS)
    yield Check(
        "machine",
        "Python",
        Level.OK if tried else Level.NOTE,
        f"{platform.python_version()}" + ("" if tried else f"; {span} were tried"),
        "" if tried else f"if something fails, make the environment with Python {span}",
    )
    yield Check("machine", "system", Level.OK, f"{platform.system()} {platform.release()} {platform.machine()}")
    flags = _processor_flags()
    known = [name for flag, name in FEATURES.items() if flag in flags]
    slow = platform.machine() in ("x86_64", "AMD64") and bool(flags) and "avx2" not in flags
    memory = _memory_bytes()
    size = f", {memory / 2**30:.0f} GB memory" if memory else ""
    features = ", ".join(known) or ("no feature that matters" if flags else "features not known")
    yield Check(
        "machine",
        "processor",
        Level.NOTE if slow else Level.OK,
        f"{usable_cores()} cores{size}; {features}",
        "indexes are searched several times slower without AVX2; nothing else changes" if slow else "",
    )


def check_gpu(*, deep: bool) -> Iterator[Check]:
    """Look for GPUs as the driver, FAISS and torch see them; torch itself is only asked where `deep`."""
    driver = _driver()
    built_for = _torch_cuda()
    if driver is None:
        yield Check("gpu", "driver", Level.OK, "no NVIDIA driver: everything runs on the CPU")
    else:
        names, version = driver
        yield Check("gpu", "driver", Level.OK, f"{', '.join(names) or 'no GPU'}; supports CUDA {_dotted(version)}")
        if names and built_for is not None and _major(built_for) > version[0]:
            yield Check(
                "gpu",
                "torch",
                Level.PROBLEM,
                f"torch was built for CUDA {built_for}, the driver supports CUDA {_dotted(version)}",
                "update the NVIDIA driver, or use --device cpu",
            )
    expected = len(driver[0]) if driver is not None else 0
    yield from _faiss_gpus(expected)
    if deep:
        yield from _torch_gpus(expected)


def check_disk(store: Path) -> Iterator[Check]:
    """Look at free space where the store and the models lie."""
    seen: set[int] = set()
    for name, folder in (("store", store), ("models", models_folder())):
        place = next((one for one in (folder, *folder.absolute().parents) if one.exists()), None)
        if place is None or place.stat().st_dev in seen:
            continue
        seen.add(place.stat().st_dev)
        free = shutil.disk_usage(place).free
        low = free < LOW_SPACE_BYTES
        yield Check(
            "disk",
            f"space for the {name}",
            Level.PROBLEM if low else Level.OK,
            f"{free / 2**30:.1f} GB free at {place}",
            "free at least 1 GB: an index is written beside the one it replaces" if low else "",
        )


def check_watch_limits() -> Iterator[Check]:
    """Look at how many folders `watch` may watch (Linux; other systems have no such limit)."""
    try:
        watches = int((INOTIFY / "max_user_watches").read_text())
        instances = int((INOTIFY / "max_user_instances").read_text())
    except (OSError, ValueError):
        return
    low = watches < LOW_WATCHES or instances < LOW_INSTANCES
    yield Check(
        "disk",
        "watch limits",
        Level.NOTE if low else Level.OK,
        f"{watches} folders, {instances} watchers a user",
        "`watch` may run out of watches on large folders: "
        f"sudo sysctl fs.inotify.max_user_watches={8 * LOW_WATCHES} fs.inotify.max_user_instances=512, or --polling"
        if low
        else "",
    )


def _processor_flags() -> frozenset[str]:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return frozenset()
    found = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    return frozenset(found[1].split()) if found else frozenset()


def _memory_bytes() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return 0


def _driver() -> tuple[list[str], tuple[int, int]] | None:
    """Names of the GPUs, and the version of CUDA that the driver supports; None where there is no driver."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    version, count = ctypes.c_int(), ctypes.c_int()
    if cuda.cuDriverGetVersion(ctypes.byref(version)):
        return None
    dotted = version.value // 1000, version.value % 1000 // 10
    if cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count)):
        return [], dotted
    names = []
    for number in range(count.value):
        name = ctypes.create_string_buffer(256)
        cuda.cuDeviceGetName(name, 256, number)
        names.append(name.value.decode(errors="replace"))
    return names, dotted


def _torch_cuda() -> str | None:
    """The version of CUDA that the installed torch was built for, read from its files; None for a build without."""
    spec = find_spec("torch")
    folder = next(iter(spec.submodule_search_locations or ()), None) if spec else None
    try:
        text = (Path(folder or "") / "version.py").read_text()
    except OSError:
        return None
    found = re.search(r"^cuda(?::[^=]*)?\s*=\s*'([\d.]+)'", text, re.MULTILINE)
    return found[1] if found else None


def _faiss_gpus(expected: int) -> Iterator[Check]:
    try:
        check_libraries(["faiss"])
    except InstallationError:  # said where the libraries are looked at
        return
    import faiss

    seen = faiss.get_num_gpus() if hasattr(faiss, "get_num_gpus") else 0
    yield from _seen_gpus("faiss", seen, expected, "install faiss-gpu, and see that the driver supports CUDA 12")


def _torch_gpus(expected: int) -> Iterator[Check]:
    try:
        check_libraries(["torch"])
    except InstallationError:
        return
    import torch

    seen = torch.cuda.device_count() if torch.cuda.is_available() else 0
    yield from _seen_gpus("torch", seen, expected, "install a torch that was built for CUDA")


def _seen_gpus(library: str, seen: int, expected: int, remedy: str) -> Iterator[Check]:
    if not expected and not seen:
        return
    fewer = seen < expected
    yield Check(
        "gpu",
        library,
        Level.PROBLEM if fewer else Level.OK,
        f"sees {seen} of {expected} GPUs",
        f"{remedy}; or use --device cpu" if fewer else "",
    )


def _major(version: str) -> int:
    return int(version.partition(".")[0])


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"
