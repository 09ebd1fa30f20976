// Plans what a call will send, checked against the files before anybody is connected to.
#ifndef SALIENT_CLIENT_TENSORS_PLAN_H_
#define SALIENT_CLIENT_TENSORS_PLAN_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "client/tensors/group_spec.h"
#include "core/safetensors/safetensors.h"

namespace salient::client {

// A Linear whose weight [out_features, in_features] stands in the weights file.
struct PlannedLinear {
  std::string module;
  TensorEntry weight;

  int64_t out_features() const { return weight.shape[0]; }
};

// Is a group whose tensors exist and fit each other.
struct PlannedGroup {
  std::string name;
  int64_t in_features = 0;
  std::vector<PlannedLinear> linears;
  // The input is [rows, tokens, in_features], or [tokens, in_features] for one row.
  TensorEntry input;
  int64_t tokens = 0;            // Positions of a row, padding included.
  std::vector<int64_t> lengths;  // They are [rows]; each is 0 to tokens; not all are 0.
  std::optional<TiedHeadsSpec> tied_heads;

  int64_t WeightBytes() const;
  // Counts them without padding.
  int64_t ActivationBytes() const;
};

// At least one group; names of groups and of Linears are unique.
struct TensorsPlan {
  std::vector<PlannedGroup> groups;

  // Returns the bytes of weights and activations of all groups.
  int64_t Bytes() const;
};

// Finds the tensors of each group and checks presence, rank, dtype and shapes. Reads headers and
// lengths only.
//
// Errors: NOT_FOUND for a tensor that is not there, INVALID_ARGUMENT for one that does not fit,
// naming file, tensor, what it is and what was expected; as SafetensorsFile for reading.
absl::StatusOr<TensorsPlan> MakeTensorsPlan(const SafetensorsFile& weights,
                                            const SafetensorsFile& activations,
                                            absl::Span<const RequestedGroup> specs);

}  // namespace salient::client

#endif  // SALIENT_CLIENT_TENSORS_PLAN_H_
