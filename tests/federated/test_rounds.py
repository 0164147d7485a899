"""The server: averages by number of scans, and leaves out by name what would spoil them."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

pytest.importorskip("nvflare", reason='needs nvflare: pip install "custom_components[federated]"')

from custom_components._version import __version__
from custom_components.federated.exchange import NOT_FINITE, PROBLEM, SCORES, STEP
from custom_components.federated.record import FederationRecord
from custom_components.federated.rounds import SurvivingFedOpt, SurvivingRounds
from nvflare.app_common.abstract.fl_model import FLModel, MetaKey, ParamsType
from nvflare.app_common.aggregators.weighted_aggregation_helper import WeightedAggregationHelper

CARD = {"network": {"_target_": "torch.nn.BatchNorm1d", "num_features": 2}, "settings": {}}
COUNTS = {"training": 3, "validation": 2, "synthetic": 0, "groups": None, "version": __version__}
AUC = {"kind": "auc", "values": [[1.0, 1.0], [0.0, 0.0]], "patients": [0, 1]}


def controller(folder: Path, kind=SurvivingRounds, sites=("north", "south", "east"), **options):
    """A server within a round, without NVFlare's engine."""
    made = kind(num_clients=2, num_rounds=5, min_sites=2, wait_s=0, card=CARD, **options)
    made.current_round, made.fl_ctx, made.event = 0, None, lambda *_: None
    made.fl_ctx = SimpleNamespace(set_prop=lambda *_, **__: None)
    made.info = made.warning = lambda text: made.said.append(text)
    made.said = []
    made._record = FederationRecord.read(folder)
    made._record.begin(CARD)
    made._record.sites = dict.fromkeys(sites, COUNTS)
    made._able = made._asked = set(sites)
    made._expected = made._network().state_dict()
    made._aggr_helper, made._aggr_metrics_helper = WeightedAggregationHelper(), WeightedAggregationHelper()
    made._received_count, made._expected_count, made._params_type = 0, len(sites), None
    made._site_metric_weights = {}
    return made


def difference(value: float, steps: int = 1) -> dict[str, np.ndarray]:
    names = ("weight", "bias", "running_mean", "running_var")
    return {**{name: np.full(2, value, np.float32) for name in names}, "num_batches_tracked": np.array(steps)}


def result(name: str, params, part: float = 1.0, **facts) -> FLModel:
    meta = {"client_name": name, MetaKey.NUM_STEPS_CURRENT_ROUND: part, SCORES: AUC, **facts}
    if params is None:
        return FLModel(metrics={"answered": 1.0}, meta=meta)
    return FLModel(params_type=ParamsType.DIFF, params=params, meta=meta)


def test_differences_are_averaged_by_the_number_of_scans(tmp_path):
    server = controller(tmp_path)
    assert server._aggregate_one_result(result("north", difference(1.0), part=30))
    assert server._aggregate_one_result(result("south", difference(4.0), part=10))
    averaged = server._get_aggregated_result().params
    assert np.allclose(averaged["weight"], (30 * 1 + 10 * 4) / 40)
    assert np.allclose(averaged["running_var"], 1.75)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
def test_a_site_that_sends_nan_is_named_and_left_out_and_the_others_count(tmp_path, bad):
    server = controller(tmp_path)
    spoilt = difference(1.0)
    spoilt["weight"][1] = bad
    assert not server._aggregate_one_result(result("east", spoilt, part=1000))
    for name in ("north", "south"):
        server._aggregate_one_result(result(name, difference(2.0)))
    assert np.allclose(server._get_aggregated_result().params["weight"], 2)
    assert "Site east is left out: Numbers that are not finite were received in 1 (weight)." in server.said


@pytest.mark.parametrize(
    ("params", "facts", "message"),
    [
        ({**difference(1.0), "weight": np.zeros(3, np.float32)}, {}, "has weight of shape (2,), received was (3,)"),
        ({"weight": np.zeros(2, np.float32)}, {}, "5 weights, 1 were received"),
        (None, {PROBLEM: NOT_FINITE}, NOT_FINITE),
        (None, {}, "it sent no weights"),
    ],
    ids=["widths", "names", "problem", "nothing"],
)
def test_a_site_with_another_network_or_a_problem_is_named(tmp_path, params, facts, message):
    server = controller(tmp_path)
    assert not server._aggregate_one_result(result("east", params, **facts))
    assert server.said[-1].startswith("Site east is left out: ")
    assert message in server.said[-1]


def test_a_site_that_did_not_answer_in_time_is_named(tmp_path):
    server = controller(tmp_path)
    server._asked_this_round = ["north", "south", "east"]
    one_round(server, first_model(server))
    assert FederationRecord.read(tmp_path).rounds[0]["left_out"] == {"east": "no answer"}


def test_too_few_usable_sites_end_the_federation_with_their_names(tmp_path):
    server = controller(tmp_path)
    server._aggregate_one_result(result("north", difference(1.0)))
    server._aggregate_one_result(result("south", None, **{PROBLEM: NOT_FINITE}))
    with pytest.raises(RuntimeError, match=rf"Round 1: 1 of 3 sites .* min_sites is 2. south: {NOT_FINITE}"):
        server._get_aggregated_result()


def one_round(server, model, value=0.5):
    for name in ("north", "south"):
        server._aggregate_one_result(result(name, difference(value)))
    return server.update_model(model, server._get_aggregated_result())


def first_model(server):
    state = server._network().state_dict()
    return FLModel(params_type=ParamsType.FULL, params={name: value.numpy() for name, value in state.items()})


def test_a_round_adds_the_average_and_is_recorded_with_the_score_of_the_model_it_began_with(tmp_path):
    server = controller(tmp_path)
    before = first_model(server)
    expected = {name: np.array(value) for name, value in before.params.items()}
    after = one_round(server, before)
    assert np.allclose(after.params["weight"], expected["weight"] + 0.5)
    assert int(after.params["num_batches_tracked"]) == 1
    again = FederationRecord.read(tmp_path)
    assert again.rounds == [{"score": 1.0, "sites": ["north", "south"], "left_out": {}}]
    assert np.allclose(again.weights("newest.pt")["weight"], expected["weight"] + 0.5)
    assert np.allclose(again.weights("model.pt")["weight"], expected["weight"])  # the best so far is the scored one


def test_a_restarted_server_continues_after_the_last_complete_round(tmp_path):
    server = controller(tmp_path)
    after = one_round(server, first_model(server))
    restarted = controller(tmp_path)
    restarted._record = FederationRecord.read(tmp_path)
    loaded = restarted._loaded()
    assert all((loaded.params[name] == value).all() for name, value in after.params.items())
    assert "Resuming after round 1." in restarted.said


def test_the_optimizer_of_fedopt_with_rate_one_is_plain_averaging(tmp_path):
    options = {"optimizer_args": {"path": "torch.optim.SGD", "args": {"lr": 1.0}}}
    server, plain = controller(tmp_path / "a", SurvivingFedOpt, **options), controller(tmp_path / "b")
    model = first_model(server)
    server.load_model = lambda: model
    server._loaded()
    server.torch_model, server.device = server.source_model, torch.device("cpu")
    server.optimizer = torch.optim.SGD(server.torch_model.parameters(), lr=1.0)
    expected = one_round(plain, first_model(plain)).params
    found = one_round(server, model).params
    assert all(np.allclose(found[name], value) for name, value in expected.items())


def test_sites_of_another_version_are_left_out_before_the_first_round(tmp_path):
    server = controller(tmp_path, sites=())
    counts = {"north": COUNTS, "south": COUNTS, "east": {**COUNTS, "version": "0.1.0"}}
    server._ask = lambda message, asked: [
        FLModel(metrics={"answered": 1.0}, meta={"client_name": name, "counts": counts[name]}) for name in asked
    ]
    server._count(first_model(server), list(counts))
    assert set(server._record.sites) == {"north", "south"}
    assert f"Site east is left out: it has version 0.1.0 of custom_components, the server {__version__}" in server.said


def test_a_late_site_is_counted_and_takes_part_from_then_on(tmp_path):
    server = controller(tmp_path, sites=("north", "south"))
    server.model = server._newest = first_model(server)
    server.engine = SimpleNamespace(get_clients=lambda: [SimpleNamespace(name=n) for n in ("north", "south", "late")])
    asked = []

    def ask(message, sites):
        asked.append((message.meta[STEP], sites))
        return [FLModel(metrics={"answered": 1.0}, meta={"client_name": "late", "counts": COUNTS})]

    server._ask = ask
    assert server.sample_clients() == ["north", "south", "late"]
    assert server.sample_clients() == ["north", "south", "late"]
    assert asked == [("count", ["late"])]
