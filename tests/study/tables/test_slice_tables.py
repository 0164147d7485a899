from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from custom_components.study.figures.slice_figures import draw_slice_profiles
from custom_components.study.report.cap_report import cap_report
from custom_components.study.results.slice_scores import LUNG_AREA, MASK, REGIONS, slice_scores
from custom_components.study.tables.slice_tables import SCANS, slice_tables
from custom_components.study.tables.table_files import csv_text

from tests.study.labelled_by_hand import labelled_results
from tests.study.results_by_hand import SYSTEMS


@pytest.fixture(scope="module")
def scores(labelled):
    return slice_scores(labelled.slices)


@pytest.fixture(scope="module")
def tables(labelled, scores):
    return dict(slice_tables(labelled, scores, 200))


def test_each_set_has_a_row_per_class_and_region_and_a_column_per_source(tables):
    assert list(tables) == ["tv", "test"]
    for table in tables.values():
        assert list(table.frame.columns) == [LUNG_AREA, MASK, *SYSTEMS[:-1], SCANS]
        titles = [region.title for region in REGIONS]
        assert list(table.frame.index) == [(name, title) for name in ("COVID-19", "CAP") for title in titles]
    assert "Approximation: lobes are not segmented" in tables["tv"].note
    assert "mean of the AUC over the fold models" in tables["test"].note


@pytest.mark.parametrize(("name", "source"), [("tv", MASK), ("tv", SYSTEMS[1]), ("test", SYSTEMS[2])])
def test_a_cell_is_the_median_over_scans_of_the_mean_over_models(labelled, scores, tables, name, source):
    cases = labelled.cases[(labelled.cases["set"] == name) & (labelled.cases["label"] == 1)]["case_id"].head(5)
    means = []
    for case_id in cases:
        own = scores[(scores["set"] == name) & (scores["case_id"] == case_id) & (scores["source"] == source)]
        own = own[own["region"] == "Right lung"]["auc"]
        assert len(own) == (3 if name == "test" and source != MASK else 1)
        means.append(own.mean())
    cell = tables[name].frame.loc[("COVID-19", "Right lung"), source]
    assert cell.value == pytest.approx(np.median(means))
    assert (cell.n, tables[name].frame.loc[("COVID-19", "Right lung"), SCANS]) == (5, 5)
    assert min(means) <= cell.low <= cell.value <= cell.high <= max(means)


def test_patients_are_drawn_and_not_scans(labelled, scores):
    one = labelled.cases.assign(patient_id=labelled.cases["label"].astype(str))
    table = next(table for _, table in slice_tables(replace(labelled, cases=one), scores, 50))
    cell = table.frame.loc[("CAP", "Both lungs"), MASK]
    assert cell.n == 5
    assert np.isnan(cell.low)


def test_labels_without_lobes_leave_the_lobes_empty(labelled):
    results = replace(labelled, slices=labelled_results(labelled, lobes=False))
    table = next(table for _, table in slice_tables(results, slice_scores(results.slices), 50))
    assert str(table.frame.loc[("CAP", "Left upper lobe"), MASK]) == "\N{EN DASH} (n = 0)"
    assert table.frame.loc[("CAP", "Left upper lobe"), SCANS] == 0
    assert table.frame.loc[("CAP", "Both lungs"), SCANS] == 5


def test_a_set_or_class_without_labels_is_left_out(labelled, scores):
    covid = labelled.cases.loc[labelled.cases["label"] == 1, "case_id"]
    own = scores[(scores["set"] == "tv") & scores["case_id"].isin(covid)]
    [(name, table)] = slice_tables(labelled, own, 50)
    assert name == "tv"
    assert set(table.frame.index.get_level_values(0)) == {"COVID-19"}


@pytest.mark.slow
def test_the_report_has_the_section_only_with_labels(diagnoses, labelled):
    scores = slice_scores(diagnoses.slices)
    assert [*slice_tables(diagnoses, scores, 20), *draw_slice_profiles(diagnoses, scores)] == []
    (section,) = [section for section in cap_report(labelled, 20).filled() if section.key == "slices"]
    names = [block.name for block in section.blocks]
    assert names == ["slices_tv", "slices_tv", "slices_test", "slices_test", "slice_profiles_tv", "slice_profiles_test"]


def test_the_csv_has_median_limits_and_number_of_scans(tables):
    rows = pd.read_csv(pd.io.common.StringIO(csv_text(tables["tv"])))
    cell = rows[(rows["class"] == "CAP") & (rows["labels of"] == "Both lungs") & (rows["column"] == MASK)].iloc[0]
    assert cell["low"] <= cell["value"] <= cell["high"]
    assert cell["n"] == 5
