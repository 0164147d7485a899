import socket
import sys

import pytest
from custom_components.cluster.connection import ClusterOptions, connected


@pytest.fixture
def with_ray():
    return pytest.importorskip("ray", reason='needs Ray: pip install "custom_components[cluster]"')


@pytest.fixture
def without_ray(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)


def test_without_the_extra_the_error_names_it(without_ray):
    with pytest.raises(
        ValueError, match=r'^--engine ray needs Ray. Install it: pip install "custom_components\[cluster\]"'
    ):
        ClusterOptions.of("ray", None, None, None)


def test_the_local_engine_imports_no_ray(without_ray):
    assert ClusterOptions.of("local", None, None, None) is None


def test_a_mistyped_engine_is_named(without_ray):
    with pytest.raises(ValueError, match=r"engine is 'rey'. Expected one of: local, ray. Did you mean ray"):
        ClusterOptions.of("rey", None, None, None)


@pytest.mark.parametrize(("name", "value"), [("address", "auto"), ("workers", 2), ("cores", 1.0)])
def test_options_of_a_cluster_need_its_engine(name, value):
    given = {"address": None, "workers": None, "cores": None, name: value}
    with pytest.raises(ValueError, match=f"--{name} has no effect without --engine ray"):
        ClusterOptions.of("local", **given)


@pytest.mark.parametrize(("given", "words"), [({"workers": 0}, "workers is 0"), ({"cores": 0.0}, "cores is 0.0")])
def test_wrong_sizes_are_errors(given, words, with_ray):
    with pytest.raises(ValueError, match=words):
        ClusterOptions.of("ray", **{"address": None, "workers": None, "cores": None, **given})


@pytest.mark.parametrize("address", ["somewhere", "host:port", "ray://host:10001x"])
def test_an_address_that_is_none_is_an_error(address, with_ray):
    with pytest.raises(ValueError, match=r"Expected local, auto, or host:port"), connected(address):
        pass


def test_an_address_at_which_nothing_answers_is_an_error_within_seconds(with_ray):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with (
        pytest.raises(ValueError, match=rf"^No Ray cluster answers at {address} .*ray start --head"),
        connected(address),
    ):
        pass


def test_another_version_of_ray_is_one_sentence(with_ray, monkeypatch):
    def init(**_):
        raise RuntimeError("Version mismatch: The cluster was started with:\n    Ray: 2.50.0\n    Python: 3.11.2")

    monkeypatch.setattr(with_ray, "init", init)
    with (
        pytest.raises(ValueError, match=r"^Version mismatch: .*Ray: 2.50.0 Python: 3.11.2 Install the same"),
        connected(),
    ):
        pass


def test_auto_without_a_cluster_is_an_error(with_ray, monkeypatch):
    def init(**_):
        raise ConnectionError("Could not find any running Ray instance.")

    monkeypatch.setattr(with_ray, "init", init)
    with pytest.raises(ValueError, match="does not belong to a running Ray cluster"), connected("auto"):
        pass
