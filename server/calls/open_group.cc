#include "server/calls/open_group.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "core/statistics/statistics_file.h"
#include "core/tensor/dtype.h"
#include "core/tensor/half.h"
#include "core/tensor/non_finite.h"
#include "core/tensor/weight_view.h"
#include "proto/wire/crc32c.h"
#include "server/calls/group_check.h"
#include "server/error/call_error.h"

namespace salient {
namespace {

absl::Status CheckSize(absl::string_view owner, absl::string_view field, size_t size) {
  if (static_cast<int64_t>(size) <= kMaxChunkBytes) return absl::OkStatus();
  return WithField(
      InvalidCall(Reason::kChunkTooLarge,
                  absl::StrCat(owner, ": ", size, " bytes in one message; expected at most ",
                               kMaxChunkBytes)),
      field);
}

absl::Status CheckCrc(absl::string_view owner, absl::string_view data,
                      std::optional<uint32_t> expected) {
  if (!expected.has_value()) return absl::OkStatus();
  const uint32_t actual = Crc32c(data);
  if (actual == *expected) return absl::OkStatus();
  return CallError(absl::StatusCode::kDataLoss, Reason::kChunkCrc,
                   absl::StrFormat("%s: the crc32c of the data is 0x%08x; expected 0x%08x", owner,
                                   actual, *expected));
}

// Size, place and checksum of a chunk, in that order; on success the cursor has moved.
absl::Status TakeChunk(absl::string_view owner, absl::string_view field, const ChunkData& chunk,
                       ChunkCursor& cursor) {
  absl::Status status = CheckSize(owner, absl::StrCat(field, ".data"), chunk.data.size());
  if (!status.ok()) return status;
  const int64_t expected = cursor.next_offset();
  status = cursor.Take(owner, {chunk.offset_bytes, static_cast<int64_t>(chunk.data.size())});
  if (absl::IsOutOfRange(status)) {
    status = WithReason(std::move(status), Reason::kOffset);
    status = WithMetadata(std::move(status), "expected_offset_bytes", absl::StrCat(expected));
    return WithField(std::move(status), absl::StrCat(field, ".offset_bytes"));
  }
  if (!status.ok()) {
    return WithField(WithReason(std::move(status), Reason::kBadShape),
                     absl::StrCat(field, ".data"));
  }
  return CheckCrc(absl::StrCat(owner, ", chunk at offset ", chunk.offset_bytes), chunk.data,
                  chunk.crc32c);
}

}  // namespace

absl::StatusOr<GroupResult> ClosedGroup::Quantize(const CallOptions& options,
                                                  Executor& executor) const {
  GroupInput input;
  input.name = spec.name;
  for (size_t i = 0; i < spec.linears.size(); ++i) {
    const LinearSpec& linear = spec.linears[i];
    input.linears.push_back(
        {linear.name, {linear.dtype, weights[i].get(), linear.out_features, spec.in_features}});
  }
  input.statistics = &statistics;
  input.tied_heads = spec.tied_heads;
  absl::StatusOr<GroupResult> result =
      QuantizeGroup(input, options.method, options.stored, executor);
  if (result.ok()) return result;
  // Shapes and options were checked with the header: what is left is a loss that is not finite.
  absl::Status status = result.status();
  if (absl::IsInvalidArgument(status)) status = WithReason(std::move(status), Reason::kNonFinite);
  return WithMetadata(std::move(status), "group", spec.name);
}

absl::StatusOr<OpenGroup> OpenGroup::Create(GroupSpec spec, const CallOptions& options) {
  absl::StatusOr<GroupCalibration> calibration =
      GroupCalibration::Create(spec.name, StatisticsParamsOf(spec, options));
  if (!calibration.ok()) return calibration.status();
  return OpenGroup(std::move(spec), *std::move(calibration));
}

OpenGroup::OpenGroup(GroupSpec spec, GroupCalibration calibration)
    : spec_(std::move(spec)), calibration_(std::move(calibration)) {
  for (const LinearSpec& linear : spec_.linears) {
    const int64_t bytes = linear.out_features * spec_.in_features * SizeOf(linear.dtype);
    // Not zeroed: a page costs memory only when its bytes arrive.
    weights_.push_back({absl::StrCat(linear.name, ".weight"), ChunkCursor(bytes), 0,
                        std::make_unique_for_overwrite<std::byte[]>(static_cast<size_t>(bytes))});
  }
}

absl::Status OpenGroup::AddWeight(const WeightData& message) {
  if (message.linear_index < 0 || message.linear_index >= static_cast<int64_t>(weights_.size())) {
    return WithField(
        InvalidCall(Reason::kBadHeader,
                    absl::StrCat("group ", spec_.name, ": linear_index is ", message.linear_index,
                                 "; expected 0 to ", weights_.size() - 1)),
        "weight.linear_index");
  }
  Weight& weight = weights_[message.linear_index];
  absl::Status status = TakeChunk(weight.tensor, "weight.chunk", message.chunk, weight.cursor);
  if (status.ok()) {
    std::memcpy(weight.data.get() + message.chunk.offset_bytes, message.chunk.data.data(),
                message.chunk.data.size());
    status = CheckFiniteSoFar(spec_.linears[message.linear_index], weight);
  }
  return WithMetadata(WithMetadata(std::move(status), "tensor", weight.tensor), "group",
                      spec_.name);
}

// A chunk may end inside an element: it is checked when its last byte is there.
absl::Status OpenGroup::CheckFiniteSoFar(const LinearSpec& linear, Weight& weight) const {
  constexpr int64_t kTile = 4096;
  const int64_t size = SizeOf(linear.dtype);
  const int64_t end = weight.cursor.next_offset() / size;
  float values[kTile];
  while (weight.finite_elements < end) {
    const int64_t begin = weight.finite_elements;
    const int64_t count = std::min(kTile, end - begin);
    WidenToF32(linear.dtype, weight.data.get() + begin * size, count, values);
    if (const std::optional<int64_t> i = FirstNonFinite(values, count); i.has_value()) {
      const int64_t element = begin + *i;
      return InvalidCall(Reason::kNonFinite,
                         absl::StrCat(weight.tensor, ": element [", element / spec_.in_features,
                                      ", ", element % spec_.in_features, "] is ", values[*i],
                                      "; expected a finite value"));
    }
    weight.finite_elements += count;
  }
  return absl::OkStatus();
}

absl::StatusOr<int64_t> OpenGroup::AddActivations(const ActivationData& batch, Executor& executor) {
  const std::string owner =
      absl::StrCat("group ", spec_.name, ": activations of row ", batch.calibration_row,
                   " at position ", batch.first_position);
  if (!spec_.activation_dtype.has_value()) {
    return WithField(InvalidCall(Reason::kBadHeader,
                                 absl::StrCat("group ", spec_.name,
                                              ": activation_dtype is not set; expected F32, F16 or "
                                              "BF16, because activations came")),
                     "group.activation_dtype");
  }
  absl::Status status = CheckSize(owner, "activations.data", batch.data.size());
  if (!status.ok()) return status;
  const int64_t row_bytes = spec_.in_features * SizeOf(*spec_.activation_dtype);
  const int64_t bytes = static_cast<int64_t>(batch.data.size());
  if (bytes == 0 || bytes % row_bytes != 0) {
    return WithField(
        InvalidCall(Reason::kBadShape,
                    absl::StrCat(owner, ": ", bytes, " bytes; expected a multiple of ", row_bytes,
                                 ", in_features ", spec_.in_features, " of ",
                                 Name(*spec_.activation_dtype), ", at least one token")),
        "activations.data");
  }
  if (batch.calibration_row < 0) {
    return WithField(InvalidCall(Reason::kBadShape,
                                 absl::StrCat("group ", spec_.name, ": calibration_row is ",
                                              batch.calibration_row, "; expected at least 0")),
                     "activations.calibration_row");
  }
  if (batch.first_position < 0) {
    return WithField(CallError(absl::StatusCode::kOutOfRange, Reason::kPosition,
                               absl::StrCat("group ", spec_.name, ": first_position is ",
                                            batch.first_position, "; expected at least 0")),
                     "activations.first_position");
  }
  if (status = CheckCrc(owner, batch.data, batch.crc32c); !status.ok()) return status;

  const int64_t tokens = bytes / row_bytes;
  status =
      calibration_.Fold(batch.calibration_row, batch.first_position, *spec_.activation_dtype,
                        reinterpret_cast<const std::byte*>(batch.data.data()), tokens, executor);
  if (!status.ok()) {
    if (DetailsOf(status).reason == Reason::kPosition) {
      status = WithField(std::move(status), "activations.first_position");
    }
    return WithMetadata(std::move(status), "group", spec_.name);
  }
  return tokens;
}

std::string OpenGroup::StatisticsName() const {
  return absl::StrCat("group ", spec_.name, ": statistics file");
}

absl::StatusOr<int64_t> OpenGroup::StatisticsMemoryBytes(const StatisticsData& part,
                                                         const CallLimits& limits) const {
  if (file_.has_value()) return 0;
  if (part.total_bytes < 1) {
    return WithField(
        InvalidCall(Reason::kBadShape, absl::StrCat(StatisticsName(), ": total_bytes is ",
                                                    part.total_bytes, "; expected at least 1")),
        "statistics.total_bytes");
  }
  int64_t bytes = 0;
  if (__builtin_add_overflow(part.total_bytes, calibration_.MergeBytes(part.total_bytes), &bytes) ||
      bytes > limits.call_memory_bytes) {
    return WithField(TooMuchMemory(StatisticsName(), part.total_bytes, limits.call_memory_bytes),
                     "statistics.total_bytes");
  }
  return bytes;
}

absl::StatusOr<bool> OpenGroup::AddStatistics(const StatisticsData& part) {
  if (!file_.has_value()) file_.emplace(StatisticsFile{ChunkCursor(part.total_bytes), {}});
  if (part.total_bytes != file_->cursor.total_bytes()) {
    return WithField(
        InvalidCall(
            Reason::kBadShape,
            absl::StrCat(StatisticsName(), ": total_bytes is ", part.total_bytes, "; expected ",
                         file_->cursor.total_bytes(), " as in the file's first chunk")),
        "statistics.total_bytes");
  }
  absl::Status status = TakeChunk(StatisticsName(), "statistics.chunk", part.chunk, file_->cursor);
  if (!status.ok()) return WithMetadata(std::move(status), "group", spec_.name);
  const auto* data = reinterpret_cast<const std::byte*>(part.chunk.data.data());
  file_->bytes.insert(file_->bytes.end(), data, data + part.chunk.data.size());
  if (!file_->cursor.complete()) return false;
  if (status = MergeStatisticsFile(); !status.ok()) {
    return WithMetadata(std::move(status), "group", spec_.name);
  }
  file_.reset();
  return true;
}

absl::Status OpenGroup::MergeStatisticsFile() {
  absl::StatusOr<Statistics> statistics = ParseStatistics(StatisticsName(), file_->bytes);
  if (!statistics.ok()) return WithReason(statistics.status(), Reason::kStatistics);
  file_->bytes = {};
  return calibration_.Merge(StatisticsName(), *std::move(statistics));
}

absl::StatusOr<ClosedGroup> OpenGroup::Close(Executor& executor) && {
  for (const Weight& weight : weights_) {
    if (weight.cursor.complete()) continue;
    return WithMetadata(
        WithMetadata(InvalidCall(Reason::kMissingBytes,
                                 absl::StrCat(weight.tensor, ": ", weight.cursor.next_offset(),
                                              " bytes came before end_group; expected ",
                                              weight.cursor.total_bytes())),
                     "tensor", weight.tensor),
        "group", spec_.name);
  }
  if (file_.has_value()) {
    return WithMetadata(
        InvalidCall(
            Reason::kMissingBytes,
            absl::StrCat(StatisticsName(), ": ", file_->cursor.next_offset(),
                         " bytes came before end_group; expected ", file_->cursor.total_bytes())),
        "group", spec_.name);
  }
  if (!calibration_.has_tokens()) {
    return WithMetadata(
        InvalidCall(Reason::kNoTokens, absl::StrCat("group ", spec_.name,
                                                    ": no calibration token came before end_group; "
                                                    "expected activations or statistics")),
        "group", spec_.name);
  }
  absl::StatusOr<Statistics> statistics = std::move(calibration_).Finish(executor);
  if (!statistics.ok()) return WithMetadata(statistics.status(), "group", spec_.name);
  ClosedGroup closed;
  closed.spec = std::move(spec_);
  for (Weight& weight : weights_) closed.weights.push_back(std::move(weight.data));
  closed.statistics = *std::move(statistics);
  return closed;
}

}  // namespace salient
