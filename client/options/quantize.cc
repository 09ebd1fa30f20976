#include "client/options/quantize.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/options/enum_text.h"
#include "client/options/format.h"
#include "core/text/quote.h"

namespace salient::client {

absl::StatusOr<v1::QuantizeTask> ToTask(const QuantizeOptions& options) {
  auto method = ToMethod(options.method);
  if (!method.ok()) return method.status();
  v1::QuantizeTask task;
  bool rounds_activations = false;
  std::vector<std::string> formats = options.formats;
  if (formats.empty()) {
    formats.push_back(options.method.method == "smoothquant" ? "int-quantized" : "awq-gemm");
  }
  for (const std::string& flag : formats) {
    auto format = ParseFormat(options.method, flag);
    if (!format.ok()) return format.status();
    rounds_activations |= format->output_format() == v1::OUTPUT_FORMAT_INT_QUANTIZED;
    *task.add_formats() = *std::move(format);
  }
  if (!options.method.activations.empty() && !rounds_activations) {
    return absl::InvalidArgumentError("--activations goes with --format int-quantized only");
  }
  for (const std::string& flag : options.overrides) {
    auto override = ParseOverride(flag);
    if (!override.ok()) return override.status();
    *task.add_overrides() = *std::move(override);
  }
  task.set_max_relative_error(options.max_relative_error);
  const auto compute = EnumNamed<v1::ComputeDtype>(options.compute_dtype);
  if (!compute.has_value()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--compute-dtype ", QuoteForMessage(options.compute_dtype), "; expected ",
                     absl::StrJoin(FlagTexts<v1::ComputeDtype>(), " or ")));
  }
  task.set_compute_dtype(*compute);
  *task.mutable_method() = *std::move(method);
  task.set_strict(options.strict);
  task.set_max_shard_bytes(options.max_shard_bytes);
  task.set_seed(options.method.seed);
  if (auto known = AddEngines(options.engines, task); !known.ok()) return known;
  return task;
}

absl::Status CheckServerHas(const v1::GetServerInfoResponse& info, const v1::QuantizeTask& task) {
  for (const v1::WeightFormat& format : task.formats()) {
    if (auto has = CheckServerHas(info, task.method(), format); !has.ok()) return has;
  }
  for (const int engine : task.engines()) {
    const absl::Status knows = CheckServerKnows(info, static_cast<v1::Engine>(engine));
    if (!knows.ok()) return knows;
  }
  return absl::OkStatus();
}

}  // namespace salient::client
