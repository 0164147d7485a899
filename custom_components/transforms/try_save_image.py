from collections.abc import Hashable, Mapping
from typing import Any

from custom_components.engines.case_evaluator import NOT_WRITTEN, noted_when_unwritten
from custom_components.images.case_id import case_id
from monai.transforms import SaveImaged


class TrySaveImaged(SaveImaged):
    """MONAI's SaveImaged that records a failed write and lets the case continue with its other files.

    Adds to MONAI: an error is stored in ``item["not_written"][<keys>]``; ``CaseEvaluator`` then counts the case as
    failed and lists these reasons. Takes the arguments of ``monai.transforms.SaveImaged``.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Write the images of one item; returns a shallow copy that lists the failed writes, if any."""
        unwritten = dict(data.get(NOT_WRITTEN, {}))
        with noted_when_unwritten(unwritten, ", ".join(map(str, self.keys)), case_id(data)):
            return super().__call__(data)
        return {**data, NOT_WRITTEN: unwritten}
