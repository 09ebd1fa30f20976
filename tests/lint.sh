#!/usr/bin/env bash
# Checks what no compiler of this house reads: that every script and every JSON file of the
# repository can be parsed, and scripts as shellcheck reads them. Names those that cannot.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit

# The files of a pattern that git knows or would take; all of them where there is no git.
files() {
  git ls-files --cached --others --exclude-standard -- "$1" 2> /dev/null ||
    find . -path ./build -prune -o -name "$1" -print
}

failed=0
while read -r script; do
  [ ! -f "$script" ] || bash -n "$script" || failed=1
done < <(files '*.sh'; echo .ci/run)
if command -v shellcheck > /dev/null; then
  { files '*.sh'; echo .ci/run; } | xargs shellcheck --external-sources || failed=1
else
  echo "NOT RUN: shellcheck is not installed"
fi
files '*.py' | python3 -c '
import ast, os, sys
bad = 0
for name in filter(os.path.isfile, sys.stdin.read().split("\n")):
    try:
        ast.parse(open(name, encoding="utf-8").read(), name)
    except (SyntaxError, ValueError) as error:
        bad = print(f"{name}: {error}") or 1
sys.exit(bad)' || failed=1
files '*.json' | python3 -c '
import json, os, sys
bad = 0
for name in filter(os.path.isfile, sys.stdin.read().split("\n")):
    try:
        json.load(open(name, encoding="utf-8"))
    except ValueError as error:
        bad = print(f"{name}: {error}") or 1
sys.exit(bad)' || failed=1
exit $failed
