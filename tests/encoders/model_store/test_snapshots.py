"""Models that are repositories of the hub: asked for, downloaded, checked and kept as a folder of files."""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from bindsearch.encoders.model_store import snapshot_files
from bindsearch.encoders.model_store.installed import (
    ModelManifest,
    damaged_models,
    list_models,
    model_folder,
    read_model,
    remove_model,
    snapshot_folder,
    unfinished_pulls,
    verify_model,
)
from bindsearch.encoders.model_store.pull import PullProgress, PullResult
from bindsearch.encoders.model_store.snapshot_pull import pull_snapshot
from bindsearch.encoders.model_store.source import ModelSource
from bindsearch.errors import EncoderError, UsageError
from helpers.children import pull_snapshot as pull_child
from helpers.children.pull_snapshot import StubFamily
from helpers.command import run_command
from helpers.forked import LIBRARIES, Forked
from helpers.hub_server import COMMIT, HubServer, entry, serve_hub

NAME = "st:org/small"
WEIGHTS = bytes(range(256)) * 1200
FILES = {
    "README.md": b"---\nlicense: mit\n---\nA model.\n",
    "config.json": b'{"model_type": "stub"}',
    "1_Pooling/config.json": b"{}",
    "tokenizer.json": b'{"a": 1}',
    "model.safetensors": WEIGHTS,
    "modeling_own.py": b"raise SystemExit",
    "pytorch_model.bin": b"\x80\x02 of the same weights",
    "onnx/model.onnx": b"another program",
    "onnx/config.json": b"{}",
    ".gitattributes": b"*.bin filter=lfs",
}
TAKEN = ["1_Pooling/config.json", "README.md", "config.json", "model.safetensors", "tokenizer.json"]


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BINDSEARCH_MODELS", str(tmp_path / "models"))
    for variable in ("BINDSEARCH_OFFLINE", "HF_TOKEN", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(variable, raising=False)
    return tmp_path / "models"


@pytest.fixture(autouse=True)
def family(monkeypatch: pytest.MonkeyPatch) -> StubFamily:
    stub = StubFamily()
    monkeypatch.setitem(sys.modules, stub.__name__, stub)
    return stub


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with serve_hub(dict(FILES)) as served:
        monkeypatch.setenv("HF_ENDPOINT", served.url)
        yield served


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for path, content in FILES.items():
        target = tmp_path / "mine" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    return tmp_path / "mine"


def pull(**options: Any) -> PullResult:
    return pull_snapshot(NAME, **{"dtype": "fp32", "delay_s": 0.001, **options})


def run(*arguments: str, status: int = 0) -> CompletedProcess[str]:
    done = run_command(arguments)
    assert done.returncode == status, done.stderr
    return done


def downloads(hub: HubServer) -> list[str]:
    return [path.partition("/resolve/")[2].partition("/")[2] for path, _ in hub.requests if "/resolve/" in path]


def test_a_pull_takes_what_a_model_needs_and_notes_the_commit(hub: HubServer, models: Path, family: StubFamily) -> None:
    seen: list[PullProgress] = []
    shown: list[ModelSource] = []
    pulled = pull(on_progress=seen.append, show=shown.append)
    manifest = read_model(NAME)
    assert pulled.is_new
    assert manifest == pulled.manifest
    assert list_models() == [manifest]
    assert list(manifest.files) == TAKEN
    assert (manifest.family, manifest.revision, manifest.license) == ("st", COMMIT, "mit")
    assert manifest.source == f"{hub.url}/org/small/tree/{COMMIT}"
    assert manifest.architecture == {"dim": 8, "files": 5}
    root = snapshot_folder(manifest)
    assert {path: (root / path).read_bytes() for path in TAKEN} == {path: FILES[path] for path in TAKEN}
    assert family.seen == [path for path in TAKEN if path != "model.safetensors"]  # asked before the weights came
    assert downloads(hub)[-1] == "model.safetensors"
    assert sorted(downloads(hub)) == sorted(TAKEN)
    assert verify_model(NAME) == []
    assert unfinished_pulls() == {}
    assert f"licence mit, 5 files, 0.00 GB, from {hub.url}/org/small/tree/{COMMIT}" in shown[0].license_text
    assert pulled.notices == (
        "left out, as the model does not need them or they are code: 5 files "
        "(1 '.py', 1 '.bin', 1 '.onnx', 1 '.json', 1 '.gitattributes')",
    )
    assert [(p.done, p.total) for p in seen if p.step == "download"][-1] == (sum(len(FILES[p]) for p in TAKEN),) * 2
    assert not list((models / ".pulls").glob("*/"))


def test_a_folder_gives_the_same_model(hub: HubServer, folder: Path) -> None:
    of_hub = pull().manifest
    assert not pull(from_folder=folder).is_new  # the same files
    remove_model(NAME)
    asked = len(hub.requests)
    of_folder = pull(from_folder=folder, offline=True).manifest
    assert len(hub.requests) == asked
    assert of_folder.source == str(folder)
    assert (of_folder.revision, of_folder.license) == ("", "mit")
    assert (of_folder.source_sha256, of_folder.files) == (of_hub.source_sha256, of_hub.files)
    (folder / "README.md").write_text("other words")
    (folder / "README.md").unlink()
    assert not pull(from_folder=folder, consent=lambda _: True).is_new  # what is for people does not count
    (folder / "config.json").write_text("{}")
    with pytest.raises(UsageError, match=r"st:org/small is installed from [0-9a-f]{12}, not [0-9a-f]{12}: .* --force"):
        pull(from_folder=folder, consent=lambda _: True)
    changed = pull(from_folder=folder, consent=lambda _: True, force=True)
    assert changed.is_new
    assert "pulled before from another checkpoint" in changed.notices[0]


def test_a_folder_of_the_hubs_cache_knows_its_commit(folder: Path) -> None:
    snapshot = folder.parent / "snapshots" / ("2b" * 20)
    snapshot.parent.mkdir()
    folder.rename(snapshot)
    with pytest.raises(UsageError, match=f"is commit {'2b' * 20}, not {COMMIT}: omit --revision"):
        pull(from_folder=snapshot, revision=COMMIT)
    assert pull(from_folder=snapshot, revision="2b" * 20).manifest.revision == "2b" * 20
    assert list(snapshot.iterdir())  # stays as it is


def test_a_folder_written_by_the_hubs_program_knows_its_commit(folder: Path) -> None:
    note = folder / ".cache" / "huggingface" / "download" / "config.json.metadata"
    note.parent.mkdir(parents=True)
    note.write_text(f"{COMMIT}\nabc\n1.0\n")
    assert pull(from_folder=folder).manifest.revision == COMMIT


def test_another_revision_is_refused_until_forced(hub: HubServer) -> None:
    pull()
    asked = len(hub.requests)
    assert not pull().is_new
    assert not pull(revision=COMMIT).is_new
    assert len(hub.requests) == asked  # nothing to ask
    assert not pull(revision="v1").is_new  # the same commit
    hub.commit = "3c" * 20
    assert not pull().is_new
    with pytest.raises(UsageError, match=r"is installed from 1a1a1a1a1a1a, not 3c3c3c3c3c3c: stores .* --force"):
        pull(revision="v1")
    assert pull(revision="v1", force=True).manifest.revision == "3c" * 20
    with pytest.raises(UsageError, match="st:org/small has no revision 'nine'"):
        pull(revision="nine")
    with pytest.raises(UsageError, match=r"--revision '\.\./x' is not a branch"):
        pull(revision="../x")


def test_another_number_format_keeps_the_files(hub: HubServer) -> None:
    before = pull().manifest
    asked = len(hub.requests)
    after = pull(dtype="bf16").manifest
    assert (after.dtype, after.files, after.source_sha256) == ("bf16", before.files, before.source_sha256)
    assert read_model(NAME) == after
    assert len(hub.requests) == asked
    assert pull(dtype=None).manifest.dtype == "bf16"


def test_a_cut_download_goes_on_where_it_stopped(hub: HubServer) -> None:
    hub.cuts = {"model.safetensors": 100_000}
    pull()
    ranges = [asked for path, asked in hub.requests if path.endswith("model.safetensors")]
    assert ranges == ["", "bytes=100000-"]
    assert verify_model(NAME) == []


def test_a_failed_pull_keeps_what_came(hub: HubServer, family: StubFamily) -> None:
    hub.missing = ("tokenizer.json",)
    with pytest.raises(EncoderError, match=r"tokenizer\.json: the file does not exist \(HTTP 404"):
        pull()
    assert unfinished_pulls()[NAME] > 0
    hub.missing, family.late_refusal = (), "it has no head"
    with pytest.raises(
        EncoderError, match=r"it has no head; the download is kept .* `bindsearch model remove st:org/s"
    ):
        pull()
    assert sorted(downloads(hub)) == sorted([*TAKEN, "tokenizer.json"])  # nothing came twice
    family.late_refusal = ""
    pull()
    assert len(downloads(hub)) == len(TAKEN) + 1
    assert unfinished_pulls() == {}
    family.late_refusal = "it has no head"
    with pytest.raises(EncoderError, match="has no head"):
        pull(force=True)
    assert verify_model(NAME) == []  # the model that was here stays
    remove_model(NAME)
    assert unfinished_pulls() == {}
    assert not model_folder(NAME).exists()


def test_a_model_that_cannot_run_is_refused_before_its_weights_come(hub: HubServer, family: StubFamily) -> None:
    family.refusal = "st:org/small cannot run here: its code is not in transformers"
    with pytest.raises(EncoderError, match=r"its code is not in transformers$"):
        pull()
    assert "model.safetensors" not in downloads(hub)


@pytest.mark.parametrize(
    ("path", "content", "message"),
    [
        ("model.safetensors", WEIGHTS[::-1], r"has the sha256 [0-9a-f]{64}, the hub states"),
        ("config.json", b'{"model_type": "evil"}', r"has the Git object id [0-9a-f]{40}, the hub states"),
        ("config.json", b"longer" * 10, "it has 60 bytes, but 22 are stated"),
        ("model.safetensors", WEIGHTS[1:], "it has 307,199 bytes, but 307,200 are stated"),
    ],
)
def test_a_file_that_is_not_the_stated_one(hub: HubServer, path: str, content: bytes, message: str) -> None:
    hub.sent = {path: content}
    with pytest.raises(EncoderError, match=message):
        pull()
    hub.sent = {}
    assert pull().is_new


@pytest.mark.parametrize(
    "path",
    [
        "../config.json",
        "/etc/config.json",
        "a/../../config.json",
        "C:config.json",
        "a\\..\\b.json",
        "a//b.json",
        "a\nb.json",
        "config.json/x.json",
        "CONFIG.json",
        "a/b/c/d/e/f/g.json",
        "x" * 300 + ".json",
        "nul \0.json",
    ],
)
def test_hostile_names_end_the_pull(hub: HubServer, models: Path, path: str) -> None:
    hub.listed = [*hub.answer()["siblings"], entry(path, b"{}")]
    with pytest.raises(EncoderError, match="not downloaded") as refused:
        pull()
    assert "\n" not in str(refused.value)
    assert downloads(hub) == []
    assert not model_folder(NAME).exists()


def test_sizes_and_counts_are_bounded(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = hub.answer()["siblings"]
    large = {"rfilename": "big.json", "size": 1 << 40, "blobId": "0" * 40}
    hub.listed = [*listed, large]
    with pytest.raises(EncoderError, match=r"big\.json of 1,099,511,627,776 bytes, too large"):
        pull()
    hub.listed = [*listed, {**large, "rfilename": "big.safetensors"}]
    with pytest.raises(EncoderError, match="1,100 GB of files, more than 429"):
        pull()
    hub.listed = [*listed, *({**large, "rfilename": f"{n}.json", "size": 2} for n in range(1000))]
    with pytest.raises(EncoderError, match="1,005 files of a model, more than 1,000"):
        pull()
    monkeypatch.setattr(snapshot_files, "MAX_LISTED", 100)
    with pytest.raises(EncoderError, match="1,010 files, more than 100"):
        pull()
    hub.listed = [entry("config.json", b"{}")]
    with pytest.raises(EncoderError, match="has no weights that can be read here"):
        pull()
    hub.listed = [{"rfilename": "config.json"}]
    with pytest.raises(EncoderError, match="does not state the size of each file"):
        pull()
    assert downloads(hub) == []


def test_answers_that_are_no_hubs(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for answer in (b"<html>", b"[]", b"{}", b'{"id": "a", "sha": "x", "siblings": []}'):
        hub.mangle = answer
        with pytest.raises(EncoderError, match=r"cannot ask http|this is not a hub") as refused:
            pull()
        assert "\n" not in str(refused.value)
    with pytest.raises(EncoderError, match=f"{hub.url} has no model org/other: check the name; if it is private, set"):
        pull_snapshot("st:org/other")
    with pytest.raises(EncoderError, match=r"cannot ask http://127.0.0.1:9 about org/small"):
        pull(url="http://127.0.0.1:9")
    monkeypatch.setenv("BINDSEARCH_OFFLINE", "1")
    with pytest.raises(EncoderError, match=r"\(BINDSEARCH_OFFLINE\): run `hf download org/small --local-dir FOLDER`"):
        pull()


@pytest.mark.parametrize("name", ["st:small", "st:a/b/c", "st:../x", "st:org/", "st:org/a b", "st:"])
def test_names_are_those_of_repositories(name: str) -> None:
    with pytest.raises(UsageError, match="names are st:ORG/NAME"):
        pull_snapshot(name)


def test_a_gated_model_needs_a_token_and_consent(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.gated, hub.token = "manual", "hf_right"
    shown: list[ModelSource] = []
    with pytest.raises(EncoderError, match=r"is gated: accept its conditions at https://huggingface\.co/org/small, .*"):
        pull(show=shown.append)
    assert "gated" in shown[0].license_text
    assert downloads(hub) == []
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(UsageError, match="licence mit, which was not accepted"):
        pull()
    with pytest.raises(EncoderError, match="the hub gives no access to st:org/small for the token in HF_TOKEN"):
        pull(consent=lambda _: True)
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    assert pull().is_new  # the consent was recorded
    assert "hf_right" not in (model_folder(NAME) / "model.json").read_text()


def test_a_token_goes_to_no_other_host(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve_hub(dict(FILES)) as other:
        hub.moved_to = other.url
        monkeypatch.setenv("HF_TOKEN", "hf_right")
        pull()
        assert set(hub.tokens) == {"Bearer hf_right"}
        assert set(other.tokens) == {""}
        remove_model(NAME)
        hub.moved_to = hub.url
        pull()
        assert set(hub.tokens) == {"Bearer hf_right"}


@pytest.mark.parametrize(
    ("card", "licence", "free"),
    [
        ({"license": "apache-2.0"}, "apache-2.0", True),
        ({"license": "cc-by-4.0"}, "cc-by-4.0", True),
        ({"license": "cc-by-nc-4.0"}, "cc-by-nc-4.0", False),
        ({"license": "other", "license_name": "own-1", "license_link": "https://a.b/c"}, "own-1", False),
        ({"license": ["mit", "gemma"]}, "mit, gemma", False),
        ({}, "not stated", False),
        (None, "not stated", False),
    ],
)
def test_consent_is_asked_unless_the_licence_is_free(
    hub: HubServer, card: dict[str, Any] | None, licence: str, free: bool
) -> None:
    hub.card = card
    asked: list[str] = []

    def consent(source: ModelSource) -> bool:
        asked.append(source.license_text)
        return True

    assert pull(consent=consent).manifest.license == licence
    assert len(asked) == (not free)
    assert all(licence in text for text in asked)


def test_weights_of_torch_become_safetensors(tmp_path: Path) -> None:
    import torch
    from safetensors.numpy import load_file

    folder = tmp_path / "old"
    (folder / "2_Dense").mkdir(parents=True)
    (folder / "README.md").write_bytes(FILES["README.md"])
    (folder / "config.json").write_text("{}")
    tied = torch.arange(6.0).reshape(2, 3)
    torch.save({"a": tied, "b": tied.T, "n": torch.tensor(3)}, folder / "pytorch_model.bin")
    torch.save({"w": torch.ones(2)}, folder / "2_Dense" / "pytorch_model.bin")
    pulled = pull(from_folder=folder).manifest
    assert list(pulled.files) == ["2_Dense/model.safetensors", "README.md", "config.json", "model.safetensors"]
    found = load_file(snapshot_folder(pulled) / "model.safetensors")
    assert {name: value.tolist() for name, value in found.items()} == {
        "a": tied.tolist(),
        "b": tied.T.tolist(),
        "n": 3,
    }
    published = {
        path: hashlib.sha256((folder / path).read_bytes()).hexdigest()
        for path in ("config.json", "pytorch_model.bin", "2_Dense/pytorch_model.bin")
    }
    assert pulled.source_sha256 == snapshot_files.digest_of(published)


def test_code_in_weights_of_torch_is_not_run(tmp_path: Path) -> None:
    import torch

    class Harm:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "harm",)

    folder = tmp_path / "bad"
    folder.mkdir()
    torch.save({"a": Harm()}, folder / "pytorch_model.bin")
    with pytest.raises(EncoderError, match="holds more than tensors, or is damaged; code in it is never run"):
        pull(from_folder=folder, consent=lambda _: True)
    assert not (tmp_path / "harm").exists()
    assert not model_folder(NAME).exists()


def test_damage_is_found_and_repaired(hub: HubServer) -> None:
    manifest = pull().manifest
    file = snapshot_folder(manifest) / "tokenizer.json"
    file.write_bytes(b'{"a": 2}')
    assert "tokenizer.json has the digest" in verify_model(NAME)[0]
    file.unlink()
    with pytest.raises(EncoderError, match=r"tokenizer\.json has 0 bytes instead of 8: `bindsearch model pull st:org/"):
        snapshot_folder(manifest)
    assert pull().is_new
    text = (model_folder(NAME) / "model.json").read_text()
    (model_folder(NAME) / "model.json").write_text(text.replace("tokenizer.json", "../../../tokenizer.json"))
    with pytest.raises(EncoderError, match="a name of a file is not safe"):
        read_model(NAME)


def test_the_command_pulls_lists_shows_and_removes(hub: HubServer) -> None:
    pulled = run("model", "pull", NAME, "--revision", "v1", "--dtype", "bf16")
    assert pulled.stdout.startswith(f"{NAME} installed: bf16, ")
    assert "licence mit, 5 files" in pulled.stderr
    assert f"{NAME}  bf16, " in run("model", "list").stdout
    assert "5 files" in run("model", "list").stdout
    info = run("model", "info", NAME, "--check").stdout
    assert f"revision      {COMMIT}" in info
    assert "file          1_Pooling/config.json" in info
    assert "checksums match" in info
    assert run("model", "remove", NAME).stdout.startswith(f"removed {NAME}, freed ")
    refused = run("model", "pull", "timm:x", "--revision", "v1", status=2)
    assert "only models of st:, hf:, unclip:, owlv2:, owlvit: have revisions" in refused.stderr
    hub.card = {"license": "cc-by-nc-4.0"}
    refused = run("model", "pull", NAME, status=2)
    assert "st:org/small has the licence cc-by-nc-4.0, which was not accepted: add --accept-license" in refused.stderr
    assert run("model", "pull", NAME, "--accept-license").stdout


def test_an_old_manifest_has_no_revision(folder: Path) -> None:
    manifest: ModelManifest = pull(from_folder=folder).manifest
    path = model_folder(NAME) / "model.json"
    path.write_text(path.read_text().replace('  "revision": ""\n', "").replace("},\n}", "}\n}"))
    assert read_model(NAME) == manifest


@pytest.mark.parametrize("installed", [False, True])
def test_a_kill_at_any_moment_leaves_a_whole_model_or_none(hub: HubServer, models: Path, installed: bool) -> None:
    hub.files = {path: FILES[path] for path in ("README.md", "config.json", "model.safetensors")}
    modules = (*LIBRARIES, "bindsearch.cli.main", "bindsearch.encoders.model_store.snapshot_pull", "huggingface_hub")
    states = set()
    for moment in range(1, 300, 9):  # some of them: each is a process
        shutil.rmtree(models, ignore_errors=True)
        if installed:
            pull(dtype="fp32")
        child = [pull_child.__file__, "--kill-at", str(moment), "model", "pull", NAME, "--dtype", "bf16", "--force"]
        process = Forked(child, modules=modules)
        _, errors = process.communicate(timeout=60)
        states.add("".join(model.dtype for model in list_models()))
        assert damaged_models() == []
        assert all(verify_model(model.name) == [] for model in list_models())
        if process.returncode == 0:
            break
        assert process.returncode == -9, errors
        assert pull(dtype="bf16", force=True).manifest.dtype == "bf16"
        assert verify_model(NAME) == []
        assert unfinished_pulls() == {}
    else:
        pytest.fail("the pull never ended")
    assert moment > 20
    assert states == ({"fp32", "bf16"} if installed else {"", "bf16"})
