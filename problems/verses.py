"""Four lines of verse of six numbers, as plain text: each number chooses among words, in an order from one mood to another.

Many points give the same verse, so a person who reads carefully must call them tied.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bbopt.space import Float

PARAMETERS = {
    "hour": Float(0, 1),
    "season": Float(0, 1),
    "wind": Float(0, 1),
    "company": Float(0, 1),
    "pace": Float(0, 1),
    "hope": Float(0, 1),
}

WORDS: Mapping[str, tuple[str, ...]] = {
    "hour": ("At midnight", "Before dawn", "At sunrise", "At noon", "Late in the day", "At dusk"),
    "season": ("in deepest winter", "when the ice breaks", "in early spring", "in high summer", "when leaves fall"),
    "wind": ("the air is still", "a breath of wind goes by", "the wind is up", "a storm takes hold of the trees"),
    "company": ("I walk alone", "a dog walks beside me", "an old friend walks with me", "we all walk together"),
    "pace": ("stopping at every gate", "in no hurry", "with a steady step", "running down to the water"),
    "hope": ("Nothing will come of it.", "Who knows what comes.", "Something is coming.", "All of it begins today."),
}


def verse(params: Mapping[str, Any]) -> str:
    """The verse: a function of the params alone.

    >>> print(verse({"hour": 0.3, "season": 0.5, "wind": 0.0, "company": 0.2, "pace": 0.4, "hope": 0.9}))
    Before dawn in early spring
    the air is still;
    I walk alone, in no hurry.
    All of it begins today.
    """
    word = {
        name: words[min(max(int(float(params[name]) * len(words)), 0), len(words) - 1)] for name, words in WORDS.items()
    }
    return f"{word['hour']} {word['season']}\n{word['wind']};\n{word['company']}, {word['pace']}.\n{word['hope']}"
