import pytest
import torch
from custom_components.handlers.load_weights import LoadWeights, mismatch, read_state_dict
from custom_components.weights.model_card import write_card
from ignite.engine import Engine


def network(width=5):
    return torch.nn.Sequential(torch.nn.Linear(3, width), torch.nn.Linear(width, 2))


def saved(content, tmp_path):
    torch.save(content, tmp_path / "model.pt")
    return tmp_path / "model.pt"


def test_the_weights_are_there_before_the_first_iteration(tmp_path):
    trained, fresh = network(), network()
    seen = []
    engine = Engine(lambda engine, batch: seen.append(fresh[0].weight.detach().clone()))
    LoadWeights(saved(trained.state_dict(), tmp_path), fresh).attach(engine)
    assert not fresh[0].weight.equal(trained[0].weight)
    engine.run([0])
    assert seen[0].equal(trained[0].weight)


def test_half_precision_weights_become_float32(tmp_path):
    trained, fresh = network(), network()
    half = {name: value.half() for name, value in trained.state_dict().items()}
    LoadWeights(saved(half, tmp_path), fresh)()
    assert fresh[1].bias.dtype == torch.float32
    assert fresh[1].bias.equal(trained[1].bias.half().float())


def test_another_architecture_is_told_and_nothing_is_loaded(tmp_path):
    fresh = network()
    before = {name: value.clone() for name, value in fresh.state_dict().items()}
    other = {**network(7).state_dict(), "2.weight": torch.zeros(1)}
    del other["1.bias"]
    path = saved(other, tmp_path)
    expected = (
        r"is of another architecture than the network: tensors missing: 1 \(1.bias\), unknown: 1 \(2.weight\), "
        r"of another shape: 3 \(0.weight: \[7, 3\] instead of \[5, 3\], 0.bias: \[7\] instead of \[5\], ...\). "
        r"There is no model.json beside it that names its network, so the config's was taken. Give"
    )
    with pytest.raises(ValueError, match=expected):
        LoadWeights(path, fresh)()
    assert all(value.equal(before[name]) for name, value in fresh.state_dict().items())


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_weights_saved_from_within_a_wrapper_are_loaded(tmp_path, prefix):
    trained, fresh = network(), network()
    wrapped = {prefix + name: value for name, value in trained.state_dict().items()}
    LoadWeights(saved(wrapped, tmp_path), fresh)()
    assert fresh[1].bias.equal(trained[1].bias)


def test_a_network_that_has_a_part_of_a_wrappers_name_is_loaded(tmp_path):
    trained, fresh = (torch.nn.ModuleDict({"module": torch.nn.Linear(1, 1), "b": torch.nn.Linear(1, 1)}) for _ in "ab")
    LoadWeights(saved(trained.state_dict(), tmp_path), fresh)()
    assert fresh["module"].weight.equal(trained["module"].weight)


def test_a_card_tells_what_the_weights_of_another_architecture_were_trained_with(tmp_path):
    path = saved(network(7).state_dict(), tmp_path)
    write_card(path, {"network": {"_target_": "a.Network", "features": [7], "encoder": "plain"}})
    with pytest.raises(ValueError, match=r"\)\. It was trained with features \[7\], encoder plain\. Give the overlay"):
        LoadWeights(path, network())()


def test_equal_architectures_do_not_differ():
    assert mismatch(network().state_dict(), network().state_dict()) == ""


@pytest.mark.parametrize("content", [b"", b"half a file", b"PK\x03\x04 half a zip", "truncated", "pickled"])
def test_a_broken_file_is_told_by_name_and_no_object_is_unpickled(tmp_path, content):
    path = saved(network() if content == "pickled" else network().state_dict(), tmp_path)
    if content != "pickled":
        path.write_bytes(path.read_bytes()[:-200] if content == "truncated" else content)
    with pytest.raises(ValueError, match=r"model.pt cannot be read as tensors: \w+.* Copy or train it again.$"):
        read_state_dict(path)


def test_a_missing_file_is_told_with_the_remedy(tmp_path):
    with pytest.raises(ValueError, match=r"No checkpoint at .*model.pt. Train one first \(`run training`\)"):
        read_state_dict(tmp_path / "model.pt")


def test_a_checkpoint_to_resume_from_is_no_model(tmp_path):
    with pytest.raises(ValueError, match=r"holds no plain state dict.*--resume true"):
        read_state_dict(saved({"network": network().state_dict(), "trainer": {"epoch": 3}}, tmp_path))


def test_what_was_trained_on_other_classes_keeps_its_first_values(tmp_path):
    fresh = network()
    first = {name: tensor.detach().clone() for name, tensor in fresh.state_dict().items()}
    trained = {**network().state_dict(), "1.weight": torch.full((7, 5), 9.0)}
    LoadWeights(saved(trained, tmp_path), fresh, own="1.")()
    for name, tensor in fresh.state_dict().items():
        assert tensor.equal(first[name] if name.startswith("1.") else trained[name])


def test_what_the_network_has_more_keeps_its_first_values(tmp_path):
    smaller = torch.nn.Sequential(torch.nn.Linear(3, 5))
    fresh = network()
    more = fresh[1].weight.detach().clone()
    LoadWeights(saved(smaller.state_dict(), tmp_path), fresh, own="1.")()
    assert fresh[0].weight.equal(smaller[0].weight)
    assert fresh[1].weight.equal(more)
    with pytest.raises(ValueError, match=r"tensors missing: 1 \(1.weight\)"):
        LoadWeights(saved(smaller.state_dict(), tmp_path), fresh, own="1.bias")()
