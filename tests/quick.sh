#!/usr/bin/env bash
# tests/run.sh --quick: builds and runs the unit tests of the rooms that differ from HEAD~1 or that
# the working tree changes, and the tests of the house. For what is built and installed already.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
git rev-parse HEAD > /dev/null || { echo "quick.sh: expected a clone of git, whose changes it looks for" >&2; exit 2; }
source tests/steps.sh

# The directories of tests, without tests/, that stand for what changed.
changed() {
  { git diff --name-only HEAD~1 2> /dev/null || git ls-files; git ls-files --others --exclude-standard; } |
    sed -E 's|^tests/||' |
    while read -r file; do
      directory=$(dirname "$file")
      case $directory in  # one program tests several rooms
        core/file | core/config | core/config/model | core/safetensors) directory=core/checkpoint ;;
        core/parallel | core/kernels) directory=core/linalg ;;
      esac
      while [ "$directory" != . ] && [ ! -f "tests/$directory/CMakeLists.txt" ]; do
        directory=$(dirname "$directory")
      done
      case $directory in
        core | bench | integration | interop) ;;
        *) echo "$directory" ;;
      esac
    done | sort -u
}
mapfile -t rooms < <(changed)
announce "house 5" "rooms 30"

begin house
[ build/release/build.ninja -nt CMakePresets.json ] || cmake --preset release > /dev/null
ctest --test-dir build/release --output-on-failure --parallel "$(nproc)" --no-label-summary --no-tests=error -L house
finish

begin rooms
if [ ${#rooms[@]} -eq 0 ]; then
  echo "no room differs from HEAD~1"
else
  echo "${rooms[*]}"
fi
for room in "${rooms[@]}"; do
  if [ "$room" = . ]; then
    echo "NOT COVERED: what all rooms share has changed (top level or tests/support); tests/run.sh covers it"
    continue
  fi
  # The programs of this directory, not of those below it, which are rooms of their own.
  mapfile -t programs < <(sed -nE 's/^salient_(computing_)?tests\(([a-z0-9_]+).*/\2/p' "tests/$room/CMakeLists.txt")
  [ ${#programs[@]} -gt 0 ] || continue
  ninja -C build/release "${programs[@]}"
  for program in "${programs[@]}"; do
    OMP_NUM_THREADS=1 "build/release/tests/$room/$program" --gtest_brief=1
  done
done
finish
summarize
