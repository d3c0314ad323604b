"""Whole simulations, their reports and their files."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest

from penchant.simulate.arms import ARMS
from penchant.simulate.collab import Life
from penchant.simulate.files import write_report
from penchant.simulate.markdown import render
from penchant.simulate.report import Report, build_report, sessions_of
from penchant.simulate.run import Plan, Results, World, make_world, run
from penchant.simulate.sensitivity import VARIANTS
from tests.simulate.conftest import DATA, word_models
from tests.simulate.test_measure import played

PLAN = Plan(data=DATA, users=2, sessions=3, seeds=2, seed=5, rounds=1)


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(PLAN)


@pytest.fixture(scope="module")
def results(world: World) -> Results:
    return run(world, word_models)


def report_of(results: Results) -> Report:
    return build_report(PLAN, results, "penchant simulate")


def test_everything_is_run(world: World, results: Results) -> None:
    assert list(results.arms) == [arm.name for arm in ARMS]
    assert list(results.variants) == [arm.name for arm in VARIANTS]
    for lives in results.arms.values():
        sessions = sessions_of(lives)
        assert [(s.user, s.seed, s.session) for s in sessions] == [
            (user.id, seed, number) for user in world.users for seed in (5, 6) for number in range(3)
        ]
    assert {len(lives) for lives in results.variants.values()} == {2}
    assert results.models["reranker"] == "words"


def test_processes_change_nothing(world: World, results: Results) -> None:
    told: list[int] = []
    apart = run(world, word_models, workers=2, progress=told.append)
    assert apart == results
    assert render(report_of(apart)) == render(report_of(results))
    assert told == [2 * len(ARMS) + len(VARIANTS)] * 2


def test_all_arms_meet_the_same_tasks(results: Results) -> None:
    met = {
        name: [(s.user, s.seed, s.session, s.before) for s in sessions_of(lives)]
        for name, lives in results.arms.items()
    }
    assert all(sessions == met["vars"] for sessions in met.values())


def test_a_report_is_written_whole_and_read_back(results: Results, tmp_path: Path) -> None:
    report = report_of(results)
    sessions = [session for lives in results.arms.values() for session in sessions_of(lives)]
    write_report(report, sessions, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "report.md", "report.json", "enforcements.png", "timeout.png", "tokens.png", "recall.png", "sessions.csv",
    }  # fmt: skip
    data = json.loads((tmp_path / "out" / "report.json").read_text())
    assert data["schema"] == "penchant.simulation-report/1"
    assert {row["arm"] for row in data["rows"]} == {arm.name for arm in ARMS}
    assert len(data["curves"]["enforcements"]["rag"]) == 3
    with (tmp_path / "out" / "sessions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(sessions) == len(ARMS) * 2 * 2 * 3
    text = (tmp_path / "out" / "report.md").read_text()
    for line in ("vars minus rag, enforcement turns", "| vanilla |", "| gate fixed at 1.0 |", "Spearman"):
        assert line in text
    assert all(line.count("|") == text.splitlines()[i + 1].count("|")
               for i, line in enumerate(text.splitlines()) if line.startswith("| arm"))  # fmt: skip


def test_it_is_said_where_a_simple_baseline_wins() -> None:
    def arm(name: str, enforcements: int) -> list[Life]:
        return [Life((replace(played(user, 0, enforcements), arm=name),)) for user in range(12)]

    results = Results(arms={"vanilla": arm("vanilla", 5), "rag": arm("rag", 1), "vars": arm("vars", 2)})
    report = report_of(results)
    assert "rag, the simpler one, is better than vars (1.00 against 2.00 enforcement turns a session)." in report.notes
    assert "vars is better than vanilla (2.00 against 5.00 enforcement turns a session)." in report.notes
    assert "+1.000 (+1.000 to +1.000)" in render(report)
    even = report_of(Results(arms={"rag": arm("rag", 1), "vars": arm("vars", 1)}))
    assert any("vars and rag do not differ clearly" in note for note in even.notes)
    few = report_of(Results(arms={name: arm(name, 1)[:2] for name in ("rag", "vars")}))
    assert any("vars and rag: too few users to tell" in note for note in few.notes)
