import pytest
import torch


@pytest.fixture(autouse=True)
def _same_random_numbers():
    """Each test draws the same numbers, whatever ran before it."""
    torch.manual_seed(0)
