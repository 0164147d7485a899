import torch
from custom_components.engines.prepare_scan_batch import PrepareScanBatch


def test_the_target_is_label_and_infection():
    batch = {"image": torch.zeros(2, 1, 3, 4, 5), "label": torch.tensor([1, 0]), "infection": torch.ones(2, 1, 3, 4, 5)}
    image, target = PrepareScanBatch()({**batch, "case_id": ["a", "b"]}, device="cpu")
    assert image is batch["image"]
    assert set(target) == {"label", "infection"}


def test_a_batch_without_masks_is_moved_to_the_device():
    image, target = PrepareScanBatch()({"image": torch.zeros(2, 1, 3, 4, 5), "label": torch.tensor([1, 0])}, "meta")
    assert image.device.type == target["label"].device.type == "meta"
    assert set(target) == {"label"}
