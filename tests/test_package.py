"""The wheel holds every module and data file, and nothing named cli or indexes lands beside the package."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = Path(__file__).parents[1]
PACKAGES = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-dir"]
DATA_SUFFIXES = {".safetensors", ".json", ".txt", ".csv", ".typed"}


@pytest.fixture(scope="module")
def wheel_names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    tracked = subprocess.run(
        ["git", "ls-files", "-z", "-co", "--exclude-standard"], cwd=PROJECT, capture_output=True, check=True
    )
    for name in filter(None, tracked.stdout.decode().split("\0")):
        place = source / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes((PROJECT / name).read_bytes())
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        str(folder),
        str(source),
    ]
    subprocess.run(command, check=True, capture_output=True)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        return set(wheel.namelist())


def test_every_module_and_data_file_is_in_the_wheel(wheel_names: set[str]) -> None:
    wanted = {
        f"{package.replace('.', '/')}/{path.relative_to(PROJECT / source).as_posix()}"
        for package, source in PACKAGES.items()
        for path in (PROJECT / source).rglob("*")
        if path.suffix in {".py", *DATA_SUFFIXES}
    }
    assert wanted <= wheel_names


def test_the_wheel_has_one_top_level_package(wheel_names: set[str]) -> None:
    tops = {name.split("/")[0] for name in wheel_names if ".dist-info" not in name}
    assert tops == {"bindsearch"}


def test_public_names_are_there_and_sorted() -> None:
    import bindsearch as bs

    assert bs.__all__ == sorted(bs.__all__)
    for name in bs.__all__:
        assert getattr(bs, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = bs.nothing


def test_the_lock_pins_every_dependency_within_its_range() -> None:
    """constraints.txt holds one exact version of each requirement for the platforms that it is for; `make lock`."""
    declared = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    wanted = [*declared["dependencies"], *(line for lines in extras(declared).values() for line in lines)]
    pins = [Requirement(line) for line in (PROJECT / "constraints.txt").read_text().splitlines() if "==" in line]
    assert all(re.fullmatch(r"==[^*,]+", str(pin.specifier)) and pin.url is None for pin in pins)
    for line in wanted:
        requirement = Requirement(line)
        if requirement.name == "bindsearch":
            continue
        found = [pin for pin in pins if canonicalize_name(pin.name) == canonicalize_name(requirement.name)]
        assert found, f"{line}: run `make lock`"
        for pin in found:
            (version,) = (specifier.version for specifier in pin.specifier)
            assert requirement.specifier.contains(version), f"{line}: run `make lock`"


def extras(declared: dict[str, Any]) -> dict[str, list[str]]:
    return {name: lines for name, lines in declared["optional-dependencies"].items() if name != "bench"}
