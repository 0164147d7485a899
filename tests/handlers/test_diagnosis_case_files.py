import json
import math

import numpy as np
import pytest
import torch
from custom_components.handlers.diagnosis_case_files import DiagnosisCaseFiles
from custom_components.pictures.overlay import INFECTION_COLOUR
from monai.data import MetaTensor, list_data_collate
from monai.transforms import Orientation
from PIL import Image

from tests.handlers.evaluator import evaluator_of

SHAPE = (12, 10, 8)
AFFINE = np.diag([-2.0, -2.5, 5.0, 1.0])  # LPS order, 24 x 25 x 40 mm
VOXEL_ML = 0.025


def logit(probability):
    return torch.tensor([math.log(probability / (1 - probability))])


def arrays():
    lung, infection, attention = (np.zeros(SHAPE, dtype=np.float32) for _ in range(3))
    lung[1:11, 1:9] = 1
    infection[8:11, 6:9, 5:7] = 1  # at the patient's left, back, top
    attention[9:11, 6:8, 5:7] = 1
    return {
        "native": np.full(SHAPE, -1350.0, dtype=np.float32),
        "native_lung": lung,
        "native_infection": infection,
        "attention_us": attention,
        "attention_ss": attention / 2,
    }


def item_of(path="scans/012.nii.gz", orientation="LPS", drop=(), **more):
    p_us, p_ss, weight = 0.9, 0.4, 0.96
    stored = Orientation(axcodes=orientation, labels=(("L", "R"), ("P", "A"), ("I", "S")))
    volumes = {
        key: stored(MetaTensor(torch.tensor(array)[None], affine=torch.tensor(AFFINE), meta={"filename_or_obj": path}))
        for key, array in arrays().items()
    }
    item = {
        "image": volumes["native"],
        **volumes,
        "ratio": 0.02,
        "lung_source": "mask file",
        "logit_us": logit(p_us),
        "logit_ss": logit(p_ss),
        "logit": logit(weight * p_us + (1 - weight) * p_ss),
        **more,
    }
    return {key: value for key, value in item.items() if key not in drop}


def report_on(items, output_dir, **more):
    evaluator_of([list_data_collate([item]) for item in items], DiagnosisCaseFiles(output_dir, **more)).run()
    return read(output_dir, "012")


def read(output_dir, name):
    return json.loads((output_dir / name / f"{name}_diagnosis.json").read_text(encoding="utf-8"))


def test_a_report_agrees_with_a_calculation_by_hand(tmp_path):
    report = report_on([item_of()], tmp_path)
    assert report.pop("notice").startswith("Research use only")
    assert report.pop("software")["name"] == "custom_components"
    assert report == {
        "case_id": "012",
        "p_us": 0.9,
        "p_ss": 0.4,
        "p_final": 0.88,
        "weight_us": 0.96,
        "ratio": 0.02,
        "ratio_band": "0.005 - 0.030",
        "lung_volume_ml": pytest.approx(10 * 8 * 8 * VOXEL_ML),
        "infection_volume_ml": pytest.approx(18 * VOXEL_ML),
        "lung_source": "mask file",
        "geometry": {"shape": [12, 10, 8], "spacing_mm": [2.0, 2.5, 5.0], "slice_axis": 2},
        "files": {"attention": "012_attention.png"},
        "notes": [],
    }
    assert sorted(file.name for file in (tmp_path / "012").iterdir()) == ["012_attention.png", "012_diagnosis.json"]


@pytest.mark.parametrize("orientation", ["RAS", "LAI", "PSL", "SPL", "IRA"])
def test_report_and_picture_do_not_depend_on_the_storage_orientation(tmp_path, orientation):
    there = report_on([item_of()], tmp_path / "LPS")
    turned = report_on([item_of(orientation=orientation)], tmp_path / orientation)
    assert turned.pop("geometry")["slice_axis"] == [axis in "SI" for axis in orientation].index(True)
    there.pop("geometry")
    assert turned == there
    pictures = [np.asarray(Image.open(tmp_path / o / "012" / "012_attention.png")) for o in ("LPS", orientation)]
    assert np.array_equal(*pictures)


def test_a_lesion_on_the_patients_left_is_drawn_on_the_right_of_each_panel(tmp_path):
    report_on([item_of(orientation="RAS")], tmp_path)
    pixels = np.asarray(Image.open(tmp_path / "012" / "012_attention.png")).astype(int)
    _, columns = np.nonzero((np.abs(pixels - INFECTION_COLOUR).max(axis=2) <= 1)[46:-40])
    panel_width = (pixels.shape[1] - 8) // 3 - 8
    assert columns.min() - 8 == pytest.approx(8 / 12 * panel_width, abs=3)
    assert columns.max() - 8 == pytest.approx(11 / 12 * panel_width, abs=3)


@pytest.mark.parametrize(("ratio", "weight"), [(0.0009, 0.35), (0.001, 0.96), (0.030, 0.96), (0.031, 0.35)])
def test_the_weight_of_the_uniform_branch_follows_the_ratio(tmp_path, ratio, weight):
    p_final = weight * 0.9 + (1 - weight) * 0.4
    report = report_on([item_of(ratio=ratio, logit=logit(p_final))], tmp_path)
    assert (report["weight_us"], report["p_final"]) == (weight, pytest.approx(p_final, abs=1e-4))


def test_other_weights_of_the_branches_are_reported(tmp_path):
    more = {"weights": [0.5, 0.75], "ratio_thresholds": [0.01, 0.02]}
    report = report_on([item_of(ratio=0.015, logit=logit(0.775))], tmp_path, decimals=2, **more)
    assert (report["weight_us"], report["p_final"]) == (0.75, 0.78)


def test_without_infection_mask_there_is_no_final_probability_and_a_note_says_why(tmp_path):
    item = item_of(ratio=math.nan, logit=torch.tensor([math.nan]), drop=["native_infection"])
    report = report_on([item], tmp_path)
    assert [report[key] for key in ("p_final", "weight_us", "ratio", "ratio_band", "infection_volume_ml")] == [None] * 5
    assert (report["p_us"], report["p_ss"]) == (0.9, 0.4)
    assert len(report["notes"]) == 1
    assert "without an infection mask: P_final is not given, since Eq. 5" in report["notes"][0]


def test_a_computed_lung_mask_is_noted(tmp_path):
    report = report_on([item_of(lung_source="threshold and morphology (no model)")], tmp_path)
    assert report["lung_source"] == "threshold and morphology (no model)"
    assert "one was made by threshold and morphology" in report["notes"][0]


def test_a_scan_without_masks_is_reported_with_its_ratio(tmp_path):
    report = report_on([item_of(drop=["native_lung", "native_infection", "lung_source"])], tmp_path)
    assert (report["lung_volume_ml"], report["lung_source"], report["p_final"]) == (None, None, 0.88)


def test_a_plain_network_adds_a_panel_and_a_probability(tmp_path):
    report = report_on([item_of()], tmp_path / "two")
    assert "p_plain" not in report
    attention = item_of()["attention_us"]
    report = report_on([item_of(attention_plain=attention, logit_plain=logit(0.25))], tmp_path / "three")
    assert report["p_plain"] == 0.25
    two, three = (Image.open(tmp_path / n / "012" / "012_attention.png") for n in ("two", "three"))
    assert three.width > two.width


SEVENFOLD = 7 * item_of()["attention_us"]


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (item_of(drop=["native"]), r"Case 012: DiagnosisCaseFiles finds no 'native'.*CopyItemsd"),
        (item_of(drop=["attention_ss"]), r"Case 012: DiagnosisCaseFiles finds no 'attention_ss'"),
        (item_of(drop=["logit_us"]), r"Case 012 has no 'logit_us'"),
        (item_of(drop=["logit"]), r"Case 012 has no 'logit'"),
        (item_of(logit=logit(0.6)), r"Case 012: P_final is 0.600, but Eq. 5 gives 0.880.*ratio_thresholds"),
        (item_of(attention_us=SEVENFOLD), r"Case 012: Attention 'attention US' has values from 0 to 7"),
        (
            item_of(attention_us=SEVENFOLD[:, :4]),
            r"Case 012: .*native \(12, 10, 8\), attention_us \(4, 10, 8\).*Invertd",
        ),
    ],
)
def test_an_invalid_case_is_an_error_that_names_it_and_has_no_report(tmp_path, item, message):
    with pytest.raises(ValueError, match=message):
        report_on([item], tmp_path)
    assert not (tmp_path / "012" / "012_diagnosis.json").exists()


def test_0_decimals_are_an_error(tmp_path):
    with pytest.raises(ValueError, match="decimals >= 1, got 0"):
        DiagnosisCaseFiles(tmp_path, decimals=0)
