"""Settings for every test: one thread, warnings are errors, slow tests only with `--slow`, reproducible Hypothesis."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # for the package `contract`, which several files use

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # before NumPy or torch is imported; children inherit it

if (
    signal.getsignal(signal.SIGINT) == signal.SIG_IGN
):  # so a shell starts what runs in the background; children inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

import hypothesis  # noqa: E402
import pytest  # noqa: E402

hypothesis.settings.register_profile("tests", deadline=None, derandomize=True, print_blob=True, database=None)
hypothesis.settings.register_profile("search", deadline=None, print_blob=True, max_examples=2000)
hypothesis.settings.load_profile(os.environ.get("BBOPT_HYPOTHESIS", "tests"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--slow", action="store_true", help="run the tests marked slow as well (statistics over many seeds)"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes minutes; run with --slow, or alone with -m slow")
    config.addinivalue_line("filterwarnings", "error")
    # Hypothesis looks at an attribute of every loaded module; tabpfn's old names, which only it loads, warn at that
    config.addinivalue_line("filterwarnings", "ignore:Importing from 'tabpfn:DeprecationWarning")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--slow") or "slow" in config.getoption("markexpr"):
        return
    slow = [item for item in items if item.get_closest_marker("slow")]
    if slow:
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if not item.get_closest_marker("slow")]
