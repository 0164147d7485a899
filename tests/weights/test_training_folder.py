import logging

import pytest
from custom_components.weights.checkpoints import training_ended, training_folder
from custom_components.weights.model_card import write_card

FILES = {"model.pt": b"best", "model.json": b"{}", "split.json": b"[]", "resume_checkpoint_epoch=3.pt": b"3"}


@pytest.fixture
def folder(tmp_path):
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_a_new_folder_is_created(tmp_path):
    assert training_folder(tmp_path / "a" / "b").is_dir()
    assert list(tmp_path.rglob("earlier*")) == []


def test_a_new_training_keeps_the_files_of_an_earlier_one(folder):
    training_folder(folder)
    assert contents(folder / "earlier_1") == FILES
    assert contents(folder) == {name: FILES[name] for name in FILES if not name.startswith("resume")}


def test_replacing_the_model_does_not_change_the_kept_one(folder):
    training_folder(folder)
    (folder / "new").write_bytes(b"better")
    (folder / "new").replace(folder / "model.pt")
    training_folder(folder)
    assert (folder / "earlier_1" / "model.pt").read_bytes() == b"best"
    assert (folder / "earlier_2" / "model.pt").read_bytes() == b"better"


def test_a_file_system_without_links_gets_copies(folder, monkeypatch):
    def refuse(*_):
        raise OSError("no links")

    monkeypatch.setattr("os.link", refuse)
    training_folder(folder)
    assert contents(folder / "earlier_1") == FILES


def test_a_resumed_training_changes_no_files(folder):
    training_folder(folder, resume=True)
    assert contents(folder) == FILES
    assert not (folder / "earlier_1").exists()


def test_weights_of_other_networks_in_the_folder_are_not_moved(folder):
    (folder / "vbnet.pt").write_bytes(b"lungs")
    training_folder(folder)
    assert (folder / "vbnet.pt").read_bytes() == b"lungs"
    assert not (folder / "earlier_1" / "vbnet.pt").exists()


def test_the_end_of_a_training_names_the_best_score_and_the_files(folder, caplog):
    write_card(folder / "model.pt", {"score": {"name": "val_auc", "value": 0.91234, "epoch": 7}})
    with caplog.at_level(logging.INFO):
        training_ended(folder, folder / "curves")
    files = "model.pt, model.json, split.json, resume_checkpoint_epoch=*.pt"
    expected = (
        f"Training ended. Best val_auc: 0.9123, epoch 7. Files in {folder}: {files}. TensorBoard: {folder}/curves"
    )
    assert expected in caplog.text


def test_the_weights_of_a_bundle_are_replaced_on_request_only(tmp_path):
    models = tmp_path / "bundle" / "models"
    models.mkdir(parents=True)
    training_folder(models)
    (tmp_path / "bundle" / "configs").mkdir()
    (tmp_path / "bundle" / "configs" / "inference.json").touch()
    training_folder(models)  # it has no weights yet
    (models / "model.pt").write_bytes(b"included")
    for folder in (models, models / ".." / "models"):
        for resume in (False, True):
            with pytest.raises(ValueError, match=r"uses for inference \(model\.pt\)\. Train into another folder"):
                training_folder(folder, resume)
    assert [path.name for path in models.iterdir()] == ["model.pt"]
    assert training_folder(models, replace_weights=True) == models
    assert (models / "earlier_1" / "model.pt").read_bytes() == b"included"
    training_folder(models / "trained")
