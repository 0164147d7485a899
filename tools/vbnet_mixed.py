"""Fine-tune covid_cap_bundle's VB-Net on several public data sets with partial labels.

    python -m tools.vbnet_mixed OUTPUT --covid20 FOLDER --effusion FOLDER --healthy FOLDER [--init_path vbnet.pt]

FOLDER is the output of `convert_covid20_slices`, `convert_ct_excerpts` or a converter of a whole data set
(docs/data.md). The cases in `mixed_training.HELD_OUT` are always held out. The same command resumes from
OUTPUT/state.pt, which is written every `save_seconds`. OUTPUT/ema.pt is the moving average of the weights (a state dict
of the network), OUTPUT/ema.json its card.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import fire
import torch
from custom_components import CTReader, LabelReader, LungInfectionLabeld, TrainedWith, VBNet
from custom_components.command_line.endings import ended_with_a_message
from custom_components.data.mixed_draws import MixedDraws
from custom_components.files.atomic import absolute_path, writable_folder
from custom_components.handlers.model_card_writer import ModelCardWriter
from custom_components.labels import label_set_table
from custom_components.losses.partial_label import PartialLabelLoss
from custom_components.transforms.augmentations import RandLungDensityd, RandPlantedLesionsd
from custom_components.transforms.lungs.segment_lungs import OVERLAP, PATCH_SIZE, SPACING_MM, WINDOW_HU
from monai.bundle import ConfigParser
from monai.data import Dataset
from monai.transforms import (
    ClassesToIndicesd,
    Compose,
    LoadImaged,
    Orientationd,
    RandCropByLabelClassesd,
    RandGaussianSharpend,
    RandSimulateLowResolutiond,
    ScaleIntensityRanged,
    Spacingd,
)

from tools.mixed_training import HELD_OUT, MixedTraining, WithLungs, WithSets, is_held_out, listed_cases

BUNDLE = Path(__file__).resolve().parents[1] / "covid_cap_bundle"
CLASSES = 3  # background, lung, infection
# Possible classes of each label value; values inside the lungs; and how often a patch is centred on each value, on air
# outside (0) and on the rest of the body (BODY), because false lungs were found in belly and shoulders.
SETS: dict[str, dict[str, Any]] = {
    "covid20": {"sets": {0: [0], 1: [1], 2: [2]}, "lungs": [1, 2], "ratios": [0, 1, 2, 0, 1]},
    "healthy": {"sets": {0: [0], 2: [1]}, "lungs": [2], "ratios": [0, 0, 1, 0, 2]},
    # 1: margin around the lungs, possibly collapsed lung; 2: lung, infected or not; 3: effusion.
    "effusion": {"sets": {0: [0], 1: [0, 1, 2], 2: [1, 2], 3: [0]}, "lungs": [2], "ratios": [0, 0, 1, 1, 2]},
}
SHARES = {"covid20": 0.45, "healthy": 0.35, "effusion": 0.2}
BODY, BODY_GREY = 4, 0.5  # brighter than -550 HU
PLANTED = 3  # label value of planted infection in healthy scans
WEIGHT, DICE_SETS = (1.0, 1.0, 1.5), ((1, 2), (2,))

_logger = logging.getLogger(__name__)


def augmentation(name: str) -> Compose:
    """Random patch, the bundle's spatial transforms, changes of lung density, the bundle's intensity transforms."""
    own = SETS[name]
    parser = ConfigParser(ConfigParser.load_config_file(str(BUNDLE / "configs" / "segment_train.yaml")))
    crop = RandCropByLabelClassesd(
        ["image", "label"],
        label_key="label",
        indices_key="label_cls_indices",
        spatial_size=parser.get_parsed_content("draw_size"),
        ratios=own["ratios"],
        num_classes=BODY + 1,
        num_samples=1,
        allow_smaller=True,
        warn=False,
    )
    sets = dict(own["sets"])
    planted: list[Any] = []
    if name == "healthy":
        sets[PLANTED] = [2]
        planted = [RandPlantedLesionsd("image", PLANTED, prob=0.4, window_hu=WINDOW_HU)]
    return Compose(
        [
            crop,
            *parser.get_parsed_content("train#spatial_transforms"),
            WithLungs(own["lungs"]),
            RandLungDensityd("image", prob=0.6 if name != "covid20" else 0.2, window_hu=WINDOW_HU),
            *planted,
            RandSimulateLowResolutiond("image", prob=0.15, zoom_range=(0.5, 1.0), upsample_mode="trilinear"),
            RandGaussianSharpend("image", prob=0.1, alpha=(2.0, 8.0)),
            *parser.get_parsed_content("train#intensity_transforms"),
            WithSets(label_set_table(sets, CLASSES, name)),
        ]
    )


def list_scans(folder: Path) -> list[dict[str, Any]]:
    """Cases of a datalist that are not held out."""
    return [case for case in listed_cases(folder) if not is_held_out(case["case_id"])]


def load_scans(folder: Path) -> list[dict[str, Any]]:
    """Scans of a datalist that are not held out, on VB-Net's grid and in its window."""
    return [load_scan(folder, case) for case in list_scans(folder)]


def card_writer(network: VBNet, folders: Sequence[Path], init_path: str = "") -> ModelCardWriter:
    """Writer of the weights' card: network, grid, window, and the scans used for training."""
    training = [{"image": folder / case["image"]} for folder in folders for case in list_scans(folder)]
    grid = {"spacing_mm": list(SPACING_MM), "patch_size": list(PATCH_SIZE), "window_overlap": OVERLAP}
    settings = {**grid, "window_hu": list(WINDOW_HU)}
    split = {"protocol": f"all scans without {', '.join(HELD_OUT)}"}
    return ModelCardWriter(settings, network, training, split, start=TrainedWith(init_path or None))


def load_scan(folder: Path, case: Mapping[str, Any]) -> dict[str, Any]:
    """One scan: image, label, and the possible centres of patches."""
    masks = ["lung", "infection"] if "infection" in case else ["label"]
    steps: list[Any] = [
        LoadImaged("image", reader=cast(Any, CTReader()), ensure_channel_first=True),
        LoadImaged(masks, reader=cast(Any, LabelReader()), ensure_channel_first=True),
        Orientationd(["image", *masks], axcodes="LPS", labels=(("L", "R"), ("P", "A"), ("I", "S"))),
        *([LungInfectionLabeld()] if "infection" in case else []),
        Spacingd(["image", "label"], pixdim=SPACING_MM, mode=["bilinear", "nearest"]),
        ScaleIntensityRanged("image", *WINDOW_HU, 0.0, 1.0, clip=True),
    ]
    made = Compose(steps)({key: str(folder / case[key]) for key in ("image", *masks)})
    item = {"image": made["image"].as_tensor().float(), "label": made["label"].as_tensor().to(torch.uint8)}
    around = torch.where((item["label"] == 0) & (item["image"] > BODY_GREY), BODY, item["label"])
    places = ClassesToIndicesd("around", num_classes=BODY + 1, max_samples_per_class=20000)({"around": around})
    return {**item, "label_cls_indices": places["around_cls_indices"]}


def vbnet_mixed(
    output: str,
    covid20: str,
    effusion: str,
    healthy: str,
    steps: int = 1500,
    batch_size: int = 1,
    learning_rate: float = 0.001,
    init_path: str = str(BUNDLE / "models" / "vbnet.pt"),
    ema_decay: float = 0.99,
    save_seconds: float = 120.0,
    epoch_steps: int = 20,
    seed: int = 0,
    device: str = "cpu",
) -> None:
    """Train, or resume; see the top of this file.

    Args:
        output: folder for state.pt and ema.pt.
        covid20: output of `convert_covid20_slices`.
        effusion: output of `convert_ct_excerpts` for scans with effusion.
        healthy: the same for scans with healthy lungs.
        steps: total number of optimizer steps; the learning rate falls to 0 over them.
        batch_size: patches per step.
        learning_rate: maximum learning rate of AdamW.
        init_path: weights to start from; none when empty.
        ema_decay: decay of the moving average of the weights.
        save_seconds: seconds between two writes of state.pt.
        epoch_steps: steps between two log lines.
        seed: random seed.
        device: such as cuda.
    """
    folder = writable_folder(absolute_path(output))
    torch.manual_seed(seed)
    network = VBNet().to(device)
    if init_path:
        network.load_state_dict(torch.load(init_path, map_location=device, weights_only=True))
    loss_function = PartialLabelLoss(list(WEIGHT), DICE_SETS).to(device)
    folders = [Path(path) for path in (covid20, healthy, effusion)]
    card = card_writer(network, folders, init_path)
    training = MixedTraining(folder, network, loss_function, steps, learning_rate, ema_decay, save_seconds, card)
    scans = {name: load_scans(place) for name, place in zip(SETS, folders, strict=True)}
    _logger.info("Scans: %s", {name: len(some) for name, some in scans.items()})
    datasets = {name: Dataset(some, augmentation(name)) for name, some in scans.items()}
    draws = MixedDraws(datasets, SHARES, epoch_steps * batch_size, seed)
    training.run(draws, batch_size, seed=seed)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    with ended_with_a_message():
        fire.Fire(vbnet_mixed)
