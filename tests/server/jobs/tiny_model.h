// Makes a small random model and tokens for it, and shows how the core reads both.
#ifndef SALIENT_TESTS_SERVER_JOBS_TINY_MODEL_H_
#define SALIENT_TESTS_SERVER_JOBS_TINY_MODEL_H_

#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "core/checkpoint/checkpoint.h"
#include "core/checkpoint/shard_index.h"
#include "core/model/families/family.h"
#include "core/model/model.h"
#include "core/safetensors/safetensors.h"
#include "core/safetensors/token_rows.h"
#include "core/tensor/dtype.h"
#include "core/tensor/half.h"
#include "core/tensor/named_tensor.h"

namespace salient::testing {

template <class T>
T Must(absl::StatusOr<T> value) {
  if (!value.ok()) throw std::runtime_error(value.status().ToString());
  return *std::move(value);
}

using Files = std::map<std::string, std::string>;  // They hold content by name.

struct TinyModel {
  int64_t layers = 3;
  int64_t hidden = 32;
  int64_t intermediate = 48;
  int64_t vocab = 40;
  uint64_t seed = 1;
  size_t shards = 1;
  // It is "own", or a "copy" of the embeddings beside tie_word_embeddings all the same.
  std::string head;
  DType dtype = DType::kF16;
  std::function<float(const std::string& tensor, int64_t index, float value)> change;
};

inline std::vector<std::pair<std::string, std::vector<int64_t>>> TensorsOf(const TinyModel& model) {
  const int64_t h = model.hidden;
  const int64_t i = model.intermediate;
  std::vector<std::pair<std::string, std::vector<int64_t>>> tensors;
  tensors.push_back({"model.embed_tokens.weight", {model.vocab, h}});
  for (int64_t layer = 0; layer < model.layers; ++layer) {
    const std::string prefix = absl::StrCat("model.layers.", layer, ".");
    const std::pair<std::string, std::vector<int64_t>> inside[] = {
        {"input_layernorm", {h}},     {"self_attn.q_proj", {h, h}},
        {"self_attn.k_proj", {h, h}}, {"self_attn.v_proj", {h, h}},
        {"self_attn.o_proj", {h, h}}, {"post_attention_layernorm", {h}},
        {"mlp.gate_proj", {i, h}},    {"mlp.up_proj", {i, h}},
        {"mlp.down_proj", {h, i}}};
    for (const auto& [name, shape] : inside) {
      tensors.push_back({absl::StrCat(prefix, name, ".weight"), shape});
    }
  }
  tensors.push_back({"model.norm.weight", {h}});
  if (!model.head.empty()) tensors.push_back({"lm_head.weight", {model.vocab, h}});
  return tensors;
}

inline std::string Bytes(const std::vector<std::byte>& bytes) {
  return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}
inline absl::Span<const std::byte> AsBytes(const std::string& text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

inline int64_t ParametersOf(const TinyModel& model) {
  int64_t parameters = 0;
  for (const auto& [name, shape] : TensorsOf(model)) {
    parameters += shape.size() == 2 ? shape[0] * shape[1] : shape[0];
  }
  return parameters;
}

// Makes a model directory: weights from a fixed seed, in one file or several.
inline Files MakeModel(const TinyModel& model) {
  std::mt19937_64 random(model.seed);
  std::normal_distribution<float> normal(0.0f, 0.08f);
  std::vector<NamedTensor> tensors;
  std::vector<TensorSize> sizes;
  int64_t total = 0;
  for (const auto& [name, shape] : TensorsOf(model)) {
    int64_t count = 1;
    for (const int64_t dimension : shape) count *= dimension;
    const int64_t size = SizeOf(model.dtype);
    NamedTensor tensor{name, model.dtype, shape, std::vector<std::byte>(size * count)};
    for (int64_t k = 0; k < count; ++k) {
      float value = normal(random) + (shape.size() == 1 ? 1.0f : 0.0f);
      if (model.change) value = model.change(name, k, value);
      const uint16_t bits = model.dtype == DType::kF16 ? F32ToF16(value) : F32ToBF16(value);
      const void* stored = &bits;
      if (model.dtype == DType::kF32) stored = &value;
      std::memcpy(tensor.data.data() + size * k, stored, static_cast<size_t>(size));
    }
    if (name == "lm_head.weight" && model.head == "copy") tensor.data = tensors[0].data;
    sizes.push_back({name, size * count});
    total += size * count;
    tensors.push_back(std::move(tensor));
  }
  Files files;
  const int64_t limit = model.shards == 1 ? total : total / static_cast<int64_t>(model.shards) + 1;
  const ShardPlan plan = Must(PlanShards(sizes, limit));
  for (const Shard& shard : plan.shards) {
    std::vector<NamedTensor> inside;
    for (const size_t t : shard.tensors) inside.push_back(tensors[t]);
    files[shard.file] = Bytes(Must(SerializeSafetensors(ToWrite(inside), {})));
  }
  if (!plan.index_json.empty()) files[kShardIndexName] = plan.index_json;
  files["config.json"] = absl::StrCat(
      R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": )",
      model.hidden, R"(, "intermediate_size": )", model.intermediate, R"(, "num_hidden_layers": )",
      model.layers, R"(, "num_attention_heads": 2, "vocab_size": )", model.vocab,
      R"(, "rms_norm_eps": 1e-05, "hidden_act": "silu", "tie_word_embeddings": true})");
  files["tokenizer_config.json"] = R"({"model_max_length": 64})";
  files["pytorch_model.bin"] = "weights in another form, never sent";
  return files;
}

inline std::string MakeTokens(int64_t rows, int64_t tokens, int64_t vocab, uint64_t seed) {
  std::mt19937_64 random(seed);
  NamedTensor ids{
      "input_ids", DType::kI32, {rows, tokens}, std::vector<std::byte>(4 * rows * tokens)};
  for (int64_t k = 0; k < rows * tokens; ++k) {
    const auto id = static_cast<int32_t>(random() % static_cast<uint64_t>(vocab));
    std::memcpy(ids.data.data() + 4 * k, &id, 4);
  }
  const std::vector<NamedTensor> tensors = {ids};
  return Bytes(Must(SerializeSafetensors(ToWrite(tensors), {})));
}

// Returns the rows of a file as MakeTokens gives them.
inline std::vector<std::vector<int64_t>> RowsOf(const std::string& tokens) {
  return Must(ReadTokenRows("tokens", AsBytes(tokens), 0, TokenUse::kScore));
}

// Is a directory as the core reads it, without any server.
struct ModelOnDisk {
  explicit ModelOnDisk(const std::string& directory)
      : checkpoint(Must(Checkpoint::Open(directory))),
        plan(Must(PlanModel(Must(ParseModelConfig(
            "config", Must(ReadTextFile(directory + "/config.json", 1 << 20))))))) {}
  Checkpoint checkpoint;
  Model plan;
};

inline std::string HeaderOf(const std::string& safetensors) {
  uint64_t size = 0;
  std::memcpy(&size, safetensors.data(), 8);
  return safetensors.substr(0, 8 + size);
}

}  // namespace salient::testing

#endif  // SALIENT_TESTS_SERVER_JOBS_TINY_MODEL_H_
