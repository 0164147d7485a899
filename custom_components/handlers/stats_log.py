from typing import NoReturn

from ignite.engine import Engine
from monai.handlers import StatsHandler


class StatsLog(StatsHandler):
    """MONAI's ``StatsHandler``, which leaves an error to whoever started the run.

    ``StatsHandler`` logs an error with its traceback for each engine that it passes, and it is shown once more when it
    ends the program.

    Example:
        >>> engine = Engine(lambda engine, batch: 1 / 0)
        >>> StatsLog(name="doctest").attach(engine)
        >>> engine.run([0])
        Traceback (most recent call last):
        ZeroDivisionError: division by zero
    """

    def exception_raised(self, _engine: Engine, e: Exception) -> NoReturn:
        """Raise the error.

        Args:
            _engine: in which it was raised.
            e: the error.
        """
        raise e
