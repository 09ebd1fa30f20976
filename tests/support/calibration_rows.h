// Makes calibration rows for tests, and brings them in the ways in which they may reach an
// accumulator.
#ifndef SALIENT_TESTS_SUPPORT_CALIBRATION_ROWS_H_
#define SALIENT_TESTS_SUPPORT_CALIBRATION_ROWS_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "core/parallel/executor.h"
#include "core/statistics/accumulator.h"
#include "core/tensor/dtype.h"
#include "core/tensor/half.h"
#include "core/tensor/matrix.h"

namespace salient::testing {

struct CalibrationRow {
  int64_t index = 0;
  Matrix tokens;  // They are [tokens, in_features].
};

// Makes rows 0, 1, ... of the given lengths: Gaussian, shifted, every 97th channel 30 times larger.
inline std::vector<CalibrationRow> MakeRows(uint64_t seed, int64_t in_features,
                                            const std::vector<int64_t>& lengths) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal;
  std::vector<CalibrationRow> rows;
  for (const int64_t length : lengths) {
    CalibrationRow row = {static_cast<int64_t>(rows.size()), Matrix(length, in_features)};
    for (int64_t t = 0; t < length; ++t) {
      for (int64_t j = 0; j < in_features; ++j) {
        const float value = normal(random) + (j % 5 == 0 ? 0.5f : 0.0f);
        row.tokens.Row(t)[j] = j % 97 == 3 ? 30 * value : value;
      }
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

// Returns all tokens of all rows, one below the other.
inline Matrix Stack(const std::vector<CalibrationRow>& rows) {
  int64_t tokens = 0;
  for (const CalibrationRow& row : rows) tokens += row.tokens.rows();
  Matrix all(tokens, rows.front().tokens.cols());
  float* out = all.data();
  for (const CalibrationRow& row : rows) {
    out = std::copy_n(row.tokens.data(), row.tokens.rows() * row.tokens.cols(), out);
  }
  return all;
}

// Returns tokens in another dtype, rounded to it.
inline std::vector<std::byte> BytesOf(const Matrix& tokens, DType dtype) {
  const int64_t count = tokens.rows() * tokens.cols();
  std::vector<std::byte> bytes(static_cast<size_t>(count * SizeOf(dtype)));
  for (int64_t i = 0; i < count; ++i) {
    const float value = tokens.data()[i];
    const uint16_t half = dtype == DType::kF16 ? F32ToF16(value) : F32ToBF16(value);
    std::memcpy(bytes.data() + i * SizeOf(dtype),
                dtype == DType::kF32 ? static_cast<const void*>(&value) : &half,
                static_cast<size_t>(SizeOf(dtype)));
  }
  return bytes;
}

inline absl::Status FoldF32(StatisticsAccumulator& accumulator, int64_t row, int64_t position,
                            const float* tokens, int64_t count, Executor& executor) {
  return accumulator.Fold(row, position, DType::kF32, reinterpret_cast<const std::byte*>(tokens),
                          count, executor);
}

// Folds one row in batches whose sizes `batch_size` names: int64_t().
template <typename BatchSize>
absl::Status FoldRow(StatisticsAccumulator& accumulator, const CalibrationRow& row,
                     BatchSize batch_size, Executor& executor) {
  for (int64_t position = 0; position < row.tokens.rows();) {
    const int64_t count = std::min<int64_t>(batch_size(), row.tokens.rows() - position);
    absl::Status status =
        FoldF32(accumulator, row.index, position, row.tokens.Row(position), count, executor);
    if (!status.ok()) return status;
    position += count;
  }
  return absl::OkStatus();
}

}  // namespace salient::testing

#endif  // SALIENT_TESTS_SUPPORT_CALIBRATION_ROWS_H_
