"""The server of a federation: NVFlare's FedAvg and FedOpt, which name and survive sites that fail."""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from custom_components._version import __version__
from custom_components.federated.exchange import (
    BEST,
    COUNT,
    COUNTS,
    FEDPROX,
    FINISH,
    GROUPS,
    PROBLEM,
    SCORE,
    SCORES,
    STEP,
    TRAIN,
)
from custom_components.federated.record import BEST as BEST_MODEL
from custom_components.federated.record import NEWEST, FederationRecord
from custom_components.federated.scores import pooled_score, site_score_table
from custom_components.federated.site import check_weights
from custom_components.files.atomic import atomic_path
from custom_components.study.tables.table_files import table_files
from monai.bundle import ConfigParser
from nvflare.app_common.abstract.fl_model import FLModel, ParamsType
from nvflare.app_common.workflows.fedavg import FedAvg
from nvflare.app_opt.pt.fedopt_ctl import FedOpt

# NVFlare's names of the tasks.
TRAIN_TASK, EVALUATE_TASK = "train", "validate"
NO_ANSWER = "no answer"
# Folder of the results on the server of a federation in production, where a new job of the same settings resumes.
SERVER_VARIABLE = "COVID_SERVER_FOLDER"


class SurvivingRounds(FedAvg):
    """NVFlare's FedAvg, with what hospitals need.

    Adds to NVFlare: case counts before the first round, which give size-balanced sampling the federation's groups; each
    round goes to all connected sites, continues ``wait_s`` seconds after ``min_sites`` have answered, and leaves out
    by name a site that failed, sent numbers that are not finite, or has another version or network; the best model by
    the pooled validation score, with its card; the final scores per site; ``rounds.json``, from which it resumes.

    Args:
        args: arguments of ``FedAvg``.
        min_sites: sites that a round needs.
        wait_s: seconds to wait for the others after ``min_sites`` have answered.
        folder: folder of the results; a relative one is in NVFlare's folder of the job.
        card: ``network`` (a MONAI config component), ``settings`` and ``system``, for the model card.
        key_metric: name of the score.
        kwargs: further arguments of ``FedAvg``.
    """

    def __init__(
        self,
        *args: Any,
        min_sites: int = 1,
        wait_s: int = 600,
        folder: str = "federation",
        card: dict[str, Any] | None = None,
        key_metric: str = "score",
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.min_sites, self.wait_s, self.folder, self.card = min_sites, wait_s, folder, card or {}
        self.key_metric, self.rounds = key_metric, int(kwargs["num_rounds"])
        self._left_out: dict[str, str] = {}
        self._asked_this_round: list[str] = []
        self._round_scores: dict[str, Any] = {}
        self._newest: FLModel | None = None

    def run(self) -> None:
        """Counts, rounds, final scores."""
        folder = os.environ.get(SERVER_VARIABLE) or self.folder
        self._record = FederationRecord.read(Path(self.get_run_dir()) / folder)
        try:
            self._run()
        except Exception as error:
            self._record.problem = str(error)
            self._record.write()
            raise

    def _run(self) -> None:
        self._record.begin(self.card)
        done = len(self._record.rounds)
        self.start_round, self.num_rounds = done, max(self.rounds - done, 0)
        model = self._loaded()
        self._expected = self._network().state_dict()
        self._count(model)
        self.model = self._newest = model
        super().run()
        if not self.abort_signal.triggered:
            self._finish()

    def sample_clients(self, num_clients: int | None = None) -> list[str]:
        """All connected sites that can take part; new ones are counted first."""
        connected = [client.name for client in self.engine.get_clients()]
        if self.model is not None and (late := [name for name in connected if name not in self._asked]):
            self._count(self._newest, late)
        return [name for name in connected if name in self._record.sites and name in self._able]

    def send_model(self, task_name: str = TRAIN_TASK, data: FLModel | None = None, **kwargs: Any) -> None:
        """Send the model of a round with what its sites need, and do not wait for all of them."""
        self._round_scores, self._left_out = {}, {}
        self._asked_this_round = list(kwargs.get("targets") or ())
        data = _message(data, TRAIN, {GROUPS: self._record.group_counts, FEDPROX: self.fedprox_mu})
        waiting = {"min_responses": self._needed(kwargs.get("targets")), "wait_time_after_min_received": self.wait_s}
        self.broadcast_model(task_name=task_name, data=data, blocking=False, **waiting, **kwargs)

    def update_model(self, model: FLModel, aggr_result: FLModel) -> FLModel:
        """Judge the model that the round began with, then add the round's difference to it."""
        score = self._judge(model, self.current_round, self._round_scores)
        model.params_type = ParamsType.FULL
        updated = super().update_model(model, aggr_result)
        updated.params_type = ParamsType.FULL
        self._newest = updated
        facts = {"score": score, "sites": sorted(self._site_metric_weights), "left_out": dict(self._left_out)}
        self._record.keep_newest(updated.params, **facts)
        return updated

    def save_model(self, model: FLModel) -> None:
        """Nothing: :meth:`update_model` has written the model."""

    def _aggregate_one_result(self, result: FLModel) -> bool:
        name = result.meta["client_name"]
        problem = result.meta.get(PROBLEM) or self._misfit(result.params)
        if problem:
            self._leave_out(name, problem)
            return False
        self._round_scores[name] = result.meta.get(SCORES)
        return bool(super()._aggregate_one_result(result))

    def _get_aggregated_result(self) -> FLModel:
        for name in {*self._asked_this_round} - {*self._site_metric_weights, *self._left_out}:
            self._leave_out(name, NO_ANSWER)
        if self._received_count < self.min_sites:
            raise RuntimeError(
                f"Round {self.current_round + 1}: {self._received_count} of {self._expected_count} sites sent usable "
                f"weights, min_sites is {self.min_sites}. {self._reasons()}"
            )
        return super()._get_aggregated_result()

    def _loaded(self) -> FLModel:
        if self._record.rounds:
            self.info(f"Resuming after round {len(self._record.rounds)}.")
            return FLModel(params_type=ParamsType.FULL, params=self._record.weights(NEWEST))
        model: FLModel = self.load_model()
        if model is None or not model.params:
            raise RuntimeError("The first weights cannot be loaded. Expected a file of tensors, such as a model.pt.")
        return model

    def _network(self) -> torch.nn.Module:
        network: torch.nn.Module = ConfigParser(dict(self.card["network"])).get_parsed_content("")
        return network

    def _count(self, model: FLModel, sites: list[str] | None = None) -> None:
        """Ask sites for their counts; those that cannot take part are named."""
        asked = sites or [client.name for client in self.engine.get_clients()]
        for result in self._ask(_message(model, COUNT, {}), asked):
            name, counts = result.meta["client_name"], result.meta.get(COUNTS)
            problem = result.meta.get(PROBLEM) or _version_problem(counts)
            if problem:
                self._leave_out(name, problem)
                continue
            self._able = {*self._able, name}
            if name not in self._record.sites:
                self._record.sites[name] = counts
        self._asked = {*self._asked, *asked}
        if len(self._able) < self.min_sites:
            raise RuntimeError(
                f"{len(self._able)} of {len(asked)} sites can take part, min_sites is {self.min_sites}. "
                f"{self._reasons()}"
            )

    def _finish(self) -> None:
        """Score the newest model, give the best one to all sites, and write the final table."""
        targets = self.sample_clients()
        facts = {GROUPS: self._record.group_counts}
        answers = self._ask(_message(self._newest, SCORE, facts), targets)
        self._judge(self._newest, len(self._record.rounds), _scores_of(answers))
        best = FLModel(params_type=ParamsType.FULL, params=self._record.weights(BEST_MODEL))
        score = {"name": self.key_metric, "value": self._record.best["value"], "epoch": self._record.best["round"]}
        answers = self._ask(_message(best, FINISH, {**facts, BEST: score}), targets)
        tested = {name: one for name, one in _scores_of(answers).items() if one}
        protocol = f"Best model, after {self._record.best['round']} rounds; "
        kind = "test cases of the sites." if tested else "the validation cases by which it was selected."
        shown = tested or {name: one for name, one in self._record.scores.items() if one}
        if shown:
            for name, text in table_files(site_score_table(shown, protocol + kind)).items():
                with atomic_path(Path(self._record.folder) / name) as temporary:
                    temporary.write_text(text, encoding="utf-8")
        self._record.write()

    def _ask(self, message: FLModel, targets: list[str]) -> list[FLModel]:
        """Answers of sites; a site that does not answer in time, or fails, is named."""
        waiting = {"min_responses": self._needed(targets), "wait_time_after_min_received": self.wait_s}
        message.current_round = self.current_round if self.current_round is not None else self.start_round
        found = self.broadcast_model(task_name=EVALUATE_TASK, data=message, targets=targets, **waiting)
        for name in {*targets} - {one.meta["client_name"] for one in found}:
            self._leave_out(name, NO_ANSWER)
        return list(found)

    def _needed(self, targets: list[str] | None) -> int:
        return min(self.min_sites, len(targets or ())) or 1

    def _judge(self, model: FLModel | None, round_: int, scores: Mapping[str, Any]) -> float | None:
        assert model is not None
        value = pooled_score([one for one in scores.values() if one])
        self.info(f"After {round_} rounds: {self.key_metric} {value:.4f} over {len(scores)} sites")
        if self._record.is_better(value):
            self._record.scores = dict(scores)
            self._record.keep_best(model.params, {"name": self.key_metric, "value": value, "round": round_})
        return None if math.isnan(value) else value

    def _misfit(self, params: Mapping[str, Any] | None) -> str | None:
        if not params:
            return "it sent no weights"
        try:
            check_weights(params, self._expected, "The federation's network")
        except ValueError as error:
            return str(error)
        return None

    def _leave_out(self, name: str, reason: str) -> None:
        self._left_out[name] = reason
        self.warning(f"Site {name} is left out: {reason}")

    def _reasons(self) -> str:
        return " ".join(f"{name}: {reason}." for name, reason in sorted(self._left_out.items()))

    _asked: frozenset[str] | set[str] = frozenset()
    _able: frozenset[str] | set[str] = frozenset()


class SurvivingFedOpt(SurvivingRounds, FedOpt):
    """The same with FedOpt: an optimizer of the server takes the averaged difference as its gradient.

    Args:
        args: arguments of :class:`SurvivingRounds` and of NVFlare's ``FedOpt``.
        kwargs: as ``args``.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, source_model="", **kwargs)

    def _loaded(self) -> FLModel:
        model = super()._loaded()
        network = self._network()
        network.load_state_dict({name: torch.as_tensor(value) for name, value in model.params.items()})
        self.source_model = network
        return model


def _message(model: FLModel | None, step: str, facts: Mapping[str, Any]) -> FLModel:
    assert model is not None
    known = {name: value for name, value in facts.items() if value is not None}
    model.meta = {STEP: step, **known}
    model.params_type = ParamsType.FULL
    return model


def _scores_of(answers: list[FLModel]) -> dict[str, Any]:
    return {one.meta["client_name"]: one.meta.get(SCORES) for one in answers if PROBLEM not in one.meta}


def _version_problem(counts: Mapping[str, Any]) -> str | None:
    if counts["version"] != __version__:
        return f"it has version {counts['version']} of custom_components, the server {__version__}"
    return None
