import pytest
import torch
from custom_components import process_device


@pytest.mark.parametrize(("gpus", "expected"), [(True, "cuda:3"), (False, "cpu")])
def test_each_process_has_its_own_gpu_if_there_are_gpus(gpus, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert process_device() == torch.device(expected)
