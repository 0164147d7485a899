import pytest
import torch
from custom_components.study.runs.workers import worker_environments


@pytest.fixture
def machine(monkeypatch):
    def make(gpus: int, visible: str | None = None, threads: str | None = None):
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        monkeypatch.setattr("os.cpu_count", lambda: 16)
        for name, value in {"CUDA_VISIBLE_DEVICES": visible, "OMP_NUM_THREADS": threads}.items():
            monkeypatch.delenv(name, raising=False) if value is None else monkeypatch.setenv(name, value)

    return make


def gpus_of(environments: list[dict[str, str]]) -> list[str]:
    return [environment["CUDA_VISIBLE_DEVICES"] for environment in environments]


def test_each_gpu_gets_one_run(machine):
    machine(3)
    assert gpus_of(worker_environments()) == ["0", "1", "2"]


def test_only_the_gpus_that_were_given_are_used(machine):
    machine(2, visible="3,GPU-7f")
    assert gpus_of(worker_environments()) == ["3", "GPU-7f"]
    assert gpus_of(worker_environments(1)) == ["3"]


def test_more_workers_than_gpus_share_them(machine):
    machine(2)
    assert gpus_of(worker_environments(5)) == ["0", "1", "0", "1", "0"]


def test_without_gpus_there_is_one_run_and_several_share_the_threads(machine):
    machine(0)
    assert worker_environments() == [{}]
    assert worker_environments(4) == [{"OMP_NUM_THREADS": "4"}] * 4
    machine(0, threads="1")
    assert worker_environments(4) == [{}] * 4


@pytest.mark.parametrize("workers", [0, -1, 1.5, "two", True])
def test_an_invalid_number_of_workers_is_refused(workers):
    with pytest.raises(ValueError, match="Expected a whole number, 1 or more"):
        worker_environments(workers)
