"""Times the parts of a cold start. bench.cold_start runs it in the folder of a built function.

    python cold_start_worker.py < events.json      (two events → milliseconds by part, as JSON)

The parts are the import of the runtime client, the import of the handler (with the clients that it
creates), the first event and the next event. The caller measures the start of the interpreter.
"""

import json
import sys
import time
from contextlib import redirect_stdout
from itertools import pairwise


class Context:
    """The context of an invocation, as far as handlers use it."""

    aws_request_id = "cold-start"
    function_name = "function"
    memory_limit_in_mb = 512
    invoked_function_arn = "arn:aws:lambda:us-east-1:000000000000:function:function"

    def get_remaining_time_in_millis(self) -> int:
        """The time left in milliseconds: always enough."""
        return 30_000


def main() -> None:
    """Time the parts one after another and print them."""
    first, second = json.load(sys.stdin)
    sys.path.insert(0, "")
    times = [time.perf_counter()]
    with redirect_stdout(sys.stderr):
        import awslambdaric.bootstrap  # noqa: F401, PLC0415 - the import is timed

        times.append(time.perf_counter())
        from handler import lambda_handler  # noqa: PLC0415 - the import is timed

        times.append(time.perf_counter())
        for event in (first, second):
            lambda_handler(event, Context())
            times.append(time.perf_counter())
    names = ("runtime client", "handler", "first event", "next event")
    parts = {
        name: (end - start) * 1000
        for name, (start, end) in zip(names, pairwise(times), strict=True)
    }
    json.dump(parts, sys.stdout)


if __name__ == "__main__":
    main()
