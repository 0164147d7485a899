import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from custom_components.handlers.lesion_case_files import LesionCaseFiles
from monai.data import MetaTensor, list_data_collate
from PIL import Image

from tests.handlers.evaluator import evaluator_of

AFFINE = torch.diag(torch.tensor([-0.5, -2.0, 10.0, 1.0], dtype=torch.float64))


def batch_of(predicted, path, affine=AFFINE, **more):
    arrays = {"image": predicted, "native": np.full(predicted.shape, -800.0), **more}
    meta = {"filename_or_obj": str(path)}
    item = {key: MetaTensor(torch.tensor(array)[None], affine=affine, meta=dict(meta)) for key, array in arrays.items()}
    return list_data_collate([item])


def report_on(batches, output_dir, **more):
    evaluator = evaluator_of(batches, LesionCaseFiles(output_dir, **more))
    evaluator.run()
    return evaluator


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture
def label():
    label = np.zeros((5, 6, 7), dtype=np.uint8)
    label[0, :3, 2] = 1
    label[1, 0, 5] = 3
    return label


def test_a_volume_gets_a_report_and_overlays(tmp_path, label):
    report_on([batch_of(label, "scans/012.nii.gz")], tmp_path)
    report = read(tmp_path / "012" / "012_lesions.json")
    assert report["case_id"] == "012"
    assert "Research use only" in report["notice"]
    assert report["lesions"]["ground_glass"]["volume_ml"] == pytest.approx(0.03)
    assert report["slices_with_lesions"] == [2, 5]
    assert report["overlays"] == ["012_overlay_002.png", "012_overlay_005.png"]
    expected = sorted([*report["overlays"], "012_lesions.json"])
    assert sorted(file.name for file in (tmp_path / "012").iterdir()) == expected


@pytest.mark.parametrize(
    ("odd", "notes"), [("sides are a guess", ["The scan was read, although: sides are a guess."]), ("", [])]
)
def test_an_irregularity_of_the_scan_is_the_first_note(tmp_path, label, odd, notes):
    report_on([batch_of(label, "plain.nii.gz")], tmp_path)
    odd_batch = batch_of(label, "012.nii.gz")
    odd_batch["native"].meta["reading_notes"] = [odd]
    report_on([odd_batch], tmp_path)
    plain = read(tmp_path / "plain" / "plain_lesions.json")["notes"]
    assert read(tmp_path / "012" / "012_lesions.json")["notes"] == notes + plain


def test_overlays_have_a_panel_for_the_truth_if_there_is_one(tmp_path, label):
    square = torch.diag(torch.tensor([-1.0, -1, 10, 1], dtype=torch.float64))
    batches = [batch_of(label, "plain.nii.gz", square), batch_of(label, "judged.nii.gz", square, label=label)]
    report_on(batches, tmp_path)
    plain, judged = (Image.open(tmp_path / n / f"{n}_overlay_002.png") for n in ("plain", "judged"))
    assert judged.width > plain.width


def test_a_png_gets_a_label_map_as_png_and_no_volumes(tmp_path, label):
    slice_label = label[..., 2:3]
    affine = torch.diag(torch.tensor([-1.0, -1, 1, 1], dtype=torch.float64))
    report_on([batch_of(slice_label, "scans/012.png", affine)], tmp_path)
    report = read(tmp_path / "012" / "012_lesions.json")
    assert report["lesions"]["ground_glass"]["pixels"] == 3
    assert report["lesions"]["ground_glass"]["volume_ml"] is None
    written = Image.open(tmp_path / "012" / "012_seg.png")
    assert written.mode == "L"
    assert np.array_equal(np.asarray(written), slice_label[..., 0].T)


def test_an_image_without_third_axis_is_reported(tmp_path, label):
    report_on([batch_of(label[..., 2], "012.nii.gz")], tmp_path)
    assert read(tmp_path / "012" / "012_lesions.json")["geometry"]["shape"] == [5, 6, 1]


def test_with_a_lung_mask_the_infected_percent_is_reported(tmp_path, label):
    report_on([batch_of(label, "012.nii.gz", lung=(label == 1).astype(np.uint8))], tmp_path)
    assert read(tmp_path / "012" / "012_lesions.json")["infection_percent_of_lung"] == 100


@pytest.mark.parametrize(("overlay_slices", "drawn"), [(0, 0), (1, 1), (6, 2)])
def test_the_number_of_overlays_is_limited(tmp_path, label, overlay_slices, drawn):
    report_on([batch_of(label, "012.nii.gz")], tmp_path, overlay_slices=overlay_slices)
    assert len(list(tmp_path.glob("012/*.png"))) == drawn


def test_a_second_run_replaces_the_reports_of_the_first(tmp_path, label):
    evaluator = report_on([batch_of(label, "012.nii.gz")], tmp_path)
    evaluator.run()
    assert read(tmp_path / "012" / "012_lesions.json")["slices_with_lesions"] == [2, 5]


def test_two_cases_of_the_same_name_are_an_error(tmp_path, label):
    with pytest.raises(
        ValueError, match=r"Case 012: the results of b/012.nii.gz and a/012.nii.gz would have the same name"
    ):
        report_on([batch_of(label, "a/012.nii.gz"), batch_of(label, "b/012.nii.gz")], tmp_path)


@pytest.mark.parametrize(
    ("key", "change", "message"),
    [
        ("native", lambda native: native[..., :6], r"Case 012: .*CT \(5, 6, 6\), prediction \(5, 6, 7\).*Invertd"),
        ("image", lambda image: image.expand(-1, 4, -1, -1, -1), r"Case 012: .*one channel.*AsDiscreted"),
    ],
)
def test_a_prediction_on_another_grid_or_with_channels_is_an_error(tmp_path, label, key, change, message):
    batch = batch_of(label, "012.nii.gz")
    batch[key] = change(batch[key])
    with pytest.raises(ValueError, match=message):
        report_on([batch], tmp_path)
    assert not (tmp_path / "012" / "012_lesions.json").exists()


def test_an_output_folder_without_write_access_is_an_error_at_the_start(tmp_path, label):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot be written to"):
        report_on([batch_of(label, "012.nii.gz")], tmp_path / "file")


def test_a_negative_number_of_overlays_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="overlay_slices >= 0, got -1"):
        LesionCaseFiles(tmp_path, overlay_slices=-1)


def test_the_log_has_the_absolute_folder_of_each_case(tmp_path, label, caplog, monkeypatch):
    monkeypatch.chdir(tmp_path.parent)
    with caplog.at_level(logging.INFO):
        report_on([batch_of(label, "scans/012.nii.gz"), batch_of(label, "scans/013.nii.gz")], Path(tmp_path.name))
    assert f"Case 013 is finished: {tmp_path / '013'}" in caplog.text
    assert f"2 of 2 cases written, one folder per case: {tmp_path}" in caplog.text


def test_the_title_of_an_overlay_with_truth_has_the_dice_of_the_case(tmp_path, label, monkeypatch):
    titles = []
    monkeypatch.setattr(
        "custom_components.handlers.lesion_case_files.draw_slice",
        lambda image, labels, title, pixel_mm: titles.append(title) or Image.new("RGB", (1, 1)),
    )
    truth = label.copy()
    truth[0, 0, 2], truth[4, 4, 4] = 0, 255
    report_on([batch_of(label, "scans/012.nii.gz", label=truth)], tmp_path, overlay_slices=1)
    report_on([batch_of(label, "scans/013.nii.gz")], tmp_path, overlay_slices=1)
    assert titles == [
        "012, slice 2 (of 0 to 6); Dice of the case: ground-glass 0.80, pleural effusion 1.00",
        "013, slice 2 (of 0 to 6)",
    ]
