"""SPGC-COVID, the test sets of the Signal Processing Grand Challenge 2021, from the authors of COVID-CT-MD.

The challenge trained on COVID-CT-MD (``convert_covid_ct_md``) and tested on four further sets. As its users have them:
``Test-1/<patient>/IM0001.dcm`` to ``Test-4/``, at any depth. The form of the published labels could not be confirmed;
they are read from a CSV with the columns patient and label (and test set, if a patient's name occurs in several), under
any of the names below, or from folders named after the classes. A sheet must be saved as CSV first.

Known problems: one of the sets has patients with heart disease, one has scans of several protocols, so a score is
reported for each set (``test_set`` in the datalist); a test scan that is also in the training data makes scores too
high, therefore give ``--train``.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from custom_components.datalists.case_files import existing_root, natural_key
from custom_components.datasets.conversion import Case, PublicSet, convert_cases, read_rows
from custom_components.datasets.diagnoses import diagnosis, dicom_case, normals_left_out, plain_name
from custom_components.datasets.overlap import check_no_overlap
from custom_components.dicom.series import holds_dicom

SET = PublicSet(
    name="SPGC-COVID",
    purpose="COVID-19 or CAP, test set",
    patients="51 COVID-19, 28 CAP, 51 normal",
    labels="diagnosis",
    licence="none stated",
    size="not stated",
    page="https://doi.org/10.34740/kaggle/dsv/2866458",
    citation="Heidarian et al. 2021, doi:10.34740/kaggle/dsv/2866458",
    command="convert_spgc_covid SOURCE TARGET",
)
TEST_SET = re.compile(r"(?:.*[-_ ])?test[-_ ]?(?:set|data)?[-_ ]?(\d)", re.IGNORECASE)
# Names of the columns, letters and digits only.
PATIENT_COLUMNS = (
    "patient",
    "patientid",
    "patients",
    "case",
    "caseid",
    "subject",
    "subjectid",
    "folder",
    "folderid",
    "id",
)
LABEL_COLUMNS = ("label", "labels", "diagnosis", "class", "groundtruth", "type")
SET_COLUMNS = ("testset", "test", "set")
MOST_LEVELS = 5


@dataclass(frozen=True)
class ListedPatient:
    """A patient of a test set.

    Args:
        path: folder of the DICOM series; None when a patient is labelled but not there.
        test_set: number of the test set; empty if unknown.
        folder_label: class of the folders above; empty if they have none.
    """

    path: Path | None
    test_set: str
    folder_label: str


def convert_spgc_covid(
    source: str | Path, target: str | Path, labels: str | Path = "", train: str | Path = "", normals: bool = False
) -> Path:
    """Create the datalist of the test sets of SPGC-COVID; its scans stay where they are.

    Args:
        source: the unpacked test sets, at any depth.
        target: new or empty folder. It appears when the conversion is complete.
        labels: CSV with a patient and a label (COVID-19, CAP, Normal) in each row; not needed if the folders above the
            patients are named after the classes.
        train: training datalist, or its folder; the conversion is refused if a test scan is also in it. Reads all
            scans of both, some seconds each.
        normals: list normal scans too, with the label ``normal``.

    Returns:
        The datalist; each case has its ``test_set``. ``left_out.csv`` lists the skipped scans.

    Raises:
        ValueError: when there are no such folders, the table has another form, no scan can be used, a test scan is in
            the training datalist, or the target is not an empty folder.
    """
    root = existing_root(source)
    patients = _patients(root)
    named = _labels(Path(str(labels)).expanduser(), patients) if labels else {}
    patients |= {name: ListedPatient(None, "", "") for name in named if name not in patients}
    known = {name: named.get(name, patient.folder_label) for name, patient in patients.items()}

    def convert(name: str, patient: ListedPatient, _: Path) -> Case:
        return _case(name, patient, known[name])

    def finish(cases: Sequence[Case]) -> Sequence[Case]:
        if train:
            check_no_overlap(cases, train)
        return cases

    return convert_cases(root, target, patients, convert, normals_left_out(known, normals), finish)


def _patients(root: Path) -> dict[str, ListedPatient]:
    patients: dict[str, ListedPatient] = {}
    for folder in sorted(_series(root), key=lambda path: natural_key(str(path))):
        above = (root.name, *folder.relative_to(root).parts[:-1])
        test_set = next((match[1] for part in reversed(above) if (match := TEST_SET.fullmatch(part))), "")
        label = next((name for part in reversed(above) if (name := diagnosis(part.split(" ")[0]))), "")
        name = f"test{test_set}_{folder.name}"
        if name in patients:
            raise ValueError(f"Data set {root} has two folders of the patient {name}. Remove one of them.")
        patients[name] = ListedPatient(folder, test_set, label)
    if not patients:
        raise ValueError(
            f"Data set {root} has no patients. Expected folders such as Test-1/<patient>/ with DICOM files: unpack the "
            "archives and give the folder that contains them."
        )
    return patients


def _series(folder: Path, levels: int = MOST_LEVELS) -> Iterator[Path]:
    """Folders that directly hold DICOM files."""
    for inner in folder.iterdir():
        if not inner.is_dir() or inner.name.startswith("."):
            continue
        if holds_dicom(inner):
            yield inner
        elif levels > 1:
            yield from _series(inner, levels - 1)


def _labels(path: Path, patients: Mapping[str, ListedPatient]) -> dict[str, str]:
    """Label of each row by case id; a patient without a folder keeps the name of the table."""
    rows = read_rows(path)
    columns = list(rows[0])
    names = {plain_name(column): column for column in columns}
    patient, label, test_set = (
        next((names[name] for name in known if name in names), "")
        for known in (PATIENT_COLUMNS, LABEL_COLUMNS, SET_COLUMNS)
    )
    if not patient or not label:
        raise ValueError(f"Table {path} has the columns {', '.join(columns)}. Expected patient and label.")
    found: dict[str, str] = {}
    for row in rows:
        number = "".join(re.findall(r"\d", row[test_set])) if test_set else ""
        name, meant = row[patient].strip(), diagnosis(row[label])
        same = [key for key, one in patients.items() if _is(one, name, number)]
        if not meant or len(same) > 1 or (same or [name])[0] in found:
            problem = f"label {row[label]!r}" if not meant else "a name that occurs more than once"
            raise ValueError(
                f"Table {path}: patient {name} has {problem}. Expected COVID-19, CAP or Normal once for each patient; "
                "if two test sets have the same names, add the column test set (1 to 4)."
            )
        found[(same or [name])[0]] = meant
    return found


def _is(patient: ListedPatient, name: str, test_set: str) -> bool:
    return patient.path is not None and patient.path.name == name and test_set in ("", patient.test_set)


def _case(name: str, patient: ListedPatient, label: str) -> Case:
    if patient.path is None:
        raise ValueError(f"Case {name}: it has a label, but no folder with DICOM files. Unpack all archives.")
    if not label:
        raise ValueError(f"Case {name}: there is no label. Add a row to the table and give it with --labels.")
    if patient.folder_label not in ("", label):
        raise ValueError(f"Case {name}: the table says {label}, the folder {patient.folder_label}.")
    case = {"case_id": name, "patient_id": name, "image": str(patient.path), "label": label}
    return dicom_case(case) | ({"test_set": patient.test_set} if patient.test_set else {})
