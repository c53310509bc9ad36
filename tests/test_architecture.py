"""The order of the groups of modules: the import graph, read from syntax trees, has no upward import and no cycle.

Imports inside functions count; those under `if TYPE_CHECKING` do not. Modules that are imported by a name made at run
time (the lazy names of `bindsearch`, encoders of other packages) are not seen.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from helpers.stores import connect

PROJECT = Path(__file__).parents[1]

MAX_MODULES = 16
"""Modules of a folder."""

MAX_CONNECT_MODULES, MAX_SEARCH_MODULES = 62, 77
"""Modules of the package that `connect` loads, and a text search with `mini` in all."""

GROUPS: Mapping[str, str] = {
    "core": "arguments atomic device environment errors former_names hashing items media reports small_files space "
    "types vectors",
    "encoders": "encoders",
    "indexes": "indexes",
    "storage": "storage",
    "ingest": "ingest",
    "search": "search",
    "operations": "operations",
    "store": "results store",
    "shards": "shards",
    "generation": "generation",
    "views": "views",
    "evaluation": "evaluation",
    "binding": "binding",
    "server": "server",
    "cli": "cli",
}
"""The groups of modules, lowest first: a module imports only from its own group and from those before it.

Each is named with its modules and packages directly below `bindsearch`; `bindsearch` itself belongs to the store's.
"""

ORDER = tuple(GROUPS)
GROUP_OF = {name: group for group, names in GROUPS.items() for name in names.split()}


@dataclass(frozen=True, slots=True, order=True)
class Edge:
    """One module imports another.

    Attributes:
        importer: Dotted name of the module that holds the import statement.
        imported: Dotted name of the module that is imported.
        line: Line of the statement.
    """

    importer: str
    imported: str
    line: int


def find_modules(project: Path) -> dict[str, Path]:
    """Return the path of every module of the package, by dotted name.

    The folders of the checkout are mapped into the package by `package-dir` of pyproject.toml.
    """
    settings = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))
    modules = {}
    for package, folder in settings["tool"]["setuptools"]["package-dir"].items():
        for path in sorted((project / folder).rglob("*.py")):
            parts = path.relative_to(project / folder).with_suffix("").parts
            inner = parts[:-1] if parts[-1] == "__init__" else parts
            modules[".".join([package, *inner])] = path
    return modules


def import_graph(modules: Mapping[str, Path]) -> list[Edge]:
    """Return the imports among `modules` (paths by dotted name), sorted, the first of each pair of modules only."""
    edges: dict[tuple[str, str], Edge] = {}
    for importer, path in modules.items():
        for statement in _runtime_imports(ast.parse(path.read_text(encoding="utf-8"), str(path))):
            for imported in _imported_modules(statement, importer, path.stem == "__init__", modules):
                if imported != importer:
                    edges.setdefault((importer, imported), Edge(importer, imported, statement.lineno))
    return sorted(edges.values())


def _runtime_imports(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Yield the import statements below `node`, those under `if TYPE_CHECKING` excepted."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        yield node
        return
    below: Iterable[ast.AST] = ast.iter_child_nodes(node)
    if isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}:
        below = node.orelse
    for child in below:
        yield from _runtime_imports(child)


def _imported_modules(
    statement: ast.Import | ast.ImportFrom, importer: str, is_package: bool, modules: Mapping[str, Path]
) -> Iterator[str]:
    """Yield which of `modules` a statement names; `from package import name` names a module where `name` is one.

    The packages that hold a module are imported with it, but are not named: their edges would make a cycle of every
    package that imports from its own modules.
    """
    if isinstance(statement, ast.Import):
        yield from (alias.name for alias in statement.names if alias.name in modules)
        return
    source = statement.module or ""
    if statement.level:  # relative to the package that the importer is, or is in
        parts = importer.split(".")
        parts = parts[: len(parts) - statement.level + is_package]
        source = ".".join([*parts, source] if source else parts)
    for alias in statement.names:
        name = f"{source}.{alias.name}"
        if name in modules or source in modules:
            yield name if name in modules else source


def group_of(module: str) -> str | None:
    """Return the group of a module; None where no group names it or the package it is in."""
    return "store" if module == "bindsearch" else GROUP_OF.get(module.split(".")[1])


def modules_without_group(modules: Iterable[str]) -> list[str]:
    """Return the modules that belong to no group, sorted."""
    return sorted(module for module in modules if group_of(module) is None)


def upward_edges(edges: Iterable[Edge]) -> list[Edge]:
    """Return the imports of a higher group by a lower one; modules without a group are left out."""
    found = []
    for edge in edges:
        lower, upper = group_of(edge.importer), group_of(edge.imported)
        if lower is not None and upper is not None and ORDER.index(lower) < ORDER.index(upper):
            found.append(edge)
    return found


def find_cycles(edges: Iterable[Edge]) -> list[list[Edge]]:
    """Return the cycles of the graph: for each set of modules that reach each other, the imports among them.

    The sets are the strongly connected components of more than one module, by Tarjan's algorithm (SIAM J. Comput. 1,
    1972).
    """
    edges = list(edges)
    component_of: dict[str, int] = {}
    for number, component in enumerate(_components(edges)):
        component_of.update(dict.fromkeys(component, number))
    cycles: dict[int, list[Edge]] = {}
    for edge in sorted(edges):
        if component_of[edge.importer] == component_of[edge.imported]:
            cycles.setdefault(component_of[edge.importer], []).append(edge)
    return sorted(cycles.values())


def _components(edges: Sequence[Edge]) -> Iterator[list[str]]:
    """Yield the strongly connected components of the graph. Recursive: a graph of modules is not deep."""
    successors: dict[str, list[str]] = {}
    for edge in edges:
        successors.setdefault(edge.importer, []).append(edge.imported)
        successors.setdefault(edge.imported, [])
    order: dict[str, int] = {}  # in which order modules were reached
    lowest: dict[str, int] = {}  # the first reached of those on the stack that a module leads back to
    stack: list[str] = []
    on_stack: set[str] = set()

    def visit(module: str) -> Iterator[list[str]]:
        order[module] = lowest[module] = len(order)
        stack.append(module)
        on_stack.add(module)
        for successor in successors[module]:
            if successor not in order:
                yield from visit(successor)
                lowest[module] = min(lowest[module], lowest[successor])
            elif successor in on_stack:
                lowest[module] = min(lowest[module], order[successor])
        if lowest[module] == order[module]:
            component = stack[stack.index(module) :]
            del stack[-len(component) :]
            on_stack.difference_update(component)
            yield component

    for module in sorted(successors):
        if module not in order:
            yield from visit(module)


def describe_edge(edge: Edge, modules: Mapping[str, Path], project: Path) -> str:
    """Return one line about an import: `file:line (group) -> file (group)`."""
    importer, imported = (modules[name].relative_to(project) for name in (edge.importer, edge.imported))
    return f"{importer}:{edge.line} ({group_of(edge.importer)}) -> {imported} ({group_of(edge.imported)})"


def test_every_module_has_a_group() -> None:
    assert modules_without_group(find_modules(PROJECT)) == []


def test_imports_go_to_the_same_or_a_lower_group() -> None:
    modules = find_modules(PROJECT)
    assert [describe_edge(edge, modules, PROJECT) for edge in upward_edges(import_graph(modules))] == []


def test_modules_do_not_import_each_other_in_a_cycle() -> None:
    modules = find_modules(PROJECT)
    cycles = find_cycles(import_graph(modules))
    assert [[describe_edge(edge, modules, PROJECT) for edge in cycle] for cycle in cycles] == []


def test_a_folder_holds_few_modules() -> None:
    count: dict[Path, int] = {}
    for path in find_modules(PROJECT).values():
        count[path.parent] = count.get(path.parent, 0) + (path.stem != "__init__")
    allowed = {PROJECT / "cli": 40}  # one file a command
    assert {str(folder): n for folder, n in count.items() if n > allowed.get(folder, MAX_MODULES)} == {}


SEARCH_TEXT = """
import sys
import bindsearch as bs

def loaded():
    return {name for name in sys.modules if name.split(".")[0] == "bindsearch"}

store = bs.connect(sys.argv[1])
print(len(loaded()))
store.search("a dog")
print(len(loaded()))
print(*sorted(name for name in loaded() if name.startswith(("bindsearch.ingest.", "bindsearch.operations."))))
"""


def test_a_text_search_loads_no_decoder_and_no_operation(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("a dog")
    with connect(tmp_path / "store") as store:
        store.index(tmp_path / "note.txt")
    command = [sys.executable, "-c", SEARCH_TEXT, str(tmp_path / "store")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    connected, searched, others = done.stdout.splitlines()
    assert int(connected) <= MAX_CONNECT_MODULES
    assert int(searched) <= MAX_SEARCH_MODULES
    assert set(others.split()) == {
        "bindsearch.ingest.media",
        "bindsearch.ingest.media.options",
        "bindsearch.ingest.media.texts",
        "bindsearch.ingest.media.texts.passages",
    }


def test_paths_that_pages_name_exist() -> None:
    for page in ("docs/architecture.md", "CONTRIBUTING.md"):
        text = (PROJECT / page).read_text()
        for name in re.findall(r"`((?:bindsearch|cli|ingest|indexes|tests|docs)/[\w/.]*)`", text):
            assert (PROJECT / name).exists(), f"{page} names {name}"
        for name in re.findall(r"(?<![\w/])((?:ingest|search|operations|storage)/[a-z_/]+)", text):
            places = [PROJECT / name, PROJECT / "bindsearch" / name]
            assert any(place.exists() or place.with_suffix(".py").exists() for place in places), f"{page} names {name}"


QUESTION_WORDS = {"What", "Whether", "Which", "How", "Where", "Why", "Who", "When"}


def attribute_docstrings(tree: ast.Module) -> Iterator[str]:
    """Yield the strings that stand below assignments."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        for statement, after in pairwise(body if isinstance(body, list) else ()):  # lambdas have an expression for one
            match statement, after:
                case ast.Assign() | ast.AnnAssign(), ast.Expr(ast.Constant(str() as text)):
                    yield text


def test_attribute_docstrings_are_found() -> None:
    text = 'A = 1\n"""Of A."""\nclass B:\n    """Of B."""\n    c: int = 2\n    """Of c."""\n    d = lambda: 0\n'
    assert list(attribute_docstrings(ast.parse(text))) == ["Of A.", "Of c."]


def test_docstrings_open_with_a_noun_or_an_imperative() -> None:
    """Of modules, classes, functions and attributes; a property's docstring may say whether something is so."""
    found = []
    for name, path in find_modules(PROJECT).items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found += [f"{name}: {text}" for text in attribute_docstrings(tree) if text.split()[0] in QUESTION_WORDS]
        for node in ast.walk(tree):
            if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                continue
            is_property = isinstance(node, ast.FunctionDef) and any(
                "property" in ast.unparse(decorator) for decorator in node.decorator_list
            )
            words = (ast.get_docstring(node) or "").split(maxsplit=1)
            if words and words[0] in QUESTION_WORDS and not is_property:
                found.append(f"{name}: {getattr(node, 'name', 'module')}")
    assert found == []


def test_the_graph_sees_lazy_imports_upward_edges_and_cycles(tmp_path: Path) -> None:
    (tmp_path / "low.py").write_text("def late():\n    from bindsearch.store import connect\n    return connect\n")
    (tmp_path / "typed.py").write_text("if TYPE_CHECKING:\n    from bindsearch.store import Store\n")
    modules = {
        "bindsearch.vectors": tmp_path / "low.py",
        "bindsearch.types": tmp_path / "typed.py",
        "bindsearch.store": tmp_path / "typed.py",
    }
    edges = import_graph(modules)
    assert edges == [Edge("bindsearch.vectors", "bindsearch.store", 2)]
    assert upward_edges(edges) == edges
    assert find_cycles(edges) == []
    back = Edge("bindsearch.store", "bindsearch.vectors", 1)
    assert find_cycles([*edges, back]) == [sorted([*edges, back])]
