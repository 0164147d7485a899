"""The public CT data, which are not part of the project."""

import os
from pathlib import Path

import pytest


def real_data(*parts: str) -> Path:
    """A folder of the public CT data (docs/data.md); the test that asks for it is skipped where they are not there."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("COVID_TEST_DATA", default)).resolve().joinpath(*parts)
    if not folder.is_dir():
        pytest.skip("the public CT data are not there: set COVID_TEST_DATA to their folder (docs/data.md)")
    return folder
