"""The parts of the gate by themselves: rates, strict JSON, and what a server may be told when it starts."""

from __future__ import annotations

import doctest
import importlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

import bbopt
from server.config import Config, is_loopback
from server.gate import address_of, check_host
from server.limits import Buckets
from server.strict_json import DEPTH, problem_of


@given(st.lists(st.tuples(st.floats(0, 5), st.sampled_from("abc")), max_size=60), st.integers(1, 5))
def test_no_key_gets_more_than_its_rate(steps: list[tuple[float, str]], per_minute: int) -> None:
    now = 0.0
    buckets = Buckets(per_minute, clock=lambda: now)
    taken: dict[str, list[float]] = {}
    for wait, key in steps:
        now += wait
        seconds = buckets.take(key)
        if seconds:
            assert buckets.take(key) == pytest.approx(seconds)
        else:
            taken.setdefault(key, []).append(now)
    for times in taken.values():
        for i, start in enumerate(times):
            for j in range(i, len(times)):
                assert j - i + 1 <= per_minute * (1 + (times[j] - start) / 60) + 1e-9


def test_after_the_wait_it_says_there_is_enough() -> None:
    now = 0.0
    buckets = Buckets(2, clock=lambda: now)
    assert buckets.take("a") == buckets.take("a") == 0
    wait = buckets.take("a")
    now += wait * 0.99
    assert buckets.take("a") > 0
    now += wait * 0.02
    assert buckets.take("a") == 0
    buckets.charge("a", 100)
    assert buckets.take("a") == pytest.approx(30)


def test_memory_is_bounded() -> None:
    buckets = Buckets(1, keys=100)
    for number in range(1000):
        buckets.take(number)
    assert len(buckets) == 100 and buckets.take(999) > 0 and buckets.take(0) == 0


def test_addresses_of_one_network_are_one() -> None:
    def address(client: Any) -> str:
        return address_of({"client": client})

    assert address(("192.0.2.1", 5)) == "192.0.2.1" != address(("192.0.2.2", 5))
    assert address(("2001:db8::1", 5)) == address(("2001:db8::ffff:1", 5)) == "2001:db8::/64"
    assert address(None) == address(("", 0)) == "unknown"


# -- JSON --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"NaN", "got NaN"),
        (b"[-Infinity]", "got -Infinity"),
        (b"[1e999]", "got 1e999"),
        (b"[1" + b"0" * 400 + b"]", "401 digits"),
        (b"[2" + b"0" * 308 + b"]", "below 1.8e308"),
        (b'{"a": 1, "a": 2}', "got 'a' twice"),
        (b'{"x": {"b": 1, "b": 1}}', "got 'b' twice"),
        (b"[" * 33 + b"]" * 33, "at most 32"),
        (b"[" * 200_000, "at most 32|expected JSON"),
        (b"[" * 100_000 + b"]" * 100_000, "at most 32"),
        (b'{"a":' * 40 + b"1" + b"}" * 40, "at most 32"),
        (b'"\\ud800"', "surrogate"),
        (b'{"\\udfff": 1}', "surrogate"),
        (b'"\\u0000"', "U\\+0000"),
        (b'"\\\\\\u0000"', "U\\+0000"),
        (b'{"\\u0000": 1}', "U\\+0000"),
        (b"\xff", "UTF-8"),
        ('{"a": 1}'.encode("utf-16"), "UTF-8"),
        (b"\xef\xbb\xbf{}", "expected JSON"),
        (b"{} {}", "expected JSON"),
        (b"{'a': 1}", "expected JSON"),
        (b"[1,]", "expected JSON"),
        (b" ", "expected JSON"),
    ],
)
def test_json_that_others_would_not_take(body: bytes, message: str) -> None:
    assert re.search(message, problem_of(body) or "")


PLAIN = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=10)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | PLAIN,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(PLAIN, inner, max_size=4),
        max_leaves=40,
    ),
    st.booleans(),
)
def test_all_other_json_passes(value: Any, ascii: bool) -> None:
    assert problem_of(json.dumps(value, ensure_ascii=ascii).encode()) is None


def test_brackets_and_escapes_in_text_are_text() -> None:
    for text in ("[" * 100, '"' + "[" * 100, "\\" + "{" * 100, "\\u0000", "\\\\u0000", "a\\"):
        assert problem_of(json.dumps([text] * 2).encode()) is None
    deepest = "[" * DEPTH + "]" * DEPTH
    assert problem_of(deepest.encode()) is None


@given(st.binary(max_size=60))
def test_no_bytes_are_too_strange_for_an_answer(body: bytes) -> None:
    problem = problem_of(body)
    assert problem is None or problem.startswith("expected")


# -- the configuration -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"host": "0.0.0.0"}, "reverse proxy with TLS"),
        ({"host": "192.0.2.1"}, "--allow-host NAME"),
        ({"host": "rank.example.org"}, "others can reach"),
        ({"host": "::"}, "others can reach"),
        ({"port": -1}, "port"),
        ({"port": 65536}, "port"),
        ({"lease_seconds": 0}, "lease_seconds"),
        ({"deadline_seconds": float("inf")}, "deadline_seconds"),
        ({"deadline_seconds": float("nan")}, "deadline_seconds"),
        ({"repeats": 1.0}, "repeats"),
        ({"repeats": -0.1}, "repeats"),
        ({"goal": 0}, "goal"),
        ({"max_body": 0}, "max_body"),
        ({"allowed_hosts": ("http://x",)}, "allowed host"),
        ({"allowed_hosts": ("*",)}, "allowed host"),
        ({"allowed_hosts": ("",)}, "allowed host"),
        ({"url": "rank.example.org"}, "url"),
        ({"url": "ftp://rank.example.org"}, "url"),
        ({"url": "https://rank.example.org/path"}, "no path"),
        ({"url": "https://user@rank.example.org"}, "url"),
    ],
)
def test_settings_that_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(bbopt.UsageError, match=message):
        Config(Path("runs.db"), **settings)


@pytest.mark.parametrize(
    ("settings", "origin"),
    [
        ({}, "http://127.0.0.1:8000"),
        ({"port": 80}, "http://127.0.0.1"),
        ({"host": "localhost"}, "http://localhost:8000"),
        ({"host": "::1"}, "http://[::1]:8000"),
        ({"url": "https://Rank.example.org/"}, "https://rank.example.org"),
        ({"url": "https://rank.example.org:443"}, "https://rank.example.org"),
        ({"url": "http://rank.example.org:8080"}, "http://rank.example.org:8080"),
        ({"host": "0.0.0.0", "allowed_hosts": ("rank.lan", "other")}, "http://rank.lan:8000"),
        ({"host": "0.0.0.0", "allowed_hosts": ("rank.lan:9000",)}, "http://rank.lan:9000"),
    ],
)
def test_links_begin_with_what_people_can_reach(settings: dict[str, Any], origin: str) -> None:
    config = Config(Path("runs.db"), **settings)
    assert config.origin == origin
    authority = origin.partition("://")[2]
    check_host(Headers({"host": authority}), config.hosts)


def test_loopback() -> None:
    assert all(map(is_loopback, ("localhost", "LOCALHOST", "127.0.0.1", "127.9.9.9", "::1", "[::1]")))
    assert not any(
        map(is_loopback, ("0.0.0.0", "::", "", "10.0.0.1", "localhost.evil.example", "127.0.0.1.evil.example"))
    )


@pytest.mark.parametrize("module", ["config", "identity", "limits", "strict_json", "api_access"])
def test_docstring_examples_run(module: str) -> None:
    result = doctest.testmod(importlib.import_module(f"server.{module}"))
    assert result.failed == 0 and result.attempted > 0
