"""Files changed at random places: the readers raise nothing but ValueError, with a message, and a queue continues."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from custom_components.diagnosis.queue import run_queue, scan_sources
from custom_components.diagnosis.scan_source import ScanSource
from custom_components.images.ct_reader import CTReader
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydicom import config, dcmread, dcmwrite
from pydicom.datadict import keyword_for_tag

from tests.bad_input.broken_series import HU, files, slices
from tests.bad_input.broken_series import save as save_series
from tests.written_images import ct_image

MUTATIONS = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
VALUES = (
    "",
    "0",
    "-1",
    "NaN",
    "1e400",
    "1\\2\\3\\4\\5\\6\\7",
    "x" * 300,
    "../../x",
    "\x00\x1b",
    "é",
    "1.5",
    "99999999999",
)
READERS = {
    "inference": lambda folder: CTReader().get_data((folder,)),
    "diagnose": lambda folder: ScanSource(folder).image(),
}


@pytest.fixture(scope="module")
def series(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("good") / "series"
    save_series(slices(), folder)
    return folder


@pytest.fixture
def spoilt(series, tmp_path) -> Callable[[Callable[[Path], None]], Path]:
    """The good series but for one file."""

    def call(spoil: Callable[[Path], None]) -> Path:
        folder = tmp_path / "spoilt"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(series, folder)
        spoil(files(folder)[3])
        return folder

    return call


def flip(content: bytes, place: int, value: int) -> bytes:
    place %= len(content)
    return content[:place] + bytes([content[place] ^ (value or 255)]) + content[place + 1 :]


def cut(content: bytes, place: int, value: int) -> bytes:
    place %= len(content)
    return content[:place] + content[place + 1 + value :]


def insert(content: bytes, place: int, value: int) -> bytes:
    place %= len(content)
    return content[:place] + bytes([value]) * (1 + value) + content[place:]


def end(content: bytes, place: int, value: int) -> bytes:
    return content[: place % len(content)]


# Half of the places lie in the header, which is a tenth of the file.
PLACES = st.one_of(st.integers(0, 1100), st.integers(0, 9000))
CHANGES = st.lists(
    st.tuples(st.sampled_from((flip, cut, insert, end)), PLACES, st.integers(0, 255)), min_size=1, max_size=4
)


def read_or_refuse(folder: Path) -> None:
    for read in READERS.values():
        message = refusal(read, folder)
        assert message is None or len(message) > 30
        assert "secret" not in (message or "").lower()


def refusal(read: Callable[[Path], object], folder: Path) -> str | None:
    """What a folder is refused with; None when it is read."""
    try:
        read(folder)
    except ValueError as error:
        return str(error)
    return None


@MUTATIONS
@given(changes=CHANGES)
@example(changes=[(flip, 503, 108)])  # the description then includes the patient's name
def test_bytes_are_flipped_cut_and_inserted(spoilt, changes):
    def spoil(path: Path) -> None:
        content = path.read_bytes()
        for change, place, value in changes:
            content = change(content or b"\0", place, value)
        path.write_bytes(content)

    read_or_refuse(spoilt(spoil))


TAGS = sorted(keyword_for_tag(element.tag) for element in ct_image(HU[:, :, 0], (0, 0, 0), (1, 1, 1)))


@MUTATIONS
@given(changes=st.lists(st.tuples(st.sampled_from(TAGS), st.sampled_from((None, *VALUES))), min_size=1, max_size=3))
def test_tags_are_removed_and_replaced_in_every_file(series, tmp_path, changes):
    folder = tmp_path / "changed"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    with config.disable_value_validation():
        for path in files(series):
            image = dcmread(path)
            for tag, value in changes:
                replace_value(image, tag, value)
            dcmwrite(folder / path.name, image)
    read_or_refuse(folder)


def replace_value(image, tag: str, value: str | None) -> None:
    """As text in whatever form the tag has; numbers of fixed size get the text's bytes."""
    if tag not in image:
        return
    if value is None:
        del image[tag]
        return
    vr = image[tag].VR
    if vr in ("US", "OW"):
        del image[tag]
        number = random.Random(value).randrange(65536)
        image.add_new(tag, vr, number if vr == "US" else number.to_bytes(2, "little"))
        return
    del image[tag]
    try:
        image.add_new(tag, vr, value)
    except (ValueError, OverflowError):  # pydicom does not hold such a number at all
        image.add_new(tag, "LO", value)


def test_a_queue_of_such_studies_continues_with_the_rest(series, tmp_path):
    generator = random.Random(0)
    for number in range(12):
        study = tmp_path / "studies" / f"{number:02d}"
        save_series(slices(SeriesInstanceUID=f"1.2.{number}", StudyInstanceUID=f"1.3.{number}"), study)
        for path in files(study) if number % 3 else []:
            change = generator.choice((flip, cut, insert, end))
            path.write_bytes(change(path.read_bytes(), generator.randrange(140, 1500), generator.randrange(256)))
    done: list[str] = []

    def process(source: ScanSource, folder: Path) -> None:
        source.image()
        done.append(source.case_id)
        (folder / "report.json").write_text("{}", encoding="utf-8")

    result = run_queue(scan_sources(tmp_path / "studies"), tmp_path / "out", process)
    assert {"1.2.0", "1.2.3", "1.2.6", "1.2.9"} <= set(done)
    assert len(result.failed) + len(result.done) == 12
    assert len(result.failed) >= 3
    assert not [reason for reason in result.failed.values() if reason.split(":")[0].endswith("Error")]
