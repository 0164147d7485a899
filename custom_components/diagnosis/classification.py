"""COVID-19 or CAP: both branches of covid_cap_bundle and their attention, for a CT with its masks."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from custom_components.diagnosis.bundle_network import BundleNetwork
from custom_components.diagnosis.kept_results import StageClock
from custom_components.diagnosis.lung_sources import LungMasks
from custom_components.images.writers import stored_map
from custom_components.metrics.case_numbers import covid_probability, final_probability, known_ratio
from custom_components.networks.dual_sampling import weight_of_ratio
from custom_components.reports.scan.findings import Scores
from monai.data import MetaTensor


@dataclass(frozen=True)
class Classification:
    """Output of the classifier for a CT.

    Args:
        scores: probabilities of COVID-19.
        attention_us: A of the branch with uniform sampling, in [0, 1], rounded as in its file; float32 (X, Y, Z).
        attention_ss: A of the size-balanced branch.
    """

    scores: Scores
    attention_us: np.ndarray
    attention_ss: np.ndarray

    @classmethod
    def restored(cls, scores: Mapping[str, Any], **maps: np.ndarray) -> "Classification":
        """The same from the fields of :class:`Scores` and the maps."""
        return cls(Scores(**scores), **maps)


def classify(
    image: MetaTensor, masks: LungMasks, ratio: float, bundle: BundleNetwork, case: str, clock: StageClock
) -> Classification:
    """Apply both branches.

    Args:
        image: CT in HU, (1, X, Y, Z).
        masks: masks of the CT.
        ratio: infection volume / lung volume; NaN if unknown, which leaves P_final out.
        bundle: ``covid_cap_bundle``.
        case: name of the case.
        clock: measures the stages.

    Returns:
        Scores, and attention on the grid of the CT.
    """
    item = {"image": image, "lung": masks.lung_like(image), "ratio": ratio, "case_id": case}
    with clock.stage("paper grid"):
        item = bundle.steps.apply("to_network", item)
    with clock.stage("both branches, attention"):
        item = bundle.predict(item)
    with clock.stage("attention to the CT's grid"):
        item = bundle.steps.apply("from_network", item)
    scores = _scores(item, bundle, case)
    maps = (stored_map(np.asarray(torch.as_tensor(item[f"attention_{name}"])[0])) for name in ("us", "ss"))
    return Classification(scores, *maps)


def _scores(item: dict, bundle: BundleNetwork, case: str) -> Scores:
    network, ratio = bundle.network, known_ratio(item, case)
    weight = None
    if ratio is not None:
        weight = round(weight_of_ratio(ratio, network.weights, network.ratio_thresholds), 6)
    return Scores(
        p_us=covid_probability(item, "logit_us", case),
        p_ss=covid_probability(item, "logit_ss", case),
        p_final=final_probability(item, case),
        weight_us=weight,
        threshold=network.decision_threshold,
    )
