import atexit
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from custom_components.cluster.connection import ClusterOptions

from tests.diagnosis.conftest import bare_bundles, bundles  # noqa: F401

ROOT = Path(__file__).resolve().parents[2]
MEMORY = 80_000_000


@cache
def standin_folder() -> Path:
    """A folder with the stand-in of a run alone; its own has a package ``statistics`` beside it."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    shutil.copy(ROOT / "tests/study/standin.py", folder)
    return folder


def start_cluster(nodes: int, **head: Any) -> Any:
    """A head without workers and some nodes, all on this computer."""
    pytest.importorskip("ray", reason='needs Ray: pip install "custom_components[cluster]"')
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(ROOT), str(ROOT / "tests/study"), *filter(None, [os.environ.get("PYTHONPATH")])]
    )
    cluster = Cluster()
    add_node(cluster, num_cpus=0, include_dashboard=False, **head)
    for _ in range(nodes):
        add_node(cluster)
    return cluster


def add_node(cluster: Any, **options: Any) -> Any:
    """Add a node; Ray waits 30 seconds for it, which is too short on a busy computer."""
    for attempt in range(4):
        try:
            return cluster.add_node(**{"num_cpus": 1, "object_store_memory": MEMORY, **options})
        except Exception:
            if attempt == 3:
                raise
            time.sleep(5)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Any]:
    """A head and three nodes for one worker each."""
    started = start_cluster(nodes=3)
    yield started
    started.shutdown()


@pytest.fixture
def options(cluster) -> ClusterOptions:
    return ClusterOptions(cluster.address, workers=2, cores=1)
