#include "core/statistics/accumulator.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/statistics/open_row.h"
#include "core/statistics/token_sampler.h"

namespace salient {
namespace {

// Copies the upper triangle of a square matrix of row stride `n` to the lower.
void MirrorUpper(int64_t n, double* matrix) {
  for (int64_t row = 1; row < n; ++row) {
    for (int64_t column = 0; column < row; ++column) {
      matrix[row * n + column] = matrix[column * n + row];
    }
  }
}

}  // namespace

class StatisticsAccumulator::Impl {
 public:
  Impl(std::string name, const StatisticsParams& params)
      : name_(std::move(name)),
        totals_(EmptyStatistics(params)),
        row_(name_, params),
        sampler_(params) {}

  absl::Status Fold(int64_t calibration_row, int64_t first_position, DType dtype,
                    const std::byte* activations, int64_t tokens, Executor& executor) {
    if (!failure_.ok()) return failure_;
    failure_ = Open(calibration_row, first_position, dtype, tokens, executor);
    while (failure_.ok() && tokens > 0) {
      // A full tile waits for its successor: the last tile of a row is closed with the row.
      if (row_.Room() == 0) {
        failure_ = row_.FoldTile(/*last=*/false, totals_, executor);
        if (!failure_.ok()) break;
      }
      const int64_t count = std::min(tokens, row_.Room());
      failure_ = Append(dtype, activations, count, executor);
      activations += count * totals_.params.in_features * SizeOf(dtype);
      tokens -= count;
    }
    return failure_;
  }

  absl::Status Merge(const Statistics& part) {
    if (!failure_.ok()) return failure_;
    totals_.sample = sampler_.Take();
    absl::Status status = MergeStatistics(name_, part, totals_);
    sampler_.Restore(std::exchange(totals_.sample, {}));
    return status;
  }

  absl::StatusOr<Statistics> Finish(Executor& executor) {
    if (failure_.ok()) failure_ = Close(executor);
    if (!failure_.ok()) return failure_;
    if (totals_.token_count == 0) {
      return absl::FailedPreconditionError(
          absl::StrCat(name_, ": statistics of 0 tokens; expected at least 1"));
    }
    const StatisticsParams& params = totals_.params;
    if (params.ExactGram()) {
      MirrorUpper(params.in_features, totals_.gram.data());
    } else {
      const int64_t width = params.block_width;
      for (int64_t block = 0; block < params.Blocks(); ++block) {
        MirrorUpper(width, totals_.blocks.data() + block * width * width);
      }
    }
    totals_.sample = sampler_.Take();
    return std::move(totals_);
  }

 private:
  // Makes `calibration_row` the open row, or checks that the batch continues it.
  absl::Status Open(int64_t calibration_row, int64_t first_position, DType dtype, int64_t tokens,
                    Executor& executor) {
    if (calibration_row < 0 || calibration_row == std::numeric_limits<int64_t>::max()) {
      return absl::InvalidArgumentError(absl::StrCat(name_, ": calibration row is ",
                                                     calibration_row, "; expected 0 to 2^63 - 2"));
    }
    if (!IsFloat(dtype)) {
      return absl::InvalidArgumentError(
          absl::StrCat(name_, ": activations are ", Name(dtype), "; expected F32, F16 or BF16"));
    }
    if (tokens <= 0) {
      return absl::InvalidArgumentError(
          absl::StrCat(name_, ": batch of ", tokens, " tokens; expected at least 1"));
    }
    const bool continues = open_row_ == calibration_row;
    if (!continues && totals_.rows.Contains(calibration_row)) {
      return absl::FailedPreconditionError(
          absl::StrCat(name_, ": calibration row ", calibration_row,
                       " was counted before; expected each row once, without others in between"));
    }
    const int64_t expected = continues ? row_.next_position() : 0;
    if (first_position != expected) {
      return absl::OutOfRangeError(absl::StrCat(name_, ": batch of calibration row ",
                                                calibration_row, " begins at position ",
                                                first_position, "; expected ", expected));
    }
    if (continues) return absl::OkStatus();
    if (absl::Status status = Close(executor); !status.ok()) return status;
    row_.Begin(calibration_row);
    open_row_ = calibration_row;
    totals_.rows.Insert(calibration_row);
    return absl::OkStatus();
  }

  absl::Status Append(DType dtype, const std::byte* activations, int64_t tokens,
                      Executor& executor) {
    const int64_t first_position = row_.next_position();
    absl::Status status = row_.Append(dtype, activations, tokens, executor);
    if (!status.ok()) return status;
    for (int64_t position = first_position; position < first_position + tokens; ++position) {
      float* sampled = sampler_.Offer(*open_row_, position);
      if (sampled != nullptr) row_.CopyToken(position, sampled);
    }
    totals_.token_count += tokens;
    return absl::OkStatus();
  }

  absl::Status Close(Executor& executor) {
    if (!open_row_.has_value()) return absl::OkStatus();
    open_row_.reset();
    return row_.FoldTile(/*last=*/true, totals_, executor);
  }

  std::string name_;
  Statistics totals_;  // of closed rows, but rows, token_count and signs of the open one too
  OpenRow row_;
  std::optional<int64_t> open_row_;
  TokenSampler sampler_;
  absl::Status failure_;  // the first, which every later call repeats
};

StatisticsAccumulator::StatisticsAccumulator(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
StatisticsAccumulator::StatisticsAccumulator(StatisticsAccumulator&&) noexcept = default;
StatisticsAccumulator& StatisticsAccumulator::operator=(StatisticsAccumulator&&) noexcept = default;
StatisticsAccumulator::~StatisticsAccumulator() = default;

absl::StatusOr<StatisticsAccumulator> StatisticsAccumulator::Create(
    std::string name, const StatisticsParams& params) {
  if (absl::Status status = CheckStatisticsParams(name, params); !status.ok()) return status;
  return StatisticsAccumulator(std::make_unique<Impl>(std::move(name), params));
}

absl::Status StatisticsAccumulator::Fold(int64_t calibration_row, int64_t first_position,
                                         DType dtype, const std::byte* activations, int64_t tokens,
                                         Executor& executor) {
  return impl_->Fold(calibration_row, first_position, dtype, activations, tokens, executor);
}

absl::Status StatisticsAccumulator::Merge(const Statistics& part) { return impl_->Merge(part); }

absl::StatusOr<Statistics> StatisticsAccumulator::Finish(Executor& executor) && {
  return impl_->Finish(executor);
}

int64_t StatisticsAccumulator::MemoryBytes(const StatisticsParams& params) {
  if (!CheckStatisticsParams("", params).ok()) return std::numeric_limits<int64_t>::max();
  const int64_t in_features = params.in_features;
  const int64_t totals =
      in_features * (8 + 8 + 4) +
      (params.ExactGram() ? in_features * in_features * 8
                          : params.Blocks() * params.block_width * params.block_width * 8 +
                                params.sketch_rows * (in_features + 1) * 8);
  // Twice: sorting and merging the sample write a second one.
  const int64_t sample = 2 * params.sample_tokens * (in_features * 4 + 32);
  return OpenRow::MemoryBytes(params) + totals + sample;
}

}  // namespace salient
