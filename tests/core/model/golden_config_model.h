// Makes the weights of the cases of tests/golden/configs.json anew.
#ifndef SALIENT_TESTS_CORE_MODEL_GOLDEN_CONFIG_MODEL_H_
#define SALIENT_TESTS_CORE_MODEL_GOLDEN_CONFIG_MODEL_H_

#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/checkpoint/tensor_source.h"
#include "core/config/json.h"
#include "core/tensor/dtype.h"
#include "core/tensor/half.h"
#include "core/tensor/named_tensor.h"
#include "tests/support/altered_source.h"

namespace salient::testing {

// Does what `uniform` of the goldens' maker does.
inline std::vector<double> Uniform(const std::string& name, int64_t count) {
  uint64_t seed = 0xCBF29CE484222325u;
  for (const char c : name) seed = (seed ^ static_cast<unsigned char>(c)) * 0x100000001B3u;
  std::vector<double> values;
  for (int64_t i = 1; i <= count; ++i) {
    uint64_t z = seed + static_cast<uint64_t>(i) * 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    z = z ^ (z >> 31);
    values.push_back(static_cast<double>(z >> 40) * 0x1p-23 - 1);
  }
  return values;
}

class NoTensors final : public TensorSource {
 public:
  const std::string& name() const override { return name_; }
  absl::StatusOr<TensorLocation> Find(absl::string_view tensor) const override {
    return absl::NotFoundError(tensor);
  }
  absl::Status ReadRange(absl::string_view tensor, int64_t, absl::Span<std::byte>) const override {
    return absl::NotFoundError(tensor);
  }

 private:
  const std::string name_ = "nothing";
};

// A case says this of its weights; what it does not say is as usual.
struct GoldenWeights {
  GoldenWeights(const JsonValue& golden, const std::string& family) {
    if (family == "qwen2") biases = "qkv";
    const JsonValue* said = golden.Find("weights");
    if (said == nullptr) return;
    for (const auto& [name, value] : *said->AsObject()) {
      if (value.AsString() != nullptr) texts(name) = *value.AsString();
      if (value.AsInt64().has_value()) numbers(name) = *value.AsInt64();
    }
  }
  std::string& texts(const std::string& name) {
    if (name == "biases") return biases;
    if (name == "head") return head;
    return name == "head_dtype" ? head_dtype : embedding_dtype;
  }
  int64_t& numbers(const std::string& name) {
    if (name == "hidden") return hidden;
    if (name == "heads") return heads;
    if (name == "kv_heads") return kv_heads;
    return name == "head_dim" ? head_dim : tokens;
  }

  int64_t hidden = 32, heads = 4, kv_heads = 2, head_dim = 8, tokens = 40;
  std::string biases, head = "none", head_dtype = "f32", embedding_dtype = "f32";
};

class GoldenModel {
 public:
  explicit GoldenModel(const GoldenWeights& weights) : source_(nothing_, "model") {
    constexpr int64_t kInner = 44, kVocabulary = 40;
    const int64_t query = weights.heads * weights.head_dim;
    const int64_t key = weights.kv_heads * weights.head_dim;
    const std::string embeddings = "model.embed_tokens.weight";
    Put(embeddings, embeddings, {kVocabulary, weights.hidden}, weights.embedding_dtype);
    Put("model.norm.weight", "model.norm.weight", {weights.hidden});
    for (int layer = 0; layer < 2; ++layer) {
      const auto linear = [&](const std::string& name, int64_t out, int64_t in, bool has_bias) {
        const std::string module = absl::StrCat("model.layers.", layer, ".", name);
        Put(module + ".weight", module + ".weight", {out, in});
        if (has_bias) Put(module + ".bias", module + ".bias", {out});
      };
      const bool all = absl::StrContains(weights.biases, "qkvo");
      const bool qkv = absl::StrContains(weights.biases, "qkv");
      const bool mlp = absl::StrContains(weights.biases, "mlp");
      linear("self_attn.q_proj", query, weights.hidden, qkv);
      linear("self_attn.k_proj", key, weights.hidden, qkv);
      linear("self_attn.v_proj", key, weights.hidden, qkv);
      linear("self_attn.o_proj", weights.hidden, query, all);
      linear("mlp.gate_proj", kInner, weights.hidden, mlp);
      linear("mlp.up_proj", kInner, weights.hidden, mlp);
      linear("mlp.down_proj", weights.hidden, kInner, mlp);
      for (const char* norm : {"input_layernorm", "post_attention_layernorm"}) {
        const std::string name = absl::StrCat("model.layers.", layer, ".", norm, ".weight");
        Put(name, name, {weights.hidden});
      }
    }
    if (weights.head == "none") return;
    const bool copy = weights.head == "copy";
    Put("lm_head.weight", copy ? embeddings : "lm_head.weight", {kVocabulary, weights.hidden},
        copy ? weights.embedding_dtype : weights.head_dtype);
  }

  const TensorSource& source() const { return source_; }

 private:
  // Puts a tensor as F32: values of "bf16" are rounded.
  void Put(const std::string& name, const std::string& hashed, std::vector<int64_t> shape,
           const std::string& dtype = "f32") {
    int64_t count = 1;
    for (const int64_t dimension : shape) count *= dimension;
    NamedTensor tensor{name, DType::kF32, std::move(shape), {}};
    tensor.data.resize(static_cast<size_t>(4 * count));
    const std::vector<double> values = Uniform(hashed, count);
    for (size_t i = 0; i < values.size(); ++i) {
      const double centre = absl::EndsWith(name, "norm.weight") ? 1 : 0;
      float value = static_cast<float>(centre + 0.5 * values[i]);
      if (dtype == "bf16") value = BF16ToF32(F32ToBF16(value));
      std::memcpy(tensor.data.data() + 4 * i, &value, 4);
    }
    source_.Put(std::move(tensor));
  }

  NoTensors nothing_;
  AlteredSource source_;
};

}  // namespace salient::testing

#endif  // SALIENT_TESTS_CORE_MODEL_GOLDEN_CONFIG_MODEL_H_
