"""`bbopt train network`: what it prints, what it writes, how it goes on after Ctrl-C, and how it says no."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import click
import pytest
import torch
from cli_shell import SHELL, document, refused, run

from bbopt.cli_train_network import network
from bbopt.train_network import load_network
from bbopt.train_network_picture import PICTURE
from bbopt.zeroth_order.training.checkpoint import CHECKPOINT
from bbopt.zeroth_order.training.loop import WEIGHTS
from bbopt.zeroth_order.training.record import read
from surrogates.training.weights import load_tensors

TINY: dict[str, Any] = {
    "network": "mlp-64-4-10", "epochs": 2, "batch": 480, "seed": 3, "every": 2, "check": 8,
    "update": {"rate": 0.2, "momentum": 0.9}, "sparsity": {"keep": 0.3, "ratios": "uniform", "interval": 1},
}  # fmt: skip
QUERIES = 6 * (14 + round(0.3 * 296) + 1)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.json"
    path.write_text(json.dumps(TINY))
    return path


def test_help_shows_examples_the_form_of_the_json_and_every_option() -> None:
    text = run("train", "network", "--help").stdout
    assert "bbopt train network --config smoke" in text and "JSON: " in text
    options = [option for option in network.params if isinstance(option, click.Option)]
    assert all(option.help for option in options if option.name != "help")
    assert "network" in run("train", "--help").stdout


def test_it_prints_progress_on_standard_error_and_the_result_on_standard_output(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "net"
    result = run("train", "network", "--config", tiny, "--out", out)
    assert result.exit_code == 0, result.output
    assert re.fullmatch(rf"\d+\.\d\d% of the test examples right after {QUERIES} queries in 6 steps, \d+ s;"
                        rf" the weights: {out}/{WEIGHTS}\n", result.stdout)  # fmt: skip
    lines = result.stderr.splitlines()
    assert [line.split(":")[0] for line in lines] == ["step 2", "step 3", "step 4", "step 6"]
    assert "accuracy" in lines[1] and "error of the gradient" in lines[1] and "50% done" in lines[1]
    assert "accuracy" not in lines[0] and "epoch 0.7" in lines[0] and "left" in lines[0]
    assert (out / PICTURE).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_json_is_one_document_about_a_file_that_can_be_read(tiny: Path, tmp_path: Path) -> None:
    result = run("train", "network", "-c", tiny, "-o", tmp_path / "net", "--quiet", "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    found = document(result.stdout)
    assert (found["steps"], found["queries"]) == (6, QUERIES)
    assert Path(found["picture"]).exists()
    header = load_network(Path(found["weights"]))[1]
    assert header["accuracy"] == found["accuracy"] == found["last"]["accuracy"]
    assert found["last"] == read(tmp_path / "net")[-1]
    again = document(run("train", "network", "-c", tiny, "-o", tmp_path / "net", "--quiet", "--json").stdout)
    assert again == {**found, "last": None}


def test_options_replace_what_the_configuration_says(tiny: Path, tmp_path: Path) -> None:
    words = ("--epochs", 1, "--seed", 5, "--keep", 0.5, "--device", "cpu", "--workers", 0)
    run("train", "network", "-c", tiny, "-o", tmp_path / "a", "-q", *words)
    recipe = load_network(tmp_path / "a" / WEIGHTS)[1]["recipe"]
    assert (recipe["epochs"], recipe["seed"], recipe["sparsity"]["keep"], recipe["batch"]) == (1, 5, 0.5, 480)
    run("train", "network", "-c", tiny, "-o", tmp_path / "b", "-q", "--estimate", "first-order")
    header = load_network(tmp_path / "b" / WEIGHTS)[1]
    assert (header["recipe"]["estimate"]["kind"], header["queries"]) == ("first-order", 6)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("-c", "nothing"), r"UsageError: expected a configuration \(cifar10-resnet20, digits-cnn, .*got 'nothing'"),
        (("-c", "cifar10-resnet20", "--device", "cpu"), "UsageError: data cifar10: .* give it with --data"),
        (("-c", "smoke", "--keep", 2.0), "UsageError: Recipe: expected sparsity.keep above 0, at most 1, got 2.0"),
        (("-c", "smoke", "--epochs", 0), "epochs of at least 1, got 0"),
    ],
)
def test_errors_say_what_was_expected(words: tuple[object, ...], message: str, tmp_path: Path) -> None:
    assert re.search(message, refused(1, "train", "network", *words, "-o", tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_cuda_without_a_gpu_is_an_error(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert "found none" in refused(1, "train", "network", "-c", "smoke", "-o", tmp_path / "out", "--device", "cuda")


def test_cifar10_is_read_from_the_folder_that_is_given(tmp_path: Path) -> None:
    assert "cifar10: expected data_batch_1.bin" in refused(1, "train", "network", "-c", "cifar10-resnet20", "-o",
                                                           tmp_path / "out", "--device", "cpu", "--data", tmp_path)  # fmt: skip


def test_ctrl_c_says_how_to_go_on_and_the_same_command_does(tiny: Path, tmp_path: Path) -> None:
    tiny.write_text(json.dumps({**TINY, "epochs": 20, "every": 1}))
    words = ["train", "network", "--config", str(tiny), "--out", str(tmp_path / "net")]
    process = subprocess.Popen([*SHELL, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for _ in range(4):
        assert process.stderr.readline().startswith("step ")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and out == "", err
    assert f"what was learnt is safe in {tmp_path / 'net'}; the same command goes on from here" in err
    step = load_tensors(tmp_path / "net" / CHECKPOINT)[1]["step"]
    assert 4 <= step < 60 and not (tmp_path / "net" / WEIGHTS).exists()
    result = run(*words)
    assert result.exit_code == 0 and result.stderr.splitlines()[0].startswith(f"step {step + 1}:")
    assert [line["step"] for line in read(tmp_path / "net")] == list(range(1, 61))
