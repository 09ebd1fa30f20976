#include "client/tensors/plan.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <set>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/tensor/dtype.h"
#include "core/text/quote.h"

namespace salient::client {
namespace {

constexpr size_t kMaxNameBytes = 512;  // GroupHeader.name, LinearHeader.name.

std::string Describe(const SafetensorsFile& file, const TensorEntry& tensor) {
  return absl::StrCat(file.header().source(), ": tensor ", QuoteForMessage(tensor.name), " is ",
                      Name(tensor.dtype), " [", absl::StrJoin(tensor.shape, ", "), "]");
}

absl::Status Unexpected(const SafetensorsFile& file, const TensorEntry& tensor,
                        absl::string_view expected) {
  return absl::InvalidArgumentError(absl::StrCat(Describe(file, tensor), "; expected ", expected));
}

absl::Status CheckName(absl::string_view what, const std::string& name,
                       std::set<std::string>& seen) {
  if (name.empty() || name.size() > kMaxNameBytes) {
    return absl::InvalidArgumentError(absl::StrCat(what, " ", QuoteForMessage(name), " has ",
                                                   name.size(), " bytes; expected 1 to ",
                                                   kMaxNameBytes));
  }
  if (!seen.insert(name).second) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, " ", QuoteForMessage(name), " is named twice; expected once"));
  }
  return absl::OkStatus();
}

// Returns the one tensor that holds a group's activations.
absl::StatusOr<const TensorEntry*> FindInput(const SafetensorsFile& activations,
                                             const RequestedGroup& spec) {
  if (!spec.input.empty()) return activations.header().Get(spec.input);
  const std::string suffixed = absl::StrCat(spec.name, ".input");
  const TensorEntry* plain = activations.header().Find(spec.name);
  const TensorEntry* input = activations.header().Find(suffixed);
  if (plain != nullptr && input != nullptr) {
    return absl::InvalidArgumentError(absl::StrCat(
        activations.header().source(), ": both ", QuoteForMessage(spec.name), " and ",
        QuoteForMessage(suffixed), " are there; expected one activations tensor for the group"));
  }
  if (plain == nullptr && input == nullptr) {
    return absl::NotFoundError(absl::StrCat(
        activations.header().source(), ": no activations for group ", QuoteForMessage(spec.name),
        "; expected a tensor ", QuoteForMessage(spec.name), " or ", QuoteForMessage(suffixed)));
  }
  return plain != nullptr ? plain : input;
}

absl::StatusOr<std::vector<int64_t>> ReadLengths(const SafetensorsFile& activations,
                                                 const TensorEntry& tensor, int64_t rows,
                                                 int64_t tokens) {
  const bool integer = tensor.dtype == DType::kI32 || tensor.dtype == DType::kI64;
  if (!integer || tensor.shape != std::vector<int64_t>{rows}) {
    return Unexpected(activations, tensor, absl::StrCat("I32 or I64 [", rows, "]"));
  }
  const auto bytes = activations.ReadTensor(tensor.name);
  if (!bytes.ok()) return bytes.status();
  std::vector<int64_t> lengths;
  for (int64_t row = 0; row < rows; ++row) {
    int64_t length = 0;
    if (tensor.dtype == DType::kI64) {
      std::memcpy(&length, bytes->data() + row * 8, 8);
    } else {
      int32_t narrow = 0;
      std::memcpy(&narrow, bytes->data() + row * 4, 4);
      length = narrow;
    }
    if (length < 0 || length > tokens) {
      return absl::InvalidArgumentError(absl::StrCat(activations.header().source(), ": tensor ",
                                                     QuoteForMessage(tensor.name), "[", row,
                                                     "] is ", length, "; expected 0 to ", tokens));
    }
    lengths.push_back(length);
  }
  return lengths;
}

absl::StatusOr<PlannedLinear> PlanLinear(const SafetensorsFile& weights, const std::string& group,
                                         const std::string& module) {
  const std::string name = absl::StrCat(module, ".weight");
  const TensorEntry* weight = weights.header().Find(name);
  if (weight == nullptr) {
    return absl::NotFoundError(
        absl::StrCat(weights.header().source(), ": no tensor ", QuoteForMessage(name),
                     ", the weight of a Linear of group ", QuoteForMessage(group)));
  }
  if (weight->shape.size() != 2 || !IsFloat(weight->dtype) || weight->SizeBytes() == 0) {
    return Unexpected(weights, *weight, "a weight, F32, F16 or BF16 [out_features, in_features]");
  }
  return PlannedLinear{module, *weight};
}

// Fills in input, tokens and lengths.
absl::Status PlanActivations(const SafetensorsFile& activations, const RequestedGroup& spec,
                             PlannedGroup& group) {
  const auto input = FindInput(activations, spec);
  if (!input.ok()) return input.status();
  group.input = **input;
  const std::vector<int64_t>& shape = group.input.shape;
  const bool ranked = shape.size() == 2 || shape.size() == 3;
  if (!ranked || !IsFloat(group.input.dtype) || shape.back() != group.in_features) {
    return Unexpected(activations, group.input,
                      absl::StrCat("F32, F16 or BF16 [rows, tokens, ", group.in_features,
                                   "] or [tokens, ", group.in_features,
                                   "], the in_features of group ", QuoteForMessage(group.name)));
  }
  if (group.input.SizeBytes() == 0) {
    return Unexpected(activations, group.input, "at least one token");
  }
  const int64_t rows = shape.size() == 3 ? shape[0] : 1;
  group.tokens = shape[shape.size() - 2];
  group.lengths.assign(static_cast<size_t>(rows), group.tokens);

  const TensorEntry* tensor = activations.header().Find(absl::StrCat(group.name, ".lengths"));
  if (tensor == nullptr) return absl::OkStatus();
  auto lengths = ReadLengths(activations, *tensor, rows, group.tokens);
  if (!lengths.ok()) return lengths.status();
  group.lengths = *std::move(lengths);
  if (group.ActivationBytes() == 0) {
    return absl::InvalidArgumentError(absl::StrCat(activations.header().source(), ": tensor ",
                                                   QuoteForMessage(tensor->name),
                                                   " is all 0; expected at least one token"));
  }
  return absl::OkStatus();
}

absl::Status CheckTiedHeads(const PlannedGroup& group) {
  if (!group.tied_heads.has_value()) return absl::OkStatus();
  const auto& [head_dim, heads_per_kv] = *group.tied_heads;
  if (group.in_features % head_dim == 0 && (group.in_features / head_dim) % heads_per_kv == 0) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "group ", QuoteForMessage(group.name), ": tied_heads of head_dim ", head_dim, " and ",
      heads_per_kv, " query heads a kv head do not divide in_features ", group.in_features));
}

absl::StatusOr<PlannedGroup> PlanGroup(const SafetensorsFile& weights,
                                       const SafetensorsFile& activations,
                                       const RequestedGroup& spec,
                                       std::set<std::string>& linear_names) {
  PlannedGroup group;
  group.name = spec.name;
  group.tied_heads = spec.tied_heads;
  for (const std::string& module : spec.linears) {
    if (auto named = CheckName("Linear", module, linear_names); !named.ok()) return named;
    auto linear = PlanLinear(weights, spec.name, module);
    if (!linear.ok()) return linear.status();
    const int64_t in_features = linear->weight.shape[1];
    if (!group.linears.empty() && in_features != group.in_features) {
      return Unexpected(weights, linear->weight,
                        absl::StrCat("in_features ", group.in_features, ", as ",
                                     QuoteForMessage(group.linears[0].module),
                                     " has, because they read the same input"));
    }
    group.in_features = in_features;
    group.linears.push_back(*std::move(linear));
  }
  if (auto planned = PlanActivations(activations, spec, group); !planned.ok()) return planned;
  if (auto tied = CheckTiedHeads(group); !tied.ok()) return tied;
  return group;
}

}  // namespace

int64_t PlannedGroup::WeightBytes() const {
  int64_t bytes = 0;
  for (const PlannedLinear& linear : linears) bytes += linear.weight.SizeBytes();
  return bytes;
}

int64_t PlannedGroup::ActivationBytes() const {
  int64_t token_count = 0;
  for (const int64_t length : lengths) token_count += length;
  return token_count * in_features * SizeOf(input.dtype);
}

int64_t TensorsPlan::Bytes() const {
  int64_t bytes = 0;
  for (const PlannedGroup& group : groups) bytes += group.WeightBytes() + group.ActivationBytes();
  return bytes;
}

absl::StatusOr<TensorsPlan> MakeTensorsPlan(const SafetensorsFile& weights,
                                            const SafetensorsFile& activations,
                                            absl::Span<const RequestedGroup> specs) {
  if (specs.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        activations.header().source(), ": no activations tensor; expected at least one"));
  }
  TensorsPlan plan;
  std::set<std::string> group_names;
  std::set<std::string> linear_names;
  for (const RequestedGroup& spec : specs) {
    if (auto named = CheckName("group", spec.name, group_names); !named.ok()) return named;
    auto group = PlanGroup(weights, activations, spec, linear_names);
    if (!group.ok()) return group.status();
    plan.groups.push_back(*std::move(group));
  }
  return plan;
}

}  // namespace salient::client
