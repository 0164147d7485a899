"""Figures of both kinds of study: what is in them, and their files."""

import io
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from custom_components.study.figures.cap_figures import (
    draw_attention_sheets,
    draw_auc_folds,
    draw_size_distribution,
    draw_subgroups,
)
from custom_components.study.figures.contact_sheet import Picture, draw_contact_sheets
from custom_components.study.figures.curves import draw_reliability, draw_roc_panels
from custom_components.study.figures.drawing import WIDTH_MM, Drawing, drawing_files, new_figure, print_style
from custom_components.study.figures.seg_figures import draw_dice_folds, draw_lesions, draw_overlay_sheets
from custom_components.study.figures.slice_figures import draw_slice_aucs, draw_slice_profiles
from custom_components.study.results.slice_scores import LUNG_AREA, MASK, REGIONS, lung_share, slice_scores
from custom_components.study.tables.interval_tables import subgroup_tables
from custom_components.study.tables.lesion_tables import lesion_fold_table, lesion_table
from custom_components.study.tables.network_tables import network_tables
from custom_components.study.tables.slice_tables import slice_tables
from PIL import Image

from tests.study.labelled_by_hand import labelled_results
from tests.study.results_by_hand import NETWORKS, SYSTEMS, classification_results

SETS = {"tv": "TV set", "test": "Test set"}


def captions(*sheets):
    texts = [" ".join(axes.get_title("left").split()) for sheet in sheets for axes in sheet.figure.axes]
    return [text for text in texts if text]


def test_a_figure_is_a_png_and_a_pdf_of_print_size_with_the_same_bytes_each_time(diagnoses):
    drawings = [draw_roc_panels(diagnoses) for _ in range(2)]
    files = drawing_files(drawings[0])
    assert files == drawing_files(drawings[1])
    assert files["roc.pdf"].startswith(b"%PDF")
    with Image.open(io.BytesIO(files["roc.png"])) as picture:
        width_mm = picture.width / picture.info["dpi"][0] * 25.4
    assert width_mm == pytest.approx(WIDTH_MM, rel=0.01)


def test_dollar_signs_in_the_data_are_not_formulas():
    with print_style():
        figure = new_figure(30)
        figure.subplots().set_title("$\\frac{site$")
    assert drawing_files(Drawing("odd", "", "", figure))["odd.png"].startswith(b"\x89PNG")


def test_the_pooled_folds_and_each_model_have_a_roc_panel(diagnoses, tmp_path):
    drawing = draw_roc_panels(diagnoses)
    models = [f"{letter} Test set, model of fold {fold}" for fold, letter in enumerate("BCD")]
    assert captions(drawing) == ["A Cross-validation, 3 folds", *models]
    assert [len(axes.get_lines()) for axes in drawing.figure.axes if axes.axison] == [1 + len(SYSTEMS)] * 4
    alone = draw_roc_panels(classification_results(tmp_path, n_test=(0, 0)))
    assert captions(alone)[1:] == [f"{letter} Validation, fold {fold}" for fold, letter in enumerate("BCD")]


def test_a_set_of_one_class_has_no_curve_and_says_why(tmp_path):
    one_class = classification_results(tmp_path, n_test=(5, 0))
    panel = draw_roc_panels(one_class).figure.axes[1]
    assert panel.get_lines() == []
    assert "one class only\n(n = 5)" in panel.texts[0].get_text()


def test_a_roc_curve_is_computed_from_its_scans(diagnoses):
    line = draw_roc_panels(diagnoses).figure.axes[0].get_lines()[1]
    rows = diagnoses.of_system("tv", SYSTEMS[0])
    sensitivity = np.mean(rows.loc[rows["label"] == 1, "probability"] >= rows["probability"].median())
    assert any(np.isclose(line.get_ydata(), sensitivity))
    assert line.get_label() == "0.920"


def test_the_bars_contain_every_scan_of_known_ratio_and_lines_mark_the_papers_ratios(diagnoses):
    panels = draw_size_distribution(diagnoses.cases, SETS).figure.axes
    for axes, (covid, cap) in zip(panels, [(23, 30), (19, 12)], strict=True):
        assert [sum(bar.get_height() for bar in bars) for bars in axes.containers] == [covid, -cap]
        dotted = [line.get_xdata()[0] for line in axes.get_lines() if line.get_linestyle() == ":"]
        assert dotted == pytest.approx([0.5, 3.0])  # percent of the lungs


def test_scans_without_any_infection_are_in_the_first_bar():
    cases = pd.DataFrame({"set": "tv", "label": [1, 1, 0], "ratio": [0.0, 0.00005, 1.0]})
    covid, cap = draw_size_distribution(cases, {"tv": "TV set"}).figure.axes[0].containers
    assert covid[0].get_height() == 2
    assert cap[-1].get_height() == -1


def test_reliability_has_a_line_for_the_joined_folds_and_one_for_each_test_model(diagnoses):
    panels = draw_reliability(diagnoses).figure.axes
    assert [len(axes.collections) for axes in panels] == [1] * 4 + [3] * 4


def test_a_fold_without_a_score_has_no_dot(diagnoses):
    gone = (diagnoses.predictions["system"] == SYSTEMS[1]) & (diagnoses.predictions["fold"] == 2)
    results = replace(diagnoses, predictions=diagnoses.predictions[~gone])
    axes = draw_auc_folds(results).figure.axes[0]
    dots = {
        line.get_label(): np.isfinite(line.get_ydata()).sum()
        for line in axes.get_lines()
        if line.get_label() in SYSTEMS
    }
    assert dots == {SYSTEMS[0]: 3, SYSTEMS[1]: 2, SYSTEMS[2]: 3, SYSTEMS[3]: 3}


def test_each_group_of_a_forest_has_its_line_and_its_counts(diagnoses):
    name, table = next(subgroup_tables(diagnoses, 20))
    first = draw_subgroups(name, table).figure.axes[0]
    labels = [label.get_text() for label in first.get_yticklabels()]
    assert labels[0] == "all scans (23 / 30)"
    assert "sex" in labels
    assert "0 - 17 (0 / 0)" in labels
    shown = first.get_lines()[0].get_ydata()
    assert labels.index("0 - 17 (0 / 0)") not in shown
    assert 0 in shown


def test_pictures_keep_their_order_over_as_many_sheets_as_pages_need(tmp_path):
    paths = []
    for number in range(7):
        paths.append(tmp_path / f"{number}.png")
        Image.new("RGB", (300, 150 + number), (number, 0, 0)).save(paths[-1])
    sheets = draw_contact_sheets("attention", "Attention", "", [Picture(path, path.stem) for path in paths])
    assert [sheet.name for sheet in sheets] == ["attention", "attention_2", "attention_3", "attention_4"]
    assert sheets[1].title == "Attention (2 of 4)"
    assert captions(*sheets) == list("0123456")
    reds = [axes.get_images()[0].get_array()[0, 0, 0] for sheet in sheets for axes in sheet.figure.axes]
    assert reds == list(range(7))
    assert all(sheet.figure.get_figheight() * 25.4 <= 225 for sheet in sheets)


def test_failures_have_their_own_sheet_and_captions_give_class_size_and_probability(diagnoses):
    wrong = (diagnoses.predictions["case_id"] == "tv_covid_03") & (diagnoses.predictions["system"] == SYSTEMS[-1])
    predictions = diagnoses.predictions.assign(probability=diagnoses.predictions["probability"].where(~wrong, 0.125))
    results = replace(diagnoses, predictions=predictions)
    panels = tuple(
        replace(panel, right=SYSTEMS[:1], wrong=SYSTEMS[1:]) if panel.case_id == "tv_covid_03" else panel
        for panel in diagnoses.panels
    )
    sheets = {sheet.name: sheet for sheet in draw_attention_sheets(replace(results, panels=panels))}
    assert list(sheets) == ["attention_tv", "failures_tv", "attention_test"]
    (caption,) = captions(sheets["failures_tv"])
    assert caption.startswith("tv_covid_03: COVID-19, infection ")
    own = results.of_system("tv", SYSTEMS[0]).set_index("case_id").loc["tv_covid_03"]
    assert f"Models of fold {own['fold']}: RN34 + US {own['probability']:.3f}, " in caption
    assert caption.endswith("; Attention RN34 + DS* 0.125, wrong.")
    assert caption.count("*") == 3
    assert "secret" not in caption
    shown = [text.split(":")[0] for text in captions(sheets["attention_tv"])]
    assert shown[-1] == "tv_cap_04"
    assert sorted(shown[:-1]) == ["tv_covid_02", "tv_covid_03"]
    (tested,) = captions(sheets["attention_test"])
    assert tested.startswith("test_covid_05: COVID-19, ")
    assert "Models of fold 0: " in tested


def test_each_region_has_a_line_for_the_mask_and_each_system_and_each_class_a_panel(labelled):
    name, table = next(slice_tables(labelled, slice_scores(labelled.slices), 20))
    panels = draw_slice_aucs(name, table).figure.axes
    labels = [label.get_text() for label in panels[0].get_yticklabels()]
    assert labels[:7] == ["Both lungs", LUNG_AREA, MASK, *SYSTEMS[:-1], "Left lung"]
    assert len(labels) == 1 + len(REGIONS) * 5
    assert [axes.get_title("left") for axes in panels] == ["COVID-19 (up to 5 scans)", "CAP (up to 5 scans)"]
    shown = panels[1].get_lines()[0].get_xdata()
    assert shown[0] == table.frame.loc[("CAP", "Both lungs"), LUNG_AREA].value


def test_regions_without_a_score_have_no_line(labelled):
    results = replace(labelled, slices=labelled_results(labelled, per_class=1, lobes=False))
    name, table = next(slice_tables(results, slice_scores(results.slices), 20))
    labels = [label.get_text() for label in draw_slice_aucs(name, table).figure.axes[0].get_yticklabels()]
    assert labels == ["Both lungs", LUNG_AREA, MASK, *SYSTEMS[:-1]]


def test_profiles_are_of_the_worst_the_median_and_the_best_scan_with_marked_slices_shaded(labelled):
    scores = slice_scores(labelled.slices)
    drawing = next(draw_slice_profiles(labelled, scores))
    own = scores[(scores["set"] == "tv") & (scores["source"] == MASK) & (scores["region"] == "Both lungs")]
    ranked = own[own["case_id"].str.startswith("tv_covid")].sort_values("auc")
    titles = [axes.get_title("left") for axes in drawing.figure.axes[::2]]
    chosen = ranked.iloc[[0, 2, 4]]
    assert [title.split()[1] for title in titles] == chosen["case_id"].tolist()
    assert [title.split("(")[1][:4] for title in titles] == [f"{auc:.2f}" for auc in chosen["auc"]]
    axes = drawing.figure.axes[0]
    assert [line.get_label() for line in axes.get_lines()] == [MASK, *SYSTEMS[:-1]]
    rows = labelled.slices[labelled.slices["case_id"] == chosen["case_id"].iloc[0]]
    rows = rows[rows["system"] == SYSTEMS[0]].sort_values("slice")
    assert axes.get_lines()[0].get_ydata() == pytest.approx(100 * lung_share(rows, "infection"))
    assert axes.collections[0].get_label() == "marked"


def test_overlays_show_each_network_of_a_case_in_turn(segmentations):
    sheets = list(draw_overlay_sheets(segmentations))
    assert [sheet.name for sheet in sheets] == ["overlays_group", "overlays_paper"]
    shown = captions(sheets[0])
    assert [caption.split(":")[0] for caption in shown] == [f"case_01, {network}" for network in NETWORKS]
    assert "ground-glass" in shown[0]
    assert "effusion" not in shown[0]


def test_selected_cases_span_best_to_worst(segmentations):
    path = next(iter(segmentations.overlays.values()))
    many = {("M", "group", case_id): path for case_id in segmentations.cases["case_id"]}
    shown = [text.split(",")[0] for text in captions(*draw_overlay_sheets(replace(segmentations, overlays=many)))]
    scores = segmentations.scores
    own = scores[(scores["network"] == "M") & (scores["protocol"] == "group") & scores["augmented"]]
    ranked = own.groupby("case_id")["dice"].mean().sort_values(ascending=False).index.tolist()
    assert shown == [ranked[0], ranked[7], ranked[14]]


def test_lesion_classes_and_networks_have_a_line_each_and_protocols_a_panel(segmentations):
    networks = {p: t for p, t in zip(("group", "paper"), list(network_tables(segmentations, 20))[1::2], strict=True)}
    lesions = {p: lesion_table(segmentations, p, 20) for p in networks}
    panels = draw_lesions(segmentations, networks, lesions).figure.axes
    labels = [label.get_text() for label in panels[0].get_yticklabels()]
    assert labels[:5] == ["mean of the classes", *NETWORKS]
    assert len(labels) == 4 * 5
    assert panels[0].get_title("left") == "group\nwith augmentation"
    assert len(panels) == 4
    assert {axes.get_xlabel() for axes in panels} == {"Dice"}


def test_the_folds_of_each_protocol_have_a_row(segmentations):
    tables = {p: lesion_fold_table(segmentations, p) for p in ("group", "paper")}
    panels = draw_dice_folds(segmentations, tables).figure.axes
    assert [axes.get_ylabel() for axes in panels[::2]] == ["Dice (protocol group)", "Dice (protocol paper)"]
    values = panels[0].get_lines()[0].get_ydata()
    assert values == pytest.approx([cell.value for cell in tables["group"].frame.loc[("M", "yes")].iloc[:3]])
