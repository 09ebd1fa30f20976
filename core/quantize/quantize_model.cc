#include "core/quantize/quantize_model.h"

#include <unistd.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "core/method/method.h"
#include "core/model/block_plan.h"
#include "core/model/block_weights.h"
#include "core/model/blocks/embedding_and_head.h"
#include "core/model/blocks/forward.h"
#include "core/model/hidden_states.h"
#include "core/model/model.h"
#include "core/model/numerics.h"
#include "core/quantize/calibrate_block.h"
#include "core/quantize/quantize_block.h"
#include "core/quantize/run_record.h"
#include "core/result/plain_dtypes.h"
#include "core/result/shared_results.h"
#include "core/tensor/matrix.h"

namespace salient {
namespace {

std::string StatesPath(const QuantizeModelParams& params, int64_t layer) {
  return absl::StrCat(params.work_directory, "/hidden-", layer, ".states");
}

class ModelQuantizer {
 public:
  ModelQuantizer(const TensorSource& source, const Model& model,
                 absl::Span<const std::vector<int64_t>> calibration,
                 const QuantizeModelParams& params, const std::vector<SharedResult>& results,
                 QuantizedModelSink& sink, Executor& executor)
      : source_(source),
        model_(model),
        calibration_(calibration),
        params_(params),
        results_(results),
        sink_(sink),
        executor_(executor),
        dtypes_(PlainDTypesOf(source, model)),
        forward_(model, params.compute, LongestRow()) {}

  absl::Status Run() {
    absl::StatusOr<HiddenStatesFile> first = FirstStates();
    if (!first.ok()) return first.status();
    auto entering = std::make_shared<HiddenStatesFile>(*std::move(first));
    if (absl::Status status = TellRecord(entering->shape().layer); !status.ok()) return status;
    absl::Status status = AddRange(entering->Largest(), "the embeddings");
    if (!status.ok()) return status;
    bool is_committed = true;
    for (int64_t layer = entering->shape().layer; layer < model_.config.num_hidden_layers;
         ++layer) {
      absl::StatusOr<HiddenStatesFile> left = RunBlock(*entering);
      if (!left.ok()) return left.status();
      auto leaving = std::make_shared<HiddenStatesFile>(*std::move(left));
      if (status = WaitForCommit(); !status.ok()) return status;
      const bool is_out = sink_.IsOut(layer);
      // The blocks before are out in any case.
      if (is_out || !is_committed) StartCommit(is_out ? leaving : entering);
      is_committed = is_out;
      entering = std::move(leaving);
    }
    return WaitForCommit();
  }

 private:
  int64_t LongestRow() const {
    size_t longest = 0;
    for (const std::vector<int64_t>& row : calibration_) longest = std::max(longest, row.size());
    return static_cast<int64_t>(longest);
  }

  HiddenStatesShape Shape(int64_t layer) const {
    HiddenStatesShape shape{layer, model_.config.hidden_size, {}, NumericsId(params_.compute)};
    for (const std::vector<int64_t>& row : calibration_) {
      shape.lengths.push_back(static_cast<int64_t>(row.size()));
    }
    return shape;
  }

  // Returns the furthest committed states, or the embeddings of the calibration rows.
  absl::StatusOr<HiddenStatesFile> FirstStates() const {
    for (int64_t layer = model_.config.num_hidden_layers; layer > 0; --layer) {
      absl::StatusOr<HiddenStatesFile> file =
          HiddenStatesFile::Open(StatesPath(params_, layer), Shape(layer));
      if (file.ok()) return file;
    }
    absl::StatusOr<HiddenStatesFile> file =
        HiddenStatesFile::Create(StatesPath(params_, 0), Shape(0));
    if (!file.ok()) return file.status();
    for (size_t row = 0; row < calibration_.size(); ++row) {
      absl::StatusOr<Matrix> hidden = EmbedTokens(source_, model_, calibration_[row]);
      if (!hidden.ok()) return hidden.status();
      absl::Status status = file->WriteRow(static_cast<int64_t>(row), *hidden);
      if (!status.ok()) return status;
    }
    if (absl::Status status = file->Commit(); !status.ok()) return status;
    return file;
  }

  // Tells what a run before this one told of blocks before `layer`, and forgets what it told of
  // other blocks.
  absl::Status TellRecord(int64_t layer) {
    if (layer == 0) return SaveRecord(params_.work_directory, record_);
    auto record = LoadRecord(params_.work_directory, layer);
    if (!record.ok()) return record.status();
    record_ = *std::move(record);
    for (const RaisedGroup& group : record_.raised) {
      if (absl::Status status = sink_.Raised(group); !status.ok()) return status;
    }
    if (!record_.range.where.empty()) {
      if (absl::Status status = sink_.RangeGrew(record_.range); !status.ok()) return status;
    }
    return SaveRecord(params_.work_directory, record_);
  }

  absl::Status AddRange(float largest, const std::string& where) {
    return record_.range.Add({largest, where}) ? sink_.RangeGrew(record_.range) : absl::OkStatus();
  }

  // A run goes on from states that are committed: only when the tensors made before are out.
  void StartCommit(std::shared_ptr<HiddenStatesFile> states) {
    committing_ = executor_.Start([this, states = std::move(states), record = record_] {
      const StageScope stage(executor_, Stage::kWrite);
      absl::Status saved = SaveRecord(params_.work_directory, record);
      if (!saved.ok()) return saved;
      if (absl::Status status = states->Commit(); !status.ok()) return status;
      for (int64_t layer = states->shape().layer - 1; layer >= 0; --layer) {
        if (::unlink(StatesPath(params_, layer).c_str()) == 0) break;
      }
      return absl::OkStatus();
    });
  }

  absl::Status WaitForCommit() {
    if (committing_ == nullptr) return absl::OkStatus();
    return std::exchange(committing_, nullptr)->Wait();
  }

  // Begins to read the weights of `layer`, if there is one and all of it is here.
  void ReadAhead(int64_t layer) {
    if (layer >= model_.config.num_hidden_layers) return;
    for (const TensorSpec& tensor : BlockTensors(model_.blocks[static_cast<size_t>(layer)])) {
      if (!source_.IsHere(tensor.name)) return;
    }
    reading_ = executor_.Start([this, layer] {
      const StageScope stage(executor_, Stage::kRead);
      SerialExecutor serial;
      ahead_ = ReadUncheckedBlock(source_, model_, layer, serial);
      return ahead_.status();
    });
  }

  absl::StatusOr<BlockWeights> Read(int64_t layer) {
    if (reading_ == nullptr) {
      const StageScope stage(executor_, Stage::kRead);
      return ReadBlock(source_, model_, layer, executor_);
    }
    absl::Status status = reading_->Wait();
    reading_ = nullptr;
    if (!status.ok()) return status;
    const StageScope stage(executor_, Stage::kRead);
    if (status = CheckBlock(source_, *ahead_, executor_); !status.ok()) return status;
    return std::exchange(ahead_, absl::UnknownError("not read"));
  }

  // Calibrates and quantizes one block. Returns the states that leave it.
  absl::StatusOr<HiddenStatesFile> RunBlock(const HiddenStatesFile& entering) {
    const int64_t layer = entering.shape().layer;
    absl::StatusOr<BlockWeights> block = Read(layer);
    if (!block.ok()) return block.status();
    absl::StatusOr<HiddenStatesFile> leaving =
        HiddenStatesFile::Create(StatesPath(params_, layer + 1), Shape(layer + 1));
    if (!leaving.ok()) return leaving.status();
    absl::StatusOr<GroupStatistics> statistics = CalibrateBlock(
        forward_, *block, entering, *leaving, params_.seed, NeedsWholeGram(params_.method),
        [&](int64_t tokens) { return sink_.TokensDone(layer, tokens); }, executor_);
    if (!statistics.ok()) return statistics.status();
    if (absl::Status status = AddRanges(*statistics, *leaving); !status.ok()) return status;
    const std::vector<std::string> zero =
        ZeroTensors(model_.blocks[static_cast<size_t>(layer)], *block);
    if (!zero.empty()) {
      if (absl::Status status = sink_.AllZero(zero); !status.ok()) return status;
    }
    ReadAhead(layer + 1);
    const absl::StatusOr<Matrix> row = entering.ReadRow(0);
    if (!row.ok()) return row.status();
    auto raised = QuantizeBlock(model_, params_, dtypes_, results_, *std::move(block),
                                *std::move(statistics), *row, sink_, executor_);
    if (!raised.ok()) return raised.status();
    for (RaisedGroup& group : *raised) record_.raised.push_back(std::move(group));
    return leaving;
  }

  // Adds the ranges of the block that `leaving` leaves.
  absl::Status AddRanges(const GroupStatistics& statistics, const HiddenStatesFile& leaving) {
    const BlockPlan& block = model_.blocks[static_cast<size_t>(leaving.shape().layer - 1)];
    for (size_t i = 0; i < block.groups.size(); ++i) {
      absl::Status status = AddRange(*absl::c_max_element(statistics[i]->max_abs),
                                     absl::StrCat("the input of ", block.groups[i].name));
      if (!status.ok()) return status;
    }
    return AddRange(leaving.Largest(), absl::StrCat("the residual stream leaving ",
                                                    absl::StripSuffix(block.prefix, ".")));
  }

  const TensorSource& source_;
  const Model& model_;
  absl::Span<const std::vector<int64_t>> calibration_;
  const QuantizeModelParams& params_;
  const std::vector<SharedResult>& results_;
  QuantizedModelSink& sink_;
  Executor& executor_;
  const PlainDTypes dtypes_;
  BlockForward forward_;
  RunRecord record_;  // It is about the blocks that are done.
  absl::StatusOr<BlockWeights> ahead_ = absl::UnknownError("not read");
  // Last, because they use what is above.
  std::unique_ptr<Background> reading_;  // It reads into ahead_.
  std::unique_ptr<Background> committing_;
};

absl::Status CheckCalibration(absl::Span<const std::vector<int64_t>> calibration,
                              const ModelConfig& config) {
  if (calibration.empty()) {
    return absl::InvalidArgumentError("calibration has 0 rows; expected at least 1");
  }
  for (size_t row = 0; row < calibration.size(); ++row) {
    const std::vector<int64_t>& ids = calibration[row];
    if (ids.empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat("calibration row ", row, " has 0 tokens; expected at least 1"));
    }
    for (size_t position = 0; position < ids.size(); ++position) {
      if (ids[position] >= 0 && ids[position] < config.vocab_size) continue;
      return absl::InvalidArgumentError(absl::StrCat(
          "calibration row ", row, ": token at position ", position, " is ", ids[position],
          "; expected 0 to ", config.vocab_size - 1, ", the vocabulary of ", config.source));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status QuantizeModel(const TensorSource& source, const Model& model,
                           absl::Span<const std::vector<int64_t>> calibration,
                           const QuantizeModelParams& params, QuantizedModelSink& sink,
                           Executor& executor) {
  if (absl::Status status = CheckCalibration(calibration, model.config); !status.ok()) {
    return status;
  }
  if (absl::Status status = CheckModelTensors(source, model); !status.ok()) return status;
  if (absl::Status status = CheckErrorLimit(params.max_relative_error); !status.ok()) {
    return status;
  }
  const auto results = ShareResults(model, params.outputs, params.strict, params.overrides,
                                    params.max_relative_error != 0);
  if (!results.ok()) return results.status();
  return ModelQuantizer(source, model, calibration, params, *results, sink, executor).Run();
}

}  // namespace salient
