"""A disk that is full, for some files: what is written to them ends in the system's own error."""

from fnmatch import fnmatch
from pathlib import Path

import pytest
from custom_components.files import atomic
from custom_components.files.atomic import temporary_beside

DEVICE = Path("/dev/full")


def fill_disk(monkeypatch: pytest.MonkeyPatch, pattern: str) -> None:
    """Let no file of such a name be written."""
    if not DEVICE.exists():
        pytest.skip(f"needs {DEVICE}")

    def full(target: Path) -> Path:
        temporary = temporary_beside(target)
        if fnmatch(target.name, pattern):
            temporary.symlink_to(DEVICE)
        return temporary

    monkeypatch.setattr(atomic, "temporary_beside", full)


def left(folder: Path) -> list[str]:
    """All files below a folder, hidden ones too."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())
