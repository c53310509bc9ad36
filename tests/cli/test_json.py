"""Real `--json` and `--json-lines` output of every command is what the schemas of docs/schemas/ say."""

from __future__ import annotations

import io
import json
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from typer.core import TyperCommand

from bindsearch.encoders import benchmark, model_catalog, registry
from bindsearch.encoders.model_store.installed import work_folder
from bindsearch.encoders.null import NullEncoder
from bindsearch.encoders.torch_runtime.device import DTYPES
from bindsearch.indexes.types import MIXED, UNMEASURED, IndexForm, IndexSettings
from bindsearch.operations.doctor import Level
from bindsearch.operations.index_policy import IndexActionKind
from bindsearch.operations.verify.findings import FindingKind, Repair
from bindsearch.search.plan import Strategy
from bindsearch.search.query import Ranking
from bindsearch.types import Modality
from bindsearch.views.located_hits import MAX_LOCATED
from generate import SCHEMAS, commands, options_of, schema_files
from helpers.bound_world import make_scenes, write_pairs, write_scenes
from helpers.children import pull
from helpers.command import Run
from helpers.media_files import write_every_modality
from helpers.stores import connect
from helpers.unclip_models import save_unclip

JSON_OPTIONS = {"--json", "--jsonl", "--json-lines"}
MODEL = "stub:small/one"
FILES = sorted(schema_files())


@dataclass(frozen=True)
class Case:
    """A command line and the schema of what it prints.

    Attributes:
        schema: File of docs/schemas.
        line: Command and options; {built} stands for the folder of the fixture of that name, {folder} for `folder`.
        code: Exit code; None: depends on the machine.
        before: Command line that is run first.
        damage: Change of the folder before `line` is run.
        holds: Whether the output shows what the case is about.
        events: Kinds of the lines, where it prints lines.
        stdin: What it reads on standard input.
    """

    schema: str
    line: str
    code: int | None = 0
    before: str = ""
    damage: Callable[[Path], object] = lambda _folder: None
    holds: Callable[[Any], object] = lambda _output: True
    events: frozenset[str] = frozenset()
    stdin: str = ""


class Words(NullEncoder):
    """Embeds texts alone."""

    name = "words"
    modalities = frozenset({Modality.TEXT})


def cut_index(folder: Path) -> None:
    (path,) = (folder / "lists").glob("indexes/text/*/index.faiss")
    path.write_bytes(path.read_bytes()[:-1])


def spoil_vectors(folder: Path) -> None:
    path = next((folder / "store" / "vectors" / "image").iterdir())
    path.write_bytes(path.read_bytes()[:-1])


def remove_catalog(folder: Path) -> None:
    (folder / "store" / "catalog.duckdb").unlink()
    spoil_vectors(folder)


def cut_model(folder: Path) -> None:
    (path,) = (folder / "models").rglob("text.safetensors")
    path.write_bytes(path.read_bytes()[:-1])


def break_models(folder: Path) -> None:
    """Damage model.json, and leave a pull unfinished."""
    (path,) = (folder / "models").rglob("model.json")
    path.write_text("{")
    work_folder(MODEL).mkdir(parents=True, exist_ok=True)
    (work_folder(MODEL) / "checkpoint.pth.part").write_bytes(b"half")


def has_times(plan: Any) -> bool:
    return plan["actual"]["total_ms"] > 0 and all("actual" in step for step in plan["partitions"])


def has_skipped_part(plan: Any) -> bool:
    return has_times(plan) and any(step["strategy"] == "skip" for step in plan["partitions"])


def has_fitted_pair(output: Any) -> bool:
    return any(pair["is_fitted"] for pair in output["pairs"])


def has_every_modality(output: Any) -> bool:
    return {hit["modality"] for hit in output["hits"]} == {*Modality}


def is_located(output: Any) -> bool:
    places = [hit["located"] for hit in output["hits"] if hit["modality"] != Modality.TEXT]
    return len(places) > 6 and sum(place is not None for place in places) == min(len(places), MAX_LOCATED)


def has_maps(output: Any) -> bool:
    first, second = output["files"]
    return bool(first["heat"] and first["peak"] and (second["curve"] or second["failure"]))


COLUMN = "classify --write-column k --labels a,b"


def is_new(output: Any) -> bool:
    return bool(output["items"] == output["classified"] == sum(output["counts"].values()))


def has_points(status: Any) -> bool:
    points = [point for partition in status["partitions"] for point in partition["points"]]
    return {point["stand_in"] for point in points} > {None}


def has_index(report: Any) -> bool:
    return any(point["form"] == "ivfpq" and 0 <= point["recall"] <= 1 for point in report["engine"])


def has_figures(report: Any) -> bool:
    return all(part["figures"] for one in report["sets"] for part in one["measurements"]) and report["sets"]


def is_swept(output: Any) -> bool:
    return [run["name"] for run in output["runs"]] == ["bound:t-batch-4", "bound:t-batch-6"]


def has_validation(output: Any) -> bool:
    return bool(output["runs"][0]["validation"]["zero_shot"] is not None)


def has_broken_models(output: Any) -> bool:
    return bool(output["damaged"] and output["unfinished"])


PULL = f"model pull {MODEL} --from {{built}}/model.pth --dtype fp16"
BIND = (
    "bind --pairs {built}/scenes/pairs.csv --modality thermal --out t --set network=vit-nano --set side_px=32 "
    "--set patch_px=8 --set batch=4 --set epochs=1"
)
"""A run of seconds."""

IMAGINE = "imagine 'a dog' --like 1 --model {built}/decoder --out {folder}/a.png --any-space --steps 2 --count 2"
SHARDED = "index {built}/media --exclude bad.png --shards 3 --encoder null --store {folder}/many"
LISTS = "--store {folder}/lists"
DONE, STAGE = frozenset({"progress", "done"}), frozenset({"stage"})
CASES = [
    Case("index.json", "index {built}/media --json", 3, holds=lambda one: one["unchanged"] and one["failures"]),
    Case("index.json", "index {built}/more --json", holds=lambda one: one["items"] and not one["failures"]),
    Case("index.json", "index {built}/empty --json", holds=lambda one: one["notices"]),
    Case("index.json", "retry --json", 3),
    Case("index.json", "reindex --encoder null --json", 3, holds=lambda one: len(one["items"]) == len(Modality)),
    Case("index-lines.json", "index {built}/media --json-lines --retry-failed", 3, events=DONE),
    Case("index-lines.json", f"index {{built}}/more --index-option lists=3 --json-lines {LISTS}", events=DONE | STAGE),
    Case("index-lines.json", "retry --json-lines", 3, events=DONE),
    Case("index-lines.json", "reindex --encoder null --json-lines", 3, events=DONE),
    Case("index-plan.json", "index {built}/media --dry-run --json", holds=lambda one: len(one["files"]) > 14),
    Case("index-plan.json", "index {built}/media --dry-run --json-lines"),
    Case("show.json", "show {built}/media/imu-0.csv --json", holds=lambda one: len(one["shown"]["curves"]) == 6),
    Case("show.json", "show {built}/media/video-0.mp4 --json --png {folder}/out.png", holds=lambda one: one["png"]),
    Case("show.json", "show {built}/media/bad.png --json", 3, holds=lambda one: one["problem"]),
    Case("show.json", "show {built}/model.pth --json", holds=lambda one: one["modality"] is None and one["why"]),
    Case("eval.json", "eval {built}/words.csv --json --encoder null --html {folder}/eval.html", holds=has_figures),
    Case("eval.json", f"eval engine --json {LISTS}", holds=has_index),
    Case("eval.json", f"eval space --json {LISTS}", holds=has_figures),
    Case("eval-sets.json", "eval sets --json", holds=lambda one: len(one["known"]) > 14),
    Case("search.json", "search 'a dog' --json -k 50", holds=has_every_modality),
    Case("search.json", "search --query '0.5*{built}/media/image-0.png - like:3' --to audio,imu,text --json"),
    Case("search.json", "search 'a dog' --where 'item_id < 0' --json", 1, holds=lambda one: one["hits"] == []),
    Case("search.json", f"search dog --json {LISTS}", damage=cut_index, holds=lambda one: one["notices"]),
    Case("report.json", "report {built}/queries.txt --html {folder}/p.html --json", holds=lambda one: one["queries"]),
    Case("search.json", "search 'a dog' --json -k 50 --locate", holds=is_located),
    Case("search-hits.json", "search 'a dog' --jsonl -k 1", holds=lambda one: one["rank"] == 1),
    Case("search-lines.json", "search - --json", stdin="a dog", holds=lambda one: one["line"] == 1 and one["hits"]),
    Case("search-lines.json", "search - --json", 2, stdin="like:999", holds=lambda one: one["error"]),
    Case("search-line-hits.json", "search - --jsonl -k 1", stdin="a dog", holds=lambda one: one["query_line"] == 1),
    Case("search-line-hits.json", "search - --jsonl", 2, stdin="like:999", holds=lambda one: one["error"]),
    Case("explain.json", f"explain 'a dog' --json {LISTS}"),
    Case("explain.json", "explain --audio {built}/media/audio-0.wav --like 3 --where 'item_id < 4' --json"),
    Case("explain.json", f"explain 'a dog' --analyze --json {LISTS}", holds=has_times),
    Case("explain.json", "explain dog --where \"modality = 'text'\" --analyze --json", holds=has_skipped_part),
    Case("calibrate.json", f"calibrate {{built}}/answers.csv --json {LISTS}", holds=has_fitted_pair),
    Case("classify.json", "classify {built}/media/text-0.txt {built}/media/image-0.png --labels 'a,b|c' --json"),
    Case("classify.json", "classify {built}/media/bad.png --labels a --json", 3, holds=lambda one: one["files"]),
    Case("locate.json", "locate a {built}/media/image-0.png {built}/media/audio-0.wav --json", None, holds=has_maps),
    Case("locate.json", "locate a {built}/media/video-0.mp4 {built}/media/bad.png --json", 3, holds=has_maps),
    Case("classify-column.json", "classify --write-column k --write-probability p --labels a,b --json", holds=is_new),
    Case("classify-column.json", "classify --write-column k --labels a --dry-run --json", holds=is_new),
    Case("classify-column.json", "classify --write-column k --json", 0, COLUMN, holds=lambda one: one["labels"] == 2),
    Case("classify-removed.json", "classify --remove-column k --json", 0, COLUMN, holds=lambda one: one["removed"]),
    Case("imagine.json", f"{IMAGINE} --json --seed 3", holds=lambda one: one["pictures"][0]["seed"] == 3),
    Case("status.json", "status --json", before=COLUMN, holds=lambda one: one["columns"][0]["labels"] == ["a", "b"]),
    Case("optimize.json", "optimize --json", holds=lambda one: one["partitions"] == []),
    Case("optimize.json", f"optimize --force --json {LISTS}", holds=lambda one: one["partitions"]),
    Case("status.json", "status --json", holds=lambda one: one["failures"] and [*one["items"]] == [*Modality]),
    Case("status.json", "status --left-out --json", holds=lambda one: "left_out_files" in one),
    Case("status.json", f"status --json {LISTS}", holds=has_points),
    Case("verify.json", "verify --check-media --json", holds=lambda one: one["findings"] == []),
    Case("verify.json", "verify --json", 5, damage=spoil_vectors, holds=lambda one: one["findings"]),
    Case("compact.json", "compact --json", damage=spoil_vectors, holds=lambda one: one["mended"]),
    Case("compact.json", f"compact --json {LISTS}", damage=cut_index, holds=lambda one: one["left"]),
    Case(
        "reshard.json",
        "reshard --shards 2 --json --store {folder}/many",
        before=SHARDED,
        holds=lambda one: (one["before"], one["after"]) == (3, 2),
    ),
    Case(
        "status.json",
        "status --json --store {folder}/many",
        before=SHARDED,
        holds=lambda one: [shard["shard"] for shard in one["shards"]] == [0, 1, 2],
    ),
    Case(
        "search.json",
        "search dog --json --store {folder}/many",
        before=SHARDED,
        damage=lambda folder: shutil.rmtree(folder / "many" / "shard-0001"),
        holds=lambda one: one["partial"] and one["missing_shards"][0]["shard"] == 1,
    ),
    Case("explain.json", "explain dog --analyze --json --store {folder}/many", before=SHARDED),
    Case("recover.json", "recover --json", holds=lambda one: not one["reason"]),
    Case("recover.json", "recover --json", 3, damage=remove_catalog, holds=lambda one: one["losses"]),
    Case("doctor.json", "doctor --json", None, holds=lambda one: one["checks"]),
    Case("config-show.json", "config show --json", before="config set k 3", holds=lambda one: one["values"]),
    Case("config-show.json", "config show --all --json", holds=lambda one: len(one["values"]) > 150),
    Case("duplicates.json", "duplicates --json", holds=lambda one: one["groups"]),
    Case("duplicates-near.json", "duplicates --near --threshold 0.1 --json", holds=lambda one: one["groups"]),
    Case("duplicates-near.json", "duplicates --near --json", holds=lambda one: one["groups"] and one["notices"]),
    Case("forget.json", "forget {built}/media/text-0.txt --json", holds=lambda one: one["forgotten"] == 1),
    Case("relocate.json", "relocate {built}/media {built}/media --json", holds=lambda one: one["found"] > 0),
    Case("export.json", "export {folder}/out --json", holds=lambda one: len(one["vectors"]) == len(Modality)),
    Case("export-engine.json", "export qdrant:{folder}/edge --json", holds=lambda one: one["size_bytes"] > 0),
    Case("import.json", "import {folder}/out --store {folder}/copy --json", before="export {folder}/out"),
    Case("import.json", "merge {folder}/store --store {folder}/both --json", holds=lambda one: one["failures"] == 1),
    Case("bind.json", f"{BIND} --set replication=1 --json", holds=has_validation),
    Case("bind.json", f"{BIND} --set validation=0 --work {{folder}}/w --sweep batch=4,6 --json", holds=is_swept),
    Case("bind-bridge.json", "bind --pairs {built}/captions.txt --hub words --bridge null --out b --json"),
    Case("encoders.json", "encoders --json", before=BIND, holds=lambda one: one["encoders"][1]["state"] == "bound"),
    Case("encoders.json", "encoders --for 'motion, no download' --json", holds=lambda one: one["encoders"]),
    Case("encoders.json", "encoders --for 'motion, many languages' --json", 1, holds=lambda one: not one["encoders"]),
    Case("bench-encode.json", "bench encode --encoder mini --modality text --seconds 0.01 --batch 2 --json"),
    Case("model-list.json", "model list --json", before=BIND, holds=lambda one: one["models"][0]["family"] == "bound"),
    Case("model-info.json", "model info bound:t --check --json", before=BIND, holds=lambda one: not one["faults"]),
    Case("model-remove.json", "model remove bound:t --json", before=BIND, holds=lambda one: one["freed_bytes"]),
    Case("model-pull.json", f"{PULL} --json", holds=lambda one: one["pulled"]),
    Case("model-pull.json", f"{PULL} --json", before=PULL, holds=lambda one: one["notices"]),
    Case("model-list.json", "model list --json", before=PULL, holds=lambda one: one["models"]),
    Case("model-list.json", "model list --json", 0, PULL, break_models, has_broken_models),
    Case("model-info.json", f"model info {MODEL} --check --json", before=PULL, holds=lambda one: one["checked"]),
    Case("model-info.json", f"model info {MODEL} --json", 4, PULL, cut_model, lambda one: one["faults"]),
    Case("model-info-mini.json", "model info mini --json", holds=lambda one: one["size_bytes"] > 1 << 20),
    Case("model-remove.json", f"model remove {MODEL} --json", before=PULL, holds=lambda one: one["freed_bytes"]),
]  # fmt: skip
"""What each command prints, also where files failed and where something is damaged. `watch` has a test of its own."""

WATCH = "watch {built}/more --json-lines"


def command_of(line: str) -> str:
    """Return the command of a line: the longest command that it begins with."""
    return max((name for name in commands() if f"{line} ".startswith(f"{name} ")), key=len)


def options_in(line: str) -> set[str]:
    return {word for word in shlex.split(line) if word.startswith("-") and word != "-"}


def spellings(command: TyperCommand) -> set[str]:
    return {spelling for option in options_of(command) for spelling in option.opts}


def validator(name: str) -> Draft202012Validator:
    return Draft202012Validator(read_schema(name))


def read_schema(name: str) -> dict[str, Any]:
    schema: dict[str, Any] = json.loads((SCHEMAS / name).read_text(encoding="utf-8"))
    return schema


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Media of every modality, a damaged one and a copy among them, and a store of it; a store with indexes."""
    folder = tmp_path_factory.mktemp("built")
    for name in ("empty", "more", "texts"):
        (folder / name).mkdir()
    write_every_modality(folder / "media")
    shutil.copy(folder / "media" / "text-0.txt", folder / "media" / "copy.txt")
    (folder / "media" / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n no picture")
    (folder / "more" / "more.txt").write_text("one more text")
    (folder / "captions.txt").write_text("\n".join(f"caption {n}" for n in range(80)))
    (folder / "queries.txt").write_text("a dog\ntwo cups\n")
    for n in range(40):
        (folder / "texts" / f"{n}.txt").write_text(f"text number {n}")
    answers = [f"text number {n},texts/{n}.txt" for n in range(40)]
    (folder / "answers.csv").write_text("\n".join(["query,answer", *answers]))
    words = [f"texts/{n}.txt,{'odd' if n % 2 else 'even'},number {n}" for n in range(40)]
    (folder / "words.csv").write_text("\n".join(["path,label,caption", *words]))
    shutil.copy(folder / "media" / "image-0.png", folder / "texts")
    (folder / "model.pth").write_bytes(bytes(range(256)) * 20)
    save_unclip(folder / "decoder", 384)
    write_scenes(folder / "scenes", make_scenes(8, 1), ["image", "thermal"])
    write_pairs(folder / "scenes" / "pairs.csv", "thermal", "image", 8, validation=3, labels=("day", "night"))
    with connect(folder / "store", encoder="mini") as store:
        store.index(folder / "media", rules=["thermal=thermal-*.png"])
    with connect(folder / "lists", encoder="null") as store:
        store.index(folder / "texts", index_settings=IndexSettings(IndexForm.IVF_PQ, overrides={"lists": 2}))
    return folder


@pytest.fixture
def folder(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return copies of the stores, to be changed, and no models; the converter of models is a stand-in."""
    for name in ("store", "lists"):
        shutil.copytree(built / name, tmp_path / name)
    monkeypatch.setenv("BINDSEARCH_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("BINDSEARCH_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.setattr(benchmark, "MATMUL_SIDE", 256)
    monkeypatch.setattr(registry, "BUILT_IN", {**registry.BUILT_IN, "words": Words})
    for module in ("bindsearch.encoders.stub", "bindsearch.encoders.stub.checkpoint"):
        monkeypatch.setitem(sys.modules, module, None)  # so that they go again
    pull.install_converter()
    monkeypatch.setattr(
        model_catalog, "find_model_source", lambda name: pull.make_source(name, "https://example.org/x.pth")
    )
    return tmp_path


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.line)
def test_output_is_as_the_schema_says(
    case: Case, built: Path, folder: Path, bindsearch_command: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(case.stdin))

    def run(line: str) -> subprocess.CompletedProcess[str]:
        return bindsearch_command(shlex.split(line.format(built=built, folder=folder)))

    if case.before:
        assert run(case.before).returncode == 0
    case.damage(folder)
    done = run(case.line)
    assert case.code in (done.returncode, None), done.stderr
    check = validator(case.schema)
    if case.events:
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        for line in lines:
            check.validate(line)
        assert {line["event"] for line in lines} == case.events
        assert lines[-1]["event"] == "done"
    else:
        output = json.loads(done.stdout)
        check.validate(output)
        assert case.holds(output)


def test_lines_of_watch_are_as_the_schema_says(built: Path, folder: Path) -> None:
    arguments = [*shlex.split(WATCH.format(built=built)), "--store", str(folder / "lists")]
    command = [str(Path(sys.executable).with_name("bindsearch")), *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    validator("watch-lines.json").validate(json.loads(line))


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("search dog --store {folder}/nowhere --json", 4),
        ("search --image {folder}/nowhere.jpg --json", 2),
        ("index {folder}/nowhere --json", 2),
        ("show {folder}/nowhere --json", 2),
        ("index {folder}/nowhere --json-lines", 2),
        ("status --store {folder}/nowhere --json", 4),
        ("duplicates --threshold 2 --json", 2),
        ("export {folder}/store --json", 2),
        ("model info nothing --json", 4),
        ("bind --pairs {folder}/nowhere.csv --modality thermal --out t --json", 2),
    ],
)
def test_an_error_prints_no_json(line: str, code: int, folder: Path, bindsearch_command: Run) -> None:
    done = bindsearch_command(shlex.split(line.format(folder=folder)))
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith("bindsearch: ")


def test_every_json_option_has_a_schema_and_a_case() -> None:
    printed = {
        (command_of(line), option) for lines in schema_files().values() for line in lines for option in options_in(line)
    }
    tried = {
        (command_of(line), option) for line in (*(case.line for case in CASES), WATCH) for option in options_in(line)
    }
    for name, command in commands().items():
        for option in spellings(command) & JSON_OPTIONS:
            assert (name, option) in printed, f"no schema in docs/schemas/ is x-printed-by {name} {option}"
            assert (name, option) in tried, f"CASES has no {name} {option}"


def test_every_schema_is_printed_by_commands_that_are_tried() -> None:
    tried = [(case.schema, case.line) for case in CASES] + [("watch-lines.json", WATCH)]
    for file, lines in schema_files().items():
        for line in lines:
            assert options_in(line) <= spellings(commands()[command_of(line)]), f"{file}: {line}"
            assert any(
                schema == file and command_of(one) == command_of(line) and options_in(one) >= options_in(line)
                for schema, one in tried
            ), f"CASES has no {line}"


@pytest.mark.parametrize("file", FILES)
def test_a_schema_is_valid_described_and_closed(file: str) -> None:
    schema = read_schema(file)
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == Draft202012Validator.META_SCHEMA["$id"]
    assert schema["title"]
    definitions = schema.get("$defs", {}).items()
    open_ones = {f"#/$defs/{name}": one for name, one in definitions if one.get("type") == "object" and is_open(one)}
    for place, one in subschemas(schema):
        for name, value in one.get("properties", {}).items():
            assert value.get("description", "").endswith("."), f"{place}/{name} has no description"
        if one.get("type") == "object" and one not in open_ones.values():
            assert not is_open(one), f"{place} takes any property"
        if one.get("$ref") in open_ones and not place.endswith("/allOf/0"):
            assert not is_open(one), f"{place} takes any property"


def is_open(schema: dict[str, Any]) -> bool:
    """Return whether a schema of an object does not say what other properties there may be."""
    return not {"additionalProperties", "unevaluatedProperties"} & schema.keys()


def subschemas(node: Any, place: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every object of a schema with its place; the names of properties are among them, and do no harm."""
    if isinstance(node, dict):
        yield place, node
        for name, value in node.items():
            yield from subschemas(value, f"{place}/{name}")
    elif isinstance(node, list):
        for number, value in enumerate(node):
            yield from subschemas(value, f"{place}/{number}")


def test_what_schemas_share_is_the_same_in_each() -> None:
    shared: dict[str, Any] = {}
    for file in FILES:
        for name, definition in read_schema(file).get("$defs", {}).items():
            assert definition == shared.setdefault(name, definition), f"{file}: {name}"


def test_values_that_schemas_list_are_those_of_the_code() -> None:
    definitions = {name: one for file in FILES for name, one in read_schema(file).get("$defs", {}).items()}
    point, finding = definitions["operatingPoint"]["properties"], definitions["finding"]["properties"]
    doctor = read_schema("doctor.json")["properties"]["checks"]["items"]["properties"]
    sources = [*Modality, MIXED]
    for schema, values in (
        (definitions["modality"], [*Modality]),
        (definitions["form"], [*IndexForm]),
        (definitions["strategy"], [*Strategy]),
        (definitions["indexAction"], [*IndexActionKind]),
        (definitions["model"]["properties"]["dtype"], [*DTYPES]),
        (finding["kind"], [*FindingKind]),
        (finding["mend"], [*Repair]),
        (point["source"], sources),
        (point["stand_in"], [*sources, UNMEASURED, None]),
        (read_schema("explain.json")["properties"]["rank"], [*Ranking]),
        (doctor["level"], [*Level]),
    ):
        assert schema["enum"] == values
