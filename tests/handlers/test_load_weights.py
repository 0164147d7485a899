import re

import pytest
import torch
from custom_components.handlers.load_weights import LoadWeights, read_state_dict
from custom_components.handlers.model_card_writer import ModelCardWriter
from custom_components.networks.attention_resnet import AttentionResNet
from custom_components.networks.dual_sampling import DualSamplingNet
from custom_components.networks.residual_attention_unet import ResidualAttentionUNet
from custom_components.networks.vbnet import VBNet
from custom_components.weights.model_card import (
    TrainedWith,
    network_arguments,
    network_as_trained,
    read_card,
    write_card,
)
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


def test_another_architecture_is_an_error_and_nothing_is_loaded(tmp_path):
    fresh = network()
    before = {name: value.clone() for name, value in fresh.state_dict().items()}
    other = {**network(7).state_dict(), "2.weight": torch.zeros(1)}
    del other["1.bias"]
    path = saved(other, tmp_path)
    expected = (
        r"is of another architecture than the network: tensors missing: 1 \(1.bias\), unknown: 1 \(2.weight\), "
        r"of another shape: 3 \(0.weight: \[7, 3\] instead of \[5, 3\], 0.bias: \[7\] instead of \[5\], ...\). "
        r"There is no model.json next to it that describes its network. Build the network as in its training "
        r"\(overlay and options\), or give another --ckpt_path.$"
    )
    with pytest.raises(ValueError, match=expected):
        LoadWeights(path, fresh)()
    assert all(value.equal(before[name]) for name, value in fresh.state_dict().items())


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_weights_saved_inside_a_wrapper_are_loaded(tmp_path, prefix):
    trained, fresh = network(), network()
    wrapped = {prefix + name: value for name, value in trained.state_dict().items()}
    LoadWeights(saved(wrapped, tmp_path), fresh)()
    assert fresh[1].bias.equal(trained[1].bias)


def test_a_network_with_a_part_named_like_a_wrapper_is_loaded(tmp_path):
    trained, fresh = (torch.nn.ModuleDict({"module": torch.nn.Linear(1, 1), "b": torch.nn.Linear(1, 1)}) for _ in "ab")
    LoadWeights(saved(trained.state_dict(), tmp_path), fresh)()
    assert fresh["module"].weight.equal(trained["module"].weight)


def test_the_error_of_another_architecture_has_the_arguments_of_the_card(tmp_path):
    path = saved(network(7).state_dict(), tmp_path)
    write_card(path, {"network": {"_target_": "a.Sequential", "features": [7], "encoder": "plain"}})
    message = r"\)\. It was trained with features \[7\], encoder plain\. Build .* or give another --seg_weights.$"
    with pytest.raises(ValueError, match=message):
        LoadWeights(path, network(), option="--seg_weights")()


def test_a_card_of_other_weights_is_logged_once_and_not_reported_as_missing(tmp_path, caplog):
    path = saved(network(7).state_dict(), tmp_path)
    write_card(path, {"network": {"features": [7]}})
    saved(network(8).state_dict(), tmp_path)
    TrainedWith(path)
    with pytest.raises(ValueError, match=r"\)\. Build the network as in its training"):
        LoadWeights(path, network())()
    assert caplog.text.count("model.json belongs to other weights than model.pt: it is ignored.") == 1


SMALL = {"layers": [1, 1, 1, 1], "block_inplanes": [2, 3, 4, 5]}


@pytest.mark.parametrize(
    ("kind", "small", "trained", "built", "message"),
    [
        (AttentionResNet, SMALL, {"no_max_pool": True}, {}, "--network_def#no_max_pool is False (trained with True)"),
        (AttentionResNet, SMALL, {"layer4_stride": 2}, {}, "--network_def#layer4_stride is 1 (trained with 2)"),
        (
            ResidualAttentionUNet,
            {"features": [8, 16]},
            {"num_heads": 4},
            {"num_heads": 2},
            "--network_def#num_heads is 2 (trained with 4)",
        ),
    ],
)
def test_other_arguments_with_the_same_shapes_are_an_error(tmp_path, kind, small, trained, built, message):
    before = kind(**small, **trained)
    path = saved(before.state_dict(), tmp_path)
    write_card(path, {"network": before.definition})
    with pytest.raises(ValueError, match=rf"computes something else. {re.escape(message)}. Leave it out, or give"):
        LoadWeights(path, kind(**small, **built))()
    LoadWeights(path, kind(**small, **trained))()


@pytest.mark.parametrize(
    ("option", "entry"),
    [("--uniform_ckpt_path", "branch_def"), ("--plain_ckpt_path", "plain_def"), ("--ckpt_path", "network_def")],
)
def test_the_refusal_names_the_entry_of_the_configs_that_builds_the_network(tmp_path, option, entry):
    branch = AttentionResNet(**SMALL, layer4_stride=2)
    path = saved(branch.state_dict(), tmp_path)
    write_card(path, {"network": branch.definition})
    with pytest.raises(ValueError, match=rf"--{entry}#layer4_stride is 1 \(trained with 2\)"):
        LoadWeights(path, AttentionResNet(**SMALL), option=option)()
    both = DualSamplingNet(branch, branch)
    path = saved(both.state_dict(), tmp_path)
    write_card(path, {"network": both.definition})
    with pytest.raises(ValueError, match=r"--branch_def#layer4_stride is 1 \(trained with 2\)"):
        LoadWeights(path, DualSamplingNet(AttentionResNet(**SMALL), AttentionResNet(**SMALL)))()


@pytest.mark.parametrize(("option", "other"), [("uniform", "size_balanced"), ("size_balanced", "uniform")])
def test_a_branch_is_not_taken_for_the_other(tmp_path, option, other):
    branch = AttentionResNet(**SMALL)
    path = saved(branch.state_dict(), tmp_path)
    write_card(path, {"system": other})
    with pytest.raises(ValueError, match=rf"of the branch {other}, as its model.json says. Give it as --{other}_ckpt"):
        LoadWeights(path, AttentionResNet(**SMALL), option=f"--{option}_ckpt_path")()
    for system in (option, "plain", ""):
        write_card(path, {"system": system})
        LoadWeights(path, AttentionResNet(**SMALL), option=f"--{option}_ckpt_path")()


def test_weights_of_another_kind_of_network_are_named(tmp_path):
    vbnet = VBNet(features=(2, 4), convolutions=(1,))
    path = saved(vbnet.state_dict(), tmp_path)
    ModelCardWriter({}, vbnet).write(path)
    with pytest.raises(ValueError, match=r"Its network is VBNet, this one AttentionResNet: give another --ckpt_path"):
        LoadWeights(path, AttentionResNet(**SMALL))()


def test_the_arguments_of_vbnet_are_in_the_card_and_say_why_its_weights_do_not_fit(tmp_path):
    small = {"features": (2, 4, 8), "convolutions": (1, 1)}
    before = VBNet(**small, norm="batch")
    path = saved(before.state_dict(), tmp_path)
    card = ModelCardWriter({}, before)
    card.write(path)
    assert network_arguments(read_card(path)) == before.definition
    with pytest.raises(ValueError, match=r"--network_def#norm is instance \(trained with batch\)\. Leave it out"):
        LoadWeights(path, VBNet(**small))()
    LoadWeights(path, network_as_trained(VBNet, TrainedWith(path)))()


def test_an_argument_without_effect_is_not_compared(tmp_path):
    before = ResidualAttentionUNet(features=[8, 16], attention="none", num_heads=4)
    path = saved(before.state_dict(), tmp_path)
    write_card(path, {"network": {**before.definition, "num_heads": 4}})
    LoadWeights(path, ResidualAttentionUNet(features=[8, 16], attention="none", num_heads=2))()


def test_other_layers_are_reported_with_their_option(tmp_path):
    before = AttentionResNet(**SMALL)
    path = saved(before.state_dict(), tmp_path)
    write_card(path, {"settings": SMALL, "network": before.definition})
    message = r"\)\. --layers is \[1, 1, 1, 2\] \(trained with \[1, 1, 1, 1\]\). Leave it out, or give the value"
    with pytest.raises(ValueError, match=message):
        LoadWeights(path, AttentionResNet(**{**SMALL, "layers": [1, 1, 1, 2]}))()


def test_a_branch_instead_of_the_ensemble_and_the_reverse_are_an_error(tmp_path):
    branch = AttentionResNet(**SMALL)
    ensemble = DualSamplingNet(branch, AttentionResNet(**SMALL))
    with pytest.raises(ValueError, match=r"It is a single branch. Expected both branches in one file: models/model.pt"):
        LoadWeights(saved(branch.state_dict(), tmp_path), ensemble)()
    with pytest.raises(ValueError, match=r"It is the ensemble. Expected a branch: "):
        LoadWeights(saved(ensemble.state_dict(), tmp_path), branch)()


def test_other_preprocessing_settings_are_logged(tmp_path, caplog):
    path = saved(network().state_dict(), tmp_path)
    write_card(path, {"settings": {"grid": [40, 80, 80], "window_hu": [-1350, 150]}})
    LoadWeights(path, network(), settings={"grid": (48, 96, 96), "window_hu": (-1350, 150), "new": 1})()
    warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert warnings == ["model.pt: grid is (48, 96, 96); the weights were trained with [40, 80, 80]."]


@pytest.mark.parametrize("content", [b"", b"half a file", b"PK\x03\x04 half a zip", "truncated", "pickled"])
def test_a_broken_file_is_an_error_and_no_object_is_unpickled(tmp_path, content):
    path = saved(network() if content == "pickled" else network().state_dict(), tmp_path)
    if content != "pickled":
        path.write_bytes(path.read_bytes()[:-200] if content == "truncated" else content)
    with pytest.raises(ValueError, match=r"model.pt cannot be read as tensors: \w+.* Copy or train it again.$"):
        read_state_dict(path)


def test_a_missing_file_is_an_error_with_a_remedy(tmp_path):
    with pytest.raises(ValueError, match=r"No checkpoint at .*model.pt. Train one first \(`run training`\)"):
        read_state_dict(tmp_path / "model.pt")


def test_a_checkpoint_to_resume_from_is_not_a_model(tmp_path):
    with pytest.raises(ValueError, match=r"is not a plain state dict.*--resume true"):
        read_state_dict(saved({"network": network().state_dict(), "trainer": {"epoch": 3}}, tmp_path))


@pytest.mark.parametrize("in_file", [{}, {"1.weight": torch.full((7, 5), 9.0)}], ids=["missing", "other classes"])
def test_own_tensors_keep_their_initial_values(tmp_path, in_file):
    fresh, trained = network(), {f"0.{name}": value for name, value in torch.nn.Linear(3, 5).state_dict().items()}
    first = {name: tensor.detach().clone() for name, tensor in fresh.state_dict().items()}
    LoadWeights(saved({**trained, **in_file}, tmp_path), fresh, own="1.")()
    for name, tensor in fresh.state_dict().items():
        assert tensor.equal(first[name] if name.startswith("1.") else trained[name])
    with pytest.raises(ValueError, match=r"tensors missing: 1 \(1.bias\)|tensors missing: 1 \(1.weight\)"):
        LoadWeights(saved(trained, tmp_path), fresh, own="1.bias")()


def test_weights_of_three_classes_are_refused_with_their_use(tmp_path):
    small = {"layers": (1, 1, 1, 1), "block_inplanes": (2, 2, 2, 2)}
    path = saved(AttentionResNet(**small, num_classes=3).state_dict(), tmp_path)
    two = AttentionResNet(**small)
    for network_of_two in (two, DualSamplingNet(two, two)):
        with pytest.raises(
            ValueError, match=r"for research evaluation only: .*three_classes.yaml. Here, give weights of"
        ):
            LoadWeights(path, network_of_two)()
