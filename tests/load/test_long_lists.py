"""Data sets of 5,000 cases: listed, checked, split and held out within seconds and little memory."""

import gc
import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from custom_components.datalists.folds import assign_folds, hold_out_fold, select_fold
from custom_components.datalists.scans import list_scans
from custom_components.datalists.slices import list_cases
from custom_components.datalists.split import split_cases
from custom_components.infection_size import size_group

CASES = 5000
MAX_CPU_S, MAX_MEMORY_MB = 30.0, 1000.0
SHAPE = (7, 6, 5)
STATUS = Path("/proc/self/status")

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not STATUS.is_file(), reason="needs /proc, which Linux has")]


@pytest.fixture(scope="module")
def volume(tmp_path_factory) -> Path:
    """A tiny NIfTI file; each case has it under a name of its own."""
    path = tmp_path_factory.mktemp("one") / "a.nii"
    nib.save(nib.Nifti1Image(np.zeros(SHAPE, np.uint8), np.diag([-2.0, -3.0, 4.0, 1.0])), path)
    return path


def spread(volume: Path, folder: Path, kinds: tuple[str, ...]) -> list[str]:
    """The file under the names of all cases, in a folder for each kind."""
    names = [f"case_{number:05d}" for number in range(CASES)]
    for kind in kinds:
        (folder / kind).mkdir(parents=True)
        for name in names:
            os.link(volume, folder / kind / f"{name}.nii")
    return names


def peak_mb() -> float:
    """Most memory held since the peak was last forgotten."""
    return int(re.search(r"VmHWM:\s+(\d+) kB", STATUS.read_text(encoding="utf-8"))[1]) / 1024


def check(work: Callable[[], None], capsys) -> None:
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    before_mb, started = peak_mb(), time.process_time()
    work()
    seconds, grown_mb = time.process_time() - started, peak_mb() - before_mb
    with capsys.disabled():
        print(f"\n{CASES} cases: {seconds:.1f} s of CPU, {grown_mb:.0f} MB more than before")  # noqa: T201
    assert seconds < MAX_CPU_S
    assert grown_mb < MAX_MEMORY_MB


def test_scans_of_the_classifier(volume, tmp_path, capsys):
    names = spread(volume, tmp_path, ("images", "lungs", "infections"))
    kinds = {"image": "images", "lung": "lungs", "infection": "infections"}
    cases = [
        {
            "case_id": name,
            "patient_id": f"p{number // 2}",
            **{key: f"{kind}/{name}.nii" for key, kind in kinds.items()},
            "label": "covid" if number // 2 % 2 else "cap",
            "ratio": 0.001 + number % 90 / 1000,
            "fold": number // 2 % 10 // 2,
        }
        for number, name in enumerate(names)
    ]
    (tmp_path / "datalist.json").write_text(json.dumps({"cases": cases}), encoding="utf-8")

    def work() -> None:
        scans = list_scans(tmp_path)
        assert len(scans) == CASES
        assert len(set(assign_folds(scans, 5))) == 5
        assert len(select_fold(scans, 1)["validation"]) == len(hold_out_fold(scans, 1)["validation"]) == CASES // 5
        assert {scan["group"] for scan in scans} == {size_group(scan["label"], scan["ratio"]) for scan in scans}

    check(work, capsys)


def test_cases_of_the_lesion_classes(volume, tmp_path, capsys):
    spread(volume, tmp_path, ("images", "masks", "lungs"))

    def work() -> None:
        cases = list_cases(tmp_path)
        assert len(cases) == CASES
        for protocol in ("group", "paper"):
            split = split_cases(cases, 10, 3, protocol)
            assert len(split["validation"]) == CASES // 10
            assert len(split["training"]) == CASES - CASES // 10

    check(work, capsys)


def test_a_study_of_5000_files_is_found_and_read(tmp_path, capsys):
    """One thin series of 1,000 slices with four others beside it, each file tiny."""
    from custom_components.diagnosis.scan_source import ScanSource

    from tests.written_images import ct_image, save

    hu, spacing_mm = np.zeros((8, 7)), (40.0, 45.0, 0.3)
    for series in range(5):
        for k in range(CASES // 5):
            uid, name = f"1.2.3.{series}", f"series {series}"
            image = ct_image(
                hu, (0, 0, k * 0.3), spacing_mm, uid, number=k, SeriesDescription=name, SeriesNumber=series
            )
            save(image, tmp_path / "study" / f"{series}_{k:04d}.dcm")

    def work() -> None:
        source = ScanSource(tmp_path / "study")
        assert source.case_id == "1.2.3.0"
        assert source.image().shape == (1, 8, 7, CASES // 5)

    check(work, capsys)
