"""Files of weights: refused when damaged, without pickle, loaded offline in under a second."""

from __future__ import annotations

import ast
import doctest
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import surrogates.pfn.weights as weights_module
from bbopt.errors import ValueRefused
from surrogates.pfn.network import Network, Shape
from surrogates.pfn.shipped import PATH
from surrogates.pfn.weights import load_weights
from surrogates.training.weights import (
    HEADER,
    SEAL,
    _seal,
    add_facts,
    digest,
    load_tensors,
    save_tensors,
    save_weights,
)

SHAPE = Shape(width=16, layers=1, heads=2, inner=16, columns=3, anchors=2)
LARGEST = 16 * 2**20


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save_weights(tmp_path / "w.safetensors", Network(SHAPE), {"training": {"seed": 3}, "note": "é"})
    return tmp_path / "w.safetensors"


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    network = Network(SHAPE)
    with torch.no_grad():
        for part in network.parameters():
            part += 0.01
    save_weights(tmp_path / "w.safetensors", network, {"steps": 7})
    loaded, header = load_weights(tmp_path / "w.safetensors")
    assert header["steps"] == 7 and header["version"] == 1 and loaded.shape == SHAPE and not loaded.training
    for name, part in network.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], part, rtol=1e-3, atol=1e-4)  # half precision
        assert loaded.state_dict()[name].dtype == torch.float32 and not loaded.get_parameter(name).requires_grad
    assert [each.name for each in tmp_path.iterdir()] == ["w.safetensors"]


def test_loading_leaves_the_random_numbers_alone(path: Path) -> None:
    before = torch.random.get_rng_state()
    load_weights(path)
    assert before.equal(torch.random.get_rng_state())


@pytest.mark.parametrize("place", [-1, -40, -1000])
def test_a_flipped_bit_is_refused_by_the_checksum(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 4
    path.write_bytes(data)
    with pytest.raises(
        ValueRefused, match=r"damaged: expected SHA-256 [0-9a-f]{64}, got [0-9a-f]{64}; install bbopt again"
    ):
        load_weights(path)


def test_flipped_bits_in_the_header_never_pass_as_other_weights(path: Path) -> None:
    """Every tenth byte before the tensors: an error of ours, or, in blanks and names of the format, no change."""
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    reference = load_weights(path)[0].state_dict()
    refused = 0
    for place in range(0, 8 + size, 10):
        broken = bytearray(data)
        broken[place] ^= 4
        path.write_bytes(broken)
        try:
            found = load_weights(path)[0].state_dict()
        except ValueRefused:
            refused += 1
        else:
            assert all(found[name].equal(part) for name, part in reference.items())
    assert refused > 0.8 * (8 + size) / 10


@pytest.mark.parametrize("kept", [0, 5, 200, -1, -2000])
def test_a_truncated_file_is_refused(path: Path, kept: int) -> None:
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueRefused, match="cannot be read"):
        load_weights(path)


def test_files_that_are_not_ours_are_refused(tmp_path: Path) -> None:
    missing = tmp_path / "none.safetensors"
    with pytest.raises(ValueRefused, match=r"expected a safetensors file at .*none.safetensors"):
        load_weights(missing)
    missing.write_bytes(b"\x80\x04\x95 a pickle")
    with pytest.raises(ValueRefused, match="cannot be read"):
        load_weights(missing)
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(2)}, str(missing))
    with pytest.raises(ValueRefused, match="its header names none"):
        load_weights(missing)


def test_another_version_or_shape_is_refused(path: Path) -> None:
    tensors, header = load_tensors(path)
    save_tensors(path, tensors, {**header, "version": 2})
    with pytest.raises(ValueRefused, match=r"format 1 .* got 2; install the bbopt that wrote them"):
        load_weights(path)
    for name, value in (("width", 32), ("depth", 2), ("width", "two")):
        other = {**header, "shape": {**header["shape"], name: value}}
        save_tensors(path, tensors, {**other, SEAL: _seal(other)})
        with pytest.raises(ValueRefused, match="not those that their header names"):
            load_weights(path)


def test_a_changed_header_is_refused_where_its_tensors_would_fit(path: Path) -> None:
    """With another number of heads the same tensors would predict something else."""
    tensors, header = load_tensors(path)
    save_tensors(path, tensors, {**header, "shape": {**header["shape"], "heads": 4}})
    with pytest.raises(ValueRefused, match=r"header of the weights .* is damaged"):
        load_weights(path)


def test_facts_are_added_to_the_header_and_the_weights_stay(path: Path) -> None:
    before, header = load_tensors(path)
    add_facts(path, {"evaluation": {"gap": 0.1, 10: (1, 2), 9: 3}})
    after, more = load_tensors(path)
    assert digest(after) == digest(before) and more["evaluation"]["gap"] == 0.1 and more["note"] == header["note"]
    assert load_weights(path)[1]["sha256"] == header["sha256"]


def test_the_digest_depends_on_names_shapes_types_and_bytes() -> None:
    zero = torch.zeros(4)
    others = [
        {"b": zero},
        {"a": zero.reshape(2, 2)},
        {"a": zero.half()},
        {"a": zero + 1e-30},
        {"a": zero, "b": zero},
        {},
    ]
    found = {digest({"a": zero}), *map(digest, others)}
    assert len(found) == 7 and digest({"a": zero, "b": zero + 1}) == digest({"b": zero + 1, "a": zero})
    assert len(digest({"a": torch.tensor(1.0)})) == 64


def test_the_header_is_json(path: Path) -> None:
    from safetensors import safe_open

    with safe_open(str(path), framework="pt") as file:
        header = json.loads(file.metadata()[HEADER])
    assert header["note"] == "é" and set(header) >= {"version", "shape", "sha256", "training"}


def test_nothing_here_can_read_a_pickle() -> None:
    """torch.load and its like appear nowhere below surrogates."""
    for source in PATH.parent.parent.rglob("*.py"):
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "torch":
                assert node.attr not in ("load", "save"), f"{source.name}:{node.lineno}"


def test_the_shipped_file_is_small_and_says_what_it_is() -> None:
    assert PATH.stat().st_size <= LARGEST
    network, header = load_weights(PATH)
    assert header["training"]["seed"] >= 0 and header["steps"] > 0
    assert all(torch.isfinite(part).all() for part in network.parameters())


def test_the_shipped_network_loads_offline_in_under_a_second() -> None:
    """In a process of its own whose sockets raise; imports are not counted, they are those of torch."""
    code = """
import socket, time
def refuse(*args, **options):
    raise AssertionError("a socket was opened")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
from surrogates.pfn.shipped import shipped, shipped_network
start = time.process_time()
network = shipped_network()
print(time.process_time() - start)
assert shipped()[0] is network
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 1.0


def test_examples_in_the_docstrings_run() -> None:
    assert doctest.testmod(weights_module).failed == 0
