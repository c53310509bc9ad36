"""`bindsearch doctor`: all well on a sound installation, and each broken one named with what repairs it."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

import bindsearch as bs
from bindsearch import environment
from bindsearch.encoders.model_store.installed import FORMAT, ModelManifest, model_folder, write_manifest
from bindsearch.operations.doctor import Check, Level, diagnose
from bindsearch.operations.doctor import machine as doctor_machine
from bindsearch.operations.doctor.models import check_encoders
from helpers.broken_library import break_library, copy_installed


def doctor(
    place: Path, *arguments: str, broken: Path | None = None, variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("bindsearch")), "doctor", *arguments]
    found = {"PYTHONPATH": str(broken)} if broken is not None else {}
    folders = {"BINDSEARCH_STORE": str(place / "store"), "BINDSEARCH_MODELS": str(place / "models")}
    environ = {**os.environ, **folders, **found, **(variables or {})}
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=300)


def problems(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, str]]:
    report = json.loads(done.stdout)
    found = {check["name"]: check for check in report["checks"] if check["level"] == "problem"}
    assert report["healthy"] == (not found) == (done.returncode == 0)
    assert done.returncode in (0, 5)
    return found


def test_a_sound_installation(tmp_path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = doctor(tmp_path)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stdout
    assert done.stderr == ""
    assert done.stdout.endswith("no problems\n")
    for name in ("torch", "faiss", "numpy", "PyAV", "libsndfile", "HEIC", "mini", "none at", "GB free"):
        assert name in done.stdout
    assert after.ru_utime - before.ru_utime < 4.0  # 2 s are asked for; machines that are busy take longer
    assert not (tmp_path / "store").exists()


def test_torch_is_not_imported() -> None:
    script = "import sys, pathlib; from bindsearch.operations.doctor import diagnose; place = pathlib.Path('/none')"
    command = [sys.executable, "-c", f"{script}; print(len(list(diagnose(place))) > 20, 'torch' in sys.modules)"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout == "True False\n"


def test_deep_embeds_one_item_of_each_modality(tmp_path: Path) -> None:
    done = doctor(tmp_path, "--deep", "--json")
    assert problems(done) == {}
    deep = [check for check in json.loads(done.stdout)["checks"] if check["topic"] == "deep"]
    assert Counter(check["name"].split()[0] for check in deep) == Counter(list(bs.Modality))
    assert all(check["level"] == "ok" for check in deep)


@pytest.mark.parametrize("module", ["av", "soundfile", "torchaudio", "faiss", "torchvision"])
def test_a_library_that_is_cut_off(tmp_path: Path, module: str) -> None:
    broken = break_library(tmp_path / "broken", module, "cut off")
    distribution = environment.distribution_of(module)
    found = problems(doctor(tmp_path, "--json", broken=broken))
    assert found.keys() == {distribution}
    version = metadata.version(distribution)
    assert f"{version}: damaged: " in found[distribution]["message"]
    assert "has 20000 of " in found[distribution]["message"]
    assert found[distribution]["remedy"] == f"pip install --force-reinstall --no-deps {distribution}=={version}"


@pytest.mark.parametrize(
    ("module", "how"),
    [("av", "ImportError"), ("soundfile", "OSError"), ("torchaudio", "OSError"), ("faiss", "ImportError"),
     ("torchvision", "RuntimeError"), ("torch", "OSError")],
)  # fmt: skip
def test_a_stub_in_place_of_a_library(tmp_path: Path, module: str, how: str) -> None:
    broken = break_library(tmp_path / "broken", module, how)
    distribution = environment.distribution_of(module)
    found = problems(doctor(tmp_path, "--json", broken=broken))
    assert found.keys() == {distribution}
    assert f"is imported from {broken / module}.py" in found[distribution]["message"]
    assert found[distribution]["remedy"] == f"remove or rename {broken / module}.py"


def test_a_library_that_cannot_be_imported(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    copy_installed("av", broken)
    start = broken / "av" / "__init__.py"
    start.write_text(start.read_text() + "\nraise ImportError('libstub.so.7: cannot open shared object file')\n")
    found = problems(doctor(tmp_path, "--json", broken=broken))
    assert found.keys() == {"av"}
    assert "libstub.so.7" in found["av"]["message"]


def test_versions_that_do_not_fit(tmp_path: Path) -> None:
    """Metadata of other versions stands before what is installed: nothing of it is imported."""
    broken = tmp_path / "broken"
    broken.mkdir()
    copy_installed("torchaudio", broken)
    (info,) = broken.glob("torchaudio-*.dist-info")
    text = (info / "METADATA").read_text()
    version = metadata.version("torchaudio")
    (info / "METADATA").write_text(text.replace(f"Version: {version}", "Version: 2.10.0", 1))
    found = problems(doctor(tmp_path, "--json", broken=broken))
    torch = metadata.version("torch")
    assert found["torchaudio"]["message"] == f"2.10.0: was not tested with torch {torch}"
    assert found["torchaudio"]["remedy"].startswith("pip install 'torchaudio==2.11.")


def test_a_file_that_is_missing(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    copy_installed("safetensors", broken)
    (broken / "safetensors" / "torch.py").unlink()
    found = problems(doctor(tmp_path, "--json", broken=broken))
    assert found.keys() == {"safetensors"}
    assert "safetensors/torch.py is missing" in found["safetensors"]["message"]


def test_a_bound_model_whose_parts_are_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BINDSEARCH_MODELS", str(tmp_path))
    facts: dict[str, dict[str, Any]] = {
        "bound:bridged": {"bridge": [{"encoder": "mini"}, {"encoder": "hf:org/clap"}]},
        "bound:night": {"hub": "openclip:A/b"},
        "bound:small": {"hub": "mini"},
    }
    for name, architecture in facts.items():
        folder = model_folder(name)
        folder.mkdir(parents=True)
        write_manifest(
            folder,
            ModelManifest(
                format=FORMAT,
                name=name,
                family="bound",
                architecture=architecture,
                dtype="fp32",
                source="",
                source_sha256="",
                source_bytes=0,
                license="",
                created="",
                temperatures={},
                files={},
            ),
        )
    found = {check.name: check for check in check_encoders() if check.name in facts}
    assert {name: check.level for name, check in found.items()} == {
        "bound:bridged": Level.PROBLEM,
        "bound:night": Level.PROBLEM,
        "bound:small": Level.OK,
    }
    assert found["bound:bridged"].message == (
        "the model hf:org/clap is not installed: download it with `bindsearch model pull hf:org/clap`"
    )


def of(checks: list[Check], name: str) -> Check:
    (found,) = [check for check in checks if check.name == name]
    return found


def test_the_store_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    media = tmp_path / "media"
    media.mkdir()
    (media / "note.txt").write_text("a dog")
    (media / "bad.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    with bs.connect(tmp_path / "store", encoder="null") as store:
        store.index(media)
    healthy = of(list(diagnose(tmp_path / "store")), "store")
    assert healthy.level is Level.OK
    assert healthy.message.startswith("1 items, 1 failed files")
    monkeypatch.setattr("bindsearch.operations.doctor.models.is_installation_failure", lambda _reason: True)
    waiting = of(list(diagnose(tmp_path / "store")), "failed files")
    assert waiting.remedy == "the next `bindsearch index` retries them"
    (tmp_path / "store" / "store.json").write_text("{")
    damaged = of(list(diagnose(tmp_path / "store")), "store")
    assert damaged.level is Level.PROBLEM
    assert damaged.remedy == f"bindsearch verify --store {tmp_path / 'store'}"


def test_a_damaged_snapshot_is_reported_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("a dog")
    with bs.connect(tmp_path / "store", encoder="null") as store:
        store.index(tmp_path / "note.txt")
    for part in (tmp_path / "store" / "snapshots").glob("*/items.arrow"):
        part.write_bytes(part.read_bytes()[:100])
    before = {path: path.read_bytes() for path in (tmp_path / "store").rglob("*") if path.is_file()}
    damaged = of(list(diagnose(tmp_path / "store")), "store")
    assert damaged.level is Level.PROBLEM
    assert {path: path.read_bytes() for path in (tmp_path / "store").rglob("*") if path.is_file()} == before


def test_limits_and_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "max_user_watches").write_text("8192\n")
    (tmp_path / "max_user_instances").write_text("128\n")
    monkeypatch.setattr(doctor_machine, "INOTIFY", tmp_path)
    (limits,) = doctor_machine.check_watch_limits()
    assert limits.level is Level.NOTE
    assert "sysctl fs.inotify.max_user_watches=" in limits.remedy
    monkeypatch.setattr(doctor_machine, "LOW_SPACE_BYTES", 1 << 62)
    space = list(doctor_machine.check_disk(tmp_path / "store"))
    assert {check.level for check in space} == {Level.PROBLEM}


def test_gpus_that_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that is too old for torch, and two GPUs of which FAISS sees none; the driver here is made up."""
    monkeypatch.setattr(doctor_machine, "_driver", lambda: (["A", "B"], (12, 4)))
    monkeypatch.setattr(doctor_machine, "_torch_cuda", lambda: "13.0")
    monkeypatch.setattr("faiss.get_num_gpus", lambda: 0, raising=False)
    checks: list[Any] = list(doctor_machine.check_gpu(deep=False))
    assert [check.level for check in checks] == [Level.OK, Level.PROBLEM, Level.PROBLEM]
    assert "torch was built for CUDA 13.0, the driver supports CUDA 12.4" in checks[1].message
    assert checks[2].message == "sees 0 of 2 GPUs"


def test_the_version_of_cuda_is_read_without_torch() -> None:
    import torch

    assert doctor_machine._torch_cuda() == torch.version.cuda
