#include "core/quantize_model.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/method/ranges.h"
#include "core/model/block_weights.h"
#include "core/model/ends.h"
#include "core/model/family.h"
#include "core/model/forward.h"
#include "core/model/hidden_states.h"
#include "core/numerics.h"
#include "core/quantizable_groups.h"
#include "core/statistics/accumulator.h"
#include "core/tensor/half.h"

namespace salient {
namespace {

using GroupFits = std::array<GroupFit, kGroupRoles>;
using GroupStatistics = std::array<std::optional<Statistics>, kGroupRoles>;

std::string StatesPath(const QuantizeModelParams& params, int64_t layer) {
  return absl::StrCat(params.work_directory, "/hidden-", layer, ".states");
}

NamedTensor HalfVector(const StoredVector& vector) {
  NamedTensor tensor{vector.name, DType::kF16, {static_cast<int64_t>(vector.values.size())}, {}};
  tensor.data.resize(vector.values.size() * sizeof(uint16_t));
  for (size_t i = 0; i < vector.values.size(); ++i) {
    const uint16_t bits = F32ToF16(vector.values[i]);
    std::memcpy(tensor.data.data() + 2 * i, &bits, sizeof(bits));
  }
  return tensor;
}

NamedTensor HalfWeight(const StoredLinear& linear) {
  NamedTensor tensor{absl::StrCat(linear.name, ".weight"),
                     DType::kF16,
                     {linear.out_features, linear.in_features},
                     {}};
  tensor.data.resize(static_cast<size_t>(2 * linear.out_features * linear.in_features));
  std::vector<float> row(static_cast<size_t>(linear.in_features));
  for (int64_t i = 0; i < linear.out_features; ++i) {
    linear.View().ReadRows(i, 1, row.data());
    for (int64_t j = 0; j < linear.in_features; ++j) {
      const uint16_t bits = F32ToF16(row[j]);
      std::memcpy(tensor.data.data() + 2 * (i * linear.in_features + j), &bits, sizeof(bits));
    }
  }
  return tensor;
}

// Divides row i of the Linear, and its bias, by divisors[i]. The weight becomes F32: it is about
// to be quantized, and rounding it first would be an error that nothing measures.
void DivideRows(absl::Span<const float> divisors, StoredLinear& linear) {
  Matrix rows(linear.out_features, linear.in_features);
  linear.View().ReadRows(0, linear.out_features, rows.data());
  for (int64_t i = 0; i < linear.out_features; ++i) {
    for (int64_t j = 0; j < linear.in_features; ++j) rows.Row(i)[j] /= divisors[i];
    if (!linear.bias.values.empty()) linear.bias.values[i] /= divisors[i];
  }
  linear.dtype = DType::kF32;
  linear.weight.resize(static_cast<size_t>(rows.rows() * rows.cols()) * sizeof(float));
  std::memcpy(linear.weight.data(), rows.data(), linear.weight.size());
}

// One decoder block's way from statistics to tensors.
class BlockQuantizer {
 public:
  BlockQuantizer(const Family& family, const ModelConfig& config, const QuantizeModelParams& params,
                 const GroupFits& fits, BlockWeights& block, GroupStatistics& statistics,
                 QuantizedModelSink& sink, Executor& executor)
      : family_(family),
        config_(config),
        params_(params),
        fits_(fits),
        block_(block),
        statistics_(statistics),
        sink_(sink),
        executor_(executor) {}

  absl::Status Run() {
    // Groups that fold into a Linear come first: that Linear is quantized with the fold in it.
    for (const bool into_linear : {true, false}) {
      for (const GroupRow& row : family_.groups) {
        if (row.fold_into_linear.has_value() != into_linear) continue;
        absl::Status status = FitOf(row).fits ? Quantize(row) : Keep(row);
        if (!status.ok()) return status;
      }
    }
    for (const StoredVector& norm : block_.norms) tensors_.push_back(HalfVector(norm));
    for (const StoredLinear& linear : block_.linears) {
      if (!linear.bias.values.empty()) tensors_.push_back(HalfVector(linear.bias));
    }
    return sink_.BlockDone(block_.layer, std::move(tensors_));
  }

 private:
  const GroupFit& FitOf(const GroupRow& row) const { return fits_[static_cast<size_t>(row.role)]; }

  absl::Status Keep(const GroupRow& row) {
    for (LinearRole role : row.linears) {
      const StoredLinear& linear = block_.linear(role);
      if (absl::Status status = sink_.Kept(linear.name, FitOf(row).why); !status.ok()) {
        return status;
      }
      tensors_.push_back(HalfWeight(linear));
    }
    return absl::OkStatus();
  }

  // Whether what the group folds into is itself quantized afterwards, so that it can take s.
  bool CanFold(const GroupRow& row) const {
    if (!row.fold_into_linear.has_value()) return true;
    for (const GroupRow& other : family_.groups) {
      for (LinearRole role : other.linears) {
        if (role == *row.fold_into_linear) return FitOf(other).fits;
      }
    }
    return false;
  }

  absl::Status Quantize(const GroupRow& row) {
    GroupInput input;
    input.name = absl::StrCat(BlockPrefix(family_, block_.layer), row.name);
    input.statistics = &*statistics_[static_cast<size_t>(row.role)];
    for (LinearRole role : row.linears) {
      const StoredLinear& linear = block_.linear(role);
      input.linears.push_back({linear.name, linear.View()});
    }
    if (row.tied_heads) input.tied_heads = {config_.head_dim, config_.QueryHeadsPerKvHead()};
    if (row.fold_into_norm.has_value()) {
      input.norm_fold = NormFold{block_.norm(*row.fold_into_norm).values, DType::kF16};
    }
    Method method = params_.method;
    const bool folds = CanFold(row);
    if (!folds) method.scale = ScaleChoice::kNone;
    absl::StatusOr<GroupResult> result =
        QuantizeGroup(input, method, params_.format, params_.output, executor_);
    if (!result.ok()) return result.status();
    if (!folds) {
      result->report.notes.push_back(
          absl::StrCat(input.name, ": not scaled, because the Linear before it stays F16"));
    }
    Fold(row, result->scales);
    for (NamedTensor& tensor : result->tensors) tensors_.push_back(std::move(tensor));
    statistics_[static_cast<size_t>(row.role)].reset();
    return sink_.GroupDone(result->report);
  }

  void Fold(const GroupRow& row, const std::vector<float>& scales) {
    if (row.fold_into_norm.has_value()) {
      std::vector<float>& norm = block_.norm(*row.fold_into_norm).values;
      for (size_t j = 0; j < norm.size(); ++j) norm[j] = RoundToF16(norm[j] / scales[j]);
      return;
    }
    StoredLinear& linear = block_.linear(*row.fold_into_linear);
    if (!row.tied_heads) {
      DivideRows(scales, linear);
      return;
    }
    // Row c d of v feeds channel h d of every query head h that reads kv head c.
    std::vector<float> divisors(static_cast<size_t>(linear.out_features));
    for (int64_t i = 0; i < linear.out_features; ++i) {
      const int64_t head = i / config_.head_dim * config_.QueryHeadsPerKvHead();
      divisors[i] = scales[head * config_.head_dim + i % config_.head_dim];
    }
    DivideRows(divisors, linear);
  }

  const Family& family_;
  const ModelConfig& config_;
  const QuantizeModelParams& params_;
  const GroupFits& fits_;
  BlockWeights& block_;
  GroupStatistics& statistics_;
  QuantizedModelSink& sink_;
  Executor& executor_;
  std::vector<NamedTensor> tensors_;
};

class ModelQuantizer {
 public:
  ModelQuantizer(const TensorSource& source, const Family& family, const ModelConfig& config,
                 absl::Span<const std::vector<int64_t>> calibration,
                 const QuantizeModelParams& params, const GroupFits& fits, QuantizedModelSink& sink,
                 Executor& executor)
      : source_(source),
        family_(family),
        config_(config),
        calibration_(calibration),
        params_(params),
        fits_(fits),
        sink_(sink),
        executor_(executor),
        forward_(family, config, params.compute, LongestRow()) {}

  absl::Status Run() {
    absl::StatusOr<HiddenStatesFile> entering = FirstStates();
    if (!entering.ok()) return entering.status();
    for (int64_t layer = entering->shape().layer; layer < config_.num_hidden_layers; ++layer) {
      absl::StatusOr<HiddenStatesFile> leaving = RunBlock(*entering);
      if (!leaving.ok()) return leaving.status();
      ::unlink(StatesPath(params_, layer).c_str());
      entering = std::move(leaving);
    }
    return absl::OkStatus();
  }

 private:
  int64_t LongestRow() const {
    size_t longest = 0;
    for (const std::vector<int64_t>& row : calibration_) longest = std::max(longest, row.size());
    return static_cast<int64_t>(longest);
  }

  HiddenStatesShape Shape(int64_t layer) const {
    HiddenStatesShape shape{layer, config_.hidden_size, {}, NumericsId(params_.compute)};
    for (const std::vector<int64_t>& row : calibration_) {
      shape.lengths.push_back(static_cast<int64_t>(row.size()));
    }
    return shape;
  }

  // The furthest committed states, or the embeddings of the calibration rows.
  absl::StatusOr<HiddenStatesFile> FirstStates() const {
    for (int64_t layer = config_.num_hidden_layers; layer > 0; --layer) {
      absl::StatusOr<HiddenStatesFile> file =
          HiddenStatesFile::Open(StatesPath(params_, layer), Shape(layer));
      if (file.ok()) return file;
    }
    absl::StatusOr<HiddenStatesFile> file =
        HiddenStatesFile::Create(StatesPath(params_, 0), Shape(0));
    if (!file.ok()) return file.status();
    for (size_t row = 0; row < calibration_.size(); ++row) {
      absl::StatusOr<Matrix> hidden = EmbedTokens(source_, family_, config_, calibration_[row]);
      if (!hidden.ok()) return hidden.status();
      absl::Status status = file->WriteRow(static_cast<int64_t>(row), *hidden);
      if (!status.ok()) return status;
    }
    if (absl::Status status = file->Commit(); !status.ok()) return status;
    return file;
  }

  // Calibrates and quantizes one block. Its states are committed when its tensors are out.
  absl::StatusOr<HiddenStatesFile> RunBlock(const HiddenStatesFile& entering) {
    const int64_t layer = entering.shape().layer;
    absl::StatusOr<BlockWeights> block = ReadBlock(source_, family_, config_, layer, executor_);
    if (!block.ok()) return block.status();
    absl::StatusOr<HiddenStatesFile> leaving =
        HiddenStatesFile::Create(StatesPath(params_, layer + 1), Shape(layer + 1));
    if (!leaving.ok()) return leaving.status();
    absl::StatusOr<GroupStatistics> statistics = Calibrate(*block, entering, *leaving);
    if (!statistics.ok()) return statistics.status();
    BlockQuantizer quantizer(family_, config_, params_, fits_, *block, *statistics, sink_,
                             executor_);
    if (absl::Status status = quantizer.Run(); !status.ok()) return status;
    if (absl::Status status = leaving->Commit(); !status.ok()) return status;
    return leaving;
  }

  absl::StatusOr<GroupStatistics> Calibrate(const BlockWeights& block,
                                            const HiddenStatesFile& entering,
                                            HiddenStatesFile& leaving) {
    std::array<std::optional<StatisticsAccumulator>, kGroupRoles> accumulators;
    for (const GroupRow& row : family_.groups) {
      StatisticsParams statistics;
      statistics.in_features = block.linear(row.linears[0]).in_features;
      statistics.seed = params_.seed;
      absl::StatusOr<StatisticsAccumulator> accumulator = StatisticsAccumulator::Create(
          absl::StrCat(BlockPrefix(family_, block.layer), row.name), statistics);
      if (!accumulator.ok()) return accumulator.status();
      accumulators[static_cast<size_t>(row.role)] = *std::move(accumulator);
    }
    for (int64_t row = 0; row < static_cast<int64_t>(calibration_.size()); ++row) {
      absl::StatusOr<Matrix> hidden = entering.ReadRow(row);
      if (!hidden.ok()) return hidden.status();
      absl::StatusOr<Matrix> next = forward_.Run(
          block, *std::move(hidden),
          [&](GroupRole group, MatrixView input) {
            return accumulators[static_cast<size_t>(group)]->Fold(
                row, 0, DType::kF32, reinterpret_cast<const std::byte*>(input.data), input.rows,
                executor_);
          },
          executor_);
      if (!next.ok()) return next.status();
      if (absl::Status status = leaving.WriteRow(row, *next); !status.ok()) return status;
      if (absl::Status status = sink_.TokensDone(block.layer, next->rows()); !status.ok()) {
        return status;
      }
    }
    GroupStatistics statistics;
    for (size_t group = 0; group < kGroupRoles; ++group) {
      absl::StatusOr<Statistics> finished = std::move(*accumulators[group]).Finish(executor_);
      if (!finished.ok()) return finished.status();
      statistics[group] = *std::move(finished);
    }
    return statistics;
  }

  const TensorSource& source_;
  const Family& family_;
  const ModelConfig& config_;
  absl::Span<const std::vector<int64_t>> calibration_;
  const QuantizeModelParams& params_;
  const GroupFits& fits_;
  QuantizedModelSink& sink_;
  Executor& executor_;
  BlockForward forward_;
};

}  // namespace

absl::Status QuantizeModel(const TensorSource& source, const ModelConfig& config,
                           absl::Span<const std::vector<int64_t>> calibration,
                           const QuantizeModelParams& params, QuantizedModelSink& sink,
                           Executor& executor) {
  if (calibration.empty()) {
    return absl::InvalidArgumentError("calibration has 0 rows; expected at least 1");
  }
  for (size_t row = 0; row < calibration.size(); ++row) {
    if (!calibration[row].empty()) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("calibration row ", row, " has 0 tokens; expected at least 1"));
  }
  absl::StatusOr<const Family*> family = FindFamily(config);
  if (!family.ok()) return family.status();
  if (absl::Status status = CheckModelTensors(source, **family, config); !status.ok()) {
    return status;
  }
  const absl::StatusOr<GroupFits> fits =
      QuantizableGroups(**family, config, params.format, params.output, params.strict);
  if (!fits.ok()) return fits.status();
  return ModelQuantizer(source, **family, config, calibration, params, *fits, sink, executor).Run();
}

}  // namespace salient
