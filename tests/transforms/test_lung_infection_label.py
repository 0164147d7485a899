import numpy as np
import pytest
import torch
from custom_components.transforms.lung_infection_label import LungInfectionLabeld, LungInfectionMasksd
from monai.data import MetaTensor

AFFINE = torch.diag(torch.tensor([-2.0, -3.0, 5.0, 1.0]))


def masks(*shape):
    generator = torch.Generator().manual_seed(0)
    return {
        key: MetaTensor(torch.randint(0, 2, (1, *shape), generator=generator), affine=AFFINE)
        for key in ("lung", "infection")
    }


def test_labels_are_lung_and_above_it_infection():
    given = masks(4, 5, 6)
    item = LungInfectionLabeld()({**given, "case_id": "a"})
    assert set(item) == {"label", "case_id"}
    assert item["label"].dtype == torch.uint8
    assert torch.equal(item["label"].affine, AFFINE.double())
    for place in np.ndindex(1, 4, 5, 6):
        assert item["label"][place] == (2 if given["infection"][place] else 1 if given["lung"][place] else 0)


def test_masks_of_a_label_are_the_lungs_with_infection_and_the_infection():
    given = masks(4, 5, 6)
    label = LungInfectionLabeld()(given)["label"]
    back = LungInfectionMasksd(["label", "pred"], allow_missing_keys=True)({"label": label})["label"]
    assert back.shape == (2, 4, 5, 6)
    assert torch.equal(back[0], ((given["lung"] + given["infection"])[0] > 0).float())
    assert torch.equal(back[1], given["infection"][0].float())


def test_masks_of_different_size_are_refused_by_name():
    item = {**masks(4, 5, 6), "infection": torch.zeros(1, 4, 5, 7), "case_id": "covid_017"}
    with pytest.raises(ValueError, match=r"Case covid_017: the lung mask is \(1, 4, 5, 6\) and .* on one grid"):
        LungInfectionLabeld()(item)
