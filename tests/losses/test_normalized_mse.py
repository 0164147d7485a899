import numpy as np
import pytest
import torch
from custom_components.losses.attention_guided import AttentionGuidedLoss
from custom_components.losses.normalized_mse import NormalizedMSELoss
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.reference import dual_sampling as reference

SIZE = (2, 3, 4)


def draw(seed, batch=3):
    generator = torch.Generator().manual_seed(seed)
    attention = torch.rand(batch, 1, *SIZE, generator=generator, dtype=torch.float64)
    mask = (torch.rand(batch, 1, *SIZE, generator=generator) < 0.4).double()
    return attention, mask


@given(st.integers(0, 1000), st.integers(1, 4))
@settings(max_examples=20, deadline=None)
def test_it_is_eq_3_of_each_scan_averaged(seed, batch):
    attention, mask = draw(seed, batch)
    expected = np.mean([reference.normalized_mse(a.numpy(), m.numpy()) for a, m in zip(attention, mask, strict=True)])
    assert NormalizedMSELoss()(attention, mask).item() == pytest.approx(expected, rel=1e-12)


@given(st.integers(0, 1000))
def test_it_lies_between_0_for_the_mask_itself_and_1_for_its_opposite(seed):
    attention, mask = draw(seed)
    assert 0 <= NormalizedMSELoss()(attention, mask).item() <= 1
    assert NormalizedMSELoss()(mask, mask).item() == 0
    assert NormalizedMSELoss()(1 - mask, mask).item() == pytest.approx(1)


def test_a_small_and_a_large_lesion_missed_alike_cost_the_same():
    mask = torch.zeros(2, 1, 8, 8, 8)
    mask[0, :, :1, :2, :2], mask[1, :, :4, :4, :8] = 1, 1
    losses = [NormalizedMSELoss()(0.5 * mask[k : k + 1], mask[k : k + 1]).item() for k in range(2)]
    assert losses == pytest.approx([0.25 / 1.5] * 2)


@given(st.lists(st.booleans(), min_size=3, max_size=3), st.integers(0, 100))
@settings(max_examples=20, deadline=None)
def test_only_selected_scans_take_part(selected, seed):
    attention, mask = draw(seed)
    chosen = [k for k in range(3) if selected[k]]
    loss = NormalizedMSELoss()(attention, mask, torch.tensor(selected))
    expected = NormalizedMSELoss()(attention[chosen], mask[chosen]).item() if chosen else 0.0
    assert loss.item() == pytest.approx(expected)


def test_without_a_selected_scan_it_is_0_with_a_gradient_of_0():
    attention, mask = draw(0)
    attention.requires_grad_()
    loss = NormalizedMSELoss()(attention, mask, torch.zeros(3))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(attention.grad, torch.zeros_like(attention))


def test_empty_attention_on_an_empty_mask_costs_nothing_and_has_no_nan():
    attention = torch.zeros(1, 1, *SIZE, requires_grad=True)
    loss = NormalizedMSELoss()(attention, torch.zeros(1, 1, *SIZE))
    loss.backward()
    assert loss.item() == 0
    assert bool(attention.grad.isfinite().all())


def test_the_gradient_is_that_of_the_equation():
    attention, mask = draw(5)
    selected = torch.tensor([1, 0, 1])
    loss = NormalizedMSELoss()
    assert torch.autograd.gradcheck(lambda a: loss(a, mask, selected), attention.requires_grad_())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_at_full_size_half_precision_neither_overflows_nor_drifts(dtype):
    attention = torch.full((1, 1, 138, 256, 256), 0.25, dtype=dtype, requires_grad=True)
    mask = torch.ones(1, 1, 138, 256, 256, dtype=torch.uint8)
    with torch.autocast("cpu", dtype=dtype):
        loss = NormalizedMSELoss()(attention, mask)
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(0.5625 / 1.25, rel=1e-4)
    slope = -(1.5 * 1.25 + 0.5625) / 1.25**2 / mask.numel()  # of Eq. 3 in one voxel, 1.7e-7
    assert bool(((attention.grad.float() - slope).abs() < 2**-25).all())  # half a step of the smallest numbers of fp16


def test_masks_of_another_size_are_refused():
    message = r"of one shape \(B, 1, D, H, W\), got \(1, 1, 2, 3, 4\) and \(1, 1, 2, 3, 5\)"
    with pytest.raises(ValueError, match=message):
        NormalizedMSELoss()(torch.zeros(1, 1, 2, 3, 4), torch.zeros(1, 1, 2, 3, 5))
    with pytest.raises(ValueError, match="one number per scan"):
        NormalizedMSELoss()(torch.zeros(2, 1, 2, 3, 4), torch.zeros(2, 1, 2, 3, 4), torch.ones(3))


def batch_of(seed, labels=(1, 0, 1)):
    attention, mask = draw(seed)
    logit = torch.randn(3, 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    prediction = {"logit": logit, "attention": attention}
    return prediction, {"label": torch.tensor(labels), "infection": mask}


@given(st.integers(0, 1000), st.lists(st.integers(0, 1), min_size=3, max_size=3), st.floats(0, 2))
@settings(max_examples=20, deadline=None)
def test_the_total_loss_is_eq_4(seed, labels, weight):
    prediction, target = batch_of(seed, labels)
    logits, maps = prediction["logit"][:, 0].tolist(), (prediction["attention"].numpy(), target["infection"].numpy())
    expected = reference.total_loss(logits, labels, *maps, weight)
    assert AttentionGuidedLoss(weight)(prediction, target).item() == pytest.approx(expected, rel=1e-5)


def test_lambda_is_one_half():
    prediction, target = batch_of(1)
    halves = [AttentionGuidedLoss(weight)(prediction, target).item() for weight in (0.0, 1.0)]
    assert AttentionGuidedLoss()(prediction, target).item() == pytest.approx(np.mean(halves))


def test_the_plain_classifier_needs_no_mask():
    prediction, target = batch_of(1)
    loss = AttentionGuidedLoss(0)
    bare = loss({"logit": prediction["logit"]}, {"label": target["label"]})
    assert bare.item() == loss(prediction, target).item()


@pytest.mark.parametrize("missing", ["attention", "infection"])
def test_the_attention_loss_without_attention_or_mask_says_what_to_do(missing):
    prediction, target = batch_of(1)
    (prediction if missing in prediction else target).pop(missing)
    with pytest.raises(ValueError, match="train without the attention loss"):
        AttentionGuidedLoss()(prediction, target)


def test_labels_of_another_kind_are_refused():
    prediction, target = batch_of(1, labels=(1, 2, 0))
    with pytest.raises(ValueError, match=r"label is 2. Expected 1 \(COVID-19\) or 0 \(CAP\)"):
        AttentionGuidedLoss()(prediction, target)
    with pytest.raises(ValueError, match=r"labels \(B,\), got \(3, 1\) and \(2,\)"):
        AttentionGuidedLoss()(prediction, {**target, "label": torch.tensor([1, 0])})
    with pytest.raises(ValueError, match="attention_weight is -1"):
        AttentionGuidedLoss(-1)


@given(st.integers(0, 1000), st.lists(st.integers(0, 2), min_size=3, max_size=3), st.floats(0, 2))
@settings(max_examples=20, deadline=None)
def test_with_three_classes_it_is_the_cross_entropy_and_the_attention_loss_of_covid(seed, labels, weight):
    prediction, target = batch_of(seed, labels)
    logits = np.random.default_rng(seed).normal(size=(3, 3))
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = np.mean([-np.log(share[label]) for share, label in zip(shares, labels, strict=True)])
    own = [
        reference.normalized_mse(a.numpy(), m.numpy())
        for a, m, label in zip(prediction["attention"], target["infection"], labels, strict=True)
        if label == 1
    ]
    expected += weight * np.mean(own) if own else 0
    found = AttentionGuidedLoss(weight, num_classes=3)({**prediction, "logit": torch.tensor(logits)}, target)
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_an_empty_mask_gives_every_attention_about_the_same_loss():
    """Why normal scans have no attention loss: T(A) has a maximum of 1 in each scan, and T^2 is about T."""
    empty = torch.zeros(1, 1, *SIZE)
    for voxels in (1, 5, 24):
        attention = empty.clone()
        attention.view(-1)[:voxels] = 1
        assert NormalizedMSELoss()(attention, empty).item() == 1
    attention = torch.full((1, 1, *SIZE), 0.1).index_fill(4, torch.tensor([0]), 1.0).requires_grad_()
    NormalizedMSELoss()(attention, empty).backward()
    assert (attention.grad[..., 1:] < 0).all()  # a step against the gradient raises low attention


def test_labels_and_logits_of_another_number_of_classes_are_refused():
    prediction, target = batch_of(1, labels=(1, 3, 0))
    loss = AttentionGuidedLoss(num_classes=3)
    with pytest.raises(ValueError, match=r"label is 3. Expected 1 \(COVID-19\), 0 \(CAP\) or 2 \(normal\)"):
        loss({**prediction, "logit": torch.zeros(3, 3)}, target)
    with pytest.raises(ValueError, match=r"Expected logits \(B, 3\)"):
        loss(prediction, target)
    with pytest.raises(ValueError, match=r"num_classes is 2. Expected 1"):
        AttentionGuidedLoss(num_classes=2)
