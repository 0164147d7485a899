"""What the report of a study of covid_cap_bundle holds, in order."""

from custom_components.study.figures.cap_figures import draw_attention_sheets, draw_auc_folds, draw_subgroups
from custom_components.study.figures.reliability_figure import draw_reliability
from custom_components.study.figures.roc_panels import draw_roc_panels
from custom_components.study.figures.size_distribution import draw_size_distribution
from custom_components.study.report.section import Section, filled
from custom_components.study.results.predicted_scans import predicted_scans, sets_of
from custom_components.study.results.study_results import ClassificationResults
from custom_components.study.tables.attention_table import attention_table
from custom_components.study.tables.calibration_table import calibration_table
from custom_components.study.tables.comparison_tables import comparison_table, t_test_table
from custom_components.study.tables.demographics_table import demographics_table
from custom_components.study.tables.ensemble_table import ensemble_table
from custom_components.study.tables.interval_tables import fold_table, interval_table, subgroup_tables
from custom_components.study.tables.missing_predictions import SET_TITLES
from custom_components.study.tables.system_tables import ratio_table, systems_table


def cap_sections(results: ClassificationResults, resamples: int) -> list[Section]:
    """Make all tables and figures.

    Args:
        results: of the study.
        resamples: of every bootstrap.

    Returns:
        The sections that have something to show.

    Raises:
        ValueError: naming a case, when the results contradict themselves.
    """
    scans, sets = predicted_scans(results), sets_of(results)
    titles = {name: SET_TITLES[name] for name in sets}
    intervals = interval_table(results, scans, resamples)
    groups = dict(subgroup_tables(results, scans, resamples))
    forests = [block for name, table in groups.items() for block in (table, draw_subgroups(name, table))]
    t_test = [t_test_table(results, scans)] if results.is_paper_protocol else []
    sizes, roc = draw_size_distribution(results.cases, titles), draw_roc_panels(scans, results.systems)
    reliability, sheets = draw_reliability(scans, results.systems, titles), draw_attention_sheets(results, scans)
    return filled(
        [
            Section("data", "Data", [demographics_table(results.cases, sets), sizes]),
            Section("systems", "Systems", [systems_table(results, scans), roc, intervals]),
            Section("ratio", "By size of the infection", [ratio_table(results, scans)]),
            Section("pairs", "Systems in pairs", [comparison_table(results, scans, resamples), *t_test]),
            Section("calibration", "Calibration", [calibration_table(results, scans), reliability]),
            Section("groups", "By group of scans", forests),
            Section("folds", "Folds", [draw_auc_folds(results, scans), fold_table(results, scans)]),
            Section("ensemble", "Ensemble", [ensemble_table(results)]),
            Section("attention", "Attention", [attention_table(results, scans, resamples), *sheets]),
        ]
    )
