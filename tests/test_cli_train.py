"""`bbopt train`: what it prints, how it goes on after Ctrl-C, and how two processes train as one."""

from __future__ import annotations

import doctest
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
import pytest
import torch
from cli_shell import SHELL, document, refused, run

import bbopt.cli_train as cli_train
from surrogates.pfn.lessons import draw_batch, score
from surrogates.pfn.network import Network
from surrogates.pfn.subject import PFNSubject, blur
from surrogates.pfn.weights import load_weights
from surrogates.training.loop import LOG, WEIGHTS
from surrogates.training.recipe import Training
from surrogates.training.weights import load_tensors

TINY: dict[str, Any] = {
    "seed": 5, "steps": 4, "rate": 2e-3, "warmup": 3, "workers": 0, "every": 2,
    "shape": {"width": 16, "layers": 1, "heads": 2, "inner": 16, "columns": 2, "anchors": 4},
    "sizes": {"columns": [1, 2], "rows": [3, 9], "points": 4, "tokens": 70, "tasks": [3, 8]},
}  # fmt: skip
TWO = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "bbopt.cli"]


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.json"
    path.write_text(json.dumps(TINY))
    return path


@pytest.mark.parametrize("name", ["pfn", "amortised"])
def test_help_shows_examples_the_form_of_the_json_and_every_option(name: str) -> None:
    text = run("train", name, "--help").stdout
    assert f"bbopt train {name}" in text and "JSON: " in text and "torchrun" in text
    options = [option for option in cli_train.train.commands[name].params if isinstance(option, click.Option)]
    assert {option.name for option in options} >= {
        "config",
        "out",
        "minutes",
        "steps",
        "device",
        "seed",
        "quiet",
        "as_json",
    }
    assert all(option.help for option in options if option.name != "help")
    assert name in run("train", "--help").stdout


def test_it_prints_progress_on_standard_error_and_the_result_on_standard_output(tiny: Path, tmp_path: Path) -> None:
    result = run("train", "pfn", "--config", tiny, "--out", tmp_path / "net")
    assert result.exit_code == 0, result.output
    assert re.fullmatch(rf"4 steps in \d+ s; the weights: {tmp_path}/net/{WEIGHTS}\n", result.stdout)
    lines = result.stderr.splitlines()
    assert [line.split(":")[0] for line in lines] == ["step 2", "step 4"]
    for word in ("loss", "gap", "quiet", "done", "left"):
        assert word in lines[0]
    assert "50% done" in lines[0] and "100% done" in lines[1]
    load_weights(tmp_path / "net" / WEIGHTS)


@pytest.mark.parametrize("name", ["pfn", "amortised"])
def test_every_model_trains_in_its_own_smoke_configuration(name: str, tmp_path: Path) -> None:
    result = run("train", name, "-c", "smoke", "-o", tmp_path, "--steps", 2, "--quiet", "--json")
    assert result.exit_code == 0, result.output
    header = load_tensors(tmp_path / WEIGHTS)[1]
    assert header["steps"] == document(result.stdout)["steps"] == 2
    assert header["shape"] == header["training"]["shape"]


def test_json_quiet_and_going_on(tiny: Path, tmp_path: Path) -> None:
    words = ("train", "pfn", "-c", tiny, "-o", tmp_path / "net", "--quiet", "--json")
    first = run(*words, "--steps", 2)
    assert (first.exit_code, first.stderr) == (0, "")
    assert document(first.stdout)["steps"] == 2 and document(first.stdout)["last"]["step"] == 2
    second = document(run(*words).stdout)
    assert second["steps"] == 4 and second["weights"] == str(tmp_path / "net" / WEIGHTS)
    again = document(run(*words).stdout)
    assert again["steps"] == 4 and again["last"] is None


def test_options_replace_what_the_configuration_says(tiny: Path, tmp_path: Path) -> None:
    result = run("train", "pfn", "-c", tiny, "-o", tmp_path / "net", "--seed", 9, "--minutes", 0.005, "--device", "cpu")
    assert result.exit_code == 0
    header = load_tensors(tmp_path / "net" / WEIGHTS)[1]
    assert header["training"]["seed"] == 9 and header["training"]["steps"] is None
    assert header["training"]["minutes"] == 0.005


def test_wrong_calls_say_what_was_expected(tiny: Path, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "net")
    assert "--config" in refused(2, "train", "pfn", *out)
    assert "--out" in refused(2, "train", "pfn", "--config", "smoke")
    text = refused(1, "train", "pfn", "--config", "nonesuch", *out)
    assert "expected a configuration (cpu, gpu, smoke) or a JSON file" in text and "'nonesuch'" in text
    tiny.write_text("{")
    assert "expected JSON in" in refused(1, "train", "pfn", "--config", tiny, *out)
    tiny.write_text("[1]")
    assert "expected a JSON object in" in refused(1, "train", "pfn", "--config", tiny, *out)
    tiny.write_text(json.dumps({**TINY, "stepz": 1}))
    assert "got stepz" in refused(1, "train", "pfn", "--config", tiny, *out)
    assert "steps of at least 1, got 0" in refused(1, "train", "pfn", "--config", "smoke", "--steps", 0, *out)
    assert "expected names of" in refused(1, "train", "pfn", "--config", tiny, *out)
    if not torch.cuda.is_available():
        assert "--device cpu" in refused(1, "train", "pfn", "--config", "gpu", *out)
    assert not (tmp_path / "net").exists()


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    """Until the file is there; the process must live that long."""
    end = time.monotonic() + 120.0
    while not path.exists():
        assert process.poll() is None and time.monotonic() < end, process.communicate()
        time.sleep(0.05)


def test_ctrl_c_leaves_a_checkpoint_from_which_the_same_command_goes_on(tiny: Path, tmp_path: Path) -> None:
    """The terminal's Ctrl-C reaches the process and its worker."""
    tiny.write_text(json.dumps({**TINY, "steps": 100_000, "workers": 1}))
    words = [*SHELL, "train", "pfn", "--config", str(tiny), "--out", str(tmp_path / "net")]
    with subprocess.Popen(words, stdout=-1, stderr=-1, text=True, start_new_session=True) as process:
        wait_for(tmp_path / "net" / LOG, process)
        os.killpg(process.pid, signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and output == ""
    last = errors.splitlines()[-2:]
    assert last == [f"what was learnt is safe in {tmp_path / 'net'}; the same command goes on from here", "interrupted"]
    assert "Traceback" not in errors
    step = load_tensors(tmp_path / "net" / "checkpoint.safetensors")[1]["step"]
    assert step >= 2
    result = run("train", "pfn", "--config", tiny, "--out", tmp_path / "net", "--steps", step + 1, "--json", "--quiet")
    assert document(result.stdout)["steps"] == step + 1


@pytest.mark.slow
def test_a_killed_training_leaves_no_workers_behind(tiny: Path, tmp_path: Path) -> None:
    tiny.write_text(json.dumps({**TINY, "steps": 100_000, "workers": 1}))
    words = [*SHELL, "train", "pfn", "--config", str(tiny), "--out", str(tmp_path / "net")]
    with subprocess.Popen(words, stdout=-1, stderr=-1, text=True, start_new_session=True) as process:
        wait_for(tmp_path / "net" / LOG, process)
        process.kill()
        process.communicate(timeout=30)  # ends when the worker, which holds the same pipes, has ended


ENDING = """
import atexit, os, runpy, sys
tasks = "/proc/self/task"  # on Linux
atexit.register(lambda: os.path.isdir(tasks) and print(f"ends with {len(os.listdir(tasks))} thread", file=sys.stderr))
runpy.run_module("bbopt.cli", run_name="__main__")
"""


def pair(tiny: Path, out: Path) -> subprocess.CompletedProcess[str]:
    """Two processes of torchrun on the CPU; each says with how many threads it ends, where Linux tells."""
    script = tiny.with_name("ending.py")
    script.write_text(ENDING)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run([*TWO[:-2], str(script), "train", "pfn", "--config", str(tiny), "--out", str(out)],
                          capture_output=True, text=True, timeout=200, env=environment)  # fmt: skip


def test_two_processes_follow_the_average_of_their_gradients(tiny: Path, tmp_path: Path) -> None:
    """Against the same steps by hand: batches 2 s and 2 s + 1 at step s, one AdamW step with the mean gradient."""
    done = pair(tiny, tmp_path / "net")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("the weights:") == 1
    if os.path.isdir("/proc/self/task"):  # threads of gloo that outlive the group abort a process in its last moments
        assert done.stderr.count("ends with 1 thread") == 2, done.stderr
    training = Training.from_json(TINY, PFNSubject)
    kind = training.subject
    assert isinstance(kind, PFNSubject)
    with torch.random.fork_rng():
        torch.manual_seed(training.seed)
        network = Network(kind.shape)
    optimizer = torch.optim.AdamW(network.parameters(), betas=(0.9, 0.98), weight_decay=training.decay)
    for step in range(4):
        optimizer.param_groups[0]["lr"] = training.learning_rate(step, 0.0)
        optimizer.zero_grad()
        for rank in range(2):
            batch = draw_batch(kind.prior, kind.sizes, 4, (training.seed, 2 * step + rank))
            generator = torch.Generator().manual_seed((training.seed * 1_000_003 + step) * 64 + rank)
            jitter = torch.randn(*batch.oracle.shape, generator=generator, dtype=torch.float64)
            losses, _ = score(network, batch, jitter, blur(training.progress(step, 0.0)))
            torch.autograd.backward(losses.mean() / 2.0)
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
    found = load_tensors(tmp_path / "net" / "checkpoint.safetensors")[0]
    for name, part in network.state_dict().items():
        torch.testing.assert_close(found["weights." + name], part, atol=1e-5, rtol=1e-4)


@pytest.mark.slow
def test_two_processes_agree_on_the_end_of_the_time(tiny: Path, tmp_path: Path) -> None:
    """Each alone would stop at another step, and the other would wait for it for ever."""
    tiny.write_text(json.dumps({**TINY, "steps": None, "minutes": 0.1}))
    done = pair(tiny, tmp_path / "net")
    assert done.returncode == 0, done.stderr
    assert 6 <= load_tensors(tmp_path / "net" / WEIGHTS)[1]["seconds"] <= 30


@pytest.mark.slow
def test_ctrl_c_stops_both_processes_at_the_same_step(tiny: Path, tmp_path: Path) -> None:
    tiny.write_text(json.dumps({**TINY, "steps": 100_000}))
    words = [*TWO, "train", "pfn", "--config", str(tiny), "--out", str(tmp_path / "net")]
    with subprocess.Popen(words, stdout=-1, stderr=-1, text=True, start_new_session=True) as process:
        wait_for(tmp_path / "net" / LOG, process)
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode != 0 and "what was learnt is safe" in errors
    assert load_tensors(tmp_path / "net" / "checkpoint.safetensors")[1]["step"] >= 2


def test_examples_in_the_docstrings_run() -> None:
    assert doctest.testmod(cli_train).failed == 0
