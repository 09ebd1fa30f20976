#include "core/source/decoded_source.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/model/block_plan.h"
#include "core/tensor/dtype.h"

namespace salient {

DecodedSource::Weight::Weight(std::string path, const LinearShape& linear)
    : module(std::move(path)),
      shape(linear),
      entry{absl::StrCat(module, ".weight"),
            DType::kF32,
            {shape.out_features, shape.in_features},
            0,
            shape.out_features * shape.in_features * SizeOf(DType::kF32)} {}

DecodedSource::DecodedSource(const TensorSource& source, std::vector<Weight> weights)
    : source_(source) {
  for (Weight& weight : weights) {
    std::string name = weight.entry.name;
    weights_.emplace(std::move(name), std::move(weight));
  }
}

std::vector<DecodedSource::Weight> DecodedSource::AllLinears(const Model& model) {
  std::vector<Weight> weights;
  for (const BlockPlan& block : model.blocks) {
    for (const LinearPlan& linear : block.linears) weights.emplace_back(linear.name, linear.shape);
  }
  return weights;
}

absl::StatusOr<TensorLocation> DecodedSource::Find(absl::string_view tensor) const {
  const auto found = weights_.find(tensor);
  if (found == weights_.end()) return source_.Find(tensor);
  const Weight& weight = found->second;
  absl::StatusOr<absl::string_view> file = Replaces(weight);
  if (!file.ok()) return file.status();
  if (file->empty()) return source_.Find(tensor);
  return TensorLocation{*file, &weight.entry};
}

absl::Status DecodedSource::ReadRange(absl::string_view tensor, int64_t offset,
                                      absl::Span<std::byte> bytes) const {
  const auto found = weights_.find(tensor);
  if (found == weights_.end()) return source_.ReadRange(tensor, offset, bytes);
  const Weight& weight = found->second;
  absl::StatusOr<absl::string_view> file = Replaces(weight);
  if (!file.ok()) return file.status();
  if (file->empty()) return source_.ReadRange(tensor, offset, bytes);
  const int64_t size = static_cast<int64_t>(bytes.size());
  if (offset < 0 || offset > weight.entry.SizeBytes() - size) {
    return absl::OutOfRangeError(absl::StrCat(*file, ": tensor ", tensor, " has ",
                                              weight.entry.SizeBytes(), " bytes; ", size,
                                              " were asked for from byte ", offset));
  }
  if (size == 0) return absl::OkStatus();
  const int64_t row_bytes = weight.shape.in_features * SizeOf(DType::kF32);
  const int64_t end = offset + size;
  const int64_t first = offset / row_bytes;
  const int64_t last = (end + row_bytes - 1) / row_bytes;
  int64_t at = first * row_bytes;
  return Decode(weight, first, last - first, [&](const float* row) {
    const int64_t begin = std::max(offset, at);
    const int64_t stop = std::min(end, at + row_bytes);
    std::memcpy(bytes.data() + (begin - offset),
                reinterpret_cast<const std::byte*>(row) + (begin - at),
                static_cast<size_t>(stop - begin));
    at += row_bytes;
  });
}

absl::StatusOr<absl::string_view> RoundedSource::Replaces(const Weight& weight) const {
  const auto found = source().Find(weight.entry.name);
  if (!found.ok()) return found.status();
  const bool expected = found->entry->shape == weight.entry.shape && IsFloat(found->entry->dtype);
  return expected ? found->file : "";
}

absl::StatusOr<RoundedSource::StoredRows> RoundedSource::ReadRows(const Weight& weight,
                                                                  int64_t first,
                                                                  int64_t count) const {
  const std::string& name = weight.entry.name;
  const auto found = source().Find(name);
  if (!found.ok()) return found.status();
  StoredRows rows{found->entry->dtype, count, weight.shape.in_features, {}};
  const int64_t row_bytes = rows.in_features * SizeOf(rows.dtype);
  rows.bytes.resize(static_cast<size_t>(count * row_bytes));
  absl::Status status = source().ReadRange(name, first * row_bytes, absl::MakeSpan(rows.bytes));
  if (!status.ok()) return status;
  const WeightView view = rows.View();
  std::vector<float> row(static_cast<size_t>(rows.in_features));
  for (int64_t i = 0; i < count; ++i) {
    view.ReadRows(i, 1, row.data());
    status = CheckFinite(name, row.data(), 1, rows.in_features, first + i);
    if (!status.ok()) return status;
  }
  return rows;
}

absl::Status RoundedSource::InRows(const Weight& weight, int64_t first,
                                   const absl::Status& status) {
  return absl::Status(status.code(), absl::StrCat(weight.entry.name, ", from row ", first,
                                                  " on: ", status.message()));
}

}  // namespace salient
