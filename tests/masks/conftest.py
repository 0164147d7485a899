import json
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from custom_components.diagnosis import pipeline
from custom_components.phantom import Phantom

from tests.diagnosis.conftest import bundles, plant, scan, write_nifti, write_series  # noqa: F401


@dataclass
class Masked:
    """A data set of phantoms, a VB-Net that returns their masks, and the command that makes masks of them.

    Args:
        phantom: the scan of each case.
        command_line: runs a verb within this process; its exit status.
        bundles: folder of the bundles.
        root: folder of all files.
        calls: how often each network was applied.
    """

    phantom: Phantom
    command_line: Any
    bundles: Path
    root: Path
    calls: Counter = field(default_factory=Counter)

    @property
    def out(self) -> Path:
        return self.root / "out"

    def write(self, *entries: dict[str, Any]) -> Path:
        """Write a datalist, and the scan of each entry unless it exists."""
        for entry in entries:
            if not (self.root / entry["image"]).exists():
                write_nifti(self.phantom, self.root / entry["image"])
        path = self.root / "list.json"
        path.write_text(json.dumps({"cases": entries}), encoding="utf-8")
        return path

    def run(self, *words: object, data: object = None) -> int:
        """Make masks by VB-Net alone, unless the words say otherwise."""
        options = () if "--infection_by" in words else ("--infection_by", "vbnet")
        given = self.root / "list.json" if data is None else data
        return self.command_line("segment_masks", given, self.out, "--bundles_dir", self.bundles, *options, *words)

    def listed(self, name: str = "datalist.json") -> dict[str, dict[str, Any]]:
        """Entries of a written datalist by case id."""
        cases = json.loads((self.out / name).read_text(encoding="utf-8"))["cases"]
        return {case["case_id"]: case for case in cases}

    def files(self) -> dict[str, int]:
        """Files of the cases with their times."""
        paths = [path for path in (self.out / "masks").rglob("*") if path.is_file()]
        return {str(path.relative_to(self.out / "masks")): path.stat().st_mtime_ns for path in paths}


@pytest.fixture
def masked(command_line, bundles, scan, tmp_path, monkeypatch) -> Masked:  # noqa: F811
    planted = plant(monkeypatch, bundles, scan, tmp_path / "bundles")
    made = Masked(scan, command_line, planted, tmp_path)

    def count(name, function, *args, **options):
        made.calls[name] += 1
        return function(*args, **options)

    for name in ("find_lungs", "find_lesions"):
        monkeypatch.setattr(pipeline, name, partial(count, name, getattr(pipeline, name)))
    return made


def case(name: str, label: str | None = "covid", **more: Any) -> dict[str, Any]:
    """An entry without masks, as of convert_covid_ct_md."""
    entry = {"case_id": name, "patient_id": name, "image": f"scans/{name}.nii.gz", **more}
    return entry if label is None else {**entry, "label": label}


def two_of_each() -> list[dict[str, Any]]:
    """The fewest patients for two folds."""
    return [case("P001"), case("P002"), case("cap001", "cap"), case("cap002", "cap")]
