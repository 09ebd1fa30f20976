// Row-major f32 matrices: a view that borrows and an owner that is cache-line aligned.
#ifndef SALIENT_CORE_TENSOR_MATRIX_H_
#define SALIENT_CORE_TENSOR_MATRIX_H_

#include <cstdint>
#include <cstring>
#include <memory>
#include <new>

namespace salient {

// [rows, cols], row i begins at data + i * stride. Borrows; valid while the owner lives.
struct MatrixView {
  const float* data = nullptr;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t stride = 0;

  const float* Row(int64_t i) const { return data + i * stride; }
};

// Owns [rows, cols] floats, 0 at first, at a 64-byte boundary, stride == cols. It is movable, not
// copyable: a copy of a matrix should be visible in the code.
class Matrix {
 public:
  Matrix() = default;
  Matrix(int64_t rows, int64_t cols) : Matrix(Unset(rows, cols)) {
    std::memset(data_.get(), 0, static_cast<size_t>(rows * cols) * sizeof(float));
  }

  // Makes the same with floats of any value, for what is overwritten anyway.
  static Matrix Unset(int64_t rows, int64_t cols) {
    Matrix matrix;
    matrix.rows_ = rows;
    matrix.cols_ = cols;
    const size_t bytes = static_cast<size_t>(rows * cols) * sizeof(float);
    matrix.data_.reset(static_cast<float*>(::operator new(bytes, std::align_val_t(64))));
    return matrix;
  }

  int64_t rows() const { return rows_; }
  int64_t cols() const { return cols_; }
  float* data() { return data_.get(); }
  const float* data() const { return data_.get(); }
  float* Row(int64_t i) { return data_.get() + i * cols_; }
  const float* Row(int64_t i) const { return data_.get() + i * cols_; }
  MatrixView View() const { return {data_.get(), rows_, cols_, cols_}; }

 private:
  struct Free {
    void operator()(float* p) const { ::operator delete(p, std::align_val_t(64)); }
  };
  int64_t rows_ = 0;
  int64_t cols_ = 0;
  std::unique_ptr<float[], Free> data_;
};

}  // namespace salient

#endif  // SALIENT_CORE_TENSOR_MATRIX_H_
