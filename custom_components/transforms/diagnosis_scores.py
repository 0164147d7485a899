from collections.abc import Hashable, Mapping
from typing import Any

from custom_components._version import NOTICE
from custom_components.images.case_id import case_id
from custom_components.infection_size import CAP, CLASS_NAMES, COVID
from custom_components.metrics.case_numbers import covid_probability, known_ratio
from custom_components.networks.dual_sampling import PAPER_THRESHOLDS, PAPER_WEIGHTS, weight_of_ratio
from monai.transforms import Transform

_DECIMALS = 4
_RATIO_DECIMALS = 6


class DiagnosisScoresd(Transform):
    """Put the scores of a case into ``data["result"]`` as JSON-compatible numbers and strings.

    MONAI Label returns this as ``params`` with the label volume. Existing entries are kept.

    ``p_us``, ``p_ss``: probability of COVID-19 of each branch; ``p_final``: that of Eq. 5 of Ouyang et al. 2020;
    ``prediction``: ``covid`` or ``cap``; ``ratio``: infection volume / lung volume; ``weight_us``: the resulting weight
    of the uniform branch; ``p_plain``: of the network without attention loss, if used. If the ratio is unknown,
    ``ratio``, ``weight_us``, ``p_final`` and ``prediction`` are null.

    Args:
        threshold: smallest P_final that is classified as COVID-19.
        result_key: key of the scores.
        weights: w outside and inside the ratio thresholds, as in the network.
        ratio_thresholds: thresholds of the ratio, as in the network.

    Raises:
        ValueError: on call, naming the case, when a required logit is missing or not finite.

    Example:
        >>> import torch
        >>> logits = {name: torch.tensor([value]) for name, value in {"logit_us": 0.0, "logit_ss": 9.0}.items()}
        >>> result = DiagnosisScoresd()({**logits, "ratio": float("nan")})["result"]
        >>> result["p_us"], result["p_ss"], result["p_final"], result["prediction"]
        (0.5, 0.9999, None, None)
    """

    def __init__(
        self,
        threshold: float = 0.5,
        result_key: str = "result",
        weights: tuple[float, float] = PAPER_WEIGHTS,
        ratio_thresholds: tuple[float, float] = PAPER_THRESHOLDS,
    ) -> None:
        self.threshold = threshold
        self.result_key = result_key
        self.weights, self.ratio_thresholds = weights, ratio_thresholds

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a shallow copy with the scores.

        Args:
            data: ``logit_us``, ``logit_ss``, ``ratio``; ``logit`` if the ratio is known; optionally ``logit_plain`` and
                ``lung_source``.
        """
        item: dict[Any, Any] = dict(data)
        case = str(item.get("case_id") or case_id(item))
        scores = {**self._scores(item, case), "lung_source": item.get("lung_source"), "notice": NOTICE}
        item[self.result_key] = {**(item.get(self.result_key) or {}), **scores}
        return item

    def _scores(self, item: Mapping[str, Any], case: str) -> dict[str, float | str | None]:
        p_us, p_ss = (covid_probability(item, key, case) for key in ("logit_us", "logit_ss"))
        plain = {} if item.get("logit_plain") is None else {"p_plain": covid_probability(item, "logit_plain", case)}
        branches = {name: round(value, _DECIMALS) for name, value in {"p_us": p_us, "p_ss": p_ss, **plain}.items()}
        ratio = known_ratio(item, case)
        if ratio is None:
            return {**branches, **dict.fromkeys(("p_final", "prediction", "ratio", "weight_us"))}
        p_final = covid_probability(item, "logit", case)
        weight = weight_of_ratio(ratio, self.weights, self.ratio_thresholds)
        return {
            **branches,
            "p_final": round(p_final, _DECIMALS),
            "prediction": CLASS_NAMES[COVID if p_final >= self.threshold else CAP],
            "ratio": round(ratio, _RATIO_DECIMALS),
            "weight_us": round(weight, _RATIO_DECIMALS),
        }
