#!/usr/bin/env bash
# Invokes the built function with an event, on this machine and its local stack: --help says how.
set -euo pipefail

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=$repository/.venv/bin/python
[ -x "$python" ] || { echo "Tools are missing. Install them: make setup" >&2; exit 1; }
exec "$python" -m tools.invoke_local "$@"
