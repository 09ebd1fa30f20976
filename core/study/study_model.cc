#include "core/study/study_model.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/model/block_weights.h"
#include "core/model/blocks/embedding_and_head.h"
#include "core/model/blocks/forward.h"
#include "core/model/hidden_states.h"
#include "core/model/model.h"
#include "core/model/numerics.h"
#include "core/quantize/calibrate_block.h"
#include "core/result/quantizable_groups.h"
#include "core/source/salient_source.h"
#include "core/tensor/affine_groups.h"
#include "core/tensor/format_bounds.h"
#include "core/tensor/matrix.h"
#include "core/tensor/stored_format.h"

namespace salient {
namespace {

using TokenIds = absl::Span<const std::vector<int64_t>>;

// Nothing is packed: what the format alone can hold, which is the same in every block.
absl::StatusOr<BlockFits> FitsOf(const Model& model, const WeightFormat& format) {
  StoredFormat stored;
  stored.format = format;
  stored.output = OutputFormat::kDequantizedFp16;
  const auto fits = QuantizableGroups(model, stored, /*strict=*/false);
  if (!fits.ok()) return fits.status();
  return fits->front();
}

absl::Status CheckRows(absl::string_view what, TokenIds rows, size_t least,
                       const ModelConfig& config) {
  if (rows.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(what, " has 0 rows; expected at least 1"));
  }
  for (size_t row = 0; row < rows.size(); ++row) {
    const std::vector<int64_t>& ids = rows[row];
    if (ids.size() < least) {
      return absl::InvalidArgumentError(absl::StrCat(what, " row ", row, " has ", ids.size(),
                                                     " tokens; expected at least ", least));
    }
    for (size_t position = 0; position < ids.size(); ++position) {
      if (ids[position] >= 0 && ids[position] < config.vocab_size) continue;
      return absl::InvalidArgumentError(absl::StrCat(
          what, " row ", row, ": token at position ", position, " is ", ids[position],
          "; expected 0 to ", config.vocab_size - 1, ", the vocabulary of ", config.source));
    }
  }
  return absl::OkStatus();
}

// They stand in the order of kSalientChoices.
struct Choices {
  std::array<KeptChannels, kStudiedChoices> kept;
  std::array<double, kStudiedChoices> relative_errors = {};
};

// Runs the calibration rows through the source and chooses the channels of each block.
class ChannelChooser {
 public:
  ChannelChooser(const TensorSource& source, const Model& model, TokenIds calibration,
                 const StudyModelParams& params, const BlockFits& fits, StudyObserver& observer,
                 Executor& executor)
      : source_(source),
        model_(model),
        calibration_(calibration),
        params_(params),
        fits_(fits),
        observer_(observer),
        executor_(executor),
        forward_(model, params.compute, LongestRow()) {}

  absl::StatusOr<Choices> Run() {
    absl::StatusOr<HiddenStatesFile> entering = Embed();
    if (!entering.ok()) return entering.status();
    for (int64_t layer = 0; layer < model_.config.num_hidden_layers; ++layer) {
      entering = RunBlock(*entering);
      if (!entering.ok()) return entering.status();
    }
    for (double& error : choices_.relative_errors) error /= static_cast<double>(groups_);
    return std::move(choices_);
  }

 private:
  int64_t LongestRow() const {
    size_t longest = 0;
    for (const std::vector<int64_t>& row : calibration_) longest = std::max(longest, row.size());
    return static_cast<int64_t>(longest);
  }

  // Never committed: it goes away with the object.
  absl::StatusOr<HiddenStatesFile> CreateStates(int64_t layer) const {
    HiddenStatesShape shape{layer, model_.config.hidden_size, {}, NumericsId(params_.compute)};
    for (const std::vector<int64_t>& row : calibration_) {
      shape.lengths.push_back(static_cast<int64_t>(row.size()));
    }
    return HiddenStatesFile::Create(
        absl::StrCat(params_.work_directory, "/study-", layer, ".states"), shape);
  }

  absl::StatusOr<HiddenStatesFile> Embed() const {
    absl::StatusOr<HiddenStatesFile> states = CreateStates(0);
    if (!states.ok()) return states;
    for (size_t row = 0; row < calibration_.size(); ++row) {
      const absl::StatusOr<Matrix> hidden = EmbedTokens(source_, model_, calibration_[row]);
      if (!hidden.ok()) return hidden.status();
      absl::Status status = states->WriteRow(static_cast<int64_t>(row), *hidden);
      if (!status.ok()) return status;
    }
    return states;
  }

  // Returns the states that leave it.
  absl::StatusOr<HiddenStatesFile> RunBlock(const HiddenStatesFile& entering) {
    const int64_t layer = entering.shape().layer;
    absl::StatusOr<BlockWeights> block = Read(layer);
    if (!block.ok()) return block.status();
    absl::StatusOr<HiddenStatesFile> leaving = CreateStates(layer + 1);
    if (!leaving.ok()) return leaving;
    const absl::StatusOr<GroupStatistics> statistics = CalibrateBlock(
        forward_, *block, entering, *leaving, params_.block.seed, /*whole_gram=*/false,
        [&](int64_t tokens) { return observer_.Calibrated(layer, tokens); }, executor_);
    if (!statistics.ok()) return statistics.status();
    absl::StatusOr<StudiedBlock> studied =
        StudyBlock(model_.blocks[static_cast<size_t>(layer)], *block, *statistics, fits_,
                   params_.block, executor_);
    if (!studied.ok()) return studied.status();
    for (size_t c = 0; c < kStudiedChoices; ++c) {
      choices_.kept[c].merge(studied->kept[c]);
      for (const double error : studied->relative_errors[c]) choices_.relative_errors[c] += error;
    }
    groups_ += static_cast<int64_t>(studied->relative_errors[0].size());
    return leaving;
  }

  absl::StatusOr<BlockWeights> Read(int64_t layer) const {
    const StageScope stage(executor_, Stage::kRead);
    return ReadBlock(source_, model_, layer, executor_);
  }

  const TensorSource& source_;
  const Model& model_;
  TokenIds calibration_;
  const StudyModelParams& params_;
  const BlockFits& fits_;
  StudyObserver& observer_;
  Executor& executor_;
  BlockForward forward_;
  Choices choices_;
  int64_t groups_ = 0;
};

absl::StatusOr<ModelStudy> Evaluate(const TensorSource& source, const Model& model,
                                    TokenIds evaluation, const StudyModelParams& params,
                                    Choices choices, StudyObserver& observer, Executor& executor) {
  std::vector<EvaluatedModel> models = {{&source, &model}};
  std::array<std::unique_ptr<TensorSource>, kStudiedChoices> rounded;
  for (size_t c = 0; c < kStudiedChoices; ++c) {
    absl::StatusOr<std::unique_ptr<TensorSource>> opened =
        SalientFp16Source(source, params.block.format, std::move(choices.kept[c]));
    if (!opened.ok()) return opened.status();
    rounded[c] = *std::move(opened);
    models.push_back({rounded[c].get(), &model});
  }
  absl::StatusOr<std::vector<ModelEvaluation>> results =
      EvaluateModels(models, evaluation, params.work_directory, observer, executor);
  if (!results.ok()) return results.status();
  ModelStudy study;
  study.source = std::move((*results)[0]);
  for (size_t c = 0; c < kStudiedChoices; ++c) {
    study.rows[c] = {kSalientChoices[c], std::move((*results)[c + 1]), choices.relative_errors[c]};
  }
  return study;
}

}  // namespace

absl::Status CheckStudy(const Model& model, const StudyBlockParams& params) {
  const auto fail = [](absl::string_view field, const auto& value, absl::string_view expected) {
    return absl::InvalidArgumentError(absl::StrCat(field, " is ", value, "; expected ", expected));
  };
  if (!(params.salient_share >= 0 && params.salient_share <= 1)) {  // NaN is refused.
    return fail("salient_share", params.salient_share, "0 to 1");
  }
  if (!IsCodeWidth(params.format.bits)) {
    return fail("bits", params.format.bits, kBitsExpected);
  }
  if (params.format.group_size < 1 && params.format.group_size != kWholeRow) {
    return fail("group_size", params.format.group_size, "a divisor of in_features, or -1 for all");
  }
  return FitsOf(model, params.format).status();
}

absl::StatusOr<ModelStudy> StudyModel(const TensorSource& source, const Model& model,
                                      absl::Span<const std::vector<int64_t>> calibration,
                                      absl::Span<const std::vector<int64_t>> evaluation,
                                      const StudyModelParams& params, StudyObserver& observer,
                                      Executor& executor) {
  absl::Status status = CheckStudy(model, params.block);
  if (status.ok()) status = CheckRows("calibration", calibration, 1, model.config);
  if (status.ok()) status = CheckRows("evaluation", evaluation, 2, model.config);
  if (!status.ok()) return status;
  if (status = CheckModelTensors(source, model); !status.ok()) return status;
  const absl::StatusOr<BlockFits> fits = FitsOf(model, params.block.format);
  if (!fits.ok()) return fits.status();
  for (size_t group = 0; group < fits->size(); ++group) {
    const GroupFit& fit = (*fits)[group];
    if (fit.fits) continue;
    status = observer.Kept(model.blocks.front().groups[group].path, fit.why);
    if (!status.ok()) return status;
  }
  absl::StatusOr<Choices> choices =
      ChannelChooser(source, model, calibration, params, *fits, observer, executor).Run();
  if (!choices.ok()) return choices.status();
  if (status = observer.Evaluates(); !status.ok()) return status;
  return Evaluate(source, model, evaluation, params, *std::move(choices), observer, executor);
}

}  // namespace salient
