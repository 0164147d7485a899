import logging
import warnings

# highdicom quotes the patient's name when it warns of a name without caret.
NAME_WARNING = 'The string ".*" is unlikely to represent the intended person name'


class NoHeaders(logging.Filter):
    """Drops the DEBUG records in which the SDK logs whole DICOM headers."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record may be logged."""
        return record.module != "dicom_utils" or record.levelno > logging.DEBUG


def keep_identity_out_of_logs() -> None:
    """Keep the patient's name and ID out of the logs and warnings of the libraries; call it after logging is set up."""
    for handler in logging.getLogger().handlers:
        handler.addFilter(NoHeaders())
    warnings.filterwarnings("ignore", message=NAME_WARNING)
