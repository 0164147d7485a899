import pytest
import torch
from custom_components.handlers.load_weights import LoadWeights
from custom_components.handlers.save_weights import SaveWeights
from ignite.engine import Engine


def test_the_weights_are_written_at_the_end_of_the_run(tmp_path):
    network, path = torch.nn.Linear(2, 3), tmp_path / "models" / "model.pt"
    seen = []
    engine = Engine(lambda *_: seen.append(path.exists()))
    SaveWeights(network, path).attach(engine)
    engine.run([0, 1])
    assert seen == [False, False]
    other = torch.nn.Linear(2, 3)
    LoadWeights(path, other)()
    assert torch.equal(other.weight, network.weight)
    assert [file.name for file in path.parent.iterdir()] == ["model.pt"]


def test_only_floats_are_written_in_half_precision_and_they_load_as_float32(tmp_path):
    network, path = torch.nn.BatchNorm1d(3), tmp_path / "model.pt"
    network.running_mean.fill_(1 / 3)
    network.num_batches_tracked.fill_(70001)
    SaveWeights(network, path, half=True)()
    state = torch.load(path, weights_only=True)
    assert {tensor.dtype for tensor in state.values()} == {torch.float16, torch.int64}
    other = torch.nn.BatchNorm1d(3)
    LoadWeights(path, other)()
    assert other.running_mean.dtype == torch.float32
    torch.testing.assert_close(other.running_mean, network.running_mean, rtol=2**-11, atol=0)
    assert other.num_batches_tracked == 70001


def test_after_a_failed_run_the_old_file_is_kept(tmp_path):
    path = tmp_path / "model.pt"
    path.write_bytes(b"old")

    def fail(*_):
        raise RuntimeError("no")

    engine = Engine(fail)
    SaveWeights(torch.nn.Linear(2, 3), path).attach(engine)
    with pytest.raises(RuntimeError, match="no"):
        engine.run([0])
    assert path.read_bytes() == b"old"
