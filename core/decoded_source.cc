#include "core/decoded_source.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

namespace salient {

DecodedSource::DecodedSource(const TensorSource& source, const Family& family,
                             const ModelConfig& config)
    : source_(source) {
  for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    for (size_t i = 0; i < kLinearRoles; ++i) {
      const auto role = static_cast<LinearRole>(i);
      const LinearShape shape = ShapeOf(family, config, role);
      const std::string module = LinearName(family, layer, role);
      TensorEntry entry{absl::StrCat(module, ".weight"),
                        DType::kF32,
                        {shape.out_features, shape.in_features},
                        0,
                        shape.out_features * shape.in_features * SizeOf(DType::kF32)};
      const std::string name = entry.name;
      weights_.emplace(name, Weight{module, role, std::move(entry)});
    }
  }
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
  const int64_t row_bytes = weight.in_features() * SizeOf(DType::kF32);
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

}  // namespace salient
