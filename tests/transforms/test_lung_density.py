import numpy as np
import torch
from custom_components.transforms.lung_density import RandLungDensityd, lung_density
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

volumes = arrays(np.float32, (2, 3, 4), elements=st.floats(-1024, 1500, width=32))


@given(volumes)
def test_no_more_tissue_is_the_identity(hu):
    image = torch.from_numpy(hu)
    torch.testing.assert_close(lung_density(image, torch.ones_like(image).bool(), 0.0), image)


@given(volumes, st.floats(-0.12, 1.0))
def test_what_is_outside_the_lungs_or_denser_than_tissue_stays(hu, tissue):
    image = torch.from_numpy(hu)
    lung = torch.zeros_like(image).bool()
    lung[0] = True
    changed = lung_density(image, lung, tissue)
    assert torch.equal(changed[1], image[1])
    assert torch.equal(changed[image >= 40], image[image >= 40])


@given(volumes, st.floats(0, 1))
def test_more_tissue_never_makes_a_lung_lighter_nor_denser_than_tissue(hu, tissue):
    image = torch.from_numpy(hu)
    changed = lung_density(image, torch.ones_like(image).bool(), tissue)
    assert (changed >= image - 1e-3).all()
    assert (changed <= torch.clamp(image, min=40.0) + 1e-3).all()


def test_the_same_state_changes_lungs_alike_and_only_there():
    image, lung = torch.full((1, 5, 6), 0.3), torch.zeros(1, 5, 6)
    lung[:, 1:3] = 1
    change = RandLungDensityd("image", prob=1.0)
    one, other = (change.set_random_state(seed=4)({"image": image, "lung": lung})["image"] for _ in range(2))
    assert torch.equal(one, other)
    assert torch.equal(one[:, 3:], image[:, 3:])
    assert (one[:, 1:3] != image[:, 1:3]).any()
