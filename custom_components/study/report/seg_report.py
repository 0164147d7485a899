"""Report of a covid_seg_bundle study: tables and figures in order."""

from custom_components.study.figures.seg_figures import draw_dice_folds, draw_lesions, draw_overlay_sheets
from custom_components.study.report.study_report import Report, Section
from custom_components.study.results.study_results import SegmentationResults
from custom_components.study.tables.lesion_tables import data_table, lesion_fold_table, lesion_table
from custom_components.study.tables.network_tables import network_comparison_table, network_tables, protocol_table


def seg_report(results: SegmentationResults, resamples: int) -> Report:
    """Create all tables and figures.

    Raises:
        ValueError: if the results are inconsistent; the message names a case.
    """
    networks = list(network_tables(results, resamples))
    ablations = dict(zip(results.protocols, networks[1::2], strict=True))
    lesions = {name: lesion_table(results, name, resamples) for name in results.protocols}
    folds = {name: lesion_fold_table(results, name) for name in results.protocols}
    dots = [draw_dice_folds(results, folds)] if len(results.scores) else []
    protocols = [protocol_table(results, resamples)] if len(results.protocols) > 1 else []
    sections = [
        Section("data", "Data", [data_table(results)]),
        Section("networks", "Networks", networks),
        Section("protocols", "Random slices", protocols),
        Section("lesions", "Lesion classes", [draw_lesions(results, ablations, lesions), *lesions.values()]),
        Section("pairs", "Pairwise comparison of networks", [network_comparison_table(results, resamples)]),
        Section("folds", "Folds", [*dots, *folds.values()]),
        Section("overlays", "Segmented cases", list(draw_overlay_sheets(results))),
    ]
    title = "COVID-19 lesions on chest CT: study report"
    return Report(title, results.protocols, results.failed, sections)
