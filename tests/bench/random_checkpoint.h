// Checkpoints of random weights whose distribution is like that of trained ones where it matters to
// a quantizer: heavy tails, and a few channels that the norms make large.
#ifndef SALIENT_TESTS_BENCH_RANDOM_CHECKPOINT_H_
#define SALIENT_TESTS_BENCH_RANDOM_CHECKPOINT_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "tests/bench/model_shape.h"

namespace salient::bench {

// Makes a directory with config.json, weights in BF16 and, beyond one file, an index. Weights of
// Linears are Student t with 5 degrees of freedom over the root of in_features; 1 % of a norm's
// channels are 5 to 20 times the others. Every number follows from its tensor's name and its place
// alone, so the same shape gives the same bytes on any number of threads. A directory that is there
// and has this config is taken as it is; ALREADY_EXISTS if it has another.
absl::Status MakeCheckpoint(const ModelShape& shape, const std::string& directory, int threads);

// A safetensors file with input_ids I32 [rows, tokens], ids evenly from the vocabulary.
absl::Status MakeTokens(const ModelShape& shape, int64_t rows, int64_t tokens,
                        const std::string& path);

}  // namespace salient::bench

#endif  // SALIENT_TESTS_BENCH_RANDOM_CHECKPOINT_H_
