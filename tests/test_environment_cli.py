"""Studies of random surroundings from a shell, and on the server's pages."""

from __future__ import annotations

from pathlib import Path

from cli_shell import read, refused, run


def said(*words: str) -> str:
    result = run(*words)
    assert result.exit_code == 0, result.stderr
    return str(result.stdout)


def test_a_study_from_the_shell(tmp_path: Path) -> None:
    store = str(tmp_path / "runs.db")
    said("create", store, "beam", "--problem", "tail_cvar", "--strategy", "environment-gp")
    for _ in range(2):
        trial = read("ask", store, "beam")["trials"][0]
        assert set(trial["params"]) == {"boldness", "trim", "surge"}
        said("tell", store, "beam", str(trial["number"]), str(trial["params"]["boldness"]))
    best = read("best", store, "beam")["trial"]
    assert set(best["params"]) == {"boldness", "trim"} and best["status"] == "believed"
    shown = said("show", store, "beam")
    assert "minimize loss, mean of the worst 10 % over surge" in shown and "best        boldness=" in shown
    assert "environment" in refused(1, "create", store, "other", "--problem", "tail_cvar", "--strategy", "gp")
