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


@pytest.mark.parametrize(
    ("gpus", "visible", "workers", "expected"),
    [
        (3, None, None, ["0", "1", "2"]),
        (2, "3,GPU-7f", None, ["3", "GPU-7f"]),
        (2, "3,GPU-7f", 1, ["3"]),
        (2, None, 5, ["0", "1", "0", "1", "0"]),
    ],
)
def test_each_visible_gpu_gets_one_run_and_more_workers_share_them(machine, gpus, visible, workers, expected):
    machine(gpus, visible)
    assert [own["CUDA_VISIBLE_DEVICES"] for own in worker_environments(workers)] == expected


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
