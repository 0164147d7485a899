from types import SimpleNamespace

import pytest
import torch
from custom_components.transforms.augmentations import RandLungDensityd, dependent_density, lung_density

WINDOW = (-1350.0, 150.0)


def windowed(hu: float) -> float:
    return (hu - WINDOW[0]) / (WINDOW[1] - WINDOW[0])


def case(hu: float = -860.0) -> dict[str, torch.Tensor]:
    image, lung = torch.full((1, 4, 6), windowed(hu)), torch.zeros(1, 4, 6)
    lung[:, 1:3] = 1
    return {"image": image, "lung": lung}


def test_no_more_tissue_is_no_change() -> None:
    hu = torch.linspace(-1000, 300, 7)
    assert torch.equal(lung_density(hu, torch.ones(7, dtype=torch.bool), 0.0), hu)


def test_order_of_the_intensities_stays() -> None:
    hu = lung_density(torch.linspace(-1000, 300, 50), torch.ones(50, dtype=torch.bool), 0.3)
    assert (hu.diff() > 0).all()


def test_a_lung_becomes_as_dense_as_asked_and_the_rest_stays() -> None:
    made = RandLungDensityd("image", prob=1.0, tissue=(0.2, 0.2), gradient=0.0)(case())
    assert torch.allclose(made["image"][:, 1:3], torch.tensor(windowed(-680.0)))
    assert torch.equal(made["image"][:, [0, 3]], case()["image"][:, [0, 3]])


def test_the_back_is_denser_than_the_front_along_y() -> None:
    transform = RandLungDensityd("image", prob=1.0, tissue=(0.2, 0.2), gradient=0.15)
    transform.R = SimpleNamespace(rand=lambda: 0.0, uniform=lambda low, high: high)
    made = transform(case())["image"]
    assert (made[0, 1].diff() > 0).all()
    assert made[0, 1, -1].item() == pytest.approx(windowed(-860 + 0.275 * 900), abs=1e-5)


def test_a_case_without_lungs_and_an_unlucky_draw_stay_as_they_are() -> None:
    bare = {**case(), "lung": torch.zeros(1, 4, 6)}
    assert torch.allclose(RandLungDensityd("image", prob=1.0)(bare)["image"], bare["image"])
    assert torch.equal(RandLungDensityd("image", prob=0.0)(case())["image"], case()["image"])


def test_volumes_are_changed_too_and_one_seed_gives_one_result() -> None:
    image, lung = torch.full((1, 2, 3, 4), windowed(-860.0)), torch.ones(1, 2, 3, 4)
    results = [
        RandLungDensityd("image", prob=1.0).set_random_state(5)({"image": image, "lung": lung})["image"] for _ in (1, 2)
    ]
    assert torch.equal(*results)
    assert not torch.equal(results[0], image)
    assert torch.equal(results[0][..., 0], results[0][..., 3])


def test_the_dependent_band_adds_to_the_back_of_the_lungs_alone() -> None:
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
def test_the_dependent_band_follows_the_lung_or_is_level(level: float, at_back: list[float]) -> None:
    lung = torch.zeros(1, 2, 5, dtype=torch.bool)
    lung[0, 0, :5], lung[0, 1, :4] = True, True
    band = dependent_density(lung, depth=1 / torch.tensor(2.0).log().item(), level=level)
    assert band[0, [0, 1], [4, 3]].tolist() == pytest.approx(at_back)
