// Shows a matrix of a test as the weights of a Linear.
#ifndef SALIENT_TESTS_SUPPORT_MATRIX_VIEW_H_
#define SALIENT_TESTS_SUPPORT_MATRIX_VIEW_H_

#include <cstddef>
#include <vector>

#include "core/tensor/dtype.h"
#include "core/tensor/matrix.h"
#include "core/tensor/weight_view.h"

namespace salient::testing {

// Returns a view of a matrix [out_features, in_features], which must outlive it.
inline WeightView View(const Matrix& matrix) {
  return {DType::kF32, reinterpret_cast<const std::byte*>(matrix.data()), matrix.rows(),
          matrix.cols()};
}

// Returns its values, row after row.
inline std::vector<float> ValuesOf(const Matrix& matrix) {
  return {matrix.data(), matrix.data() + matrix.rows() * matrix.cols()};
}

}  // namespace salient::testing

#endif  // SALIENT_TESTS_SUPPORT_MATRIX_VIEW_H_
