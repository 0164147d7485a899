import itertools

import numpy as np
from custom_components.pictures.slices import most_affected, slices_to_show
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp


@given(st.lists(st.integers(0, 9), min_size=1, max_size=40), st.floats(0.5, 12), st.integers(0, 6))
@settings(max_examples=60)
def test_the_slices_shown_have_lesion_and_lie_a_centimetre_apart(pixels, spacing_mm, most):
    shown = slices_to_show(np.array(pixels), spacing_mm, most)
    assert len(shown) <= most
    assert shown == sorted(shown)
    assert all((b - a) * spacing_mm >= 10 for a, b in itertools.pairwise(shown))
    if any(pixels):
        assert all(pixels[index] for index in shown)
        assert most == 0 or pixels.index(max(pixels)) in shown


def test_without_lesion_the_middle_slice_is_shown():
    assert slices_to_show(np.zeros(7), spacing_mm=5.0) == [3]


@given(hnp.arrays(np.uint8, (3, 4, 5), elements=st.integers(0, 1)), st.integers(0, 2))
@settings(max_examples=40)
def test_the_slices_that_are_most_affected_have_most_of_the_mask(mask, place):
    masks = [np.zeros_like(mask)] * place + [mask] + [None] * (2 - place)
    z, y = most_affected(mask.shape, *masks)
    if mask.any():
        assert mask[:, :, z].sum() == max(mask[:, :, k].sum() for k in range(5))
        assert mask[:, y].sum() == max(mask[:, k].sum() for k in range(4))
    else:
        assert (z, y) == (2, 2)
