#include "core/group/round_linears.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/kernels/error_kernels.h"
#include "core/kernels/forward_kernels.h"
#include "core/kernels/round_kernels.h"
#include "core/kernels/sum_kernels.h"
#include "core/method/block_curvature.h"
#include "core/method/range_clip.h"
#include "core/method/ranges.h"
#include "core/method/round_block.h"
#include "core/method/round_gptq.h"
#include "core/method/round_nearest.h"
#include "core/method/shrunk_range.h"
#include "core/parallel/tiles.h"
#include "core/statistics/search_loss.h"
#include "core/tensor/matrix.h"
#include "core/tensor/non_finite.h"

namespace salient {
namespace {

StackedTiles TilesOf(absl::Span<const Linear> linears) {
  std::vector<int64_t> rows;
  for (const Linear& linear : linears) rows.push_back(linear.weight.out_features);
  return StackedTiles(rows, kRowTile);
}

std::vector<float> Inverses(absl::Span<const float> scales) {
  std::vector<float> inverse(scales.begin(), scales.end());
  for (float& value : inverse) value = 1.0f / value;
  return inverse;
}

// Turns a tile's weights, still to be multiplied by the scales, into the errors of rounding each
// group of them to nearest between its smallest and its largest, or those of `whole`.
absl::Status NearestErrorsOfTile(const WeightFormat& format, absl::Span<const float> scales,
                                 absl::Span<const float> inverse, const WholeRange& whole,
                                 int64_t first, Matrix& rows) {
  const int64_t size = format.GroupSize(rows.cols());
  for (int64_t i = 0; i < rows.rows(); ++i) {
    float* row = rows.Row(i);
    Multiply(row, scales.data(), rows.cols(), row);
    for (int64_t g = 0; g < rows.cols() / size; ++g) {
      float* group = row + g * size;
      const auto [lo, hi] = whole.has_value() ? *whole : MinMax(group, size);
      const Affine affine = FitAffine(lo, hi, 1.0f, format);
      absl::Status status = CheckScale(affine.scale, first + i, g, format);
      if (!status.ok()) return status;
      NearestErrors(group, size, affine, group);
    }
    Multiply(row, inverse.data(), rows.cols(), row);
  }
  return absl::OkStatus();
}

// A loss that errors are only compared with, of a tile's weights themselves.
absl::StatusOr<Loss> EnergyOfTile(const Matrix& rows, const SearchLoss& loss) {
  SearchLoss::Sums sums(loss, rows.rows());
  SearchLoss::Scratch scratch(loss, rows.rows());
  std::vector<uint16_t> rounded(static_cast<size_t>(rows.rows() * loss.WidestBlock()));
  std::array<float, SearchLoss::kPiece> squares;
  for (int64_t b = 0; b < loss.Blocks(); ++b) {
    uint16_t* piece = rounded.data();
    const int64_t end = loss.First(b) + loss.Columns(b);
    for (int64_t at = loss.First(b); at < end; at += SearchLoss::kPiece) {
      const int64_t columns = std::min(SearchLoss::kPiece, end - at);
      for (int64_t t = 0; t < rows.rows(); ++t, piece += columns) {
        const float* w = rows.Row(t) + at;
        RoundToBf16(w, columns, piece);
        Multiply(w, w, columns, squares.data());
        sums.squares[t] += Dot(squares.data(), loss.diagonal() + at, columns);
        sums.shifts[t] += Dot(w, loss.mean() + at, columns);
      }
    }
    absl::Status status = loss.AddBlock(b, rounded.data(), rows.rows(), scratch, sums);
    if (!status.ok()) return status;
  }
  return loss.Total(sums);
}

absl::StatusOr<std::vector<Loss>> LossesOf(absl::Span<const Linear> linears,
                                           absl::Span<const AffineGroups> groups,
                                           absl::Span<const float> scales, const LossModel& model,
                                           Executor& executor) {
  const StageScope stage(executor, Stage::kLoss);
  const std::vector<float> inverse = Inverses(scales);
  const StackedTiles tiles = TilesOf(linears);
  std::vector<Loss> partial(static_cast<size_t>(tiles.size()));
  absl::Status status = executor.ForEach(tiles.size(), [&](int64_t tile) -> absl::Status {
    const auto [index, first, count] = tiles.At(tile);
    const AffineGroups& rounded = groups[index];
    const int64_t size = rounded.format.GroupSize(rounded.in_features);
    Matrix rows(count, rounded.in_features);
    linears[index].weight.ReadRows(first, count, rows.data());
    for (int64_t i = 0; i < count; ++i) {
      const uint8_t* codes = rounded.codes.data() + (first + i) * rounded.in_features;
      for (int64_t g = 0; g < rounded.Groups(); ++g) {
        const int64_t at = (first + i) * rounded.Groups() + g;
        DecodedErrors(codes + g * size, size, rounded.scales[at], rounded.zero_points[at],
                      inverse.data() + g * size, rows.Row(i) + g * size);
      }
    }
    absl::StatusOr<Loss> loss = model.Evaluate(rows.data(), count);
    if (!loss.ok()) return loss.status();
    partial[tile] = *std::move(loss);
    return absl::OkStatus();
  });
  if (!status.ok()) return status;
  std::vector<Loss> losses(linears.size());
  for (int64_t t = 0; t < tiles.size(); ++t) losses[tiles.At(t).index].Add(partial[t]);
  return losses;
}

// AutoAWQ leaves the range of query and key projections alone.
bool AutoAwqSkipsClip(const std::string& name) {
  for (absl::string_view token : {"q_", "k_", "query", "key", "Wqkv"}) {
    if (absl::StrContains(name, token)) return true;
  }
  return false;
}

absl::StatusOr<std::vector<Ranges>> RangesOf(absl::Span<const Linear> linears,
                                             absl::Span<const float> scales, const LossModel& model,
                                             const Method& method, const WeightFormat& format,
                                             Executor& executor) {
  const StageScope stage(executor, Stage::kRange);
  std::vector<Ranges> ranges;
  for (const Linear& linear : linears) {
    const bool clip =
        method.range == RangeChoice::kClip && !(method.autoawq && AutoAwqSkipsClip(linear.name));
    absl::StatusOr<Ranges> found =
        clip ? RangeClip(linear.weight, scales, model, format, method.autoawq, executor)
             : RangeMinMax(linear.weight, scales, format, method.autoawq, executor);
    if (!found.ok()) return Named(linear.name, found.status());
    ranges.push_back(*std::move(found));
  }
  return ranges;
}

// Holds the codes of all Linears, and what a user should know of them.
struct Codes {
  std::vector<AffineGroups> groups;
  std::string note;
};

absl::StatusOr<Codes> GptqCodesOf(absl::Span<const RoundInput> inputs,
                                  absl::Span<const float> scales, const LossModel& model,
                                  const Method& method, const WeightFormat& format,
                                  Executor& executor) {
  absl::StatusOr<GptqRounding> rounded =
      RoundGptq(inputs, scales, model, format, method.gptq, executor);
  if (!rounded.ok()) return rounded.status();
  Codes codes{std::move(rounded->groups), {}};
  if (rounded->damping > method.gptq.damping) {
    codes.note = absl::StrCat("X^T X could not be factored with a damping of ", method.gptq.damping,
                              "; ", rounded->damping, " was used");
  }
  return codes;
}

absl::StatusOr<Codes> CodesOf(absl::Span<const Linear> linears, const std::vector<Ranges>& ranges,
                              absl::Span<const float> scales, const LossModel& model,
                              const Method& method, const WeightFormat& format,
                              Executor& executor) {
  const StageScope stage(executor, Stage::kRounding);
  std::vector<RoundInput> inputs;
  for (size_t i = 0; i < linears.size(); ++i) inputs.push_back({linears[i].weight, &ranges[i]});
  const auto plain = [](absl::StatusOr<std::vector<AffineGroups>> groups) -> absl::StatusOr<Codes> {
    if (!groups.ok()) return groups.status();
    return Codes{*std::move(groups), {}};
  };
  if (method.rounding == RoundingChoice::kNearest) {
    return plain(RoundNearest(inputs, scales, format, executor));
  }
  if (method.rounding == RoundingChoice::kGptq) {
    return GptqCodesOf(inputs, scales, model, method, format, executor);
  }
  RoundBlockParams params = method.block;
  // A row's refit would part its scale from those of the other rows.
  if (format.group_size == kWholeTensor) params.refits = 0;
  absl::Status status = ValidateRoundBlockParams(params, model.block_width());
  if (!status.ok()) return status;
  // They read the same input, so one curvature serves all.
  absl::StatusOr<std::vector<BlockCurvature>> blocks =
      ShrinkBlocks(model, scales, params, executor);
  if (!blocks.ok()) return blocks.status();
  return plain(RoundBlock(inputs, scales, *blocks, format, params, executor));
}

absl::StatusOr<std::vector<Baseline>> BaselinesOnSample(const ActivationLoss& sample,
                                                        absl::Span<const float> scales,
                                                        const WeightFormat& format,
                                                        Executor& executor) {
  absl::StatusOr<std::vector<Loss>> nearest = sample.Nearest(scales, format, executor);
  if (!nearest.ok()) return nearest.status();
  std::vector<Loss> energies = sample.Energies();
  std::vector<Baseline> baselines;
  for (size_t i = 0; i < energies.size(); ++i) {
    baselines.push_back({std::move((*nearest)[i]), std::move(energies[i])});
  }
  return baselines;
}

}  // namespace

absl::Status Named(const std::string& name, const absl::Status& status) {
  if (status.ok() || absl::StartsWith(status.message(), name)) return status;
  const std::string message = absl::StrCat(name, ": ", status.message());
  return IsNonFinite(status) ? NonFiniteError(message) : absl::Status(status.code(), message);
}

absl::StatusOr<std::vector<Baseline>> Baselines(absl::Span<const Linear> linears,
                                                absl::Span<const float> scales,
                                                const LossModel& model, const WeightFormat& format,
                                                Executor& executor, const ActivationLoss* sample) {
  const StageScope stage(executor, Stage::kLoss);
  if (sample != nullptr) return BaselinesOnSample(*sample, scales, format, executor);
  const absl::StatusOr<SearchLoss> coarse = SearchLoss::Create(model, executor);
  if (!coarse.ok()) return coarse.status();
  const std::vector<float> inverse = Inverses(scales);
  std::vector<WholeRange> whole;
  for (const Linear& linear : linears) {
    absl::StatusOr<WholeRange> range = WholeRangeOf(linear.weight, scales, format, executor);
    if (!range.ok()) return range.status();
    whole.push_back(*range);
  }
  const StackedTiles tiles = TilesOf(linears);
  std::vector<Baseline> partial(static_cast<size_t>(tiles.size()));
  absl::Status status = executor.ForEach(tiles.size(), [&](int64_t tile) -> absl::Status {
    const auto [index, first, count] = tiles.At(tile);
    const Linear& linear = linears[index];
    Matrix rows(count, linear.weight.in_features);
    linear.weight.ReadRows(first, count, rows.data());
    absl::Status checked =
        CheckFinite(absl::StrCat(linear.name, ".weight"), rows.data(), count, rows.cols(), first);
    if (!checked.ok()) return checked;
    absl::StatusOr<Loss> energy = EnergyOfTile(rows, *coarse);
    if (!energy.ok()) return energy.status();
    checked = NearestErrorsOfTile(format, scales, inverse, whole[index], first, rows);
    if (!checked.ok()) return Named(linear.name, checked);
    absl::StatusOr<Loss> nearest = model.Evaluate(rows.data(), count);
    if (!nearest.ok()) return nearest.status();
    partial[tile] = {*std::move(nearest), *std::move(energy)};
    return absl::OkStatus();
  });
  if (!status.ok()) return status;
  std::vector<Baseline> baselines(linears.size());
  for (int64_t t = 0; t < tiles.size(); ++t) {
    baselines[tiles.At(t).index].nearest.Add(partial[t].nearest);
    baselines[tiles.At(t).index].energy.Add(partial[t].energy);
  }
  return baselines;
}

absl::StatusOr<std::vector<RoundedLinear>> RoundLinears(
    absl::Span<const Linear> linears, absl::Span<const float> scales, const LossModel& model,
    const Method& method, const WeightFormat& format, Executor& executor,
    const ActivationLoss* sample) {
  absl::StatusOr<std::vector<Ranges>> ranges =
      RangesOf(linears, scales, model, method, format, executor);
  if (!ranges.ok()) return ranges.status();
  absl::StatusOr<Codes> codes = CodesOf(linears, *ranges, scales, model, method, format, executor);
  if (!codes.ok()) return codes.status();
  absl::StatusOr<std::vector<Loss>> losses =
      sample != nullptr ? sample->Of(codes->groups, scales, executor)
                        : LossesOf(linears, codes->groups, scales, model, executor);
  if (!losses.ok()) return losses.status();
  std::vector<RoundedLinear> rounded;
  for (size_t i = 0; i < linears.size(); ++i) {
    const std::vector<uint8_t>& narrowed = (*ranges)[i].narrowed;
    const auto count = static_cast<double>(std::count(narrowed.begin(), narrowed.end(), 1));
    rounded.push_back({std::move(codes->groups[i]), std::move((*losses)[i]),
                       count / static_cast<double>(narrowed.size()), codes->note});
  }
  return rounded;
}

}  // namespace salient
