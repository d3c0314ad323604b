"""All users, arms and seeds, in as many processes as wanted; the result depends on the seed only."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from penchant.data.pairs import ProfileRule, RatedExchange, is_apart
from penchant.data.synthesis import load_entries
from penchant.learn.space import ItemSpace, fit_space
from penchant.simulate.arms import ARMS, Arm
from penchant.simulate.collab import Conduct, Life, live
from penchant.simulate.models import Models, cached
from penchant.simulate.sensitivity import VARIANTS
from penchant.simulate.style import StyleResult, run_style
from penchant.simulate.talk import variants, voice_of
from penchant.simulate.users import User, load_users, strangers
from penchant.types import note

FALSE_RULES = 10
"""Rules of others that the extractor may find for a user."""


@dataclass(frozen=True)
class Plan:
    """What is simulated.

    Args:
        data: the folder with ``relevance``, ``simulation`` and ``labelled``.
        users: how many.
        sessions: of each.
        seeds: how often, with other chance.
        seed: the first of them; it decides which users and phrases there are, too.
        rounds: sessions of the style personas with complaints.
        conduct: how users behave.
        arms: what is compared.
        variants: of the reward and the gate; each runs with the first seed only.
    """

    data: Path = Path("data")
    users: int = 60
    sessions: int = 60
    seeds: int = 5
    seed: int = 0
    rounds: int = 20
    conduct: Conduct = field(default_factory=Conduct)
    arms: tuple[Arm, ...] = ARMS
    variants: tuple[Arm, ...] = VARIANTS


def smaller(plan: Plan) -> Plan:
    """Return a plan that is done soon: 6 users, 12 sessions and one seed at most."""
    return replace(plan, users=min(plan.users, 6), sessions=min(plan.sessions, 12), seeds=1, rounds=min(plan.rounds, 2))


@dataclass(frozen=True)
class World:
    """What every process needs to know: the plan, the users, and reactions for their phrases."""

    plan: Plan
    users: tuple[User, ...]
    exchanges: tuple[RatedExchange, ...]


@dataclass
class Results:
    """Each arm's and each variant's lives, by name, in the order of the users; the style personas; the models."""

    arms: dict[str, list[Life]] = field(default_factory=dict)
    variants: dict[str, list[Life]] = field(default_factory=dict)
    style: StyleResult | None = None
    models: dict[str, str] = field(default_factory=dict)


Load = Callable[[], Models]
_Lives = list[tuple[str, Life]]


def make_world(plan: Plan) -> World:
    """Read the data; of the reactions those that the shipped reader was not trained on.

    Raises:
        InputError: a file is missing or damaged, or there are not enough users.
    """
    path = plan.data / "labelled" / "reactions.jsonl"
    unseen = [exchange for exchange in load_entries(path, RatedExchange) if is_apart(exchange.id)]
    return World(plan, tuple(load_users(plan.data, plan.users, plan.seed)), tuple(unseen))


def run(world: World, load: Load, workers: int = 1, progress: Callable[[int], object] = lambda lives: None) -> Results:
    """Run everything.

    Args:
        world: what there is.
        load: loads the models, in each process.
        workers: how many processes; 1: this one.
        progress: told how many lives were lived since it was told last.
    """
    models = load()  # first, so that one that is missing is one error, and not each worker's
    results = Results(models=models.names)
    arms = {arm.name for arm in world.plan.arms}
    for lives in _all_lives(world, models, load, workers):
        for name, life in lives:
            (results.arms if name in arms else results.variants).setdefault(name, []).append(life)
        progress(len(lives))
    results.style = style(world, cached(models))
    return results


def lives_of(user: User, world: World, models: Models, space: ItemSpace) -> _Lives:
    """Let a user live with every arm and seed, and with every variant of the paper's reward and gate."""
    plan = world.plan
    voice = voice_of(user, world.exchanges, plan.seed)
    others = strangers(world.users, user, FALSE_RULES, plan.seed)
    todo = [(arm, plan.seed + number) for number in range(plan.seeds) for arm in plan.arms]
    todo += [(arm, plan.seed) for arm in plan.variants]
    return [
        (arm.name, live(user, voice, others, arm, seed, plan.sessions, models, space, plan.conduct))
        for arm, seed in todo
    ]


def item_space(users: Sequence[User], models: Models) -> ItemSpace:
    """Fit the item space on the notes of all users' rules, as on a memory in use for long."""
    notes = sorted({note(words) for user in users for rule in user.rules for words in variants(rule)[:1]})
    return fit_space(models.embedder.embed(notes))


def style(world: World, models: Models) -> StyleResult:
    """Run the style personas, with rules of the ``profile`` users beside their own."""
    others: list[ProfileRule] = [
        rule for user in world.users if user.kind == "profile" for rule in user.rules if rule.condition != "general"
    ]
    space = item_space(world.users, models)
    plan = world.plan
    return run_style(models, others, space, plan.seed, plan.rounds, floor=plan.conduct.floor)


def _all_lives(world: World, models: Models, load: Load, workers: int) -> Iterator[_Lives]:
    if workers == 1:
        space = item_space(world.users, cached(models))
        for user in world.users:
            yield lives_of(user, world, cached(models), space)
        return
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # of a worker, which has one core
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_start, initargs=(world, load)) as pool:
        yield from pool.map(_work, range(len(world.users)))


_here: tuple[World, Models, ItemSpace] | None = None


def _start(world: World, load: Load) -> None:
    """Load the models of a worker, once, on a core of its own: the libraries' threads would wait for each other."""
    global _here
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        number = multiprocessing.current_process().name.rpartition("-")[2].rpartition(":")[2]
        os.sched_setaffinity(0, {cores[int(number) % len(cores)]})
    models = load()
    _here = world, models, item_space(world.users, cached(models))


def _work(place: int) -> _Lives:
    if _here is None:
        raise RuntimeError("this worker was not started")
    world, models, space = _here
    return lives_of(world.users[place], world, cached(models), space)
