"""Models on disk: pulled, converted, replaced, checked and removed; a kill at any moment leaves a whole one or none."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bindsearch.encoders.model_catalog import find_model_source
from bindsearch.encoders.model_store.installed import (
    ModelManifest,
    damaged_models,
    list_models,
    model_folder,
    read_model,
    remove_model,
    tower_file,
    unfinished_pulls,
    verify_model,
    work_folder,
)
from bindsearch.encoders.model_store.pull import PullProgress, PullResult, has_consent, pull_model
from bindsearch.encoders.model_store.source import ModelSource
from bindsearch.errors import EncoderError, UsageError
from helpers.children import pull as pull_child
from helpers.file_server import serve
from helpers.forked import LIBRARIES, Forked

CHILD = Path(pull_child.__file__)
CONTENT = bytes(range(256)) * 1200
DIGEST = hashlib.sha256(CONTENT).hexdigest()
NAME = "stub:small/one"
LOADED = (
    *LIBRARIES,
    "bindsearch.cli.main",
    "bindsearch.encoders.model_catalog",
    "bindsearch.encoders.model_store.pull",
)


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty models folder, with the stand-in converter."""
    monkeypatch.setenv("BINDSEARCH_MODELS", str(tmp_path / "models"))
    monkeypatch.delenv("BINDSEARCH_OFFLINE", raising=False)
    for module in ("bindsearch.encoders.stub", "bindsearch.encoders.stub.checkpoint"):
        monkeypatch.setitem(sys.modules, module, None)  # so that they go again
    pull_child.install_converter()
    return tmp_path / "models"


@pytest.fixture
def server() -> Iterator[Any]:
    with serve(CONTENT) as served:
        yield served


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    file = tmp_path / "mine.pth"
    file.write_bytes(CONTENT)
    return file


def source(*urls: str, name: str = NAME, **changes: Any) -> Any:
    return pull_child.make_source(name, *urls, **changes)


def pull(found: Any, **options: Any) -> PullResult:
    return pull_model(found, **{"dtype": "bf16", "delay_s": 0.001, **options})


def files_under(folder: Path) -> set[str]:
    """All files but locks and records."""
    kept = (".lock", ".json")
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and not (path.parent.name == ".pulls" and path.suffix in kept)
    }


MODEL_FILES = {f"stub/small/one/{name}" for name in ("model.json", "text.safetensors", "vision.safetensors")}


def test_a_pull_records_all_and_leaves_nothing_else(server: Any, models: Path) -> None:
    seen: list[PullProgress] = []
    pulled = pull(source(server.url), on_progress=seen.append)
    assert pulled.is_new
    assert pulled.notices == ()
    assert read_model(NAME) == pulled.manifest
    assert list_models() == [pulled.manifest]
    manifest = pulled.manifest
    assert (manifest.name, manifest.family, manifest.dtype, manifest.license) == (NAME, "stub", "bf16", "Stub 1.0")
    assert (manifest.source, manifest.source_sha256, manifest.source_bytes) == (server.url, DIGEST, len(CONTENT))
    assert manifest.architecture == {"depth": 2}
    assert manifest.temperatures == {"text": 100.0, "image": 1.0}
    assert tower_file(manifest, "text").read_bytes() == b"bf16 2 " + CONTENT[: len(CONTENT) // 2]
    assert verify_model(NAME) == []
    assert files_under(models) == MODEL_FILES
    assert not work_folder(NAME).exists()
    assert [step for n, step in enumerate(p.step for p in seen) if n == 0 or step != seen[n - 1].step] == [
        "download",
        "convert",
    ]
    assert seen[-1].total == len(CONTENT)


def test_the_users_file_stays_as_it_is(checkpoint: Path, models: Path) -> None:
    before = checkpoint.stat()
    pulled = pull(source(), from_file=checkpoint, offline=True)
    assert pulled.manifest.source == str(checkpoint)
    assert pulled.manifest.source_sha256 == DIGEST
    after = checkpoint.stat()
    assert (after.st_ino, after.st_mtime_ns, after.st_size) == (before.st_ino, before.st_mtime_ns, before.st_size)
    assert files_under(models) == MODEL_FILES


def test_what_is_here_is_not_pulled_again(server: Any, checkpoint: Path) -> None:
    first = pull(source(server.url))
    again = pull(source(server.url))
    assert not again.is_new
    assert again.manifest == first.manifest
    assert again.notices == (f"{NAME} is already installed, in bf16, from {server.url}; --force pulls it again",)
    assert not pull(source(server.url), dtype=None).is_new
    assert not pull(source(server.url), url=server.url).is_new
    assert not pull(source(server.url), from_file=checkpoint).is_new  # the same bytes
    assert not pull(source(server.url), offline=True).is_new
    assert len(server.requests) == 1
    assert pull(source(server.url), force=True).is_new
    assert pull(source(server.url), dtype="fp32").manifest.dtype == "fp32"
    assert len(server.requests) == 3


def test_a_mirror_with_the_same_bytes_changes_nothing(server: Any) -> None:
    pull(source(server.url))
    assert not pull(source(server.url), url=f"{server.url}?mirror").is_new
    assert not work_folder(NAME).exists()


def test_a_damaged_model_is_pulled_again_without_being_told(server: Any) -> None:
    manifest = pull(source(server.url)).manifest
    tower_file(manifest, "text").write_bytes(b"short")
    assert pull(source(server.url)).is_new
    (model_folder(NAME) / "model.json").write_text("{")
    assert pull(source(server.url)).is_new
    assert verify_model(NAME) == []


def test_another_checkpoint_under_the_same_name_is_told(server: Any) -> None:
    pull(source(server.url))
    server.content = CONTENT[::-1]
    other = hashlib.sha256(server.content).hexdigest()
    pulled = pull(source(server.url), force=True)
    assert pulled.manifest.source_sha256 == other
    assert len(pulled.notices) == 1
    assert f"sha256 {DIGEST}, now {other}" in pulled.notices[0]
    remove_model(NAME)
    server.content = CONTENT
    assert f"sha256 {other}, now {DIGEST}" in pull(source(server.url)).notices[0]  # remembered beyond a removal
    assert pull(source(server.url), force=True).notices == ()


def test_the_next_url_where_one_is_not_there(server: Any) -> None:
    server.missing = ("/model.safetensors",)
    missing = server.url.replace("checkpoint.pth", "model.safetensors")
    assert pull(source(missing, server.url)).manifest.source == server.url
    assert len(server.requests) == 2
    with pytest.raises(EncoderError, match=r"model\.safetensors: the file does not exist \(HTTP 404"):
        pull(source(missing, name="other"))
    server.statuses = [403]
    with pytest.raises(EncoderError, match="HTTP 403"):  # not a matter of where
        pull(source(f"{server.url}?a", server.url, name="other"))
    with pytest.raises(EncoderError, match="has no URL: use --from"):
        pull(source(name="other"))


def test_a_download_that_is_not_the_published_file(server: Any) -> None:
    with pytest.raises(EncoderError, match=f"is not the published {NAME}: its sha256 is {DIGEST}, expected 00ff"):
        pull(source(server.url, sha256="00ff"))
    assert unfinished_pulls() == {}
    assert pull(source(server.url, sha256=DIGEST)).is_new


def test_a_failed_conversion_keeps_the_download_for_another_try(server: Any, checkpoint: Path) -> None:
    server.content = b"bad" + CONTENT
    with pytest.raises(EncoderError, match=r"lacks the tensor cls_token; the download is kept .*remove stub:small/one"):
        pull(source(server.url))
    assert unfinished_pulls() == {NAME: len(CONTENT) + 3 + note_size()}
    with pytest.raises(EncoderError, match="cls_token"):
        pull(source(server.url))
    assert len(server.requests) == 1
    remove_model(NAME)
    server.content = CONTENT
    assert pull(source(server.url)).is_new
    checkpoint.write_bytes(b"bad")
    with pytest.raises(EncoderError, match=r"cls_token$"):
        pull(source(), from_file=checkpoint, force=True)
    assert verify_model(NAME) == []  # the model that was here stays
    assert unfinished_pulls() == {}


def note_size() -> int:
    return (work_folder(NAME) / "checkpoint.pth.part.json").stat().st_size


@pytest.mark.parametrize(("value", "forbidden"), [("1", True), ("yes", True), ("0", False), ("", False)])
def test_offline_never_touches_the_network(
    server: Any, monkeypatch: pytest.MonkeyPatch, value: str, forbidden: bool
) -> None:
    with pytest.raises(
        EncoderError, match=r"in offline mode \(--offline\): .* `bindsearch model pull stub:small/one --from FILE`"
    ):
        pull(source(server.url), offline=True)
    assert server.requests == []
    monkeypatch.setenv("BINDSEARCH_OFFLINE", value)
    if forbidden:
        with pytest.raises(
            EncoderError, match=r"cannot download stub:small/one in offline mode \(BINDSEARCH_OFFLINE\): download http"
        ):
            pull(source(server.url))
        assert server.requests == []
    else:
        assert pull(source(server.url)).is_new


def test_consent_is_asked_once(server: Any) -> None:
    closed = source(server.url, needs_consent=True)
    assert not has_consent(closed)
    with pytest.raises(UsageError, match=r"licence Stub 1\.0, which was not accepted: .* --accept-license"):
        pull(closed)
    assert server.requests == []
    assert pull(closed, consent=lambda _source: True).is_new
    assert has_consent(closed)
    remove_model(NAME)
    assert pull(closed).is_new
    assert not has_consent(source(server.url, needs_consent=True, license="Stub 2.0"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "int8"}, "dtype 'int8' is not known: choose fp16, bf16 or fp32"),
        ({"url": "ftp://host/x"}, "expected http"),
        ({"url": "http://host/x", "from_file": Path("/x")}, "exclude each other"),
        ({"from_file": Path("/not/there")}, "/not/there does not exist"),
        ({"from_file": Path("/dev")}, "/dev holds no checkpoint"),
        ({"from_file": Path("/dev/null")}, "/dev/null is not a regular file"),
    ],
)
def test_wrong_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        pull(source(), **options)


def test_a_full_disk_is_said_before_converting(
    server: Any, checkpoint: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(models.parent)._replace(free=67_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(EncoderError, match=r"disk space for the converted stub:small/one: .* set BINDSEARCH_MODELS"):
        pull(source(), from_file=checkpoint)
    with pytest.raises(EncoderError, match="not enough disk space for http"):  # room for the towers counts already
        pull(source(server.url, expected_bytes=10**9))
    assert files_under(models) == set()


def test_a_models_folder_that_cannot_be_is_one_line(checkpoint: Path, models: Path) -> None:
    models.write_text("a file")
    with pytest.raises(EncoderError, match="cannot pull stub:small/one into"):
        pull(source(), from_file=checkpoint)
    assert list_models() == []


def test_sources_by_name() -> None:
    huge = find_model_source("imagebind-huge")
    assert huge.urls == ("https://dl.fbaipublicfiles.com/imagebind/imagebind_huge.pth",)
    assert huge.needs_consent
    assert huge.architecture["vision_num_blocks"] == 32
    with pytest.raises(EncoderError, match="unknown model 'maxi': available models are imagebind-huge, openclip:"):
        find_model_source("maxi")
    with pytest.raises(EncoderError, match="mini comes with BindSearch"):
        find_model_source("mini")


@pytest.mark.parametrize("name", ["../x", "a//b", "/etc", "", ".hidden", "a\\b", "a\nb", "openclip:../.."])
def test_names_stay_in_the_folder(name: str) -> None:
    for action in (read_model, remove_model, verify_model):
        with pytest.raises(UsageError, match="is not a valid model name"):
            action(name)


def test_a_damaged_manifest_does_not_hide_the_others(checkpoint: Path) -> None:
    whole = pull(source(name="a"), from_file=checkpoint).manifest
    damages: dict[str, Callable[[dict[str, Any]], Any]] = {
        "b": lambda data: None,
        "c": lambda data: [data],
        "d:x/y": lambda data: {**data, "format": 7},
        "e": lambda data: {**data, "files": {"text": {}}},
        "f": lambda data: {**data, "files": {"text": {"size_bytes": "1", "xxh3": ""}}},
        "g": lambda data: {**data, "name": 3},
        "h": lambda data: {name: value for name, value in data.items() if name != "dtype"},
        "i": lambda data: {**data, "more": 1},
    }
    for name, damage in damages.items():
        pull(source(name=name), from_file=checkpoint)
        path = model_folder(name) / "model.json"
        path.write_text(json.dumps(damage(json.loads(path.read_text()))))
    (model_folder("b") / "model.json").write_bytes(b"\xff{")
    assert list_models() == [whole]
    faults = damaged_models()
    assert len(faults) == len(damages)
    for name in damages:
        assert sum(f"`bindsearch model pull {name}` downloads it again" in fault for fault in faults) == 1
        with pytest.raises(EncoderError):
            read_model(name)
        assert remove_model(name) > len(CONTENT)
    assert damaged_models() == []


def test_verify_names_each_fault(checkpoint: Path) -> None:
    pull(source(), from_file=checkpoint)
    text, vision = (model_folder(NAME) / f"{tower}.safetensors" for tower in ("text", "vision"))
    content = bytearray(vision.read_bytes())
    content[1000] ^= 1
    vision.write_bytes(content)
    assert verify_model(NAME, digests=False) == []
    (fault,) = verify_model(NAME)
    assert fault.startswith(f"{vision} has the digest ")
    text.unlink()
    vision.write_bytes(content[:-1])
    assert verify_model(NAME, digests=False) == [
        f"{text} cannot be read: No such file or directory",
        f"{vision} has {len(content) - 1} bytes instead of {len(content)}",
    ]


def test_remove(checkpoint: Path, models: Path) -> None:
    size = sum(file.size_bytes for file in pull(source(), from_file=checkpoint).manifest.files.values())
    freed = remove_model(NAME)
    assert freed > size
    assert files_under(models) == set()
    with pytest.raises(EncoderError, match=r"not installed: `bindsearch model list`"):
        remove_model(NAME)
    with pytest.raises(EncoderError, match=r"not installed: `bindsearch model list` lists"):
        read_model(NAME)


def test_a_linked_models_folder(checkpoint: Path, models: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    pull(source(name="one"), from_file=checkpoint)
    (models / "one").rename(elsewhere)
    (models / "one").symlink_to(elsewhere)
    assert [model.name for model in list_models()] == ["one"]
    pull(source(name="one"), from_file=checkpoint, force=True)
    assert verify_model("one") == []
    assert (elsewhere / "model.json").is_file()  # only the link was ours to replace


def run_child(models: Path, found: Any, *options: str, arguments: tuple[str, ...]) -> Forked:
    path = models.parent / "source.json"
    path.write_text(json.dumps({field: getattr(found, field) for field in found.__slots__}))
    return Forked([CHILD, "--source", path, *options, "model", *arguments], modules=LOADED)


def test_a_killed_pull_goes_on(server: Any, models: Path) -> None:
    server.hold_at = 200_000
    process = run_child(models, source(server.url), arguments=("pull", NAME, "--dtype", "bf16"))
    part = work_folder(NAME) / "checkpoint.pth.part"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (part.exists() and part.stat().st_size >= 200_000):
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert list_models() == []
    assert unfinished_pulls()[NAME] > 200_000
    server.hold_at = None
    server.release.set()
    assert pull(source(server.url)).manifest.source_sha256 == DIGEST
    assert server.requests == ["", "bytes=200000-"]
    assert files_under(models) == MODEL_FILES


@pytest.mark.parametrize("installed", [False, True])
def test_a_kill_between_any_two_steps_leaves_a_whole_model_or_none(
    server: Any, models: Path, checkpoint: Path, installed: bool
) -> None:
    found, arguments = source(server.url), ("pull", NAME, "--dtype", "bf16", "--force")
    states = set()
    for moment in range(1, 100):
        shutil.rmtree(models, ignore_errors=True)
        if installed:
            pull(found, dtype="fp32", from_file=checkpoint)
        process = run_child(models, found, "--kill-at", str(moment), arguments=arguments)
        _, errors = process.communicate(timeout=60)
        state = [model.dtype for model in list_models()]
        for model in list_models():
            assert verify_model(model.name) == []
        states.add("".join(state))
        if process.returncode == 0:
            break
        assert process.returncode == -9, errors
        assert damaged_models() == []
        pull(found)
        assert verify_model(NAME) == []
        assert read_model(NAME).dtype == "bf16"
        assert files_under(models) == MODEL_FILES
        assert not work_folder(NAME).exists()
    else:
        pytest.fail("the pull never ended")
    assert moment > 15
    assert states == ({"fp32", "", "bf16"} if installed else {"", "bf16"})


def test_an_old_model_comes_back_when_its_replacement_failed(server: Any, models: Path, checkpoint: Path) -> None:
    pull(source(), from_file=checkpoint)
    work_folder(NAME).mkdir()
    model_folder(NAME).rename(work_folder(NAME) / "old")  # as a kill between the two renames leaves it
    pull(source(name="another"), from_file=checkpoint)
    assert verify_model(NAME) == []
    server.missing = ("/checkpoint.pth",)
    with pytest.raises(EncoderError, match="404"):
        pull(source(server.url), force=True)
    assert verify_model(NAME) == []


def test_two_pulls_of_one_model_do_not_collide(server: Any, models: Path, checkpoint: Path) -> None:
    server.hold_at = 100_000
    process = run_child(models, source(server.url), arguments=("pull", NAME, "--dtype", "bf16"))
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not server.requests:
        time.sleep(0.01)
    with pytest.raises(EncoderError, match="is being pulled by another process: wait for it"):
        pull(source(server.url))
    with pytest.raises(EncoderError, match="is being pulled by another process"):
        remove_model(NAME)
    pull(source(name="another"), from_file=checkpoint)  # does not tidy away what is being pulled
    server.release.set()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert verify_model(NAME) == []
    assert not pull(source(server.url)).is_new
    assert len(server.requests) == 1


def test_manifests_are_plain_data(checkpoint: Path) -> None:
    manifest = pull(source(), from_file=checkpoint).manifest
    data = json.loads((model_folder(NAME) / "model.json").read_text())
    assert set(data) == set(ModelManifest.__slots__)
    assert data["files"]["text"]["xxh3"] == manifest.files["text"].xxh3


def test_consent_is_asked_again_wherever_it_is_needed(server: Any) -> None:
    asked: list[str] = []

    def consent(about: ModelSource) -> bool:
        asked.append(about.license)
        return True

    closed = source(server.url, needs_consent=True)
    assert pull(closed, consent=consent).is_new
    assert pull(closed, consent=consent, force=True).is_new
    assert asked == ["Stub 1.0"]  # remembered
    shutil.rmtree(work_folder(NAME).parent)  # as when the models were copied from elsewhere
    assert not pull(closed, consent=consent).is_new
    assert pull(closed, consent=consent, force=True).is_new
    assert asked == ["Stub 1.0", "Stub 1.0"]


def test_a_kill_between_the_two_renames_hides_the_model_until_the_next_pull_only(server: Any) -> None:
    manifest = pull(source(server.url)).manifest
    work_folder(NAME).mkdir(parents=True)
    model_folder(NAME).rename(work_folder(NAME) / "old")
    found = pull(source(server.url), offline=True)
    assert (found.is_new, found.manifest) == (False, manifest)
    assert verify_model(NAME) == []
    assert len(server.requests) == 1


def test_another_checkpoint_replaces_a_model_only_by_force(server: Any, checkpoint: Path) -> None:
    pull(source(server.url))
    checkpoint.write_bytes(CONTENT[::-1])
    with pytest.raises(UsageError, match=r"is installed from another checkpoint .* --force replaces it"):
        pull(source(), from_file=checkpoint)
    assert read_model(NAME).source_sha256 == DIGEST
    assert pull(source(), from_file=checkpoint, force=True).is_new


def test_a_copied_folder_is_not_taken_for_another_model(server: Any) -> None:
    pull(source(server.url))
    shutil.copytree(model_folder(NAME), model_folder("stub:copy"))
    with pytest.raises(EncoderError, match=f"it belongs to the model '{NAME}'"):
        read_model("stub:copy")
    assert [model.name for model in list_models()] == [NAME]
