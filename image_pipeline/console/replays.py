"""Replays that the console started: they run in threads, and pages ask how far they are."""

import itertools
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from image_pipeline.console.dead_letters import DeadLetters
from image_pipeline.errors import CommandError
from image_pipeline.stack import executions
from image_pipeline.stack.deployed import Stack
from image_pipeline.stack.executions import Execution
from image_pipeline.stack.replay import NOTHING, replay_each, replays, waiting


@dataclass
class Replay:
    """A replay, and how far it is; `outcomes` are of single letters, by message id."""

    number: int
    total: int
    ended: bool = False
    counts: Counter[str] = field(default_factory=lambda: Counter(NOTHING))
    outcomes: dict[str, dict[str, str]] = field(default_factory=dict)
    waiting: int | None = None
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As a page gets it."""
        return {
            "number": self.number,
            "total": self.total,
            "ended": self.ended,
            "counts": self.counts,
            "outcomes": self.outcomes,
            "waiting": self.waiting,
            "error": self.error,
        }


class Replays:
    """All replays of this console, by number."""

    def __init__(self, stack: Stack, dead_letters: DeadLetters) -> None:
        self._stack = stack
        self._dead_letters = dead_letters
        self._numbers = itertools.count(1)
        self._started: dict[int, Replay] = {}

    def get(self, number: int) -> Replay | None:
        """Find a replay."""
        return self._started.get(number)

    def start(self, message_ids: Sequence[str] | None) -> Replay:
        """Replay these letters, or all with None, in the background."""
        total = waiting(self._stack) if message_ids is None else len(message_ids)
        replay = Replay(next(self._numbers), total)
        self._started[replay.number] = replay
        threading.Thread(target=self._run, args=(replay, message_ids), daemon=True).start()
        return replay

    def _run(self, replay: Replay, message_ids: Sequence[str] | None) -> None:
        try:
            if message_ids is None:
                self._all(replay)
            else:
                for each in replay_each(self._stack, message_ids, self._dead_letters.lock):
                    replay.counts[each.outcome] += 1
                    replay.outcomes[each.message_id] = {"outcome": each.outcome, "why": each.why}
        except CommandError as error:
            replay.error = str(error)
        except Exception as error:
            replay.error = f"{type(error).__name__}: {error}"
            raise
        finally:
            self._dead_letters.forget()
            replay.ended = True

    def _all(self, replay: Replay) -> None:
        machine = self._stack.output("ReplayStateMachineArn")
        current = executions.running(self._stack.aws.states, machine)

        def progress() -> None:
            replay.waiting = waiting(self._stack)

        def follow(execution: Execution) -> Execution:
            return executions.follow(self._stack.aws.states, execution.arn, progress)

        if current:  # somebody's, of some letters perhaps: it is waited for, and is not ours
            follow(current)
        for ended in replays(self._stack, None, None, None, follow):
            replay.counts.update({name: ended.output[name] for name in NOTHING})
