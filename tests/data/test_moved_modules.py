import importlib

import pytest


@pytest.mark.parametrize(
    ("old", "new", "name"),
    [
        ("data.ct_reader", "images.ct_reader", "LabelReader"),
        ("data.dicom_series", "dicom.series", "check_dicom_series"),
    ],
)
def test_the_readers_are_found_in_their_old_place_with_a_warning(old, new, name):
    there = importlib.import_module(f"custom_components.{new}")
    moved = importlib.import_module(f"custom_components.{old}")
    with pytest.warns(DeprecationWarning, match=f"{old} has moved to custom_components.{new}: change the import"):
        assert getattr(moved, name) is getattr(there, name)
    with pytest.raises(AttributeError):
        moved.nothing  # noqa: B018
