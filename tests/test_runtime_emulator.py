"""image_pipeline.local.runtime_emulator: functions run in AWS's runtime client."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from image_pipeline.errors import CommandError
from image_pipeline.local import runtime_emulator
from image_pipeline.local.runtime_emulator import RuntimeEmulator

pytestmark = pytest.mark.local_stack

SOURCE = """
import os, subprocess, sys, time

print("init")

def echo(event, context):
    print("a line")
    print("no end of line", end="")
    print("to stderr", file=sys.stderr)
    return event

def fail(event, context):
    raise ValueError("no such picture: é")

def look_like_an_error(event, context):
    return {"errorType": "ValueError", "errorMessage": "only a result", "stackTrace": []}

def sleep(event, context):
    time.sleep(event)

def leave(event, context):
    os._exit(3)

def environment(event, context):
    return [dict(os.environ), os.getcwd(), context.memory_limit_in_mb, context.function_name]

def work(event, context):
    end = time.process_time() + event
    while time.process_time() < end:
        pass

def start_another(event, context):
    return [os.getpid(), subprocess.Popen(["sleep", "60"]).pid]
"""


@pytest.fixture
def function(tmp_path):
    """Run a function of SOURCE: `function("echo")` is its emulator."""
    (tmp_path / "handler.py").write_text(SOURCE)

    def emulator(name, environment=None, **settings):
        return RuntimeEmulator(tmp_path, environment or {}, handler=f"handler.{name}", **settings)

    return emulator


def test_a_result_comes_back_with_its_log_and_times(function):
    """The outcome has the decoded JSON, the lines that the function wrote, times and memory."""
    with function("echo") as emulator:
        cold = emulator.invoke({"key": "ünïcode ☂"})
    assert cold.result == {"key": "ünïcode ☂"}
    assert cold.error is None
    assert cold.log == ("init", "a line", "no end of lineto stderr")
    assert cold.init_ms > 0
    assert cold.billed_ms >= cold.init_ms + cold.duration_ms
    assert 5 < cold.max_memory_mb < 200


def test_a_second_event_finds_the_environment_warm(function):
    """Init happens once; its time and its log lines are part of the first outcome."""
    with function("echo") as emulator:
        emulator.invoke(1)
        warm = emulator.invoke(2)
    assert warm.result == 2
    assert warm.init_ms is None
    assert "init" not in warm.log


def test_the_cpu_time_of_the_function_is_that_of_its_own_process(function):
    """It is counted in ms, beside any time in which the function waits; 0 if it has ended."""
    with function("sleep") as emulator:
        emulator.invoke(0)
        idle = emulator.cpu_ms()
        emulator.invoke(0.3)
        assert 0 < idle <= emulator.cpu_ms() < idle + 150
    with function("work") as emulator:
        emulator.invoke(0)
        idle = emulator.cpu_ms()
        emulator.invoke(0.3)
        assert 300 <= emulator.cpu_ms() - idle < 450
    with function("leave") as emulator:
        emulator.invoke(0)
        assert emulator.cpu_ms() == 0


def test_a_raised_error_has_its_type_message_and_stack(function):
    """An exception is the error of the outcome; the environment stays warm."""
    with function("fail") as emulator:
        failed = emulator.invoke({})
        assert emulator.invoke({}).init_ms is None
    assert failed.result is None
    assert (failed.error.type, failed.error.message) == ("ValueError", "no such picture: é")
    assert "in fail" in failed.error.stack[0]
    assert any(line.startswith("[ERROR] ValueError") for line in failed.log)


def test_a_result_that_looks_like_an_error_is_a_result(function):
    """How the runtime posted it decides, not its content."""
    with function("look_like_an_error") as emulator:
        assert emulator.invoke({}).result["errorMessage"] == "only a result"


def test_a_failed_init_is_reported(function, tmp_path):
    """If the handler cannot be imported, the outcome has the error of the import, and the log."""
    (tmp_path / "handler.py").write_text("print('so far')\nimport no_such_module")
    with function("echo") as emulator:
        failed = emulator.invoke({})
    assert failed.error.type == "Runtime.ImportModuleError"
    assert "no_such_module" in failed.error.message
    assert failed.log[0] == "so far"
    assert failed.init_ms > 0
    assert failed.max_memory_mb is None


def test_after_a_timeout_the_function_is_initialised_again(function):
    """A function that exceeds its time-out is killed; the next event starts a new process."""
    with function("sleep", timeout=3) as emulator:  # its start counts too, on a busy machine
        late = emulator.invoke(30)
        again = emulator.invoke(0)
    assert late.error.type == "Sandbox.Timedout"
    assert again.error is None
    assert again.init_ms is not None


def test_a_function_that_ends_its_process_is_reported(function):
    """An exit during an event is an error, not a hang."""
    with function("leave") as emulator:
        assert emulator.invoke({}).error.type == "Runtime.ExitError"


def test_the_environment_is_that_of_lambda(function, tmp_path, monkeypatch):
    """The function has Lambda's variables and those it was given, and none of this process.

    LOG_LEVEL applies to the function and not to the emulator, whose trace is needed.
    """
    monkeypatch.setenv("AWS_PROFILE", "production")
    given = {"OUTPUT_BUCKET": "thumbnails", "AWS_REGION": "eu-west-1", "LOG_LEVEL": "ERROR"}
    with function("environment", given, memory_mb=1024) as emulator:
        invocation = emulator.invoke({})
    seen, directory, memory, name = invocation.result
    assert seen.items() >= given.items()
    assert "AWS_PROFILE" not in seen
    assert "AWS_LAMBDA_RUNTIME_API" in seen
    assert (directory, memory, name) == (str(tmp_path), "1024", "function")
    assert invocation.init_ms > 0


def test_nothing_is_left_running(function):
    """At the end of the block the emulator, the function and its processes are gone."""
    with function("start_another") as emulator:
        pids = [emulator.pid, *emulator.invoke({}).result]
        assert all(_runs(pid) for pid in pids)
    deadline = time.monotonic() + 5
    while any(_runs(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(_runs(pid) for pid in pids)


def test_closing_ends_a_running_function(function):
    """Closing does not wait for an event that is being processed."""
    with function("sleep") as emulator, ThreadPoolExecutor() as threads:
        emulator.invoke(0)
        unanswered = threads.submit(emulator.invoke, 20)
        time.sleep(0.2)
        began = time.monotonic()
        emulator.close()
        with pytest.raises(CommandError, match="does not answer"):
            unanswered.result()
    assert time.monotonic() - began < 5


def test_a_command_can_limit_the_runtime(function):
    """The runtime runs under the command that precedes it."""
    with function("environment", command=("/usr/bin/env", "LIMITED=yes")) as emulator:
        assert emulator.invoke({}).result[0]["LIMITED"] == "yes"


def test_missing_tools_are_reported(function, monkeypatch, tmp_path):
    """The message names the make target that installs them."""
    monkeypatch.setattr(runtime_emulator, "TOOLS", tmp_path)
    with pytest.raises(CommandError, match="make setup"), function("echo"):
        pass


def test_a_missing_artefact_is_reported(tmp_path):
    """The message names the make target that builds one."""
    with pytest.raises(CommandError, match="make build"), RuntimeEmulator(tmp_path / "no", {}):
        pass


def _runs(pid):
    """Whether a process runs; a zombie, which has ended, does not."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
