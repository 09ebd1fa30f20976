#include "client/tensors/group_spec.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "core/config/json.h"
#include "core/text/quote.h"

namespace salient::client {
namespace {

// Is one object of the JSON, with the place that errors name.
class Member {
 public:
  Member(std::string place, const JsonValue& value) : place_(std::move(place)), value_(value) {}

  absl::Status ExpectObject(absl::Span<const absl::string_view> known) const {
    const JsonValue::Object* object = value_.AsObject();
    if (object == nullptr) return Fault(place_, value_, "an object");
    for (const auto& [name, unused] : *object) {
      if (std::find(known.begin(), known.end(), name) == known.end()) {
        return absl::InvalidArgumentError(
            absl::StrCat(place_, " has an unknown member ", QuoteForMessage(name)));
      }
    }
    return absl::OkStatus();
  }

  absl::StatusOr<std::string> String(absl::string_view name) const {
    const JsonValue* found = value_.Find(name);
    if (found == nullptr || found->AsString() == nullptr || found->AsString()->empty()) {
      return Fault(absl::StrCat(place_, ".", name), found, "a string that is not empty");
    }
    return *found->AsString();
  }

  absl::StatusOr<std::vector<std::string>> Strings(absl::string_view name) const {
    const std::string place = absl::StrCat(place_, ".", name);
    const JsonValue* found = value_.Find(name);
    if (found == nullptr || found->AsArray() == nullptr || found->AsArray()->empty()) {
      return Fault(place, found, "an array of at least one string");
    }
    std::vector<std::string> strings;
    for (const JsonValue& item : *found->AsArray()) {
      if (item.AsString() == nullptr || item.AsString()->empty()) {
        return Fault(absl::StrCat(place, "[", strings.size(), "]"), item,
                     "a string that is not empty");
      }
      strings.push_back(*item.AsString());
    }
    return strings;
  }

  absl::StatusOr<int64_t> PositiveInteger(absl::string_view name) const {
    const JsonValue* found = value_.Find(name);
    const std::optional<int64_t> number = found == nullptr ? std::nullopt : found->AsInt64();
    if (!number.has_value() || *number < 1) {
      return Fault(absl::StrCat(place_, ".", name), found, "an integer of at least 1");
    }
    return *number;
  }

 private:
  static absl::Status Fault(absl::string_view place, const JsonValue& got,
                            absl::string_view expected) {
    return Fault(place, &got, expected);
  }
  static absl::Status Fault(absl::string_view place, const JsonValue* got,
                            absl::string_view expected) {
    return absl::InvalidArgumentError(absl::StrCat(
        place, " is ", got == nullptr ? "missing" : got->Describe(), "; expected ", expected));
  }

  std::string place_;
  const JsonValue& value_;
};

absl::StatusOr<RequestedGroup> ParseGroup(const std::string& place, const JsonValue& value) {
  const Member group(place, value);
  if (auto known = group.ExpectObject({"name", "linears", "input", "tied_heads"}); !known.ok()) {
    return known;
  }
  RequestedGroup spec;
  auto name = group.String("name");
  if (!name.ok()) return name.status();
  spec.name = *std::move(name);
  auto linears = group.Strings("linears");
  if (!linears.ok()) return linears.status();
  spec.linears = *std::move(linears);
  if (value.Find("input") != nullptr) {
    auto input = group.String("input");
    if (!input.ok()) return input.status();
    spec.input = *std::move(input);
  }
  if (const JsonValue* tied_value = value.Find("tied_heads"); tied_value != nullptr) {
    const Member tied(absl::StrCat(place, ".tied_heads"), *tied_value);
    if (auto known = tied.ExpectObject({"head_dim", "query_heads_per_kv_head"}); !known.ok()) {
      return known;
    }
    const auto head_dim = tied.PositiveInteger("head_dim");
    if (!head_dim.ok()) return head_dim.status();
    const auto heads = tied.PositiveInteger("query_heads_per_kv_head");
    if (!heads.ok()) return heads.status();
    spec.tied_heads = TiedHeadsSpec{*head_dim, *heads};
  }
  return spec;
}

}  // namespace

absl::StatusOr<RequestedGroup> ParseGroupFlag(absl::string_view text) {
  const std::pair<absl::string_view, absl::string_view> parts =
      absl::StrSplit(text, absl::MaxSplits('=', 1));
  RequestedGroup spec;
  spec.name = std::string(parts.first);
  if (!parts.second.empty()) spec.linears = absl::StrSplit(parts.second, ',');
  const bool has_empty = std::count(spec.linears.begin(), spec.linears.end(), "") > 0;
  if (spec.name.empty() || spec.linears.empty() || has_empty) {
    return absl::InvalidArgumentError(
        absl::StrCat("--group ", QuoteForMessage(text), "; expected NAME=LINEAR[,LINEAR...]"));
  }
  return spec;
}

absl::StatusOr<std::vector<RequestedGroup>> ParseGroupsJson(absl::string_view source,
                                                            absl::string_view text) {
  const auto document = ParseJson(source, text);
  if (!document.ok()) return document.status();
  const JsonValue::Array* groups = document->AsArray();
  if (groups == nullptr || groups->empty()) {
    return absl::InvalidArgumentError(absl::StrCat(source, " is ", document->Describe(),
                                                   "; expected an array of at least one group"));
  }
  std::vector<RequestedGroup> specs;
  for (const JsonValue& group : *groups) {
    auto spec = ParseGroup(absl::StrCat(source, ": groups[", specs.size(), "]"), group);
    if (!spec.ok()) return spec.status();
    specs.push_back(*std::move(spec));
  }
  return specs;
}

std::vector<RequestedGroup> GroupsNamedByActivations(const SafetensorsHeader& activations) {
  std::vector<RequestedGroup> specs;
  for (const TensorEntry& tensor : activations.tensors()) {
    if (absl::EndsWith(tensor.name, ".lengths")) continue;
    RequestedGroup spec;
    spec.name = std::string(absl::StripSuffix(tensor.name, ".input"));
    spec.linears = {spec.name};
    spec.input = tensor.name;
    specs.push_back(std::move(spec));
  }
  return specs;
}

}  // namespace salient::client
