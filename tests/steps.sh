# shellcheck shell=bash
# The steps of a long script: what they are and how long they take, said beforehand, while and
# after. To be sourced at the top of the repository, by bash.

step_times=build/step_times  # has a file a step: the longest that it took here, in seconds
export NINJA_STATUS='[%f/%t, %es] '
export CCACHE_STATSLOG=$PWD/build/ccache.log  # holds this run alone
started=$SECONDS
report=()
step=beginning
meanwhile=()  # processes that go with this one

# Names the step that failed, and leaves nothing running.
at_exit() {
  local code=$?
  [ ${#meanwhile[@]} -eq 0 ] || kill "${meanwhile[@]}" 2> /dev/null || true
  [ $code -eq 0 ] || printf '\n== %4d s  FAILED in %s\n' $((SECONDS - started)) "$step" >&2
}
trap at_exit EXIT

# Says what will be done. Each argument: a step and its seconds on a machine that begins with nothing.
announce() {
  mkdir -p "$step_times"
  rm -f "$CCACHE_STATSLOG"
  local entry name typical seconds total=0 text=
  for entry in "$@"; do
    read -r name typical <<< "$entry"
    seconds=$(cat "$step_times/$name" 2> /dev/null || echo "$typical")
    total=$((total + seconds))
    text+=", $name $((seconds / 60)):$(printf %02d $((seconds % 60)))"
  done
  echo "== about $(((total + 59) / 60)) minutes, if nothing is built and two cores are idle: ${text#, }"
}

# Begins a step, or says that it is over.
begin() {
  step=$1
  step_started=$SECONDS
  printf '\n== %4d s  %s\n' $((SECONDS - started)) "$step"
}
finish() {
  local seconds=$((SECONDS - step_started))
  report+=("$(printf '%-14s %5d s' "$step" "$seconds")")
  # A step that had nothing to do says nothing about one that has.
  local longest
  longest=$(cat "$step_times/$step" 2> /dev/null || echo 0)
  [ "$seconds" -le "$longest" ] || echo "$seconds" > "$step_times/$step"
}

summarize() {
  printf '\n== %4d s  done\n' $((SECONDS - started))
  printf '   %s\n' "${report[@]}"
  if [ -s "$CCACHE_STATSLOG" ]; then
    echo "   compiler cache: $(grep -c cache_hit "$CCACHE_STATSLOG") hits, $(grep -cx cache_miss "$CCACHE_STATSLOG") misses"
  fi
}
