import numpy as np
import pandas as pd
import pytest
from custom_components.study.tables.demographics_table import demographics_table, descriptive_columns


def cases(**columns):
    """Four scans of three patients: two COVID-19 scans of one patient, one COVID-19, one CAP."""
    rows = {
        "set": ["tv"] * 4,
        "case_id": ["c", "a", "b", "d"],
        "patient_id": ["one", "one", "two", "three"],
        "label": [1, 1, 1, 0],
        "ratio": [0.5, 0.1, 0.2, np.nan],
        "fold": [0, 0, 1, 1],
    }
    return pd.DataFrame({**rows, **columns})


def texts(frame, sets=("tv",)):
    table = demographics_table(frame, sets)
    return {
        key: [str(cell) for cell in row] for key, row in zip(table.frame.index, table.frame.to_numpy(), strict=True)
    }


def test_images_are_counted_by_scan_and_patients_once():
    found = texts(cases())
    assert [found["Images", name] for name in ("COVID-19", "CAP", "Total")] == [["3"], ["1"], ["4"]]
    assert [found["Patients", name] for name in ("COVID-19", "CAP", "Total")] == [["2"], ["1"], ["3"]]


def test_age_is_that_of_each_patients_first_scan_as_median_with_range_and_mean_with_sd():
    found = texts(cases(age=["99", "050Y", "60", "70"]))
    assert found["Age in years, median (range)", "COVID-19"] == ["55.0 (50.0 to 60.0)"]
    assert found["Age in years, mean ± sd", "Total"] == ["60.0 ± 10.0"]


def test_the_ratio_is_that_of_scans_and_of_those_alone_that_have_one():
    found = texts(cases())
    assert found["Infection ratio, median (range)", "COVID-19"] == ["0.2000 (0.1000 to 0.5000)"]
    assert found["Infection ratio, median (range)", "CAP"][0].endswith("(n = 0)")


def test_a_column_of_words_is_counted_by_patient_and_what_is_unknown_is_a_row():
    found = texts(cases(sex=["F", "F", "M", None]))
    assert [found["sex: F", name] for name in ("COVID-19", "CAP", "Total")] == [["1"], ["0"], ["1"]]
    assert found["sex: unknown", "Total"] == ["1"]


def test_nothing_is_invented_for_columns_that_are_not_there():
    characteristics = {name for name, _ in texts(cases())}
    assert characteristics == {"Images", "Patients", "Infection ratio, median (range)", "Infection ratio, mean ± sd"}


@pytest.mark.parametrize("column", ["PatientName", "birth_date", "study_uid", "mrn", "AccessionNumber", "hospital_id"])
def test_a_column_that_may_name_somebody_is_never_shown(column):
    frame = cases(**{column: ["Doe^Jane"] * 4})
    assert descriptive_columns(frame) == []
    assert not any("Doe" in str(part) for part in texts(frame).items())


def test_a_column_of_many_names_or_of_bad_ages_is_left_out_and_said():
    many = pd.concat(
        [cases(case_id=[f"{n}{c}" for c in "abcd"], patient_id=[f"{n}{c}" for c in "abcd"]) for n in range(4)]
    )
    table = demographics_table(many.assign(scanner=[f"scanner {n}" for n in range(16)], age="?"), ("tv",))
    assert "scanner, age" in table.note
    assert not any("scanner" in name or "Age" in name for name, _ in table.frame.index)


def test_many_numbers_are_measured_and_not_counted():
    many = pd.concat(
        [cases(case_id=[f"{n}{c}" for c in "abcd"], patient_id=[f"{n}{c}" for c in "abcd"]) for n in range(4)]
    )
    found = texts(many.assign(slice_mm=np.linspace(0.5, 2, 16)))
    assert found["slice_mm, median (range)", "Total"] == ["1.2 (0.5 to 2.0)"]
