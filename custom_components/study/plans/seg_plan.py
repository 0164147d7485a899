"""Runs of a study of covid_seg_bundle: the networks of Table II, with and without augmentation (Chen et al. 2020)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from custom_components.datalists.case_problems import output_name_problems
from custom_components.datalists.split import split_cases
from custom_components.study.plans.cap_plan import CHECKPOINTS, EVALUATE, LAST_WEIGHTS, TRAIN
from custom_components.study.plans.study_data import StudyData
from custom_components.study.runs.overrides import config_content, overrides_for
from custom_components.study.runs.run import EVALUATING, TRAINING, Run
from custom_components.study.runs.study_folder import RUNS

GROUP, PAPER, BOTH = "group", "paper", "both"

# Networks in the order of Table II: title, and the overlays beside train.yaml and evaluate.yaml.
NETWORKS = {
    "m": ("M", ()),
    "m_a": ("M-A", ("no_attention.yaml",)),
    "m_r": ("M-R", ("no_resnext.yaml",)),
    "unet": ("U-Net", ("unet.yaml",)),
}
# Networks of others, trained and scored by the same configs where a study names them.
PEERS = {"flexible_unet": ("FlexibleUNet", ("flexible_unet.yaml",))}
ALL_NETWORKS = {**NETWORKS, **PEERS}
NO_AUGMENTATION = "no_augmentation.yaml"
ARMS = {True: "augmented", False: "not_augmented"}
AUGMENTATION = {"both": (True, False), "with": (True,), "without": (False,)}
WEIGHTS = "models/last.pt"


@dataclass(frozen=True)
class Arm:
    """One cell of the study: a network that is trained in one way and scored by one protocol.

    Args:
        protocol: ``group`` or ``paper``.
        network: one of ``ALL_NETWORKS``.
        augmented: whether its training augments.
        fold: that is left out.
    """

    protocol: str
    network: str
    augmented: bool
    fold: int

    @property
    def name(self) -> str:
        """Begins the names of its runs."""
        return f"{self.protocol}/{self.network}/{ARMS[self.augmented]}/fold_{self.fold}"


@dataclass(frozen=True)
class SegStudy:
    """Cross-validation of the segmentation networks, by group and, beside it, by random slice.

    Args:
        bundle: folder of covid_seg_bundle.
        folder: of the study.
        data: cases.
        protocols: ``group``, ``paper``, or both.
        networks: which of ``ALL_NETWORKS``.
        num_folds: number of folds.
        overrides: numbers of the configs.
        recipe: overlays beside every training's train.yaml, such as ``dice_cross_entropy.yaml``.
        augmentation: whether networks are trained with augmentation, without, or both.

    Raises:
        ValueError: when the cases cannot make the folds, or two of a fold have images of one name.
    """

    bundle: Path
    folder: Path
    data: StudyData
    protocols: tuple[str, ...] = (GROUP, PAPER)
    networks: tuple[str, ...] = tuple(NETWORKS)
    num_folds: int = 10
    overrides: Mapping[str, Any] = field(default_factory=dict)
    recipe: tuple[str, ...] = ()
    augmentation: tuple[bool, ...] = AUGMENTATION["both"]

    def __post_init__(self) -> None:
        for protocol, fold in product(self.protocols, range(self.num_folds)):
            problems = output_name_problems(self.split(protocol, fold)["validation"])
            if problems:
                raise ValueError(f"{problems[0]}.")

    def split(self, protocol: str, fold: int) -> dict[str, Any]:
        """The cases of a fold, as the bundle splits them."""
        config = config_content([str(self.bundle / "configs" / TRAIN)], self.overrides)
        own = {"border": config["border"], "seed": config["seed"]}
        return split_cases(list(self.data.cases), self.num_folds, fold, protocol, **own)  # type: ignore[arg-type]

    def words(self) -> dict[str, str]:
        """The protocols in words, by their names."""
        return {protocol: self._words(protocol) for protocol in self.protocols}

    def arms(self) -> Iterator[Arm]:
        """All cells, protocol by protocol."""
        for protocol, network, augmented in product(self.protocols, self.networks, self.augmentation):
            yield from (Arm(protocol, network, augmented, fold) for fold in range(self.num_folds))

    def runs(self) -> list[Run]:
        """A training of each cell, and its score."""
        return [run for arm in self.arms() for run in (self.training(arm), self.evaluation(arm))]

    def training(self, arm: Arm) -> Run:
        """Train a network on all folds but one."""
        augmentation = () if arm.augmented else (NO_AUGMENTATION,)
        files = (TRAIN, *ALL_NETWORKS[arm.network][1], *self.recipe, *augmentation, LAST_WEIGHTS)
        run = self._run(arm, "train", TRAINING, files)
        folder = self._folder(run["name"])
        return Run(
            **run,
            folder=folder,
            places={"dataset_dir": self.data.root, "ckpt_dir": folder / "models", "output_dir": folder / "tensorboard"},
            outputs=(WEIGHTS, "models/split.json"),
            disposable=(CHECKPOINTS, "models/model.pt", "models/model.json"),
        )

    def evaluation(self, arm: Arm) -> Run:
        """Score a network on the fold that it left out; pictures are drawn of one way of training alone."""
        training = self.training(arm)
        run = self._run(arm, "evaluate", EVALUATING, (EVALUATE, *ALL_NETWORKS[arm.network][1]))
        folder = self._folder(run["name"])
        if arm.augmented != self.augmentation[0]:
            run["overrides"]["overlay_slices"] = 0
        return Run(
            **run,
            folder=folder,
            places={
                "dataset_dir": self.data.root,
                "ckpt_path": training.folder / WEIGHTS,
                "output_dir": folder / "eval",
            },
            outputs=("eval/per_case.csv", "eval/summary.json"),
            needs=(training.name,),
        )

    def _run(self, arm: Arm, what: str, verb: str, files: Sequence[str]) -> dict[str, Any]:
        own = {"fold": arm.fold, "num_folds": self.num_folds, "protocol": arm.protocol}
        paths = [str(self.bundle / "configs" / name) for name in files]
        return {
            "name": f"{arm.name}/{what}",
            "kind": f"{arm.network} {ARMS[arm.augmented]} {what}",
            "bundle": self.bundle,
            "verb": verb,
            "config_files": tuple(files),
            "overrides": {**overrides_for(self.overrides, paths), **own},
            "data": self.data.fingerprint.sha256,
        }

    def _folder(self, name: str) -> Path:
        return self.folder / RUNS / name

    def _words(self, protocol: str) -> str:
        how = self.split(protocol, 0)["protocol"]
        return (
            f"{self.num_folds} folds, {how}. Each case is scored by the model that left it out. A model is that of its "
            "last epoch, so that nothing was chosen on the fold that it is scored on."
        )
