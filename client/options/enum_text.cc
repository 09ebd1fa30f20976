#include "client/options/enum_text.h"

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"

namespace salient::client {
namespace {

using google::protobuf::EnumDescriptor;
using google::protobuf::EnumValueDescriptor;

struct ShortText {
  absl::string_view name;
  absl::string_view text;
};
// Flags are shorter for these; what EnumText makes of the name is taken, too.
constexpr ShortText kShortTexts[] = {{"RANGE_MIN_MAX", "minmax"},
                                     {"ACTIVATION_FORMAT_DYNAMIC_TOKEN", "dynamic"},
                                     {"ACTIVATION_FORMAT_STATIC_TENSOR", "static"}};

// Leaves out what all names of the enum begin with: the first is PREFIX_UNSPECIFIED.
std::string TextOf(const EnumValueDescriptor& value) {
  const absl::string_view prefix = absl::StripSuffix(value.type()->value(0)->name(), "UNSPECIFIED");
  return absl::StrReplaceAll(absl::AsciiStrToLower(absl::StripPrefix(value.name(), prefix)),
                             {{"_", "-"}});
}

std::string FlagTextOf(const EnumValueDescriptor& value) {
  for (const auto& [name, text] : kShortTexts) {
    if (name == value.name()) return std::string(text);
  }
  return TextOf(value);
}

}  // namespace

std::string EnumText(const EnumDescriptor& type, int value) {
  const EnumValueDescriptor* known = type.FindValueByNumber(value);
  return known == nullptr ? "" : TextOf(*known);
}

std::string FlagText(const EnumDescriptor& type, int value) {
  const EnumValueDescriptor* known = type.FindValueByNumber(value);
  return known == nullptr ? absl::StrCat(value) : FlagTextOf(*known);
}

std::optional<int> EnumNumber(const EnumDescriptor& type, absl::string_view text) {
  for (int i = 1; i < type.value_count(); ++i) {
    const EnumValueDescriptor& value = *type.value(i);
    if (text == TextOf(value) || text == FlagTextOf(value)) return value.number();
  }
  return std::nullopt;
}

std::vector<std::string> FlagTexts(const EnumDescriptor& type) {
  std::vector<std::string> texts;
  for (int i = 1; i < type.value_count(); ++i) texts.push_back(FlagTextOf(*type.value(i)));
  return texts;
}

}  // namespace salient::client
