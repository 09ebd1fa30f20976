#include "core/quantize/quantize_block.h"

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/strings/str_cat.h"
#include "core/group/quantize_group.h"
#include "core/method/method.h"
#include "core/model/block_plan.h"
#include "core/model/fold.h"
#include "core/model/plain_tensors.h"
#include "core/quantize/fold_proof.h"
#include "core/quantize/limit_error.h"
#include "core/quantize/lost_scales.h"
#include "core/result/quantizable_groups.h"
#include "core/tensor/matrix.h"
#include "core/tensor/named_tensor.h"
#include "core/tensor/stored_format.h"

namespace salient {
namespace {

// Takes one decoder block from statistics to the tensors of one result.
class BlockQuantizer {
 public:
  // `last`: nobody needs the statistics afterwards.
  BlockQuantizer(const Model& model, const QuantizeModelParams& params, const PlainDTypes& dtypes,
                 const SharedResult& result, BlockWeights block, GroupStatistics& statistics,
                 const Matrix& row, bool last, QuantizedModelSink& sink, Executor& executor)
      : plan_(model.blocks[static_cast<size_t>(block.layer)]),
        params_(params),
        dtypes_(dtypes),
        result_(result),
        fits_(result.fits[static_cast<size_t>(block.layer)]),
        block_(std::move(block)),
        statistics_(statistics),
        proof_(model, row),
        vectors_(block_.vectors),
        last_(last),
        sink_(sink),
        executor_(executor),
        tensors_(result.outputs.size()) {
    for (const StoredLinear& linear : block_.linears) {
      source_bytes_.push_back(static_cast<int64_t>(linear.weight.size()));
    }
  }

  absl::Status Run() {
    // Groups that fold into a Linear come first: that Linear is quantized with the fold in it.
    for (const bool into_linear : {true, false}) {
      for (size_t group = 0; group < plan_.groups.size(); ++group) {
        if (plan_.groups[group].fold.IntoLinear() != into_linear) continue;
        absl::Status status = fits_[group].fits ? Quantize(group) : Keep(group);
        if (!status.ok()) return status;
      }
    }
    for (const StoredVector& vector : block_.vectors) {
      if (absl::Status status = AddPlain(vector); !status.ok()) return status;
    }
    for (const StoredLinear& linear : block_.linears) {
      if (linear.bias.values.empty()) continue;
      if (absl::Status status = AddPlain(linear.bias); !status.ok()) return status;
    }
    for (size_t i = 0; i < tensors_.size(); ++i) {
      absl::Status status =
          sink_.TensorsDone(block_.layer, result_.outputs[i], std::move(tensors_[i]));
      if (!status.ok()) return status;
    }
    return absl::OkStatus();
  }

  std::vector<RaisedGroup>& raised() { return raised_; }

 private:
  // Adds the same tensor for every output.
  absl::Status Add(absl::StatusOr<NamedTensor> tensor) {
    if (!tensor.ok()) return tensor.status();
    for (size_t i = 1; i < tensors_.size(); ++i) tensors_[i].push_back(*tensor);
    tensors_[0].push_back(*std::move(tensor));
    return absl::OkStatus();
  }

  absl::Status AddPlain(const StoredVector& vector) {
    return Add(PlainTensor(vector, dtypes_.Of(vector.name)));
  }
  absl::Status AddPlain(const StoredLinear& linear) {
    return Add(PlainTensor(linear, dtypes_.Of(absl::StrCat(linear.name, ".weight"))));
  }

  absl::Status Keep(size_t group) {
    const GroupFit& fit = fits_[group];
    for (const size_t index : plan_.groups[group].linears) {
      const StoredLinear& linear = block_.linears[index];
      if (absl::Status status = AddPlain(linear); !status.ok()) return status;
      if (fit.asked) continue;
      for (const size_t output : result_.outputs) {
        absl::Status status = sink_.Kept(output, linear.name, fit.why);
        if (!status.ok()) return status;
      }
    }
    return absl::OkStatus();
  }

  // Returns how the Linear that a fold goes into is quantized afterwards.
  const GroupFit& FitOf(const Fold& fold) const {
    const GroupPlan& group = plan_.GroupOf(fold.index);
    return fits_[static_cast<size_t>(&group - plan_.groups.data())];
  }

  // Returns whether something takes s, and is quantized afterwards if it is a Linear.
  bool CanFold(const Fold& fold) const {
    return fold.IntoNorm() || (fold.IntoLinear() && FitOf(fold).fits);
  }

  // Returns the vector whose rounding s is made to agree with; nullopt if there is none.
  std::optional<VectorFold> VectorOf(const Fold& fold) const {
    if (fold.IntoNorm()) {
      const NormPlan& norm = plan_.norms[fold.index];
      const StoredVector& weight = block_.vectors[norm.weight];
      return VectorFold{weight.values, dtypes_.Of(weight.name), /*is_norm=*/true,
                        norm.rule.plus_one ? 1.0f : 0.0f};
    }
    const StoredVector& bias = block_.linears[fold.index].bias;
    if (bias.values.empty()) return std::nullopt;
    return VectorFold{absl::MakeConstSpan(bias.values).subspan(static_cast<size_t>(fold.first_row)),
                      dtypes_.Of(bias.name), /*is_norm=*/false};
  }

  absl::Status Quantize(size_t index) {
    const GroupPlan& plan = plan_.groups[index];
    const GroupFit& fit = fits_[index];
    const Fold& fold = plan.fold;
    GroupInput input;
    input.name = plan.name;
    input.statistics = &*statistics_[index];
    for (const size_t linear : plan.linears) {
      input.linears.push_back({block_.linears[linear].name, block_.linears[linear].View()});
    }
    if (fold.shared_heads.has_value()) {
      input.tied_heads = {fold.shared_heads->head_dim, fold.shared_heads->query_heads_per_kv_head};
    }
    Method method = params_.method;
    const bool folds = CanFold(fold);
    if (folds) input.vector_fold = VectorOf(fold);
    if (!folds) method.scale = ScaleChoice::kNone;
    const StoredFormat& stored = params_.outputs[result_.outputs[0]];
    absl::StatusOr<LimitedGroup> group =
        RoundWithinLimit(input, method, stored, fit, params_.max_relative_error, executor_);
    if (!group.ok()) return group.status();
    if (folds && !group->stays_f16) {
      if (absl::Status status = Prove(plan, group->rounded); !status.ok()) return status;
      StoredLinear before;
      if (fold.IntoLinear()) before = block_.linears[fold.index];
      DivideInput(plan_, plan, group->rounded.scales, block_);
      if (fold.IntoLinear() &&
          LosesScales(before, block_.linears[fold.index], FitOf(fold).format)) {
        block_.linears[fold.index] = std::move(before);
        input.vector_fold.reset();  // it borrows from what was replaced
        method.scale = ScaleChoice::kNone;
        group = RoundWithinLimit(input, method, stored, fit, params_.max_relative_error, executor_);
        if (!group.ok()) return group.status();
        group->rounded.report.notes.push_back(
            "not scaled, because F16 cannot hold the divided scales of the Linear before it");
      } else if (fold.IntoLinear()) {
        undivided_.try_emplace(fold.index, std::move(before));
      }
    }
    // A weight that took a fold is F32 by now, which is not how it came.
    GroupReport& report = group->rounded.report;
    for (size_t i = 0; i < plan.linears.size(); ++i) {
      report.linears[i].bytes_in = source_bytes_[plan.linears[i]];
    }
    if (!folds && !group->stays_f16) {
      report.notes.push_back(fold.IntoLinear()
                                 ? "not scaled, because the Linear before it is not quantized"
                                 : "not scaled, because nothing before it can take the scale");
    }
    absl::Status status = group->stays_f16 ? EmitPlain(plan, report) : EmitPacked(input, *group);
    if (status.ok() && group->raised) status = TellRaised(index, *group);
    if (!status.ok()) return status;
    if (last_) statistics_[index].reset();
    return absl::OkStatus();
  }

  // Tells the report how much the fold changes the block, and fails if that is more than rounding.
  absl::Status Prove(const GroupPlan& group, RoundedGroup& rounded) {
    if (absl::c_all_of(rounded.scales, [](float s) { return s == 1; })) return absl::OkStatus();
    const auto exchange = [&] {
      std::swap(block_.vectors, vectors_);
      for (auto& [index, linear] : undivided_) std::swap(block_.linears[index], linear);
    };
    exchange();
    const absl::StatusOr<double> difference =
        proof_.Difference(group, rounded.scales, block_, executor_);
    exchange();
    if (!difference.ok()) return difference.status();
    rounded.report.fold_error = *difference;
    return FoldProof::Check(group, *difference);
  }

  absl::Status EmitPacked(const GroupInput& input, const LimitedGroup& group) {
    for (size_t i = 0; i < tensors_.size(); ++i) {
      const size_t output = result_.outputs[i];
      absl::StatusOr<GroupResult> result = PackGroup(
          input, group.rounded, StoredAs(params_.outputs[output], group.format), executor_);
      if (!result.ok()) return result.status();
      for (NamedTensor& tensor : result->tensors) tensors_[i].push_back(std::move(tensor));
      absl::Status status = sink_.GroupDone(output, result->report);
      if (!status.ok()) return status;
    }
    return absl::OkStatus();
  }

  absl::Status EmitPlain(const GroupPlan& plan, GroupReport& report) {
    for (size_t i = 0; i < plan.linears.size(); ++i) {
      if (absl::Status status = AddPlain(block_.linears[plan.linears[i]]); !status.ok()) {
        return status;
      }
      report.linears[i].bytes_out = static_cast<int64_t>(tensors_[0].back().data.size());
    }
    for (const size_t output : result_.outputs) {
      if (absl::Status status = sink_.GroupDone(output, report); !status.ok()) return status;
    }
    return absl::OkStatus();
  }

  absl::Status TellRaised(size_t index, const LimitedGroup& group) {
    for (const size_t output : result_.outputs) {
      raised_.push_back({output, block_.layer, plan_.groups[index].path,
                         group.stays_f16 ? kRaisedToF16 : group.format.bits, group.why});
      if (absl::Status status = sink_.Raised(raised_.back()); !status.ok()) return status;
    }
    return absl::OkStatus();
  }

  const BlockPlan& plan_;
  const QuantizeModelParams& params_;
  const PlainDTypes& dtypes_;
  const SharedResult& result_;
  const BlockFits& fits_;
  BlockWeights block_;
  GroupStatistics& statistics_;
  FoldProof proof_;
  // These are vectors and Linears as they were read, of those that took a fold since.
  std::vector<StoredVector> vectors_;
  std::map<size_t, StoredLinear> undivided_;
  const bool last_;
  QuantizedModelSink& sink_;
  Executor& executor_;
  std::vector<int64_t> source_bytes_;              // of the weights, as BlockPlan::linears
  std::vector<std::vector<NamedTensor>> tensors_;  // by place in result_.outputs
  std::vector<RaisedGroup> raised_;
};

}  // namespace

absl::StatusOr<std::vector<RaisedGroup>> QuantizeBlock(
    const Model& model, const QuantizeModelParams& params, const PlainDTypes& dtypes,
    absl::Span<const SharedResult> results, BlockWeights block, GroupStatistics statistics,
    const Matrix& row, QuantizedModelSink& sink, Executor& executor) {
  const int64_t layer = block.layer;
  std::vector<RaisedGroup> raised;
  for (const SharedResult& result : results) {
    const bool last = &result == &results.back();
    BlockQuantizer quantizer(model, params, dtypes, result, last ? std::move(block) : block,
                             statistics, row, last, sink, executor);
    if (absl::Status status = quantizer.Run(); !status.ok()) return status;
    for (RaisedGroup& group : quantizer.raised()) raised.push_back(std::move(group));
  }
  if (absl::Status status = sink.BlockDone(layer); !status.ok()) return status;
  return raised;
}

}  // namespace salient
