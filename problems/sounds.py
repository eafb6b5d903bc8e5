"""A short tone of six numbers, as a WAV file: harmonics under an envelope, by additive synthesis.

x(t) = envelope(t) sum_n a_n sin(2 pi n f(t) t), with a_n = brightness^(n - 1), even harmonics times 1 - hollow, and a pitch f
that swings by `vibrato` semitones five times a second. Loudness is the same for every tone, as far as the mean square says.
"""

from __future__ import annotations

import io
import wave
from collections.abc import Mapping
from typing import Any

import numpy as np

from bbopt.space import Float

RATE = 22_050  # samples per second
SECONDS = 1.4

PARAMETERS = {
    "pitch": Float(45, 76),  # in semitones as MIDI counts them: A2 to E5
    "brightness": Float(0.1, 0.85),  # each harmonic to the one before
    "hollow": Float(0, 1),  # how much the even harmonics are missing, as in a clarinet
    "attack": Float(0.005, 0.4, log=True),  # seconds until it is full
    "decay": Float(0.1, 2.0, log=True),  # seconds until a third is left
    "vibrato": Float(0, 0.6),  # semitones
}


def tone(params: Mapping[str, Any]) -> bytes:
    """The tone as a WAV of 1.4 seconds, mono, 16 bits, some 60 kB and 10 ms: a function of the params alone.

    >>> tone({name: range.high for name, range in PARAMETERS.items()})[:4]
    b'RIFF'
    """
    p = {name: float(np.clip(params[name], bound.low, bound.high)) for name, bound in PARAMETERS.items()}
    t = np.arange(int(RATE * SECONDS)) / RATE
    swing = p["vibrato"] * np.sin(2 * np.pi * 5 * t) * np.clip(t / 0.4, 0, 1)
    frequency = 440 * 2 ** ((p["pitch"] + swing - 69) / 12)
    phase = 2 * np.pi * np.cumsum(frequency) / RATE
    highest = int(0.45 * RATE / frequency.max())  # below half the rate: no aliases
    harmonics = [n for n in range(1, highest + 1) if p["brightness"] ** (n - 1) > 1e-3]
    weights = [p["brightness"] ** (n - 1) * (1 - p["hollow"] * (n % 2 == 0)) for n in harmonics]
    sound = sum(weight * np.sin(n * phase) for n, weight in zip(harmonics, weights, strict=True))
    rise = np.clip(t / p["attack"], 0, 1)
    fall = np.exp(-np.maximum(t - p["attack"], 0) / p["decay"])
    end = np.clip((SECONDS - t) / 0.05, 0, 1)  # no click
    sound = sound * rise * fall * end
    sound *= 0.16 / np.sqrt(np.mean(sound**2))
    samples = np.clip(np.rint(32_767 * np.tanh(sound)), -32_767, 32_767).astype("<i2")
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE)
        out.writeframes(samples.tobytes())
    return file.getvalue()
