"""Check types of the package as it is installed, of its tests, its benchmarks and `docs/generate.py`.

In a checkout mypy sees part of the folders only.
"""

import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

PROJECT = Path(__file__).parents[1]
PACKAGES = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-dir"]


def main() -> int:
    """Lay the folders out as the package maps them and run mypy over the result."""
    with tempfile.TemporaryDirectory() as folder:
        site = Path(folder)
        for package, source in PACKAGES.items():
            _copy(PROJECT / source, site / package.replace(".", "/"))
        _copy(PROJECT / "tests", site / "tests")
        (site / "tests" / "helpers").rename(site / "helpers")  # imported from the top, as pytest's `pythonpath` has it
        _copy(PROJECT / "docs", site)
        _copy(PROJECT / "benchmarks", site)
        command = [sys.executable, "-m", "mypy", "--config-file", str(PROJECT / "pyproject.toml")]
        command += ["--cache-dir", str(PROJECT / ".mypy_cache"), "-p", "bindsearch", "-p", "helpers", "-p", "tests"]
        command += [part for path in (PROJECT / "benchmarks").glob("*.py") for part in ("-m", path.stem)]
        command += ["-m", "generate"]
        return subprocess.run(command, cwd=site, check=False).returncode


def _copy(source: Path, target: Path) -> None:
    for path in source.rglob("*.py"):
        place = target / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(path.read_bytes())


if __name__ == "__main__":
    sys.exit(main())
