"""Connect to a Ray cluster. Ray is imported here only, when an engine is asked for."""

import importlib
import importlib.util
import os
import secrets
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType

from custom_components.command_line.typed_words import did_you_mean

LOCAL = "local"
RAY = "ray"
ENGINES = (LOCAL, RAY)
AUTO = "auto"
CORES = 2.0
INSTALL = '--engine ray needs Ray. Install it: pip install "custom_components[cluster]".'
START = (
    "Start a cluster with `ray start --head`, give the address of one (--address host:6379), or leave out --address."
)

# Of a Ray instance that is started for this command only; no image passes through Ray's memory.
_OBJECT_STORE_BYTES = 100_000_000
_CONNECT_S = 5.0
_STARTS = 3


@dataclass(frozen=True)
class ClusterOptions:
    """Where the workers of a command run, and how many.

    Args:
        address: ``local`` starts Ray on this computer for one command, ``auto`` finds the cluster that this computer
            belongs to, ``host:port`` is the head node of another one.
        workers: number of workers; None is as many as fit: one for each GPU, or for each ``cores`` CPU cores.
        cores: CPU cores of a worker.
    """

    address: str = LOCAL
    workers: int | None = None
    cores: float = CORES

    @classmethod
    def of(cls, engine: str, address: str | None, workers: int | None, cores: float | None) -> "ClusterOptions | None":
        """The options of a command line; None for one computer.

        Raises:
            ValueError: when they contradict each other, or Ray is missing.

        Example:
            >>> ClusterOptions.of("local", None, None, None) is None
            True
            >>> ClusterOptions.of("local", "auto", None, None)
            Traceback (most recent call last):
            ValueError: --address has no effect without --engine ray. Add it, or leave out --address.
        """
        if engine not in ENGINES:
            near = did_you_mean(str(engine), ENGINES, prefix="")
            raise ValueError(f"engine is {engine!r}. Expected one of: {', '.join(ENGINES)}.{near}")
        given = {"address": address, "workers": workers, "cores": cores}
        if engine == LOCAL:
            without = next((name for name, value in given.items() if value is not None), None)
            if without:
                raise ValueError(f"--{without} has no effect without --engine ray. Add it, or leave out --{without}.")
            return None
        return cls(**{name: value for name, value in given.items() if value is not None}).checked()  # type: ignore[arg-type]

    def checked(self) -> "ClusterOptions":
        """The same options.

        Raises:
            ValueError: when a value is not valid, or Ray is missing.
        """
        if self.workers is not None and (isinstance(self.workers, bool) or self.workers < 1):
            raise ValueError(f"workers is {self.workers!r}. Expected a whole number, 1 or more.")
        if not self.cores > 0:
            raise ValueError(f"cores is {self.cores!r}. Expected a number of CPU cores above 0, such as 2.")
        if importlib.util.find_spec("ray") is None:
            raise ValueError(INSTALL)
        return self


def gpus_of_a_worker(ray: ModuleType) -> int:
    """GPUs of each worker: one if the cluster has any."""
    return 1 if ray.cluster_resources().get("GPU") else 0


def count_places(ray: ModuleType, cores: float) -> int:
    """Number of workers that fit: one for each GPU if the cluster has any, otherwise one for each ``cores`` cores.

    Raises:
        ValueError: when none fits into any node.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    places = [int(node.get("CPU", 0) / cores + 1e-6) for node in nodes]
    if gpus_of_a_worker(ray):
        places = [min(place, int(node.get("GPU", 0))) for place, node in zip(places, nodes, strict=True)]
    if not any(places):
        raise ValueError(f"No node of the cluster has {cores:g} CPU cores for a worker. Give fewer: --cores 1.")
    return sum(places)


def import_ray() -> ModuleType:
    """The module ``ray``.

    Raises:
        ValueError: when it is not installed; names the extra.
    """
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise ValueError(INSTALL) from error


@contextmanager
def connected(address: str = LOCAL) -> Iterator[ModuleType]:
    """Connect to a cluster, or start Ray on this computer, while the block runs.

    Args:
        address: as in :class:`ClusterOptions`.

    Yields:
        The module ``ray``.

    Raises:
        ValueError: when there is no cluster at the address, or it has another version of Ray or Python.
    """
    if address == LOCAL and "ray" not in sys.modules:  # Ray reads these when it is imported
        # It listens on all networks of the computer, and runs what is sent to it: only with this token.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    ray = import_ray()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to the makers of Ray
    # The future behaviour of Ray, which otherwise warns: a worker without GPUs does not hide them from others.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    _check_reachable(address)
    try:
        _init(ray, address)
    except Exception as error:  # Ray raises a plain Exception when it cannot start
        raise ValueError(_why_not(address, error)) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _init(ray: ModuleType, address: str) -> None:
    """Connect; Ray on this computer is started again if it needs more than Ray's 30 seconds, as on a busy computer."""
    if address != LOCAL:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
        return
    own = {"include_dashboard": False, "object_store_memory": _OBJECT_STORE_BYTES}
    for attempt in range(_STARTS):
        try:
            ray.init(address=address, log_to_driver=False, logging_level="ERROR", **own)
            return
        except Exception as error:
            ray.shutdown()
            if attempt == _STARTS - 1 or "timed out" not in str(error):
                raise


def _check_reachable(address: str) -> None:
    """Check that the head node answers; Ray itself would try for minutes."""
    if address in (LOCAL, AUTO):
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ValueError(f"address is {address!r}. Expected local, auto, or host:port of the head node.")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S).close()
    except (OSError, OverflowError) as error:
        raise ValueError(f"No Ray cluster answers at {address} ({error}). {START}") from error


def _why_not(address: str, error: Exception) -> str:
    text = " ".join(str(error).split())
    if "ersion mismatch" in text:
        return f"{text} Install the same versions on all nodes."
    if address == AUTO:
        return f"This computer does not belong to a running Ray cluster. {START}"
    return f"Ray at {address} cannot be used: {text}"
