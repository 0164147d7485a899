"""Seconds of each stage."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class StageClock:
    """Measures the stages of one scan: wall-clock and CPU seconds, all threads counted.

    A stage that comes back is added to.

    Example:
        >>> clock = StageClock()
        >>> with clock.stage("read"):
        ...     pass
        >>> list(clock.seconds), clock.table().splitlines()[0]
        (['read'], 'stage         wall s    CPU s')
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.cpu_seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure what is done within."""
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - wall
            self.cpu_seconds[name] = self.cpu_seconds.get(name, 0.0) + time.process_time() - cpu

    def table(self) -> str:
        """The stages in their order, and their sum."""
        rows = [(name, self.seconds[name], self.cpu_seconds[name]) for name in self.seconds]
        rows.append(("total", sum(self.seconds.values()), sum(self.cpu_seconds.values())))
        width = max(len(name) for name, _, _ in rows) + 5
        lines = [f"{'stage':<{width}}{'wall s':>10}{'CPU s':>9}"]
        return "\n".join([*lines, *(f"{name:<{width}}{wall:10.2f}{cpu:9.2f}" for name, wall, cpu in rows)])
