#!/usr/bin/env bash
# Invokes the built function with an event on this machine, with the local stack. See --help.
set -euo pipefail

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=$repository/.venv/bin/python
[ -x "$python" ] || { echo "The tools are not installed. Run: make setup" >&2; exit 1; }
exec "$python" -m tools.invoke_local "$@"
