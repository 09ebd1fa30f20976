#!/usr/bin/env bash
# Salient beside AutoAWQ and llm-compressor: the same checkpoint, the same token rows, both cores,
# one after the other. Makes two Python environments under build/ first (about 10 GB).
#
#   tests/bench/peers.sh              pocket-llama with salient channels, 64 rows x 256 tokens
#   tests/bench/peers.sh llama3-1b    random weights of that shape, 2 layers, 16 rows x 512 tokens;
#                                     the others take half an hour
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
case=${1:-pocket-llama}
case $case in
  pocket-llama | llama3-1b) ;;
  *)
    echo "peers.sh: $case is not a case; expected pocket-llama or llama3-1b" >&2
    exit 2
    ;;
esac

deploy/install_dependencies.sh test
[ -f build/release/build.ninja ] || cmake --preset release > /dev/null
ninja -C build/release --quiet salient salientd bench_model
python=$(tests/python_environment.sh)
autoawq=$(tests/tool_environment.sh tests/bench/peers/autoawq.txt)
llmcompressor=$(tests/tool_environment.sh tests/bench/peers/llmcompressor.txt)

work=build/peers-$case
rm -rf "$work"
mkdir -p "$work"
case $case in
  pocket-llama)
    model=$work/model
    "$python" tests/support/model_variants.py salient "$model"
    tokens=tests/data/pocket-llama/calibration_open.safetensors
    settings=(--rows 64 --evaluation tests/data/pocket-llama/evaluation_open.safetensors)
    ;;
  llama3-1b)
    build/release/tests/bench/bench_model --shape llama3-1b --layers 2 --rows 16 --tokens 512 \
      --directory "$work" --make-only
    model=$work/llama3-1b-2layers
    tokens=$model-tokens.safetensors
    settings=(--rows 16 --evaluation-rows 4)
    ;;
esac
"$python" tests/bench/peers/compare.py --model "$model" --tokens "$tokens" --work "$work" \
  --salient build/release/salient --autoawq "$autoawq" --llmcompressor "$llmcompressor" \
  --json "$work/peers.json" "${settings[@]}"
