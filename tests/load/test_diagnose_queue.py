"""A long queue of studies: memory and open files stay what they are after the first ones."""

import logging
import re
import statistics
from pathlib import Path

import pytest
from custom_components.diagnosis.command import diagnose
from custom_components.phantom import make_scan, write_dicom
from pydicom import dcmread
from pydicom.uid import generate_uid

from tests.bundles.conftest import ROOT
from tests.diagnosis.conftest import SMALL
from tests.ecosystem.small_bundle import small_bundle

STUDIES, WARM_UP = 200, 20
MAX_GROWTH_MB = 50.0
OF_EACH_STUDY = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID")
STATUS = Path("/proc/self/status")

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not STATUS.is_file(), reason="needs /proc, which Linux has")]


def resident_mb() -> float:
    return int(re.search(r"VmRSS:\s+(\d+) kB", STATUS.read_text(encoding="utf-8"))[1]) / 1024


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


class Gauge(logging.Handler):
    """Measures whenever a case is finished."""

    def __init__(self) -> None:
        super().__init__()
        self.resident_mb: list[float] = []
        self.open_files: list[int] = []

    def emit(self, record: logging.LogRecord) -> None:
        if "is finished" in record.getMessage():
            self.resident_mb.append(resident_mb())
            self.open_files.append(open_files())


def write_studies(folder: Path, count: int) -> None:
    """The same scan under other UIDs: each is replaced by one of its length in the bytes of the files."""
    series = write_dicom(make_scan("covid", 0.2, 3, (64, 60, 28), (5.6, 6.0, 10.0)), folder.parent / "template")
    templates = [path.read_bytes() for path in sorted(series.iterdir())]
    headers = [dcmread(path) for path in sorted(series.iterdir())]
    known = sorted({str(header[tag].value) for header in headers for tag in OF_EACH_STUDY})
    for number in range(count):
        new = {old: generate_uid(entropy_srcs=[str(number), old])[: len(old) - 1].ljust(len(old), "7") for old in known}
        study = folder / f"{number:03d}"
        study.mkdir(parents=True)
        for place, content in enumerate(templates):
            for old, other in new.items():
                content = content.replace(old.encode(), other.encode())
            (study / f"{place}.dcm").write_bytes(content)


def test_memory_and_open_files_do_not_grow_with_the_queue(tmp_path, capsys, caplog):
    caplog.set_level(logging.INFO, "custom_components")
    bundles = tmp_path / "bundles"
    for name, small in SMALL.items():
        small_bundle(ROOT / name, bundles / name, small)
    write_studies(tmp_path / "studies", STUDIES)
    gauge = Gauge()
    logger = logging.getLogger("custom_components.diagnosis.queue")
    logger.addHandler(gauge)
    try:
        diagnose(str(tmp_path / "studies"), str(tmp_path / "out"), bundles_dir=str(bundles))
    finally:
        logger.removeHandler(gauge)
    assert len(gauge.resident_mb) == STUDIES
    early, late = (
        statistics.median(gauge.resident_mb[part]) for part in (slice(WARM_UP, WARM_UP + 10), slice(-10, None))
    )
    (rate,) = re.findall(r"\d+ s in all, (\d+) scans an hour", caplog.text)
    with capsys.disabled():
        print(f"\n{early:.0f} MB after {WARM_UP} studies, {late:.0f} MB after {STUDIES}; {rate} scans an hour")  # noqa: T201
    assert late - early < MAX_GROWTH_MB
    assert max(gauge.open_files[WARM_UP:]) <= gauge.open_files[WARM_UP] + 2
    assert int(rate) > 0
