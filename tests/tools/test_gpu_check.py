"""The script of the GPU checks, tried on the CPU with small networks."""

import json

import pytest
import torch

from tools import gpu_check as module
from tools.gpu_check import Sizes, agreement, checks_of, classifier_batch, gpu_check, same_draws, training_step

SMALL = Sizes(small=True)


@pytest.fixture
def planned(monkeypatch):
    """Replace the checks; the list gets the names of those that run."""
    done = []

    def plan(**results):
        def check(name, result):
            done.append(name)
            if isinstance(result, Exception):
                raise result
            return result

        checks = {name: lambda name=name, result=result: check(name, result) for name, result in results.items()}
        monkeypatch.setattr(module, "checks_of", lambda *_: checks)
        return done

    return plan


GOOD, BAD = {"passed": True, "result": "fine"}, {"passed": False, "result": "far off"}


def test_every_check_but_the_full_size_scan_has_a_small_form(tmp_path):
    small, full = (list(checks_of(tmp_path, "cpu", Sizes(size))) for size in (True, False))
    assert set(full) - set(small) == {"classifier, step of 20", "scan to P_final"}
    assert set(small) - set(full) == {"classifier, step of 2"}


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_the_cpu_agrees_with_itself_and_a_wrong_gradient_does_not(monkeypatch, precision):
    torch.manual_seed(0)
    network, batch = module.WithSoftMask(SMALL.classifier()), classifier_batch(SMALL.grid, 2)
    assert agreement(network, batch, "cpu", precision)["passed"]
    right = module.gradient_of

    def wrong(*arguments):
        found = right(*arguments)
        calls.append(arguments)
        return found * 1.5 if len(calls) == 2 else found  # exact, device, CPU

    calls = []
    monkeypatch.setattr(module, "gradient_of", wrong)
    assert not agreement(network, batch, "cpu", precision)["passed"]


def test_a_step_and_the_draws_are_measured():
    batch = classifier_batch(SMALL.grid, 2)
    found = training_step(module.WithSoftMask(SMALL.classifier()), batch, "cpu")
    assert found["passed"]
    assert found["result"].endswith(" s a step of 2")
    assert same_draws("cpu") == {"passed": True, "result": "12 draws, equal"}


def test_a_finished_row_is_kept_and_the_rest_continues(planned, tmp_path, capsys):
    done = planned(first=GOOD, second=RuntimeError("CUDA error:\n out of memory"), third=BAD)
    with pytest.raises(SystemExit, match="2 failed: second, third; not run: none"):
        gpu_check(str(tmp_path), "cpu")
    assert "| second | FAILED | RuntimeError: CUDA error: out of memory |" in capsys.readouterr().out
    assert done == ["first", "second", "third"]
    done.clear()
    planned(first=BAD, fourth=GOOD)
    with pytest.raises(SystemExit, match="2 failed: second, third"):
        gpu_check(str(tmp_path), "cpu")
    rows = json.loads((tmp_path / "gpu_check.json").read_text())
    assert rows["first"]["passed"]
    assert rows["fourth"]["passed"]
    assert "| fourth | passed | fine |" in (tmp_path / "gpu_check.md").read_text()


def test_no_check_starts_after_the_time_is_over(planned, tmp_path):
    done = planned(first=GOOD)
    with pytest.raises(SystemExit, match="0 failed: none; not run: first"):
        gpu_check(str(tmp_path), "cpu", seconds=-1)
    assert done == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a CUDA device")
def test_without_a_gpu_it_says_how_to_try_it(tmp_path):
    with pytest.raises(ValueError, match=r"no CUDA device\. --device cpu --small tries the script"):
        gpu_check(str(tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_all_small_checks_pass_on_a_gpu(tmp_path):
    gpu_check(str(tmp_path), small=True)
