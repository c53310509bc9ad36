"""Checks of the machine: Python, processor, GPU, free space and system limits."""

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
from bindsearch.operations.doctor.libraries import Check, Level, checked

PYTHONS = ((3, 11), (3, 13))
"""First and last minor version of Python that was tested."""

FEATURES = {"avx2": "AVX2", "avx512f": "AVX-512", "avx512_bf16": "AVX512-BF16", "amx_bf16": "AMX-BF16", "asimd": "NEON"}
"""Processor features that affect speed, by their names in Linux.

FAISS scans with AVX2 and AVX-512; towers multiply bfloat16 matrices with AVX512-BF16 and AMX-BF16.
"""

LOW_SPACE_BYTES = 1 << 30
LOW_WATCHES = 65_536
LOW_INSTANCES = 128

INOTIFY = Path("/proc/sys/fs/inotify")


def check_machine() -> Iterator[Check]:
    """Check Python, the system and the processor."""
    version = sys.version_info[:2]
    is_tested = PYTHONS[0] <= version <= PYTHONS[1]
    span = " to ".join(".".join(map(str, bound)) for bound in PYTHONS)
    message = f"{platform.python_version()}" + ("" if is_tested else f"; {span} were tested")
    remedy = "" if is_tested else f"if something fails, create the environment with Python {span}"
    yield checked("machine", "Python", message, remedy)
    yield Check("machine", "system", Level.OK, f"{platform.system()} {platform.release()} {platform.machine()}")
    flags = _matched(Path("/proc/cpuinfo"), r"^(?:flags|Features)\s*:(.*)$").split()
    known = [name for flag, name in FEATURES.items() if flag in flags]
    slow = platform.machine() in ("x86_64", "AMD64") and bool(flags) and "avx2" not in flags
    memory = _memory_bytes()
    size = f", {memory / 2**30:.0f} GB memory" if memory else ""
    features = ", ".join(known) or ("no relevant features" if flags else "features unknown")
    remedy = "index searches are several times slower without AVX2; nothing else is affected" if slow else ""
    yield checked("machine", "processor", f"{usable_cores()} cores{size}; {features}", remedy)


def check_gpu(*, deep: bool) -> Iterator[Check]:
    """Check the GPUs that the driver and FAISS see, and with `deep` also those that torch sees."""
    driver = _driver()
    built_for = _torch_cuda()
    if driver is None:
        yield Check("gpu", "driver", Level.OK, "no NVIDIA driver: everything runs on the CPU")
    else:
        names, version = driver
        supported = ".".join(map(str, version))
        yield Check("gpu", "driver", Level.OK, f"{', '.join(names) or 'no GPU'}; supports CUDA {supported}")
        if names and built_for is not None and int(built_for.partition(".")[0]) > version[0]:
            fault = f"torch was built for CUDA {built_for}, the driver supports CUDA {supported}"
            yield Check("gpu", "torch", Level.PROBLEM, fault, "update the NVIDIA driver, or use --device cpu")
    expected = len(driver[0]) if driver is not None else 0
    yield from _check_gpus("faiss", expected, "install faiss-gpu with a driver that supports CUDA 12")
    if deep:
        yield from _check_gpus("torch", expected, "install a torch that was built for CUDA")


def check_disk(store: Path) -> Iterator[Check]:
    """Check the free space on the disks of the store and of the models."""
    devices: set[int] = set()
    for name, folder in (("store", store), ("models", models_folder())):
        existing = next((path for path in (folder, *folder.absolute().parents) if path.exists()), None)
        if existing is None or existing.stat().st_dev in devices:
            continue
        devices.add(existing.stat().st_dev)
        free = shutil.disk_usage(existing).free
        low = free < LOW_SPACE_BYTES
        remedy = "free at least 1 GB: an index is written before the old one is removed" if low else ""
        message = f"{free / 2**30:.1f} GB free at {existing}"
        yield checked("disk", f"space for the {name}", message, remedy, Level.PROBLEM)


def check_watch_limits() -> Iterator[Check]:
    """Check how many folders `watch` can watch (Linux; other systems have no such limit)."""
    try:
        watches = int((INOTIFY / "max_user_watches").read_text())
        instances = int((INOTIFY / "max_user_instances").read_text())
    except (OSError, ValueError):
        return
    low = watches < LOW_WATCHES or instances < LOW_INSTANCES
    command = f"sudo sysctl fs.inotify.max_user_watches={8 * LOW_WATCHES} fs.inotify.max_user_instances=512"
    remedy = f"`watch` may run out of watches on large folders: {command}, or --polling"
    message = f"{watches} folders, {instances} watchers per user"
    yield checked("disk", "watch limits", message, remedy if low else "")


def _matched(file: Path, pattern: str) -> str:
    """Return the group of the first line of a file that matches a pattern; empty if there is none."""
    try:
        match = re.search(pattern, file.read_text(), re.MULTILINE)
    except OSError:
        return ""
    return match[1] if match else ""


def _memory_bytes() -> int:
    """Return the size of the main memory in bytes, 0 if it is unknown."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return 0


def _driver() -> tuple[list[str], tuple[int, int]] | None:
    """Return the names of the GPUs and the CUDA version that the driver supports; None if there is no driver."""
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
    """Return the CUDA version that torch was built for, read from its files; None for a build without CUDA."""
    spec = find_spec("torch")
    folder = next(iter(spec.submodule_search_locations or ()), None) if spec else None
    return _matched(Path(folder or "") / "version.py", r"^cuda(?::[^=]*)?\s*=\s*'([\d.]+)'") or None


def _check_gpus(library: str, expected: int, remedy: str) -> Iterator[Check]:
    """Compare the number of GPUs that FAISS or torch sees with that of the driver."""
    try:
        check_libraries([library])
    except InstallationError:  # reported by `check_installed`
        return
    if library == "faiss":
        import faiss

        seen = faiss.get_num_gpus() if hasattr(faiss, "get_num_gpus") else 0
    else:
        import torch

        seen = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if expected or seen:
        remedy = f"{remedy}; or use --device cpu" if seen < expected else ""
        yield checked("gpu", library, f"sees {seen} of {expected} GPUs", remedy, Level.PROBLEM)
