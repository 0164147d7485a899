import logging
import warnings

# highdicom warns of a name without caret, and quotes it.
NAME_WARNING = 'The string ".*" is unlikely to represent the intended person name'


class NoHeaders(logging.Filter):
    """Drops the records in which the SDK writes out a whole DICOM header, at level DEBUG."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether the record may be written."""
        return record.module != "dicom_utils" or record.levelno > logging.DEBUG


def keep_identity_out_of_logs() -> None:
    """Keep the patient's name and ID out of what the libraries log and warn of.

    Call it after the logging has been set up.
    """
    for handler in logging.getLogger().handlers:
        handler.addFilter(NoHeaders())
    warnings.filterwarnings("ignore", message=NAME_WARNING)
