import nibabel as nib
import numpy as np
import pytest
from custom_components.images.slice_axis import slice_axis_of
from custom_components.reports.display import Display


@pytest.mark.parametrize("axes", ["LPS", "SAR", "RIA", "AIL"])
def test_the_axis_along_the_body_is_the_one_that_display_shows_slice_by_slice(axes):
    turn = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt(axes), nib.orientations.axcodes2ornt("RAS"))
    affine = np.linalg.inv(nib.orientations.inv_ornt_aff(turn, (3, 4, 5)))
    (along,) = (number for number, letter in enumerate(axes) if letter in "SI")
    assert slice_axis_of(affine) == along
    assert Display(affine).slice_axis == along
