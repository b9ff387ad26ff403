"""Runs state machines as Step Functions does, with JSONata by the reference implementation.

Only what iac/*.asl.json uses: states, variables, retries, catches and Map states by the Amazon
States Language (https://states-language.net) and AWS's developer guide. Nothing waits.
"""

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import batched
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
NODE = ROOT / ".tools" / "npm" / "node"
"""Node, installed with the packages of requirements/npm by `make validate`."""

UNCAUGHT = {"States.DataLimitExceeded", "States.Runtime"}
"""Errors that States.ALL does not match:
https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html"""


class StateError(Exception):
    """An error of a state, by its name. `cause` is None where AWS gives none."""

    def __init__(self, name: str, cause: str | None = "because") -> None:
        super().__init__(f"{name}: {cause}")
        self.name = name
        self.cause = cause


class Jsonata:
    """The reference implementation in a process of its own. `evaluated` are all expressions so far.

    Raises StateError where Step Functions fails the state, also for an undefined result.
    """

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self.evaluated: set[str] = set()

    def __call__(self, expression: str, bindings: dict[str, Any]) -> Any:
        """The value of an expression."""
        self.evaluated.add(expression)
        assert self._process.stdin
        assert self._process.stdout
        request = {"expression": expression, "bindings": bindings}
        print(json.dumps(request), file=self._process.stdin, flush=True)
        answer = json.loads(self._process.stdout.readline())
        if "value" not in answer:
            cause = answer.get("error", f"undefined: {expression}")
            raise StateError("States.QueryEvaluationError", cause)
        return answer["value"]

    def fill(self, template: Any, bindings: dict[str, Any]) -> Any:
        """A field of a state with its expressions evaluated."""
        if isinstance(template, dict):
            return {name: self.fill(each, bindings) for name, each in template.items()}
        if isinstance(template, list):
            return [self.fill(each, bindings) for each in template]
        if isinstance(template, str) and template.startswith("{%"):
            return self(template.removeprefix("{%").removesuffix("%}").strip(), bindings)
        return template


@contextmanager
def jsonata() -> Iterator[Jsonata]:
    """Start the reference implementation."""
    command = [NODE, ROOT / "scripts" / "jsonata.mjs"]
    with subprocess.Popen(  # noqa: S603 - our own script
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
    ) as process:
        yield Jsonata(process)
        assert process.stdin
        process.stdin.close()


type Service = Callable[[str, Any], Any]
"""Answers a Task: (resource without its prefix, arguments) → result; may raise StateError."""


class Execution:
    """One execution. `events` counts the events of its history; children have their own."""

    def __init__(self, evaluate: Jsonata, call: Service) -> None:
        self._evaluate = evaluate
        self._call = call
        self.events = 2  # ExecutionStarted and its end
        self.children: list[Any] = []
        """The output of each child execution of a Distributed Map, or its StateError."""

    def run(self, machine: dict[str, Any], given: Any) -> Any:
        """Run a definition with an input; return its output, or raise the StateError that ends it.

        https://docs.aws.amazon.com/step-functions/latest/dg/input-output-contextobject.html
        """
        context = {
            "Execution": {
                "Id": "arn:aws:states:us-east-1:123456789012:execution:machine:id",
                "StartTime": "2026-01-01T00:00:00.000Z",
            }
        }
        return self._machine(machine, given, {}, context)

    def _machine(
        self, machine: dict[str, Any], data: Any, variables: dict[str, Any], context: Any
    ) -> Any:
        name: str | None = machine["StartAt"]
        while name is not None:
            state = machine["States"][name]
            self.events += 2  # StateEntered and StateExited
            data, name = self._state(state, data, variables, context)
        return data

    def _state(  # noqa: C901 - one case a kind of state
        self, state: dict[str, Any], data: Any, variables: dict[str, Any], context: Any
    ) -> tuple[Any, str | None]:
        retried = [0] * len(state.get("Retry", []))

        def fill(template: Any, **states: Any) -> Any:
            here = context | {"State": {"RetryCount": sum(retried)}}
            known = {"input": data, "context": here} | states
            return self._evaluate.fill(template, {**variables, "states": known})

        if state["Type"] == "Choice":
            chosen = (each["Next"] for each in state["Choices"] if fill(each["Condition"]))
            return data, next(chosen, state["Default"])
        if state["Type"] == "Fail":
            raise StateError(state["Error"], fill(state["Cause"]))
        while True:
            try:
                states: dict[str, Any] = {}
                if state["Type"] in ("Task", "Map"):
                    states["result"] = self._work(state, fill, variables, context)
                output = fill(state["Output"], **states) if "Output" in state else None
                assigned = fill(state.get("Assign", {}), **states)
            except StateError as error:
                number = _matching(state.get("Retry", []), error)
                if number is not None and retried[number] < state["Retry"][number]["MaxAttempts"]:
                    retried[number] += 1
                    continue
                number = _matching(state.get("Catch", []), error)
                if number is None:
                    raise
                found = {"Error": error.name}
                if error.cause is not None:
                    found["Cause"] = error.cause
                catch = state["Catch"][number]
                output = fill(catch["Output"], errorOutput=found) if "Output" in catch else found
                variables |= fill(catch.get("Assign", {}), errorOutput=found)
                return output, catch["Next"]
            variables |= assigned
            if "Output" not in state:
                output = states.get("result", data)
            return output, state.get("Next")

    def _work(
        self,
        state: dict[str, Any],
        fill: Callable[..., Any],
        variables: dict[str, Any],
        context: Any,
    ) -> Any:
        """One attempt at a Task or a Map."""
        if state["Type"] == "Task":
            self.events += 3  # TaskScheduled, TaskStarted, TaskSucceeded or TaskFailed
            resource = state["Resource"].removeprefix("arn:aws:states:::")
            return self._call(resource, fill(state["Arguments"]))
        self.events += 2  # MapStateStarted or MapRunStarted, and its end
        processor = state["ItemProcessor"]
        if processor["ProcessorConfig"]["Mode"] == "DISTRIBUTED":
            return self._map_run(state, fill, context)
        results = []
        for item in fill(state["Items"]):
            self.events += 2  # MapIterationStarted and MapIterationSucceeded
            results.append(self._machine(processor, item, dict(variables), context))
        return results

    def _map_run(self, state: dict[str, Any], fill: Callable[..., Any], context: Any) -> Any:
        """A Map Run ends when the tolerated failures are exceeded, in number or share of items.

        https://docs.aws.amazon.com/step-functions/latest/dg/state-map-distributed.html#maprun-fail-threshold
        """
        reader = fill(state["ItemReader"])
        limit = reader["ReaderConfig"]["MaxItems"]
        resource = reader["Resource"].removeprefix("arn:aws:states:::")
        listed = self._call(resource, reader["Arguments"])[:limit]
        items = (
            fill(state["ItemSelector"], context={**context, "Map": {"Item": {"Value": each}}})
            for each in listed
        )
        assert fill(state["MaxConcurrency"]) > 0
        assert fill(state["ResultWriter"])
        batcher = fill(state["ItemBatcher"])
        failed = 0
        for batch in batched(items, batcher["MaxItemsPerBatch"], strict=False):
            child = Execution(self._evaluate, self._call)
            given = {"Items": list(batch), "BatchInput": batcher["BatchInput"]}
            try:
                self.children.append(child.run(state["ItemProcessor"], given))
            except StateError as error:
                self.children.append(error)
                failed += len(batch)
            share = 100 * failed / len(listed)
            if (
                failed > state["ToleratedFailureCount"]
                or share > state["ToleratedFailurePercentage"]
            ):
                raise StateError("States.ExceedToleratedFailureThreshold", "exceeded")
        return {"MapRunArn": "arn", "ResultWriterDetails": {"Bucket": "b", "Key": "k"}}


def _matching(handlers: list[dict[str, Any]], error: StateError) -> int | None:
    """The number of the first Retry or Catch that matches an error."""
    for number, each in enumerate(handlers):
        names = each["ErrorEquals"]
        if error.name in names or ("States.ALL" in names and error.name not in UNCAUGHT):
            return number
    return None


def expressions(template: Any) -> Iterator[str]:
    """Every JSONata expression in a definition."""
    if isinstance(template, dict):
        for each in template.values():
            yield from expressions(each)
    elif isinstance(template, list):
        for each in template:
            yield from expressions(each)
    elif isinstance(template, str) and template.startswith("{%"):
        yield template.removeprefix("{%").removesuffix("%}").strip()
