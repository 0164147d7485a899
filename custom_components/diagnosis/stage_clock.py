"""Seconds of each stage."""

import time
from collections.abc import Iterator, Mapping, Sequence
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

    def state(self) -> dict[str, tuple[float, float]]:
        """Wall-clock and CPU seconds of each stage so far."""
        return {name: (self.seconds[name], self.cpu_seconds[name]) for name in self.seconds}

    def since(self, before: Mapping[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
        """What came to the stages since an earlier state."""
        old = {name: before.get(name, (0.0, 0.0)) for name in self.seconds}
        return {
            name: (wall - old[name][0], cpu - old[name][1])
            for name, (wall, cpu) in self.state().items()
            if (wall, cpu) != old[name]
        }

    def recall(self, seconds: Mapping[str, Sequence[float]]) -> None:
        """Add what stages took in an earlier run.

        Args:
            seconds: stage to wall-clock and CPU seconds.
        """
        for name, (wall, cpu) in seconds.items():
            self.seconds[name] = self.seconds.get(name, 0.0) + wall
            self.cpu_seconds[name] = self.cpu_seconds.get(name, 0.0) + cpu

    def table(self) -> str:
        """The stages in their order, and their sum."""
        rows = [(name, self.seconds[name], self.cpu_seconds[name]) for name in self.seconds]
        rows.append(("total", sum(self.seconds.values()), sum(self.cpu_seconds.values())))
        width = max(len(name) for name, _, _ in rows) + 5
        lines = [f"{'stage':<{width}}{'wall s':>10}{'CPU s':>9}"]
        return "\n".join([*lines, *(f"{name:<{width}}{wall:10.2f}{cpu:9.2f}" for name, wall, cpu in rows)])
