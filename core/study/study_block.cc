#include "core/study/study_block.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/parallel/executor.h"
#include "core/parallel/tiles.h"
#include "core/statistics/loss_model.h"
#include "core/statistics/statistics.h"
#include "core/tensor/dtype.h"
#include "core/tensor/matrix.h"
#include "core/tensor/weight_view.h"

namespace salient {
namespace {

std::string WeightName(const StoredLinear& linear) { return absl::StrCat(linear.name, ".weight"); }

WeightView Rows(const WeightView& weight, int64_t first, int64_t count) {
  return {weight.dtype, weight.data + first * weight.in_features * SizeOf(weight.dtype), count,
          weight.in_features};
}

// Holds, of some rows, the loss of each choice and of having no weight at all.
struct TileLosses {
  std::array<Loss, kStudiedChoices> errors;
  Loss energy;
};

// Holds, by choice, the channels of one Linear that stay.
using Kept = std::array<std::vector<int64_t>, kStudiedChoices>;

absl::StatusOr<TileLosses> LossesOfTile(const WeightView& rows, const Kept& kept,
                                        const WeightFormat& format, const LossModel& model) {
  TileLosses losses;
  Matrix weights = Matrix::Unset(rows.out_features, rows.in_features);
  rows.ReadRows(0, rows.out_features, weights.data());
  absl::StatusOr<Loss> energy = model.Evaluate(weights.data(), rows.out_features);
  if (!energy.ok()) return energy.status();
  losses.energy = *std::move(energy);
  for (size_t c = 0; c < kStudiedChoices; ++c) {
    absl::StatusOr<Matrix> rounded = RoundSalientFp16(rows, kept[c], format);
    if (!rounded.ok()) return rounded.status();
    for (int64_t i = 0; i < weights.rows() * weights.cols(); ++i) {
      rounded->data()[i] -= weights.data()[i];
    }
    absl::StatusOr<Loss> error = model.Evaluate(rounded->data(), rows.out_features);
    if (!error.ok()) return error.status();
    losses.errors[c] = *std::move(error);
  }
  return losses;
}

class BlockStudy {
 public:
  BlockStudy(const BlockWeights& block, const StudyBlockParams& params, Executor& executor)
      : block_(block), params_(params), executor_(executor) {}

  // `linears` as BlockPlan::linears.
  absl::Status AddGroup(const std::vector<size_t>& linears, const Statistics& statistics) {
    std::vector<Kept> kept(linears.size());
    const auto count = static_cast<int64_t>(linears.size());
    absl::Status status = executor_.ForEach(count, [&](int64_t i) -> absl::Status {
      const auto place = static_cast<size_t>(i);
      absl::StatusOr<Kept> chosen = Choose(linears[place], statistics);
      if (!chosen.ok()) return chosen.status();
      kept[place] = *std::move(chosen);
      return absl::OkStatus();
    });
    if (status.ok()) status = AddErrors(linears, kept, statistics);
    if (!status.ok()) return status;
    for (size_t i = 0; i < linears.size(); ++i) {
      for (size_t c = 0; c < kStudiedChoices; ++c) {
        studied_.kept[c].emplace(WeightName(block_.linears[linears[i]]), std::move(kept[i][c]));
      }
    }
    return absl::OkStatus();
  }

  StudiedBlock Finish() && { return std::move(studied_); }

 private:
  absl::StatusOr<Kept> Choose(size_t index, const Statistics& statistics) const {
    const StoredLinear& linear = block_.linears[index];
    SalientFp16Params params;
    params.share = params_.salient_share;
    params.seed = params_.seed;
    params.linear =
        block_.layer * static_cast<int64_t>(block_.linears.size()) + static_cast<int64_t>(index);
    Kept kept;
    for (size_t c = 0; c < kStudiedChoices; ++c) {
      params.choice = kSalientChoices[c];
      absl::StatusOr<std::vector<int64_t>> channels =
          SalientChannels(linear.View(), statistics, params);
      if (!channels.ok()) {
        return absl::Status(channels.status().code(),
                            absl::StrCat(WeightName(linear), ": ", channels.status().message()));
      }
      kept[c] = *std::move(channels);
    }
    return kept;
  }

  // Pieces of rows are summed in their order, whoever computed them.
  absl::Status AddErrors(const std::vector<size_t>& linears, const std::vector<Kept>& kept,
                         const Statistics& statistics) {
    const absl::StatusOr<LossModel> model = LossModel::Create(statistics, executor_);
    if (!model.ok()) return model.status();
    std::vector<int64_t> rows;
    for (const size_t linear : linears) rows.push_back(block_.linears[linear].out_features);
    const StackedTiles tiles(rows, kRowTile);
    std::vector<TileLosses> partial(static_cast<size_t>(tiles.size()));
    absl::Status status = executor_.ForEach(tiles.size(), [&](int64_t tile) -> absl::Status {
      const auto [index, first, count] = tiles.At(tile);
      const StoredLinear& linear = block_.linears[linears[index]];
      absl::StatusOr<TileLosses> losses =
          LossesOfTile(Rows(linear.View(), first, count), kept[index], params_.format, *model);
      if (!losses.ok()) {
        return absl::Status(losses.status().code(),
                            absl::StrCat(WeightName(linear), ", from row ", first,
                                         " on: ", losses.status().message()));
      }
      partial[tile] = *std::move(losses);
      return absl::OkStatus();
    });
    if (!status.ok()) return status;
    TileLosses total;
    for (const TileLosses& losses : partial) {
      total.energy.Add(losses.energy);
      for (size_t c = 0; c < kStudiedChoices; ++c) total.errors[c].Add(losses.errors[c]);
    }
    const double energy = total.energy.Value();
    for (size_t c = 0; c < kStudiedChoices; ++c) {
      studied_.relative_errors[c].push_back(energy > 0 ? total.errors[c].Value() / energy : 0);
    }
    return absl::OkStatus();
  }

  const BlockWeights& block_;
  const StudyBlockParams& params_;
  Executor& executor_;
  StudiedBlock studied_;
};

}  // namespace

absl::StatusOr<StudiedBlock> StudyBlock(const BlockPlan& plan, const BlockWeights& block,
                                        const GroupStatistics& statistics, const BlockFits& fits,
                                        const StudyBlockParams& params, Executor& executor) {
  const StageScope stage(executor, Stage::kLoss);
  BlockStudy study(block, params, executor);
  for (size_t group = 0; group < plan.groups.size(); ++group) {
    if (!fits[group].fits) continue;
    absl::Status status = study.AddGroup(plan.groups[group].linears, *statistics[group]);
    if (!status.ok()) return status;
  }
  return std::move(study).Finish();
}

}  // namespace salient
