import numpy as np
import pandas as pd
import pytest
from custom_components.study.tables.demographics_table import demographics_table, descriptive_columns

HOW = ("median (range)", "mean ± sd")


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


def sixteen_patients(**columns):
    ids = [[f"{number}{letter}" for letter in "abcd"] for number in range(4)]
    return pd.concat([cases(case_id=own, patient_id=own) for own in ids]).assign(**columns)


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


def test_the_ratio_is_summarised_over_the_scans_that_have_one():
    found = texts(cases())
    assert {name for name, _ in found} == {"Images", "Patients", *(f"Infection ratio, {how}" for how in HOW)}
    assert found["Infection ratio, median (range)", "COVID-19"] == ["0.2000 (0.1000 to 0.5000)"]
    assert found["Infection ratio, median (range)", "CAP"][0].endswith("(n = 0)")


def test_a_text_column_is_counted_by_patient_with_a_row_for_unknown():
    found = texts(cases(sex=["F", "F", "M", None]))
    assert [found["sex: F", name] for name in ("COVID-19", "CAP", "Total")] == [["1"], ["0"], ["1"]]
    assert found["sex: unknown", "Total"] == ["1"]


@pytest.mark.parametrize("column", ["PatientName", "birth_date", "study_uid", "mrn", "AccessionNumber", "hospital_id"])
def test_a_column_that_may_identify_a_person_is_never_shown(column):
    frame = cases(**{column: ["Doe^Jane"] * 4})
    assert descriptive_columns(frame) == []
    assert not any("Doe" in str(part) for part in texts(frame).items())


def test_a_column_of_many_texts_or_invalid_ages_is_omitted_with_a_note():
    many = sixteen_patients(scanner=[f"scanner {number}" for number in range(16)], age="?")
    table = demographics_table(many, ("tv",))
    assert "scanner, age" in table.note
    assert not any("scanner" in name or "Age" in name for name, _ in table.frame.index)


def test_many_numbers_are_measured_and_not_counted():
    found = texts(sixteen_patients(slice_mm=np.linspace(0.5, 2, 16)))
    assert found["slice_mm, median (range)", "Total"] == ["1.2 (0.5 to 2.0)"]
