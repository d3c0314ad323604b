"""``penchant simulate``: what each mode of the loop is worth."""

from __future__ import annotations

import math
import os
import shlex
import sys
import time
from pathlib import Path
from typing import Annotated

import typer


def simulate(
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder of the report.")],
    users: Annotated[int, typer.Option(min=1, help="How many users, half of each kind.")] = 60,
    sessions: Annotated[int, typer.Option(min=1, help="Sessions of each user.")] = 60,
    seeds: Annotated[int, typer.Option(min=1, help="How often, with other chance.")] = 5,
    seed: Annotated[int, typer.Option(help="With the data, the only source of chance.")] = 0,
    quick: Annotated[
        bool, typer.Option("--quick", help="Small numbers, to see it work: 6 users, 12 sessions, 1 seed at most.")
    ] = False,
    recall: Annotated[
        float, typer.Option(min=0, max=1, help="How likely the simulated extractor finds a wish.")
    ] = 0.65,
    false: Annotated[
        float, typer.Option(min=0, max=1, help="How likely it finds a rule in a message that has none.")
    ] = 0.05,
    floor: Annotated[
        float, typer.Option(min=0, max=1, help="Least probability of a retrieved note; 0: the best ones, however bad.")
    ] = 0.1,
    data: Annotated[Path, typer.Option(help="The folder with relevance, simulation and labelled.")] = Path("data"),
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
) -> None:
    """Simulate users over many sessions, and compare what the modes spare them (needs the train extra).

    Users bring tasks and enforce their rules until the answer follows them; the chat model is a rule, so that no
    language model is needed. Compared are vanilla, contextual, all-memory, reflection, most-recent, rag, and vars with
    the default learner and with the paper's. Style personas and the sensitivity of the paper's vectors follow.

    Writes report.md, report.json, learning curves (PNG) and sessions.csv. The same seed gives the same numbers.

    Exit code: 0 all is well; 1 could not run; 2 wrong usage.
    """
    from tqdm import tqdm

    from penchant.simulate import files, markdown, report, run
    from penchant.simulate.collab import Conduct
    from penchant.simulate.hear import Noise
    from penchant.simulate.models import load_models

    conduct = Conduct(noise=Noise(recall, false), floor=math.log(floor) if floor else -math.inf)
    plan = run.Plan(data=data, users=users, sessions=sessions, seeds=seeds, seed=seed, conduct=conduct)
    plan = run.smaller(plan) if quick else plan
    world = run.make_world(plan)
    output.mkdir(parents=True, exist_ok=True)  # a folder that cannot be written should not come out at the end
    started = time.monotonic()
    lives = plan.users * (plan.seeds * len(plan.arms) + len(plan.variants))
    with tqdm(total=lives, unit="life", desc=f"{plan.users} users", smoothing=0.05) as bar:
        results = run.run(world, load_models, workers, bar.update)
    took = f"{(time.monotonic() - started) / 60:.1f} minutes, {workers} processes on {os.cpu_count()} cores"
    found = report.build_report(plan, results, shlex.join(["penchant", *sys.argv[1:]]), took)
    played = [session for life in results.arms.values() for session in report.sessions_of(life)]
    files.write_report(found, played, output)
    typer.echo("\n".join([*markdown.headline(found), "", f"report: {output / 'report.md'}"]))
