#include "server/calls/group_check.h"

#include <limits>
#include <string>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "core/group/quantize_group.h"
#include "core/method/method.h"
#include "core/statistics/accumulator.h"
#include "core/tensor/dtype.h"
#include "proto/wire/chunk.h"
#include "server/error/call_error.h"

namespace salient {
namespace {

constexpr int64_t kMost = std::numeric_limits<int64_t>::max();

int64_t SumOrMost(int64_t a, int64_t b) {
  int64_t sum = 0;
  return __builtin_add_overflow(a, b, &sum) ? kMost : sum;
}

absl::Status BadHeader(absl::string_view field, absl::string_view message) {
  return WithField(InvalidCall(Reason::kBadHeader, message), field);
}

absl::Status CheckName(absl::string_view field, absl::string_view owner, absl::string_view name) {
  if (name.empty()) {
    return BadHeader(field, absl::StrCat(owner, "name is empty; expected 1 to ", kMaxNameBytes,
                                         " bytes of UTF-8"));
  }
  if (static_cast<int64_t>(name.size()) > kMaxNameBytes) {
    return BadHeader(field, absl::StrCat(owner, "name \"", name.substr(0, 32), "...\" has ",
                                         name.size(), " bytes; expected at most ", kMaxNameBytes));
  }
  return absl::OkStatus();
}

absl::Status CheckFeatures(absl::string_view field, absl::string_view owner, int64_t value,
                           const CallLimits& limits) {
  if (value >= 1 && value <= limits.max_features) return absl::OkStatus();
  const absl::string_view name = field.substr(field.rfind('.') + 1);
  return BadHeader(field, absl::StrCat(owner, ": ", name, " is ", value, "; expected 1 to ",
                                       limits.max_features));
}

absl::Status CheckTiedHeads(const GroupSpec& spec) {
  const auto [head_dim, tied] = *spec.tied_heads;
  if (head_dim < 1 || spec.in_features % head_dim != 0) {
    return BadHeader("group.tied_heads.head_dim",
                     absl::StrCat("group ", spec.name, ": head_dim is ", head_dim,
                                  "; expected a divisor of in_features, ", spec.in_features));
  }
  const int64_t heads = spec.in_features / head_dim;
  if (tied < 1 || heads % tied != 0) {
    return BadHeader("group.tied_heads.query_heads_per_kv_head",
                     absl::StrCat("group ", spec.name, ": query_heads_per_kv_head is ", tied,
                                  "; expected a divisor of the number of heads, ", heads));
  }
  return absl::OkStatus();
}

// The core names the value at fault by its own field name, "<field> is <value>"; here it becomes a
// path.
std::string FieldAtFault(absl::string_view message, size_t linear) {
  const absl::string_view field = message.substr(0, message.find(" is "));
  if (field == "out_features") return absl::StrCat("group.linears[", linear, "].out_features");
  if (field == "in_features") return "group.in_features";
  return absl::StrCat("options.format.", field);
}

absl::Status CheckFormat(const GroupSpec& spec, size_t linear, const CallOptions& options) {
  const LinearSpec& header = spec.linears[linear];
  const absl::Status status =
      ValidateLinear(header.name, header.out_features, spec.in_features, options.stored);
  if (status.ok()) return status;
  const Reason reason = absl::IsUnimplemented(status) ? Reason::kUnsupported : Reason::kBadShape;
  absl::string_view message = status.message();
  absl::ConsumePrefix(&message, absl::StrCat(header.name, ": "));
  return WithMetadata(WithField(WithReason(status, reason), FieldAtFault(message, linear)),
                      "tensor", absl::StrCat(header.name, ".weight"));
}

absl::Status CheckLinear(const GroupSpec& spec, size_t linear, const CallOptions& options,
                         const CallLimits& limits) {
  const LinearSpec& header = spec.linears[linear];
  const std::string path = absl::StrCat("group.linears[", linear, "]");
  if (absl::Status status =
          CheckName(absl::StrCat(path, ".name"),
                    absl::StrCat("group ", spec.name, ": the Linear's "), header.name);
      !status.ok()) {
    return status;
  }
  if (!IsFloat(header.dtype)) {
    return BadHeader(absl::StrCat(path, ".dtype"),
                     absl::StrCat(header.name, ": dtype is ", Name(header.dtype),
                                  "; expected F32, F16 or BF16"));
  }
  if (absl::Status status = CheckFeatures(absl::StrCat(path, ".out_features"), header.name,
                                          header.out_features, limits);
      !status.ok()) {
    return WithMetadata(status, "tensor", absl::StrCat(header.name, ".weight"));
  }
  return CheckFormat(spec, linear, options);
}

}  // namespace

absl::Status CheckGroup(const GroupSpec& spec, const CallOptions& options,
                        const CallLimits& limits) {
  if (absl::Status status = CheckName("group.name", "the group's ", spec.name); !status.ok()) {
    return status;
  }
  const std::string owner = absl::StrCat("group ", spec.name);
  absl::Status status = CheckFeatures("group.in_features", owner, spec.in_features, limits);
  if (!status.ok()) return status;
  if (NeedsWholeGram(options.method) && spec.in_features > kMostWholeGram) {
    return BadHeader(
        "group.in_features",
        absl::StrCat(owner, ": in_features is ", spec.in_features, "; expected at most ",
                     kMostWholeGram, " with ROUNDING_GPTQ, which keeps the whole X^T X"));
  }
  const int64_t linears = static_cast<int64_t>(spec.linears.size());
  if (linears < 1 || linears > limits.max_linears_per_group) {
    return BadHeader("group.linears",
                     absl::StrCat(owner, " has ", linears, " Linears; expected 1 to ",
                                  limits.max_linears_per_group));
  }
  if (spec.activation_dtype.has_value() && !IsFloat(*spec.activation_dtype)) {
    return BadHeader("group.activation_dtype",
                     absl::StrCat(owner, ": activation_dtype is ", Name(*spec.activation_dtype),
                                  "; expected F32, F16 or BF16"));
  }
  if (spec.tied_heads.has_value()) {
    if (status = CheckTiedHeads(spec); !status.ok()) return status;
  }
  absl::flat_hash_set<absl::string_view> names;
  for (size_t i = 0; i < spec.linears.size(); ++i) {
    if (status = CheckLinear(spec, i, options, limits); !status.ok()) return status;
    if (!names.insert(spec.linears[i].name).second) {
      return WithField(InvalidCall(Reason::kDuplicateName,
                                   absl::StrCat(owner, ": the Linear ", spec.linears[i].name,
                                                " stands twice; expected unique names")),
                       absl::StrCat("group.linears[", i, "].name"));
    }
  }
  return absl::OkStatus();
}

StatisticsParams StatisticsParamsOf(const GroupSpec& spec, const CallOptions& options) {
  StatisticsParams params;
  params.in_features = spec.in_features;
  params.seed = options.seed;
  if (NeedsWholeGram(options.method)) params.KeepWholeGram();
  return params;
}

absl::StatusOr<int64_t> GroupMemoryBytes(const GroupSpec& spec, const CallOptions& options,
                                         const CallLimits& limits, int concurrency) {
  int64_t out_features = 0;
  int64_t weights = 0;
  for (const LinearSpec& linear : spec.linears) {
    const auto bytes = CheckedBytes(linear.out_features, spec.in_features, SizeOf(linear.dtype));
    weights = SumOrMost(weights, bytes.value_or(kMost));
    out_features += linear.out_features;
  }
  int64_t bytes = weights;
  // The core's arithmetic is safe for sizes that memory can hold.
  if (weights <= limits.call_memory_bytes) {
    bytes = SumOrMost(bytes, StatisticsAccumulator::MemoryBytes(StatisticsParamsOf(spec, options)));
    bytes =
        SumOrMost(bytes, QuantizeGroupMemoryBytes(out_features, spec.in_features, options.method,
                                                  options.stored.activations, concurrency));
  }
  if (bytes > limits.call_memory_bytes) {
    return TooMuchMemory(absl::StrCat("group ", spec.name), bytes, limits.call_memory_bytes);
  }
  return bytes;
}

absl::Status TooMuchMemory(absl::string_view what, int64_t needed, int64_t allowed) {
  absl::Status status = CallError(
      absl::StatusCode::kResourceExhausted, Reason::kMemory,
      absl::StrCat(what, " needs ", needed, " bytes of memory; a call may have ", allowed));
  status = WithMetadata(std::move(status), "needed_bytes", absl::StrCat(needed));
  status = WithMetadata(std::move(status), "allowed_bytes", absl::StrCat(allowed));
  return WithQuota(std::move(status), "call_memory_bytes");
}

}  // namespace salient
