"""Replays that the console started: they run in threads, and pages ask for their progress."""

import itertools
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from image_pipeline.console.dead_letters import DeadLetters
from image_pipeline.errors import CommandError
from image_pipeline.stack import executions
from image_pipeline.stack.dead_letters import count_messages
from image_pipeline.stack.deployed import Stack
from image_pipeline.stack.replay import OUTCOMES, replay_all, replay_each

MAX_OUTCOMES: Final = 100
"""Outcomes of single messages that a page is sent; of more it shows the counts only."""


@dataclass
class Replay:
    """A replay and its progress; `outcomes` are those of single messages, by message id."""

    number: int
    total: int
    ended: bool = False
    counts: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(OUTCOMES, 0)))
    outcomes: dict[str, dict[str, str]] = field(default_factory=dict)
    waiting: int | None = None
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As JSON for a page."""
        return {
            "number": self.number,
            "total": self.total,
            "ended": self.ended,
            "counts": self.counts,
            "outcomes": self.outcomes if len(self.outcomes) <= MAX_OUTCOMES else {},
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
        """Replay these messages, or all of them with None, in the background."""
        total = count_messages(self._stack) if message_ids is None else len(message_ids)
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
        states, machine = self._stack.aws.states, self._stack.output("ReplayStateMachineArn")
        if running := executions.find_running(states, machine):
            # Somebody else's, perhaps of some messages only: it is not counted.
            for _ in executions.watch(states, running.arn):
                replay.waiting = count_messages(self._stack)
        for execution in replay_all(self._stack):
            replay.waiting = count_messages(self._stack)
            if not execution.running:
                replay.counts.update({name: execution.output[name] for name in OUTCOMES})
