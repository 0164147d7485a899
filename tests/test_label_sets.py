import numpy as np
import pytest
from custom_components.labels import label_set_table


def test_values_become_bits_and_what_is_not_listed_may_be_anything() -> None:
    table = label_set_table({"0": [0, 3], 1: [1, 2], 7: [3]}, num_classes=4)
    assert table[np.array([0, 1, 7, 2, 255])].tolist() == [0b1001, 0b0110, 0b1000, 0b1111, 0b1111]


@pytest.mark.parametrize("sets", [{256: [0]}, {-1: [0]}, {0: []}, {0: [4]}, {0: [-1]}])
def test_a_wrong_set_names_the_case(sets: dict[int, list[int]]) -> None:
    with pytest.raises(ValueError, match="Case patient_7: label value"):
        label_set_table(sets, 4, "patient_7")


@pytest.mark.parametrize("classes", [0, 9])
def test_classes_have_to_fit_into_eight_bits(classes: int) -> None:
    with pytest.raises(ValueError, match=f"num_classes is {classes}"):
        label_set_table({}, classes)
