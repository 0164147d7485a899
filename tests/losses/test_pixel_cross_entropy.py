import numpy as np
import pytest
import torch
from custom_components.losses.pixel_cross_entropy import PixelCrossEntropy
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from monai.data import MetaTensor

from tests.reference.lesion_scores import cross_entropy

LOGITS = hnp.arrays(np.float64, (2, 4, 3, 5), elements=st.floats(-20, 20))
LABELS = hnp.arrays(np.int64, (2, 1, 3, 5), elements=st.sampled_from([0, 1, 2, 3, 255]))


@given(LOGITS, LABELS, st.booleans())
@settings(max_examples=50, deadline=None)
def test_it_equals_the_slow_reference(logits, labels, sigmoid):
    loss = PixelCrossEntropy(sigmoid=sigmoid)(torch.tensor(logits), torch.tensor(labels))
    assert loss.item() == pytest.approx(cross_entropy(logits, labels, sigmoid), rel=1e-6, abs=1e-9)


@given(LOGITS, LABELS, LOGITS)
@settings(max_examples=25, deadline=None)
def test_ignored_pixels_change_neither_loss_nor_gradient(logits, labels, other):
    changed = np.where(labels == 255, other, logits)
    losses = []
    for values in (logits, changed):
        tensor = torch.tensor(values, requires_grad=True)
        loss = PixelCrossEntropy()(tensor, torch.tensor(labels))
        loss.backward()
        losses.append(loss.item())
        assert torch.all(tensor.grad[torch.tensor(labels == 255).expand(-1, 4, -1, -1)] == 0)
    assert losses[0] == losses[1]


def test_weights_have_the_same_effect_as_in_torch():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 3, 5, 6, generator=generator)
    labels = torch.randint(0, 4, (2, 1, 3, 5, 6), generator=generator)
    labels[0, 0, 0] = 255
    weight = torch.tensor([0.1, 1.0, 2.0, 5.0])
    expected = torch.nn.CrossEntropyLoss(weight=weight, ignore_index=255)(logits, labels[:, 0])
    assert torch.allclose(PixelCrossEntropy(weight=weight)(logits, labels.float()), expected)


@pytest.mark.parametrize("sigmoid", [False, True])
def test_gradients_are_right(sigmoid):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 4, 2, 3, dtype=torch.float64, generator=generator, requires_grad=True)
    labels = torch.tensor([[[[0, 1, 255], [3, 2, 1]]]])
    loss = PixelCrossEntropy(sigmoid=sigmoid, weight=[1.0, 2.0, 3.0, 4.0])
    assert torch.autograd.gradcheck(lambda values: loss(values, labels), logits)


@pytest.mark.parametrize("sigmoid", [False, True])
def test_a_batch_without_counted_pixels_has_loss_and_gradient_zero(sigmoid):
    logits = torch.full((1, 4, 2, 3), 1e4, requires_grad=True)
    loss = PixelCrossEntropy(sigmoid=sigmoid)(logits, torch.full((1, 1, 2, 3), 255.0))
    loss.backward()
    assert loss.item() == 0
    assert torch.all(logits.grad == 0)


def test_the_sigmoid_form_punishes_raising_every_channel():
    labels = torch.zeros(1, 1, 2, 3)
    loss = PixelCrossEntropy(sigmoid=True)
    sure, all_raised = torch.full((1, 4, 2, 3), -9.0), torch.full((1, 4, 2, 3), 9.0)
    sure[:, 0] = 9
    assert loss(sure, labels) < 0.01 < loss(all_raised, labels)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_give_a_float32_loss(dtype):
    logits = (10 * torch.randn(1, 4, 64, 65, generator=torch.Generator().manual_seed(0))).to(dtype)
    labels = torch.zeros(1, 1, 64, 65)
    with torch.autocast("cpu", dtype=dtype):
        loss = PixelCrossEntropy()(logits, labels)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, PixelCrossEntropy()(logits.float(), labels))


def test_the_loss_of_meta_tensors_is_a_tensor():
    loss = PixelCrossEntropy()(MetaTensor(torch.zeros(1, 4, 2, 3)), MetaTensor(torch.zeros(1, 1, 2, 3)))
    assert type(loss) is torch.Tensor
    assert loss.item() == pytest.approx(np.log(4))


@pytest.mark.parametrize("value", [4.0, -1.0, 0.5, float("nan")])
def test_a_wrong_label_value_is_rejected_with_the_case(value):
    labels = MetaTensor(torch.zeros(1, 1, 2, 3), meta={"filename_or_obj": ["masks/017.nii.gz"]})
    labels[0, 0, 1, 1] = value
    with pytest.raises(ValueError, match=f"^Case 017: label has value {value:g} at 1 pixels. Expected 0 to 3 or 255"):
        PixelCrossEntropy()(torch.zeros(1, 4, 2, 3), labels)


@pytest.mark.parametrize("shape", [(1, 2, 3), (1, 4, 2, 3), (1, 1, 3, 2), (2, 1, 2, 3)])
def test_labels_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"got logits \(1, 4, 2, 3\) and labels"):
        PixelCrossEntropy()(torch.zeros(1, 4, 2, 3), torch.zeros(shape))


@pytest.mark.parametrize(
    ("weight", "message"), [([1, -1], "weight >= 0"), ([1.0, 2.0], "each of the 4 classes, got 2")]
)
def test_weights_that_do_not_fit_are_refused(weight, message):
    with pytest.raises(ValueError, match=message):
        PixelCrossEntropy(weight=weight)(torch.zeros(1, 4, 2, 3), torch.zeros(1, 1, 2, 3))
