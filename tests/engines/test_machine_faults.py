import os
import signal

import pytest
import torch
from custom_components.engines.root_cause import machine_fault, root_cause
from monai.data import DataLoader, Dataset


def die(item):
    os.kill(os.getpid(), signal.SIGKILL)


def full(item):
    raise OSError(28, "No space left on device", "/cache/a.pt")


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        (
            die,
            "A data loading process was killed. The usual cause is too little memory: lower --num_workers "
            "(0 loads data in the main process), and --cache_rate if the config has it.",
        ),
        (full, "/cache/a.pt: No space left on device. Free space, or choose another folder."),
    ],
)
def test_a_fault_of_a_data_loading_process_is_reported_with_a_remedy(transform, message):
    with pytest.raises(Exception) as caught:  # noqa: PT011
        list(DataLoader(Dataset([{"image": 1.0}] * 3, transform), num_workers=1))
    assert root_cause(caught.value) == message


def test_too_little_shared_memory_is_reported():
    message = "DataLoader worker (pid 77) is killed by signal: Bus error. It is possible that dataloader's workers are"
    assert machine_fault(message).startswith("A data loading process ran out of shared memory. Lower --num_workers")


@pytest.mark.parametrize(
    "message",
    [
        "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:26111",
        "NCCL error in: ProcessGroupNCCL.cpp:3690, remote process exited or there was a network error",
    ],
)
def test_the_end_of_another_process_is_reported_with_a_hint(message):
    shown = machine_fault(message)
    assert shown.startswith("Another process of this training ended")
    assert shown.endswith(f"({message})")


def test_a_full_disk_without_a_file_name_is_reported_with_its_folder(monkeypatch, tmp_path):
    monkeypatch.setattr("custom_components.engines.root_cause.full_folders", lambda: [tmp_path / "output"])
    error = OSError(28, "No space left on device")
    assert root_cause(error) == f"{tmp_path / 'output'}: No space left on device. Free space, or choose another folder."


def test_a_missing_file_is_named_and_unknown_errors_are_unchanged():
    assert root_cause(FileNotFoundError(2, "No such file or directory", "/a")).startswith(
        "/a: No such file or directory."
    )
    assert root_cause(OSError(98, "Address already in use")) == "OSError: [Errno 98] Address already in use"
    assert root_cause(torch.OutOfMemoryError("CUDA out of memory.")) == "CUDA out of memory."
