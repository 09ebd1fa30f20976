// A checkpoint directory opened for tests: config, family and tensors, and whole rows run.
#ifndef SALIENT_TESTS_CORE_MODEL_SMALL_MODEL_H_
#define SALIENT_TESTS_CORE_MODEL_SMALL_MODEL_H_

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/checkpoint/checkpoint.h"
#include "core/checkpoint/tensor_source.h"
#include "core/config/model/model_config.h"
#include "core/model/activations.h"
#include "core/model/block_weights.h"
#include "core/model/blocks/embedding_and_head.h"
#include "core/model/blocks/forward.h"
#include "core/model/families/family.h"
#include "core/model/group_observer.h"
#include "core/model/model.h"
#include "core/model/prepared_block.h"
#include "core/parallel/executor.h"
#include "core/safetensors/safetensors.h"
#include "core/tensor/matrix.h"
#include "tests/support/source_directory.h"

namespace salient::testing {

// Fails the test that runs by throwing what went wrong.
template <class T>
T Must(absl::StatusOr<T> value) {
  if (!value.ok()) throw std::runtime_error(value.status().ToString());
  return *std::move(value);
}

inline std::string TestsDirectory() { return SourceDirectory() + "/tests/"; }

template <class T>
std::vector<T> ReadAs(const SafetensorsFile& file, const std::string& tensor) {
  const std::vector<std::byte> bytes = Must(file.ReadTensor(tensor));
  std::vector<T> values(bytes.size() / sizeof(T));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

// Returns what leaves the last block. `observer` sees the groups of that block.
inline Matrix RunBlocks(const TensorSource& source, const Model& model,
                        const std::vector<int64_t>& tokens, ComputeDType compute,
                        GroupObserver observer, Executor& executor) {
  const BlockForward forward(model, compute, static_cast<int64_t>(tokens.size()));
  Matrix hidden = Must(EmbedTokens(source, model, tokens));
  for (int64_t layer = 0; layer < model.config.num_hidden_layers; ++layer) {
    const BlockWeights block = Must(ReadBlock(source, model, layer, executor));
    const PreparedBlock prepared = Must(forward.Prepare(block, executor));
    const bool last = layer + 1 == model.config.num_hidden_layers;
    hidden = Must(last ? forward.Run(prepared, std::move(hidden), observer, executor)
                       : forward.Run(prepared, std::move(hidden), IgnoreGroup, executor));
  }
  return hidden;
}

// Returns logits [tokens, vocabulary] from all slices.
inline Matrix RunModel(const TensorSource& source, const Model& model,
                       const std::vector<int64_t>& tokens, ComputeDType compute,
                       GroupObserver observer, Executor& executor) {
  const OutputHead head = Must(OutputHead::Open(source, model));
  const Matrix normed =
      Must(head.Norm(RunBlocks(source, model, tokens, compute, observer, executor), executor));
  Matrix logits(static_cast<int64_t>(tokens.size()), model.config.vocab_size);
  for (int64_t slice = 0; slice < head.SliceCount(); ++slice) {
    const HeadSlice ids = Must(head.Read(slice, executor));
    const Matrix part = Must(salient::Logits(normed, ids, executor));
    for (int64_t t = 0; t < logits.rows(); ++t) {
      std::copy(part.Row(t), part.Row(t) + part.cols(), logits.Row(t) + ids.first_id);
    }
  }
  return logits;
}

struct SmallModel {
  explicit SmallModel(const std::string& directory)
      : checkpoint(Must(Checkpoint::Open(directory))),
        plan(Must(PlanModel(
            Must(ParseModelConfig(directory + "/config.json",
                                  Must(ReadTextFile(directory + "/config.json", 1 << 20))))))) {}
  SmallModel(const SmallModel&) = delete;

  Matrix Hidden(const std::vector<int64_t>& tokens, ComputeDType compute, GroupObserver observer,
                Executor& executor) const {
    return RunBlocks(checkpoint, plan, tokens, compute, observer, executor);
  }
  Matrix Logits(const std::vector<int64_t>& tokens, ComputeDType compute, GroupObserver observer,
                Executor& executor) const {
    return RunModel(checkpoint, plan, tokens, compute, observer, executor);
  }

  Checkpoint checkpoint;
  Model plan;
  ModelConfig& config = plan.config;
};

}  // namespace salient::testing

#endif  // SALIENT_TESTS_CORE_MODEL_SMALL_MODEL_H_
