"""`bindsearch model`: options, output, exit codes."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from bindsearch.encoders import load_encoder
from helpers.children import pull
from helpers.command import Run
from helpers.file_server import serve
from helpers.forked import LIBRARIES, run_forked

CHILD = Path(pull.__file__)
CONTENT = bytes(range(256)) * 1200
NAME = "stub:small/one"
LOADED = (*LIBRARIES, "bindsearch.cli.main", "bindsearch.encoders.model_catalog")


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BINDSEARCH_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("BINDSEARCH_OFFLINE", raising=False)
    return tmp_path / "models"


@pytest.fixture
def server() -> Iterator[Any]:
    with serve(CONTENT) as served:
        yield served


@pytest.fixture
def command(server: Any, tmp_path: Path) -> Callable[..., list[str]]:
    """Return the command line of `bindsearch model` in a process with one more model, under a licence to accept."""
    facts = {"name": NAME, "urls": [server.url], "needs_consent": True}
    path = tmp_path / "source.json"
    path.write_text(json.dumps(facts))

    def make(*arguments: str | Path) -> list[str]:
        return [sys.executable, str(CHILD), "--source", str(path), "model", *map(str, arguments)]

    return make


@pytest.fixture
def model(command: Callable[..., list[str]]) -> Run:
    def run(arguments: Sequence[str | Path]) -> subprocess.CompletedProcess[str]:
        return run_forked(command(*arguments)[1:], modules=LOADED)

    return run


@pytest.fixture
def pulled(model: Run) -> Path:
    done = model(["pull", NAME, "--dtype", "bf16", "--accept-license"])
    assert done.returncode == 0, done.stderr
    return Path(os.environ["BINDSEARCH_MODELS"]) / "stub" / "small" / "one"


def on_terminal(command: list[str], answer: str) -> tuple[int, str]:
    """Exit code, and what a terminal showed, when `answer` is typed."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown, deadline = b"", time.monotonic() + 60
    while time.monotonic() < deadline:
        if not select.select([ours], [], [], 0.1)[0]:
            continue
        try:
            block = os.read(ours, 4096)
        except OSError:  # how Linux says that the other end is closed
            break
        if not block:
            break
        shown += block
        if answer and b"[y/N]" in shown:
            os.write(ours, answer.encode() + b"\n")
            answer = ""
    os.close(ours)
    return process.wait(timeout=60), shown.decode()


def test_pull_json(model: Run, models: Path, server: Any) -> None:
    done = model(["pull", NAME, "--dtype", "fp16", "--accept-license", "--json"])
    assert done.returncode == 0, done.stderr
    assert done.stderr == "You may read it on Tuesdays.\n"  # no bars where there is no terminal
    answer = json.loads(done.stdout)
    assert answer["schema"] == 1
    assert answer["pulled"] is True
    assert answer["name"] == NAME
    assert answer["dtype"] == "fp16"
    assert answer["source"] == server.url
    assert answer["folder"] == str(models / "stub" / "small" / "one")
    assert answer["size_bytes"] == sum(file["size_bytes"] for file in answer["files"].values())
    assert answer["notices"] == []
    again = model(["pull", NAME, "--json"])
    answer = json.loads(again.stdout)
    assert answer["pulled"] is False
    assert "is already installed, in fp16" in answer["notices"][0]
    assert again.stderr == f"note: {answer['notices'][0]}\n"
    assert len(server.requests) == 1


def test_pull_says_where_it_is_and_how_to_use_it(model: Run, tmp_path: Path) -> None:
    file = tmp_path / "mine.pth"
    file.write_bytes(CONTENT)
    done = model(["pull", NAME, "--dtype", "bf16", "--from", file, "--accept-license", "--offline"])
    assert done.returncode == 0, done.stderr
    assert f"{NAME} installed: bf16, 300.0 KB in " in done.stdout
    assert f"licence: Stub 1.0; use it with: bindsearch index PATH --encoder {NAME}" in done.stdout


def test_without_a_terminal_consent_is_an_option(model: Run, server: Any) -> None:
    done = model(["pull", NAME, "--dtype", "bf16"])
    assert done.returncode == 2
    text, complaint = done.stderr.splitlines()
    assert text == "You may read it on Tuesdays."
    assert complaint.startswith("bindsearch: ")
    assert complaint.endswith("add --accept-license, or run the same command in a terminal")
    assert server.requests == []


def test_consent_is_asked_once_on_a_terminal(command: Callable[..., list[str]], server: Any) -> None:
    pull = command("pull", NAME, "--dtype", "bf16")
    for answer in ("n", ""):
        code, shown = on_terminal(pull, answer or "\n")
        assert code == 2
        assert "You may read it on Tuesdays." in shown
        assert "Do you accept the licence Stub 1.0? [y/N]" in shown
        assert "was not accepted: nothing was downloaded" in shown
    assert server.requests == []
    code, shown = on_terminal(pull, "y")
    assert code == 0, shown
    assert "installed: bf16" in shown
    code, shown = on_terminal(command("remove", NAME), "")
    assert code == 0
    code, shown = on_terminal(pull, "")
    assert code == 0, shown
    assert "[y/N]" not in shown


def test_bars_on_a_terminal(command: Callable[..., list[str]]) -> None:
    arguments = command("pull", NAME, "--dtype", "bf16", "--accept-license")
    code, shown = on_terminal([*arguments[:4], "--pause", "0.5", *arguments[4:]], "")
    assert code == 0, shown
    assert "downloading" in shown
    assert "converting" in shown
    assert "307.2/307.2 kB" in shown


def test_offline(model: Run, server: Any, pulled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert model(["pull", NAME, "--offline"]).returncode == 0  # it is here
    server.requests.clear()
    assert model(["remove", NAME]).returncode == 0
    for arguments, variable in ((["--offline"], "0"), ([], "1"), (["--accept-license"], "1")):
        monkeypatch.setenv("BINDSEARCH_OFFLINE", variable)
        done = model(["pull", NAME, *arguments])
        assert done.returncode == 4
        assert f"cannot download {NAME} in offline mode (" in done.stderr
        assert f"download {server.url} on another machine" in done.stderr
        assert "--from FILE" in done.stderr
        assert done.stderr.count("\n") == 1
    assert server.requests == []


def test_list(model: Run, pulled: Path, server: Any) -> None:
    assert model(["list"]).stdout == f"{NAME}  bf16, 300.0 KB, text, vision\n"
    (other,) = json.loads(model(["list", "--json"]).stdout)["models"]
    assert other["folder"] == str(pulled)
    (pulled / "model.json").write_text("{")
    done = model(["list", "--json"])
    assert done.returncode == 0
    answer = json.loads(done.stdout)
    assert answer["models"] == []
    assert len(answer["damaged"]) == 1
    assert done.stderr.startswith(f"damaged: {pulled / 'model.json'} cannot be read")
    assert f"`bindsearch model pull {NAME}` downloads it again" in done.stderr
    assert model(["pull", NAME, "--dtype", "bf16"]).returncode == 0
    server.content = b"bad" + CONTENT
    assert model(["pull", NAME, "--dtype", "fp32", "--force"]).returncode == 4
    done = model(["list"])
    assert done.stdout == f"{NAME}  bf16, 300.0 KB, text, vision\n"
    assert done.stderr.startswith(f"unfinished: {NAME} (300.2 KB): run the same `bindsearch model pull` to resume")
    assert done.stderr.endswith(f"`bindsearch model remove {NAME}` to delete it and the model\n")


def test_an_empty_list(bindsearch_command: Run, models: Path) -> None:
    done = bindsearch_command(["model", "list"])
    assert done.returncode == 0
    assert done.stdout == ""
    assert done.stderr == (
        f"no downloaded models in {models} (mini is built in): run `bindsearch model pull imagebind-huge`\n"
    )
    assert json.loads(bindsearch_command(["model", "list", "--json"]).stdout)["models"] == []


def test_info(model: Run, pulled: Path, server: Any) -> None:
    done = model(["info", NAME])
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    for expected in (f"name          {NAME}  (family stub)", "licence       Stub 1.0", "architecture  depth = 2"):
        assert expected in lines
    assert f"source        {server.url}  (300.0 KB)" in lines
    assert f"folder        {pulled}  (300.0 KB, bf16, sizes match)" in lines
    assert "temperature   text = 100" in lines
    assert "checksums match" in model(["info", NAME, "--check"]).stdout
    facts = json.loads(model(["info", NAME, "--check", "--json"]).stdout)
    assert facts["checked"] is True
    assert facts["faults"] == []
    assert len(facts["source_sha256"]) == 64


def test_info_finds_damage(model: Run, pulled: Path) -> None:
    file = pulled / "text.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    assert model(["info", NAME]).returncode == 0  # only a full read shows it
    done = model(["info", NAME, "--check", "--json"])
    assert done.returncode == 4
    assert len(json.loads(done.stdout)["faults"]) == 1
    damaged, complaint = done.stderr.splitlines()
    assert damaged.startswith(f"damaged: {file} has the digest")
    assert complaint == (
        f"bindsearch: the model {NAME} is damaged (1 file): run `bindsearch model pull {NAME} --force`"
    )
    file.unlink()
    done = model(["info", NAME])
    assert done.returncode == 4
    assert "match" not in done.stdout


def test_remove(model: Run, pulled: Path) -> None:
    done = model(["remove", NAME, "--json"])
    assert done.returncode == 0
    assert json.loads(done.stdout)["freed_bytes"] > len(CONTENT)
    assert not pulled.exists()
    assert model(["remove", NAME]).returncode == 4


def test_interrupted_pulls_go_on(command: Callable[..., list[str]], model: Run, server: Any) -> None:
    server.hold_at = 100_000
    process = subprocess.Popen(command("pull", NAME, "--accept-license"), stderr=subprocess.PIPE, text=True)
    part = Path(os.environ["BINDSEARCH_MODELS"]) / ".pulls" / "stub%2Fsmall%2Fone" / "checkpoint.pth.part"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (part.exists() and part.stat().st_size >= 100_000):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "run the same command to resume" in errors
    server.hold_at = None
    server.release.set()
    assert model(["pull", NAME, "--dtype", "bf16"]).returncode == 0
    assert server.requests == ["", "bytes=100000-"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["pull"], 2, "Missing argument"),
        (["pull", "maxi"], 4, "unknown model 'maxi': available models are imagebind-huge"),
        (["pull", "mini"], 4, "comes with BindSearch"),
        (["pull", "imagebind-huge", "--offline"], 4, "imagebind_huge.pth on another machine"),
        (["pull", "imagebind-huge", "--from", "not-there", "--accept-license"], 2, "does not exist"),
        (["pull", "imagebind-huge", "--url", "ftp://x/y", "--accept-license"], 2, "expected http"),
        (["pull", "imagebind-huge", "--dtype", "int4", "--accept-license"], 2, "choose fp16, bf16 or fp32"),
        (["info", "imagebind-huge"], 4, "download it with `bindsearch model pull imagebind-huge`"),
        (["info", "../x"], 2, "is not a valid model name"),
        (["remove", "imagebind-huge"], 4, "is not installed"),
        (["remove", ".."], 2, "is not a valid model name"),
    ],
)
def test_wrong_use_is_one_clear_line(bindsearch_command: Run, arguments: list[str], code: int, message: str) -> None:
    done = bindsearch_command(["model", *arguments])
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    complaints = [line for line in done.stderr.splitlines() if line.startswith("bindsearch: ")]
    assert len(complaints) == 1


def test_the_built_in_model_has_details(bindsearch_command: Run) -> None:
    done = bindsearch_command(["model", "info", "mini"])
    assert (done.returncode, done.stderr) == (0, "")
    encoder = load_encoder("mini")
    for line in (f"digest        {encoder.digest}", "dimensions    384", "modalities    text, image, video, audio"):
        assert line in done.stdout
    assert "licence       Apache 2.0" in done.stdout
    facts = json.loads(bindsearch_command(["model", "info", "mini", "--json"]).stdout)
    assert facts["size_bytes"] == sum(Path(file).stat().st_size for file in facts["files"])


def test_help_texts_hold_an_example(bindsearch_command: Run) -> None:
    for name in ("pull", "list", "info", "remove"):
        shown = bindsearch_command(["model", name, "--help"]).stdout
        assert f"Example: bindsearch model {name}" in " ".join(shown.split())


def test_help_loads_nothing_of_the_model_commands() -> None:
    code = (
        "import sys, bindsearch.cli.main; "
        "print([m for m in ('torch', 'numpy', 'rich.progress', 'urllib.request', 'filelock') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
