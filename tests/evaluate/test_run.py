"""Running an extractor over a gold set: what it did, how fast, and what becomes of failures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("torch")

from penchant.errors import InputError, ModelError
from penchant.evaluate import run as running
from penchant.evaluate.loss import WindowLoss
from penchant.evaluate.run import LATENCY_SAMPLE, Outcome, forget, run, run_all
from penchant.evaluate.specs import Kind, Loaded, Spec
from penchant.testing import ScriptedExtractor
from penchant.types import Extraction, LabelledWindow, Turn
from tests.evaluate.made import find_all, rule, window

SPEC = Spec("scripted", Kind.endpoint, "m")
GOLD = [window([rule("use tabs")] if number % 2 else [], id=f"w{number}") for number in range(120)]

Script = Callable[[Sequence[Turn]], Extraction]


class Answers:
    """Stands for a model that measures losses."""

    def loss(self, gold: LabelledWindow) -> WindowLoss:
        if gold.id == "w1":
            raise InputError("no text")
        return WindowLoss(2.0, 4)


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Callable[..., ScriptedExtractor]:
    def script_it(script: Script, load_answers: Callable[[], Answers] | None = None) -> ScriptedExtractor:
        extractor = ScriptedExtractor(script)

        @contextmanager
        def load(_: Spec) -> Iterator[Loaded]:
            with extractor:
                yield Loaded(extractor, load_answers)  # type: ignore[arg-type]

        monkeypatch.setattr(running, "load", load)
        return extractor

    return script_it


def test_every_window_has_its_extraction_in_order(scripted: Callable[..., ScriptedExtractor]) -> None:
    extractor = scripted(find_all(GOLD))
    outcome = run(SPEC, GOLD)
    assert [result.preferences for result in outcome.extractions] == [gold.preferences for gold in GOLD]
    assert outcome.failure is None
    assert outcome.losses is None
    assert outcome.timing
    assert outcome.timing.sample == extractor.batch_sizes.count(1) - 1 == 40 <= LATENCY_SAMPLE  # and one to warm up
    assert 0 < outcome.timing.p50 <= outcome.timing.p95
    assert extractor.closed


def test_losses_are_measured_where_they_can_be(scripted: Callable[..., ScriptedExtractor]) -> None:
    scripted(find_all(GOLD), Answers)
    losses = run(SPEC, GOLD).losses
    assert losses
    assert (losses[0], losses[1], len(losses)) == (WindowLoss(2.0, 4), None, len(GOLD))


def test_an_extractor_that_cannot_be_loaded_has_no_valid_window(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def load(_: Spec) -> None:
        raise ModelError("no such model:\nm")

    monkeypatch.setattr(running, "load", load)
    undone = Extraction(valid=False, error="no such model: m")
    assert run(SPEC, GOLD) == Outcome(SPEC, (undone,) * len(GOLD), failure="no such model: m")
    assert "scripted: no such model: m" in caplog.text


def test_what_was_done_before_a_failure_stays(scripted: Callable[..., ScriptedExtractor]) -> None:
    def script(turns: Sequence[Turn]) -> Extraction:
        if turns[-1].content == "the text of w50":
            raise RuntimeError
        return find_all(GOLD)(turns)

    scripted(script)
    outcome = run(SPEC, GOLD)
    assert len(outcome.extractions) == len(GOLD)
    valid = [result.valid for result in outcome.extractions]
    assert 16 < sum(valid) <= 50
    assert valid == sorted(valid, reverse=True)
    assert outcome.failure == outcome.extractions[-1].error == "RuntimeError"
    assert outcome.timing is None


def test_a_loss_that_fails_takes_nothing_away(scripted: Callable[..., ScriptedExtractor]) -> None:
    def too_large() -> Answers:
        raise RuntimeError("not enough memory")

    scripted(find_all(GOLD), too_large)
    outcome = run(SPEC, GOLD)
    assert all(result.valid for result in outcome.extractions)
    assert (outcome.losses, outcome.failure) == (None, "not enough memory")


def test_a_server_out_of_reach_is_not_asked_again_for_its_speed(scripted: Callable[..., ScriptedExtractor]) -> None:
    extractor = scripted(lambda _: Extraction(valid=False, error="cannot reach the server"))
    outcome = run(SPEC, GOLD)
    assert outcome.timing is None
    assert outcome.failure is None
    assert {result.error for result in outcome.extractions} == {"cannot reach the server"}
    assert extractor.batch_sizes.count(1) == 1


def test_a_window_of_control_characters_is_one_invalid_window(scripted: Callable[..., ScriptedExtractor]) -> None:
    scripted(lambda _: Extraction())
    blank = window(turns=(Turn(role="user", content="\x00"),))
    outcome = run(SPEC, [blank, GOLD[0]])
    assert [result.valid for result in outcome.extractions] == [False, True]
    assert outcome.failure is None


def test_a_bug_is_not_hidden(scripted: Callable[..., ScriptedExtractor]) -> None:
    scripted(lambda _: 1 / 0)  # type: ignore[arg-type,return-value]
    with pytest.raises(ZeroDivisionError):
        run(SPEC, GOLD)


OTHER = Spec("other", Kind.endpoint, "n")


def test_a_killed_run_goes_on_with_what_it_had_not_finished(
    scripted: Callable[..., ScriptedExtractor], tmp_path: Path
) -> None:
    def killed(_: Sequence[Turn]) -> Extraction:
        if len(list(tmp_path.iterdir())) == 1:  # the first extractor is done
            raise KeyboardInterrupt
        return Extraction()

    scripted(killed)
    with pytest.raises(KeyboardInterrupt):
        run_all([SPEC, OTHER], GOLD, "hash", tmp_path)
    extractor = scripted(find_all(GOLD))
    first, second = run_all([SPEC, OTHER], GOLD, "hash", tmp_path)
    assert [result.preferences for result in first.extractions] == [()] * len(GOLD)  # as the killed run had it
    assert first.timing
    assert [result.preferences for result in second.extractions] == [gold.preferences for gold in GOLD]
    assert sum(extractor.batch_sizes) == len(GOLD) + 1 + LATENCY_SAMPLE - 10
    assert run_all([SPEC, OTHER], GOLD, "hash", tmp_path) == (first, second)
    forget(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_was_kept_of_a_loss_that_is_no_number_is_run_again(
    scripted: Callable[..., ScriptedExtractor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Answers, "loss", lambda *_: WindowLoss(float("nan"), 4))
    scripted(find_all(GOLD), Answers)
    run_all([SPEC], GOLD, "hash", tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    scripted(lambda _: Extraction())
    (outcome,) = run_all([SPEC], GOLD, "hash", tmp_path)
    assert [result.preferences for result in outcome.extractions] == [()] * len(GOLD)
    assert run_all([SPEC], GOLD, "hash", tmp_path) == (outcome,)  # which has been kept in its place


def test_nothing_is_taken_over_from_other_weights(scripted: Callable[..., ScriptedExtractor], tmp_path: Path) -> None:
    weights = tmp_path / "model" / "weights.bin"
    weights.parent.mkdir()
    weights.write_bytes(b"old")
    spec = Spec("mine", Kind.embedded, str(weights.parent))
    scripted(lambda _: Extraction())
    run_all([spec], GOLD, "hash", tmp_path)
    scripted(find_all(GOLD))
    assert not any(result.preferences for result in run_all([spec], GOLD, "hash", tmp_path)[0].extractions)
    weights.write_bytes(b"newer")
    assert any(result.preferences for result in run_all([spec], GOLD, "hash", tmp_path)[0].extractions)


def test_nothing_is_taken_over_from_other_data_or_a_failure(
    scripted: Callable[..., ScriptedExtractor], tmp_path: Path
) -> None:
    scripted(lambda _: Extraction(valid=False, error="cannot reach the server"))
    run_all([SPEC], GOLD, "hash", tmp_path)
    scripted(find_all(GOLD))
    (outcome,) = run_all([SPEC], GOLD, "hash", tmp_path)
    assert all(result.valid for result in outcome.extractions)
    scripted(lambda _: Extraction())
    (outcome,) = run_all([SPEC], GOLD, "another hash", tmp_path)
    assert not any(result.preferences for result in outcome.extractions)
