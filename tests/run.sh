#!/usr/bin/env bash
# Builds Salient and runs its tests, from a bare machine if need be (Debian; root or sudo).
#
#   tests/run.sh [--sanitize] [--interop] [--filter REGEX]
#
#   --sanitize      first the unit tests under AddressSanitizer and UndefinedBehaviorSanitizer, and
#                   those of core and the worker pool under ThreadSanitizer
#   --interop       at the end the real vLLM and transformers, on this CPU, load what Salient wrote
#                   (downloads 6 GB into build/venv-* the first time; takes ten minutes)
#   --filter REGEX  only tests whose name matches; installs and builds all the same
#
# Ends with ctest's summary; the exit code is 0 only if every test passed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

sanitize=0
interop=0
filter=()
while [ $# -gt 0 ]; do
  case $1 in
    --sanitize) sanitize=1 ;;
    --interop) interop=1 ;;
    --filter)
      [ $# -ge 2 ] || { echo "run.sh: --filter needs a regular expression" >&2; exit 2; }
      filter=(-R "$2")
      shift
      ;;
    *) sed -n '2,13s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
  esac
  shift
done

started=$SECONDS
say() { printf '== %4d s  %s\n' $((SECONDS - started)) "$*"; }

say "dependencies"
deploy/install_dependencies.sh test
python=$(tests/python_environment.sh)
export SALIENT_TEST_PYTHON=$python

# A compiler takes up to 1.5 GiB under a sanitizer: no more of them than memory carries.
memory_gib=$(awk '/MemAvailable/ {print int($2 / 1048576)}' /proc/meminfo)
jobs=$(nproc)
[ $((jobs * 2)) -le "$memory_gib" ] || jobs=$((memory_gib / 2 > 0 ? memory_gib / 2 : 1))

# grpcurl is not packaged; without it, or without Go to build it, its tests say SKIPPED.
tools=${XDG_CACHE_HOME:-$HOME/.cache}/salient-tests/bin
export PATH=$tools:$PATH
if ! command -v grpcurl > /dev/null && command -v go > /dev/null; then
  say "grpcurl"
  mkdir -p "$tools"
  GOBIN=$tools GOFLAGS=-buildvcs=false timeout 300 \
    go install github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.4 > "$tools/grpcurl.log" 2>&1 ||
    say "grpcurl could not be built ($tools/grpcurl.log); its tests will say SKIPPED"
fi

run_ctest() {  # directory of tests, ctest arguments...
  local directory=$1
  shift
  "${wrapper[@]}" ctest --test-dir "build/$directory" --output-on-failure --parallel "$jobs" \
    --timeout 600 --no-label-summary "${filter[@]}" "$@"  # the last -R counts
}
wrapper=()

if [ $sanitize -eq 1 ]; then
  # Programs are not needed here, only the directories that have unit tests.
  say "build asan"
  cmake --preset asan > /dev/null
  timeout 1800 ninja -C build/asan -j "$jobs" --quiet \
    tests/{core,proto,server,client}/all
  say "unit tests under AddressSanitizer and UndefinedBehaviorSanitizer"
  UBSAN_OPTIONS=print_stacktrace=1 run_ctest asan -L unit

  # gRPC is not instrumented: what drives it would drown in false reports.
  say "build tsan"
  cmake --preset tsan > /dev/null
  timeout 1800 ninja -C build/tsan -j "$jobs" --quiet tests/{core,server/workers,server/calls,server/jobs}/all
  say "unit tests of core and of the server without gRPC under ThreadSanitizer"
  # GCC 12's ThreadSanitizer does not know the memory layout that newer kernels randomize into.
  if setarch -R true 2> /dev/null; then wrapper=(setarch -R); fi
  export TSAN_OPTIONS=ignore_noninstrumented_modules=1:second_deadlock_stack=1
  # Threads meet in the same places whatever the instruction set.
  run_ctest tsan/tests/core -E '\.avx'
  for room in workers calls jobs; do run_ctest "tsan/tests/server/$room"; done
  wrapper=()
fi

say "build release"
cmake --preset release > /dev/null
ninja -C build/release -j "$jobs" --quiet
say "unit, integration and interop tests"
# With --interop a filter may leave one of the two runs without a test.
no_tests=error
[ $interop -eq 0 ] || [ ${#filter[@]} -eq 0 ] || no_tests=ignore
run_ctest release --no-tests=$no_tests -LE engines

if [ $interop -eq 1 ]; then
  say "engines"
  SALIENT_VLLM_PYTHON=$(tests/tool_environment.sh tests/interop/engines/vllm.txt)
  SALIENT_TRANSFORMERS_PYTHON=$(tests/tool_environment.sh tests/interop/engines/transformers.txt)
  export SALIENT_VLLM_PYTHON SALIENT_TRANSFORMERS_PYTHON
  say "vLLM, transformers and the libraries of the formats read what Salient wrote"
  echo "NOT RUN: SGLang, TGI and LMDeploy, which need a GPU; in vLLM, whose kernels for them need one:"
  echo "         GPTQ of 3 and 8 bits and v2, compressed-tensors of 8 bits without activations; in"
  echo "         transformers, which refuses them of any tool: asymmetric compressed-tensors"
  run_ctest release --no-tests=$no_tests -L engines --verbose
fi
