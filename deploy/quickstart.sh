#!/usr/bin/env bash
# From a bare Debian machine to a table of quantized groups: installs what is needed, builds the two
# programs, starts a server, runs the committed test model in NumPy to get the activations that
# enter each group of Linears, and has the server quantize all of them.
#
#   deploy/quickstart.sh          everything it makes is under build/; run it again at any time
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

model=tests/data/pocket-llama
rows=32                      # calibration rows of 256 tokens
work=build/quickstart
say() { printf '\n== %s\n' "$*"; }

say "packages"
deploy/install_dependencies.sh quickstart

say "build: salient and salientd"
[ -f build/release/build.ninja ] || cmake --preset release > /dev/null
ninja -C build/release --quiet salient salientd

say "activations of $model on $rows rows of calibration text"
# The first Python with NumPy: that of the tests' environment, or Debian's own, which need not be
# the first on the PATH.
python=
for candidate in build/venv/bin/python python3 /usr/bin/python3; do
  if "$candidate" -c 'import numpy' 2> /dev/null; then python=$candidate && break; fi
done
[ -n "$python" ] || { echo "quickstart: no Python with NumPy, although python3-numpy is installed" >&2; exit 1; }
rm -rf "$work"
mkdir -p "$work"
"$python" tests/interop/llama.py --model "$model" \
  --calibration "$model/calibration_open.safetensors" --rows "$rows" --capture "$work/activations.safetensors"

say "server"
build/release/salientd --listen 127.0.0.1:0 --metrics-listen 127.0.0.1:0 > "$work/salientd.out" 2> "$work/salientd.log" &
server=$!
trap 'kill "$server" 2> /dev/null || true; wait "$server" 2> /dev/null || true' EXIT
address=
for _ in $(seq 300); do
  address=$(sed -n 's/.*\bgrpc[=:] *\([^ ]*:[0-9]*\).*/\1/p' "$work/salientd.out" | head -n 1)
  [ -z "$address" ] || break
  kill -0 "$server" 2> /dev/null || break
  sleep 0.1
done
if [ -z "$address" ]; then
  echo "quickstart: salientd did not start:" >&2
  cat "$work/salientd.out" "$work/salientd.log" >&2
  exit 1
fi
build/release/salient health --server "$address"

tensors=(build/release/salient tensors "$model/model.safetensors" "$work/activations.safetensors"
         --groups "$work/groups.json" --server "$address" -o "$work/packed.safetensors")
say "${tensors[*]}"
"${tensors[@]}"
