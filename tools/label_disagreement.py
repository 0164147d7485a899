"""MONAI Label's next scan to correct: the one on which the networks disagree most, by the reports of `diagnose`.

`tools/monai_label.py` copies this file into the app. It needs nothing but Python, like `label_guard.py`.
"""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

NAME = "disagreement"
# Name of the variable of the environment with the output folder of `diagnose`.
RESULTS = "COVID_DIAGNOSED"

_logger = logging.getLogger(__name__)


class Datastore(Protocol):
    """What MONAI Label's datastores have."""

    def get_unlabeled_images(self, label_tag: str | None = None, labels: list[str] | None = None) -> list[str]:
        """Names of scans without a submitted label."""


class Disagreement:
    """Active-learning strategy of MONAI Label.

    Scans without a report come last, in the order of their names.

    Args:
        results: output folder of `diagnose` of the same scans.
    """

    def __init__(self, results: Path) -> None:
        self.results = results

    def info(self) -> dict[str, str]:
        """What the server says of it."""
        return {"description": "The scan on which the networks disagree most, by the reports of diagnose"}

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, str] | None:
        """Choose the next scan; None when each has a label."""
        images = datastore.get_unlabeled_images(request.get("label_tag"), request.get("labels"))
        scores = {image: disagreement(self.results / image / "report.json") for image in images}
        if not images:
            return None
        chosen = min(images, key=lambda image: (-scores[image], image))
        _logger.info("Disagreement %.2f: %s", scores[chosen], chosen)
        return {"id": chosen}


def disagreement(report: Path) -> float:
    """How much the networks disagree on a scan.

    Args:
        report: `report.json` of the case.

    Returns:
        1 - the lowest Dice among VB-Net against the lesion network and the lesion network against itself in mirror
        images; 0 if neither found infection, -1 without a report.
    """
    try:
        content = json.loads(report.read_text(encoding="utf-8"))
        both, mirror = (content.get(key) or {} for key in ("agreement", "consistency"))
        dice = [both.get("dice"), mirror.get("mirror_dice")]
    except (OSError, ValueError, AttributeError):
        return -1.0
    return 1.0 - min((float(one) for one in dice if one is not None), default=1.0)
