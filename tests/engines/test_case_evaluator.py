import json

import pytest
import torch
from custom_components.engines.case_evaluator import CaseDataset, CaseEvaluator
from custom_components.handlers.lesion_case_files import LesionCaseFiles
from custom_components.handlers.lesion_score_table import LesionScoreTable
from custom_components.images.writers import AtomicNibabelWriter
from custom_components.metrics.lesion_scores import LesionScores
from ignite.engine import Events
from monai.data import DataLoader, MetaTensor
from monai.handlers import CheckpointLoader, IgniteMetricHandler, StatsHandler, from_engine
from monai.transforms import CopyItemsd, Lambdad, SaveImaged


class Network(torch.nn.Module):
    """Its prediction is its input; an input of -1 breaks it."""

    def __init__(self, scale=1.0):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(scale))

    def forward(self, x):
        if torch.any(x == -1):
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")
        return x * self.scale


def load(path):
    """An image whose value or name decides where the case will fail."""
    kind = str(path).removesuffix(".nii.gz").rsplit("_", 1)[-1]
    if kind == "unreadable":
        raise ValueError(f"Case {path.removesuffix('.nii.gz')}: file is truncated.")
    if kind == "memory":
        raise MemoryError
    value = {"forward": -1.0, "postprocessing": 9.0, "report": 0.5}.get(kind, 1.0)
    return MetaTensor(torch.full((1, 5, 6, 7), value), affine=torch.eye(4), meta={"filename_or_obj": path})


def post(pred):
    if torch.any(pred == 9):
        raise KeyError("pred")
    return pred


def evaluator_of(names, network=None, num_workers=0, **more):
    data = [{"image": f"{name}.nii.gz"} for name in names]
    copies = CopyItemsd("image", times=2, names=["native", "label"])
    dataset = CaseDataset(data, [Lambdad("image", load), copies])
    loader = DataLoader(dataset, batch_size=1, num_workers=num_workers)
    return CaseEvaluator(device=torch.device("cpu"), val_data_loader=loader, network=network or Network(), **more)


class Seen:
    """Handler that records the cases for which it is called."""

    def __init__(self):
        self.cases = []

    def attach(self, engine):
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine):
        self.cases += [output["pred"].meta["filename_or_obj"] for output in engine.state.output]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_failed_cases_are_logged_and_reported_at_the_end_and_the_others_are_evaluated(num_workers, caplog):
    seen = Seen()
    names = ("a", "b_unreadable", "c", "d_forward", "e_postprocessing", "f")
    evaluator = evaluator_of(names, num_workers=num_workers, postprocessing=Lambdad("pred", post), val_handlers=[seen])
    with pytest.raises(RuntimeError) as caught:
        evaluator.run()
    assert str(caught.value) == (
        "3 of 6 cases failed, the results of the others are written:\n"
        "  b_unreadable: file is truncated.\n"
        "  d_forward: mat1 and mat2 shapes cannot be multiplied\n"
        "  e_postprocessing: KeyError: 'pred'"
    )
    assert seen.cases == ["a.nii.gz", "c.nii.gz", "f.nii.gz"]
    assert "Case b_unreadable failed: file is truncated." in caplog.text


def test_a_second_run_does_not_count_the_failures_of_the_first():
    evaluator = evaluator_of(("a", "b_unreadable"))
    for _ in range(2):
        with pytest.raises(RuntimeError, match="1 of 2 cases failed"):
            evaluator.run()


def test_if_every_case_fails_no_results_are_mentioned():
    with pytest.raises(RuntimeError, match=r"2 of 2 cases failed:\n  a_unreadable"):
        evaluator_of(("a_unreadable", "b_forward")).run()


def test_an_error_in_a_handler_counts_as_failure_of_the_case():
    class Picky(Seen):
        def __call__(self, engine):
            if engine.state.output[0]["pred"].max() == 0.5:
                raise ValueError("Case b_report: value 0.5 is no label.")
            super().__call__(engine)

    picky = Picky()
    with pytest.raises(RuntimeError, match=r"1 of 3 cases failed.*\n  b_report: value 0.5 is no label.$"):
        evaluator_of(("a", "b_report", "c"), val_handlers=[picky]).run()
    assert picky.cases == ["a.nii.gz", "c.nii.gz"]


def test_a_complete_inference_continues_after_failed_cases(tmp_path):
    torch.save({"scale": torch.tensor(1.0)}, tmp_path / "model.pt")
    network, out = Network(scale=2.0), tmp_path / "out"
    save = SaveImaged(
        "pred", output_dir=out, output_postfix="seg", writer=AtomicNibabelWriter, resample=False, print_log=False
    )
    evaluator = evaluator_of(
        ("a", "b_unreadable", "c_forward", "d_report", "e"),
        network,
        key_val_metric={
            "dice": IgniteMetricHandler(metric_fn=LesionScores(), output_transform=from_engine(["pred", "label"]))
        },
        postprocessing=save,
        val_handlers=[
            CheckpointLoader(load_path=str(tmp_path / "model.pt"), load_dict={"model": network}),
            LesionCaseFiles(out, overlay_slices=1),
            LesionScoreTable(tmp_path / "scores", "dice"),
            StatsHandler(output_transform=lambda output: output[0]["pred"].max().item()),
        ],
    )
    with pytest.raises(RuntimeError, match="3 of 5 cases failed"):
        evaluator.run()
    assert sorted(evaluator.failures) == ["b_unreadable", "c_forward", "d_report"]
    assert evaluator.failures["d_report"].startswith("prediction has value 0.5")
    summary = json.loads((tmp_path / "scores" / "summary.json").read_text())
    assert (summary["cases"], summary["dice"]["ground_glass"]) == (2, 1)
    for name in ("a", "e"):
        assert sorted(file.name for file in (out / name).iterdir()) == [
            f"{name}_lesions.json",
            f"{name}_overlay_000.png",
            f"{name}_seg.nii.gz",
        ]


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
        KeyboardInterrupt(),
    ],
)
def test_out_of_memory_and_an_interrupt_end_the_run(error, monkeypatch):
    def fail(*_):
        raise error

    monkeypatch.setattr(Network, "forward", fail)
    evaluator = evaluator_of(("a", "b"))
    with pytest.raises(type(error)):
        evaluator.run()
    assert (evaluator.state.iteration, evaluator.failures) == (1, {})


def test_out_of_memory_while_loading_ends_the_run():
    evaluator = evaluator_of(("a", "b_memory", "c"))
    with pytest.raises(RuntimeError, match="applying transform"):
        evaluator.run()
    assert evaluator.state.iteration == 1


def test_batches_of_several_cases_are_an_error():
    with pytest.raises(ValueError, match="batches of one case, got batch_size 2"):
        CaseEvaluator(
            device=torch.device("cpu"),
            val_data_loader=DataLoader(CaseDataset([{"image": "a"}]), batch_size=2),
            network=Network(),
        )


def test_the_dataset_returns_loaded_cases_unchanged():
    dataset = CaseDataset([{"image": "a.nii.gz"}, {"image": "b_unreadable.nii.gz"}], [Lambdad("image", load)])
    assert dataset[0]["image"].shape == (1, 5, 6, 7)
    assert dataset[1] == {"failed_case": "b_unreadable", "reason": "file is truncated."}
    assert len(dataset[0:2]) == 2


def test_a_full_disk_is_reported_in_one_line(tmp_path):
    class NoSpace(AtomicNibabelWriter):
        def write(self, *args, **kwargs):
            raise OSError(28, "No space left on device")

    save = SaveImaged("pred", output_dir=tmp_path, writer=NoSpace, print_log=False)
    with pytest.raises(RuntimeError, match="1 of 1 cases failed") as caught:
        evaluator_of(("a",), postprocessing=save).run()
    assert str(caught.value).endswith("\n  a: No space left on device. Free space, or choose another folder.")
