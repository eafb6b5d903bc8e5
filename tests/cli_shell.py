"""What tests of the command line share: two tasks, a store, and calls that check streams, status and JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from bbopt.cli import main

SHELL = [sys.executable, "-W", "error", "-m", "bbopt.cli"]
"""The command line as a process of its own."""

TASK: dict[str, Any] = {
    "space": {
        "width": {"type": "Float", "low": 0.0, "high": 2.0},
        "bolts": {"type": "Int", "low": 2, "high": 12},
        "steel": {"type": "Categorical", "choices": ["S235", "S355", "1"]},
    },
    "objectives": [{"name": "cost"}],
    "constraints": [{"name": "stress", "upper": 250}],
    "where": ["width * bolts <= 20"],
}
CURVE: dict[str, Any] = {"space": {"x": {"type": "Float", "low": -1, "high": 1}}, "objectives": [{"name": "y"}]}


def refuse(token: str) -> Any:
    raise AssertionError(f"{token} is not JSON")


def document(text: str) -> Any:
    """The one JSON document in a text, with its format number."""
    found = json.loads(text, parse_constant=refuse)
    assert found["format"] == 1
    return found


def run(*words: object, input: str | bytes | None = None) -> Result:
    result = CliRunner().invoke(main, [str(word) for word in words], input=input)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    return result


def read(*words: object, input: str | bytes | None = None) -> Any:
    result = run(*words, "--json", input=input)
    assert result.exit_code == 0, result.stderr
    assert result.stderr == ""
    return document(result.stdout)


def refused(status: int, *words: object, input: str | bytes | None = None) -> str:
    """Standard error of a call that fails, with nothing on standard output."""
    result = run(*words, input=input)
    assert (result.exit_code, result.stdout) == (status, ""), result.output
    return result.stderr


def make_store(folder: Path) -> Path:
    """A store with two studies: `beam` (mixed, a limit, `where`) and `curve` (one number in, one out)."""
    path = folder / "runs.db"
    for name, task in (("beam", TASK), ("curve", CURVE)):
        read("create", path, name, "--task", "-", "--strategy", "random", "--seed", 3, input=json.dumps(task))
    return path
