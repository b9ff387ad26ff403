"""The command on macOS and Windows: what it imports there, as far as Linux can tell."""

import subprocess
import sys

from image_pipeline.cli.app import COMMANDS, python_name

MODULES = ("fcntl", "grp", "pty", "pwd", "resource", "syslog", "termios", "tty")
"""Modules that Windows does not have: https://docs.python.org/3/library/unix.html and
https://docs.python.org/3/library/pty.html."""

NAMES = {
    "os": (
        *("fork", "forkpty", "geteuid", "getpgid", "getpgrp", "getuid", "killpg", "mkfifo"),
        *("nice", "posix_spawn", "sched_getaffinity", "setpgid", "setsid", "sysconf", "uname"),
    ),
    "signal": (
        *("ITIMER_REAL", "SIGALRM", "SIGCHLD", "SIGHUP", "SIGKILL", "SIGUSR1", "SIGUSR2"),
        *("alarm", "pthread_sigmask", "setitimer", "sigwait"),
    ),
    "time": ("pthread_getcpuclockid",),
}
"""Names that these modules do not have on Windows."""

IMPORT = f"""
import builtins, importlib, os, signal, sys, time

OWN = ("image_pipeline", "thumbnailer")
import_module = builtins.__import__

class Missing:
    def __init__(self, module, names):
        self.__dict__.update(vars(module))
        for name in names:
            self.__dict__.pop(name)

windows = {{name: Missing(sys.modules[name], names) for name, names in {NAMES!r}.items()}}

def import_as_on_windows(name, globals=None, locals=None, fromlist=(), level=0):
    importer = (globals or dict()).get("__name__", "").partition(".")[0]
    if importer in OWN and level == 0:
        if name in {MODULES!r}:
            raise ImportError(f"{{globals['__name__']}} imports {{name}}")
        if name in windows:
            return windows[name]
    return import_module(name, globals, locals, fromlist, level)

builtins.__import__ = import_as_on_windows
for name in sys.argv[1:]:
    importlib.import_module(f"image_pipeline.cli.commands.{{name}}")
print(len([name for name in sys.modules if name.startswith(OWN)]))
"""
"""Imports commands, whose modules find of Python what is there on Windows."""


def test_no_command_needs_unix_to_be_imported() -> None:
    """So that `thumbs`, `deploy` and every command with --stack start on Windows.

    Those that need Linux can then say so.
    """
    done = subprocess.run(  # noqa: S603 - this Python
        [sys.executable, "-c", IMPORT, *map(python_name, COMMANDS)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 100
