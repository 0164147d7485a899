"""All label values (lesions, lungs and infection, sides) and the class sets of partial labels."""

from collections.abc import Mapping, Sequence

import numpy as np

# Lesions (Chen et al. 2020, Sec. III-A): names of label values 1, 2, 3; 0 is background.
LESION_CLASSES = ("ground_glass", "consolidation", "pleural_effusion")

# Lungs and infection in one label map: infected lung is labelled as infection.
BACKGROUND, LUNG, INFECTION = 0, 1, 2

# Patient's left and right lung in a lung mask.
LEFT, RIGHT = 1, 2

# The loss and the metrics ignore pixels with this label.
IGNORE_LABEL = 255

# Lung window (level -600, width 1500): HU range of the 8-bit intensities 0..255.
LUNG_WINDOW_HU = (-1350.0, 150.0)


# One bit per class in a uint8.
MOST_CLASSES = 8


def label_set_table(sets: Mapping[int | str, Sequence[int]], num_classes: int, case: str = "unknown") -> np.ndarray:
    """Map each label value to the set of classes that its voxels may have.

    Args:
        sets: classes of each label value; keys may be strings, as in JSON. Unlisted values
            may be any class.
        num_classes: number of classes C, background included; 1 to 8.
        case: name of the case, for messages.

    Returns:
        uint8, shape (256,): bit c is set where class c is possible.

    Raises:
        ValueError: when a value is outside 0 to 255, a set is empty, or a class is outside 0 to C - 1.

    Example:
        >>> table = label_set_table({0: [0], "1": [1, 2]}, num_classes=4)
        >>> [f"{table[value]:04b}" for value in (0, 1, 255)]
        ['0001', '0110', '1111']
    """
    if not 1 <= num_classes <= MOST_CLASSES:
        raise ValueError(f"num_classes is {num_classes}. Expected 1 to {MOST_CLASSES}, background included.")
    table = np.full(256, (1 << num_classes) - 1, np.uint8)
    for key, classes in sets.items():
        value = int(key)
        if not 0 <= value <= 255 or not classes or not set(classes) <= set(range(num_classes)):
            raise ValueError(
                f"Case {case}: label value {key} means the classes {list(classes)}. Expected a value from 0 to 255 "
                f"and one or more classes from 0 to {num_classes - 1}. Correct `label_sets` in the datalist."
            )
        table[value] = sum(1 << index for index in set(classes))
    return table


# Key of a case of a data set that is a phantom, not a patient.
SYNTHETIC = "synthetic"
