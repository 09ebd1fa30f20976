// One group of Linears that read the same input: weights and statistics in, packed tensors,
// the scale to fold into the preceding op, and a report out.
#ifndef SALIENT_CORE_GROUP_QUANTIZE_GROUP_H_
#define SALIENT_CORE_GROUP_QUANTIZE_GROUP_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/group/linear.h"
#include "core/group/round_linears.h"
#include "core/method/method.h"
#include "core/method/scale_candidates.h"
#include "core/pack/stored_format.h"
#include "core/parallel/executor.h"
#include "core/statistics/statistics.h"
#include "core/tensor/affine_groups.h"
#include "core/tensor/dtype.h"
#include "core/tensor/named_tensor.h"
#include "core/tensor/stored_format.h"

namespace salient {

// This is the vector before the group that takes s^-1: a norm's weight [in_features], or the bias
// of the Linear before, which has an element a channel, or, of tied heads, an element a channel of
// each kv head.
struct VectorFold {
  absl::Span<const float> values;
  DType dtype = DType::kF16;  // It will be stored in this dtype.
  bool is_norm = true;        // Nothing else comes through a channel.
  float offset = 0;           // The factor of a channel is its value and so much more.
};

// Borrows weights and statistics; both must outlive the call.
struct GroupInput {
  std::string name;
  std::vector<Linear> linears;  // All have statistics->params.in_features columns.
  const Statistics* statistics = nullptr;
  std::optional<TiedHeads> tied_heads;
  // s is then redefined as value / stored(value / s), so that folding it is exact.
  std::optional<VectorFold> vector_fold;
};

// Losses are tr(D H D^T) / tokens, D = W' - W: squared output error, mean over tokens, summed
// over outputs. Relative errors divide it by the same form of W: tr(W H W^T) / tokens.
//
// Where the activations are rounded, too, losses are those of activation_loss.h, loss_rtn and what
// relative errors are shares of included: an estimate from the sampled tokens.
struct LinearReport {
  std::string name;
  int64_t out_features = 0;
  int64_t in_features = 0;
  double loss_rtn = 0;
  double loss = 0;
  double relative_output_error_rtn = 0;
  double relative_output_error = 0;
  double clipped_share = 0;  // It is the share of groups whose range was narrowed.
  // It is the share of groups whose zero_point is 0 or the last code.
  double saturated_zero_point_share = 0;
  bool kept_rtn = false;  // Plain round-to-nearest won or had to do.
  int64_t bytes_in = 0;
  int64_t bytes_out = 0;
  int bits = 0;  // A code has so many; 16 says that it is not quantized.
};

struct GroupReport {
  std::string name;
  ScaleCandidate candidate;  // It is what was chosen.
  double loss_rtn = 0;       // It and the next sum over the Linears.
  double loss = 0;
  double relative_output_error_rtn = 0;
  double relative_output_error = 0;
  // It takes the whole Gram and activations as they are and is no estimate.
  bool exact_loss = false;
  double loss_standard_error = 0;  // It is that of `loss`; 0 when exact.
  // It is how much folding the scale changes what the block adds, as a share of that; nullopt if
  // nothing was folded or nobody proved it.
  std::optional<double> fold_error;
  int64_t token_count = 0;
  int64_t row_count = 0;
  int64_t parameters = 0;
  std::vector<LinearReport> linears;
  // The notes tell a user what may matter, in sentences that do not name the group.
  std::vector<std::string> notes;
  // The warnings must reach the user. Other groups may have the same text, which is told once.
  std::vector<std::string> warnings;
};

struct GroupResult {
  // [in_features] s: weights were multiplied by it column-wise, so the caller divides the
  // preceding op's output by it. All 1 when nothing was scaled.
  std::vector<float> scales;
  // They stand by Linear in input order, each in the format's order.
  std::vector<NamedTensor> tensors;
  GroupReport report;
};

// Is a group that is finished but for its layout.
struct RoundedGroup {
  std::vector<float> scales;           // They are those of GroupResult.
  std::vector<RoundedLinear> linears;  // They stand in input order.
  float input_scale = 0;               // It is that of FinishedLinear.
  GroupReport report;                  // It lacks bytes_out.
};

// Validates the combination alone: bits, group_size against in_features, shape rules of the output
// format. Returns INVALID_ARGUMENT (what can never work) or UNIMPLEMENTED (not yet), naming the
// Linear, the field, the value and what was expected.
absl::Status ValidateLinear(const std::string& name, int64_t out_features, int64_t in_features,
                            const StoredFormat& stored);

// All that is decided, from scale candidates to keeping round-to-nearest, is decided by the losses
// that are reported. What has no loss that can be told (Loss::IsKnown) never wins, and nothing but
// round-to-nearest is done with too few tokens (few_tokens.h).
//
// Errors: as ValidateLinear; INVALID_ARGUMENT for a non-finite weight or a decoded one that F16
// cannot hold (names tensor, row, column); CANCELLED from the executor. It is deterministic for any
// executor.
absl::StatusOr<GroupResult> QuantizeGroup(const GroupInput& group, const Method& method,
                                          const StoredFormat& stored, Executor& executor);

// Do the two halves of QuantizeGroup, for results that differ in their layout alone: search and
// rounding once, packing for each. Errors are its. `stored` of the second has the format, the
// activations and the kind (quantized or not) of the first's.
absl::StatusOr<RoundedGroup> RoundGroup(const GroupInput& group, const Method& method,
                                        const StoredFormat& stored, Executor& executor);
absl::StatusOr<GroupResult> PackGroup(const GroupInput& group, const RoundedGroup& rounded,
                                      const StoredFormat& stored, Executor& executor);

// Bytes QuantizeGroup holds at most beside weights and statistics.
int64_t QuantizeGroupMemoryBytes(int64_t total_out_features, int64_t in_features,
                                 const Method& method, ActivationFormat activations,
                                 int concurrency);

}  // namespace salient

#endif  // SALIENT_CORE_GROUP_QUANTIZE_GROUP_H_
