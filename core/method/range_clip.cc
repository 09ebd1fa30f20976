#include "core/method/range_clip.h"

#include <algorithm>
#include <tuple>
#include <utility>
#include <vector>

#include "core/kernels/round_kernels.h"
#include "core/kernels/search_kernels.h"
#include "core/kernels/sum_kernels.h"
#include "core/linalg/gemm.h"
#include "core/linalg/quadratic_form.h"
#include "core/method/shrunk_range.h"
#include "core/parallel/tiles.h"
#include "core/tensor/matrix.h"

namespace salient {
namespace {

constexpr int64_t kTile = 16;  // Candidates of so many rows share one GEMM.

// errors = Q(clamp(w)) - w; clamping changes the codes, the error is against the weight itself.
void ClampedErrors(const float* w, int64_t n, const ShrunkRange& candidate, float* errors) {
  std::vector<float> clamped(w, w + n);
  for (float& value : clamped) value = std::clamp(value, -candidate.clamp, candidate.clamp);
  NearestErrors(clamped.data(), n, candidate.affine, errors);
  for (int64_t k = 0; k < n; ++k) errors[k] += clamped[k] - w[k];
}

// losses[i] = sum over the exact blocks that [begin, begin + size) touches of e_i H e_i^T, for
// errors [count, size] in original units.
absl::Status GroupLosses(const LossModel& model, const Matrix& errors, int64_t begin,
                         Matrix& product, std::vector<double>& losses) {
  std::fill(losses.begin(), losses.end(), 0.0);
  const int64_t end = begin + errors.cols();
  const int64_t width = model.block_width();
  for (int64_t at = begin; at < end;) {
    const int64_t block = at / width;
    const int64_t stop = std::min(end, (block + 1) * width);
    const int64_t n = stop - at;
    // A group that crosses a block's end is two parts: only products within a block count.
    const float* h = model.Block(block) + (at % width) * width + at % width;
    const float* part = errors.data() + (at - begin);
    if (absl::Status status = Gemm(Op::kPlain, Op::kPlain, errors.rows(), n, n, part, errors.cols(),
                                   h, width, 0.0f, product.data(), n);
        !status.ok()) {
      return status;
    }
    for (int64_t i = 0; i < errors.rows(); ++i) {
      losses[i] += Dot(part + i * errors.cols(), product.data() + i * n, n);
    }
    at = stop;
  }
  return absl::OkStatus();
}

absl::StatusOr<Ranges> ClipInF32(const WeightView& weight, absl::Span<const float> scales,
                                 const LossModel& model, const WeightFormat& format, bool autoawq,
                                 Executor& executor) {
  const int64_t columns = weight.in_features;
  const int64_t size = format.GroupSize(columns);
  const int factors = autoawq ? kShrinkFactorsAutoAwq : kShrinkFactors;
  Ranges ranges(weight.out_features, columns / size);
  if (autoawq) ranges.clamps.assign(ranges.scales.size(), 0.0f);
  std::vector<float> inverse(scales.begin(), scales.end());
  for (float& value : inverse) value = 1.0f / value;
  const absl::StatusOr<WholeRange> whole = WholeRangeOf(weight, scales, format, executor);
  if (!whole.ok()) return whole.status();

  const RowTiles tiles(weight.out_features, kTile);
  std::vector<std::vector<double>> of_whole(static_cast<size_t>(tiles.size()),
                                            std::vector<double>(static_cast<size_t>(factors), 0.0));
  absl::Status status = executor.ForEach(tiles.size(), [&](int64_t tile) -> absl::Status {
    const int64_t count = tiles.Count(tile);
    Matrix rows(count, columns);
    ReadScaledRows(weight, scales, tiles.First(tile), count, rows.data());
    // All factors of all rows of the tile are the rows of one product, so that H of a group is read
    // once a tile and not once a candidate.
    Matrix errors(count * factors, size);
    Matrix product(count * factors, std::min(size, model.block_width()));
    std::vector<double> losses(static_cast<size_t>(errors.rows()));
    std::vector<ShrunkRange> candidates(losses.size());
    for (int64_t g = 0; g < ranges.groups; ++g) {
      for (int64_t i = 0; i < count; ++i) {
        const float* w = rows.Row(i) + g * size;
        const auto [lo, hi] = whole->value_or(MinMax(w, size));
        for (int f = 0; f < factors; ++f) {
          ShrunkRange& candidate = candidates[i * factors + f];
          candidate = Shrunk(lo, hi, f, format, autoawq);
          float* error = errors.Row(i * factors + f);
          if (autoawq) {
            ClampedErrors(w, size, candidate, error);
          } else {
            NearestErrors(w, size, candidate.affine, error);
          }
          Multiply(error, inverse.data() + g * size, size, error);
        }
      }
      if (absl::Status s = GroupLosses(model, errors, g * size, product, losses); !s.ok()) return s;
      if (whole->has_value()) {
        AddByFactor(losses, of_whole[tile]);
        continue;
      }
      for (int64_t i = 0; i < count; ++i) {
        const auto first = losses.begin() + i * factors;
        const int64_t best = std::min_element(first, first + factors) - first;
        const ShrunkRange& chosen = candidates[i * factors + best];
        const int64_t row = tiles.First(tile) + i;
        ranges.Set(row, g, chosen.affine);
        ranges.narrowed[row * ranges.groups + g] = best > 0 ? 1 : 0;
        if (autoawq) ranges.clamps[row * ranges.groups + g] = chosen.clamp;
      }
    }
    return absl::OkStatus();
  });
  if (status.ok() && whole->has_value()) ChooseWhole(of_whole, *whole, format, autoawq, ranges);
  if (status.ok()) status = CheckScales(ranges, format);
  if (!status.ok()) return status;
  return ranges;
}

// The columns of a group that lie in one diagonal block, and their part of the loss.
struct Part {
  int64_t begin = 0;
  int64_t columns = 0;
  QuadraticForm form;
};

// The parts of every group of a row.
absl::StatusOr<std::vector<std::vector<Part>>> CutGroups(const LossModel& model, int64_t size,
                                                         Executor& executor) {
  std::vector<std::vector<Part>> groups(static_cast<size_t>(model.in_features() / size));
  SerialExecutor serial;
  const auto cut = [&](int64_t g) -> absl::Status {
    for (int64_t at = g * size; at < (g + 1) * size;) {
      const int64_t block_end = (at / model.block_width() + 1) * model.block_width();
      const int64_t columns = std::min(block_end, (g + 1) * size) - at;
      absl::StatusOr<QuadraticForm> form =
          QuadraticForm::Create(model.Centred(at, columns), kClipPiece, serial);
      if (!form.ok()) return form.status();
      groups[g].push_back({at, columns, *std::move(form)});
      at += columns;
    }
    return absl::OkStatus();
  };
  absl::Status status = executor.ForEach(static_cast<int64_t>(groups.size()), cut);
  if (!status.ok()) return status;
  return groups;
}

// Holds what the tiles of one RangeClip share.
struct ClipInput {
  const WeightView* weight;
  absl::Span<const float> scales;
  std::vector<float> inverse;
  std::vector<float> diagonal;  // It is that of H_c / n.
  const LossModel* model;
  const WeightFormat* format;
  WholeRange whole;
  std::vector<std::vector<Part>> groups;
};

// The choices of rows [first, first + count); for a whole range only `of_whole`, the losses of the
// factors.
absl::Status ClipRows(const ClipInput& input, int64_t first, int64_t count, Ranges& ranges,
                      std::vector<double>& of_whole) {
  const int64_t columns = input.weight->in_features;
  const int64_t size = columns / ranges.groups;
  const int64_t candidates = count * kShrinkFactors;
  const int64_t widest = std::min(size, input.model->block_width());
  Matrix rows(count, columns);
  input.weight->ReadRows(first, count, rows.data());
  Matrix lo(1, ranges.groups);
  Matrix hi(1, ranges.groups);
  Matrix fitted(candidates, ranges.groups);
  Matrix zero_points(candidates, ranges.groups);
  for (int64_t i = 0; i < count; ++i) {
    if (input.whole.has_value()) {
      std::tie(*lo.data(), *hi.data()) = *input.whole;
    } else {
      ScaledMinMax(rows.Row(i), input.scales.data(), ranges.groups, size, lo.data(), hi.data());
    }
    for (int f = 0; f < kShrinkFactors; ++f) {
      // The maps of one factor are fitted for all groups of the row at once.
      FitAffines(lo.data(), hi.data(), ShrinkFactor(f), ranges.groups, *input.format,
                 fitted.Row(i * kShrinkFactors + f), zero_points.Row(i * kShrinkFactors + f));
    }
  }
  RoundingPanel panel;
  panel.rows = candidates;
  panel.w_stride = columns;
  // A row of weights stands under all its factors, one after the other.
  panel.repeats = kShrinkFactors;
  panel.scales = fitted.data();
  panel.zero_points = zero_points.data();
  panel.maps_stride = ranges.groups;
  panel.group_size = size;
  panel.max_code = static_cast<float>(input.format->MaxCode());
  std::vector<uint16_t> errors(static_cast<size_t>(candidates * widest));
  Matrix product(candidates, widest);
  for (int64_t g = 0; g < ranges.groups; ++g) {
    std::vector<double> losses(static_cast<size_t>(candidates), 0.0);
    for (const Part& part : input.groups[g]) {
      std::vector<double> shifts(losses.size(), 0.0);
      uint16_t* piece = errors.data();
      for (int64_t at = 0; at < part.columns; at += kClipPiece) {
        panel.begin = part.begin + at;
        panel.columns = std::min(kClipPiece, part.columns - at);
        panel.w = rows.data() + panel.begin;
        panel.s = input.scales.data() + panel.begin;
        panel.inverse_s = input.inverse.data() + panel.begin;
        panel.diagonal = input.diagonal.data() + panel.begin;
        panel.mean = input.model->mean().data() + panel.begin;
        RoundPanel(panel, piece, losses.data(), shifts.data());
        piece += candidates * panel.columns;
      }
      absl::Status status = part.form.Add(candidates, errors.data(), product.data(), losses.data());
      if (!status.ok()) return status;
      // The form has the centred part; the shift of the output's mean is added exactly.
      for (size_t t = 0; t < losses.size(); ++t) losses[t] += shifts[t] * shifts[t];
    }
    if (input.whole.has_value()) {
      AddByFactor(losses, of_whole);
      continue;
    }
    for (int64_t i = 0; i < count; ++i) {
      const auto of_row = losses.begin() + i * kShrinkFactors;
      const int64_t best = std::min_element(of_row, of_row + kShrinkFactors) - of_row;
      const int64_t at = (first + i) * ranges.groups + g;
      ranges.scales[at] = fitted.Row(i * kShrinkFactors + best)[g];
      ranges.zero_points[at] = zero_points.Row(i * kShrinkFactors + best)[g];
      ranges.narrowed[at] = best > 0 ? 1 : 0;
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Ranges> RangeClip(const WeightView& weight, absl::Span<const float> scales,
                                 const LossModel& model, const WeightFormat& format, bool autoawq,
                                 Executor& executor) {
  const StageScope stage(executor, Stage::kRange);
  if (autoawq) return ClipInF32(weight, scales, model, format, true, executor);
  const int64_t size = format.GroupSize(weight.in_features);
  absl::StatusOr<WholeRange> whole = WholeRangeOf(weight, scales, format, executor);
  if (!whole.ok()) return whole.status();
  ClipInput input{&weight, scales, {scales.begin(), scales.end()}, {}, &model, &format, *whole, {}};
  for (float& value : input.inverse) value = 1.0f / value;
  input.diagonal.resize(scales.size());
  for (int64_t j = 0; j < weight.in_features; ++j) {
    input.diagonal[j] = model.Centred(j, 1).data[0];
  }
  absl::StatusOr<std::vector<std::vector<Part>>> groups = CutGroups(model, size, executor);
  if (!groups.ok()) return groups.status();
  input.groups = *std::move(groups);
  Ranges ranges(weight.out_features, weight.in_features / size);
  const RowTiles tiles(weight.out_features, kTile);
  std::vector<std::vector<double>> of_whole(static_cast<size_t>(tiles.size()),
                                            std::vector<double>(kShrinkFactors, 0.0));
  absl::Status status = executor.ForEach(tiles.size(), [&](int64_t tile) {
    return ClipRows(input, tiles.First(tile), tiles.Count(tile), ranges, of_whole[tile]);
  });
  if (status.ok() && whole->has_value()) ChooseWhole(of_whole, *whole, format, false, ranges);
  if (status.ok()) status = CheckScales(ranges, format);
  if (!status.ok()) return status;
  return ranges;
}

absl::StatusOr<Ranges> RangeClipTwin(const WeightView& weight, absl::Span<const float> scales,
                                     const LossModel& model, const WeightFormat& format,
                                     Executor& executor) {
  return ClipInF32(weight, scales, model, format, false, executor);
}

}  // namespace salient
