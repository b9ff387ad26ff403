"""Starts ministack with the patches: `.tools/ministack/bin/python -P patches/__main__.py`."""

import argparse
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

# ministack's environment does not have this project. At the end of the path the project's modules
# cannot take the place of others; the option -P keeps this folder off its beginning.
sys.path.append(str(Path(__file__).resolve().parents[3]))

from image_pipeline.local.patches import (
    asynchronous,
    cloudformation,
    cloudfront,
    event_bridge,
    functions,
    gate,
    iam,
    permissions,
    step_functions,
)

PATCHES: Final[tuple[Callable[[], None], ...]] = (
    functions.run_python_in_the_lambda_runtime_client,
    functions.give_functions_the_environment_of_lambda,
    functions.give_functions_secret_keys,
    functions.make_metrics_of_log_lines,
    functions.let_a_period_be_the_whole_range,
    asynchronous.use_the_event_settings_of_aliases,
    asynchronous.keep_the_request_id_through_retries,
    asynchronous.let_throttled_events_wait,
    asynchronous.send_complete_on_failure_records,
    event_bridge.deliver_events_asynchronously,
    cloudformation.accept_alarms_of_metric_math,
    cloudformation.refuse_to_delete_full_buckets,
    cloudformation.encrypt_buckets,
    cloudformation.encrypt_topics,
    cloudformation.give_sam_the_parameters,
    cloudformation.reserve_concurrency,
    cloudfront.find_node_in_this_environment,
    cloudfront.keep_slashes_at_the_beginning_of_keys,
    cloudfront.let_cors_write_vary,
    cloudfront.create_public_keys_and_key_groups,
    cloudfront.refuse_unsigned_requests_to_private_distributions,
    step_functions.use_the_json_protocol_of_sqs,
    step_functions.name_throttled_invocations,
    step_functions.stop_executions_within_maps,
    step_functions.run_distributed_maps_in_jsonata,
    step_functions.count_the_items_of_batches,
    iam.treat_loopback_as_tls,
    iam.let_wildcards_match_newlines,
    permissions.hide_what_is_missing_from_those_who_may_not_list,
    permissions.invoke_functions_that_allow_it,
    permissions.send_records_with_the_role_of_the_function,
    permissions.write_logs_with_the_role_of_the_function,
    permissions.publish_alarms_that_the_topic_allows,
    permissions.run_tasks_with_the_role_of_the_state_machine,
    permissions.run_maps_with_the_role_of_the_state_machine,
    gate.keep_presigned_urls_at_s3,
    gate.admit_only_signed_requests,
)
"""In the order in which they are applied: a later one of a module may wrap an earlier one."""


def log_requests(path: str) -> None:
    """Write one line for each request to `path`, in the format of web servers' access logs."""
    from hypercorn.config import Config  # type: ignore[import-not-found]  # noqa: PLC0415

    Config.accesslog = path  # on the class, because ministack makes its own instance


def end_with(stream: Any) -> None:
    """Kill this process group when `stream` ends, that is when the parent at its other end does."""

    def wait() -> None:
        stream.read()
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=wait, daemon=True, name="end-with-parent").start()


def main() -> None:
    """Patch ministack and serve until killed; its settings come from the environment."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--end-with-stdin", action="store_true", help="end when stdin is closed")
    parser.add_argument("--without", action="append", default=[], help="name of a patch to omit")
    options = parser.parse_args()
    if options.end_with_stdin:
        end_with(sys.stdin)
    for patch in PATCHES:
        if patch.__name__ not in options.without:
            patch()
    if path := os.environ.get("REQUEST_LOG"):
        log_requests(path)
    from ministack.app import main as serve  # type: ignore[import-not-found]  # noqa: PLC0415

    sys.argv = ["ministack"]
    serve()


if __name__ == "__main__":
    main()
