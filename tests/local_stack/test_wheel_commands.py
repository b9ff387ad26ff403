"""Every command that takes --stack, from an installed wheel, against a deployed stack.

The wheel is outside of the checkout. It reaches the local AWS as it would reach an account: through
AWS_ENDPOINT_URL and credentials in the environment.
"""

import json
import re
import shutil
import signal
import subprocess
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest
from installed_wheel import UV, InstalledWheel, install_wheel
from pictures import jpeg
from PIL import Image

from image_pipeline.local.tools import architecture
from image_pipeline.ports import free_port
from image_pipeline.stack.deployed import Stack

pytestmark = pytest.mark.local_stack

WITH_STACK = """
from image_pipeline.cli.app import command_line
for name, command in command_line().commands.items():
    if any("--stack" in each.opts for each in command.load().params):
        print(name)
"""
"""Prints the commands that take --stack, in one process: each `--help` imports everything anew."""

type Command = Callable[..., Any]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> InstalledWheel:
    """The wheel in an environment of its own, with a picture and a text in its folder."""
    wheel = install_wheel(tmp_path_factory.mktemp("installed"))
    (wheel.home / "photo.jpg").write_bytes(jpeg((600, 400)))
    (wheel.home / "text.jpg").write_text("This is a text.")
    return wheel


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment variables of a machine that has coreutils, and uv for `uvx`."""
    folder = tmp_path_factory.mktemp("bin")
    for name in ("dirname", "realpath"):
        (folder / name).symlink_to(str(shutil.which(name)))
    return {"PATH": str(folder), "UV": str(UV), "PYTHONDONTWRITEBYTECODE": ""}


@pytest.fixture
def account(stack: Stack) -> dict[str, str]:
    """Environment variables that lead to the account of the stack."""
    return stack.aws.environment


@pytest.fixture
def command(installed: InstalledWheel, stack: Stack, account: dict[str, str]) -> Command:
    """Run a command on the stack: `command("status")` is what it prints with --json."""

    def run(name: str, *words: str, code: int | None = 0) -> Any:
        options = ("--stack", stack.name, "--json")
        return json.loads(installed.run(name, *words, *options, code=code, **account).stdout)

    return run


def test_every_command_with_stack_is_tried_here(installed: InstalledWheel) -> None:
    """A new command that takes --stack needs a test in this file."""
    names = installed.python(WITH_STACK).stdout.split()
    assert set(names) == {
        *("adopt-bucket", "backfill", "console", "cost", "dead-letters", "deploy"),
        *("discard", "prune", "record", "replay", "smoke", "status", "try", "upload", "verify"),
    }


def test_changes_of_a_bucket_are_shown(command: Command, stack: Stack) -> None:
    """`adopt-bucket --dry-run` reads the configuration of a bucket."""
    assert command("adopt-bucket", stack.input_bucket, "--dry-run")


def test_a_machine_with_uv_and_nothing_else_shows_the_demo(
    installed: InstalledWheel, bare: dict[str, str]
) -> None:
    """`demo` installs its tools, deploys to a local AWS, and shows thumbnails; then all is ended.

    There is no checkout, make, git or SAM CLI. `uvx` names uv in the variable UV.
    """
    done = installed.run("demo", "--port", free_port(), **bare)
    for line in ("Installing the local AWS", "Installing the SAM CLI", "Building the function"):
        assert f"{line} …" in done.stderr
    assert re.search(r"✓ balloon_512w .*AVIF .*WebP .*JPEG", done.stdout)
    shown = installed.home / "demo-thumbnails"
    assert (shown / "index.html").exists()
    with Image.open(shown / "rotated-photo_128w.webp") as thumbnail:
        assert thumbnail.size == (128, 85)
    cache = installed.home / ".cache" / "image-pipeline"
    names = [each.name.partition("-")[0] for each in cache.iterdir() if each.name[0] != "."]
    assert sorted(names) == ["ministack", "sam", "sources"]
    assert installed.run("status", code=None, **bare).stdout.startswith("No local stack is running")


def test_a_wheel_builds_deploys_and_tests_a_stack(
    installed: InstalledWheel, bare: dict[str, str], stack: Stack
) -> None:
    """`deploy` to the local AWS at an endpoint, with tools of its own; JSON says how it went."""
    account = {**stack.aws.environment, **bare}
    endpoint = account.pop("AWS_ENDPOINT_URL")
    given = {
        "InputBucketName": "of-wheel-input",
        "OutputBucketName": "of-wheel-output",
        "LambdaArchitecture": architecture(),
        "ThumbnailSizes": "96",
    }
    (installed.home / "parameters.json").write_text(json.dumps(given))
    words = ("--stack", "of-wheel", "--endpoint-url", endpoint, "--parameters", "parameters.json")
    done = installed.run("deploy", *words, "--json", **account)
    deployed = json.loads(done.stdout)
    assert (deployed["stack"], deployed["smoke"]["ok"]) == ("of-wheel", True)
    assert "Successfully created/updated stack - of-wheel" in done.stderr
    sizes = [each.name for each in Stack.find(stack.aws, "of-wheel").settings.sizes]
    assert sizes == ["96w"]
    stack.aws.cloudformation.delete_stack(StackName="of-wheel")


def test_status_describes_the_stack(command: Command, stack: Stack) -> None:
    """`status` finds the stack and its buckets. Its exit code says what other tests left there."""
    status = command("status", code=None)
    assert (status["stack"], status["input"]["bucket"]) == (stack.name, stack.input_bucket)


def test_an_upload_becomes_thumbnails(command: Command) -> None:
    """`upload` waits for the thumbnails of a picture."""
    (uploaded,) = command("upload", "photo.jpg")["uploads"]
    assert [each["width"] for each in uploaded["thumbnails"]] == [128, 512]


def test_a_failed_upload_is_listed_and_replayed(command: Command) -> None:
    """`dead-letters` shows it, `replay` tries it again, and `discard` would delete it."""
    command("upload", "text.jpg", code=1)
    failures = command("dead-letters")["failures"]
    assert ("uploads/text.jpg", "UnsupportedImage") in [
        (each["key"], each["error_type"]) for each in failures
    ]
    assert command("replay", code=1)["failed_again"] >= 1
    assert command("discard", "--all", "--dry-run")["matching"] >= 1


def test_a_backfill_is_planned(command: Command) -> None:
    """`backfill --dry-run` counts the objects of the input bucket."""
    command("upload", "photo.jpg")
    assert command("backfill", "--dry-run")["current"] >= 1


def test_other_settings_are_tried(command: Command, installed: InstalledWheel) -> None:
    """`try` writes its page; scores need a package that the wheel does not."""
    command("upload", "photo.jpg")
    words = ("--prefix", "uploads/photo.jpg", "--formats", "webp,avif", "--out", "trial")
    tried = command("try", *words, "--no-browser")
    assert (tried["scored"], tried["backfill"]["missing"]) == (False, 2)
    assert "photo.jpg" in (installed.home / "trial" / "contact-sheet.html").read_text()


def test_a_prune_is_planned(command: Command, stack: Stack) -> None:
    """`prune --dry-run` reads both buckets."""
    command("upload", "photo.jpg")
    pruned = command("prune", "--dry-run")
    assert pruned["bucket"] == stack.settings.output_bucket
    assert pruned["kinds"]["in_use"]["objects"] >= 2


def test_costs_are_estimated(command: Command) -> None:
    """`cost` reads its prices from the wheel and its metrics from the stack."""
    assert command("cost", "--images", "1000")["total"] > 0


def test_the_smoke_test_passes(command: Command) -> None:
    """`smoke` sends its two files through the stack."""
    assert command("smoke")["ok"]


def test_a_deployment_is_recorded(
    installed: InstalledWheel, stack: Stack, account: dict[str, str]
) -> None:
    """`record` writes the template and the parameters of the stack."""
    installed.run("record", "before", "--stack", stack.name, **account)
    folder = installed.home / "before"
    assert sorted(path.name for path in folder.iterdir()) == ["parameters.json", "template.yaml"]


def test_the_console_answers(
    installed: InstalledWheel, stack: Stack, account: dict[str, str]
) -> None:
    """`console` serves its pages, whose templates are in the wheel, until Ctrl-C."""
    with subprocess.Popen(  # noqa: S603 - the command under test
        [installed.command, "console", "--stack", stack.name, "--no-browser", "--port", "0"],
        cwd=installed.home,
        env=installed.variables | account,
        stdout=subprocess.PIPE,
        text=True,
    ) as console:
        try:
            assert console.stdout
            url, _, secret = console.stdout.readline().split()[-1].partition("#secret=")
            opening = urllib.request.Request(  # noqa: S310 - an address of this machine
                f"{url}session",
                json.dumps({"secret": secret}).encode(),
                {"Origin": url.rstrip("/")},
            )
            with urllib.request.urlopen(opening, timeout=10) as opened:  # noqa: S310 - likewise
                token = json.load(opened)["token"]
            authorized = urllib.request.Request(  # noqa: S310 - likewise
                url, headers={"Authorization": f"Bearer {token}"}
            )
            with urllib.request.urlopen(authorized, timeout=10) as page:  # noqa: S310 - likewise
                assert page.status == 200
                assert stack.name in page.read().decode()
            console.send_signal(signal.SIGINT)
            assert console.wait(10) == 0
        finally:
            console.kill()
