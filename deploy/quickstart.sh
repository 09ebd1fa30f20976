#!/usr/bin/env bash
# From a bare Debian machine to a quantized model: installs what is needed, builds the two programs,
# starts a server, has it quantize the committed test model, and compares the result with its source.
# The model is first given salient channels: large models have them, one so small does not.
#
#   deploy/quickstart.sh          everything it makes is under build/; run it again at any time
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

tokens=tests/data/pocket-llama
work=build/quickstart
model=$work/pocket-llama-salient
result=$work/pocket-llama-salient-AWQ
say() { printf '\n== %s\n' "$*"; }

say "packages"
deploy/install_dependencies.sh quickstart

say "build: salient and salientd (from nothing about five minutes on two cores)"
[ build/release/build.ninja -nt CMakePresets.json ] || cmake --preset release > /dev/null
NINJA_STATUS='[%f/%t, %es] ' ninja -C build/release salient salientd

say "model"
# The first Python with NumPy: that of the tests' environment, or Debian's own, which need not be
# the first on the PATH.
python=
for candidate in build/venv/bin/python python3 /usr/bin/python3; do
  if "$candidate" -c 'import numpy' 2> /dev/null; then python=$candidate && break; fi
done
[ -n "$python" ] || { echo "quickstart: no Python with NumPy, although python3-numpy is installed" >&2; exit 1; }
rm -rf "$work"
mkdir -p "$work"
"$python" tests/support/model_variants.py salient "$model"

say "server"
: > "$work/salientd.out"  # is there before it is looked into
build/release/salientd --listen 127.0.0.1:0 --metrics-listen 127.0.0.1:0 \
  --store-directory "$work/store" > "$work/salientd.out" 2> "$work/salientd.log" &
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

run() {  # file for the JSON object, command...
  local json=$1
  shift
  say "$* --json"
  "$@" --json > "$json"
}
run "$work/quantize.json" build/release/salient quantize "$model" "$result" \
  --calibration "$tokens/calibration_open.safetensors" --server "$address"
run "$work/verify.json" build/release/salient verify "$result" --against "$model" \
  --evaluation "$tokens/evaluation_open.safetensors" --server "$address"

say "result"
"$python" - "$model" "$result" "$work/quantize.json" "$work/verify.json" << 'PYTHON'
import json, sys

source, result, *files = sys.argv[1:]
quantized, verified = (json.load(open(name)) for name in files)
mib = 1 << 20
rows = [
    ("model", source),
    ("result", result + ", 4 bit, group_size 128"),
    ("parameters", f"{quantized['parameters']:,}"),
    ("bytes before, after", f"{quantized['bytes_in']:,}, {quantized['bytes_out']:,}"),
    ("perplexity of the source", f"{verified['source']['perplexity']:.4f}"),
    ("perplexity of round-to-nearest", f"{verified['rtn']['perplexity']:.4f}"),
    ("perplexity of the result", f"{verified['result']['perplexity']:.4f}"),
    ("KL of round-to-nearest", f"{verified['rtn_kl']:.5f} nats a token"),
    ("KL of the result", f"{verified['kl']:.5f} nats a token"),
    ("seconds", f"{quantized['seconds']:.1f}"),
    ("peak memory", f"{quantized['peak_rss_bytes'] / mib:.0f} MiB"),
]
width = max(len(name) for name, _ in rows)
for name, value in rows:
    print(f"{name:<{width}}  {value}")
PYTHON
