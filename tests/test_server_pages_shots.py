"""Every page at the width of a telephone and of a desktop, light and dark: nothing sticks out, nothing complains."""

from __future__ import annotations

from pathlib import Path

import pytest
from pages_shots import LOOKS, take


@pytest.mark.slow
def test_every_page_fits_in_every_window(tmp_path: Path) -> None:
    taken = take(tmp_path)
    assert len({path.name for path in taken}) == len(taken)
    assert {path.stem for path in taken} >= {
        f"{page}-{look}" for page in ("rate-placed", "study", "end") for look in LOOKS
    }
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in taken)
