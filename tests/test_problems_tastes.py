"""What people rank: every renderer is pure, takes any point, shows every parameter; tastes are hidden by seed."""

from __future__ import annotations

import doctest
import hashlib
import importlib
import io
import json
import subprocess
import sys
import wave
import zlib
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from click.testing import CliRunner

import bbopt
import problems
from bbopt.cli import main
from bbopt.errors import UsageError
from bbopt.task import Task
from problems.pictures import cielab, from_oklab, oklab, png, srgb
from problems.pictures_landscape import paint
from problems.pictures_poster import draw
from problems.sounds import RATE, SECONDS, tone
from problems.tastes import RENDERED

NAMES = problems.names("people")
STARTS: dict[str, Any] = {
    "landscape": b"\x89PNG\r\n\x1a\n",
    "sunset": b"\x89PNG\r\n\x1a\n",
    "poster": "<svg ",
    "tone": b"RIFF",
    "verse": "",
}


def params_of(name: str, u: Any) -> dict[str, Any]:
    space = problems.get(name).task.space
    return space.decode(space.from_uniform(np.atleast_2d(u))[0])


def random_params(name: str, seed: int) -> dict[str, Any]:
    return params_of(name, np.random.default_rng(seed).random(problems.get(name).task.space.dimension))


def decoded(file: bytes) -> np.ndarray:
    """Pixels of a PNG, by the words of the standard: chunks with their checks, rows with filters 0 and 2."""
    place, data, size = 8, b"", (0, 0)
    while place < len(file):
        length = int.from_bytes(file[place : place + 4])
        kind, body = file[place + 4 : place + 8], file[place + 8 : place + 8 + length]
        assert int.from_bytes(file[place + 8 + length : place + 12 + length]) == zlib.crc32(kind + body)
        if kind == b"IHDR":
            size = int.from_bytes(body[:4]), int.from_bytes(body[4:8])
            assert body[8:] == bytes([8, 2, 0, 0, 0])
        data += body if kind == b"IDAT" else b""
        place += 12 + length
    width, height = size
    rows = np.frombuffer(zlib.decompress(data), np.uint8).reshape(height, 1 + 3 * width)
    assert set(rows[:, 0]) <= {0, 2}
    pixels = np.zeros((height, 3 * width), np.uint8)
    for i, row in enumerate(rows):
        pixels[i] = row[1:] + (pixels[i - 1] if row[0] == 2 and i else 0)
    return pixels.reshape(height, width, 3)


# --- renderers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_renderer_is_pure_and_gives_the_kind_of_file_that_it_says(name: str) -> None:
    render, params = problems.renderer(name), random_params(name, 0)
    before = dict(params)
    first = render(params)
    assert first == render(before) == problems.renderer(f"{name}@taste3")(params)
    assert params == before
    assert isinstance(first, type(STARTS[name])) and first.startswith(STARTS[name])
    code = f"import problems, hashlib; r = problems.renderer({name!r})({params!r}); print(hashlib.sha256(r if isinstance(r, bytes) else r.encode()).hexdigest())"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert other == hashlib.sha256(first if isinstance(first, bytes) else first.encode()).hexdigest()


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_is_seen(name: str) -> None:
    """At a typical point each parameter changes what is shown, and so do points at the ends of all ranges."""
    dimension = problems.get(name).task.space.dimension
    render = problems.renderer(name)
    middle = np.full(dimension, 0.45)
    shown = {render(params_of(name, middle))}
    for i in range(dimension):
        moved = middle.copy()
        moved[i] = 0.85
        shown.add(render(params_of(name, moved)))
    assert len(shown) == 1 + dimension
    for u in (np.zeros(dimension), np.ones(dimension)):
        assert render(params_of(name, u))


@pytest.mark.parametrize("name", NAMES)
def test_values_outside_the_ranges_are_moved_to_their_ends(name: str) -> None:
    space, render = problems.get(name).task.space, problems.renderer(name)
    low = {key: parameter.low for key, parameter in space.parameters.items()}  # type: ignore[union-attr]
    assert render({key: value - 1e3 for key, value in low.items()}) == render(low)


def test_pictures_are_what_was_painted() -> None:
    params = random_params("landscape", 4)
    picture = paint(params)
    pixels = decoded(problems.renderer("landscape")(params))  # type: ignore[arg-type]
    assert pixels.shape == (240, 360, 3)
    assert np.abs(pixels / 255 - np.clip(picture, 0, 1)).max() < 0.5 / 255 + 1e-6
    assert decoded(problems.renderer("sunset")(random_params("sunset", 1))).std() > 5  # type: ignore[arg-type]
    noise = np.random.default_rng(0).random((5, 4, 3))
    assert (decoded(png(noise)) == np.floor(noise * 255 + 0.5)).all()
    for shape in ((3, 3), (3, 3, 4), (0, 3, 3)):
        with pytest.raises(UsageError, match="height, width, 3"):
            png(np.zeros(shape))


def test_a_tone_has_its_pitch_and_its_length() -> None:
    params = {"pitch": 69.0, "brightness": 0.1, "hollow": 1.0, "attack": 0.01, "decay": 1.0, "vibrato": 0.0}
    with wave.open(io.BytesIO(tone(params))) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, RATE)
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(float)
    assert len(samples) == int(RATE * SECONDS)
    spectrum = np.abs(np.fft.rfft(samples))
    assert spectrum.argmax() * RATE / len(samples) == pytest.approx(440, abs=1)
    assert np.abs(samples).max() < 32_767


def test_a_poster_is_well_formed_and_its_words_are_escaped() -> None:
    params = random_params("poster", 2)
    words = [text.text for text in ElementTree.fromstring(problems.renderer("poster")(params)).iter() if text.text]
    assert "Night" in words
    evil = "</text><script>alert(1)</script> & \"'"
    drawing = ElementTree.fromstring(draw(params, (evil,), (evil,)))
    assert {element.tag.rpartition("}")[2] for element in drawing.iter()} == {
        "svg",
        "title",
        "rect",
        "g",
        "circle",
        "text",
    }
    assert [text.text for text in drawing.iter("{http://www.w3.org/2000/svg}text")] == [evil, evil]


def test_colours_against_published_values() -> None:
    """CIELAB of sRGB's red, green and blue (Lindbloom's calculator, D65, 2 degrees), OKLab as in Ottosson's table."""
    lab = cielab(np.eye(3))
    assert lab == pytest.approx(
        np.array([[53.24, 80.09, 67.20], [87.73, -86.18, 83.18], [32.30, 79.19, -107.86]]), abs=0.02
    )
    assert oklab(np.ones(3)) == pytest.approx([1.0, 0.0, 0.0], abs=1e-3)
    assert oklab(np.array([1.0, 0.0, 0.0])) == pytest.approx([0.628, 0.2249, 0.1258], abs=1e-3)
    colours = np.random.default_rng(0).random((50, 3))
    assert from_oklab(oklab(colours)) == pytest.approx(colours, abs=1e-6)
    assert srgb(np.array([-1.0, 2.0])).tolist() == pytest.approx([0.0, 1.0])


@pytest.mark.parametrize(
    "module", ["people", "policy", "tastes", "unbounded", "problem", "pictures", *dict.fromkeys(RENDERED.values())]
)
def test_docstring_examples_run(module: str) -> None:
    result = doctest.testmod(importlib.import_module(f"problems.{module}"))
    assert result.failed == 0 and result.attempted > 0


# --- tastes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_taste_is_liked_best_and_is_another_one_by_seed(name: str) -> None:
    problem, other = problems.get(name), problems.get(f"{name}@taste1")
    assert problem.task.feedback == "ranking"
    assert problem.task.objectives[0].maximize
    assert problem.task == other.task
    assert problem.optimum.params != other.optimum.params
    assert problem(problem.optimum.params) == {"liking": 0.0}  # type: ignore[arg-type]
    space = problem.task.space
    liking = problem.evaluate(space.from_uniform(np.random.default_rng(0).random((300, space.dimension))))["liking"]
    assert liking.max() < 0.0
    inside = space.encode(problem.optimum.params)  # type: ignore[arg-type]
    assert (inside > 0.19).all() and (inside < 0.81).all()
    values = problems.get(f"{name}@values")
    assert values.task.feedback == "values" and values.optimum == problem.optimum


def test_most_tastes_are_squared_distances_and_that_for_skies_is_in_colours() -> None:
    rng = np.random.default_rng(1)
    for name in NAMES:
        problem = problems.get(name)
        space = problem.task.space
        X = space.from_uniform(rng.random((5, space.dimension)))
        expected = -np.sum((X - space.encode(problem.optimum.params)) ** 2, axis=1)  # type: ignore[arg-type]
        assert (np.allclose(problem.evaluate(X)["liking"], expected)) == (name != "sunset")
    sunset = problems.get("sunset")
    black, white = (
        {**dict.fromkeys(sunset.task.space.names, 0.0), "top_lightness": L, "foot_lightness": L} for L in (0.5, 0.7)
    )
    grey = [cielab(from_oklab(np.array([L, 0.0, 0.0])))[0] for L in (0.5, 0.7)]
    formula = type(sunset.formula)(sunset.formula.parameters, tuple(black.values()))  # type: ignore[attr-defined]
    one = {name: np.array([value]) for name, value in white.items()}
    assert formula(one)["liking"][0] == pytest.approx(-(((grey[1] - grey[0]) / 100) ** 2), rel=1e-3)  # type: ignore[operator]


def test_a_task_finds_its_renderer_also_from_a_file() -> None:
    for name in NAMES:
        document = json.loads(json.dumps(problems.get(f"{name}@taste5").task.to_json()))
        assert problems.renderer_for(Task.from_json(document)) is problems.renderer(name)
    assert problems.renderer_for(problems.get("reacher").task) is None
    assert set(RENDERED) == set(NAMES)
    for name in ("branin", "landscape_2", ""):
        with pytest.raises(UsageError, match="landscape, sunset, poster, tone, verse"):
            problems.renderer(name)


def test_a_picture_study_from_the_command_line(tmp_path: Any) -> None:
    store = str(tmp_path / "runs.db")
    done = CliRunner().invoke(main, ["create", store, "pic", "--problem", "landscape", "--strategy", "rank-sgd"])
    assert done.exit_code == 0, done.output
    with bbopt.Optimizer.open(store, "pic") as opt:
        assert opt.task == problems.get("landscape").task
        trial = opt.ask_query()
        assert problems.renderer_for(opt.task)(opt.task.space.decode(trial.X[0]))  # type: ignore[misc,index]


def test_a_ranking_task_can_be_told_values() -> None:
    """So a benchmark by values needs no other problem: a strategy that takes rankings takes these too."""
    problem = problems.get("landscape")
    opt = bbopt.Optimizer(problem.task, "cmaes", seed=0)
    for _ in range(60):
        trial = opt.ask()
        opt.tell(trial, problem(trial.params))
    liking = [trial.values["liking"] for trial in opt.trials() if trial.values]
    assert len(liking) == 60 and max(liking[30:]) > max(liking[:10])
    with pytest.raises(bbopt.NotHandled, match="rankings"):
        bbopt.Optimizer(problem.task, "gp")
