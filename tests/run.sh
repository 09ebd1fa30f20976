#!/usr/bin/env bash
# Builds Salient and runs its tests, from a bare machine if need be (Debian; root or sudo).
#
#   tests/run.sh [--sanitize] [--interop] [--lint] [--filter REGEX]
#   tests/run.sh --quick
#
#   --sanitize      at the end the unit tests under AddressSanitizer and UndefinedBehaviorSanitizer,
#                   and those of the rooms where threads meet, without gRPC, under ThreadSanitizer
#   --interop       at the end the real vLLM and transformers, on this CPU, load what Salient wrote
#                   (downloads 6 GB into build/venv-* the first time; takes ten minutes)
#   --lint          at the end clang-tidy on every source, and each header compiled on its own (half an
#                   hour); without it those that differ from HEAD~1 or are being changed
#   --filter REGEX  only tests whose name matches; installs and builds all the same
#   --quick         only the unit tests of the rooms that differ from HEAD~1 or are being changed
#
# Says beforehand what it will do and the longest that it took here. Ends with a summary, or with the
# name of the step that failed; the exit code is 0 only if every test passed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source tests/steps.sh

usage() { sed -n '2,17s/^# \{0,1\}//p' tests/run.sh >&2; exit 2; }
sanitize=0
interop=0
lint=0
quick=0
filter=()
while [ $# -gt 0 ]; do
  case $1 in
    --sanitize) sanitize=1 ;;
    --interop) interop=1 ;;
    --lint) lint=1 ;;
    --quick) quick=1 ;;
    --filter)
      [ $# -ge 2 ] || { echo "run.sh: --filter needs a regular expression" >&2; exit 2; }
      filter=(-R "$2")
      shift
      ;;
    *) usage ;;
  esac
  shift
done
if [ $quick -eq 1 ]; then
  [ $((sanitize + interop + lint + ${#filter[@]})) -eq 0 ] || usage
  exec tests/quick.sh
fi

# The steps, and their seconds on two cores that begin with nothing.
steps=("packages 60" "house 10" "build-release 420" "test-release 600")
[ $sanitize -eq 0 ] || steps+=("build-asan 300" "test-asan 240" "build-tsan 180" "test-tsan 180")
[ $interop -eq 0 ] || steps+=("engines 900")
[ $lint -eq 0 ] || steps+=("lint 1800")
announce "${steps[@]}"

begin packages
deploy/install_dependencies.sh test
finish

# What is fetched meanwhile: the Python of the tests, and grpcurl, which is not packaged; without
# it, or without Go to build it, its tests say SKIPPED.
mkdir -p build
tests/python_environment.sh > build/python.log 2>&1 &
python_environment=$!
meanwhile=("$python_environment")
tools=${XDG_CACHE_HOME:-$HOME/.cache}/salient-tests/bin
export PATH=$tools:$PATH
grpcurl=
if ! command -v grpcurl > /dev/null && command -v go > /dev/null; then
  mkdir -p "$tools"
  GOBIN=$tools GOFLAGS=-buildvcs=false timeout 300 \
    go install github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.4 > "$tools/grpcurl.log" 2>&1 &
  grpcurl=$!
  meanwhile+=("$grpcurl")
fi
await_tools() {
  wait "$python_environment" || { cat build/python.log >&2; exit 1; }
  if [ -n "$grpcurl" ] && ! wait "$grpcurl"; then
    echo "grpcurl could not be built ($tools/grpcurl.log); its tests will say SKIPPED"
  fi
  meanwhile=()
}

# A compiler takes up to 1.5 GiB under a sanitizer: no more of them than memory carries.
memory_gib=$(awk '/MemAvailable/ {print int($2 / 1048576)}' /proc/meminfo)
jobs=$(nproc)
[ $((jobs * 2)) -le "$memory_gib" ] || jobs=$((memory_gib / 2 > 0 ? memory_gib / 2 : 1))

build() {  # preset, targets...
  local preset=$1
  shift
  [ "build/$preset/build.ninja" -nt CMakePresets.json ] || cmake --preset "$preset" > /dev/null
  timeout 2400 ninja -C "build/$preset" -j "$jobs" "$@"
}
wrapper=()
run_ctest() {  # directory of tests, ctest arguments...
  local directory=$1
  shift
  "${wrapper[@]}" ctest --test-dir "build/$directory" --output-on-failure --progress \
    --parallel "$jobs" --timeout 600 --no-label-summary "${filter[@]}" "$@"
}

# A filter may leave some of the runs without a test.
no_tests=error
[ ${#filter[@]} -eq 0 ] || no_tests=ignore

begin house
[ build/release/build.ninja -nt CMakePresets.json ] || cmake --preset release > /dev/null
run_ctest release --no-tests=$no_tests -L house
finish

begin build-release
build release
finish
await_tools
begin test-release
run_ctest release --no-tests=$no_tests -LE 'engines|house'
finish

if [ $sanitize -eq 1 ]; then
  # Programs are not needed here, only the directories that have unit tests.
  begin build-asan
  build asan tests/{core,proto,server,client}/all
  finish
  begin test-asan
  UBSAN_OPTIONS=print_stacktrace=1 run_ctest asan --no-tests=$no_tests -L unit
  finish

  # These are the rooms that lock something, or whose tests hand work to several threads. gRPC and
  # protobuf are not instrumented: what drives them would drown in false reports.
  rooms=(core/{checkpoint,evaluate,group,linalg,method,model,quantize,statistics,study}
         server/{workers,calls,jobs,listen})
  begin build-tsan
  targets=("${rooms[@]/#/tests/}")
  build tsan "${targets[@]/%//all}"
  finish
  begin test-tsan
  # GCC 12's ThreadSanitizer does not know the memory layout that newer kernels randomize into.
  if setarch -R true 2> /dev/null; then wrapper=(setarch -R); fi
  export TSAN_OPTIONS=ignore_noninstrumented_modules=1:second_deadlock_stack=1
  for room in "${rooms[@]}"; do
    # Threads meet in the same places whatever the instruction set.
    run_ctest "tsan/tests/$room" --no-tests=$no_tests -E '\.avx'
  done
  wrapper=()
  finish
fi

if [ $interop -eq 1 ]; then
  begin engines
  SALIENT_VLLM_PYTHON=$(tests/tool_environment.sh tests/interop/engines/vllm.txt)
  SALIENT_TRANSFORMERS_PYTHON=$(tests/tool_environment.sh tests/interop/engines/transformers.txt)
  export SALIENT_VLLM_PYTHON SALIENT_TRANSFORMERS_PYTHON
  echo "vLLM, transformers and the libraries of the formats read what Salient wrote"
  echo "NOT RUN: SGLang, TGI and LMDeploy, which need a GPU; in vLLM, whose kernels for them need one:"
  echo "         GPTQ of 3 and 8 bits and v2, compressed-tensors of 8 bits without activations; in"
  echo "         transformers, which refuses them of any tool: asymmetric compressed-tensors"
  run_ctest release --no-tests=$no_tests -L engines --verbose
  finish
fi

if [ $lint -eq 1 ]; then
  begin lint
  python3 tests/tidy.py --all
  finish
fi

summarize
