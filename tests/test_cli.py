"""The command line on studies: every command in process, and as real processes where exit status and pipes matter."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
import pytest
from cli_shell import CURVE, SHELL, document, make_store, read, refused, run

import bbopt
from bbopt.cli import main


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return make_store(tmp_path)


# -- help --------------------------------------------------------------------------------------------------------------

COMMANDS = sorted(main.commands)


def test_the_commands_are_those_of_the_design() -> None:
    assert set(COMMANDS) == {
        *("problems", "strategies", "bench", "bench-classify", "bench-surrogates", "report", "train", "serve"),
        *("compare", "advise"),
        *("create", "list", "show", "ask", "tell", "fail", "rank", "amend", "retract", "cancel", "enqueue", "add"),
        *("best", "front", "export", "import", "settle", "agreement"),
    }


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example_and_the_form_of_the_json(command: str) -> None:
    text = run(command, "--help").stdout
    assert "Example" in text and f"bbopt {command}" in text
    assert "JSON: " in text and "--json" in text
    options = [p for p in main.commands[command].params if isinstance(p, click.Option) and p.name != "help"]
    assert all(option.help for option in options)


def test_help_of_the_whole_names_every_command_untruncated() -> None:
    result = run("--help")
    assert result.exit_code == 0
    assert all(f"  {command} " in result.stdout for command in COMMANDS)
    assert "..." not in result.stdout.split("Commands:")[1]
    assert run("--version").stdout.startswith("bbopt, version ")


@pytest.mark.parametrize(
    "words",
    [("no-such",), ("ask",), ("ask", "a.db", "s", "--no-such"), ("create", "a.db", "s"), ("bench", "synthetic")],
)
def test_wrong_usage_is_status_2(words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "Usage:" in refused(2, *words)
    assert list(tmp_path.iterdir()) == []


# -- a study -----------------------------------------------------------------------------------------------------------


def test_ask_tell_best_round_trip(store: Path) -> None:
    asked = read("ask", store, "curve", "--count", 3)["trials"]
    assert [trial["number"] for trial in asked] == [0, 1, 2]
    assert all(trial["status"] == "open" and -1 <= trial["params"]["x"] <= 1 for trial in asked)
    filled = [{**trial, "values": {"y": trial["params"]["x"] ** 2}} for trial in asked]
    told = read("tell", store, "curve", "-", input=json.dumps({"trials": filled}))["trials"]
    assert [trial["values"] for trial in told] == [trial["values"] for trial in filled]  # to the bit
    best = read("best", store, "curve")["trial"]
    assert best["params"] == min(asked, key=lambda trial: abs(trial["params"]["x"]))["params"]
    with bbopt.Optimizer.open(store, "curve") as opt:
        assert [trial.params for trial in opt.trials()] == [trial["params"] for trial in asked]


def test_the_shell_asks_what_python_asks(store: Path) -> None:
    asked = [read("ask", store, "beam")["trials"][0]["params"] for _ in range(3)]
    with bbopt.Optimizer.open(store, "beam") as opt:
        same = bbopt.Optimizer(opt.task, "random", seed=3)
    assert asked == [same.ask().params for _ in range(3)]


def test_tables_for_people(store: Path) -> None:
    one = run("ask", store, "beam").stdout
    assert one.startswith("trial") and "steel" in one
    several = run("ask", store, "beam", "--count", 2).stdout.splitlines()
    assert several[0].split() == ["trial", "status", "width", "bolts", "steel"]
    assert [line.split()[0] for line in several[1:]] == ["1", "2"]
    told = run("tell", store, "beam", 0, "cost=3", "stress=300").stdout
    assert told == "beam: told trial 0 (cost = 3, stress = 300, infeasible)\n"
    nothing = run("best", store, "beam")
    assert (nothing.exit_code, nothing.stdout, nothing.stderr) == (0, "", "beam: nothing feasible was told yet\n")
    assert read("best", store, "beam")["trial"] is None
    assert run("front", store, "beam").stderr == "beam: nothing feasible was told yet\n"
    run("tell", store, "beam", 1, "cost=7", "stress=200")
    assert "feasible  yes" in run("best", store, "beam").stdout
    bbopt.SQLiteStore(store.with_name("empty.db")).close()
    assert run("list", store.with_name("empty.db")).stderr.startswith("no studies in ")
    listed = run("list", store).stdout.splitlines()
    assert listed[1].split() == ["beam", "random", "3", "1", "2", "cost", "7"]
    assert listed[2].split() == ["curve", "random", "0", "0", "0", "y", "-"]
    shown = run("show", store, "beam").stdout
    for text in ("stress <= 250", "width * bolts <= 20", "bolts: Int, 2 to 12", "one of S235, S355, 1", "minimize cost",
                 "3: 2 ok, 1 open", "trial 1: cost = 7"):  # fmt: skip
        assert text in shown
    assert "infeasible" in shown
    assert all(line == line.rstrip() for line in shown.splitlines())


def test_a_narrow_terminal_cuts_no_numbers(store: Path) -> None:
    """On a terminal, trials that do not fit a line are shown one below the other, with all their digits."""
    asked = read("ask", store, "beam", "-n", 2)["trials"]
    show = " ".join([*SHELL, "show", str(store), "beam"])
    for columns, first in ((30, "trial   0"), (200, "trial  status  width")):
        ours, theirs = os.openpty()
        environment = {**os.environ, "COLUMNS": str(columns), "TERM": "dumb"}
        child = subprocess.Popen(["bash", "-c", show], stdout=theirs, env=environment)
        assert child.wait(timeout=60) == 0
        os.close(theirs)
        text = os.read(ours, 1 << 16).decode().replace("\r\n", "\n")
        os.close(ours)
        assert first in text and "..." not in text and "\u2026" not in text
        assert format(asked[1]["params"]["width"], ".6g")[:6] in text


def test_show_json_is_a_task_for_create(store: Path, tmp_path: Path) -> None:
    shown = read("show", store, "beam")
    assert shown["strategy"] == {"name": "random", "options": {}} and shown["reason"] == "chosen by name"
    (tmp_path / "beam.json").write_text(json.dumps(shown))
    made = read("create", tmp_path / "new.db", "again", "--task", tmp_path / "beam.json", "--strategy", "random")
    assert made["statuses"] == {} and made["best"] is None
    assert read("show", tmp_path / "new.db", "again")["task"] == shown["task"]
    problem = read("problems", "spring")
    read("create", tmp_path / "new.db", "spring", "--task", "-", "--strategy", "random", input=json.dumps(problem))
    assert read("show", tmp_path / "new.db", "spring")["task"] == problem["task"]
    assert [study["name"] for study in read("list", tmp_path / "new.db")["studies"]] == ["again", "spring"]


def test_create_with_options(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    words = ("create", path, "s", "--problem", "branin", "--strategy", "cmaes:population=6", "--budget", 30)
    made = read(*words, "--seed", 5, "--retries", 0)
    assert made["strategy"]["options"]["population"] == 6
    assert (made["seed"], made["budget"], made["retries"]) == (5, 30, 0)
    assert "StudyExists: " in (error := refused(1, *words)) and "--or-open" in error
    assert read(*words, "--or-open")["seed"] == 5
    assert "TaskMismatch: " in refused(1, "create", path, "s", "--problem", "hartmann3", "--or-open")
    auto = read("create", path, "t", "--problem", "branin")
    assert auto["strategy"]["name"] and auto["reason"] not in ("", "given", "chosen by name")
    assert "chosen by name" in run("create", path, "u", "--problem", "branin", "--strategy", "sobol").stdout


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no json", "expected JSON in standard input"),
        ('{"space": NaN}', "NaN is not JSON"),
        ("[1]", "expected a task"),
        ('{"space": {"x": {"type": "Flaot"}}}', "x: expected a type of"),
        ('{"space": {"x": {"type": "Float", "low": 1, "high": 0}}}', "Float"),
        ('{"space": {"x": {"type": "Float", "lo": 1}}}', "lo"),
        ('{"space": {"x": {"type": "Float", "low": 0, "high": 1}}, "objectives": [{"nam": "y"}]}', "nam"),
        ('{"space": {"x": {"type": "Float", "low": 0, "high": 1}}, "objective": []}', "got 'objective'"),
        ('{"space": {"x": {"type": "Float", "low": 0, "high": 1}}, "where": ["z > 1"]}', "z"),
        ('{"space": {"x": 3}}', "expected a task"),
        ('{"task": {"task": 1}}', "expected a task"),
    ],
)
def test_a_task_that_does_not_fit(tmp_path: Path, text: str, message: str) -> None:
    error = refused(1, "create", tmp_path / "a.db", "s", "--task", "-", input=text)
    assert message in error and error.count("\n") == 1


def test_create_refuses_both_and_unknown(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    assert "either --problem or --task" in refused(
        2, "create", path, "s", "--problem", "branin", "--task", "-", input="{}"
    )
    assert "did you mean" in refused(1, "create", path, "s", "--problem", "brannin")
    assert "did you mean 'sobol'" in refused(1, "create", path, "s", "--problem", "branin", "--strategy", "sobl")
    options = ("create", path, "s", "--problem", "branin", "--strategy")
    assert "no option 'size'" in refused(1, *options, "cmaes:size=3")
    assert "it has no options" in refused(1, *options, "auto:size=3")
    assert "expected name=value" in refused(2, *options, "cmaes:size")
    assert "StoreMissing" in refused(1, "create", tmp_path / "none" / "a.db", "s", "--problem", "branin")
    assert "No such file" in refused(1, "create", path, "s", "--task", tmp_path / "none.json")


# -- asking ------------------------------------------------------------------------------------------------------------


def test_ask_with_everything(store: Path, tmp_path: Path) -> None:
    asked = read("ask", store, "beam", "--fixed", "steel=1", "--fixed", "bolts=4", "--owner", "me", "--lease", 60)
    (trial,) = asked["trials"]
    assert (trial["params"]["steel"], trial["params"]["bolts"], trial["owner"]) == ("1", 4, "me")
    (late,) = document(run("ask", store, "beam", "--deadline", 1e-9, "--json").stdout)["trials"]
    assert "deadline 1e-09 s" in late["note"]
    task = {**CURVE, "space": {**CURVE["space"], "day": {"type": "Int", "low": 1, "high": 7, "role": "context"}}}
    run("create", store, "daily", "--task", "-", "--strategy", "random", input=json.dumps(task))
    assert "context" in refused(1, "ask", store, "daily")
    (trial,) = read("ask", store, "daily", "--context", "day=3")["trials"]
    assert trial["context"] == {"day": 3}
    assert "day" in run("ask", store, "daily", "--context", "day=3", "-n", 2).stdout


def test_ask_refuses(store: Path, tmp_path: Path) -> None:
    for words, message in (
        (("--fixed", "steel"), "expected name=value"),
        (("--fixed", "bolts=3", "--fixed", "bolts=4"), "twice"),
        (("--count", "0"), "0"),
        (("--lease", "0"), "lease"),
        (("--deadline", "0"), "deadline"),
        (("--whole", "--deadline", "1"), "--deadline"),
        (("--fewer",), "--count"),
    ):
        assert message in refused(2, "ask", store, "beam", *words)
    assert "one of" in refused(1, "ask", store, "beam", "--fixed", "steel=S99")
    assert "no such parameter" in refused(1, "ask", store, "beam", "--fixed", "bolt=3")
    assert "it has beam, curve" in refused(1, "ask", store, "none")
    assert "StoreMissing" in refused(1, "ask", tmp_path / "none.db", "beam")
    (tmp_path / "text.db").write_text("this is no store, only some text" * 100)
    assert "NotAStore" in refused(1, "list", tmp_path / "text.db")


def test_waiting_and_exhausted(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    run("create", path, "p", "--problem", "branin", "--strategy", "cmaes:population=4")
    assert len(read("ask", path, "p", "--count", 9, "--fewer")["trials"]) == 4
    assert refused(1, "ask", path, "p").startswith("Waiting: ")
    two = {"space": {"b": {"type": "Categorical", "choices": [True, False]}}}
    run("create", path, "two", "--task", "-", "--strategy", "random", input=json.dumps(two))
    assert [t["params"]["b"] for t in read("ask", path, "two", "-n", 2)["trials"]] in ([True, False], [False, True])
    assert refused(1, "ask", path, "two").startswith("Exhausted: ")
    assert "b=true" not in refused(1, "ask", path, "two", "--fixed", "b=true")


def test_an_expired_lease_comes_again(store: Path) -> None:
    first = read("ask", store, "curve", "--lease", "1e-6", "--owner", "slow")["trials"][0]
    again = read("ask", store, "curve", "--owner", "quick")["trials"][0]
    assert (again["number"], again["attempt"], again["params"]) == (first["number"], 2, first["params"])
    read("tell", store, "curve", 0, 1)
    late = read("tell", store, "curve", 0, 2)  # of the first attempt: logged, no error
    assert late["trials"][0]["values"] == {"y": 1.0}
    assert [entry["kind"] for entry in read("show", store, "curve", "--log")["log"]][-1] == "superseded"


def test_a_note_of_the_strategy_goes_to_standard_error(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bbopt.strategies.random_search import RandomSearch

    original = RandomSearch.ask

    def noting(self: RandomSearch, task: Any, state: Any, request: Any, key: Any) -> Any:
        return dataclasses.replace(original(self, task, state, request, key), memo={"note": "the fit did not converge"})

    monkeypatch.setattr(RandomSearch, "ask", noting)
    result = run("ask", store, "curve", "-n", 2, "--json")
    assert result.stderr == "note: the fit did not converge\n"
    assert [trial["note"] for trial in document(result.stdout)["trials"]] == ["the fit did not converge"] * 2


# -- corrections -------------------------------------------------------------------------------------------------------


def test_fail_cancel_retract_amend(store: Path) -> None:
    read("ask", store, "curve", "-n", 4)
    assert read("fail", store, "curve", 0, "--reason", "node went down")["trial"]["status"] == "lost"
    assert read("ask", store, "curve")["trials"][0]["attempt"] == 2
    impossible = read("fail", store, "curve", 1, "--impossible", "--reason", "mesh")["trial"]
    assert (impossible["status"], impossible["reason"]) == ("impossible", "mesh")
    assert read("cancel", store, "curve", 2)["trial"]["status"] == "cancelled"
    read("tell", store, "curve", 3, "-0.5", "--std", "0.1", "--cost", 12)
    assert "evaluation cost  12" in run("show", store, "curve", 3).stdout
    amended = read("amend", store, "curve", 3, "-0.25", "--std", "y=0.2", "--cost", 13)["trial"]
    assert (amended["values"], amended["std"], amended["cost"]) == ({"y": -0.25}, {"y": 0.2}, 13.0)
    assert run("retract", store, "curve", 3).stdout == "curve: trial 3 is open\n"
    kinds = [entry["kind"] for entry in read("show", store, "curve", 3, "--log")["log"]]
    assert kinds == ["ask", "tell", "amend", "retract"]
    assert len(read("show", store, "curve", "--log", "--last", 2)["log"]) == 2
    assert len(run("show", store, "curve", "--log").stdout.splitlines()) == 9
    assert read("show", store, "curve", 1)["trial"]["reason"] == "mesh"
    assert len(read("show", store, "curve", "--last", 1)["trials"]) == 1
    for words in (
        ("retract", 2),
        ("amend", 0, 1),
        ("cancel", 99),
        ("fail", 99),
        ("show", 99),
        ("retract", 1, "--rater", "x"),
    ):
        assert "Error: " in (error := refused(1, words[0], store, "curve", *words[1:])) or ": " in error


def test_rank(store: Path) -> None:
    words = ("create", store, "faces", "--task", "-", "--strategy", "cmaes:population=6")
    read(*words, input=json.dumps({**CURVE, "feedback": "ranking"}))
    read("ask", store, "faces", "-n", 6)
    ranked = read("rank", store, "faces", 3, "1=2", 5, "--unseen", 4, "--rater", "ann")["trials"]
    assert [trial["status"] for trial in ranked] == ["ranked"] * 6
    assert read("best", store, "faces")["trial"]["number"] == 3
    body = read("show", store, "faces", "--log")["log"][-1]["body"]
    assert body["rater"] == "ann"
    assert body["ranking"]["groups"] == [[3], [1, 2], [5], [0]] and body["ranking"]["unseen"] == [4]
    assert (
        run("rank", store, "faces", 3, "1=2", 5, "--unseen", 4, "--rater", "ann").stdout
        == "faces: ranked 3 > 1 = 2 > 5\n"
    )
    assert "AlreadyTold" in refused(1, "rank", store, "faces", 1, "--rater", "ann")
    assert read("retract", store, "faces", 3, "--rater", "ann")["trial"]["status"] == "open"
    assert read("rank", store, "faces", 0, "--verdict", "all bad")["trials"][0]["status"] == "ranked"
    assert "tied ones as 1=2" in refused(2, "rank", store, "faces", "1>2")
    assert "Invalid value" in refused(2, "rank", store, "faces", 1, "--verdict", "fine")
    read("ask", store, "curve")
    assert "each trial once" in refused(1, "rank", store, "faces", 1, 1)


def test_enqueue_and_add(store: Path) -> None:
    point = ("width=0.5", "bolts=4", "steel=S355")
    queued = read("enqueue", store, "beam", *point)["trial"]
    assert (queued["status"], queued["params"]) == ("queued", {"width": 0.5, "bolts": 4, "steel": "S355"})
    assert read("ask", store, "beam")["trials"][0]["params"] == queued["params"]
    added = read("add", store, "beam", "width=1", "bolts=3.0", "steel=1", "--value", "cost=-5", "--value", "stress=1e2",
                 "--std", "cost=0.5", "--cost", 2)["trial"]  # fmt: skip
    assert (added["params"]["steel"], added["params"]["bolts"]) == ("1", 3)
    assert (added["values"], added["std"], added["cost"]) == ({"cost": -5.0, "stress": 100.0}, {"cost": 0.5}, 2.0)
    best = read("best", store, "beam")
    again = read("enqueue", store, "beam", "-", input=json.dumps(best))["trial"]
    assert again["params"] == added["params"]
    negative = read("enqueue", store, "curve", "x=-0.5")["trial"]
    assert negative["params"] == {"x": -0.5}
    assert "satisfies `where`" in refused(1, "enqueue", store, "beam", "width=2", "bolts=12", "steel=1")
    assert "missing" in refused(1, "enqueue", store, "beam", "width=2")
    assert "No such option" in refused(2, "enqueue", store, "beam", "--widht=2")
    assert "JSON object" in refused(1, "enqueue", store, "beam", "-", input="[1, 2]")
    assert "Missing option" in refused(2, "add", store, "beam", *point)
    assert "'stress' is missing" in refused(1, "add", store, "beam", *point, "--value", "cost=1")


def test_front_of_two_objectives(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    task = {**CURVE, "objectives": [{"name": "mass"}, {"name": "stiffness", "maximize": True}]}
    run("create", path, "two", "--task", "-", "--strategy", "random", input=json.dumps(task))
    read("ask", path, "two", "-n", 3)
    for number, values in enumerate([(1, 1), (2, 3), (3, 2)]):
        read("tell", path, "two", number, *values)  # in the order of the metrics
    assert [trial["number"] for trial in read("front", path, "two")["trials"]] == [0, 1]
    assert "maximize stiffness" in run("show", path, "two").stdout
    assert len(run("front", path, "two").stdout.splitlines()) == 3
    assert "use front()" in refused(1, "best", path, "two")
    assert read("list", path)["studies"][0]["best"] is None


def test_a_strategy_of_ones_own_can_be_read_and_told_but_not_asked(tmp_path: Path) -> None:
    from contract.toys import Climber

    path = tmp_path / "own.db"
    with bbopt.Optimizer(bbopt.Task(bbopt.Space(x=bbopt.Float(0, 1))), Climber(0.2), store=path, name="own") as opt:
        opt.ask(2)
    assert read("show", path, "own")["strategy"] == {"class": "contract.toys:Climber", "options": {"width": 0.2}}
    assert read("tell", path, "own", 0, 0.5)["trials"][0]["status"] == "ok"
    assert "Climber" in run("list", path).stdout and "width=0.2" in run("show", path, "own").stdout
    assert "strategy of your own" in refused(1, "ask", path, "own")
    with bbopt.Optimizer.open(path, "own", strategy=Climber(0.2)) as opt:
        assert opt.ask().number == 2


# -- processes ---------------------------------------------------------------------------------------------------------


def process(*words: object, input: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*SHELL, *map(str, words)], input=input, capture_output=True, text=True, timeout=60)


def test_two_shells_on_one_store_and_a_pipe(store: Path) -> None:
    """Two processes ask at once; each answer goes back through a pipe, as a shell would do it."""
    square = """
import json, sys
for trial in (trials := json.load(sys.stdin))["trials"]:
    trial["values"] = trial["params"]["x"] ** 2
json.dump(trials, sys.stdout)
"""
    loop = 'set -e -o pipefail; for i in 1 2; do {b} ask "$0" curve -n 2 --json | {p} -c "$1" | {b} tell "$0" curve -; done'
    command = loop.format(b=" ".join(SHELL), p=sys.executable)
    shells = [
        subprocess.Popen(
            ["bash", "-c", command, str(store), square], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    for shell in shells:
        out, err = shell.communicate(timeout=60)
        assert (shell.returncode, err) == (0, "")
        assert out.count("told trial") == 2
    trials = read("show", store, "curve")["trials"]
    assert [trial["status"] for trial in trials] == ["ok"] * 8
    assert len({trial["params"]["x"] for trial in trials}) == 8
    assert all(trial["values"]["y"] == trial["params"]["x"] ** 2 for trial in trials)


def test_status_and_streams_of_a_process(store: Path, tmp_path: Path) -> None:
    good = process("ask", store, "curve", "--json")
    assert (good.returncode, good.stderr) == (0, "")
    assert document(good.stdout)["trials"][0]["number"] == 0
    bad = process("tell", store, "curve", 0, "nan")
    assert (bad.returncode, bad.stdout) == (1, "")
    assert bad.stderr.startswith("ValueRefused: trial 0: y: expected a finite number")
    assert bad.stderr.count("\n") == 1
    usage = process("tell", store, "curve", "zero", "1")
    assert (usage.returncode, usage.stdout) == (2, "") and "Traceback" not in usage.stderr


def test_ctrl_c_is_130_without_a_traceback(store: Path) -> None:
    fifo = store.with_name("results.json")  # once it can be opened for writing, the command reads it
    os.mkfifo(fifo)
    child = subprocess.Popen([*SHELL, "tell", str(store), "curve", "--file", str(fifo)], stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, text=True)  # fmt: skip
    writer = None
    while writer is None and child.poll() is None:
        try:
            writer = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:  # nobody reads it yet
            time.sleep(0.01)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=30)
    assert writer is not None
    os.close(writer)
    assert (child.returncode, out, err) == (130, "", "interrupted\n")


def test_a_reader_that_has_enough(store: Path) -> None:
    """`bbopt problems --json | head -c 1`: no traceback when the other end of the pipe is closed."""
    child = subprocess.Popen([*SHELL, "problems", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout is not None and child.stderr is not None
    child.stdout.close()
    assert child.stderr.read() == ""
    child.stderr.close()
    assert child.wait(timeout=30) in (0, 1)


def test_help_loads_nothing_heavy() -> None:
    code = """
import sys
from bbopt.cli import main
try:
    main(["--help"])
except SystemExit:
    heavy = [m for m in ("numpy", "scipy", "torch", "matplotlib", "rich", "sqlite3", "asyncio") if m in sys.modules]
    print(heavy, file=sys.stderr)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.stderr.strip() == "[]"
