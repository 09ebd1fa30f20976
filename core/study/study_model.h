// The study of salient channels on a whole model (Lin et al., arXiv:2306.00978, section 3.1 and
// table 1): weights rounded to nearest with 1 % of the input channels of each Linear left in F16,
// chosen by activation, by weight, at random or not at all, each beside the source on the same
// tokens.
//
// First the calibration rows run through the source block by block, as in quantize_model.h, and the
// channels are chosen; then all models are evaluated side by side, rounded as they are read. Memory
// holds a block of each.
#ifndef SALIENT_CORE_STUDY_STUDY_MODEL_H_
#define SALIENT_CORE_STUDY_STUDY_MODEL_H_

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/checkpoint/tensor_source.h"
#include "core/config/model/model_config.h"
#include "core/evaluate/evaluate_model.h"
#include "core/method/salient_fp16.h"
#include "core/model/activations.h"
#include "core/model/model.h"
#include "core/model/projection.h"
#include "core/parallel/executor.h"
#include "core/study/study_block.h"

namespace salient {

struct StudyModelParams {
  StudyBlockParams block;
  ComputeDType compute = ComputeDType::kBF16;  // It is that of the calibration forward pass.
  // The directory exists and takes files of hidden states, which are removed at the end.
  std::string work_directory;
};

// Tells what one choice of channels is worth.
struct StudyRow {
  SalientChoice choice = SalientChoice::kNone;
  ModelEvaluation evaluation;  // It stands beside the source.
  // It is that on the calibration rows, the mean over the groups of all blocks.
  double relative_output_error = 0;
};

struct ModelStudy {
  ModelEvaluation source;
  std::array<StudyRow, kStudiedChoices> rows;  // They stand by kSalientChoices.
};

// Told how far it is; an error ends the study and is returned from it. Its TokensDone is of the
// evaluation, after all that is told of calibration.
class StudyObserver : public EvaluationObserver {
 public:
  // Tells in a sentence why a group that the format cannot hold is not rounded.
  virtual absl::Status Kept(const std::string& group, const std::string& why) = 0;
  // Tells that `tokens` more calibration tokens went through block `block`. It is called from any
  // thread, one at a time.
  virtual absl::Status Calibrated(int64_t block, int64_t tokens) = 0;
  // The channels are chosen; the models begin to run.
  virtual absl::Status Evaluates() = 0;
};

// Returns INVALID_ARGUMENT naming field and value for a share outside 0 to 1, a width outside 2 to
// 8, a group size that is none, or one that no group of Linears can be cut into.
absl::Status CheckStudy(const Model& model, const StudyBlockParams& params);

// `calibration` and `evaluation` hold token ids, one vector a row. The bits are the same for any
// executor.
//
// Errors: as CheckStudy; INVALID_ARGUMENT for no rows, a calibration row without tokens, an
// evaluation row of fewer than 2, an id outside the vocabulary; those of the source, of StudyBlock
// and of the observer; CANCELLED from the executor.
absl::StatusOr<ModelStudy> StudyModel(const TensorSource& source, const Model& model,
                                      absl::Span<const std::vector<int64_t>> calibration,
                                      absl::Span<const std::vector<int64_t>> evaluation,
                                      const StudyModelParams& params, StudyObserver& observer,
                                      Executor& executor);

}  // namespace salient

#endif  // SALIENT_CORE_STUDY_STUDY_MODEL_H_
