import logging
import warnings

import pytest


@pytest.fixture(autouse=True)
def _logging_as_before():
    logger = logging.getLogger("monai.data.nvimgcodec_pydicom_plugin")
    level = logger.level
    with warnings.catch_warnings():
        yield
    logger.setLevel(level)
