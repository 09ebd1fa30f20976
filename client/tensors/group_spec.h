// Reads which Linears form a group and which activations they read: what the user says about it.
#ifndef SALIENT_CLIENT_TENSORS_GROUP_SPEC_H_
#define SALIENT_CLIENT_TENSORS_GROUP_SPEC_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/safetensors/safetensors.h"

namespace salient::client {

// s is shared by the query heads that read one kv head (v1::TiedHeads).
struct TiedHeadsSpec {
  int64_t head_dim = 0;
  int64_t query_heads_per_kv_head = 0;
};

// Describes one group. It is well-formed and no more; whether its tensors exist and fit is
// tensors_plan's part.
struct RequestedGroup {
  std::string name;
  // Module paths; the weight of each is "<module>.weight".
  std::vector<std::string> linears;
  // The activations tensor has this name; empty stands for "<name>" or "<name>.input".
  std::string input;
  std::optional<TiedHeadsSpec> tied_heads;
};

// Parses "NAME=LINEAR[,LINEAR...]". INVALID_ARGUMENT quotes what does not read so.
absl::StatusOr<RequestedGroup> ParseGroupFlag(absl::string_view text);

// Parses [{"name": ..., "linears": [...], "input": ..., "tied_heads": {"head_dim": ...,
// "query_heads_per_kv_head": ...}}], the last two optional. INVALID_ARGUMENT names `source`, the
// group's index, the member and what was expected; members we do not know are an error, because
// they are misspelled ones.
absl::StatusOr<std::vector<RequestedGroup>> ParseGroupsJson(absl::string_view source,
                                                            absl::string_view text);

// Makes one group for each activations tensor "<module>" or "<module>.input", of the one Linear of
// that name, in the order of the file.
std::vector<RequestedGroup> GroupsNamedByActivations(const SafetensorsHeader& activations);

}  // namespace salient::client

#endif  // SALIENT_CLIENT_TENSORS_GROUP_SPEC_H_
