#include "server/rpc/convert/quantize_task.h"

#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/result/module_override.h"
#include "core/tensor/stored_format.h"
#include "server/error/field_error.h"
#include "server/jobs/output_directories.h"
#include "server/rpc/convert/engine.h"
#include "server/rpc/convert/job_fields.h"
#include "server/rpc/convert/method.h"

namespace salient {
namespace {

absl::Status CheckPolicy(absl::string_view field, int value) {
  switch (value) {
    case v1::NON_FINITE_POLICY_UNSPECIFIED:
    case v1::NON_FINITE_POLICY_REJECT:
      return absl::OkStatus();
    case v1::NON_FINITE_POLICY_KEEP_FP16:
      return UnsupportedField(field, "NON_FINITE_POLICY_KEEP_FP16", "NON_FINITE_POLICY_REJECT");
    default:
      return BadJob(field, absl::StrCat(value), "a value of NonFinitePolicy");
  }
}

absl::StatusOr<TokenBlob> ToCalibration(absl::string_view path,
                                        const v1::CalibrationSource& message) {
  switch (message.source_case()) {
    case v1::CalibrationSource::kTokens:
      return ToTokens(absl::StrCat(path, ".tokens"), message.tokens());
    case v1::CalibrationSource::kStatistics:
      return UnsupportedField(absl::StrCat(path, ".statistics"), "calibration by statistics files",
                              "tokens");
    case v1::CalibrationSource::SOURCE_NOT_SET:
      break;
  }
  return BadJob(path, "not set", "tokens");
}

absl::StatusOr<std::vector<StoredFormat>> ToFormats(const std::string& field,
                                                    const v1::QuantizeTask& message) {
  if (message.formats().empty()) return BadJob(field, "empty", "1 to 8 formats");
  if (message.formats_size() > static_cast<int>(kMaxOutputs)) {
    return BadJob(field, absl::StrCat("a list of ", message.formats_size()),
                  absl::StrCat("at most ", kMaxOutputs));
  }
  std::vector<StoredFormat> formats;
  for (int i = 0; i < message.formats_size(); ++i) {
    const auto stored = ToStoredFormat(absl::StrCat(field, "[", i, "]"), message.formats(i));
    if (!stored.ok()) return stored.status();
    formats.push_back(*stored);
  }
  return formats;
}

// What they may ask for, and of which modules, the core says when it knows the model.
absl::StatusOr<std::vector<ModuleOverride>> ToOverrides(const std::string& field,
                                                        const v1::QuantizeTask& message) {
  if (message.overrides_size() > kMaxOverrides) {
    return BadJob(field, absl::StrCat("a list of ", message.overrides_size()),
                  absl::StrCat("at most ", kMaxOverrides));
  }
  std::vector<ModuleOverride> overrides;
  for (const v1::ModuleOverride& override : message.overrides()) {
    overrides.push_back(
        {override.module(), override.bits(), override.group_size(), override.skip()});
  }
  return overrides;
}

}  // namespace

absl::StatusOr<QuantizeTask> ToQuantizeTask(absl::string_view path,
                                            const v1::QuantizeTask& message) {
  const auto field = [&](absl::string_view name) { return absl::StrCat(path, ".", name); };
  QuantizeTask task;
  const auto calibration = ToCalibration(field("calibration"), message.calibration());
  if (!calibration.ok()) return calibration.status();
  task.calibration = *calibration;
  const auto method = ToMethod(field("method"), message.method());
  if (!method.ok()) return method.status();
  task.method = *method;
  auto formats = ToFormats(field("formats"), message);
  if (!formats.ok()) return formats.status();
  task.formats = *std::move(formats);
  const auto compute = ToCompute(field("compute_dtype"), message.compute_dtype());
  if (!compute.ok()) return compute.status();
  task.compute = *compute;
  absl::Status status = CheckPolicy(field("non_finite_policy"), message.non_finite_policy());
  if (status.ok()) status = CheckPath(field("output_path"), message.output_path());
  if (!status.ok()) return status;
  if (message.max_shard_bytes() < 0) {
    return BadJob(field("max_shard_bytes"), absl::StrCat(message.max_shard_bytes()),
                  "at least 1, or 0 for the default");
  }
  if (message.max_shard_bytes() > 0) task.max_shard_bytes = message.max_shard_bytes();
  auto overrides = ToOverrides(field("overrides"), message);
  if (!overrides.ok()) return overrides.status();
  task.overrides = *std::move(overrides);
  task.max_relative_error = message.max_relative_error();
  if (!std::isfinite(task.max_relative_error) || task.max_relative_error < 0) {
    return BadJob(field("max_relative_error"), absl::StrCat(task.max_relative_error),
                  "a number above 0, or 0 for no limit");
  }
  task.strict = message.strict();
  task.seed = message.seed();
  task.output_path = message.output_path();
  auto engines = ToEngineRequest(path, message.engines(), message.tensor_parallel());
  if (!engines.ok()) return engines.status();
  task.engines = *std::move(engines);
  return task;
}

}  // namespace salient
