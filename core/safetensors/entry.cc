#include "core/safetensors/entry.h"

#include <array>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/strings/str_cat.h"
#include "core/tensor/dtype.h"
#include "core/text/quote.h"

namespace salient {
namespace {

// One entry may say these fields of itself; their order is that of the array form.
constexpr std::array<absl::string_view, 3> kFields = {"dtype", "shape", "data_offsets"};

// This is a dtype of the format that DType lacks.
struct UnreadableDType {
  absl::string_view name;
  uint64_t bits;  // An element has so many.
};
constexpr std::array<UnreadableDType, 9> kUnreadableDTypes = {{{"F4", 4},
                                                               {"F6_E2M3", 6},
                                                               {"F6_E3M2", 6},
                                                               {"F8_E5M2", 8},
                                                               {"F8_E4M3", 8},
                                                               {"F8_E8M0", 8},
                                                               {"F8_E4M3FNUZ", 8},
                                                               {"F8_E5M2FNUZ", 8},
                                                               {"C64", 64}}};

// Returns an integer written without sign, fraction and exponent, that fits int64_t.
std::optional<int64_t> Size(const JsonValue& value) {
  return value.AsUint64() == nullptr ? std::nullopt : value.AsInt64();
}

// Returns product(shape), as the reference computes it: left to right in 64 bits without sign, so
// that a zero rescues only what comes after it.
std::optional<uint64_t> CountElements(const std::vector<int64_t>& shape) {
  uint64_t count = 1;
  for (const int64_t dimension : shape) {
    if (__builtin_mul_overflow(count, static_cast<uint64_t>(dimension), &count)) {
      return std::nullopt;
    }
  }
  return count;
}

// Returns the three fields of an entry, from its object or array form, in the order of kFields.
absl::StatusOr<std::array<const JsonValue*, 3>> FindFields(absl::string_view source,
                                                           absl::string_view name,
                                                           const JsonValue& value) {
  std::array<const JsonValue*, 3> fields = {};
  if (const JsonValue::Array* array = value.AsArray()) {
    if (array->size() != fields.size()) {
      return InvalidTensorEntry(source, name,
                                absl::StrCat("is an array of ", array->size(),
                                             "; expected [dtype, shape, data_offsets]"));
    }
    for (size_t i = 0; i < fields.size(); ++i) fields[i] = &(*array)[i];
    return fields;
  }
  const JsonValue::Object* object = value.AsObject();
  if (object == nullptr) {
    return InvalidTensorEntry(source, name,
                              absl::StrCat("is ", value.Describe(), "; expected an object"));
  }
  for (const auto& [key, field] : *object) {
    const auto known = absl::c_find(kFields, key);
    if (known == kFields.end()) continue;
    const JsonValue*& slot = fields[known - kFields.begin()];
    if (slot != nullptr)
      return InvalidTensorEntry(source, name, absl::StrCat(key, " stands twice"));
    slot = &field;
  }
  for (size_t i = 0; i < fields.size(); ++i) {
    if (fields[i] == nullptr)
      return InvalidTensorEntry(source, name, absl::StrCat(kFields[i], " is missing"));
  }
  return fields;
}

const UnreadableDType* FindUnreadable(const JsonValue& value) {
  if (value.AsString() == nullptr) return nullptr;
  const auto found = absl::c_find_if(kUnreadableDTypes, [&](const UnreadableDType& dtype) {
    return dtype.name == *value.AsString();
  });
  return found == kUnreadableDTypes.end() ? nullptr : &*found;
}

absl::StatusOr<DType> ReadDType(absl::string_view source, absl::string_view name,
                                const JsonValue& value) {
  const std::string* text = value.AsString();
  if (text != nullptr) {
    if (const std::optional<DType> dtype = ParseDType(*text)) return *dtype;
  }
  return InvalidTensorEntry(source, name,
                            absl::StrCat("dtype is ", value.Describe(),
                                         "; expected a dtype of safetensors such as \"F16\""));
}

absl::StatusOr<std::vector<int64_t>> ReadShape(absl::string_view source, absl::string_view name,
                                               const JsonValue& value) {
  const JsonValue::Array* array = value.AsArray();
  if (array == nullptr) {
    return InvalidTensorEntry(
        source, name, absl::StrCat("shape is ", value.Describe(), "; expected an array of sizes"));
  }
  if (static_cast<int64_t>(array->size()) > kMaxSafetensorsRank) {
    return InvalidTensorEntry(source, name,
                              absl::StrCat("shape has ", array->size(),
                                           " dimensions; expected at most ", kMaxSafetensorsRank));
  }
  std::vector<int64_t> shape;
  for (const JsonValue& dimension : *array) {
    const std::optional<int64_t> size = Size(dimension);
    if (!size.has_value()) {
      return InvalidTensorEntry(source, name,
                                absl::StrCat("shape[", shape.size(), "] is ", dimension.Describe(),
                                             "; expected an integer from 0 to 2^63 - 1"));
    }
    shape.push_back(*size);
  }
  return shape;
}

}  // namespace

absl::Status InvalidTensorEntry(absl::string_view source, absl::string_view name,
                                absl::string_view what) {
  return absl::InvalidArgumentError(
      absl::StrCat(source, ": tensor ", QuoteForMessage(name), ": ", what));
}

absl::StatusOr<ReadTensorEntry> ReadSafetensorsEntry(absl::string_view source,
                                                     const std::string& name,
                                                     const JsonValue& value) {
  if (name.empty())
    return InvalidTensorEntry(source, name, "has an empty name; expected at least 1 byte");
  if (static_cast<int64_t>(name.size()) > kMaxSafetensorsNameBytes) {
    return InvalidTensorEntry(source, name,
                              absl::StrCat("name has ", name.size(), " bytes; expected at most ",
                                           kMaxSafetensorsNameBytes));
  }
  const auto fields = FindFields(source, name, value);
  if (!fields.ok()) return fields.status();
  const UnreadableDType* unreadable = FindUnreadable(*(*fields)[0]);
  absl::StatusOr<DType> dtype = DType::kU8;
  if (unreadable == nullptr) dtype = ReadDType(source, name, *(*fields)[0]);
  if (!dtype.ok()) return dtype.status();
  auto shape = ReadShape(source, name, *(*fields)[1]);
  if (!shape.ok()) return shape.status();

  const JsonValue::Array* offsets = (*fields)[2]->AsArray();
  if (offsets == nullptr || offsets->size() != 2) {
    return InvalidTensorEntry(
        source, name,
        absl::StrCat("data_offsets is ", (*fields)[2]->Describe(), "; expected an array of 2"));
  }
  const std::optional<int64_t> begin = Size((*offsets)[0]);
  const std::optional<int64_t> end = Size((*offsets)[1]);
  if (!begin.has_value() || !end.has_value() || *begin > *end) {
    return InvalidTensorEntry(
        source, name,
        absl::StrCat("data_offsets is [", (*offsets)[0].Describe(), ", ", (*offsets)[1].Describe(),
                     "]; expected integers 0 <= begin <= end < 2^63"));
  }

  const std::optional<uint64_t> elements = CountElements(*shape);
  const absl::string_view dtype_name = unreadable == nullptr ? Name(*dtype) : unreadable->name;
  uint64_t bytes = 0;
  if (unreadable != nullptr && unreadable->bits % 8 != 0) {
    uint64_t bits = 0;
    if (!elements.has_value() || __builtin_mul_overflow(*elements, unreadable->bits, &bits) ||
        bits % 8 != 0) {
      return InvalidTensorEntry(
          source, name, absl::StrCat("shape has no whole number of bytes for dtype ", dtype_name));
    }
    bytes = bits / 8;
  } else {
    const uint64_t element_bytes =
        unreadable == nullptr ? static_cast<uint64_t>(SizeOf(*dtype)) : unreadable->bits / 8;
    if (!elements.has_value() || __builtin_mul_overflow(*elements, element_bytes, &bytes)) {
      return InvalidTensorEntry(source, name, "shape has more than 2^64 bytes");
    }
  }
  if (bytes != static_cast<uint64_t>(*end - *begin)) {
    return InvalidTensorEntry(source, name,
                              absl::StrCat("data_offsets span ", *end - *begin, " bytes; expected ",
                                           bytes, " for its shape and ", dtype_name));
  }
  ReadTensorEntry read{{name, *dtype, *std::move(shape), *begin, *end}, std::nullopt};
  if (unreadable != nullptr) read.unreadable = std::string(unreadable->name);
  return read;
}

}  // namespace salient
