#include "server/calls/group_calibration.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "core/statistics/loss_model.h"
#include "core/statistics/search_loss.h"
#include "server/error/call_error.h"

namespace salient {
namespace {

// Returns the reason of an error of the accumulator, by its code.
Reason FoldReason(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
      return Reason::kNonFinite;
    case absl::StatusCode::kOutOfRange:
      return Reason::kPosition;
    case absl::StatusCode::kFailedPrecondition:
      return Reason::kDuplicateRow;
    case absl::StatusCode::kCancelled:
      return Reason::kCancelled;
    case absl::StatusCode::kDeadlineExceeded:
      return Reason::kDeadlineExceeded;
    default:
      return Reason::kInternal;
  }
}

// Returns what keeping the whole X^T X takes beyond blocks and a sketch, until a group is
// quantized.
int64_t WholeGramBytes(const StatisticsParams& blocks) {
  if (blocks.ExactGram() || blocks.in_features > kMostWholeGram) return 0;
  StatisticsParams whole = blocks;
  whole.KeepWholeGram();
  const auto more = [&](auto bytes_of) {
    return std::max<int64_t>(0, bytes_of(whole) - bytes_of(blocks));
  };
  using Params = StatisticsParams;
  return more([](const Params& params) { return StatisticsAccumulator::MemoryBytes(params); }) +
         more([](const Params& params) { return LossModel::MemoryBytes(params); }) +
         more([](const Params& params) { return SearchLoss::MemoryBytes(params); });
}

}  // namespace

absl::StatusOr<GroupCalibration> GroupCalibration::Create(const std::string& group,
                                                          const StatisticsParams& params) {
  absl::StatusOr<StatisticsAccumulator> accumulator = StatisticsAccumulator::Create(group, params);
  if (!accumulator.ok()) return WithReason(accumulator.status(), Reason::kInternal);
  return GroupCalibration(group, params, *std::move(accumulator));
}

absl::Status GroupCalibration::Fold(int64_t calibration_row, int64_t first_position, DType dtype,
                                    const std::byte* activations, int64_t tokens,
                                    Executor& executor) {
  absl::Status status =
      accumulator_.Fold(calibration_row, first_position, dtype, activations, tokens, executor);
  if (!status.ok()) {
    const Reason reason = FoldReason(status);
    return WithReason(std::move(status), reason);
  }
  has_tokens_ = true;
  return absl::OkStatus();
}

int64_t GroupCalibration::MergeBytes(int64_t file_bytes) const {
  const int64_t bytes = StatisticsAccumulator::MemoryBytes(params_);
  const bool has_room = file_bytes / 8 / params_.in_features >= params_.in_features;
  return has_room ? bytes + WholeGramBytes(params_) : bytes;
}

// Checks whether the statistics of a file of the same inputs add to those that there are.
absl::Status GroupCalibration::CheckGram(absl::string_view name,
                                         const StatisticsParams& file) const {
  const auto fail = [](const std::string& message) {
    return InvalidCall(Reason::kStatistics, message);
  };
  if (file.ExactGram()) {
    if (params_.ExactGram() || !has_tokens_) return absl::OkStatus();
    return fail(absl::StrCat(name,
                             " keeps the whole X^T X; expected its diagonal blocks and a sketch, "
                             "as of the tokens that came before, or to come first"));
  }
  if (params_.in_features <= StatisticsParams().exact_gram_limit || !params_.ExactGram()) {
    return absl::OkStatus();
  }
  const std::string what = absl::StrCat(
      name, " keeps the diagonal blocks of X^T X and a sketch, for its exact_gram_limit is ",
      file.exact_gram_limit, "; expected the whole X^T X, ");
  if (whole_gram_bytes_ > 0) return fail(absl::StrCat(what, "as in the file that came first"));
  return fail(absl::StrCat(what,
                           "which ROUNDING_GPTQ needs: calibrate with that rounding, or with an "
                           "exact_gram_limit of at least ",
                           params_.in_features, ", or choose ROUNDING_BLOCK"));
}

// Nothing was folded yet.
absl::Status GroupCalibration::KeepWholeGram() {
  StatisticsParams whole = params_;
  whole.KeepWholeGram();
  absl::StatusOr<StatisticsAccumulator> accumulator = StatisticsAccumulator::Create(group_, whole);
  if (!accumulator.ok()) return WithReason(accumulator.status(), Reason::kInternal);
  accumulator_ = *std::move(accumulator);
  whole_gram_bytes_ = WholeGramBytes(params_);
  params_ = whole;
  return absl::OkStatus();
}

absl::Status GroupCalibration::Merge(absl::string_view name, Statistics statistics) {
  StatisticsParams& file = statistics.params;
  if (file.in_features == params_.in_features) {
    absl::Status status = CheckGram(name, file);
    if (status.ok() && file.ExactGram() && !params_.ExactGram()) status = KeepWholeGram();
    if (!status.ok()) return status;
    // Where both keep all of X^T X, it does not matter up to which width they would have.
    if (file.ExactGram()) file.exact_gram_limit = params_.exact_gram_limit;
  }
  absl::Status status = accumulator_.Merge(statistics);
  const Reason reason =
      absl::IsFailedPrecondition(status) ? Reason::kDuplicateRow : Reason::kStatistics;
  if (!status.ok()) return WithReason(std::move(status), reason);
  has_tokens_ = has_tokens_ || statistics.token_count > 0;
  return absl::OkStatus();
}

absl::StatusOr<Statistics> GroupCalibration::Finish(Executor& executor) && {
  absl::StatusOr<Statistics> statistics = std::move(accumulator_).Finish(executor);
  if (statistics.ok()) return statistics;
  return WithReason(statistics.status(), FoldReason(statistics.status()));
}

}  // namespace salient
