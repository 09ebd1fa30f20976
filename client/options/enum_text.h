// Says the contract's enums as text and back: names come from its descriptor.
#ifndef SALIENT_CLIENT_OPTIONS_ENUM_TEXT_H_
#define SALIENT_CLIENT_OPTIONS_ENUM_TEXT_H_

#include <google/protobuf/descriptor.h>
#include <google/protobuf/generated_enum_reflection.h>

#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace salient::client {

// Returns "awq-gemm" for OUTPUT_FORMAT_AWQ_GEMM; "" for a number that this client has no name for,
// which a newer server may send.
std::string EnumText(const google::protobuf::EnumDescriptor& type, int value);

// Returns what flags and `salient info` call it: what EnumText does, or a shorter name. A number
// without a name stays a number.
std::string FlagText(const google::protobuf::EnumDescriptor& type, int value);

// Returns the number whose EnumText or FlagText `text` is; nullopt if there is none. That a value
// is not set has no text.
std::optional<int> EnumNumber(const google::protobuf::EnumDescriptor& type, absl::string_view text);

// Returns the FlagText of every value that can be set, in the contract's order.
std::vector<std::string> FlagTexts(const google::protobuf::EnumDescriptor& type);

template <typename Enum>
std::string EnumText(Enum value) {
  return EnumText(*google::protobuf::GetEnumDescriptor<Enum>(), value);
}

template <typename Enum>
std::string FlagText(Enum value) {
  return FlagText(*google::protobuf::GetEnumDescriptor<Enum>(), value);
}

template <typename Enum>
std::optional<Enum> EnumNamed(absl::string_view text) {
  const auto number = EnumNumber(*google::protobuf::GetEnumDescriptor<Enum>(), text);
  if (!number.has_value()) return std::nullopt;
  return static_cast<Enum>(*number);
}

template <typename Enum>
std::vector<std::string> FlagTexts() {
  return FlagTexts(*google::protobuf::GetEnumDescriptor<Enum>());
}

}  // namespace salient::client

#endif  // SALIENT_CLIENT_OPTIONS_ENUM_TEXT_H_
