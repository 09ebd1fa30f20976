#include "core/salient_source.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/linalg/tiles.h"
#include "core/method/salient_fp16.h"
#include "core/tensor/weight_view.h"

namespace salient {
namespace {

struct RoundedWeight {
  DType stored = DType::kF32;
  TensorEntry entry;  // as it is shown
  std::vector<int64_t> kept;
};

using RoundedWeights = std::map<std::string, RoundedWeight, std::less<>>;

class RoundedSource final : public TensorSource {
 public:
  RoundedSource(const TensorSource& source, const WeightFormat& format, RoundedWeights weights)
      : source_(source), format_(format), weights_(std::move(weights)) {}

  const std::string& name() const override { return source_.name(); }

  absl::StatusOr<TensorLocation> Find(absl::string_view tensor) const override {
    absl::StatusOr<TensorLocation> found = source_.Find(tensor);
    const auto weight = weights_.find(tensor);
    if (found.ok() && weight != weights_.end()) found->entry = &weight->second.entry;
    return found;
  }

  bool IsHere(absl::string_view tensor) const override { return source_.IsHere(tensor); }

  absl::Status ReadRange(absl::string_view tensor, int64_t offset,
                         absl::Span<std::byte> bytes) const override {
    const auto found = weights_.find(tensor);
    if (found == weights_.end()) return source_.ReadRange(tensor, offset, bytes);
    const TensorEntry& entry = found->second.entry;
    const auto size = static_cast<int64_t>(bytes.size());
    if (offset < 0 || offset > entry.SizeBytes() - size) {
      return absl::OutOfRangeError(absl::StrCat(source_.name(), ": tensor ", tensor, " has ",
                                                entry.SizeBytes(), " bytes; ", size,
                                                " were asked for from byte ", offset));
    }
    if (size == 0) return absl::OkStatus();
    const int64_t row_bytes = entry.shape[1] * SizeOf(DType::kF32);
    const int64_t end = offset + size;
    const int64_t last = (end + row_bytes - 1) / row_bytes;
    for (int64_t row = offset / row_bytes; row < last; row += kRowTile) {
      const absl::StatusOr<Matrix> rows = Round(found->second, row, std::min(kRowTile, last - row));
      if (!rows.ok()) return rows.status();
      const int64_t first = row * row_bytes;  // of these rows
      const int64_t begin = std::max(offset, first);
      const int64_t stop = std::min(end, first + rows->rows() * row_bytes);
      std::memcpy(bytes.data() + (begin - offset),
                  reinterpret_cast<const std::byte*>(rows->data()) + (begin - first),
                  static_cast<size_t>(stop - begin));
    }
    return absl::OkStatus();
  }

 private:
  absl::StatusOr<Matrix> Round(const RoundedWeight& weight, int64_t first, int64_t count) const {
    const std::string& name = weight.entry.name;
    const int64_t columns = weight.entry.shape[1];
    const int64_t row_bytes = columns * SizeOf(weight.stored);
    std::vector<std::byte> stored(static_cast<size_t>(count * row_bytes));
    absl::Status status = source_.ReadRange(name, first * row_bytes, absl::MakeSpan(stored));
    if (!status.ok()) return status;
    const WeightView view = {weight.stored, stored.data(), count, columns};
    // Rounding would make a number of what is none.
    std::vector<float> row(static_cast<size_t>(columns));
    for (int64_t i = 0; i < count; ++i) {
      view.ReadRows(i, 1, row.data());
      status = CheckFinite(name, row.data(), 1, columns, first + i);
      if (!status.ok()) return status;
    }
    absl::StatusOr<Matrix> rounded = RoundSalientFp16(view, weight.kept, format_);
    if (rounded.ok()) return rounded;
    return absl::Status(rounded.status().code(), absl::StrCat(name, ", from row ", first,
                                                              " on: ", rounded.status().message()));
  }

  const TensorSource& source_;
  const WeightFormat format_;
  const RoundedWeights weights_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<TensorSource>> SalientFp16Source(const TensorSource& source,
                                                                const WeightFormat& format,
                                                                KeptChannels kept) {
  RoundedWeights weights;
  for (auto& [name, channels] : kept) {
    const absl::StatusOr<TensorLocation> found = source.Find(name);
    if (!found.ok()) return found.status();
    const TensorEntry& entry = *found->entry;
    if (entry.shape.size() != 2 || !IsFloat(entry.dtype)) {
      return absl::InvalidArgumentError(
          absl::StrCat(found->file, ": tensor \"", name, "\" is ", Name(entry.dtype), " of ",
                       entry.shape.size(), " dimensions; expected a matrix of F32, F16 or BF16"));
    }
    RoundedWeight weight{entry.dtype, entry, std::move(channels)};
    weight.entry.dtype = DType::kF32;
    weight.entry.end = weight.entry.begin + entry.shape[0] * entry.shape[1] * SizeOf(DType::kF32);
    weights.emplace(name, std::move(weight));
  }
  return std::make_unique<RoundedSource>(source, format, std::move(weights));
}

}  // namespace salient
