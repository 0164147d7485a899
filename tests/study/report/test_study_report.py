import base64
import io
import json
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from custom_components.study.report.study_report import FILES_KEY, write_study
from custom_components.study.results.study_results import FailedRun
from PIL import Image

from tests.browser import Browser
from tests.html_tags import Tags
from tests.study.results_by_hand import SYSTEMS, classification_results, report_of

RESAMPLES = 10
PROVENANCE = {"versions": {"monai": "1.6.1"}, "seeds": [0, 1], "data": {"tv": {"sha256": "ab" * 32}}, "gpu": None}
PROTOCOLS = ("group", "paper")
INJECTION = '<script>alert("x")</script>'


def written(results, folder):
    return write_study(report_of(results, RESAMPLES), PROVENANCE, folder).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def folder(diagnoses, tmp_path_factory):
    return write_study(report_of(diagnoses, RESAMPLES), PROVENANCE, tmp_path_factory.mktemp("study")).parent


@pytest.fixture(scope="module")
def seg_folder(segmentations, tmp_path_factory):
    return write_study(report_of(segmentations, RESAMPLES), PROVENANCE, tmp_path_factory.mktemp("seg")).parent


@pytest.fixture(scope="module")
def small(segmentations):
    """The quickest study there is: one network under one protocol."""
    scores = segmentations.scores
    own = (scores["network"] == "M") & (scores["protocol"] == "group")
    return replace(segmentations, scores=scores[own], networks=("M",), protocols={"group": "By group."}, overlays={})


@pytest.fixture
def blank_figures(monkeypatch):
    """Files of one size instead of drawings, which take most of a report's time."""

    def files(drawing):
        picture = io.BytesIO()
        Image.new("RGB", (8, 8)).save(picture, "png")
        return {f"{drawing.name}.png": picture.getvalue(), f"{drawing.name}.pdf": b"%PDF"}

    monkeypatch.setattr("custom_components.study.report.study_report.drawing_files", files)


def names(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def contents(folder, pattern):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob(pattern)}


def test_every_table_has_three_formats_and_every_figure_two(folder):
    tables = (
        *("table_1_demographics", "table_2_systems", "table_3_ratio_groups", "intervals", "comparisons"),
        *("calibration", "subgroups_tv", "subgroups_test", "folds", "ensemble", "attention_overlap"),
    )
    figures = {"roc", "size_distribution", "reliability", "folds", "subgroups_tv", "subgroups_test"}
    figures |= {"attention_tv", "attention_test"}
    texts = {f"tables/{name}.{suffix}" for name in tables for suffix in ("md", "csv", "tex")}
    pictures = {f"figures/{name}.{suffix}" for name in figures for suffix in ("png", "pdf")}
    assert names(folder) == {*texts, *pictures, "report.html", "provenance.json"}


@pytest.mark.usefixtures("blank_figures")
def test_the_paired_t_test_is_printed_only_for_the_papers_protocol(diagnoses, folder, tmp_path):
    assert "tables/paired_t_test.md" not in names(folder)
    page = written(replace(diagnoses, protocols={"paper": "As in the paper."}), tmp_path)
    assert "tables/paired_t_test.md" in names(tmp_path)
    assert "It is not valid" in page


def test_the_page_contains_every_table_and_figure_and_links_to_no_other_site(folder):
    tags = Tags((folder / "report.html").read_text(encoding="utf-8"))
    pictures = [image["src"] for image in tags.of("img")]
    assert len(pictures) == 8
    for source in pictures:
        with Image.open(io.BytesIO(base64.b64decode(source.removeprefix("data:image/png;base64,")))) as picture:
            assert picture.width > 1000
    assert len(tags.of("caption")) == 11
    assert not tags.of("script")
    assert not tags.of("link")
    assert all(link["href"].startswith("#") for link in tags.of("a"))
    ids = {attributes["id"] for _, attributes in tags.found if "id" in attributes}
    assert {link["href"][1:] for link in tags.of("a")} <= ids
    assert "Research use only" in " ".join(tags.text)


def test_the_page_has_the_texts_of_the_tables(folder):
    page = " ".join(" ".join(Tags((folder / "report.html").read_text(encoding="utf-8")).text).split())
    frame = pd.read_csv(folder / "tables/intervals.csv", keep_default_na=False)
    for text in frame["text"]:
        assert text in page
    assert "Folds by patient; weights of the last epoch" in page


def test_no_patient_is_named_in_any_file(folder, seg_folder):
    for root in (folder, seg_folder):
        for name, content in contents(root, "*.*").items():
            if not name.endswith((".png", ".pdf")):
                assert b"secret" not in content, name


@pytest.mark.slow
def test_the_same_results_give_the_same_bytes_whatever_their_order(diagnoses, folder, tmp_path):
    shuffled = replace(
        diagnoses,
        cases=diagnoses.cases.sample(frac=1, random_state=1),
        predictions=diagnoses.predictions.sample(frac=1, random_state=2),
    )
    written(shuffled, tmp_path)
    for pattern in ("*.md", "*.csv", "*.tex", "*.png", "*.html", "*.json"):
        assert contents(tmp_path, pattern) == contents(folder, pattern)


@pytest.mark.usefixtures("blank_figures")
def test_html_in_the_data_is_shown_and_never_executed(tmp_path):
    results = classification_results(tmp_path / "panels")
    named = results.cases["site"].replace("north", INJECTION)
    page = written(replace(results, cases=results.cases.assign(site=named)), tmp_path / "study")
    assert not Tags(page).of("script")
    assert "&lt;script&gt;" in page
    for name, content in contents(tmp_path / "study", "*.md").items():
        assert b"<script" not in content.replace(b"\\<script", b""), name


@pytest.mark.usefixtures("blank_figures")
def test_failed_runs_come_first_and_are_escaped(diagnoses, tmp_path):
    failed = (FailedRun("attention_us/fold_2/train", f"CUDA {INJECTION}"),)
    gone = (diagnoses.predictions["system"] == SYSTEMS[1]) & (diagnoses.predictions["fold"] == 2)
    page = written(replace(diagnoses, failed=failed, predictions=diagnoses.predictions[~gone]), tmp_path)
    assert not Tags(page).of("script")
    assert 0 < page.index("attention_us/fold_2/train") < page.index('id="section-protocol"')


@pytest.mark.usefixtures("blank_figures")
def test_a_study_without_finished_runs_has_a_report(diagnoses, segmentations, tmp_path):
    failed = (FailedRun("us/fold_0/train", "no space left on device"),)
    nothing = replace(
        diagnoses,
        predictions=diagnoses.predictions.iloc[:0],
        ensemble=diagnoses.ensemble.iloc[:0],
        panels=(),
        failed=failed,
    )
    assert "no space left" in written(nothing, tmp_path / "cap")
    table = pd.read_csv(tmp_path / "cap/tables/table_2_systems.csv", keep_default_na=False)
    assert set(table["text"]) == {""}
    unscored = replace(segmentations, scores=segmentations.scores.iloc[:0], overlays={}, failed=failed)
    assert "no space left" in written(unscored, tmp_path / "seg")


@pytest.mark.usefixtures("blank_figures")
def test_a_single_system_has_no_comparisons(diagnoses, tmp_path):
    one = diagnoses.predictions["system"] == SYSTEMS[0]
    results = replace(
        diagnoses, predictions=diagnoses.predictions[one], systems=SYSTEMS[:1], ensemble=diagnoses.ensemble.iloc[:0]
    )
    written(results, tmp_path)
    assert not {name for name in names(tmp_path) if "comparisons" in name or "ensemble" in name}


def test_the_segmentation_report_has_both_protocols_and_their_difference(seg_folder):
    both = [f"{kind}_{p}" for kind in ("table_1_comparison", "table_2_ablation", "lesions", "folds") for p in PROTOCOLS]
    tables = {name for name in names(seg_folder) if name.endswith(".csv")}
    assert tables == {f"tables/{name}.csv" for name in ("data", "protocols", "comparisons", *both)}
    figures = {name for name in names(seg_folder) if name.endswith(".png")}
    assert figures == {f"figures/{name}.png" for name in ("folds", "lesions", *(f"overlays_{p}" for p in PROTOCOLS))}


@pytest.mark.parametrize("augmented", [True, False])
def test_one_protocol_and_one_way_of_training_have_no_tables_or_columns_of_the_other(small, tmp_path, augmented):
    scores = small.scores[small.scores["augmented"] == augmented]
    page = written(replace(small, scores=scores, augmentation=(augmented,)), tmp_path)
    table = (tmp_path / "tables/table_2_ablation_group.md").read_text(encoding="utf-8")
    assert ("With augmentation" in table, "No augmentation" in table) == (augmented, not augmented)
    assert ("With augmentation" in page) == augmented
    assert not {"tables/protocols.csv", "tables/table_2_ablation_paper.csv"} & names(tmp_path)


def test_provenance_is_kept_with_the_list_of_files(folder):
    kept = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    listed = kept.pop(FILES_KEY)
    assert kept == PROVENANCE
    assert {*listed, "report.html", "provenance.json"} == names(folder)


def test_invalid_json_is_refused_before_anything_is_written(small, tmp_path):
    with pytest.raises(ValueError, match="provenance of the study is not valid JSON"):
        write_study(report_of(small, RESAMPLES), {"seconds": float("nan")}, tmp_path / "study")
    assert not (tmp_path / "study").exists()


def test_inconsistent_results_do_not_change_the_old_report(small, tmp_path):
    written(small, tmp_path)
    before = contents(tmp_path, "*.*")
    with pytest.raises(ValueError, match="Case case_00 is scored twice"):
        written(replace(small, scores=pd.concat([small.scores, small.scores.iloc[[0]]])), tmp_path)
    assert contents(tmp_path, "*.*") == before


def test_files_of_an_earlier_report_are_removed_and_others_kept(small, segmentations, tmp_path):
    overlays = {("M", "group", "case_01"): segmentations.overlays["M", "group", "case_01"]}
    written(replace(small, overlays=overlays), tmp_path)
    assert "figures/overlays_group.png" in names(tmp_path)
    for name in ("tables/mine.csv", "figures/mine.png", "notes.md"):
        (tmp_path / name).write_text("mine", encoding="utf-8")
    written(small, tmp_path)
    assert {"tables/mine.csv", "figures/mine.png", "notes.md", "tables/data.csv"} <= names(tmp_path)
    assert "figures/overlays_group.png" not in names(tmp_path)


def test_a_list_of_files_in_other_folders_removes_nothing(small, tmp_path):
    (tmp_path / "data").mkdir()
    kept = [tmp_path / "data" / "scan.csv", tmp_path / "note.csv"]
    for path in kept:
        path.write_text("mine", encoding="utf-8")
    listed = {FILES_KEY: ["data/scan.csv", "note.csv", "tables/../note.csv"]}
    (tmp_path / "provenance.json").write_text(json.dumps(listed), encoding="utf-8")
    written(small, tmp_path)
    assert all(path.is_file() for path in kept)


def test_if_the_disk_fails_there_is_no_report(small, tmp_path, monkeypatch):
    def broken(self, content):
        raise OSError("No space left on device")

    monkeypatch.setattr(Path, "write_bytes", broken)
    with pytest.raises(OSError, match="No space left"):
        written(small, tmp_path)
    assert names(tmp_path) == set()


@pytest.mark.parametrize("kind", ["folder", "seg_folder"])
def test_the_page_prints_on_a4(kind, request, chromium, tmp_path):
    page, printed = request.getfixturevalue(kind) / "report.html", tmp_path / "report.pdf"
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    options += ["--disable-component-update", "--disable-sync", f"--user-data-dir={tmp_path / 'profile'}"]
    command = [chromium, *options, "--no-pdf-header-footer", f"--print-to-pdf={printed}", page.as_uri()]
    subprocess.run(command, capture_output=True, check=True, timeout=300)
    content = printed.read_bytes()
    boxes = re.findall(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", content)
    assert 3 < len(re.findall(rb"/Type /Page\b", content)) < 20
    assert all((round(float(w)), round(float(h))) == (595, 842) for w, h in boxes)


@pytest.mark.parametrize("kind", ["folder", "seg_folder"])
def test_the_page_is_accessible(kind, request, chromium, tmp_path):
    with Browser(chromium, tmp_path / "profile") as browser:
        browser.open(request.getfixturevalue(kind) / "report.html", "document.readyState === 'complete'")
        assert browser.faults() == []
