#include "core/quantize_block.h"

#include <array>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/model/f16_tensors.h"
#include "core/model/fold.h"

namespace salient {
namespace {

// One decoder block's way from statistics to tensors.
class BlockQuantizer {
 public:
  BlockQuantizer(const Family& family, const ModelConfig& config, const QuantizeModelParams& params,
                 const GroupFits& fits, BlockWeights block, GroupStatistics statistics,
                 QuantizedModelSink& sink, Executor& executor)
      : family_(family),
        config_(config),
        params_(params),
        fits_(fits),
        block_(std::move(block)),
        statistics_(std::move(statistics)),
        sink_(sink),
        executor_(executor) {
    for (size_t i = 0; i < kLinearRoles; ++i) {
      source_bytes_[i] = static_cast<int64_t>(block_.linears[i].weight.size());
    }
  }

  absl::Status Run() {
    // Groups that fold into a Linear come first: that Linear is quantized with the fold in it.
    for (const bool into_linear : {true, false}) {
      for (const GroupRow& row : family_.groups) {
        if (row.fold_into_linear.has_value() != into_linear) continue;
        absl::Status status = FitOf(row).fits ? Quantize(row) : Keep(row);
        if (!status.ok()) return status;
      }
    }
    for (const StoredVector& norm : block_.norms) {
      if (absl::Status status = Add(ToF16(norm)); !status.ok()) return status;
    }
    for (const StoredLinear& linear : block_.linears) {
      if (linear.bias.values.empty()) continue;
      if (absl::Status status = Add(ToF16(linear.bias)); !status.ok()) return status;
    }
    return sink_.BlockDone(block_.layer, std::move(tensors_));
  }

 private:
  absl::Status Add(absl::StatusOr<NamedTensor> tensor) {
    if (tensor.ok()) tensors_.push_back(*std::move(tensor));
    return tensor.status();
  }

  const GroupFit& FitOf(const GroupRow& row) const { return fits_[static_cast<size_t>(row.role)]; }

  absl::Status Keep(const GroupRow& row) {
    for (LinearRole role : row.linears) {
      const StoredLinear& linear = block_.linear(role);
      if (absl::Status status = sink_.Kept(linear.name, FitOf(row).why); !status.ok()) {
        return status;
      }
      if (absl::Status status = Add(ToF16(linear)); !status.ok()) return status;
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
    absl::StatusOr<GroupResult> result = QuantizeGroup(input, method, params_.stored, executor_);
    if (!result.ok()) return result.status();
    // A weight that took a fold is F32 by now, which is not how it came.
    for (size_t i = 0; i < row.linears.size(); ++i) {
      result->report.linears[i].bytes_in = source_bytes_[static_cast<size_t>(row.linears[i])];
    }
    if (!folds) {
      result->report.notes.push_back(
          absl::StrCat(input.name, ": not scaled, because the Linear before it stays F16"));
    }
    if (folds) DivideInput(row, config_, result->scales, block_);
    for (NamedTensor& tensor : result->tensors) tensors_.push_back(std::move(tensor));
    statistics_[static_cast<size_t>(row.role)].reset();
    return sink_.GroupDone(result->report);
  }

  const Family& family_;
  const ModelConfig& config_;
  const QuantizeModelParams& params_;
  const GroupFits& fits_;
  BlockWeights block_;
  GroupStatistics statistics_;
  QuantizedModelSink& sink_;
  Executor& executor_;
  std::array<int64_t, kLinearRoles> source_bytes_ = {};  // of the weights, by LinearRole
  std::vector<NamedTensor> tensors_;
};

}  // namespace

absl::Status QuantizeBlock(const Family& family, const ModelConfig& config,
                           const QuantizeModelParams& params, const GroupFits& fits,
                           BlockWeights block, GroupStatistics statistics, QuantizedModelSink& sink,
                           Executor& executor) {
  return BlockQuantizer(family, config, params, fits, std::move(block), std::move(statistics), sink,
                        executor)
      .Run();
}

}  // namespace salient
