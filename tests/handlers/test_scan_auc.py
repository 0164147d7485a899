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
