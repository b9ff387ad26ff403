"""The `image-pipeline` command as a person or a script uses it, processes and all."""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from unittest.mock import patch

import boto3
import pytest
import requests
from home import COMMAND, Home, press_ctrl_c
from pictures import jpeg
from PIL import Image
from serving import processes_of, until

from image_pipeline.build import tools
from image_pipeline.build.sources import Sources
from image_pipeline.cli.app import COMMANDS
from image_pipeline.console.process import ConsoleProcess
from image_pipeline.errors import CommandError
from image_pipeline.local import samples
from image_pipeline.local.stack import LocalStack, Server
from image_pipeline.ports import HOST, free_port
from image_pipeline.stack import distribution
from image_pipeline.stack.aws import list_objects
from image_pipeline.stack.deployed import ALIAS

pytestmark = pytest.mark.local_stack

UP_WITHOUT_FUNCTION = """
from image_pipeline.cli import main
from image_pipeline.cli.commands import up
from image_pipeline.local import stack as local_stack
local_stack.LocalStack.build = lambda self: None
local_stack.LocalStack.deploy = lambda self, server: None
local_stack.LocalStack.stack = lambda self: None
up.ConsoleProcess.start = lambda self, port: None
up.show_samples = lambda stack, directory: "http://site/"
up.show = lambda *_, **__: print("up", flush=True)
main()
"""
"""`up` less what takes long: enough to be stopped in every way."""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """Where no local stack is running."""
    return Home(tmp_path / "home", free_port())


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """Where `up --detach` has deployed the stack; `down` leaves nothing of it."""
    home = Home(tmp_path_factory.mktemp("deployed") / "home", free_port())
    try:
        done = subprocess.run(  # noqa: S603 - the command under test
            [COMMAND, "up", "--detach", "--port", str(home.port)],
            env=home.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert f"on http://127.0.0.1:{home.port}" in done.stdout
        assert "s3://image-pipeline-input/uploads/" in done.stdout
        home.printed_by_up = done.stdout
        wait_for_samples(home)
        with home.console() as console:
            yield home
            assert home.run("down").stdout == "Stopped the local stack.\n"
            assert ConsoleProcess(home.directory).url is None
            assert console.wait(10) == 0, "it ends with the stack that it shows"
            assert console.stderr
            assert "has ended" in console.stderr.read()
    finally:
        home.run("down")
        assert processes_of(home.directory) == []
        assert not (home.directory / "state.json").exists()
        assert not (home.directory / "tmp").exists()


def wait_for_samples(home: Home) -> None:
    """Wait for what is made of the samples: of each of three, six thumbnails and a manifest."""
    until(lambda: home.status()["output"]["objects"] == 3 * (2 * 3 + 1), 60)


def error_of(done: subprocess.CompletedProcess[str]) -> str:
    """The one paragraph that the command prints after a user's mistake."""
    assert done.returncode == 1
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("Error: ")
    return done.stderr


# --- without a stack ----------------------------------------------------------------------------
@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(name: str, home: Home) -> None:
    """`--help` shows how a command is called."""
    done = home.run(name, "--help")
    assert done.returncode == 0
    assert re.search(rf"Examples?\s+image-pipeline {name}", done.stdout)


def test_without_a_stack_the_commands_say_how_to_get_one(home: Home) -> None:
    """`upload` cannot go on, `status` and `down` say that there is nothing."""
    assert "image-pipeline up" in error_of(home.run("upload", __file__))
    assert "image-pipeline up" in error_of(home.run("console"))
    assert "image-pipeline up" in error_of(home.run("status", "--env"))
    assert home.run("status").stdout.startswith("No local stack is running.")
    assert home.json("status") == {"running": False}
    for _ in range(2):
        done = home.run("down")
        assert (done.returncode, done.stdout) == (0, "No local stack is running.\n")


def test_a_taken_port_is_named(home: Home) -> None:
    """`up` says which port is taken and how to choose another, and starts nothing."""
    with socket.socket() as other:
        other.bind((HOST, home.port))
        other.listen()
        message = error_of(home.run("up", "--port", home.port))
    assert f"Port {home.port}" in message
    assert "--port" in message
    assert processes_of(home.directory) == []


def test_tools_that_cannot_be_installed_are_named(
    monkeypatch: pytest.MonkeyPatch, home: Home
) -> None:
    """A tool that is missing is installed first. Where that fails, nothing is started."""

    def install(name: str, _report: object) -> Path:
        raise CommandError(f"{name} could not be installed.")

    monkeypatch.setattr(tools, "install", install)
    with pytest.raises(CommandError, match="ministack could not be installed"):
        LocalStack(home.directory).start(home.port, detach=False, report=lambda _: None)
    assert processes_of(home.directory) == []
    assert not (home.directory / "state.json").exists()


def test_a_failed_build_shows_the_end_of_its_log(home: Home, tmp_path: Path) -> None:
    """The message has the end of the log and its path, and nothing is left running."""
    (tmp_path / "sources" / "iac").mkdir(parents=True)
    stack = LocalStack(home.directory, sources=Sources.below(tmp_path / "sources"))
    with pytest.raises(CommandError) as raised:
        stack.start(home.port, detach=True, report=lambda _: None)
    assert "The function could not be built." in str(raised.value)
    assert "requirements.txt does not exist" in str(raised.value)
    assert str(home.directory / "build.log") in str(raised.value)
    assert processes_of(home.directory) == []
    assert stack.server() is None


def test_a_recycled_process_id_is_not_killed(home: Home) -> None:
    """A state file whose stack is gone means nothing, whoever has its process id now."""
    home.directory.mkdir()
    with subprocess.Popen(["/bin/sleep", "60"], start_new_session=True) as bystander:
        server = Server(bystander.pid, home.port, "key", "secret", ready=True)
        (home.directory / "state.json").write_text(json.dumps(asdict(server)))
        assert home.json("status") == {"running": False}
        assert home.run("down").stdout == "No local stack is running.\n"
        assert bystander.poll() is None
        bystander.kill()


# --- stopping -----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_stops_everything(home: Home, number: int, code: int) -> None:
    """Ctrl-C, SIGTERM and a closed terminal leave no process, no state and no files behind."""
    with home.up(sys.executable, "-c", UP_WITHOUT_FUNCTION) as process:
        assert process.stdout
        assert process.stdout.readline() == "up\n"
        process.send_signal(number)
        assert process.wait(10) == code
    assert processes_of(home.directory) == []
    assert not (home.directory / "state.json").exists()
    assert not (home.directory / "tmp").exists()


def test_nothing_outlives_a_killed_command(home: Home) -> None:
    """SIGKILL cannot be handled, so ministack itself ends with the command that it belongs to."""
    with home.up(sys.executable, "-c", UP_WITHOUT_FUNCTION) as process:
        assert process.stdout
        assert process.stdout.readline() == "up\n"
        process.kill()
    until(lambda: not processes_of(home.directory), 5)
    assert home.json("status") == {"running": False}


def test_ctrl_c_while_building_stops_everything(home: Home) -> None:
    """What the build runs is stopped too."""
    with home.up() as process:
        until((home.directory / "build.log").exists)
        until(lambda: len(processes_of(home.directory)) > 2)
        assert press_ctrl_c(process) == 130
    until(lambda: not processes_of(home.directory), 5)


@pytest.mark.parametrize("log", ["build.log", "sam-deploy.log"])
def test_up_can_be_killed_at_any_moment(home: Home, log: str) -> None:
    """While it builds or deploys: every process ends, and the next `up` can start."""
    with home.up() as process:
        until((home.directory / log).exists)
        until(lambda: len(processes_of(home.directory)) > 3)
        process.kill()
    until(lambda: not processes_of(home.directory), 5)
    assert home.json("status") == {"running": False}
    with home.up(sys.executable, "-c", UP_WITHOUT_FUNCTION) as process:
        assert process.stdout
        assert process.stdout.readline() == "up\n"


def test_down_stops_a_foreground_stack(home: Home) -> None:
    """`down` in another terminal ends the `up` of the first, which exits with 0."""
    with home.up(sys.executable, "-c", UP_WITHOUT_FUNCTION) as process:
        assert process.stdout
        assert process.stdout.readline() == "up\n"
        assert home.run("down").stdout == "Stopped the local stack.\n"
        assert process.wait(10) == 0
    assert processes_of(home.directory) == []


def test_a_local_aws_that_dies_is_reported(home: Home) -> None:
    """If ministack dies, the foreground command says so and where the log is."""
    with home.up(sys.executable, "-c", UP_WITHOUT_FUNCTION) as process:
        assert process.stdout
        assert process.stderr
        assert process.stdout.readline() == "up\n"
        os.kill(json.loads((home.directory / "state.json").read_text())["pid"], signal.SIGKILL)
        assert process.wait(10) == 1
        assert "ended unexpectedly" in process.stderr.read()


def page_of(address: str) -> str:
    """The first page of the console that an address opens, read as its script reads it."""
    url, _, secret = address.partition("/#secret=")
    headers = {"Origin": url}
    opened = requests.post(f"{url}/session", json={"secret": secret}, headers=headers, timeout=5)
    token = {"Authorization": f"Bearer {opened.json()['token']}"}
    page = requests.get(f"{url}/", headers=token, timeout=5)
    assert page.status_code == 200
    return page.text


# --- with a stack -------------------------------------------------------------------------------
def test_up_serves_the_console(deployed: Home) -> None:
    """`up` and `status` print its address, and it shows the stack that is up."""
    url = deployed.status()["console"]
    console, _, _ = url.partition("#")
    assert f"console     {console}#secret=" in deployed.printed_by_up
    assert f"console: {console}#secret=" in deployed.run("status").stdout
    assert url != deployed.status()["console"], "each address is a new one"
    assert "image-pipeline-input" in page_of(url)
    mode = (deployed.directory / "console.json").stat().st_mode
    assert mode & 0o077 == 0, "no other user can read its secret"


def test_up_names_a_page_that_shows_the_samples(deployed: Home) -> None:
    """Anybody on this machine may open it, and the console links to it. Its pictures are there."""
    (address,) = re.findall(
        r"samples +(http://\w+\.cloudfront\.localhost:\d+/)", deployed.printed_by_up
    )
    page = distribution.send("GET", address)
    assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    manifests = re.findall(r'data-manifest="([^"]+)"', page.body.decode())
    assert [url.rpartition("/")[2] for url in manifests] == [
        "rotated-photo.json",
        "balloon.json",
        "moonrise.json",
    ]
    for url in manifests:
        until(lambda url=url: distribution.send("GET", url).status == 200)
    assert f'href="{address}"' in page_of(deployed.status()["console"])


def test_a_console_on_a_chosen_port(deployed: Home) -> None:
    """A port that is taken is named in the error; 0 takes any that is free."""
    own = deployed.status()["console"]
    own, _, _ = own.partition("#")
    assert own in deployed.run("console").stdout, "without --port it is the one that runs"
    taken = re.findall(r":(\d+)/", own)[0]
    message = error_of(deployed.run("console", "--no-browser", "--port", taken))
    assert f"Port {taken}" in message
    assert "--port" in message
    with deployed.console() as console:
        assert console.stdout
        url = console.stdout.readline().split()[-1]
        assert "image-pipeline-input" in page_of(url)
        assert press_ctrl_c(console) == 0
        assert console.stderr
        assert console.stderr.read().endswith("Stopped.\n")


def test_a_second_up_is_refused(deployed: Home) -> None:
    """It names the stack that is up, and leaves it up."""
    message = error_of(deployed.run("up", "--detach", "--port", free_port()))
    assert f"already running on http://127.0.0.1:{deployed.port}" in message
    assert deployed.status()["running"]


def test_upload_prints_the_outcome_of_each_file(deployed: Home, tmp_path: Path) -> None:
    """A folder's pictures get thumbnails, its text fails, and the exit code is 1."""
    folder = tmp_path / "trip"
    (folder / "day 1").mkdir(parents=True)
    picture = jpeg((1000, 500))
    (folder / "day 1" / "p+1.jpg").write_bytes(picture)
    (folder / "text.jpg").write_text("text")
    (folder / ".hidden.jpg").write_text("left out")
    out = tmp_path / "out"
    bad, good = deployed.json("upload", folder, "--out", out, code=1)["uploads"]
    assert (good["key"], good["state"], good["pixels"], good["bytes"]) == (
        "uploads/trip/day 1/p+1.jpg",
        "done",
        [1000, 500],
        len(picture),
    )
    assert [(each["width"], each["format"]) for each in good["thumbnails"]] == [
        (width, name) for width in (128, 512) for name in ("webp", "avif", "jpeg")
    ]
    for thumbnail in good["thumbnails"]:
        path = out / "trip" / "day 1" / f"p+1_{thumbnail['width']}w.{thumbnail['format']}"
        assert path == Path(thumbnail["path"])
        assert path.stat().st_size == thumbnail["bytes"]
    assert (bad["key"], bad["state"], bad["thumbnails"]) == ("uploads/trip/text.jpg", "failed", [])
    assert bad["error"]["type"] == "UnsupportedImage"
    assert bad["error"]["permanent"]


def test_upload_shows_a_table(deployed: Home, tmp_path: Path) -> None:
    """A person sees the original, each thumbnail and what it saves."""
    picture = tmp_path / "table.jpg"
    picture.write_bytes(jpeg((3000, 2000)))
    done = deployed.run("upload", picture)
    assert done.returncode == 0
    assert "3000 x 2000" in done.stdout
    assert re.search(r"✓ table_128w\.webp +│ +128 wide │ +[\d,]+ │ +9\d%", done.stdout)


def test_the_same_bad_file_uploaded_again_is_a_new_failure(deployed: Home, tmp_path: Path) -> None:
    """The message of an earlier upload of the same bytes is not taken for the new one's."""
    bad = tmp_path / "again.jpg"
    bad.write_text("text")
    first = deployed.json("upload", bad, code=1)["uploads"][0]
    assert first["state"] == "failed"
    time.sleep(1)  # S3 has the time of an upload in whole seconds
    deployed.json("upload", bad, code=1)
    failures = [each for each in deployed.status()["failures"] if "again" in each["key"]]
    assert len(failures) == 2


def test_of_two_originals_with_the_same_thumbnails_one_is_superseded(
    deployed: Home, tmp_path: Path
) -> None:
    """`a.jpg` and `a.png` share names: the newer has them, and the other is superseded."""
    for name, kind in (("same.png", "PNG"), ("same.jpg", "JPEG")):
        Image.new("RGB", (600, 300), "red").save(tmp_path / name, kind)
    assert deployed.json("upload", tmp_path / "same.png")["uploads"][0]["state"] == "done"
    both = deployed.json("upload", tmp_path / "same.jpg", tmp_path / "same.png")["uploads"]
    states = {each["key"]: each["state"] for each in both}
    assert "done" in states.values()
    assert set(states.values()) <= {"done", "superseded"}


@pytest.mark.parametrize("path", ["missing.jpg", "empty"])
def test_a_wrong_path_is_named(deployed: Home, tmp_path: Path, path: str) -> None:
    """Nothing is uploaded if a path is not there or has no files."""
    (tmp_path / "empty").mkdir()
    assert path in error_of(deployed.run("upload", tmp_path / path))


def test_a_folder_that_cannot_be_written_is_named(deployed: Home, tmp_path: Path) -> None:
    """`--out` with the name of a file is the user's mistake, not a crash."""
    picture = tmp_path / "picture.jpg"
    picture.write_bytes(jpeg((50, 50)))
    assert str(picture) in error_of(deployed.run("upload", picture, "--out", picture))


def test_status_shows_buckets_queue_and_failures(deployed: Home, tmp_path: Path) -> None:
    """Counts and the newest failure first, for scripts and for people."""
    bad = tmp_path / "status.jpg"
    bad.write_text("text")
    before = deployed.status()
    deployed.json("upload", bad, code=1)
    after = deployed.status()
    assert after["endpoint_url"] == f"http://127.0.0.1:{deployed.port}"
    assert after["input"]["objects"] == before["input"]["objects"] + 1
    assert after["output"] == before["output"]
    assert after["dead_letters"] == before["dead_letters"] + 1
    newest = after["failures"][0]
    assert (newest["key"], newest["error_type"]) == ("uploads/status.jpg", "UnsupportedImage")
    shown = deployed.run("status").stdout
    assert "s3://image-pipeline-output/" in shown
    assert "uploads/status.jpg" in shown


def test_other_tools_get_the_key_of_the_stack(deployed: Home) -> None:
    """A shell that evaluates `status --env` may use the local AWS, and the key is in no other file.

    Only the user can read the state file and the logs.
    """
    printed = deployed.run("status", "--env").stdout
    variables = deployed.json("status", "--env")
    assert variables["AWS_ENDPOINT_URL"] == f"http://127.0.0.1:{deployed.port}"
    assert printed == "".join(f"export {name}={value}\n" for name, value in variables.items())
    program = "import boto3; print(boto3.client('s3').list_buckets()['Buckets'][0]['Name'])"
    script = f'eval "$1"; exec "$2" -c "{program}"'
    ran = subprocess.run(  # noqa: S603 - a shell of the system
        ["/bin/sh", "-c", script, "sh", printed, sys.executable],
        env={"PATH": os.defpath, "HOME": str(deployed.directory)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.startswith("aws-sam-cli"), "the bucket of `sam deploy`"
    assert (deployed.directory / "state.json").stat().st_mode & 0o777 == 0o600
    assert deployed.directory.stat().st_mode & 0o777 == 0o700
    secret = variables["AWS_SECRET_ACCESS_KEY"].encode()
    files = [path for path in deployed.directory.rglob("*") if path.is_file()]
    assert [path.name for path in files if secret in path.read_bytes()] == ["state.json"]
    assert "--stack" in error_of(deployed.run("status", "--env", "--stack", "any"))


def test_the_printed_aws_line_can_be_pasted(deployed: Home) -> None:
    """It has the key of the stack, with which a client may upload."""
    (line,) = re.findall(r"^  (AWS_.* aws s3 cp .*)$", deployed.printed_by_up, re.MULTILINE)
    words = shlex.split(line)
    given = dict(word.split("=", 1) for word in words[: words.index("aws")])
    assert given.items() <= deployed.json("status", "--env").items()
    *_, option, endpoint, file, target = words
    assert (option, file, target) == (
        "--endpoint-url",
        "photo.jpg",
        "s3://image-pipeline-input/uploads/",
    )
    s3 = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name=given["AWS_DEFAULT_REGION"],
        aws_access_key_id=given["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=given["AWS_SECRET_ACCESS_KEY"],
    )
    s3.put_object(Bucket="image-pipeline-input", Key="pasted/photo.jpg", Body=jpeg())


def test_the_gate_stands_before_a_deployed_stack(deployed: Home) -> None:
    """Without the key nothing is read or reset, and the function goes on working."""
    url = f"http://127.0.0.1:{deployed.port}"
    for path, body in (("/image-pipeline-input", None), ("/_ministack/reset", b"")):
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(url + path, body, timeout=5)  # noqa: S310 - of loopback
    assert deployed.status()["running"]


def test_a_stack_in_an_account_is_used_in_the_same_way(deployed: Home, tmp_path: Path) -> None:
    """`--stack` finds a stack by boto3's own configuration, here led to the local AWS."""
    account = deployed.json("status", "--env")
    name = ("--stack", "image-pipeline", "--region", "us-east-1")
    picture = tmp_path / "account.jpg"
    picture.write_bytes(jpeg())
    assert deployed.json("upload", picture, *name, **account)["uploads"][0]["state"] == "done"
    found = json.loads(deployed.run("status", "--json", *name, **account).stdout)
    assert found["stack"] == "image-pipeline"
    missing = deployed.run("status", "--stack", "no-such-stack", **account)
    assert "no stack 'no-such-stack'" in error_of(missing)
    assert "exclude each other" in error_of(deployed.run("status", "--local", *name))


def test_the_demo_uses_a_stack_that_is_up(deployed: Home, tmp_path: Path) -> None:
    """Three samples get upright thumbnails, the text fails, and the stack stays up.

    At one URL each browser gets the format that it shows. The output fits into 80 columns.
    """
    out = tmp_path / "out"
    done = subprocess.run(  # noqa: S603 - the command under test
        [COMMAND, "demo", "--out", str(out)],
        env=deployed.environment | {"COLUMNS": "80"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    browsers = re.findall(r"✓ (\S+) .*AVIF [\d,]+ .*WebP [\d,]+ .*JPEG [\d,]+", done.stdout)
    assert browsers == [
        f"{name}_{width}w"
        for name in ("rotated-photo", "balloon", "moonrise")
        for width in (128, 512)
    ]
    lines = done.stdout.splitlines()
    assert all(len(line) <= 80 for line in lines if "│" in line)
    assert len(lines) < 45
    assert f"A page:     {out / 'index.html'}" in done.stdout
    assert f"Thumbnails: {out}" in done.stdout
    assert samples.CORRUPT in done.stdout
    assert "dead-letter queue" in done.stdout
    assert len(list(out.glob("*_*w.*"))) == 18
    with Image.open(out / "rotated-photo_512w.webp") as photo:
        assert photo.size == (512, 341)
        red, _, blue = photo.convert("RGB").getpixel((256, 2))
        assert blue > red, "the sky is on top"
    with Image.open(out / "balloon_512w.webp") as balloon:
        assert (
            balloon.convert("RGBA").getpixel((2, 2))[3] == 0
        ), "it is transparent around the balloon"
    assert deployed.status()["running"]


def test_the_demo_takes_the_user_s_own_pictures(deployed: Home, tmp_path: Path) -> None:
    """A path of the user's is uploaded instead of the samples."""
    picture = tmp_path / "mine.jpg"
    picture.write_bytes(jpeg())
    done = deployed.run("demo", picture, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "mine_128w.webp").exists()
    assert samples.CORRUPT not in done.stdout


@contextmanager
def without_output_bucket(deployed: Home) -> Iterator[None]:
    """The output bucket is deleted during the block, with everything in it."""
    stack = LocalStack(deployed.directory).stack()
    s3, bucket = stack.aws.s3, stack.settings.output_bucket
    for each in list(list_objects(s3, bucket)):
        s3.delete_object(Bucket=bucket, Key=each["Key"])
    policy = s3.get_bucket_policy(Bucket=bucket)["Policy"]
    s3.delete_bucket(Bucket=bucket)
    try:
        yield
    finally:
        s3.create_bucket(Bucket=bucket)
        s3.put_bucket_policy(Bucket=bucket, Policy=policy)


@contextmanager
def without_alias(deployed: Home) -> Iterator[None]:
    """The alias by which everything invokes the function is deleted during the block."""
    stack = LocalStack(deployed.directory).stack()
    functions, named = stack.aws.functions, {"FunctionName": stack.function_name, "Name": ALIAS}
    version = functions.get_alias(**named)["FunctionVersion"]
    functions.delete_alias(**named)
    try:
        yield
    finally:
        functions.create_alias(**named, FunctionVersion=version)


def test_every_command_tells_of_a_broken_stack(deployed: Home) -> None:
    """Without output bucket and alias, `status` shows every part, and the others what they need.

    None shows a traceback. Each that cannot do its work names `status`, or says what to do.
    """
    with without_output_bucket(deployed), without_alias(deployed):
        found = deployed.json("status", code=2)
        levels = {name: part["level"] for name, part in found["parts"].items()}
        bad = {name for name, level in levels.items() if level == "broken"}
        assert bad == {"output_bucket", "function"}
        assert (found["health"], found["version"]) == ("broken", None)
        assert found["output"] == {"bucket": "image-pipeline-output", "objects": None}
        assert found["input"]["objects"] > 0
        shown = deployed.run("status").stdout
        assert "✗ output bucket: the bucket does not exist" in shown
        assert "✗ function: its alias live does not exist" in shown
        assert "image-pipeline down; image-pipeline up" in shown
        for words in (("backfill", "--dry-run"), ("backfill", "--yes"), ("prune", "--dry-run")):
            assert "image-pipeline status" in error_of(deployed.run(*words)), words
        assert deployed.run("dead-letters").returncode == 0
        assert deployed.run("cost").returncode == 0
        smoke = deployed.run("smoke", "--wait", "1")
        assert (smoke.returncode, "Traceback" in smoke.stderr) == (1, False)
    assert deployed.status()["health"] != "broken"


def test_status_tells_of_a_killed_console(deployed: Home) -> None:
    """It says how to open another one, and everything else as before."""
    with patch.object(ConsoleProcess, "url", None):
        done = deployed.run("status")
    assert "console: not running; open one: image-pipeline console" in done.stdout
    assert "s3://image-pipeline-output/" in done.stdout


def test_nothing_listens_beyond_loopback(deployed: Home) -> None:
    """The local AWS listens on 127.0.0.1 and on no other address of this machine."""
    listening = [
        line.split()[1]
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
        if line.split()[3] == "0A"
    ]
    assert f"0100007F:{deployed.port:04X}" in listening
    assert f"00000000:{deployed.port:04X}" not in listening
