import warnings

from custom_components import CTReader, LabelReader
from monai.transforms import LoadImage


def test_loading_says_nothing_of_the_gpu_decoder(caplog, recwarn):
    warnings.simplefilter("always")
    for reader in (CTReader, LabelReader):
        LoadImage(reader=reader())
    assert [text for text in caplog.messages if "nvImageCodec" in text] == []
    assert [warning for warning in recwarn if "nvImageCodec" in str(warning.message)] == []
