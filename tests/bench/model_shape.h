// Has the shapes of well-known models, as the config.json that their checkpoints have.
#ifndef SALIENT_TESTS_BENCH_MODEL_SHAPE_H_
#define SALIENT_TESTS_BENCH_MODEL_SHAPE_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "core/config/model/model_config.h"

namespace salient::bench {

struct ModelShape {
  std::string name;         // It is that of a directory: "llama3-8b-4layers".
  std::string config_json;  // It is that of a model that is not quantized, in BF16.
  ModelConfig config;       // It is the same, parsed.
};

// Returns that of `shape`, one of llama3-8b, llama3-1b, qwen2-0.5b and tiny or the path of a
// config.json, with `layers` decoder blocks instead of its own unless 0. Returns INVALID_ARGUMENT,
// NOT_FOUND, naming the shape and what was expected.
absl::StatusOr<ModelShape> ShapeOf(const std::string& shape, int64_t layers);

}  // namespace salient::bench

#endif  // SALIENT_TESTS_BENCH_MODEL_SHAPE_H_
