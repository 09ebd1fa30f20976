// Makes small models with random weights, as directories: shapes and switches by their config.json.
#ifndef SALIENT_TESTS_SUPPORT_RANDOM_MODEL_H_
#define SALIENT_TESTS_SUPPORT_RANDOM_MODEL_H_

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "core/checkpoint/shard_index.h"
#include "core/model/block_plan.h"
#include "core/model/families/family.h"
#include "core/model/model.h"
#include "core/safetensors/safetensors.h"
#include "core/tensor/dtype.h"
#include "core/tensor/half.h"
#include "core/tensor/named_tensor.h"

namespace salient::testing {

// Gaussian: weights of deviation 1 / sqrt(in_features), norms around 1, biases of deviation 0.2.
inline NamedTensor RandomTensor(const TensorSpec& spec, DType dtype, std::mt19937_64& random) {
  NamedTensor tensor{spec.name, dtype, spec.shape, {}};
  const bool norm = absl::EndsWith(spec.name, "norm.weight");
  const double deviation =
      spec.shape.size() == 2 ? 1 / std::sqrt(static_cast<double>(spec.shape[1])) : 0.2;
  std::normal_distribution<double> normal(norm ? 1 : 0, deviation);
  int64_t elements = 1;
  for (const int64_t dimension : spec.shape) elements *= dimension;
  tensor.data.resize(static_cast<size_t>(elements * SizeOf(dtype)));
  for (int64_t i = 0; i < elements; ++i) {
    const float value = static_cast<float>(normal(random));
    const uint16_t half = dtype == DType::kF16 ? F32ToF16(value) : F32ToBF16(value);
    if (dtype == DType::kF32) {
      std::memcpy(tensor.data.data() + 4 * i, &value, 4);
    } else {
      std::memcpy(tensor.data.data() + 2 * i, &half, 2);
    }
  }
  return tensor;
}

// Writes config.json and weights of `dtype` into `directory`, which must exist, in one file or, if
// they exceed max_shard_bytes, in several with an index. Throws what goes wrong.
inline void WriteRandomModel(const std::filesystem::path& directory, const std::string& config_json,
                             DType dtype, uint64_t seed,
                             int64_t max_shard_bytes = kDefaultMaxShardBytes) {
  const auto must = [](const absl::Status& status) {
    if (!status.ok()) throw std::runtime_error(status.ToString());
  };
  const auto config = ParseModelConfig("config.json", config_json);
  must(config.status());
  const auto model = PlanModel(*config);
  must(model.status());
  std::vector<TensorSpec> specs = OuterTensors(*model);
  for (const BlockPlan& block : model->blocks) {
    for (TensorSpec& spec : BlockTensors(block)) specs.push_back(std::move(spec));
  }
  std::mt19937_64 random(seed);
  std::vector<NamedTensor> tensors;
  std::vector<TensorSize> sizes;
  for (const TensorSpec& spec : specs) {
    tensors.push_back(RandomTensor(spec, dtype, random));
    sizes.push_back({spec.name, static_cast<int64_t>(tensors.back().data.size())});
  }
  const auto plan = PlanShards(sizes, max_shard_bytes);
  must(plan.status());
  for (const Shard& shard : plan->shards) {
    std::vector<NamedTensor> part;
    for (const size_t i : shard.tensors) part.push_back(tensors[i]);
    must(WriteSafetensors((directory / shard.file).string(), ToWrite(part), {}));
  }
  if (!plan->index_json.empty()) std::ofstream(directory / kShardIndexName) << plan->index_json;
  std::ofstream(directory / "config.json") << config_json;
}

}  // namespace salient::testing

#endif  // SALIENT_TESTS_SUPPORT_RANDOM_MODEL_H_
