"""Imports at init that nearly no upload needs, deferred until something uses them.

The libraries import these modules with themselves: Pillow `subprocess` to call a program, and the
tags for metadata that the function reads itself; urllib `ipaddress` for hosts in brackets. Together
they take a seventh of the handler's import. Python 3.15 can do the same (PEP 810).
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any, Final

NAMES: Final = ("PIL.ExifTags", "PIL.TiffTags", "base64", "ipaddress", "subprocess")


def defer(name: str) -> None:
    """Let further imports of a module give a stand-in, unless the module is imported already.

    The stand-in imports the module when an attribute of it is used, and has what the module has.
    """
    if name in sys.modules:
        return
    stand_in = ModuleType(name)

    def load(attribute: str) -> Any:
        if sys.modules.get(name) is stand_in:
            del sys.modules[name]
        return getattr(import_module(name), attribute)

    vars(stand_in)["__getattr__"] = load  # PEP 562
    sys.modules[name] = stand_in
