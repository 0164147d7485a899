import json
import math

import pytest
import torch
from custom_components.networks.attention_resnet import AttentionResNet
from custom_components.networks.dual_sampling import DualSamplingNet
from custom_components.transforms.diagnosis_scores import DiagnosisScoresd
from monai.data import MetaTensor


def logits(us=0.0, ss=0.0, final=0.0, **more) -> dict:
    return {"logit_us": torch.tensor([us]), "logit_ss": torch.tensor([ss]), "logit": torch.tensor([final]), **more}


def result_of(item, **settings) -> dict:
    return DiagnosisScoresd(**settings)(item)["result"]


@pytest.mark.parametrize("ratio", [0.0, 0.02, 0.5])
def test_the_scores_are_those_of_the_network(ratio):
    branch = {"layers": (1, 1, 1, 1), "block_inplanes": (3, 4, 5, 6)}
    network = DualSamplingNet(AttentionResNet(**branch), AttentionResNet(**branch)).eval()
    found = network.explain(torch.rand(1, 1, 17, 20, 33), torch.tensor([ratio]))
    result = result_of({**{key: value[0] for key, value in found.items()}, "ratio": ratio})
    w = 0.96 if ratio == 0.02 else 0.35
    assert result["p_final"] == pytest.approx(w * result["p_us"] + (1 - w) * result["p_ss"], abs=1e-4)
    assert (result["ratio"], result["weight_us"]) == (ratio, w)


@pytest.mark.parametrize("ratio", [{}, {"ratio": None}, {"ratio": math.nan}, {"ratio": torch.tensor(math.nan)}])
def test_without_a_ratio_there_is_no_prediction(ratio):
    result = result_of(logits(2.0, -1.0, math.nan, **ratio))
    assert (result["p_us"], result["p_ss"]) == (0.8808, 0.2689)
    assert [result[name] for name in ("p_final", "prediction", "ratio", "weight_us")] == [None] * 4


@pytest.mark.parametrize(("final", "threshold", "name"), [
    (0.0, 0.5, "covid"), (-0.01, 0.5, "cap"), (1.0, 0.8, "cap"), (-1.0, 0.2, "covid"),
])  # fmt: skip
def test_the_threshold_separates_covid_from_cap(final, threshold, name):
    assert result_of(logits(final=final, ratio=0.02), threshold=threshold)["prediction"] == name


@pytest.mark.parametrize("ratio", [0.02, math.nan])
def test_the_result_is_strict_json(ratio):
    item = logits(1.0, 2.0, 1.5, ratio=torch.tensor(ratio), lung_source="mask file", logit_plain=torch.tensor([[0.5]]))
    result = result_of(item)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert result["p_plain"] == 0.6225
    assert result["lung_source"] == "mask file"
    assert "not for diagnosis" in result["notice"]


def test_existing_results_are_kept_and_no_patient_data_is_added():
    image = MetaTensor(torch.ones(1, 2, 3, 4), meta={"filename_or_obj": "/scans/Doe^Jane/1.nii.gz"})
    item = logits(ratio=0.02, image=image, result={"seconds": 3})
    result = result_of(item)
    assert result["seconds"] == 3
    assert item["result"] == {"seconds": 3}
    assert "Jane" not in json.dumps(result)


def test_weights_and_thresholds_are_those_of_the_config():
    settings = {"weights": (0.1, 0.2), "ratio_thresholds": (0.3, 0.4)}
    assert result_of(logits(ratio=0.35), **settings)["weight_us"] == 0.2
    assert result_of(logits(ratio=0.29), **settings)["weight_us"] == 0.1


def test_a_missing_or_invalid_logit_is_named():
    item = logits(ratio=0.02, case_id="covid_017")
    with pytest.raises(ValueError, match=r"Case covid_017 has no 'logit_ss'"):
        DiagnosisScoresd()({key: value for key, value in item.items() if key != "logit_ss"})
    with pytest.raises(ValueError, match=r"Case covid_017: 'logit' is nan\. Expected a finite number"):
        DiagnosisScoresd()({**item, "logit": torch.tensor([math.nan])})
