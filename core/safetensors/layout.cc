#include "core/safetensors/layout.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/config/json.h"
#include "core/safetensors/safetensors.h"
#include "core/text/quote.h"

namespace salient {
namespace {

JsonValue MetadataJson(std::map<std::string, std::string> metadata) {
  metadata.insert_or_assign("format", "pt");
  JsonValue::Object object;
  for (const auto& [name, text] : metadata) object.emplace_back(name, JsonValue(text));
  return JsonValue(std::move(object));
}

JsonValue PlaceJson(const SafetensorsLayout::Place& place) {
  JsonValue::Array shape;
  for (const int64_t dimension : place.tensor.shape) shape.push_back(JsonValue::Integer(dimension));
  return JsonValue(JsonValue::Object{
      {"dtype", JsonValue(std::string(Name(place.tensor.dtype)))},
      {"shape", JsonValue(std::move(shape))},
      {"data_offsets", JsonValue(JsonValue::Array{JsonValue::Integer(place.begin),
                                                  JsonValue::Integer(place.end)})}});
}

}  // namespace

int64_t TensorShape::SizeBytes() const {
  int64_t bytes = SizeOf(dtype);
  for (const int64_t dimension : shape) {
    if (dimension < 0 || __builtin_mul_overflow(bytes, dimension, &bytes)) return 0;
  }
  return bytes;
}

absl::StatusOr<SafetensorsLayout> LayOutSafetensors(
    absl::string_view source, absl::Span<const TensorShape> tensors,
    const std::map<std::string, std::string>& metadata) {
  SafetensorsLayout layout;
  for (const TensorShape& tensor : tensors) layout.places.push_back({tensor, 0, 0});
  std::sort(layout.places.begin(), layout.places.end(),
            [](const SafetensorsLayout::Place& a, const SafetensorsLayout::Place& b) {
              const DType a_dtype = a.tensor.dtype;
              const DType b_dtype = b.tensor.dtype;
              return a_dtype != b_dtype ? a_dtype > b_dtype : a.tensor.name < b.tensor.name;
            });

  // Positions count from the end of the header until its length is known.
  JsonValue::Object header{{"__metadata__", MetadataJson(metadata)}};
  int64_t position = 0;
  for (SafetensorsLayout::Place& place : layout.places) {
    const TensorShape& tensor = place.tensor;
    place.begin = position;
    if (__builtin_add_overflow(position, tensor.SizeBytes(), &position)) {
      return absl::InvalidArgumentError(absl::StrCat(
          source, ": tensor ", QuoteForMessage(tensor.name), " ends beyond 2^63 bytes"));
    }
    place.end = position;
    header.emplace_back(tensor.name, PlaceJson(place));
  }
  std::string json = JsonText(JsonValue(std::move(header)), JsonLayout::kDense);
  json.resize((json.size() + 7) / 8 * 8, ' ');

  // Our own reader judges names, shapes, sizes, limits and UTF-8: what is written can be read.
  const auto readable = ParseSafetensorsHeader(source, json, position);
  if (!readable.ok()) return readable.status();

  for (int i = 0; i < 8; ++i) layout.head += static_cast<char>(json.size() >> (8 * i) & 0xFF);
  layout.head += json;
  const auto head_bytes = static_cast<int64_t>(layout.head.size());
  for (SafetensorsLayout::Place& place : layout.places) {
    place.begin += head_bytes;
    place.end += head_bytes;
  }
  layout.file_bytes = head_bytes + position;
  return layout;
}

}  // namespace salient
