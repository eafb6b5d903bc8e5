"""Finding a TabPFN weight file on this machine, and calling the package so that it neither prompts nor leaves a trace.

The package takes the path of a missing file for something to download: after a licence check, with a browser window or
a question on the terminal, and with up to 25 seconds of retries. So the file is found and looked at here, before the
package is even imported (which takes 3 seconds), and it is only ever handed the path of a file that is there.

Weights are the user's own: none are shipped here and none are fetched. Those of v2 are free to use with attribution,
those of v2.5 and later are for non-commercial use; see their licences.
"""

from __future__ import annotations

import importlib.util
import json
import os
import random
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from bbopt.errors import MissingPackage, UsageError

Role = Literal["regressor", "classifier"]

STEMS: dict[Role, tuple[str, ...]] = {
    "regressor": (
        "tabpfn-v3.5-20260909", "tabpfn-v3.5-fast-20260909", "tabpfn-v3-regressor-v3_default",
        "tabpfn-v2.6-regressor-v2.6_default", "tabpfn-v2.5-regressor-v2.5_default", "tabpfn-v2-regressor",
    ),
    "classifier": (
        "tabpfn-v3.5-20260909", "tabpfn-v3.5-fast-20260909", "tabpfn-v3-classifier-v3_default",
        "tabpfn-v2.6-classifier-v2.6_default", "tabpfn-v2.5-classifier-v2.5_default",
        "tabpfn-v2-classifier-finetuned-zk73skhh", "tabpfn-v2-classifier",
    ),
}  # fmt: skip
"""The package's own names of its default files, newest first; looked for with .safetensors, then with .ckpt."""

QUIET = {"TABPFN_NO_BROWSER": "1", "TABPFN_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
CPU_LIMIT = "TABPFN_ALLOW_CPU_LARGE_DATASET"  # what the message of a plain RuntimeError about too many rows names
LARGEST_HEADER = 100_000_000  # bytes; the limit of the safetensors format


def cache_folder() -> Path:
    """Where weights are looked for when no path is given: the package's cache folder on this platform.

    The environment variable TABPFN_MODEL_CACHE_DIR names another folder.
    """
    if chosen := os.environ.get("TABPFN_MODEL_CACHE_DIR", "").strip():
        return Path(chosen).expanduser()
    home = Path(os.path.expanduser("~"))
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "tabpfn"
    variable, default = ("APPDATA", home) if sys.platform == "win32" else ("XDG_CACHE_HOME", home / ".cache")
    return Path(os.environ.get(variable, "").strip() or default) / "tabpfn"


def at_hand(role: Role, weights: str | Path | None = None) -> Path | None:
    """The .safetensors file that a fit would use, or None where the package or the file is missing; quick.

    >>> at_hand("regressor", "no/such/folder") is None
    True
    """
    if importlib.util.find_spec("tabpfn") is None:
        return None
    chosen = cache_folder() if weights is None else Path(weights).expanduser()
    candidates = [chosen / f"{stem}.safetensors" for stem in STEMS[role]] if chosen.is_dir() else [chosen]
    found = (path for path in candidates if path.is_file() and path.suffix == ".safetensors")
    return next(found, None)


def find_weights(role: Role, weights: str | Path | None = None, *, allow_pickle_weights: bool = False) -> Path:
    """The absolute path of a weight file that is there and fits the role; milliseconds.

    weights: a file, a folder to look in, or None for `cache_folder()`. A .ckpt file is a pickle, which runs whatever
    code its author put in when it is loaded: it is refused unless `allow_pickle_weights` says that it is trusted.
    Raises UsageError naming the files and folders looked for, or what is wrong with the file.
    """
    chosen = cache_folder() if weights is None else Path(weights).expanduser()
    if weights is not None and not chosen.is_dir():
        path = chosen
        if not path.is_file():
            raise UsageError(
                f"no TabPFN weights at {path}: expected a .safetensors file or a folder of them; nothing is downloaded"
            )
    else:
        names = [stem + suffix for suffix in (".safetensors", ".ckpt") for stem in STEMS[role]]
        found = next((chosen / name for name in names if (chosen / name).is_file()), None)
        if found is None:
            wanted = ", ".join(names[: len(STEMS[role])])
            raise UsageError(
                f"no TabPFN {role} weights in the folder {chosen}: expected one of {wanted} (or the same with .ckpt); "
                f"nothing is downloaded. Put the file there, set TABPFN_MODEL_CACHE_DIR to its folder, or pass weights=PATH"
            )
        path = found
    path = path.resolve()
    if path.suffix == ".safetensors":
        _check_header(path, role)
    elif path.suffix != ".ckpt":
        raise UsageError(f"expected TabPFN weights as .safetensors (or .ckpt), got {path}")
    elif not allow_pickle_weights:
        raise UsageError(
            f"{path} is a pickle: loading it runs whatever code is in it. If you trust where it came from, pass "
            f"allow_pickle_weights=True, or convert it once: tabpfn.checkpoint.save_as_safetensors(tabpfn.checkpoint."
            f"Checkpoint(PATH).load(), NEW_PATH)"
        )
    return path


def _check_header(path: Path, role: Role) -> None:
    """Raise UsageError unless the file is safetensors, whole, with a network that can play the role."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 0 < length <= min(LARGEST_HEADER, path.stat().st_size - 8):
                raise ValueError("no header of the announced length")
            header = json.loads(file.read(length))
        entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
        size = 8 + length + max((entry["data_offsets"][1] for entry in entries.values()), default=0)
        if path.stat().st_size != size:
            raise ValueError(f"{path.stat().st_size} bytes where {size} were announced")
        config = json.loads(header.get("__metadata__", {})["config"])
        borders = any(name.endswith(("criterion.borders", "regression_borders")) for name in entries)
        fits = borders if role == "regressor" else config.get("max_num_classes", 0) > 0
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path} is not a TabPFN weight file that can be read ({error}): get it again") from error
    if not fits:
        other = "classifier" if role == "regressor" else "regressor"
        raise UsageError(f"{path} holds no TabPFN {role} (a {other}, it seems): pass the weights of a {role}")


def require_package() -> None:
    """Raise MissingPackage, without importing anything, where `tabpfn` is not installed."""
    if importlib.util.find_spec("tabpfn") is None:
        raise MissingPackage('TabPFN needs the package tabpfn, which is not installed: pip install "bbopt[tabpfn]"')


@contextmanager
def calling_the_package() -> Iterator[None]:
    """For a call into `tabpfn`: no browser and no questions; its refusals become UsageError; environment and seeds restored.

    Its warnings are about deprecations inside it and about data that was checked before: not shown, for this call only.
    """
    before = {name: os.environ.get(name) for name in QUIET}
    os.environ.update(QUIET)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _import_the_package()
            import torch
            from tabpfn.errors import TabPFNUserError

            try:
                with torch.random.fork_rng(devices=[]):  # building a network of v3 draws numbers
                    yield
            except TabPFNUserError as error:
                raise UsageError(f"TabPFN refuses these data: {error}") from error
            except RuntimeError as error:
                if CPU_LIMIT not in str(error):
                    raise
                raise UsageError(f"TabPFN refuses so many rows on a CPU, take a subset: {error}") from error
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _import_the_package() -> None:
    """Import `tabpfn` if that was not done before. What it imports sets variables and draws from `random`: undone."""
    if "tabpfn" in sys.modules:
        return
    environment, drawn = dict(os.environ), random.getstate()
    try:
        import tabpfn  # noqa: F401
    except ImportError as error:
        raise MissingPackage(f'TabPFN cannot be imported ({error}): pip install "bbopt[tabpfn]"') from error
    finally:
        for name in set(os.environ) - set(environment):
            del os.environ[name]
        random.setstate(drawn)
