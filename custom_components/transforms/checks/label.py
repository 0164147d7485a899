from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from custom_components.images.case_id import case_id
from custom_components.images.geometry import check_on_image, is_turned
from custom_components.labels import IGNORE_LABEL, LESION_CLASSES
from monai.config import KeysCollection
from monai.transforms import MapTransform

LABEL_NAMES = {
    0: "background",
    **{value: name.replace("_", " ") for value, name in enumerate(LESION_CLASSES, start=1)},
    IGNORE_LABEL: "ignore",
}


class CheckLabeld(MapTransform):
    """Check, right after loading, that a label has valid values and the grid of its image.

    The data are not changed. Without this check, a wrong value would train a wrong class, or fail on the GPU with an
    error that does not name the case.

    Args:
        keys: labels to check.
        image_key: image whose size and position each label must match; not compared if missing.
        allowed: valid label values.
        allow_missing_keys: whether a label may be missing.

    Raises:
        ValueError: on call, naming the case, the value or size found, the expected ones and what to do.

    Example:
        >>> check = CheckLabeld(keys="label")
        >>> check({"label": torch.tensor([[[0.0, 255.0]]])})["label"].tolist()
        [[[0.0, 255.0]]]
        >>> check({"label": torch.tensor([[[0.0, 7.0]]])})
        Traceback (most recent call last):
        ...
        ValueError: Case unknown: label has value 7 at 1 pixel. Expected 0 (background), 1 (ground glass), \
2 (consolidation), 3 (pleural effusion) or 255 (ignore). Check the label export.
    """

    def __init__(
        self,
        keys: KeysCollection,
        image_key: str = "image",
        allowed: Sequence[int] = tuple(LABEL_NAMES),
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.image_key = image_key
        self.allowed = tuple(allowed)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Check labels (1, X, Y[, Z]) against their image (C, X, Y[, Z]); returns a shallow copy of the case."""
        for key in self.key_iterator(dict(data)):
            case = str(data.get("case_id") or case_id(data[key]))
            self._check_values(torch.as_tensor(data[key]), key, case)
            if self.image_key in data:
                self._check_size(data[key], data[self.image_key], key, case)
        return dict(data)

    def _check_values(self, label: torch.Tensor, key: Hashable, case: str) -> None:
        allowed = torch.tensor(self.allowed, dtype=label.dtype if label.is_floating_point() else torch.int64)
        wrong = label[~torch.isin(label, allowed.to(label.device))]
        if not wrong.numel():
            return
        values, counts = torch.unique(wrong, return_counts=True)
        pixels = f"{int(counts[0]):,} pixel{'' if counts[0] == 1 else 's'}"
        more = f" (and {len(values) - 1} more such values)" if len(values) > 1 else ""
        raise ValueError(
            f"Case {case}: {key} has value {values[0].item():g} at {pixels}{more}. "
            f"Expected {_listed(self.allowed)}. Check the label export."
        )

    def _check_size(self, label: Any, image: Any, key: Hashable, case: str) -> None:
        size, expected = tuple(label.shape[1:]), tuple(image.shape[1:])
        if label.shape[0] != 1 or size != expected:
            raise ValueError(
                f"Case {case}: {key} has {label.shape[0]} channel(s) of size {size}. "
                f"Expected 1 channel of the image's size {expected}. Export the label on the image's grid."
            )
        check_on_image(label, image, str(key), case)
        if is_turned(label, image):
            raise ValueError(
                f"Case {case}: {key} is stored in another orientation than its image. Expected one order of the axes: "
                "put AlignMasksd before this check."
            )


def _listed(allowed: Sequence[int]) -> str:
    words = [f"{value} ({LABEL_NAMES[value]})" if value in LABEL_NAMES else str(value) for value in allowed]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
