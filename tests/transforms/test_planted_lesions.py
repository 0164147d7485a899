import pytest
import torch
from custom_components.transforms.augmentations import RandPlantedLesionsd

HEALTHY = (-860.0 + 1350.0) / 1500.0


def case(value: float = HEALTHY) -> dict[str, torch.Tensor]:
    """Lungs (label 2) in the middle of soft tissue (label 0)."""
    lung = torch.zeros(1, 24, 22, 20, dtype=torch.bool)
    lung[:, 4:20, 4:18, 3:17] = True
    return {"image": torch.where(lung, value, 0.93), "label": 2 * lung.to(torch.uint8), "lung": lung}


def planted(seed: int = 0, **changes: object) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    given = case()
    return given, RandPlantedLesionsd("image", 3, prob=1.0, **changes).set_random_state(seed)(given)  # type: ignore


@pytest.mark.parametrize("seed", range(5))
def test_lesions_are_denser_lie_in_the_lungs_and_are_labelled(seed: int) -> None:
    given, made = planted(seed)
    lesion = made["label"] == 3
    assert not (lesion & ~given["lung"]).any()
    assert (made["image"][lesion] > HEALTHY + 0.02).all()
    assert torch.equal(made["image"][~given["lung"]], given["image"][~given["lung"]])
    assert torch.equal(made["label"][~lesion], given["label"][~lesion])
    assert (made["image"] <= 1).all()


@pytest.mark.parametrize("share", [0.05, 0.3])
def test_the_share_of_the_lungs_is_as_asked(share: float) -> None:
    given, made = planted(share=(share, share))
    assert (made["label"] == 3).sum() / given["lung"].sum() == pytest.approx(share, abs=0.01)


def test_no_share_of_tissue_is_hardly_seen_and_all_of_it_is_as_dense_as_tissue() -> None:
    given, made = planted(tissue=(10.0, 10.0))
    assert made["image"][made["label"] == 3].max().item() == pytest.approx((40 + 1350) / 1500, abs=1e-5)
    assert given["image"].max().item() == pytest.approx(0.93)


def test_one_seed_gives_one_result_and_an_unlucky_draw_or_a_corner_of_lung_none() -> None:
    assert torch.equal(planted(4)[1]["image"], planted(4)[1]["image"])
    assert not torch.equal(planted(4)[1]["image"], planted(5)[1]["image"])
    assert torch.equal(RandPlantedLesionsd("image", 3, prob=0.0)(case())["image"], case()["image"])
    corner = {**case(), "lung": torch.zeros(1, 24, 22, 20, dtype=torch.bool)}
    corner["lung"][:, :9, :9, :9] = True
    assert torch.equal(RandPlantedLesionsd("image", 3, prob=1.0)(corner)["image"], case()["image"])
