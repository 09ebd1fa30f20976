#include "core/quantize/limit_error.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "core/tensor/stored_format.h"

namespace salient {
namespace {

// Returns the first Linear above the limit; null if there is none.
const LinearReport* Above(const GroupReport& report, double limit) {
  for (const LinearReport& linear : report.linears) {
    // A loss that is no number is above every limit, too.
    if (!(linear.relative_output_error <= limit)) return &linear;
  }
  return nullptr;
}

std::string Describe(const LinearReport& linear, double limit) {
  return absl::StrFormat("the relative output error of %s is %.4g at %d bits, above %.4g",
                         linear.name, linear.relative_output_error, linear.bits, limit);
}

// Returns what a group that is not quantized has to report.
GroupReport Plain(GroupReport report) {
  report.candidate = {};
  report.loss = 0;
  report.loss_standard_error = 0;
  report.relative_output_error = 0;
  report.notes.clear();
  report.warnings.clear();
  for (LinearReport& linear : report.linears) {
    linear.loss = 0;
    linear.relative_output_error = 0;
    linear.clipped_share = 0;
    linear.saturated_zero_point_share = 0;
    linear.kept_rtn = false;
    linear.bits = 16;
  }
  return report;
}

}  // namespace

absl::StatusOr<LimitedGroup> RoundWithinLimit(const GroupInput& group, const Method& method,
                                              const StoredFormat& stored, const GroupFit& fit,
                                              double max_relative_error, Executor& executor) {
  absl::StatusOr<RoundedGroup> rounded =
      RoundGroup(group, method, StoredAs(stored, fit.format), executor);
  if (!rounded.ok()) return rounded.status();
  LimitedGroup result{*std::move(rounded), fit.format, false, false, ""};
  // A result that is not rounded has no error to limit.
  const bool is_rounded = stored.output != OutputFormat::kScaledFp16;
  if (max_relative_error == 0 || !is_rounded) return result;
  const LinearReport* above = Above(result.rounded.report, max_relative_error);
  if (above == nullptr) return result;
  result.raised = true;
  result.why = Describe(*above, max_relative_error);
  if (fit.wider.has_value()) {
    rounded = RoundGroup(group, method, StoredAs(stored, *fit.wider), executor);
    if (!rounded.ok()) return rounded.status();
    above = Above(rounded->report, max_relative_error);
    if (above == nullptr) {
      result.rounded = *std::move(rounded);
      result.format = *fit.wider;
      result.rounded.report.notes.push_back(
          absl::StrCat("has ", fit.wider->bits, " bits, because ", result.why));
      return result;
    }
    absl::StrAppend(&result.why, ", and ", Describe(*above, max_relative_error));
  }
  result.stays_f16 = true;
  result.rounded.report = Plain(std::move(result.rounded.report));
  result.rounded.report.notes.push_back(absl::StrCat("is not quantized, because ", result.why));
  return result;
}

}  // namespace salient
