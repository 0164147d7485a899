import torch
from custom_components.handlers.load_weights import LoadWeights
from custom_components.handlers.save_weights import SaveWeights
from ignite.engine import Engine


def test_the_weights_are_written_when_the_run_is_complete(tmp_path):
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


def test_a_failing_run_leaves_the_old_file(tmp_path):
    path = tmp_path / "model.pt"
    path.write_bytes(b"old")

    def fail(*_):
        raise RuntimeError("no")

    engine = Engine(fail)
    SaveWeights(torch.nn.Linear(2, 3), path).attach(engine)
    try:
        engine.run([0])
    except RuntimeError:
        assert path.read_bytes() == b"old"
    else:
        raise AssertionError("the run did not fail")
