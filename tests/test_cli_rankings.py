"""The command line where people rank: slates, several raters, settling, agreement, and rankings shown and exported."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from cli_shell import CURVE, read, refused, run


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    """A store with a study in which two people rank each query."""
    store = tmp_path / "runs.db"
    words = ("create", store, "faces", "--task", "-", "--strategy", "cmaes:population=4", "--quorum", 2)
    read(*words, input=json.dumps({**CURVE, "feedback": "ranking"}))
    return store


def test_a_slate_for_two_people(faces: Path) -> None:
    asked = read("ask", faces, "faces", "--whole")["trials"]
    assert [(trial["number"], trial["status"]) for trial in asked] == [(i, "open") for i in range(4)]
    assert run("rank", faces, "faces", 2, "0=1", "--rater", "ann").stdout == "faces: ranked 2 > 0 = 1; 1 of 2 people\n"
    ranked = read("rank", faces, "faces", 2, 3, "--unseen", 0, "--rater", "bob")["trials"]
    assert {trial["status"] for trial in ranked} == {"ranked"}
    assert read("best", faces, "faces")["trial"]["number"] == 2
    assert "replace=True" in refused(1, "rank", faces, "faces", 3, "--rater", "bob")
    read("rank", faces, "faces", 3, "--rater", "bob", "--replace")
    shown = read("show", faces, "faces")
    assert [(answer["rater"], answer["groups"], answer["unseen"], answer["applied"]) for answer in shown["rankings"]] == [
        ("ann", [[2], [0, 1], [3]], [], True), ("bob", [[3], [0, 1, 2]], [], True)
    ]  # fmt: skip
    assert shown["rankings"][0].keys() == {
        *("query", "rater", "groups", "unseen", "verdict", "applied", "time", "position", "details")
    }
    assert [answer["rater"] for answer in read("show", faces, "faces", "--last", 1)["rankings"]] == ["bob"]
    text = run("show", faces, "faces").stdout
    assert "2: 1 by ann, 1 by bob" in text and "1 answered" in text
    assert "2 > 0 = 1 > 3" in text and "best        trial " in text
    assert "trial " in run("list", faces).stdout


def test_skipped_slates_and_wrong_words(faces: Path) -> None:
    read("ask", faces, "faces", "--whole", "--count", 4, "--owner", "ann")
    unseen = [word for number in range(4) for word in ("--unseen", number)]
    assert run("rank", faces, "faces", *unseen, "--rater", "ann").stdout == "faces: skipped; 1 of 2 people\n"
    assert "skipped" in run("show", faces, "faces").stdout
    assert "--unseen to skip" in refused(2, "rank", faces, "faces")
    assert "--whole goes without" in refused(2, "ask", faces, "faces", "--whole", "--fixed", "x=0.5")
    assert "one query" in refused(1, "rank", faces, "faces", 0, 1, 2, 3, "--unseen", 99)


def test_settle(faces: Path) -> None:
    read("ask", faces, "faces", "--whole")
    assert "nobody has ranked" in refused(1, "settle", faces, "faces", 0)
    read("rank", faces, "faces", 1, 0, 2, 3, "--rater", "ann")
    settled = read("settle", faces, "faces", 3)["trials"]
    assert [trial["status"] for trial in settled] == ["ranked"] * 4
    assert run("settle", faces, "faces", 3).stdout == "faces: settled the query of trial 3\n"
    late = read("rank", faces, "faces", 3, 2, 1, 0, "--rater", "bob")["trials"]
    assert len(late) == 4
    assert [answer["applied"] for answer in read("show", faces, "faces")["rankings"]] == [True, False]


def test_agreement(faces: Path) -> None:
    nobody = run("agreement", faces, "faces")
    assert (nobody.stdout, nobody.stderr) == ("", "faces: nobody has ranked anything yet\n")
    assert read("agreement", faces, "faces") == {"format": 1, "pairs": [], "w": None, "w_slates": 0, "raters": []}
    read("ask", faces, "faces", "--whole")
    read("rank", faces, "faces", 0, 1, 2, 3, "--rater", "ann")
    read("rank", faces, "faces", 1, 0, "2=3", "--rater", "bob")
    read("rank", faces, "faces", 0, 1, 3, 2, "--rater", "ann/repeat")
    found = read("agreement", faces, "faces")
    assert found["pairs"] == [{"raters": ["ann", "bob"], "slates": 1, "tau": pytest.approx(3 / 30**0.5)}]
    ann, bob = found["raters"]
    assert (ann["repeats"]["slates"], ann["repeats"]["tau"]) == (1, pytest.approx(4 / 6)) and bob["repeats"] is None
    text = run("agreement", faces, "faces").stdout
    assert "1, tau 0.67" in text and "17 %" in text and "W  0.87 over 1 slate that" in text


def test_rankings_as_csv(faces: Path, tmp_path: Path) -> None:
    read("ask", faces, "faces", "--whole")
    read("rank", faces, "faces", 2, "0=1", "--unseen", 3, "--rater", 'a, "b"\n')
    read("rank", faces, "faces", 0, "--verdict", "all bad", "--rater", "bob")
    file = tmp_path / "answers.csv"
    assert read("export", faces, "faces", file, "--rankings") == {"format": 1, "file": str(file), "rankings": 2}
    with open(file, newline="") as opened:
        lines = list(csv.DictReader(opened))
    assert [(line["rater"], line["trial"], line["place"], line["verdict"]) for line in lines[:5]] == [
        ('a, "b"\n', "0", "2", ""), ('a, "b"\n', "1", "2", ""), ('a, "b"\n', "2", "1", ""), ('a, "b"\n', "3", "", ""),
        ("bob", "0", "", "all bad"),
    ]  # fmt: skip
    assert run("export", faces, "faces", "-", "--rankings").stdout == file.read_text()
    assert "standard output" in refused(2, "export", faces, "faces", "-", "--rankings", "--json")
    assert run("export", faces, "faces", file, "--rankings").stdout == f"2 rankings in {file}\n"
    assert read("export", faces, "faces", file)["trials"] == 4
