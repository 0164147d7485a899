"""Report of a covid_cap_bundle study: tables and figures in order."""

from custom_components.study.figures.cap_figures import (
    draw_attention_sheets,
    draw_auc_folds,
    draw_size_distribution,
    draw_subgroups,
)
from custom_components.study.figures.curves import draw_reliability, draw_roc_panels
from custom_components.study.figures.slice_figures import draw_slice_aucs, draw_slice_profiles
from custom_components.study.report.study_report import Report, Section
from custom_components.study.results.slice_scores import slice_scores
from custom_components.study.results.study_results import PAPER, ClassificationResults
from custom_components.study.tables.comparison_tables import comparison_table, t_test_table
from custom_components.study.tables.demographics_table import demographics_table
from custom_components.study.tables.interval_tables import fold_table, interval_table, subgroup_tables
from custom_components.study.tables.model_scores import SET_TITLES
from custom_components.study.tables.slice_tables import slice_tables
from custom_components.study.tables.system_tables import (
    attention_table,
    calibration_table,
    ensemble_table,
    ratio_table,
    systems_table,
)


def cap_report(results: ClassificationResults, resamples: int) -> Report:
    """Create all tables and figures.

    Raises:
        ValueError: if the results are inconsistent; the message names a case.
    """
    titles = {name: SET_TITLES[name] for name in results.sets}
    intervals = interval_table(results, resamples)
    groups = dict(subgroup_tables(results, resamples))
    forests = [block for name, table in groups.items() for block in (table, draw_subgroups(name, table))]
    t_test = [t_test_table(results)] if PAPER in results.protocols else []
    sizes, roc = draw_size_distribution(results.cases, titles), draw_roc_panels(results)
    reliability, sheets = draw_reliability(results), draw_attention_sheets(results)
    slices = slice_scores(results.slices)
    by_slice = [b for name, t in slice_tables(results, slices, resamples) for b in (draw_slice_aucs(name, t), t)]
    sections = [
        Section("data", "Data", [demographics_table(results.cases, results.sets), sizes]),
        Section("systems", "Systems", [systems_table(results), roc, intervals]),
        Section("ratio", "By size of the infection", [ratio_table(results)]),
        Section("pairs", "Pairwise comparison of systems", [comparison_table(results, resamples), *t_test]),
        Section("calibration", "Calibration", [calibration_table(results), reliability]),
        Section("groups", "By group of scans", forests),
        Section("folds", "Folds", [draw_auc_folds(results), fold_table(results)]),
        Section("ensemble", "Ensemble", [ensemble_table(results)]),
        Section("attention", "Attention", [attention_table(results, resamples), *sheets]),
        Section("slices", "Slice and lobe labels", [*by_slice, *draw_slice_profiles(results, slices)]),
    ]
    title = "COVID-19 or community-acquired pneumonia: study report"
    return Report(title, results.protocols, results.failed, sections)
