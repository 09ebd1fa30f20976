// One decoder block's share of the study of salient channels: which channels each choice keeps, and
// what that is worth on the calibration tokens.
#ifndef SALIENT_CORE_STUDY_STUDY_BLOCK_H_
#define SALIENT_CORE_STUDY_STUDY_BLOCK_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "core/method/salient_fp16.h"
#include "core/model/block_plan.h"
#include "core/model/block_weights.h"
#include "core/parallel/executor.h"
#include "core/quantize/calibrate_block.h"
#include "core/result/quantizable_groups.h"
#include "core/source/salient_source.h"
#include "core/tensor/affine_groups.h"

namespace salient {

// A study has so many rows, in the order of kSalientChoices.
inline constexpr size_t kStudiedChoices = 4;
inline constexpr std::array<SalientChoice, kStudiedChoices> kSalientChoices = {
    SalientChoice::kNone, SalientChoice::kWeight, SalientChoice::kRandom,
    SalientChoice::kActivation};

struct StudyBlockParams {
  double salient_share = 0.01;  // It is a share of the input channels of a Linear, 0 to 1.
  WeightFormat format{3, 128};  // The other weights have it.
  uint64_t seed = 0;            // It is that of the random choice.
};

// Choices stand in the order of kSalientChoices.
struct StudiedBlock {
  std::array<KeptChannels, kStudiedChoices> kept;
  // Each group has tr(D H D^T) / tr(W H W^T), D = W' - W, both sums over its Linears.
  std::array<std::vector<double>, kStudiedChoices> relative_errors;
};

// Studies the choices of the groups that fit. The bits are the same for any executor.
//
// Errors: of SalientChannels and RoundSalientFp16, naming the tensor; CANCELLED from the executor.
absl::StatusOr<StudiedBlock> StudyBlock(const BlockPlan& plan, const BlockWeights& block,
                                        const GroupStatistics& statistics, const BlockFits& fits,
                                        const StudyBlockParams& params, Executor& executor);

}  // namespace salient

#endif  // SALIENT_CORE_STUDY_STUDY_BLOCK_H_
