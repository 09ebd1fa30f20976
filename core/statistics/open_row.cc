#include "core/statistics/open_row.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "core/kernels/binned_sums.h"
#include "core/kernels/token_kernels.h"
#include "core/statistics/sketch_signs.h"
#include "core/tensor/half.h"

namespace salient {
namespace {

// Below this many bytes a batch is copied where it stands: handing it out costs more.
constexpr int64_t kWorthSharing = 1 << 20;

int64_t PairCount(const StatisticsParams& params) {
  const int64_t panels = params.Blocks();
  return params.ExactGram() ? panels * (panels + 1) / 2 : panels;
}

}  // namespace

OpenRow::OpenRow(std::string name, const StatisticsParams& params, PanelScratchPool& scratch)
    : name_(std::move(name)),
      params_(params),
      scratch_(scratch),
      sum_(static_cast<size_t>(params.in_features)),
      sum_abs_(sum_.size()),
      max_abs_(sum_.size()),
      sum_exponents_(sum_.size()),
      square_exponents_(sum_.size()),
      sum_bounds_(sum_.size()),
      square_bounds_(sum_.size()) {
  for (int64_t i = 0; i < params.Blocks(); ++i) {
    // A whole Gram matrix needs the upper triangle of panel pairs, blocks only the diagonal.
    const int64_t end = params.ExactGram() ? params.Blocks() : i + 1;
    for (int64_t j = i; j < end; ++j) pairs_.push_back({i, j});
  }
  constexpr int64_t kFloats = TokenTile::kBytesPerColumn / 4;
  if (params.ExactGram()) {
    panels_ = Matrix(params.Blocks() * params.block_width, kFloats);
  } else {
    signs_ = Matrix(params.sketch_rows, kFloats);
    sketch_row_sums_.resize(static_cast<size_t>(params.sketch_rows));
    no_exponents_.resize(sketch_row_sums_.size());
  }
}

int64_t OpenRow::MemoryBytes(const StatisticsParams& params, bool whole) {
  const int64_t width = params.Blocks() * params.block_width;
  const int64_t laid = params.ExactGram() ? width : params.sketch_rows;
  const int64_t pairs = PairCount(params);
  int64_t products = pairs * params.block_width * params.block_width;
  if (!params.ExactGram()) products += params.Blocks() * params.sketch_rows * params.block_width;
  return (laid + (whole ? 0 : params.in_features)) * TokenTile::kBytesPerColumn + products * 4 +
         params.in_features * (8 + 8 + 4 + 4 + 4 + 8 + 8) + params.sketch_rows * (8 + 4) +
         pairs * static_cast<int64_t>(sizeof(PanelPair));
}

int64_t OpenRow::Columns(int64_t panel) const {
  return std::min(params_.block_width, params_.in_features - panel * params_.block_width);
}

void OpenRow::Begin(int64_t calibration_row) {
  calibration_row_ = calibration_row;
  next_position_ = 0;
  first_tile_ = true;
  pending_ = {};
  std::fill(sum_.begin(), sum_.end(), 0.0);
  std::fill(sum_abs_.begin(), sum_abs_.end(), 0.0);
  std::fill(max_abs_.begin(), max_abs_.end(), 0.0f);
  std::fill(sketch_row_sums_.begin(), sketch_row_sums_.end(), 0.0);
}

// Looks for the first value at fault, whoever noticed that there is one.
absl::Status OpenRow::NonFinite(DType dtype, const std::byte* activations, int64_t tokens,
                                int64_t first_position) const {
  for (int64_t i = 0; i < tokens * params_.in_features; ++i) {
    float value = 0;
    WidenToF32(dtype, activations + i * SizeOf(dtype), 1, &value);
    if (std::isfinite(value)) continue;
    return absl::InvalidArgumentError(
        absl::StrCat(name_, ": activation of calibration row ", calibration_row_, ", position ",
                     first_position + i / params_.in_features, ", column ", i % params_.in_features,
                     " is ", value, "; expected a finite value"));
  }
  return absl::InternalError(absl::StrCat(name_, ": no activation is at fault"));
}

absl::Status OpenRow::Append(DType dtype, const std::byte* activations, int64_t tokens,
                             Executor& executor) {
  if (next_position_ == 0) {
    pending_ = {dtype, nullptr, 0, params_.in_features};
    buffer_.resize(static_cast<size_t>(params_.in_features * TokenTile::kBytesPerColumn));
  } else if (dtype != pending_.dtype) {
    return absl::InvalidArgumentError(
        absl::StrCat(name_, ": activations of calibration row ", calibration_row_, " at position ",
                     next_position_, " are ", Name(dtype), "; expected ", Name(pending_.dtype),
                     ", as the row began"));
  }
  pending_.activations = buffer_.data();
  const int64_t token_bytes = params_.in_features * SizeOf(dtype);
  while (tokens > 0) {
    // A whole tile waits for its successor: the last tile of a row is folded with the row.
    if (pending_.tokens == TokenTile::Tokens(dtype)) {
      if (absl::Status status = FoldTile(pending_, nullptr, executor); !status.ok()) return status;
      pending_.tokens = 0;
    }
    const int64_t count = std::min(tokens, TokenTile::Tokens(dtype) - pending_.tokens);
    std::byte* out = buffer_.data() + pending_.tokens * token_bytes;
    std::atomic<bool> finite = true;
    // A value is looked at while it is in the cache from being copied.
    const auto copy = [&](int64_t token, int64_t vectors) {
      std::memcpy(out + token * token_bytes, activations + token * token_bytes,
                  static_cast<size_t>(vectors * token_bytes));
      if (!AllFinite(dtype, out + token * token_bytes, vectors * params_.in_features)) {
        finite = false;
      }
    };
    if (count * token_bytes < kWorthSharing) {
      copy(0, count);
    } else {
      constexpr int64_t kShare = 32;
      absl::Status status = executor.ForEach((count + kShare - 1) / kShare, [&](int64_t share) {
        copy(share * kShare, std::min(kShare, count - share * kShare));
        return absl::OkStatus();
      });
      if (!status.ok()) return status;
    }
    if (!finite) return NonFinite(dtype, activations, count, next_position_);
    pending_.tokens += count;
    next_position_ += count;
    activations += count * token_bytes;
    tokens -= count;
  }
  return absl::OkStatus();
}

absl::Status OpenRow::TakeWhole(DType dtype, const std::byte* activations, int64_t tokens,
                                Executor& executor) {
  const int64_t token_bytes = params_.in_features * SizeOf(dtype);
  while (true) {
    const int64_t count = std::min(tokens, TokenTile::Tokens(dtype));
    pending_ = {dtype, activations, count, params_.in_features};
    next_position_ += count;
    if (count == tokens) return absl::OkStatus();
    if (absl::Status status = FoldTile(pending_, nullptr, executor); !status.ok()) return status;
    activations += count * token_bytes;
    tokens -= count;
  }
}

absl::Status OpenRow::FoldLastTile(Statistics* totals, Executor& executor) {
  if (totals != nullptr) BeginAdding(*totals);
  absl::Status status = FoldTile(pending_, totals, executor);
  if (status.ok() && totals != nullptr) EndAdding(*totals);
  return status;
}

absl::Status OpenRow::FoldTile(const TokenTile& tile, Statistics* totals, Executor& executor) {
  // What one task multiplies and adds at once needs no memory of its own.
  if ((totals == nullptr || !first_tile_) && products_.rows() == 0) {
    products_ =
        Matrix(static_cast<int64_t>(pairs_.size()) * params_.block_width, params_.block_width);
    if (!params_.ExactGram()) {
      sketch_ = Matrix(params_.Blocks() * params_.sketch_rows, params_.block_width);
    }
  }
  non_finite_ = false;
  absl::Status status =
      params_.ExactGram() ? FoldGram(tile, totals, executor) : FoldBlocks(tile, totals, executor);
  if (non_finite_) {
    return NonFinite(tile.dtype, tile.activations, tile.tokens, next_position_ - tile.tokens);
  }
  first_tile_ = false;
  return status;
}

void OpenRow::SumPanel(int64_t panel, const TokenPanel& laid) {
  const auto first = static_cast<size_t>(panel * params_.block_width);
  AddSums(laid, &sum_[first], &sum_abs_[first], &max_abs_[first]);
  // A NaN or an infinity of any token shows in the largest magnitude of its column.
  for (size_t c = first; c < first + static_cast<size_t>(laid.columns); ++c) {
    if (!std::isfinite(max_abs_[c])) non_finite_ = true;
  }
}

absl::Status OpenRow::FoldGram(const TokenTile& tile, Statistics* totals, Executor& executor) {
  const int64_t width = params_.block_width;
  std::vector<TokenPanel> laid(static_cast<size_t>(params_.Blocks()));
  absl::Status status = executor.ForEach(params_.Blocks(), [&](int64_t i) {
    TokenPanel& panel = laid[static_cast<size_t>(i)];
    // A panel is laid out once and multiplied by all that pair with it.
    panel = LayPanel(tile, i * width, Columns(i), width, panels_.Row(i * width));
    SumPanel(i, panel);
    return totals == nullptr || non_finite_ ? absl::OkStatus() : AddPanelTo(i, *totals);
  });
  if (!status.ok() || non_finite_) return status;
  // The first tile overwrites what an earlier row left in the products.
  const float beta = first_tile_ ? 0.0f : 1.0f;
  const bool keeps = totals == nullptr || !first_tile_;
  return executor.ForEach(static_cast<int64_t>(pairs_.size()), [&](int64_t index) {
    const PanelPair pair = pairs_[static_cast<size_t>(index)];
    const TokenPanel& a = laid[static_cast<size_t>(pair.i)];
    const TokenPanel& b = laid[static_cast<size_t>(pair.j)];
    PanelScratchPool::Loan scratch = scratch_.Borrow();
    float* product = keeps ? products_.Row(index * width) : scratch->product.data();
    absl::Status multiplied = pair.i == pair.j ? MultiplyPanelByItself(a, beta, product, width)
                                               : MultiplyPanels(a, b, beta, product, width);
    if (multiplied.ok() && totals != nullptr) AddPairTo(pair, product, *totals);
    return multiplied;
  });
}

absl::Status OpenRow::FoldBlocks(const TokenTile& tile, Statistics* totals, Executor& executor) {
  const int64_t width = params_.block_width;
  const int64_t rows = params_.sketch_rows;
  FillSketchTile(params_.seed, calibration_row_, next_position_ - tile.tokens, tile.tokens,
                 tile.Depth(), /*wide=*/!tile.IsBf16(), signs_.data(),
                 absl::MakeSpan(sketch_row_sums_));
  const float beta = first_tile_ ? 0.0f : 1.0f;
  const bool keeps = totals == nullptr || !first_tile_;
  return executor.ForEach(params_.Blocks(), [&](int64_t i) {
    PanelScratchPool::Loan scratch = scratch_.Borrow();
    // One task does all there is to a panel while it is in the cache: its sums, its block, its
    // sketch.
    const TokenPanel panel = LayPanel(tile, i * width, Columns(i), width, scratch->panel.data());
    SumPanel(i, panel);
    if (non_finite_) return absl::OkStatus();
    float* product = keeps ? products_.Row(i * width) : scratch->product.data();
    float* sketch = keeps ? sketch_.Row(i * rows) : scratch->sketch.data();
    absl::Status status = totals == nullptr ? absl::OkStatus() : AddPanelTo(i, *totals);
    if (status.ok()) status = MultiplyPanelByItself(panel, beta, product, width);
    if (!status.ok()) return status;
    if (totals != nullptr) AddPairTo({i, i}, product, *totals);
    status = MultiplySigns(signs_.data(), rows, panel, beta, sketch, width);
    if (status.ok() && totals != nullptr) AddSketchTo(i, sketch, *totals);
    return status;
  });
}

absl::Status OpenRow::AddTo(Statistics& totals, Executor& executor) {
  const int64_t width = params_.block_width;
  BeginAdding(totals);
  absl::Status status =
      executor.ForEach(params_.Blocks(), [&](int64_t panel) { return AddPanelTo(panel, totals); });
  if (!status.ok()) return status;
  status = executor.ForEach(static_cast<int64_t>(pairs_.size()), [&](int64_t index) {
    const PanelPair pair = pairs_[static_cast<size_t>(index)];
    AddPairTo(pair, products_.Row(index * width), totals);
    if (pair.i == pair.j && !params_.ExactGram()) {
      AddSketchTo(pair.i, sketch_.Row(pair.i * params_.sketch_rows), totals);
    }
    return absl::OkStatus();
  });
  if (status.ok()) EndAdding(totals);
  return status;
}

void OpenRow::BeginAdding(const Statistics& totals) {
  const int64_t rows = totals.rows.size();
  count_before_ = CountExponent(rows);
  count_ = CountExponent(rows + 1);
}

absl::Status OpenRow::AddPanelTo(int64_t panel, Statistics& totals) {
  const auto first = static_cast<size_t>(panel * params_.block_width);
  const auto end = first + static_cast<size_t>(Columns(panel));
  for (size_t column = first; column < end; ++column) {
    // Bounds every partial sum of a product with this column, by Cauchy and Schwarz.
    const double largest = max_abs_[column];
    if (largest * largest * static_cast<double>(next_position_) >
        static_cast<double>(std::numeric_limits<float>::max())) {
      return absl::InvalidArgumentError(absl::StrCat(
          name_, ": activations of calibration row ", calibration_row_, ", column ", column,
          " reach ", largest, "; expected less, their squares would overflow"));
    }
    sum_exponents_[column] =
        std::max<int32_t>(totals.sum_exponents[column], BoundExponent(sum_abs_[column]));
    square_exponents_[column] = std::max<int32_t>(totals.square_exponents[column],
                                                  BoundExponent(largest * sum_abs_[column]));
    sum_bounds_[column] = ColumnFrameBound(2 * sum_exponents_[column]);
    square_bounds_[column] = ColumnFrameBound(square_exponents_[column]);
    totals.max_abs[column] = std::max(totals.max_abs[column], max_abs_[column]);
  }
  // A column's words are raised to the new frame before anything is added, so that both sides
  // have digits of one size.
  for (const auto& [c, frames] : RaisesOf(panel, totals)) {
    int64_t& sum = totals.sum[first + static_cast<size_t>(c)];
    int64_t& sum_abs = totals.sum_abs[first + static_cast<size_t>(c)];
    sum = RaisedWord(sum, frames);
    sum_abs = RaisedWord(sum_abs, frames);
  }
  AddBinnedSums(&sum_[first], &sum_bounds_[first], Columns(panel), count_, &totals.sum[first]);
  AddBinnedSums(&sum_abs_[first], &sum_bounds_[first], Columns(panel), count_,
                &totals.sum_abs[first]);
  return absl::OkStatus();
}

std::vector<OpenRow::Raise> OpenRow::RaisesOf(int64_t panel, const Statistics& totals) const {
  std::vector<Raise> raises;
  for (int64_t c = 0; c < Columns(panel); ++c) {
    const auto at = static_cast<size_t>(panel * params_.block_width + c);
    if (count_ == count_before_ && sum_exponents_[at] == totals.sum_exponents[at]) continue;
    const int frames = FrameOf(2 * sum_exponents_[at], count_) -
                       FrameOf(2 * totals.sum_exponents[at], count_before_);
    if (frames > 0) raises.push_back({c, frames});
  }
  return raises;
}

std::vector<OpenRow::Growth> OpenRow::GrowthsOf(int64_t panel, const Statistics& totals) const {
  std::vector<Growth> growths;
  for (int64_t c = 0; c < Columns(panel); ++c) {
    const auto at = static_cast<size_t>(panel * params_.block_width + c);
    const int32_t before = totals.square_exponents[at];
    const int32_t after = square_exponents_[at];
    auto growth = std::find_if(growths.begin(), growths.end(), [&](const Growth& other) {
      return other.before == before && other.after == after;
    });
    if (growth == growths.end()) growth = growths.insert(growth, {before, after, {}});
    growth->columns.push_back(c);
  }
  return growths;
}

void OpenRow::RaiseProducts(PanelPair pair, int64_t* total, int64_t ld,
                            const Statistics& totals) const {
  const auto grew = [&](int64_t panel) {
    const auto before = totals.square_exponents.begin() + panel * params_.block_width;
    const auto after = square_exponents_.begin() + panel * params_.block_width;
    return !std::equal(before, before + Columns(panel), after);
  };
  if (count_ == count_before_ && !grew(pair.i) && !grew(pair.j)) return;
  // Few exponents occur in a panel, and most products stay in their frame when they grow, so that
  // most are not looked at.
  const std::vector<Growth> rows = GrowthsOf(pair.i, totals);
  const std::vector<Growth> columns = GrowthsOf(pair.j, totals);
  for (const Growth& row : rows) {
    for (const Growth& column : columns) {
      const int from = FrameOf(row.before + column.before, count_before_);
      const int to = FrameOf(row.after + column.after, count_);
      if (from == to) continue;
      for (const int64_t i : row.columns) {
        for (const int64_t j : column.columns) {
          total[i * ld + j] = RaisedWord(total[i * ld + j], to - from);
        }
      }
    }
  }
}

// A product of a panel by itself is symmetric up to the last bits, so only its upper triangle
// counts.
void OpenRow::AddPairTo(PanelPair pair, const float* product, Statistics& totals) const {
  const int64_t width = params_.block_width;
  const int64_t ld = params_.ExactGram() ? params_.in_features : width;
  int64_t* total = params_.ExactGram() ? totals.gram.data() + pair.i * width * ld + pair.j * width
                                       : totals.blocks.data() + pair.i * width * width;
  RaiseProducts(pair, total, ld, totals);
  AddBinnedRows(
      {product, Columns(pair.i), Columns(pair.j), width, square_exponents_.data() + pair.i * width,
       square_bounds_.data() + pair.j * width, count_, /*upper_triangle=*/pair.i == pair.j},
      total, ld);
}

void OpenRow::AddSketchTo(int64_t panel, const float* sketch, Statistics& totals) const {
  const int64_t width = params_.block_width;
  int64_t* total = totals.sketch.data() + panel * width;
  const std::vector<Raise> raises = RaisesOf(panel, totals);
  for (int64_t k = 0; k < params_.sketch_rows && !raises.empty(); ++k) {
    int64_t* row = total + k * params_.in_features;
    for (const auto& [c, frames] : raises) row[c] = RaisedWord(row[c], frames);
  }
  AddBinnedRows({sketch, params_.sketch_rows, Columns(panel), width, no_exponents_.data(),
                 sum_bounds_.data() + panel * width, count_, /*upper_triangle=*/false},
                total, params_.in_features);
}

void OpenRow::EndAdding(Statistics& totals) {
  // Products of two panels needed the exponents of both as they were.
  totals.sum_exponents = sum_exponents_;
  totals.square_exponents = square_exponents_;
  for (size_t k = 0; k < sketch_row_sums_.size(); ++k) {
    totals.sketch_row_sums[k] += sketch_row_sums_[k];
  }
  totals.token_count += next_position_;
  totals.rows.Insert(calibration_row_);
}

}  // namespace salient
