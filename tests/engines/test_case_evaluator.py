import json

import pytest
import torch
from custom_components.engines.case_evaluator import CaseDataset, CaseEvaluator, root_cause
from custom_components.handlers.lesion_case_files import LesionCaseFiles
from custom_components.handlers.lesion_score_table import LesionScoreTable
from custom_components.images.writers import AtomicNibabelWriter
from custom_components.metrics.lesion_scores import LesionScores
from ignite.engine import Events
from monai.data import DataLoader, MetaTensor
from monai.handlers import CheckpointLoader, IgniteMetricHandler, StatsHandler, from_engine
from monai.transforms import CopyItemsd, Lambdad, SaveImaged

NAMES = ("001", "002", "003", "004", "005")


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
    """What a case's name brings: an image that says what will happen to it."""
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
    """Handler that notes which cases it is shown."""

    def __init__(self):
        self.cases = []

    def attach(self, engine):
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine):
        self.cases += [output["pred"].meta["filename_or_obj"] for output in engine.state.output]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_bad_cases_are_told_at_the_end_and_the_others_are_evaluated(num_workers):
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


def test_without_a_bad_case_it_is_the_monai_evaluator():
    evaluator = evaluator_of(NAMES)
    evaluator.run()
    assert evaluator.failures == {}
    assert evaluator.state.iteration == 5


def test_it_runs_again_without_the_failures_of_before():
    evaluator = evaluator_of(("a", "b_unreadable"))
    for _ in range(2):
        with pytest.raises(RuntimeError, match="1 of 2 cases failed"):
            evaluator.run()


def test_when_every_case_fails_none_is_said_to_be_written():
    with pytest.raises(RuntimeError, match=r"2 of 2 cases failed:\n  a_unreadable"):
        evaluator_of(("a_unreadable", "b_forward")).run()


def test_failures_are_logged_as_they_happen(caplog):
    with pytest.raises(RuntimeError):
        evaluator_of(("a", "b_unreadable")).run()
    assert "Case b_unreadable failed: file is truncated." in caplog.text


def test_a_handler_that_fails_on_a_case_fails_the_case():
    class Picky(Seen):
        def __call__(self, engine):
            if engine.state.output[0]["pred"].max() == 0.5:
                raise ValueError("Case b_report: value 0.5 is no label.")
            super().__call__(engine)

    picky = Picky()
    with pytest.raises(RuntimeError, match=r"1 of 3 cases failed.*\n  b_report: value 0.5 is no label.$"):
        evaluator_of(("a", "b_report", "c"), val_handlers=[picky]).run()
    assert picky.cases == ["a.nii.gz", "c.nii.gz"]


def test_a_whole_inference_survives_bad_cases(tmp_path):
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
    summary = json.loads((tmp_path / "scores" / "summary.json").read_text())
    assert (summary["cases"], summary["dice"]["ground_glass"]) == (2, 1)
    for name in ("a", "e"):
        assert sorted(file.name for file in (out / name).iterdir()) == [
            f"{name}_lesions.json",
            f"{name}_overlay_000.png",
            f"{name}_seg.nii.gz",
        ]


def test_a_case_that_cannot_be_scored_is_in_no_score(tmp_path):
    metric = IgniteMetricHandler(metric_fn=LesionScores(), output_transform=from_engine(["pred", "label"]))
    report = LesionScoreTable(tmp_path, "dice")
    evaluator = evaluator_of(("a", "b_report", "c"), key_val_metric={"dice": metric}, val_handlers=[report])
    with pytest.raises(RuntimeError, match=r"1 of 3 cases failed.*\n  b_report: prediction has value 0.5"):
        evaluator.run()
    rows = (tmp_path / "per_case.csv").read_text(encoding="utf-8").splitlines()
    assert [row.split(",")[0] for row in rows] == ["case_id", "a", "c"]


def test_lack_of_memory_while_loading_ends_the_run():
    evaluator = evaluator_of(("a", "b_memory", "c"))
    with pytest.raises(RuntimeError, match="applying transform"):
        evaluator.run()
    assert evaluator.state.iteration == 1


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
        KeyboardInterrupt(),
    ],
)
def test_lack_of_memory_and_an_interrupt_end_the_run(error):
    class Greedy(Network):
        def forward(self, x):
            raise error

    evaluator = evaluator_of(("a", "b"), Greedy())
    with pytest.raises(type(error)):
        evaluator.run()
    assert evaluator.state.iteration == 1
    assert evaluator.failures == {}


def test_batches_of_several_cases_are_refused():
    with pytest.raises(ValueError, match="batches of one case, got batch_size 2"):
        CaseEvaluator(
            device=torch.device("cpu"),
            val_data_loader=DataLoader(CaseDataset([{"image": "a"}]), batch_size=2),
            network=Network(),
        )


def test_a_dataset_hands_on_what_it_can_load_unchanged():
    dataset = CaseDataset([{"image": "a.nii.gz"}, {"image": "b_unreadable.nii.gz"}], [Lambdad("image", load)])
    assert dataset[0]["image"].shape == (1, 5, 6, 7)
    assert dataset[1] == {"failed_case": "b_unreadable", "reason": "file is truncated."}
    assert len(dataset[0:2]) == 2


def test_the_first_cause_of_a_chain_is_the_reason():
    try:
        try:
            raise ValueError("Case 012: mask has value 7.")
        except ValueError as error:
            raise RuntimeError("applying transform <CheckLabeld>") from error
    except RuntimeError as error:
        caught = error
    assert root_cause(caught) == "Case 012: mask has value 7."
    assert root_cause(caught, "012") == "mask has value 7."


def test_a_reason_that_is_no_sentence_gets_its_type():
    assert root_cause(KeyError("label")) == "KeyError: 'label'"
    assert root_cause(RuntimeError()) == "RuntimeError"


def test_a_full_disk_is_told_in_one_line(tmp_path):
    class NoSpace(AtomicNibabelWriter):
        def write(self, *args, **kwargs):
            raise OSError(28, "No space left on device")

    save = SaveImaged("pred", output_dir=tmp_path, writer=NoSpace, print_log=False)
    with pytest.raises(RuntimeError, match="1 of 1 cases failed") as caught:
        evaluator_of(("a",), postprocessing=save).run()
    assert str(caught.value).endswith("\n  a: No space left on device. Free space, or choose another folder.")
