"""Train covid_seg_bundle's network on several public data sets with partial labels.

    python -m tools.seg_mixed OUTPUT --medseg SLICES --covid20 FOLDER --effusion FOLDER --healthy FOLDER [--block 3]

SLICES is the data set with lesion classes; FOLDER is the output of `convert_covid20_slices`, `convert_ct_excerpts` or a
converter of a whole data set (docs/data.md). The cases in `mixed_training.HELD_OUT` are always held out; with `--block
N` also block N of 5 of the slices and its neighbours. The same command resumes from OUTPUT/state.pt, which is written
every `save_seconds`. OUTPUT/ema.pt is the moving average of the weights (a state dict of the network), OUTPUT/ema.json
its card.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import fire
import nibabel
import numpy as np
import torch
from custom_components import ResidualAttentionUNet, TrainedWith
from custom_components.command_line.endings import ended_with_a_message
from custom_components.data.mixed_draws import MixedDraws
from custom_components.datalists.slices import list_cases
from custom_components.datalists.split import split_cases
from custom_components.files.atomic import absolute_path, atomic_path, writable_folder
from custom_components.handlers.model_card_writer import ModelCardWriter
from custom_components.labels import label_set_table
from custom_components.losses.partial_label import PartialLabelLoss
from custom_components.transforms.augmentations import RandLungDensityd
from monai.bundle import ConfigParser
from monai.data import Dataset
from monai.transforms import (
    Compose,
    RandAdjustContrastd,
    RandAffined,
    RandFlipd,
    RandGaussianNoised,
    RandGaussianSharpend,
    RandGaussianSmoothd,
    RandHistogramShiftd,
    RandomizableTransform,
    RandScaleIntensityd,
    RandShiftIntensityd,
    RandSimulateLowResolutiond,
)

from tools.mixed_training import HELD_OUT, MixedTraining, WithLungs, WithSets, is_held_out, listed_cases

BUNDLE = Path(__file__).resolve().parents[1] / "covid_seg_bundle"
CLASSES, EFFUSION = 4, 3
MEDSEG_SETS = {value: [value] for value in range(CLASSES)}
# Label values of a run: background (or effusion, which was not annotated), infection of either kind, healthy lung.
OUTSIDE, INFECTION, LUNG = 0, 1, 2
RUN_SETS = {OUTSIDE: [0, 3], INFECTION: [1, 2], LUNG: [0]}
SHARES = {"medseg": 0.36, "covid20": 0.19, "healthy": 0.20, "effusion": 0.15, "no_effusion": 0.10}
FEATURES = (16, 32, 64, 128, 256)
WEIGHT = (0.5, 1.0, 1.2, 2.0)
DICE_SETS = ((1,), (2,), (3,), (1, 2))

_logger = logging.getLogger(__name__)


def augmentation() -> Compose:
    """Geometry, then intensities: thickness, lung density, monotone curves, window, kernel, noise, resolution."""
    return Compose(
        [
            RandThickSlice(prob=0.3),
            RandFlipd(["image", "label"], prob=0.5, spatial_axis=0),
            RandAffined(
                ["image", "label"],
                prob=0.9,
                rotate_range=0.2,
                shear_range=[0.05, 0.05],
                scale_range=[(-0.25, 0.25), (-0.25, 0.25)],
                translate_range=[14, 14],
                mode=["bilinear", "nearest"],
                padding_mode="zeros",
            ),
            WithLungs(),
            RandLungDensityd("image", prob=0.6, dependent=0.6),
            RandHistogramShiftd("image", prob=0.25, num_control_points=(4, 8)),
            RandAdjustContrastd("image", prob=0.4, gamma=(0.65, 1.5)),
            RandScaleIntensityd("image", prob=0.4, factors=0.12),
            RandShiftIntensityd("image", prob=0.4, offsets=0.08),
            RandGaussianSharpend("image", prob=0.1, alpha=(2.0, 8.0)),
            RandGaussianSmoothd("image", prob=0.15, sigma_x=(0.3, 1.0), sigma_y=(0.3, 1.0)),
            RandSimulateLowResolutiond("image", prob=0.1, zoom_range=(0.5, 1.0), upsample_mode="bilinear"),
            RandGaussianNoised("image", prob=0.25, std=0.04),
            WithSets(),
        ]
    )


class RandThickSlice(RandomizableTransform):
    """Simulate a thicker slice at random by a mean with its neighbours; it blurs the dome of the diaphragm.

    Args:
        prob: probability that a slice is changed.
    """

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Replace `image` by (image + 2 w neighbours) / (1 + 2 w), w uniform in 0 to 1."""
        self.randomize(None)
        if not self._do_transform:
            return dict(data)
        weight = 2 * self.R.uniform(0, 1)
        return {**data, "image": (data["image"] + weight * data["neighbours"]) / (1 + weight)}


def partial_cases(medseg: Path, covid20: Path, folders: Mapping[str, Path], block: int | None, place: Path) -> dict:
    """Cases to train on by data set, each with ``label_sets`` and ``lung_values``."""
    listed = list_cases(medseg)
    chosen = listed if block is None else split_cases(listed, 5, block, border=1)["training"]
    cases = {"medseg": [{**case, "label_sets": MEDSEG_SETS, "lung_values": []} for case in chosen]}
    cases["covid20"] = list(_run_cases(covid20, writable_folder(place / "run_labels")))
    for name, folder in folders.items():
        cases[name] = [{**case, **_paths(folder, case, ("image", "label"))} for case in listed_cases(folder)]
    return {name: [case for case in some if not is_held_out(case["case_id"])] for name, some in cases.items()}


def _paths(folder: Path, case: Mapping[str, Any], keys: Sequence[str]) -> dict[str, str]:
    return {key: str(folder / case[key]) for key in keys}


def _run_cases(folder: Path, place: Path) -> Iterator[dict[str, Any]]:
    for case in listed_cases(folder):
        masks: dict[str, Any] = {key: nibabel.load(folder / case[key]) for key in ("infection", "lung")}
        lung = np.asarray(masks["lung"].dataobj) > 0
        labels = np.where(np.asarray(masks["infection"].dataobj) > 0, INFECTION, np.where(lung, LUNG, OUTSIDE))
        path = place / f"{case['case_id']}.nii.gz"
        with atomic_path(path) as temporary:
            nibabel.save(nibabel.Nifti1Image(labels.astype(np.uint8), masks["lung"].affine), temporary)
        own = {"case_id": case["case_id"], **_paths(folder, case, ("image",)), "label": str(path)}
        yield {**own, "label_sets": RUN_SETS, "lung_values": [INFECTION, LUNG]}


def bundle_training(size: int) -> ConfigParser:
    """The bundle's training config at a slice size, with the recipe of its weights."""
    files = [str(BUNDLE / "configs" / name) for name in ("train.yaml", "recipes/body_and_lungs.yaml")]
    return ConfigParser({**ConfigParser.load_config_files(files), "spatial_size": [size, size]})


def card_writer(
    network: ResidualAttentionUNet,
    cases: Mapping[str, Sequence[Mapping[str, Any]]],
    size: int,
    block: int | None,
    init_path: str = "",
) -> ModelCardWriter:
    """Writer of the weights' card: network, preprocessing, and the slices and scans used for training."""
    settings = bundle_training(size).get_parsed_content("model_card#settings")
    kept = "all slices" if block is None else f"slices without block {block} of 5, contiguous, and its neighbours"
    training = [case for some in cases.values() for case in some]
    split = {"protocol": f"{kept}; scans without {', '.join(HELD_OUT)}"}
    return ModelCardWriter(settings, network, training, split, start=TrainedWith(init_path or None))


def load_slices(cases: Sequence[Mapping[str, Any]], size: int) -> list[dict[str, Any]]:
    """Slices of cases, cropped to the body and resized by the bundle's own transforms, as tensors (1, size, size)."""
    load = Compose(bundle_training(size).get_parsed_content("train#deterministic_transforms"))
    slices = []
    for case in cases:
        loaded = load({"image": case["image"], "label": case["label"]})
        table = label_set_table(case["label_sets"], CLASSES, case["case_id"])
        volume, labels = loaded["image"].as_tensor().float(), loaded["label"].as_tensor().to(torch.uint8)
        last = volume.shape[-1] - 1
        for k in range(last + 1):
            neighbours = (volume[..., max(k - 1, 0)] + volume[..., min(k + 1, last)]) / 2
            one = {"image": volume[..., k].clone(), "neighbours": neighbours, "label": labels[..., k].clone()}
            slices.append({**one, "table": table, "lung_values": case["lung_values"]})
    return slices


def mixed_draws(cases: Mapping[str, Sequence[Mapping[str, Any]]], size: int, draws: int, seed: int) -> MixedDraws:
    """Slices drawn by share; slices with and without effusion of the same patients have separate shares."""
    slices = {name: load_slices(some, size) for name, some in cases.items()}
    here = [bool((one["label"] == EFFUSION).any()) for one in slices["effusion"]]
    slices["no_effusion"] = [one for one, has in zip(slices["effusion"], here, strict=True) if not has]
    slices["effusion"] = [one for one, has in zip(slices["effusion"], here, strict=True) if has]
    _logger.info("Slices: %s", {name: len(some) for name, some in slices.items()})
    datasets = {name: Dataset(some, augmentation()) for name, some in slices.items()}
    return MixedDraws(datasets, SHARES, draws, seed)


def seg_mixed(
    output: str,
    medseg: str,
    covid20: str,
    effusion: str,
    healthy: str,
    block: int | None = None,
    steps: int = 4000,
    batch_size: int = 8,
    size: int = 192,
    learning_rate: float = 0.002,
    features: Sequence[int] = FEATURES,
    init_path: str = "",
    ema_decay: float = 0.997,
    save_seconds: float = 180.0,
    epoch_steps: int = 100,
    num_workers: int = 0,
    seed: int = 0,
    device: str = "cpu",
) -> None:
    """Train, or resume; see the top of this file.

    Args:
        output: folder for state.pt and ema.pt.
        medseg: data set with lesion classes.
        covid20: output of `convert_covid20_slices`.
        effusion: output of `convert_ct_excerpts` for scans with effusion.
        healthy: the same for scans with healthy lungs.
        block: block of 5 of the slices that is held out, 0 to 4; None trains on all.
        steps: total number of optimizer steps; the learning rate falls to 0 over them.
        batch_size: slices per step.
        size: side of a slice in pixels.
        learning_rate: maximum learning rate of AdamW.
        features: channels of each level of the network.
        init_path: weights to start from, such as those of another training by this tool.
        ema_decay: decay of the moving average of the weights.
        save_seconds: seconds between two writes of state.pt.
        epoch_steps: steps between two log lines.
        num_workers: data loading processes.
        seed: random seed.
        device: such as cuda.
    """
    folder = writable_folder(absolute_path(output))
    torch.manual_seed(seed)
    network = ResidualAttentionUNet(features=tuple(features), attention="none").to(device)
    if init_path:
        network.load_state_dict(torch.load(init_path, map_location=device, weights_only=True))
    loss_function = PartialLabelLoss(list(WEIGHT), DICE_SETS).to(device)
    cases = partial_cases(
        Path(medseg), Path(covid20), {"effusion": Path(effusion), "healthy": Path(healthy)}, block, folder
    )
    card = card_writer(network, cases, size, block, init_path)
    training = MixedTraining(folder, network, loss_function, steps, learning_rate, ema_decay, save_seconds, card)
    draws = mixed_draws(cases, size, epoch_steps * batch_size, seed)
    training.run(draws, batch_size, num_workers, seed)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    with ended_with_a_message():
        fire.Fire(seg_mixed)
