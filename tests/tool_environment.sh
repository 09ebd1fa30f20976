#!/usr/bin/env bash
# tool_environment.sh DIR/NAME.txt: makes build/venv-NAME from that file (and DIR/NAME.overrides.txt:
# versions that win over what packages ask for), unless it is already that, and prints the path of its
# interpreter. All other output goes to standard error. For the tools of others, which do not agree
# on versions; each takes about 6 GB of disk, shared between them as far as they agree.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
requirements=$1
name=$(basename "$requirements" .txt)
overrides=${requirements%.txt}.overrides.txt
venv=$PWD/build/venv-$name
stamp=$venv/requirements.sha256
[ -f "$requirements" ] || { echo "tool_environment.sh: no $requirements" >&2; exit 2; }

fingerprint() {
  {
    "$1" -c 'import sys; print(sys.version)'
    cat "$requirements"
    [ ! -f "$overrides" ] || cat "$overrides"
  } 2> /dev/null | sha256sum
}

if [ -x "$venv/bin/python" ] && [ "$(fingerprint "$venv/bin/python")" = "$(cat "$stamp" 2> /dev/null)" ]; then
  echo "$venv/bin/python"
  exit 0
fi
{
  [ -x "$venv/bin/python" ] || python3 -m venv "$venv"
  # uv alone installs against what a package's metadata says, and links files instead of copying.
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check uv==0.13.9
  with=()
  [ ! -f "$overrides" ] || with=(--override "$overrides")
  UV_HTTP_TIMEOUT=180 "$venv/bin/uv" pip install --quiet --python "$venv/bin/python" \
    "${with[@]}" -r "$requirements"
  fingerprint "$venv/bin/python" > "$stamp"
} >&2
echo "$venv/bin/python"
