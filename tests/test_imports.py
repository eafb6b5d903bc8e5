"""Who may import what, what `import bbopt` costs, which names are public, and that every example in a docstring runs."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OURS = ("bbopt", "problems", "surrogates", "server")

FRAME = {
    "__init__",
    "advice",
    "__main__",
    "neighbours",
    "problems",
    "bench",
    "cli",
    "compare",
    "report",
    "train",
    "serve",
}
"""Modules directly in bbopt/ that stand above the core, with what begins with their names and an underscore."""
METHODS_TOO = {"designs", "wrappers"}
"""Modules directly in bbopt/ that belong to the search methods; every other one belongs to the core."""
LAZY = {("bbopt.run", "rich"), ("bbopt.ray_cluster", "ray"), ("bbopt.device_batch", "torch")}
"""What a module of the core may import inside a function: packages that only some uses of it need."""
LEAVES = (
    "bbopt.errors",
    "bbopt.environment",
    "bbopt.risk",
    "bbopt.parameters",
    "bbopt.expression",
    "bbopt.space",
    "bbopt.task",
    "bbopt.query",
)
HEAVY = ("torch", "scipy", "ray", "matplotlib", "fastapi", "uvicorn", "starlette", "jinja2", "gpytorch", "botorch", "pandas",
         "pymoo", "click", "rich", "tabpfn", "sklearn", "hypothesis", "asyncio", "http.server")  # fmt: skip


def sources() -> dict[str, Path]:
    """Module name to file, for all of ours."""
    found = {}
    for package in OURS:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


SOURCES = sources()


def layer(module: str) -> str:
    """Where a module stands: core, frame, methods (acquisition, strategies, zeroth_order), report, or its package."""
    parts = module.split(".")
    if parts[0] != "bbopt":
        return parts[0]
    if len(parts) == 1 or parts[1].partition("_")[0] in FRAME or parts[1] in FRAME:
        return "frame"
    folder = f"bbopt.{parts[1]}" not in SOURCES or SOURCES[f"bbopt.{parts[1]}"].name == "__init__.py"
    return "methods" if folder or parts[1] in METHODS_TOO else "core"


@cache
def imports(module: str) -> tuple[tuple[str, bool, int], ...]:
    """(imported module, at the top level of the file, line); imports for type checkers only are left out."""
    path = SOURCES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]

    def walk(node: ast.AST, top: bool) -> Iterator[tuple[str, bool, int]]:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for other in node.orelse:
                yield from walk(other, top)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, top, node.lineno
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([base] if base else [])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield (inner if inner in SOURCES else base), top, node.lineno
        else:
            inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            for child in ast.iter_child_nodes(node):
                yield from walk(child, top and not inside)

    return tuple(walk(ast.parse(path.read_text()), True))


def allowed(module: str, other: str, top: bool) -> bool:
    """The table of DESIGN.md."""
    mine, theirs = layer(module), layer(other)
    match mine:
        case "surrogates":
            return theirs == "surrogates" or other == "bbopt.errors"
        case "problems":
            return theirs == "problems" or other in LEAVES
        case "core":
            return theirs == "core"
        case "methods":
            return theirs in ("core", "methods", "surrogates")
        case "server":
            return theirs == "server" or other == "bbopt"
        case _:
            return theirs != "server" or not top


def test_imports_follow_the_table() -> None:
    wrong = [
        f"{module}:{line} imports {other}"
        for module in SOURCES
        for other, top, line in imports(module)
        if other.split(".")[0] in OURS and not allowed(module, other, top)
    ]
    assert not wrong, "\n".join(wrong)


def test_the_core_needs_only_numpy() -> None:
    ours = (*OURS, "numpy", *sys.stdlib_module_names)
    wrong = [
        f"{module}:{line} imports {other}"
        for module in SOURCES
        if layer(module) == "core"
        for other, top, line in imports(module)
        if other.split(".")[0] not in ours and (top or (module, other.split(".")[0]) not in LAZY)
    ]
    assert not wrong, "\n".join(wrong)


def test_no_pickle_anywhere() -> None:
    bad = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    wrong = [f"{m}:{line} imports {o}" for m in SOURCES for o, _, line in imports(m) if o.split(".")[0] in bad]
    assert not wrong, "\n".join(wrong)


def test_no_import_cycles() -> None:
    graph = {
        module: {other for other, top, _ in imports(module) if top and other in SOURCES and other != module}
        for module in SOURCES
    }
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, "import cycle: " + " -> ".join([*trail[trail.index(module) :], module])
        if module not in done:
            for other in sorted(graph[module]):
                visit(other, (*trail, module))
            done.add(module)

    for module in sorted(graph):
        visit(module, ())


def test_docstrings_are_first_and_every_module_has_one() -> None:
    missing = [
        m
        for m, path in SOURCES.items()
        if path.read_text().strip() and not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert not missing, f"modules without a docstring as their first statement: {', '.join(missing)}"


def run(code: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error"}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, timeout=60
    )


def test_import_is_cheap() -> None:
    """The one timed test: CPU seconds, median of five processes."""
    code = "import time; start = time.process_time(); import bbopt; print(time.process_time() - start)"
    run(code)  # writes the byte code
    seconds = []
    for _ in range(5):
        result = run(code)
        assert result.returncode == 0, result.stderr
        seconds.append(float(result.stdout))
    assert statistics.median(seconds) <= 0.25, f"import bbopt took {seconds} CPU seconds"


def test_import_loads_nothing_heavy() -> None:
    code = f"import sys, json, bbopt; print(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"
    result = run(code)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == []


def test_a_study_without_a_model_loads_nothing_heavy() -> None:
    """Random search on a task with everything in it needs NumPy and the standard library alone."""
    code = f"""
import sys, json, bbopt
task = bbopt.Task(bbopt.Space(x=bbopt.Float(0, 1), s=bbopt.Categorical(["a", "b"])), where=["x <= 0.9"])
opt = bbopt.Optimizer(task, strategy="random")
opt.tell(opt.ask(), 1.0)
print(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))
"""
    result = run(code)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == []


PUBLIC = {"Space", "Float", "Int", "Categorical", "Fixed", "Task", "Objective", "Constraint", "Optimizer",
          "minimize", "problems", "Impossible", "Values", "Ranking", "Query", "Trial", "BboptError", "UsageError",
          "RankRequest", "Ranked", "Slate", "Agreement", "PairAgreement", "RaterAgreement",
          "InProcess", "Processes", "Batch", "Failure", "Outcome", "EvaluatorError",
          "SpaceError", "TaskError", "ExpressionError", "ValueRefused", "UnknownTrial", "AlreadyTold", "NotHandled",
          "Waiting", "Exhausted", "MissingPackage", "StoreError", "StoreMissing", "NotAStore", "StoreTooNew",
          "StoreFull", "StudyMissing", "StudyExists", "TaskMismatch"}  # fmt: skip
METHODS = ("open", "ask", "enqueue", "cancel", "tell", "fail", "rank", "add", "amend", "retract", "ask_query", "tell_query",
           "ask_rows", "tell_rows", "open_rows", "statuses", "rank_many", "settle", "rankings", "slates", "agreement",
           "best", "recommend", "front", "trials", "to_csv", "from_csv")  # fmt: skip


def test_public_names_exist() -> None:
    import bbopt

    assert [name for name in PUBLIC if not hasattr(bbopt, name)] == []
    assert [name for name in METHODS if not callable(getattr(bbopt.Optimizer, name, None))] == []
    assert callable(bbopt.problems.get) and callable(bbopt.problems.names)
    assert sorted(bbopt.__all__) == list(bbopt.__all__), "__all__ is one sorted list"
    assert set(PUBLIC) <= set(bbopt.__all__)
    assert [name for name in bbopt.__all__ if not hasattr(bbopt, name)] == []
    assert set(bbopt.__all__) <= set(dir(bbopt))
    with pytest.raises(AttributeError, match="no_such_name"):
        getattr(bbopt, "no_such_name")  # noqa: B009


def test_signatures_are_as_designed() -> None:
    import bbopt

    parameters = inspect.signature(bbopt.Optimizer).parameters
    assert list(parameters)[:2] == ["task", "strategy"]
    wanted = {"strategy": "auto", "seed": 0, "budget": None, "store": None}
    assert {name: parameters[name].default for name in wanted} == wanted and "name" in parameters
    parameters = inspect.signature(bbopt.minimize).parameters
    assert list(parameters)[:2] == ["function", "task"]
    wanted = {
        "strategy": "auto",
        "evaluator": None,
        "seed": 0,
        "target": None,
        "seconds": None,
        "catch": (),
        "progress": True,
    }
    assert {name: parameters[name].default for name in wanted} == wanted and "budget" in parameters
    for name in METHODS:
        kinds = {p.kind for p in inspect.signature(getattr(bbopt.Optimizer, name)).parameters.values()}
        assert inspect.Parameter.VAR_KEYWORD not in kinds, f"{name} takes **kwargs: a misspelled option would pass"


def test_public_names_are_explained() -> None:
    import bbopt

    bare = [name for name in bbopt.__all__ if not inspect.getdoc(getattr(bbopt, name))]
    bare += [f"Optimizer.{name}" for name in METHODS if not inspect.getdoc(getattr(bbopt.Optimizer, name))]
    assert not bare, f"without a docstring: {', '.join(bare)}"


@pytest.mark.parametrize("module", [name for name in SOURCES if name.split(".")[0] == "bbopt"])
def test_docstring_examples_run(module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if ">>>" not in SOURCES[module].read_text():
        return
    monkeypatch.chdir(tmp_path)
    result = doctest.testmod(
        importlib.import_module(module), optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    )
    assert result.failed == 0 and result.attempted > 0


def test_a_foreign_module_named_problems_gives_a_clear_error(tmp_path: Path) -> None:
    """A `problems.py` in the user's folder must not be taken for ours, nor break `import bbopt`."""
    (tmp_path / "problems.py").write_text("names = 'not ours'\n")
    code = """
import sys
sys.path.insert(0, "")
import bbopt
try:
    bbopt.problems.get("branin")
except bbopt.BboptError as error:
    print(error)
"""
    result = run(code, tmp_path)
    assert result.returncode == 0, result.stderr
    assert "problems" in result.stdout and str(tmp_path) in result.stdout, result.stdout or "no error at all"
