"""A study of covid_seg_bundle: the networks of Table II, with and without augmentation (Chen et al. 2020)."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
from custom_components.datalists.case_problems import output_name_problems
from custom_components.datalists.split import split_cases
from custom_components.images.ct_reader import case_name
from custom_components.labels import LESION_CLASSES
from custom_components.study.plans.study import EVALUATE, LAST_WEIGHTS, PER_CASE, TRAIN, Study, long_table
from custom_components.study.report.seg_report import seg_report
from custom_components.study.report.study_report import RESAMPLES, Report
from custom_components.study.results.study_results import PAPER, SegmentationResults, read_case_table
from custom_components.study.runs.overrides import config_content
from custom_components.study.runs.run import EVALUATING, TRAINING, Run
from custom_components.study.runs.runner import Outcome

GROUP, BOTH = "group", "both"

# Networks in the order of Table II: title, and the overlays on top of train.yaml and evaluate.yaml.
NETWORKS = {
    "m": ("M", ()),
    "m_a": ("M-A", ("networks/no_attention.yaml",)),
    "m_r": ("M-R", ("networks/no_resnext.yaml",)),
    "unet": ("U-Net", ("networks/unet.yaml",)),
}
# Additional networks, trained and scored with the same configs if selected.
PEERS = {"flexible_unet": ("FlexibleUNet", ("networks/flexible_unet.yaml",))}
ALL_NETWORKS = {**NETWORKS, **PEERS}
RECIPES = "recipes"
NO_AUGMENTATION = f"{RECIPES}/no_augmentation.yaml"
ARMS = {True: "augmented", False: "not_augmented"}
AUGMENTATION = {"both": (True, False), "with": (True,), "without": (False,)}

NUMBERS = ("dice", "precision", "accuracy", "pixels_true", "pixels_pred")
SCORE_COLUMNS = {
    **{"network": "object", "augmented": "bool", "protocol": "object", "fold": "int64"},
    **{"case_id": "object", "lesion": "object"},
    **dict.fromkeys(NUMBERS[:3], "float64"),
    **dict.fromkeys(NUMBERS[3:], "int64"),
}


@dataclass(frozen=True)
class Arm:
    """One training of the study: protocol, network, augmentation and fold.

    Args:
        protocol: ``group`` or ``paper``.
        network: one of ``ALL_NETWORKS``.
        augmented: whether it is trained with augmentation.
        fold: validation fold.
    """

    protocol: str
    network: str
    augmented: bool
    fold: int

    @property
    def name(self) -> str:
        """Prefix of its run names."""
        return f"{self.protocol}/{self.network}/{ARMS[self.augmented]}/fold_{self.fold}"

    @property
    def kind(self) -> str:
        """Prefix of the kind of its runs: without protocol and fold."""
        return f"{self.network} {ARMS[self.augmented]}"

    @property
    def title(self) -> str:
        """Title of its network."""
        return ALL_NETWORKS[self.network][0]


@dataclass(frozen=True)
class SegStudy(Study):
    """Cross-validation of the segmentation networks, split by group and, for comparison, by random slice.

    Args:
        bundle: folder of covid_seg_bundle.
        folder: output folder of the study.
        data: cases of the data set.
        overrides: config values.
        protocols: ``group``, ``paper``, or both.
        networks: subset of ``ALL_NETWORKS``.
        num_folds: number of folds.
        recipe: overlays of ``recipes`` on top of every training's train.yaml, such as ``dice_cross_entropy.yaml``.
        augmentation: whether networks are trained with augmentation, without, or both.

    Raises:
        ValueError: if the cases cannot be split into the folds, two images of a fold have the same name, or an
            override is not valid.
    """

    protocols: tuple[str, ...] = (GROUP, PAPER)
    networks: tuple[str, ...] = tuple(NETWORKS)
    num_folds: int = 10
    recipe: tuple[str, ...] = ()
    augmentation: tuple[bool, ...] = AUGMENTATION["both"]

    def __post_init__(self) -> None:
        super().__post_init__()
        for protocol, fold in product(self.protocols, range(self.num_folds)):
            problems = output_name_problems(self.split(protocol, fold)["validation"])
            if problems:
                raise ValueError(f"{problems[0]}.")

    def split(self, protocol: str, fold: int) -> dict[str, Any]:
        """Split the cases for a fold as the bundle does."""
        config = config_content([str(self.bundle / "configs" / TRAIN)], self.overrides)
        own = {"border": config["border"], "seed": config["seed"]}
        return split_cases(list(self.data.cases), self.num_folds, fold, protocol, **own)  # type: ignore[arg-type]

    def words(self) -> dict[str, str]:
        """Description of each protocol, by name."""
        return {protocol: self._words(protocol) for protocol in self.protocols}

    def arms(self) -> Iterator[Arm]:
        """All trainings, protocol by protocol."""
        for protocol, network, augmented in product(self.protocols, self.networks, self.augmentation):
            yield from (Arm(protocol, network, augmented, fold) for fold in range(self.num_folds))

    def runs(self) -> list[Run]:
        """A training and an evaluation for each arm."""
        return [run for arm in self.arms() for run in (self.training(arm), self.evaluation(arm))]

    def configs(self) -> Iterator[tuple[tuple[str, ...], str]]:
        """Config files and verb of each kind of run."""
        for network in self.networks:
            yield (TRAIN, EVALUATE, *ALL_NETWORKS[network][1]), EVALUATING
            for augmented in self.augmentation:
                yield self._training_files(network, augmented), TRAINING

    def training(self, arm: Arm) -> Run:
        """Train a network on all folds but one."""
        return self._training(
            f"{arm.name}/train",
            f"{arm.kind} train",
            self._training_files(arm.network, arm.augmented),
            **self._fold(arm),
        )

    def evaluation(self, arm: Arm) -> Run:
        """Score a network on its validation fold; overlays are drawn for one augmentation setting only."""
        undrawn = {} if arm.augmented == self.augmentation[0] else {"overlay_slices": 0}
        files = (TRAIN, EVALUATE, *ALL_NETWORKS[arm.network][1])
        own = {**self._fold(arm), **undrawn}
        return self._evaluation(f"{arm.name}/evaluate", f"{arm.kind} evaluate", files, self.training(arm), **own)

    def collect(self, outcome: Outcome) -> SegmentationResults:
        """Collect the results of the finished runs; a run that did not finish has no scores.

        Args:
            outcome: outcome of the runs.

        Returns:
            The results.
        """
        finished = [arm for arm in self.arms() if outcome.has(self.evaluation(arm))]
        drawn = [arm for arm in finished if arm.augmented == self.augmentation[0]]
        pairs = zip(self.data.cases, self.data.further, strict=True)
        return SegmentationResults(
            protocols=self.words(),
            cases=pd.DataFrame([{"case_id": case["case_id"], "group": case["group"], **more} for case, more in pairs]),
            scores=long_table(map(self._scores, finished), SCORE_COLUMNS),
            networks=tuple(ALL_NETWORKS[network][0] for network in self.networks),
            overlays={key: path for arm in drawn for key, path in self._overlays(arm)},
            failed=tuple(outcome.failed),
            augmentation=self.augmentation,
        )

    def report(self, outcome: Outcome, resamples: int = RESAMPLES) -> Report:
        """Tables and figures of the finished runs."""
        return seg_report(self.collect(outcome), resamples)

    def _training_files(self, network: str, augmented: bool) -> tuple[str, ...]:
        recipe = (f"{RECIPES}/{name}" for name in self.recipe)
        return (TRAIN, *ALL_NETWORKS[network][1], *recipe, *(() if augmented else (NO_AUGMENTATION,)), LAST_WEIGHTS)

    def _fold(self, arm: Arm) -> dict[str, Any]:
        return {"fold": arm.fold, "num_folds": self.num_folds, "protocol": arm.protocol}

    def _words(self, protocol: str) -> str:
        how = self.split(protocol, 0)["protocol"]
        return (
            f"{self.num_folds} folds, {how}. Each case is scored by a model not trained on it. Each model is the "
            "last epoch: nothing was selected on the fold it is scored on."
        )

    def _scores(self, arm: Arm) -> pd.DataFrame:
        """Long table of a fold: one row per case and lesion class."""
        table = read_case_table(self.evaluation(arm).folder / PER_CASE)
        own: dict[str, Any] = {"network": arm.title, "augmented": arm.augmented, "protocol": arm.protocol}
        classes = f"(?:{'|'.join(LESION_CLASSES)})"
        long = pd.wide_to_long(table, list(NUMBERS), i="case_id", j="lesion", sep="_", suffix=classes).reset_index()
        return long.assign(case_id=long["case_id"].map(self._ids(arm)), fold=arm.fold, **own)

    def _ids(self, arm: Arm) -> dict[str, str]:
        """Case ids of a fold by image name; evaluations identify cases by image name."""
        return {case_name(case["image"]): case["case_id"] for case in self.split(arm.protocol, arm.fold)["validation"]}

    def _overlays(self, arm: Arm) -> Iterator[tuple[tuple[str, str, str], Path]]:
        folder = self.evaluation(arm).folder / "eval"
        for name, case_id in self._ids(arm).items():
            drawn = sorted((folder / name).glob(f"{name}_overlay_*.png"))
            if drawn:
                yield (arm.title, arm.protocol, case_id), drawn[0]
