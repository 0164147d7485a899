"""`segment_masks` from a datalist without masks to that of a training, interrupted, repeated and with bad scans."""

import csv
import json
import os
import re
import signal
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
import torch
from custom_components.datalists.scans import list_scans
from custom_components.datasets.datalist import check_datalist
from custom_components.diagnosis import pipeline
from custom_components.transforms.lungs.left_right import left_right_lungs
from monai.data import MetaTensor
from PIL import Image

from tests.bundles.cap.conftest import SMALL
from tests.bundles.conftest import ROOT
from tests.diagnosis.conftest import PATIENT_NAME, set_knobs, write_nifti, write_series
from tests.full_disk import fill_disk, left
from tests.masks.conftest import case, two_of_each
from tests.real_data import real_data


def suspicious(out) -> dict[str, dict[str, str]]:
    with (out / "suspicious.csv").open(newline="", encoding="utf-8") as file:
        return {row["case_id"]: row for row in csv.DictReader(file)}


def test_the_new_datalist_trains_without_another_step(masked, bundle_line, tmp_path):
    masked.write(*two_of_each())
    assert masked.run("--num_folds", "2") == 0
    check_datalist(masked.out)
    scans = list_scans(masked.out)
    assert [scan["case_id"] for scan in scans] == ["P001", "P002", "cap001", "cap002"]
    assert [scan["group"] for scan in scans] == ["covid_large"] * 2 + ["cap_large"] * 2
    assert sorted(scan["fold"] for scan in scans[:2]) == sorted(scan["fold"] for scan in scans[2:]) == [0, 1]
    options = {**SMALL, "epochs": 1, "batch_size": 2, "num_workers": 0, "bundle_root": tmp_path / "trained"}
    words = [word for key, value in options.items() for word in (f"--{key}", value)]
    config = masked.bundles / "covid_cap_bundle/configs/train.yaml"
    assert bundle_line("run", "training", "--config_file", config, "--dataset_dir", masked.out, *words) == 0
    assert (tmp_path / "trained/models/uniform/model.pt").is_file()


def test_masks_and_ratio_are_those_of_the_networks_on_the_grid_of_the_scan(masked):
    masked.write(*two_of_each())
    masked.run("--num_folds", "2")
    phantom, entry = masked.phantom, masked.listed()["P001"]
    assert entry["lung"] == "masks/P001/P001_lungs.nii.gz"
    assert entry["infection"] == "masks/P001/P001_infection.nii.gz"
    lungs, infection = (nib.load(masked.out / entry[key]) for key in ("lung", "infection"))
    assert np.allclose(lungs.affine, phantom.affine)
    assert np.array_equal(lungs.get_fdata() > 0, phantom.lung > 0)
    infected = (phantom.infection * phantom.lung) > 0
    assert np.array_equal(infection.get_fdata(), infected)
    assert entry["ratio"] == infected.sum() / (phantom.lung > 0).sum()


def test_columns_and_folds_of_the_datalist_are_kept(masked):
    folds = (3, 7, 7, 3)
    masked.write(*({**one, "fold": fold, "age": 41} for one, fold in zip(two_of_each(), folds, strict=True)))
    assert masked.run() == 0
    entries = masked.listed().values()
    assert [entry["fold"] for entry in entries] == list(folds)
    assert [entry["age"] for entry in entries] == [41] * 4


def test_all_scans_of_a_patient_are_in_one_fold(masked):
    again = case("P001b", patient_id="P001", image="scans/P001b.nii.gz")
    masked.write(*two_of_each(), again)
    assert masked.run("--num_folds", "2") == 0
    assert masked.listed()["P001"]["fold"] == masked.listed()["P001b"]["fold"] != masked.listed()["P002"]["fold"]


def test_cases_of_another_label_get_masks_and_are_left_out_of_the_training(masked, caplog):
    masked.write(*two_of_each(), case("normal001", "normal"), case("x1", None))
    assert masked.run("--num_folds", "2") == 0
    assert list(masked.listed()) == ["P001", "P002", "cap001", "cap002"]
    others = masked.listed("other_cases.json")
    assert others["normal001"]["label"] == "normal"
    assert "label" not in others["x1"]
    assert all((masked.out / entry["infection"]).is_file() for entry in others.values())
    assert "2 cases whose label is neither covid nor cap (normal, none): normal001, x1. A training" in caplog.text
    with pytest.raises(ValueError, match="Case x1: has no 'label'"):
        list_scans(masked.out / "other_cases.json")


def test_normal_scans_are_a_class_if_asked_for(masked, caplog):
    masked.write(*two_of_each(), case("normal001", "normal"), case("normal002", "normal"), case("x1", None))
    assert masked.run("--num_folds", "2", "--normals") == 0
    listed = masked.listed()
    normal = [entry for entry in listed.values() if entry["label"] == "normal"]
    assert [entry["group"] for entry in normal] == ["normal"] * 2
    assert sorted(entry["fold"] for entry in normal) == [0, 1]
    assert list(masked.listed("other_cases.json")) == ["x1"]
    assert {scan["label"] for scan in list_scans(masked.out, normals=True)} == {0, 1, 2}
    assert "/recipes/three_classes.yaml']\" --dataset_dir" in caplog.messages[-1]
    assert masked.run("--num_folds", "2") == 0  # without: as before, and no new masks
    assert len(masked.listed()) == 4


def test_the_ending_names_what_was_written_and_the_next_command(masked, caplog):
    masked.write(*two_of_each())
    masked.run("--num_folds", "2")
    messages = " | ".join(caplog.messages)
    assert f"Wrote {masked.out / 'datalist.json'}:\n" in messages
    assert f"Wrote 1 contact sheets of 4 cases: {masked.out}" in messages
    assert f"Wrote {masked.out / 'suspicious.csv'}: 0 cases to look at first" in messages
    assert "4 of 4 scans finished" in messages
    config = masked.bundles / "covid_cap_bundle/configs/train.yaml"
    command = f"python -m monai.bundle run training --config_file {config} --dataset_dir {masked.out / 'datalist.json'}"
    assert caplog.messages[-1] == f"Next, after a look at the sheets: {command}"


def test_with_one_fold_the_next_command_is_an_evaluation(masked, caplog):
    masked.write(*two_of_each())
    assert masked.run("--num_folds", "1") == 0
    assert "run evaluating" in caplog.messages[-1]


def test_a_failed_scan_does_not_stop_the_others_and_is_the_first_to_look_at(masked, caplog):
    masked.write(*two_of_each(), case("P003"))
    (masked.root / "scans" / "P003.nii.gz").write_bytes(b"no NIfTI")
    assert masked.run("--num_folds", "2") == 1
    assert list(masked.listed()) == ["P001", "P002", "cap001", "cap002"]
    rows = suspicious(masked.out)
    assert list(rows) == ["P003"]
    assert rows["P003"]["why"].startswith("failed: P003.nii.gz is truncated or not a NIfTI file")
    assert "1 of 5 scans failed:\n  P003: P003.nii.gz is truncated" in caplog.text
    write_nifti(masked.phantom, masked.root / "scans" / "P003.nii.gz")
    masked.calls.clear()
    assert masked.run("--num_folds", "2") == 0
    assert masked.calls == {"find_lungs": 1}
    assert "P003" in masked.listed()
    assert suspicious(masked.out) == {}


def test_a_finished_data_set_is_not_computed_again(masked):
    masked.write(*two_of_each())
    masked.run("--num_folds", "2")
    before, listed = masked.files(), masked.listed()
    assert len(before) == 4 * 4
    masked.calls.clear()
    assert masked.run("--num_folds", "2") == 0
    assert not masked.calls
    assert (masked.files(), masked.listed()) == (before, listed)


def test_after_ctrl_c_the_same_command_continues_and_repeats_nothing(masked, monkeypatch, caplog):
    masked.write(*two_of_each())
    find, seen = pipeline.find_infection, []

    def interrupted(*args):
        seen.append(args)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return find(*args)

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "find_infection", interrupted)
        assert masked.run("--num_folds", "2") == 130
    assert "run the same command again to continue" in caplog.text
    assert not (masked.out / "datalist.json").exists()
    kept = masked.files()
    assert {path.split("/")[0] for path in kept} == {"P001", "P002", "cap001.incomplete"}
    masked.calls.clear()
    assert masked.run("--num_folds", "2") == 0
    assert masked.calls == {"find_lungs": 1}  # of cap002; the lungs of cap001 were written before
    assert masked.files().items() >= {path: time for path, time in kept.items() if path[0] == "P"}.items()
    assert list(masked.listed()) == ["P001", "P002", "cap001", "cap002"]


KILLED = {
    "the report": ("custom_components.masks.case_masks:write_json", {"P001.incomplete"}, 3),
    "a contact sheet": ("custom_components.masks.overview:draw_contact_sheet", {"P001", "P002", "cap001", "cap002"}, 0),
}


@pytest.mark.parametrize("kind", [pytest.param("the report", marks=pytest.mark.slow), "a contact sheet"])
def test_after_a_kill_the_same_command_continues_and_repeats_nothing(masked, kind):
    function, kept, again = KILLED[kind]
    words = [masked.write(*two_of_each()), masked.out, masked.bundles, function]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    command = [sys.executable, "-m", "tests.masks.killed_masks", *map(str, words)]
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert {path.split("/")[0] for path in masked.files() if path[0] != "."} == kept
    assert masked.run("--num_folds", "2") == 0
    assert masked.calls == ({"find_lungs": again} if again else {})
    assert list(masked.listed()) == ["P001", "P002", "cap001", "cap002"]
    assert not [path for path in left(masked.out) if ".partial" in path or ".lock" in path or ".incomplete" in path]


def test_if_a_mask_cannot_be_written_the_case_fails_and_the_next_run_adds_it(masked, monkeypatch, caplog):
    masked.write(*two_of_each())
    with monkeypatch.context() as patch:
        fill_disk(patch, "P002_infection.nii.gz")
        assert masked.run("--num_folds", "2") == 1
    assert "P002_infection.nii.gz could not be written: No space left on device" in caplog.text
    assert "1 COVID-19 and 2 CAP patients cannot make 2 folds" in caplog.text
    assert "The masks are kept for another --num_folds" in caplog.text
    assert not (masked.out / "datalist.json").exists()
    masked.calls.clear()
    assert masked.run("--num_folds", "2") == 0
    assert not masked.calls
    assert "P002" in masked.listed()


def test_another_source_of_infection_is_refused_in_the_same_folder(masked, caplog):
    masked.write(*two_of_each())
    masked.run("--num_folds", "2")
    before = masked.files()
    assert masked.run("--num_folds", "2", "--infection_by", "either") == 1
    assert "masks made with other settings: infection_by was vbnet, is either; lesion network was none" in caplog.text
    assert masked.files() == before


def test_another_config_of_the_bundle_is_refused_in_the_same_folder(masked, caplog):
    masked.write(*two_of_each())
    masked.run("--num_folds", "2")
    set_knobs(masked.bundles / "covid_cap_bundle", segment_window_hu=[-1000, 0])
    assert masked.run("--num_folds", "2") == 1
    assert re.search(r"other settings: inference.json of covid_cap_bundle was \w{12}, is \w{12}\. ", caplog.text)


def test_other_folds_need_no_new_masks(masked):
    masked.write(*two_of_each())
    masked.run("--num_folds", "2")
    masked.calls.clear()
    assert masked.run("--num_folds", "1") == 0
    assert not masked.calls
    assert {entry["fold"] for entry in masked.listed().values()} == {0}


def test_a_changed_scan_is_refused_until_its_folder_is_removed(masked, caplog):
    masked.write(*two_of_each())
    masked.run("--num_folds", "2")
    path = masked.root / "scans" / "P002.nii.gz"
    image = nib.load(path)
    voxels = np.asarray(image.dataobj).copy()
    voxels[0, 0, 0] += 1
    nib.save(nib.Nifti1Image(voxels, image.affine), path)
    masked.calls.clear()
    assert masked.run("--num_folds", "2") == 1
    assert "Case P002 failed: The results in the output folder are of another scan. Remove its folder" in caplog.text
    assert not masked.calls


def test_the_lesion_network_adds_to_the_infection_if_requested(masked):
    masked.write(case("P001"))
    assert masked.run("--num_folds", "1", "--infection_by", "either") == 0
    assert masked.calls == {"find_lungs": 1, "find_lesions": 1}
    infection = nib.load(masked.out / masked.listed()["P001"]["infection"]).get_fdata() > 0
    vbnet = (masked.phantom.infection * masked.phantom.lung) > 0
    assert infection[vbnet].all()
    report = json.loads((masked.out / "masks" / "P001" / "report.json").read_text(encoding="utf-8"))
    assert report["infection_source"].startswith("VB-Net or lesion network")


def test_a_folder_of_scans_gets_its_labels_from_a_table_later(masked, caplog):
    for name in ("a", "b", "c", "d"):
        write_nifti(masked.phantom, masked.root / "scans" / f"{name}.nii.gz")
    assert masked.run(data=masked.root / "scans") == 0
    assert list(masked.listed("other_cases.json")) == ["a", "b", "c", "d"]
    assert not (masked.out / "datalist.json").exists()
    assert "write a CSV with the columns case_id, label (covid or cap), patient_id" in caplog.messages[-1]
    rows = ["case_id,label,patient_id", "a,covid,1", "b,covid,2", "c,cap,3", "d,cap,4", "e,cap,4"]
    (masked.root / "labels.csv").write_text("\n".join(rows))
    masked.calls.clear()
    assert masked.run("--labels", masked.root / "labels.csv", "--num_folds", "2", data=masked.root / "scans") == 0
    assert not masked.calls
    assert {name: entry["patient_id"] for name, entry in masked.listed().items()} == dict(
        zip("abcd", "1234", strict=True)
    )
    assert not (masked.out / "other_cases.json").exists()
    assert "1 labelled cases have no masks: e" in caplog.text
    check_datalist(masked.out)


def test_a_dicom_study_is_listed_with_the_folder_of_its_series_and_no_name_is_logged(masked, caplog, capfd):
    uid = write_series(masked.phantom, masked.root / "in" / PATIENT_NAME / "axial")
    write_series(
        masked.phantom, masked.root / "in" / PATIENT_NAME / "scout", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]
    )
    assert masked.run(data=masked.root / "in") == 0
    (entry,) = masked.listed("other_cases.json").values()
    assert entry["case_id"] == uid
    assert entry["image"] == str(masked.root / "in" / PATIENT_NAME / "axial")
    assert [scan["case_id"] for scan in list_scans(masked.out / "other_cases.json", labelled=False)] == [uid]
    shown = capfd.readouterr()
    assert PATIENT_NAME not in caplog.text + shown.out + shown.err + (masked.out / "suspicious.csv").read_text()


def test_a_folder_that_a_training_could_not_read_fails_before_any_network(masked, caplog):
    write_series(masked.phantom, masked.root / "in")
    write_series(masked.phantom, masked.root / "other", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    for path in (masked.root / "other").glob("*.dcm"):
        path.rename(masked.root / "in" / f"{PATIENT_NAME}_{path.name}")
    assert masked.run(data=masked.root / "in") == 1
    assert "2 series" in caplog.text
    assert "A training reads one folder of one series: move its files to a folder" in caplog.text
    assert PATIENT_NAME not in caplog.text
    assert not masked.calls


def test_a_scan_without_plausible_lungs_of_vbnet_fails_and_says_so(masked, monkeypatch, caplog):
    masked.write(*two_of_each(), case("P003"))
    find, seen = pipeline.find_lungs, []

    def once(image, *args):
        seen.append(1)
        if len(seen) == 5:
            monkeypatch.setattr(
                "custom_components.transforms.lungs.segment_lungs.segment_lungs_and_infection", no_lungs
            )
        return find(image, *args)

    def no_lungs(*_):
        raise ValueError("VB-Net finds 0.10 litres of lung.")

    monkeypatch.setattr(pipeline, "find_lungs", once)
    assert masked.run("--num_folds", "2") == 1
    assert "Case P003 failed: Lungs and infection by VB-Net: VB-Net finds 0.10 litres of lung." in caplog.text
    assert len(masked.listed()) == 4


def plant_lungs(masked, monkeypatch, where) -> None:
    """Let VB-Net find the phantom's lungs in a part of the scan, and no infection."""

    def segment(image, *_):
        sides = left_right_lungs(masked.phantom.lung * where, masked.phantom.affine)[..., : image.shape[-1]]
        return tuple(MetaTensor(torch.from_numpy(mask)[None]).copy_meta_from(image) for mask in (sides, sides * 0))

    monkeypatch.setattr("custom_components.transforms.lungs.segment_lungs.segment_lungs_and_infection", segment)


def test_cut_lungs_and_empty_infection_are_suspicious(masked, monkeypatch):
    masked.write(*two_of_each())
    plant_lungs(masked, monkeypatch, 1)
    image = nib.load(masked.root / "scans" / "P002.nii.gz")
    nib.save(image.slicer[..., : image.shape[2] // 2], masked.root / "scans" / "P002.nii.gz")
    assert masked.run("--num_folds", "2") == 0
    rows = suspicious(masked.out)
    assert next(iter(rows)) == "P002"
    assert "lungs are cut at the upper border of the scan" in rows["P002"]["why"]
    assert rows["P002"]["why"].endswith("; infection is empty")
    assert rows["P001"]["why"] == "infection is empty"
    assert rows["P001"]["infection_percent"] == "0.0"


def test_a_single_lung_is_suspicious(masked, monkeypatch):
    masked.write(case("P001"))
    plant_lungs(masked, monkeypatch, left_right_lungs(masked.phantom.lung, masked.phantom.affine) == 2)
    assert masked.run("--num_folds", "1") == 0
    assert "100 % of it lies in the right half of the body; " in suspicious(masked.out)["P001"]["why"]


def test_a_finished_case_without_its_masks_is_named(masked, caplog):
    masked.write(*two_of_each())
    masked.run("--num_folds", "2")
    (masked.out / "masks" / "P002" / "P002_lungs.nii.gz").unlink()
    assert masked.run("--num_folds", "2") == 1
    folder = masked.out / "masks" / "P002"
    assert f"Case P002: P002_lungs.nii.gz was removed from {folder}. Remove this folder" in caplog.messages[-1]


def test_a_sheet_has_a_thumbnail_for_each_case_and_old_sheets_are_removed(masked):
    masked.write(*two_of_each())
    masked.run("--num_folds", "2")
    (masked.out / "contact_sheet_02.png").write_bytes(b"of an earlier run")
    masked.run("--num_folds", "2")
    assert [path.name for path in sorted(masked.out.glob("*.png"))] == ["contact_sheet_01.png"]
    pixels = np.asarray(Image.open(masked.out / "contact_sheet_01.png"))
    thumbnail = np.asarray(Image.open(masked.out / "masks" / "cap001" / "thumbnail.png"))
    height, width = thumbnail.shape[:2]
    assert np.array_equal(pixels[28 : 28 + height, 8 + 2 * (width + 8) :][:, :width], thumbnail)


REFUSED = {
    "a folder of something else": "has no settings.json. Choose a new folder",
    "too few patients": "1 COVID-19 and 1 CAP patients cannot make 5 folds",
    "some folds": "1 of 4 labelled cases have no fold: P001. Give all a fold, or none",
    "a missing image": "Case P001: has no 'image'",
    "a flag": "--seg_weights has no effect with --infection_by vbnet",
    "no weights": "VB-Net has no weights, so infection would be unknown",
    "the same folder": "list.json is in output_dir, where the new datalist is written",
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_would_fail_later_is_refused_before_any_scan_is_read(masked, caplog, kind):
    masked.write(*two_of_each())
    words, data = ["--num_folds", "2"], None
    if kind == "a folder of something else":
        masked.out.mkdir()
        (masked.out / "datalist.json").write_text("{}")
    elif kind == "too few patients":
        masked.write(case("P001"), case("cap001", "cap"))
        words = []
    elif kind == "some folds":
        masked.write(*({**one, **({} if one["case_id"] == "P001" else {"fold": 0})} for one in two_of_each()))
    elif kind == "a missing image":
        (masked.root / "list.json").write_text(json.dumps({"cases": [{"case_id": "P001"}]}))
    elif kind == "a flag":
        words += ["--seg_weights", masked.bundles / "covid_seg_bundle/models/model.pt"]
    elif kind == "no weights":
        (masked.bundles / "covid_cap_bundle/models/vbnet.pt").unlink()
    else:
        masked.out.mkdir()
        data = (masked.root / "list.json").rename(masked.out / "list.json")
    before = left(masked.out) if masked.out.exists() else None
    assert masked.run(*words, data=data) == 1
    assert REFUSED[kind] in caplog.text
    assert (left(masked.out) if masked.out.exists() else None) == before
    assert not masked.calls


@pytest.mark.slow
@pytest.mark.real_data
def test_vbnet_makes_plausible_masks_of_a_patient_with_covid(command_line, tmp_path):
    """The scan reaches the bases of the lungs, but a part of 9 cm2."""
    entry = {"case_id": "P001", "image": str(real_data("covid_ct_md", "P001")), "label": "covid"}
    (tmp_path / "list.json").write_text(json.dumps({"cases": [entry]}))
    words = ("--infection_by", "vbnet", "--num_folds", "1")
    assert command_line("segment_masks", tmp_path / "list.json", tmp_path / "out", *words) == 0
    (scan,) = list_scans(tmp_path / "out")
    assert 0.005 < scan["ratio"] < 0.05
    lungs = nib.load(scan["lung"])
    sides_ml = [
        np.count_nonzero(np.asarray(lungs.dataobj) == side) * np.prod(lungs.header.get_zooms()) / 1000
        for side in (1, 2)
    ]
    assert all(2000 < volume < 4000 for volume in sides_ml)
    assert suspicious(tmp_path / "out") == {}
