import pytest
import torch
from hypothesis import settings

settings.register_profile("patient", deadline=None)  # a busy machine is no failure
settings.load_profile("patient")


@pytest.fixture(autouse=True)
def _same_random_numbers():
    """Each test draws the same numbers, whatever ran before it."""
    torch.manual_seed(0)
