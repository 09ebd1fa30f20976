#!/usr/bin/env bash
# Checks the Python of the repository with ruff and mypy, as ruff.toml and mypy.ini say. Both come with
# requirements.txt into build/venv.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit
python=build/venv/bin/python
"$python" -c 'import mypy, ruff' 2> /dev/null || { echo "SKIPPED: build/venv has no ruff and mypy"; exit; }

mapfile -t files < <(git ls-files --cached --others --exclude-standard -- '*.py' 2> /dev/null ||
  find client tests -name '*.py')
failed=0
"$python" -m ruff check --config tests/ruff.toml --no-cache --quiet "${files[@]}" || failed=1
mapfile -t typed < <(printf '%s\n' "${files[@]}" | grep -vE '/(golden|engines|peers)/')
"$python" -m mypy --config-file tests/mypy.ini --cache-dir build/mypy "${typed[@]}" || failed=1
exit $failed
