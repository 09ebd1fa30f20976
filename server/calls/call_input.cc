#include "server/calls/call_input.h"

#include <array>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "server/calls/group_check.h"
#include "server/error/call_error.h"

namespace salient {
namespace {

// They stand in the order of CallMessage.
constexpr std::array<absl::string_view, 6> kMessageNames = {
    "options", "group", "weight", "activations", "statistics", "end_group"};

absl::Status OutOfOrder(absl::string_view message) {
  return InvalidCall(Reason::kMessageOrder, message);
}

}  // namespace

absl::Status CallInput::CheckOrder(const CallMessage& message) const {
  const absl::string_view name = kMessageNames[message.index()];
  const bool is_options = std::holds_alternative<CallOptions>(message);
  if (!options_.has_value()) {
    if (is_options) return absl::OkStatus();
    return OutOfOrder(absl::StrCat(name, " came first; expected options"));
  }
  if (is_options) {
    return OutOfOrder("options came twice; expected them as the first message only");
  }
  if (const auto* spec = std::get_if<GroupSpec>(&message)) {
    if (!group_.has_value()) return absl::OkStatus();
    return WithMetadata(
        OutOfOrder(absl::StrCat("group ", spec->name.substr(0, kMaxNameBytes), " inside the group ",
                                group_->spec().name, "; expected its end_group first")),
        "group", group_->spec().name);
  }
  if (!group_.has_value()) {
    return OutOfOrder(absl::StrCat(name, " outside of a group; expected group"));
  }
  return absl::OkStatus();
}

absl::StatusOr<int64_t> CallInput::MemoryBytes(const CallMessage& message) const {
  if (absl::Status status = CheckOrder(message); !status.ok()) return status;
  if (const auto* spec = std::get_if<GroupSpec>(&message)) return GroupBytes(*spec);
  if (const auto* part = std::get_if<StatisticsData>(&message)) {
    return group_->StatisticsMemoryBytes(*part, limits_);
  }
  return 0;
}

absl::StatusOr<int64_t> CallInput::GroupBytes(const GroupSpec& spec) const {
  if (absl::Status status = CheckGroup(spec, *options_, limits_); !status.ok()) {
    // A name that is itself the fault is left out.
    const bool name_fits = static_cast<int64_t>(spec.name.size()) <= kMaxNameBytes;
    return name_fits ? WithMetadata(std::move(status), "group", spec.name) : status;
  }
  if (group_names_.contains(spec.name)) {
    return WithField(InvalidCall(Reason::kDuplicateName,
                                 absl::StrCat("group ", spec.name,
                                              " stands twice in the call; expected unique names")),
                     "group.name");
  }
  for (size_t i = 0; i < spec.linears.size(); ++i) {
    const std::string& name = spec.linears[i].name;
    if (!linear_names_.contains(name)) continue;
    return WithField(InvalidCall(Reason::kDuplicateName,
                                 absl::StrCat("group ", spec.name, ": the Linear ", name,
                                              " stood in an earlier group; expected unique names")),
                     absl::StrCat("group.linears[", i, "].name"));
  }
  absl::StatusOr<int64_t> bytes = GroupMemoryBytes(spec, *options_, limits_, concurrency_);
  if (!bytes.ok()) return WithMetadata(bytes.status(), "group", spec.name);
  return bytes;
}

absl::StatusOr<CallInput::Taken> CallInput::Open(GroupSpec spec) {
  group_names_.insert(spec.name);
  for (const LinearSpec& linear : spec.linears) linear_names_.insert(linear.name);
  absl::StatusOr<OpenGroup> group = OpenGroup::Create(std::move(spec), *options_);
  if (!group.ok()) return group.status();
  group_.emplace(*std::move(group));
  Taken taken;
  taken.opened_group = true;
  return taken;
}

absl::StatusOr<CallInput::Taken> CallInput::Take(CallMessage message, Executor& executor) {
  Taken taken;
  if (auto* options = std::get_if<CallOptions>(&message)) {
    options_ = *options;
  } else if (auto* spec = std::get_if<GroupSpec>(&message)) {
    return Open(std::move(*spec));
  } else if (auto* weight = std::get_if<WeightData>(&message)) {
    if (absl::Status status = group_->AddWeight(*weight); !status.ok()) return status;
  } else if (auto* batch = std::get_if<ActivationData>(&message)) {
    absl::StatusOr<int64_t> tokens = group_->AddActivations(*batch, executor);
    if (!tokens.ok()) return tokens.status();
    taken.tokens = *tokens;
  } else if (auto* part = std::get_if<StatisticsData>(&message)) {
    const int64_t held = group_->whole_gram_bytes();
    absl::StatusOr<bool> whole = group_->AddStatistics(*part);
    if (!whole.ok()) return whole.status();
    taken.merged_statistics = *whole;
    taken.kept_bytes = group_->whole_gram_bytes() - held;
  } else {
    absl::StatusOr<ClosedGroup> closed = (*std::move(group_)).Close(executor);
    group_.reset();
    if (!closed.ok()) return closed.status();
    taken.closed = *std::move(closed);
  }
  return taken;
}

absl::Status CallInput::End() const {
  if (!options_.has_value()) return OutOfOrder("the stream ended empty; expected options");
  if (group_.has_value()) {
    return WithMetadata(OutOfOrder(absl::StrCat("the stream ended inside the group ",
                                                group_->spec().name, "; expected its end_group")),
                        "group", group_->spec().name);
  }
  if (group_names_.empty()) return OutOfOrder("the stream ended after options; expected group");
  return absl::OkStatus();
}

}  // namespace salient
