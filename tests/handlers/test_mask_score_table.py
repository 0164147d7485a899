import csv
import json

import numpy as np
import pytest
import torch
from custom_components.handlers.mask_score_table import MaskScoreTable
from monai.data import MetaTensor, list_data_collate
from nibabel.orientations import inv_ornt_aff
from PIL import Image

from tests.handlers.evaluator import evaluator_of

AFFINE = np.diag([-1.5, -2.0, 4.0, 1.0])
SHAPE = (20, 18, 12)


def label_of(lesion_slices):
    label = torch.zeros(1, *SHAPE)
    label[:, 3:16, 4:15, 1:11] = 1
    label[:, 5:10, 6:11, lesion_slices] = 2
    return label


def case(name, truth, pred, affine=AFFINE):
    """A batch of one case, which the network returns as its prediction."""
    arrays = {"image": pred, "native": truth * 300.0 - 900.0, "label": truth}
    tensors = {key: MetaTensor(array, affine=torch.from_numpy(affine)) for key, array in arrays.items()}
    return list_data_collate([{"case_id": name, **tensors}])


@pytest.fixture
def written(tmp_path):
    truth, pred = label_of([3, 4, 5, 6]), label_of([4, 5, 6, 7])
    healthy = label_of([])
    report = MaskScoreTable(tmp_path, "fold 1 of 3", {"lung": 2.0, "infection": 3.0}, overlay_slices=2)
    evaluator_of([case("ill", truth, pred), case("healthy", healthy, healthy)], report).run()
    return tmp_path


def test_a_row_has_the_scores_and_volumes_of_a_case(written):
    with (written / "per_case.csv").open(newline="", encoding="utf-8") as file:
        ill, healthy = csv.DictReader(file)
    assert (ill["case_id"], healthy["case_id"]) == ("ill", "healthy")
    assert float(ill["dice_lung"]) == 1.0
    assert float(ill["dice_infection"]) == pytest.approx(0.75)
    assert float(ill["ml_infection_true"]) == pytest.approx(4 * 25 * 12 / 1000)
    assert healthy["dice_infection"] == healthy["surface_dice_infection"] == ""


def test_the_summary_counts_the_cases_that_have_a_score(written):
    summary = json.loads((written / "summary.json").read_text(encoding="utf-8"))
    assert (summary["protocol"], summary["cases"]) == ("fold 1 of 3", 2)
    assert summary["tolerance_mm"] == {"lung": 2.0, "infection": 3.0}
    assert summary["dice_infection"] == {"mean": 0.75, "min": 0.75, "max": 0.75, "cases": 1}
    assert summary["dice_lung"]["cases"] == 2


def test_overlays_show_the_slices_with_most_infection(written):
    names = sorted(path.name for path in (written / "ill").iterdir())
    assert names == ["ill_masks_003.png", "ill_masks_006.png"]  # at least 10 mm apart
    assert Image.open(written / "ill" / names[0]).width > 900
    assert [path.name for path in (written / "healthy").iterdir()] == ["healthy_masks_006.png"]


def test_slices_are_counted_from_the_feet_for_any_storage_orientation(tmp_path):
    truth = label_of([3])
    flip = np.array([[0, 1], [1, 1], [2, -1]])
    turned = AFFINE @ inv_ornt_aff(flip, SHAPE)
    report = MaskScoreTable(tmp_path, overlay_slices=1)
    evaluator_of([case("up", truth, truth), case("down", truth.flip(3), truth.flip(3), turned)], report).run()
    up, down = (next((tmp_path / name).iterdir()) for name in ("up", "down"))
    assert (up.name, down.name) == ("up_masks_003.png", "down_masks_003.png")
    middle = [np.asarray(Image.open(path).crop((400, 60, 780, 400))) for path in (up, down)]  # truth
    assert np.count_nonzero(middle[0][..., 0] != middle[0][..., 2]) > 1000
    np.testing.assert_array_equal(*middle)


def test_a_prediction_on_another_grid_is_an_error_that_names_the_case(tmp_path):
    with pytest.raises(ValueError, match="Case odd: The prediction is"):
        evaluator_of([case("odd", label_of([3]), label_of([3])[..., :5])], MaskScoreTable(tmp_path)).run()


@pytest.mark.parametrize("tolerance_mm", [{"lung": 1.0}, {"lung": 1.0, "infection": 0.0}])
def test_a_missing_tolerance_or_0_is_an_error(tmp_path, tolerance_mm):
    with pytest.raises(ValueError, match="Expected mm above 0 for lung and infection"):
        MaskScoreTable(tmp_path, tolerance_mm=tolerance_mm)
