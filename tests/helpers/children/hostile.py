"""Index a folder twice with the null encoder; run by tests that want a process of its own.

python hostile.py STORE FOLDER

Prints a JSON object: what each run reported, and the peak memory of this process and of its largest worker.
"""

import json
import os
import resource
import sys
from pathlib import Path
from typing import Any

import bindsearch as bs


def run(store: bs.Store, folder: Path) -> dict[str, Any]:
    report = store.index(folder)
    counts = {name: getattr(report, name) for name in ("added", "changed", "removed", "unchanged")}
    failures = [[os.fsencode(file.path).hex(), file.reason] for file in report.failures + report.without_content]
    return {**counts, "failures": failures, "notices": report.notices, "took_s": report.took_s}


def main() -> None:
    folder = Path(os.fsdecode(sys.argv[2]))
    with bs.connect(sys.argv[1], encoder="null") as store:
        runs = [run(store, folder), run(store, folder)]
    here = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
    workers = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    sys.stdout.write(json.dumps({"runs": runs, "peak_mb": max(here, workers) / 1024}))


if __name__ == "__main__":
    main()
