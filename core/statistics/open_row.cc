#include "core/statistics/open_row.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "absl/strings/str_cat.h"
#include "core/linalg/gemm.h"
#include "core/linalg/sum_kernels.h"
#include "core/statistics/sketch_signs.h"
#include "core/tensor/half.h"

namespace salient {
namespace {

// Below this many elements a batch is widened where it stands: handing it out costs more.
constexpr int64_t kWorthSharing = 1 << 16;

double RoundTo24(double value) { return std::nearbyint(value * 0x1p24) * 0x1p-24; }

int64_t PairCount(const StatisticsParams& params) {
  const int64_t panels = params.Blocks();
  return params.ExactGram() ? panels * (panels + 1) / 2 : panels;
}

void Widen(DType dtype, const std::byte* data, int64_t count, float* out) {
  if (dtype == DType::kF16 && reinterpret_cast<uintptr_t>(data) % alignof(uint16_t) == 0) {
    WidenF16(reinterpret_cast<const uint16_t*>(data), count, out);
  } else {
    WidenToF32(dtype, data, count, out);
  }
}

// An all-ones exponent is what NaN and infinity share; no branch, so it vectorizes.
bool AllFinite(const float* values, int64_t count) {
  uint32_t bad = 0;
  for (int64_t i = 0; i < count; ++i) {
    bad |= (std::bit_cast<uint32_t>(values[i]) & 0x7F800000u) == 0x7F800000u ? 1u : 0u;
  }
  return bad == 0;
}

}  // namespace

OpenRow::OpenRow(std::string name, const StatisticsParams& params)
    : name_(std::move(name)),
      params_(params),
      tile_(params.Blocks() * kTileTokens, params.block_width),
      products_(PairCount(params) * params.block_width, params.block_width),
      sum_(static_cast<size_t>(params.Blocks() * params.block_width)),
      sum_abs_(sum_.size()),
      max_abs_(sum_.size()),
      bad_(static_cast<size_t>(params.Blocks())) {
  for (int64_t i = 0; i < params.Blocks(); ++i) {
    const int64_t end = params.ExactGram() ? params.Blocks() : i + 1;
    for (int64_t j = i; j < end; ++j) pairs_.push_back({i, j});
  }
  if (!params.ExactGram()) {
    signs_ = Matrix(kTileTokens, params.sketch_rows);
    sketch_ = Matrix(params.Blocks() * params.sketch_rows, params.block_width);
    sketch_row_sums_.resize(static_cast<size_t>(params.sketch_rows));
  }
}

int64_t OpenRow::MemoryBytes(const StatisticsParams& params) {
  const int64_t width = params.Blocks() * params.block_width;
  int64_t floats =
      width * kTileTokens + PairCount(params) * params.block_width * params.block_width;
  if (!params.ExactGram()) floats += (kTileTokens + width) * params.sketch_rows;
  return floats * 4 + width * (8 + 8 + 4) + params.sketch_rows * 8 +
         PairCount(params) * static_cast<int64_t>(sizeof(PanelPair));
}

int64_t OpenRow::Columns(int64_t panel) const {
  return std::min(params_.block_width, params_.in_features - panel * params_.block_width);
}

void OpenRow::Begin(int64_t calibration_row) {
  calibration_row_ = calibration_row;
  next_position_ = 0;
  tile_tokens_ = 0;
  first_tile_ = true;
  std::fill(sum_.begin(), sum_.end(), 0.0);
  std::fill(sum_abs_.begin(), sum_abs_.end(), 0.0);
  std::fill(max_abs_.begin(), max_abs_.end(), 0.0f);
  std::fill(sketch_row_sums_.begin(), sketch_row_sums_.end(), 0.0);
}

OpenRow::BadValue OpenRow::WidenPanel(int64_t panel, DType dtype, const std::byte* activations,
                                      int64_t tokens) {
  const int64_t columns = Columns(panel);
  const int64_t first_column = panel * params_.block_width;
  for (int64_t t = 0; t < tokens; ++t) {
    float* out = Panel(panel) + (tile_tokens_ + t) * params_.block_width;
    Widen(dtype, activations + (t * params_.in_features + first_column) * SizeOf(dtype), columns,
          out);
    if (AllFinite(out, columns)) continue;
    const float* bad =
        std::find_if_not(out, out + columns, [](float x) { return std::isfinite(x); });
    return {next_position_ + t, first_column + (bad - out), *bad};
  }
  return {};
}

absl::Status OpenRow::Append(DType dtype, const std::byte* activations, int64_t tokens,
                             Executor& executor) {
  const int64_t panels = params_.Blocks();
  const auto widen = [&](int64_t panel) {
    bad_[static_cast<size_t>(panel)] = WidenPanel(panel, dtype, activations, tokens);
    return absl::OkStatus();
  };
  if (tokens * params_.in_features < kWorthSharing) {
    for (int64_t panel = 0; panel < panels; ++panel) widen(panel).IgnoreError();
  } else if (absl::Status status = executor.ForEach(panels, widen); !status.ok()) {
    return status;
  }
  // The first token at fault, whatever the order in which the panels were done.
  const BadValue* first = nullptr;
  for (const BadValue& value : bad_) {
    if (value.position < 0) continue;
    if (first == nullptr || value.position < first->position) first = &value;
  }
  if (first != nullptr) {
    return absl::InvalidArgumentError(absl::StrCat(
        name_, ": activation of calibration row ", calibration_row_, ", position ", first->position,
        ", column ", first->column, " is ", first->value, "; expected a finite value"));
  }
  tile_tokens_ += tokens;
  next_position_ += tokens;
  return absl::OkStatus();
}

void OpenRow::CopyToken(int64_t position, float* out) const {
  const int64_t token = position - (next_position_ - tile_tokens_);
  for (int64_t panel = 0; panel < params_.Blocks(); ++panel) {
    const float* values = tile_.Row(panel * kTileTokens + token);
    std::copy(values, values + Columns(panel), out + panel * params_.block_width);
  }
}

absl::Status OpenRow::FoldTile(Executor& executor) {
  const int64_t padded = (tile_tokens_ + kTilePadding - 1) / kTilePadding * kTilePadding;
  if (!params_.ExactGram()) FillSigns(padded);
  // Padding first and on its own: a panel is read by several pairs.
  for (int64_t panel = 0; panel < params_.Blocks() && padded > tile_tokens_; ++panel) {
    float* begin = Panel(panel) + tile_tokens_ * params_.block_width;
    std::fill(begin, Panel(panel) + padded * params_.block_width, 0.0f);
  }
  absl::Status status = executor.ForEach(static_cast<int64_t>(pairs_.size()),
                                         [&](int64_t index) { return FoldPair(index, padded); });
  first_tile_ = false;
  tile_tokens_ = 0;
  return status;
}

void OpenRow::FillSigns(int64_t padded) {
  const int64_t first_position = next_position_ - tile_tokens_;
  const auto rows = static_cast<size_t>(params_.sketch_rows);
  for (int64_t t = 0; t < tile_tokens_; ++t) {
    float* signs = signs_.Row(t);
    FillSketchSigns(params_.seed, calibration_row_, first_position + t, {signs, rows});
    for (size_t k = 0; k < rows; ++k) sketch_row_sums_[k] += signs[k];
  }
  std::fill(signs_.Row(tile_tokens_),
            signs_.Row(tile_tokens_) + (padded - tile_tokens_) * params_.sketch_rows, 0.0f);
}

absl::Status OpenRow::FoldPair(int64_t index, int64_t padded) {
  const auto [i, j] = pairs_[static_cast<size_t>(index)];
  const int64_t width = params_.block_width;
  const float beta = first_tile_ ? 0.0f : 1.0f;
  absl::Status status = Gemm(Op::kTransposed, Op::kPlain, Columns(i), Columns(j), padded, Panel(i),
                             width, Panel(j), width, beta, products_.Row(index * width), width);
  if (!status.ok()) return status;
  if (i == j) AddSums(i);
  if (params_.ExactGram()) return absl::OkStatus();
  const int64_t rows = params_.sketch_rows;
  return Gemm(Op::kTransposed, Op::kPlain, rows, Columns(i), padded, signs_.data(), rows, Panel(i),
              width, beta, sketch_.Row(i * rows), width);
}

absl::Status OpenRow::AddTo(Statistics& totals, Executor& executor) const {
  absl::Status status =
      executor.ForEach(static_cast<int64_t>(pairs_.size()), [&](int64_t index) -> absl::Status {
        const auto [i, j] = pairs_[static_cast<size_t>(index)];
        if (i == j) {
          if (absl::Status added = AddPanelTo(i, totals); !added.ok()) return added;
        }
        AddPairTo(index, totals);
        return absl::OkStatus();
      });
  if (!status.ok()) return status;
  for (size_t k = 0; k < sketch_row_sums_.size(); ++k) {
    totals.sketch_row_sums[k] += sketch_row_sums_[k];
  }
  totals.token_count += next_position_;
  return absl::OkStatus();
}

// Eight columns at a time stay in registers over all tokens; each is summed in token order.
void OpenRow::AddSums(int64_t panel) {
  constexpr int64_t kLanes = 8;  // divides block_width
  const int64_t width = params_.block_width;
  for (int64_t column = 0; column < width; column += kLanes) {
    const auto at = static_cast<size_t>(panel * width + column);
    double sum[kLanes];
    double sum_abs[kLanes];
    float max_abs[kLanes];
    std::copy_n(&sum_[at], kLanes, sum);
    std::copy_n(&sum_abs_[at], kLanes, sum_abs);
    std::copy_n(&max_abs_[at], kLanes, max_abs);
    for (int64_t t = 0; t < tile_tokens_; ++t) {
      const float* x = Panel(panel) + t * width + column;
      for (int64_t lane = 0; lane < kLanes; ++lane) {
        const float magnitude = std::fabs(x[lane]);
        sum[lane] += x[lane];
        sum_abs[lane] += magnitude;
        max_abs[lane] = magnitude > max_abs[lane] ? magnitude : max_abs[lane];
      }
    }
    std::copy_n(sum, kLanes, &sum_[at]);
    std::copy_n(sum_abs, kLanes, &sum_abs_[at]);
    std::copy_n(max_abs, kLanes, &max_abs_[at]);
  }
}

absl::Status OpenRow::AddPanelTo(int64_t panel, Statistics& totals) const {
  for (int64_t c = 0; c < Columns(panel); ++c) {
    const auto column = static_cast<size_t>(panel * params_.block_width + c);
    // Bounds every partial sum of a product with this column, by Cauchy and Schwarz.
    const double largest = max_abs_[column];
    if (largest * largest * static_cast<double>(next_position_) >
        static_cast<double>(std::numeric_limits<float>::max())) {
      return absl::InvalidArgumentError(absl::StrCat(
          name_, ": activations of calibration row ", calibration_row_, ", column ", column,
          " reach ", largest, "; expected less, their squares would overflow"));
    }
    totals.sum[column] += RoundTo24(sum_[column]);
    totals.sum_abs[column] += RoundTo24(sum_abs_[column]);
    totals.max_abs[column] = std::max(totals.max_abs[column], max_abs_[column]);
  }
  if (params_.ExactGram()) return absl::OkStatus();
  for (int64_t k = 0; k < params_.sketch_rows; ++k) {
    AddRoundedTo24(sketch_.Row(panel * params_.sketch_rows + k), Columns(panel),
                   totals.sketch.data() + k * params_.in_features + panel * params_.block_width);
  }
  return absl::OkStatus();
}

// A diagonal product is symmetric up to the last bits, so only its upper triangle counts.
void OpenRow::AddPairTo(int64_t index, Statistics& totals) const {
  const auto [i, j] = pairs_[static_cast<size_t>(index)];
  const int64_t width = params_.block_width;
  for (int64_t row = 0; row < Columns(i); ++row) {
    const int64_t first = i == j ? row : 0;
    double* total =
        params_.ExactGram()
            ? &totals.gram[static_cast<size_t>((i * width + row) * params_.in_features + j * width)]
            : &totals.blocks[static_cast<size_t>((i * width + row) * width)];
    AddRoundedTo24(products_.Row(index * width + row) + first, Columns(j) - first, total + first);
  }
}

}  // namespace salient
