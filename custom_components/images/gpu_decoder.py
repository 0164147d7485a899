import logging
import warnings


def hide_gpu_decoder_messages() -> None:
    """Hide that an optional GPU decoder is not installed, of which MONAI 1.6.1 warns for each ``LoadImage``."""
    logging.getLogger("monai.data.nvimgcodec_pydicom_plugin").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", "NvImgCodecPydicomReader: nvImageCodec decoder plugin did not register")
