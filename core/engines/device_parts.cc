#include "core/engines/device_parts.h"

#include <cstddef>
#include <numeric>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/engines/engine.h"
#include "core/model/block_plan.h"
#include "core/tensor/affine_groups.h"
#include "core/tensor/stored_format.h"

namespace salient {
namespace {

// The features of a Linear that stay together in packed words, along the split ones.
int64_t WordFeatures(const ModelDescription& model, const WeightFormat& format, bool inputs) {
  const int64_t codes = 32 / std::gcd(32, format.bits);
  switch (model.stored.output) {
    case OutputFormat::kAwqGemm:
      return inputs ? 1 : codes;
    case OutputFormat::kGptq:
    case OutputFormat::kGptqV2:
      return codes;
    case OutputFormat::kCompressedTensors:
      return inputs || !format.symmetric ? codes : 1;
    default:
      return 1;
  }
}

class Splitter {
 public:
  Splitter(const ModelDescription& model, int64_t devices, Findings& findings)
      : model_(model), devices_(devices), findings_(findings) {}

  // Checks the split of the heads, which all blocks share.
  void CheckHeads() {
    const auto fault = [&](absl::string_view field, int64_t value, absl::string_view wanted) {
      findings_.Fault(field, absl::StrCat(field, " is ", value, "; ", findings_.name(), " wants ",
                                          wanted, " ", devices_, " devices"));
    };
    if (model_.num_attention_heads % devices_ != 0) {
      fault("num_attention_heads", model_.num_attention_heads, "a multiple of");
      return;
    }
    const int64_t heads = model_.num_key_value_heads;
    if (heads % devices_ == 0) return;
    switch (findings_.engine()) {
      case Engine::kTgi:
        fault("num_key_value_heads", heads, "a multiple of");
        return;
      case Engine::kLmdeploy:
        findings_.Remark("num_key_value_heads", absl::StrCat("num_key_value_heads is ", heads,
                                                             "; whether it copies them to ",
                                                             devices_, " devices is not known"));
        return;
      default:
        // A device has at least one, a copy if there are fewer than devices.
        if (devices_ % heads != 0) {
          fault("num_key_value_heads", heads, "a multiple or a divisor of");
        }
    }
  }

  // Returns the part of one device, or nullopt after a fault.
  std::optional<DevicePart> Split(const LinearDescription& linear) {
    const bool inputs = linear.split == DeviceSplit::kInputs;
    DevicePart part{&linear, linear.module, linear.out_features, linear.in_features};
    if (devices_ == 1) return part;
    int64_t devices = devices_;
    if (linear.split == DeviceSplit::kKeyValueHeads) {
      devices = std::gcd(devices_, model_.num_key_value_heads);
    }
    int64_t& features = inputs ? part.in_features : part.out_features;
    const int64_t whole = features;
    const auto fault = [&](const std::string& wanted) {
      const absl::string_view field = inputs ? "in_features" : "out_features";
      findings_.Fault(
          absl::StrCat("split ", field, " ", linear.module.substr(linear.module.rfind('.'))),
          absl::StrCat(linear.module, ": ", field, " is ", whole, ", which ", devices_,
                       " devices share; ", findings_.name(), " wants ", wanted, " on each"));
      return std::nullopt;
    };
    if (features % devices != 0) return fault("the same number");
    features /= devices;
    if (!linear.quantized) return part;
    const WeightFormat& format = linear.format;
    const int64_t words = WordFeatures(model_, format, inputs);
    if (features % words != 0) return fault(absl::StrCat("a multiple of ", words));
    if (!inputs) return part;
    if (format.group_size > 0 && features % format.group_size != 0) {
      return fault(absl::StrCat("a multiple of group_size, ", format.group_size));
    }
    if (format.group_size < 0 && model_.stored.output == OutputFormat::kAwqGemm) {
      return fault(absl::StrCat("a multiple of group_size, ", whole));
    }
    return part;
  }

 private:
  const ModelDescription& model_;
  const int64_t devices_;
  Findings& findings_;
};

// Returns "model.layers.0.self_attn.q_proj with k_proj and v_proj": the last parts of the siblings.
std::string NameOf(const LinearDescription* first, size_t count) {
  std::string name = first->module;
  for (size_t i = 1; i < count; ++i) {
    const std::string& module = first[i].module;
    absl::StrAppend(&name, i == 1 ? " with " : " and ", module.substr(module.rfind('.') + 1));
  }
  return name;
}

}  // namespace

bool SplitsLinears(Engine engine) {
  return engine != Engine::kTransformers && engine != Engine::kLlamaCpp;
}

std::vector<DevicePart> PartsOnDevice(const ModelDescription& model, int64_t tensor_parallel,
                                      Findings& findings) {
  const bool splits = SplitsLinears(findings.engine());
  const bool fuses = splits;  // Those that do the one do the other.
  Splitter splitter(model, splits ? tensor_parallel : 1, findings);
  if (splits) splitter.CheckHeads();
  std::vector<DevicePart> parts;
  size_t count = 1;  // of Linears that lie side by side
  for (size_t first = 0; first < model.linears.size(); first += count) {
    const LinearDescription* linears = model.linears.data() + first;
    count = 1;
    while (first + count < model.linears.size() && linears[count].first_sibling == first) ++count;
    const size_t before = parts.size();
    bool whole = true;
    for (size_t i = 0; i < count; ++i) {
      std::optional<DevicePart> part = splitter.Split(linears[i]);
      whole = whole && part.has_value();
      if (part.has_value()) parts.push_back(*std::move(part));
    }
    if (!fuses || count == 1) continue;
    if (!whole) {
      parts.resize(before);
      continue;
    }
    DevicePart& fused = parts[before];
    fused.name = NameOf(linears, count);
    for (size_t i = 1; i < count; ++i) fused.out_features += parts[before + i].out_features;
    parts.resize(before + 1);
  }
  return parts;
}

}  // namespace salient
