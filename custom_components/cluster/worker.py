"""What runs on the nodes of a cluster: load once, then apply a function to one case after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, Protocol


class Work(Protocol):
    """What a worker does; it is sent to the nodes, so it holds paths and plain values only."""

    def load(self) -> Callable[[Any], Any]:
        """Load what all cases need; called once in each worker.

        Returns:
            The function from a case to its result.

        Raises:
            ValueError: when the node does not fit, such as by other weights.
        """
        ...

    def arithmetic(self) -> str:
        """How this node computes, in words; it must be the same on all nodes of a run."""
        ...


def worker_class(ray: ModuleType) -> Any:
    """The class of the actors.

    It is defined in a function, so that Ray sends its code and not only its name: a node without this package can then
    say so.
    """

    class Worker:
        def __init__(self) -> None:
            self.apply: Callable[[Any], Any] | None = None

        def check(self, versions: Mapping[str, str]) -> dict[str, str]:
            """Node of this worker, and why it cannot work, empty if it can."""
            found = {"node": ray.get_runtime_context().get_node_id(), "name": ray.util.get_node_ip_address()}
            try:
                from custom_components.cluster.versions import code_versions, differences
            except ImportError as error:
                return {**found, "problem": f"{error}. Install the same versions on all nodes."}
            odd = differences(versions, code_versions())
            return {**found, "problem": f"{odd}. Install the same versions on all nodes." if odd else ""}

        def load(self, work: Work) -> tuple[str, str]:
            """Why this worker cannot work, empty if it can, and how it computes."""
            from custom_components.engines.root_cause import root_cause

            try:
                self.apply = work.load()
                return "", work.arithmetic()
            except Exception as error:
                return root_cause(error), ""

        def run(self, case: Any) -> Any:
            assert self.apply is not None
            return self.apply(case)

    return ray.remote(Worker)
