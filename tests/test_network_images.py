"""The images that networks are trained on: digits, CIFAR-10 from a folder, crops and flips."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from bbopt.errors import UsageError
from problems.networks import cifar, crop_and_flip, digits

# --- images ----------------------------------------------------------------------------------------------------------


def test_digits_are_all_there_once() -> None:
    from sklearn.datasets import load_digits

    pixels, classes = load_digits(return_X_y=True)
    wanted = sorted((tuple(row), c) for row, c in zip(pixels.tolist(), classes.tolist(), strict=True))
    for seed in (0, 5):
        images = digits(flat=True, seed=seed)
        assert (len(images.train_inputs), len(images.test_inputs)) == (1437, 360)
        x = torch.cat([images.train_inputs, images.test_inputs]) * 16
        t = torch.cat([images.train_targets, images.test_targets])
        assert sorted((tuple(row), c) for row, c in zip(x.tolist(), t.tolist(), strict=True)) == wanted
        assert np.bincount(images.test_targets.numpy(), minlength=10).min() >= 20
    assert not torch.equal(digits(seed=0).test_targets, digits(seed=5).test_targets)
    assert torch.equal(digits().train_inputs.flatten(1), digits(flat=True).train_inputs)


def test_digits_are_the_caller_s_own() -> None:
    digits().train_inputs.zero_()
    assert digits().train_inputs.max() == 1.0


ROWS = 4


def cifar_like(i: int) -> tuple[np.ndarray, list[int]]:
    rng = np.random.default_rng(i)
    return rng.integers(0, 256, (ROWS, 3072), dtype=np.uint8), rng.integers(0, 10, ROWS).tolist()


def python_file(data: np.ndarray, labels: list[int], order: bytes = b"\x89") -> bytes:
    """A batch as Python 2 wrote it, instruction by instruction (protocol 2): the form of the published files.

    `order` is the instruction for the array's order: False for rows first.
    """

    def text(raw: bytes) -> bytes:
        return (b"U" + bytes([len(raw)]) if len(raw) < 256 else b"T" + len(raw).to_bytes(4, "little")) + raw

    return (
        b"\x80\x02}q\x01(" + text(b"batch_label") + b"q\x02" + text(b"training batch 1 of 5") + b"q\x03"
        + text(b"labels") + b"q\x04]q\x05(" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
        + text(b"data") + b"q\x06cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08K\x00\x85"
        + text(b"b") + b"\x87Rq\x09(K\x01K" + bytes([len(labels)]) + b"M\x00\x0c\x86cnumpy\ndtype\nq\n"
        + text(b"u1") + b"K\x00K\x01\x87Rq\x0b(K\x03" + text(b"|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        + order + text(data.tobytes()) + b"tb" + text(b"filenames") + b"q\x0c]q\x0d(" + text(b"a.png") + b"eu."
    )  # fmt: skip


def write_cifar(folder: Path, form: str) -> None:
    folder.mkdir(parents=True)
    for i in range(6):
        data, labels = cifar_like(i)
        name = f"data_batch_{i}" if i else "test_batch"
        if form == "bin":
            records = np.hstack([np.array(labels, np.uint8)[:, None], data])
            (folder / f"{name}.bin").write_bytes(records.tobytes())
        else:
            (folder / name).write_bytes(python_file(data, labels))


@pytest.mark.parametrize("inner", [True, False])
@pytest.mark.parametrize("form", ["bin", "py"])
def test_cifar10_is_read_in_both_forms(tmp_path: Path, monkeypatch, form: str, inner: bool) -> None:
    monkeypatch.setattr(cifar, "ROWS", ROWS)
    folder = tmp_path / f"cifar-10-batches-{form}"
    write_cifar(folder, form)
    images = cifar.cifar10(tmp_path if inner else str(folder))
    assert images.train_inputs.shape == (5 * ROWS, 3, 32, 32) and images.train_inputs.dtype == torch.float32
    assert images.test_inputs.shape == (ROWS, 3, 32, 32)
    for i in range(6):
        data, labels = cifar_like(i)
        part = slice((i - 1) * ROWS, i * ROWS) if i else slice(0, ROWS)
        inputs = images.train_inputs[part] if i else images.test_inputs
        assert (images.train_targets[part] if i else images.test_targets).tolist() == labels
        wanted = (data.reshape(-1, 3, 32, 32) / 255 - np.reshape(cifar.MEAN, (3, 1, 1))) / np.reshape(
            cifar.DEVIATION, (3, 1, 1)
        )
        np.testing.assert_allclose(inputs, wanted, atol=1e-5)
    assert images.black == pytest.approx([-1.9895, -1.9803, -1.7071], abs=1e-3)  # -mean / deviation


def test_the_handwritten_program_is_what_python_reads(tmp_path: Path) -> None:
    """The stand-in for a published file means to Python what the reader takes from it."""
    data, labels = cifar_like(1)
    batch = pickle.loads(python_file(data, labels), encoding="latin1")
    assert batch["labels"] == labels
    assert np.array_equal(batch["data"], data)


def test_a_program_in_a_cifar10_file_is_not_run(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(cifar, "ROWS", ROWS)
    folder, ran = tmp_path / "cifar", tmp_path / "ran"
    write_cifar(folder, "py")

    class Bad:
        def __reduce__(self):
            return (Path.touch, (ran,))

    data, labels = cifar_like(3)
    for content in (
        pickle.dumps({"labels": labels, "data": Bad()}, 2),
        pickle.dumps(Bad(), 2),
        b"cos\nsystem\n(U" + bytes([len(f"touch {ran}")]) + f"touch {ran}".encode() + b"tR.",
        python_file(data, labels)[:-900],  # cut off
        python_file(data, labels, order=b"\x88"),  # columns first
        b"\x80\x02}q\x01.",
        b"e.",  # a mark that nobody set
        b"0.",
        b"\x80\x02h\x05.",
        b"not a pickle",
        b"",
    ):
        (folder / "data_batch_3").write_bytes(content)
        with pytest.raises(UsageError, match="data_batch_3, which this is not"):
            cifar.cifar10(folder)
        assert not ran.exists()
    assert pickle.loads(pickle.dumps(Bad(), 2)) is None and ran.exists()  # Python would have run it


def test_missing_and_wrong_cifar10_files_are_clear_errors(tmp_path: Path, monkeypatch) -> None:
    with pytest.raises(UsageError, match="no such folder"):
        cifar.cifar10(tmp_path / "nowhere")
    with pytest.raises(UsageError, match=r"data_batch_1\.bin to data_batch_5\.bin .* found neither"):
        cifar.cifar10(tmp_path)
    folder = tmp_path / "cifar"
    write_cifar(folder, "bin")
    with pytest.raises(UsageError, match=rf"expected 30730000 bytes .* got {ROWS * 3073}"):
        cifar.cifar10(folder)
    monkeypatch.setattr(cifar, "ROWS", ROWS)
    (folder / "data_batch_2.bin").write_bytes(b"\x0b" * ROWS * 3073)
    with pytest.raises(UsageError, match="classes from 0 to 9"):
        cifar.cifar10(folder)
    (folder / "data_batch_2.bin").unlink()
    with pytest.raises(UsageError, match=r"lacks data_batch_2\.bin"):
        cifar.cifar10(folder)
    other = tmp_path / "python"
    write_cifar(other, "py")
    data, labels = cifar_like(0)
    (other / "data_batch_5").write_bytes(python_file(data[:3], labels[:3]))
    with pytest.raises(UsageError, match=r"expected 4 labels and 12288 bytes .* got 3 and 9216"):
        cifar.cifar10(other)


# --- augmentation ----------------------------------------------------------------------------------------------------


def test_crops_and_flips_are_shifted_images() -> None:
    """Each result is one of the 2 (2 pad + 1)^2 images that can come out, by a loop over all of them."""
    images = torch.rand(40, 2, 6, 5, generator=torch.Generator().manual_seed(0))
    fill = (-1.0, 2.0)
    moved = crop_and_flip(images, torch.Generator().manual_seed(1), pad=2, fill=fill)
    padded = torch.stack([functional.pad(images[:, c], (2, 2, 2, 2), value=fill[c]) for c in (0, 1)], 1)
    seen = set()
    for i in range(len(images)):
        options = {}
        for down in range(5):
            for right in range(5):
                crop = padded[i, :, down : down + 6, right : right + 5]
                options[down, right, False], options[down, right, True] = crop, crop.flip(2)
        found = [key for key, option in options.items() if torch.equal(option, moved[i])]
        assert len(found) == 1
        seen.add(found[0])
    assert len(seen) > 20
    assert {flipped for *_, flipped in seen} == {True, False}


def test_crops_and_flips_come_from_the_generator_alone() -> None:
    images, state = digits().train_inputs[:50], torch.get_rng_state()
    before = images.clone()
    one, same, other = (crop_and_flip(images, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other)
    assert torch.equal(images, before) and torch.equal(torch.get_rng_state(), state)
    generator = torch.Generator().manual_seed(1)
    first = crop_and_flip(images, generator)
    assert torch.equal(first, one) and not torch.equal(crop_and_flip(images, generator), first)


@pytest.mark.parametrize("bad", [{"pad": -1}, {"fill": (0.0, 0.0)}])
def test_crops_refuse_what_they_cannot_do(bad) -> None:
    with pytest.raises(UsageError, match="pad >= 0 and a fill of 1 or 1 numbers"):
        crop_and_flip(torch.zeros(1, 1, 4, 4), torch.Generator(), **bad)
    with pytest.raises(UsageError, match=r"got shape \(1, 16\)"):
        crop_and_flip(torch.zeros(1, 16), torch.Generator())
