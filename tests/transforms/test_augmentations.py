from types import SimpleNamespace

import pytest
import torch
from custom_components.transforms.augmentations import (
    RandLungDensityd,
    RandPlantedLesionsd,
    dependent_density,
    lung_density,
)

WINDOW = (-1350.0, 150.0)


def windowed(hu):
    return (hu - WINDOW[0]) / (WINDOW[1] - WINDOW[0])


HEALTHY = windowed(-860.0)


def case():
    lung = torch.zeros(1, 4, 6)
    lung[:, 1:3] = 1
    return {"image": torch.full((1, 4, 6), HEALTHY), "lung": lung}


def test_adding_no_tissue_changes_nothing():
    hu = torch.linspace(-1000, 300, 7)
    assert torch.equal(lung_density(hu, torch.ones(7, dtype=torch.bool), 0.0), hu)


def test_the_order_of_intensities_is_kept():
    hu = lung_density(torch.linspace(-1000, 300, 50), torch.ones(50, dtype=torch.bool), 0.3)
    assert (hu.diff() > 0).all()


def test_the_lungs_get_the_requested_density_and_the_rest_is_not_changed():
    made = RandLungDensityd("image", prob=1.0, tissue=(0.2, 0.2), gradient=0.0)(case())
    assert torch.allclose(made["image"][:, 1:3], torch.tensor(windowed(-680.0)))
    assert torch.equal(made["image"][:, [0, 3]], case()["image"][:, [0, 3]])


def test_the_back_is_denser_than_the_front_along_y():
    transform = RandLungDensityd("image", prob=1.0, tissue=(0.2, 0.2), gradient=0.15)
    transform.R = SimpleNamespace(rand=lambda: 0.0, uniform=lambda low, high: high)
    made = transform(case())["image"]
    assert (made[0, 1].diff() > 0).all()
    assert made[0, 1, -1].item() == pytest.approx(windowed(-860 + 0.275 * 900), abs=1e-5)


def test_a_case_without_lungs_and_an_undrawn_case_are_not_changed():
    bare = {**case(), "lung": torch.zeros(1, 4, 6)}
    assert torch.allclose(RandLungDensityd("image", prob=1.0)(bare)["image"], bare["image"])
    assert torch.equal(RandLungDensityd("image", prob=0.0)(case())["image"], case()["image"])


def test_volumes_are_changed_too_and_a_seed_repeats_the_result():
    image, lung = torch.full((1, 2, 3, 4), HEALTHY), torch.ones(1, 2, 3, 4)
    results = [
        RandLungDensityd("image", prob=1.0).set_random_state(5)({"image": image, "lung": lung})["image"] for _ in (1, 2)
    ]
    assert torch.equal(*results)
    assert not torch.equal(results[0], image)
    assert torch.equal(results[0][..., 0], results[0][..., 3])


def labelled():
    """Lungs (label 2) in the middle of soft tissue (label 0)."""
    lung = torch.zeros(1, 24, 22, 20, dtype=torch.bool)
    lung[:, 4:20, 4:18, 3:17] = True
    return {"image": torch.where(lung, HEALTHY, 0.93), "label": 2 * lung.to(torch.uint8), "lung": lung}


def planted(seed=0, **changes):
    given = labelled()
    return given, RandPlantedLesionsd("image", 3, prob=1.0, **changes).set_random_state(seed)(given)


@pytest.mark.parametrize("seed", range(5))
def test_lesions_are_denser_lie_in_the_lungs_and_are_labelled(seed):
    given, made = planted(seed)
    lesion = made["label"] == 3
    assert not (lesion & ~given["lung"]).any()
    assert (made["image"][lesion] > HEALTHY + 0.02).all()
    assert torch.equal(made["image"][~given["lung"]], given["image"][~given["lung"]])
    assert torch.equal(made["label"][~lesion], given["label"][~lesion])
    assert (made["image"] <= 1).all()


@pytest.mark.parametrize("share", [0.05, 0.3])
def test_the_lesions_fill_the_requested_share_of_the_lungs(share):
    given, made = planted(share=(share, share))
    assert (made["label"] == 3).sum() / given["lung"].sum() == pytest.approx(share, abs=0.01)


def test_full_tissue_content_is_as_dense_as_tissue():
    given, made = planted(tissue=(10.0, 10.0))
    assert made["image"][made["label"] == 3].max().item() == pytest.approx((40 + 1350) / 1500, abs=1e-5)
    assert given["image"].max().item() == pytest.approx(0.93)


def test_a_seed_repeats_the_result_and_an_undrawn_case_or_a_corner_of_lung_is_not_changed():
    assert torch.equal(planted(4)[1]["image"], planted(4)[1]["image"])
    assert not torch.equal(planted(4)[1]["image"], planted(5)[1]["image"])
    assert torch.equal(RandPlantedLesionsd("image", 3, prob=0.0)(labelled())["image"], labelled()["image"])
    corner = {**labelled(), "lung": torch.zeros(1, 24, 22, 20, dtype=torch.bool)}
    corner["lung"][:, :9, :9, :9] = True
    assert torch.equal(RandPlantedLesionsd("image", 3, prob=1.0)(corner)["image"], labelled()["image"])


def test_the_dependent_band_adds_to_the_back_of_the_lungs_only():
    plain, banded = (
        RandLungDensityd("image", prob=1.0, tissue=(0, 0), gradient=0, dependent=most) for most in (0.0, 0.6)
    )
    banded.R = SimpleNamespace(rand=lambda: 0.9, uniform=lambda low, high: (low + high) / 2)
    image, lung = torch.full((1, 3, 12), windowed(-860.0)), torch.ones(1, 3, 12)
    lung[:, 0] = 0
    added = banded({"image": image, "lung": lung})["image"] - plain({"image": image, "lung": lung})["image"]
    assert torch.equal(added[:, 0], torch.zeros(1, 12))
    assert (added[0, 1].diff() > 0).all()
    assert added[0, 1, -1].item() == pytest.approx(0.3 * 900 / 1500)


@pytest.mark.parametrize(("level", "at_back"), [(0.0, [1.0, 1.0]), (1.0, [1.0, 0.5])])
def test_the_dependent_band_follows_the_lung_or_is_level(level, at_back):
    lung = torch.zeros(1, 2, 5, dtype=torch.bool)
    lung[0, 0, :5], lung[0, 1, :4] = True, True
    band = dependent_density(lung, depth=1 / torch.tensor(2.0).log().item(), level=level)
    assert band[0, [0, 1], [4, 3]].tolist() == pytest.approx(at_back)
