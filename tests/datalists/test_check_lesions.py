import numpy as np
import pytest
from custom_components import check_infections, check_lesions

WARNED = "None of the {} {} cases has "


@pytest.fixture
def case(tmp_path, write_png):
    """A case whose label has these values."""

    def call(name, *values):
        path = write_png(tmp_path / f"{name}.png", np.array([[0, *values]], np.uint8))
        return {"case_id": name, "label": str(path)}

    return call


def test_masks_of_0_and_255_are_an_error_with_a_remedy(case):
    training = [case("a", 255), case("b", 0)]
    with pytest.raises(
        ValueError, match=r"No label .* has a lesion class, and 2 contain 255, the ignored value: a, c\. "
    ) as error:
        check_lesions(training=training, validation=[case("c", 0, 255)])
    assert "Expected 1 (ground glass), 2 (consolidation), 3 (pleural effusion)" in str(error.value)
    assert "in masks of 0 and 255, replace 255 with the class that it stands for" in str(error.value)


@pytest.mark.parametrize("value", [1, 2, 3])
@pytest.mark.parametrize("part", ["training", "validation"])
def test_one_lesion_is_enough_and_a_part_without_lesion_gives_a_warning(case, caplog, value, part):
    parts = {"training": [case("a", 255), case("b")], "validation": [case("c", 255)]}
    parts[part].append(case("d", 255, value))
    check_lesions(**parts)
    (other,) = parts.keys() - {part}
    assert [record.getMessage().split("a lesion")[0] for record in caplog.records] == [
        WARNED.format(len(parts[other]), other)
    ]


def test_each_part_with_only_background_gives_a_warning(case, caplog):
    check_lesions(training=[case("a")], validation=[case("b"), case("c")])
    texts = [record.getMessage() for record in caplog.records]
    assert [text.split("a lesion")[0] for text in texts] == [
        WARNED.format(1, "training"),
        WARNED.format(2, "validation"),
    ]
    assert all(text.endswith("Choose another fold, or add cases.") for text in texts)


def test_parts_with_lesions_and_empty_parts_give_no_warning_and_few_files_are_read(case, caplog):
    unread = {"case_id": "gone", "label": "gone.png"}
    check_lesions(training=[case("a"), case("b", 2), unread], validation=[])
    check_lesions(training=[], validation=[])
    assert not caplog.records


def test_an_unreadable_label_is_named(case):
    with pytest.raises(ValueError, match=r"Case gone: gone.png does not exist"):
        check_lesions(scored=[case("a"), {"case_id": "gone", "label": "gone.png"}])


@pytest.mark.parametrize(("ratios", "is_warned"), [([0.0, 0.0], True), ([0.0, 1e-6], False), ([], False)])
def test_scans_without_any_infection_give_a_warning(caplog, ratios, is_warned):
    check_infections(training=[{"ratio": 0.2}], validation=[{"ratio": ratio} for ratio in ratios])
    expected = [WARNED.format(2, "validation") + "infection in its mask"] if is_warned else []
    assert [record.getMessage().split(".")[0] for record in caplog.records] == expected
