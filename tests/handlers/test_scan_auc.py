import pytest
import torch
from custom_components.handlers.scan_auc import ScanAUC
from ignite.engine import Engine
from sklearn.metrics import roc_auc_score


@pytest.mark.parametrize("kind", [int, float, torch.tensor])
def test_it_is_the_auc_over_all_batches(kind):
    logits, labels = torch.randn(12, generator=torch.Generator().manual_seed(0)), [0, 1, 1, 0, 1, 0, 0, 1, 1, 0, 1, 0]
    items = [{"logit": logits[k : k + 1], "label": kind(labels[k])} for k in range(12)]
    engine = Engine(lambda _, batch: batch)
    ScanAUC().attach(engine, "auc")
    engine.run([items[:5], items[5:6], items[6:]])
    assert engine.state.metrics["auc"] == pytest.approx(roc_auc_score(labels, logits.numpy()))


def test_with_three_logits_it_is_the_mean_auc_of_each_class_against_the_rest():
    logits, labels = (
        torch.randn(12, 3, generator=torch.Generator().manual_seed(0)),
        [0, 1, 2, 0, 2, 0, 0, 1, 1, 2, 1, 0],
    )
    items = [{"logit": row, "label": label} for row, label in zip(logits, labels, strict=True)]
    engine = Engine(lambda _, batch: batch)
    ScanAUC().attach(engine, "auc")
    engine.run([items[:5], items[5:6], items[6:]])
    expected = roc_auc_score(labels, torch.softmax(logits, 1).numpy(), multi_class="ovr", average="macro")
    assert engine.state.metrics["auc"] == pytest.approx(expected)
    with pytest.raises(ValueError, match="Case 7: 'logit' is"):
        engine.run([[{"case_id": "7", "logit": torch.tensor([0.0, torch.nan, 1.0]), "label": 0}]])
