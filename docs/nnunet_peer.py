"""nnU-Net v2 on the same slices, crop, size and folds as covid_seg_bundle, scored by the bundle's own evaluation.

    python docs/nnunet_peer.py prepare SLICES RAW [--size 128] [--number 701]
    python docs/nnunet_peer.py score SLICES RESULTS OUTPUT [--folds 0,1,2,3,4] [--size 128]

`prepare` writes `Dataset701_slices` into RAW (nnUNet_raw) as PNG slices, cropped and resized as the bundle does, with
splits_final.json: five contiguous blocks, the slices beside a block left out. In an environment with `nnunetv2`, and
nnUNet_raw, nnUNet_preprocessed and nnUNet_results set:

    nnUNetv2_plan_and_preprocess -d 701 -c 2d
    cp RAW/Dataset701_slices/splits_final.json PREPROCESSED/Dataset701_slices/
    nnUNetv2_train 701 2d FOLD -tr nnUNetTrainer_10epochs --npz -device cpu

`score` takes the probabilities that the training left for its own fold, RESULTS/fold_N/validation/*.npz, through the
postprocessing of evaluate.yaml to the grid of the files, and writes OUTPUT/fold_N as `evaluating` does.
RESULTS is the folder of plan and trainer. Ignored pixels are the label 4 of nnU-Net.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fire
import numpy as np
import torch
from custom_components.datalists.slices import list_cases
from custom_components.datalists.split import split_cases
from custom_components.files.atomic import atomic_path, writable_folder
from custom_components.images.case_id import case_id
from custom_components.labels import IGNORE_LABEL
from custom_components.study.tables.joined_scores import joined_scores
from monai.bundle import ConfigParser
from monai.inferers import Inferer
from PIL import Image

BUNDLE = Path(__file__).resolve().parents[1] / "covid_seg_bundle"
SPLIT = {"num_folds": 5, "border": 1}
IGNORED = 4  # nnU-Net wants the ignored label to be the highest


class StoredProbabilities(Inferer):
    """Gives, instead of a network's, the logits of the probabilities that nnU-Net stored for a case."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def __call__(self, inputs: torch.Tensor, network: Any) -> torch.Tensor:
        """Logits (1, 4, H, W, 1) of the case of `inputs` (1, 1, H, W, 1)."""
        with np.load(self.folder / f"{case_id(inputs)}.npz") as stored:
            probabilities = torch.from_numpy(stored["probabilities"][:, 0].astype(np.float32))
        height_and_width = probabilities.swapaxes(1, 2)  # a PNG has its rows first
        return height_and_width[None, ..., None].clamp(min=1e-8).log()


def prepare(slices: str, raw: str, size: int = 128, number: int = 701) -> None:
    """Write the data set of nnU-Net."""
    parser = _parser(["train.yaml"], slices, size)
    transforms = parser.get_parsed_content("train#deterministic_transforms")
    cases = list_cases(slices)
    folder = writable_folder(Path(raw) / f"Dataset{number}_slices")
    for case in cases:
        item: Any = case
        for transform in transforms:
            item = transform(item)
        label = np.where(item["label"] == IGNORE_LABEL, IGNORED, item["label"])
        _save(np.asarray(item["image"]) * 255, folder / "imagesTr" / f"{case['case_id']}_0000.png")
        _save(label, folder / "labelsTr" / f"{case['case_id']}.png")
    labels = {"background": 0, "ground_glass": 1, "consolidation": 2, "pleural_effusion": 3, "ignore": IGNORED}
    described = {"channel_names": {"0": "CT"}, "labels": labels, "numTraining": len(cases), "file_ending": ".png"}
    splits = [split_cases(cases, fold=fold, **SPLIT) for fold in range(SPLIT["num_folds"])]
    sides = {"train": "training", "val": "validation"}
    named = [{side: [case["case_id"] for case in split[key]] for side, key in sides.items()} for split in splits]
    for name, content in {"dataset.json": described, "splits_final.json": named}.items():
        with atomic_path(folder / name) as temporary:
            temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def score(slices: str, results: str, output: str, folds: Sequence[int] = (0, 1, 2, 3, 4), size: int = 128) -> None:
    """Score what nnU-Net predicted for its own folds."""
    listed = [folds] if isinstance(folds, int) else list(folds)
    places = {fold: Path(output) / f"fold_{fold}" for fold in listed}
    for fold, place in places.items():
        parser = _parser(["train.yaml", "evaluate.yaml"], slices, size)
        parser.update({**SPLIT, "fold": fold, "output_dir": str(place), "handlers#0#_disabled_": True})
        parser["inferer"] = StoredProbabilities(Path(results) / f"fold_{fold}" / "validation")
        parser.get_parsed_content("evaluating")
    print(joined_scores(*map(str, places.values())))  # noqa: T201


def _parser(configs: Sequence[str], slices: str, size: int) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config([str(BUNDLE / "configs" / name) for name in configs])
    parser.update({"bundle_root": str(BUNDLE), "dataset_dir": slices, "spatial_size": [size, size]})
    return parser


def _save(pixels: np.ndarray, path: Path) -> None:
    writable_folder(path.parent)
    columns_and_rows = np.asarray(pixels)[0, :, :, 0]
    with atomic_path(path) as temporary:
        Image.fromarray(columns_and_rows.T.round().astype(np.uint8)).save(temporary)


if __name__ == "__main__":
    fire.Fire({"prepare": prepare, "score": score})
