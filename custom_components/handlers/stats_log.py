from typing import NoReturn

from ignite.engine import Engine
from monai.handlers import StatsHandler


class StatsLog(StatsHandler):
    """MONAI's ``StatsHandler`` without the log of errors.

    ``StatsHandler`` logs an error with its traceback in each engine that the error passes, although the error is shown
    again when it ends the program.

    Example:
        >>> engine = Engine(lambda engine, batch: 1 / 0)
        >>> StatsLog(name="doctest").attach(engine)
        >>> engine.run([0])
        Traceback (most recent call last):
        ZeroDivisionError: division by zero
    """

    def exception_raised(self, _engine: Engine, e: Exception) -> NoReturn:
        """Raise the error."""
        raise e
