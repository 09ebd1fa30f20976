#include <algorithm>
#include <array>
#include <limits>
#include <optional>

#include "absl/algorithm/container.h"
#include "absl/strings/str_cat.h"
#include "core/checkpoint/json.h"
#include "core/checkpoint/safetensors.h"

namespace salient {
namespace {

// What one entry may say about itself; the order is that of the array form.
constexpr std::array<absl::string_view, 3> kFields = {"dtype", "shape", "data_offsets"};

// The format's dtypes that DType lacks.
constexpr std::array<absl::string_view, 9> kUnsupportedDTypes = {
    "F4",      "F6_E2M3",     "F6_E3M2",     "F8_E5M2", "F8_E4M3",
    "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "C64"};

absl::Status InvalidHeader(absl::string_view source, absl::string_view name,
                           absl::string_view what) {
  return absl::InvalidArgumentError(
      absl::StrCat(source, ": tensor ", QuoteForMessage(name), ": ", what));
}

// An integer written without sign, fraction and exponent, that fits int64_t.
std::optional<int64_t> Size(const JsonValue& value) {
  return value.AsUint64() == nullptr ? std::nullopt : value.AsInt64();
}

// product(shape), as the reference computes it: left to right in 64 bits without sign, so
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

// The three fields of an entry, from its object or array form, in the order of kFields.
absl::StatusOr<std::array<const JsonValue*, 3>> FindFields(absl::string_view source,
                                                           absl::string_view name,
                                                           const JsonValue& value) {
  std::array<const JsonValue*, 3> fields = {};
  if (const JsonValue::Array* array = value.AsArray()) {
    if (array->size() != fields.size()) {
      return InvalidHeader(source, name,
                           absl::StrCat("is an array of ", array->size(),
                                        "; expected [dtype, shape, data_offsets]"));
    }
    for (size_t i = 0; i < fields.size(); ++i) fields[i] = &(*array)[i];
    return fields;
  }
  const JsonValue::Object* object = value.AsObject();
  if (object == nullptr) {
    return InvalidHeader(source, name,
                         absl::StrCat("is ", value.Describe(), "; expected an object"));
  }
  for (const auto& [key, field] : *object) {
    const auto known = absl::c_find(kFields, key);
    if (known == kFields.end()) continue;
    const JsonValue*& slot = fields[known - kFields.begin()];
    if (slot != nullptr) return InvalidHeader(source, name, absl::StrCat(key, " stands twice"));
    slot = &field;
  }
  for (size_t i = 0; i < fields.size(); ++i) {
    if (fields[i] == nullptr)
      return InvalidHeader(source, name, absl::StrCat(kFields[i], " is missing"));
  }
  return fields;
}

absl::StatusOr<DType> ReadDType(absl::string_view source, absl::string_view name,
                                const JsonValue& value) {
  const std::string* text = value.AsString();
  if (text != nullptr) {
    if (const std::optional<DType> dtype = ParseDType(*text)) return *dtype;
    if (absl::c_linear_search(kUnsupportedDTypes, *text)) {
      return InvalidHeader(source, name,
                           absl::StrCat("dtype ", *text,
                                        " is not supported; expected a method of "
                                        "quantization that stores integers, or none"));
    }
  }
  return InvalidHeader(source, name,
                       absl::StrCat("dtype is ", value.Describe(),
                                    "; expected a dtype of safetensors such as \"F16\""));
}

absl::StatusOr<std::vector<int64_t>> ReadShape(absl::string_view source, absl::string_view name,
                                               const JsonValue& value) {
  const JsonValue::Array* array = value.AsArray();
  if (array == nullptr) {
    return InvalidHeader(
        source, name, absl::StrCat("shape is ", value.Describe(), "; expected an array of sizes"));
  }
  if (static_cast<int64_t>(array->size()) > kMaxSafetensorsRank) {
    return InvalidHeader(source, name,
                         absl::StrCat("shape has ", array->size(), " dimensions; expected at most ",
                                      kMaxSafetensorsRank));
  }
  std::vector<int64_t> shape;
  for (const JsonValue& dimension : *array) {
    const std::optional<int64_t> size = Size(dimension);
    if (!size.has_value()) {
      return InvalidHeader(source, name,
                           absl::StrCat("shape[", shape.size(), "] is ", dimension.Describe(),
                                        "; expected an integer from 0 to 2^63 - 1"));
    }
    shape.push_back(*size);
  }
  return shape;
}

absl::StatusOr<TensorEntry> ReadEntry(absl::string_view source, const std::string& name,
                                      const JsonValue& value) {
  if (name.empty())
    return InvalidHeader(source, name, "has an empty name; expected at least 1 byte");
  if (static_cast<int64_t>(name.size()) > kMaxSafetensorsNameBytes) {
    return InvalidHeader(source, name,
                         absl::StrCat("name has ", name.size(), " bytes; expected at most ",
                                      kMaxSafetensorsNameBytes));
  }
  const auto fields = FindFields(source, name, value);
  if (!fields.ok()) return fields.status();
  const auto dtype = ReadDType(source, name, *(*fields)[0]);
  if (!dtype.ok()) return dtype.status();
  auto shape = ReadShape(source, name, *(*fields)[1]);
  if (!shape.ok()) return shape.status();

  const JsonValue::Array* offsets = (*fields)[2]->AsArray();
  if (offsets == nullptr || offsets->size() != 2) {
    return InvalidHeader(
        source, name,
        absl::StrCat("data_offsets is ", (*fields)[2]->Describe(), "; expected an array of 2"));
  }
  const std::optional<int64_t> begin = Size((*offsets)[0]);
  const std::optional<int64_t> end = Size((*offsets)[1]);
  if (!begin.has_value() || !end.has_value() || *begin > *end) {
    return InvalidHeader(
        source, name,
        absl::StrCat("data_offsets is [", (*offsets)[0].Describe(), ", ", (*offsets)[1].Describe(),
                     "]; expected integers 0 <= begin <= end < 2^63"));
  }

  const std::optional<uint64_t> elements = CountElements(*shape);
  uint64_t bytes = 0;
  if (!elements.has_value() ||
      __builtin_mul_overflow(*elements, static_cast<uint64_t>(SizeOf(*dtype)), &bytes)) {
    return InvalidHeader(source, name, "shape has more than 2^64 bytes");
  }
  if (bytes != static_cast<uint64_t>(*end - *begin)) {
    return InvalidHeader(source, name,
                         absl::StrCat("data_offsets span ", *end - *begin, " bytes; expected ",
                                      bytes, " for its shape and ", Name(*dtype)));
  }
  return TensorEntry{name, *dtype, *std::move(shape), *begin, *end};
}

absl::StatusOr<std::map<std::string, std::string>> ReadMetadata(absl::string_view source,
                                                                const JsonValue& value) {
  std::map<std::string, std::string> metadata;
  if (value.IsNull()) return metadata;
  const JsonValue::Object* object = value.AsObject();
  if (object == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat(source, ": __metadata__ is ", value.Describe(),
                                                   "; expected an object of strings"));
  }
  for (const auto& [key, item] : *object) {
    const std::string* text = item.AsString();
    if (text == nullptr) {
      return absl::InvalidArgumentError(absl::StrCat(source, ": __metadata__[",
                                                     QuoteForMessage(key), "] is ", item.Describe(),
                                                     "; expected a string"));
    }
    metadata.insert_or_assign(key, *text);
  }
  return metadata;
}

// The tensors, sorted, must tile [0, data_bytes).
absl::Status CheckTiling(absl::string_view source, const std::vector<TensorEntry>& tensors,
                         int64_t data_bytes) {
  int64_t position = 0;
  for (const TensorEntry& tensor : tensors) {
    if (tensor.begin != position) {
      return InvalidHeader(source, tensor.name,
                           absl::StrCat("data_offsets begin at ", tensor.begin, "; expected ",
                                        position, ", where the tensor before it ends"));
    }
    position = tensor.end;
  }
  if (position == data_bytes) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(source, ": ", data_bytes,
                                                 " bytes follow the header; expected ", position,
                                                 ", the end of the last tensor"));
}

}  // namespace

const TensorEntry* SafetensorsHeader::Find(absl::string_view name) const {
  const auto found = absl::c_lower_bound(
      by_name_, name, [this](size_t i, absl::string_view key) { return tensors_[i].name < key; });
  if (found == by_name_.end() || tensors_[*found].name != name) return nullptr;
  return &tensors_[*found];
}

absl::StatusOr<const TensorEntry*> SafetensorsHeader::Get(absl::string_view name) const {
  if (const TensorEntry* entry = Find(name)) return entry;
  return absl::NotFoundError(absl::StrCat(source_, ": tensor ", QuoteForMessage(name),
                                          " is missing; the file has ", tensors_.size(),
                                          " tensors"));
}

absl::StatusOr<SafetensorsHeader> ParseSafetensorsHeader(absl::string_view source,
                                                         absl::string_view json,
                                                         int64_t data_bytes) {
  if (static_cast<int64_t>(json.size()) > kMaxSafetensorsHeaderBytes) {
    return absl::InvalidArgumentError(absl::StrCat(source, ": header has ", json.size(),
                                                   " bytes; expected at most ",
                                                   kMaxSafetensorsHeaderBytes));
  }
  // Deep enough for what the reference accepts, and values for every tensor we accept.
  const JsonLimits limits = {/*max_depth=*/127, /*max_values=*/16 * kMaxSafetensorsTensors,
                             /*reject_duplicate_keys=*/false};
  const auto root = ParseJson(absl::StrCat(source, ": header"), json, limits);
  if (!root.ok()) return root.status();
  const JsonValue::Object* object = root->AsObject();
  if (object == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat(source, ": header is ", root->Describe(), "; expected an object"));
  }

  SafetensorsHeader header;
  header.source_ = std::string(source);
  bool has_metadata = false;
  for (const auto& [name, value] : *object) {
    if (name == "__metadata__") {
      if (has_metadata) {
        return absl::InvalidArgumentError(absl::StrCat(source, ": __metadata__ stands twice"));
      }
      has_metadata = true;
      auto metadata = ReadMetadata(source, value);
      if (!metadata.ok()) return metadata.status();
      header.metadata_ = *std::move(metadata);
      continue;
    }
    if (static_cast<int64_t>(header.tensors_.size()) == kMaxSafetensorsTensors) {
      return absl::InvalidArgumentError(absl::StrCat(
          source, ": header has more than ", kMaxSafetensorsTensors, " tensors, the limit"));
    }
    auto entry = ReadEntry(source, name, value);
    if (!entry.ok()) return entry.status();
    header.tensors_.push_back(*std::move(entry));
  }

  std::vector<TensorEntry>& tensors = header.tensors_;
  std::stable_sort(tensors.begin(), tensors.end(), [](const TensorEntry& a, const TensorEntry& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  header.by_name_.resize(tensors.size());
  for (size_t i = 0; i < tensors.size(); ++i) header.by_name_[i] = i;
  absl::c_sort(header.by_name_,
               [&](size_t a, size_t b) { return tensors[a].name < tensors[b].name; });
  const auto twice = absl::c_adjacent_find(
      header.by_name_, [&](size_t a, size_t b) { return tensors[a].name == tensors[b].name; });
  if (twice != header.by_name_.end()) {
    return InvalidHeader(source, tensors[*twice].name, "stands twice; expected unique names");
  }
  if (absl::Status status = CheckTiling(source, tensors, data_bytes); !status.ok()) return status;
  return header;
}

}  // namespace salient
