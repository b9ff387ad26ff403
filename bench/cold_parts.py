"""What a cold start is made of: run in the runtime's Python, in an artefact's folder.

    python cold_parts.py < event.json      → a JSON object: milliseconds by part

The parts are the runtime client's import, the handler's (with the clients that it makes there), the
first event and the next one. The interpreter's own start is for the caller to time.
"""

import json
import sys
import time
from contextlib import redirect_stdout
from itertools import pairwise


class Context:
    """What a handler is given beside the event."""

    aws_request_id = "cold-start"
    function_name = "function"
    memory_limit_in_mb = 512
    invoked_function_arn = "arn:aws:lambda:us-east-1:000000000000:function:function"

    def get_remaining_time_in_millis(self) -> int:
        """Enough."""
        return 30_000


def main() -> None:
    """Take the parts one after another."""
    first, second = json.load(sys.stdin)
    sys.path.insert(0, "")
    times = [time.perf_counter()]
    with redirect_stdout(sys.stderr):
        import awslambdaric.bootstrap  # noqa: F401, PLC0415 - it is timed

        times.append(time.perf_counter())
        from thumbnailer.handler import lambda_handler  # noqa: PLC0415 - likewise

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
