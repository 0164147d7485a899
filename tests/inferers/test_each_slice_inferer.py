import pytest
import torch
from custom_components import EachSliceInferer
from monai.data import MetaTensor
from monai.inferers import SliceInferer

SHAPE = (1, 2, 8, 6, 5)


@pytest.fixture
def network():
    return torch.nn.Conv2d(2, 3, 3, padding=1)


def of_slices():
    return SliceInferer(roi_size=(8, 6), sw_batch_size=1, spatial_dim=2)


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_the_result_is_that_of_the_inferer_for_any_number_of_cores(network, threads):
    volume, before = torch.rand(SHAPE), torch.get_num_threads()
    expected = of_slices()(volume, network)
    try:
        torch.set_num_threads(threads)
        found = EachSliceInferer(of_slices())(volume, network)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert found.shape == (1, 3, 8, 6, 5)
    assert torch.allclose(found, expected, atol=1e-6)


def test_metadata_are_kept(network):
    volume = MetaTensor(torch.rand(SHAPE), affine=torch.diag(torch.tensor([2.0, 3.0, 4.0, 1.0])))
    found = EachSliceInferer(of_slices())(volume, network)
    assert isinstance(found, MetaTensor)
    assert torch.equal(found.affine, volume.affine)


@pytest.mark.parametrize("wanted", [True, False])
def test_gradients_are_computed_only_if_enabled(network, wanted):
    with torch.set_grad_enabled(wanted):
        assert EachSliceInferer(of_slices())(torch.rand(SHAPE), network).requires_grad is wanted


def test_after_an_error_the_number_of_threads_is_restored(network):
    before = torch.get_num_threads()
    with pytest.raises(RuntimeError, match="expected input"):
        EachSliceInferer(of_slices())(torch.rand(1, 4, 8, 6, 5), network)
    assert torch.get_num_threads() == before
