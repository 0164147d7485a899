import pytest
import torch
from custom_components.inferers.flip_inferer import FlipInferer
from monai.inferers import SimpleInferer, SliceInferer


def sided(x: torch.Tensor) -> torch.Tensor:
    """A network that adds a ramp along both axes to each pixel."""
    return x + torch.arange(x.shape[2])[:, None] + 10 * torch.arange(x.shape[3])


@pytest.mark.parametrize("axes", [[0], [1], [0, 1]])
def test_a_difference_between_the_sides_is_averaged(axes):
    image = torch.rand(2, 1, 3, 5)
    rows, columns = torch.arange(3.0), 10 * torch.arange(5.0)
    rows = torch.full((3,), 1.0) if 0 in axes else rows
    columns = torch.full((5,), 20.0) if 1 in axes else columns
    torch.testing.assert_close(FlipInferer(SimpleInferer(), axes)(image, sided), image + rows[:, None] + columns)


def test_without_axes_the_result_is_that_of_the_inferer():
    image = torch.rand(1, 1, 4, 5)
    assert torch.equal(FlipInferer(SimpleInferer())(image, sided), sided(image))


def test_the_slices_of_a_volume_are_flipped():
    image = torch.rand(1, 1, 4, 5, 3)
    inferer = SliceInferer(roi_size=(4, 5), spatial_dim=2)
    found = FlipInferer(inferer, axes=[0])(image, sided)
    torch.testing.assert_close(found, image + 1.5 + 10 * torch.arange(5.0)[:, None])


@pytest.mark.parametrize(
    ("axes", "message"), [([-1], "0 or more"), ([0, 0], "different axes"), ([2], r"Expected axes below 2, got \[2\]")]
)
def test_a_negative_repeated_or_missing_axis_is_an_error(axes, message):
    with pytest.raises(ValueError, match=message):
        FlipInferer(SimpleInferer(), axes)(torch.rand(1, 1, 4, 5), sided)
