#!/usr/bin/env bash
# Makes build/venv from tests/requirements.txt, unless it is already that, and prints the path of
# its interpreter. All other output goes to standard error.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
venv=$PWD/build/venv
stamp=$venv/requirements.sha256

fingerprint() {
  { "$1" -c 'import sys; print(sys.version)' && cat tests/requirements.txt; } | sha256sum
}

if [ -x "$venv/bin/python" ] && [ "$(fingerprint "$venv/bin/python")" = "$(cat "$stamp" 2> /dev/null)" ]; then
  echo "$venv/bin/python"
  exit 0
fi
{
  [ -x "$venv/bin/python" ] || python3 -m venv "$venv"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r tests/requirements.txt
  fingerprint "$venv/bin/python" > "$stamp"
} >&2
echo "$venv/bin/python"
