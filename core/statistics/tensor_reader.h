// The tensors of a statistics file, which nothing is trusted of.
#ifndef SALIENT_CORE_STATISTICS_TENSOR_READER_H_
#define SALIENT_CORE_STATISTICS_TENSOR_READER_H_

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/safetensors/safetensors.h"
#include "core/tensor/dtype.h"

namespace salient {

// INVALID_ARGUMENT naming the file.
inline absl::Status InvalidStatistics(absl::string_view name, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(name, ": statistics ", what));
}

// Takes tensors one by one and checks them; what is not taken is an error. Borrows both. Not
// thread-safe.
class TensorReader {
 public:
  using Shape = std::vector<int64_t>;

  TensorReader(absl::string_view name, const SafetensorsView& file) : name_(name), file_(file) {}

  // The tensor's values if it has this dtype and shape; a dimension of -1 may be anything.
  template <typename T>
  absl::StatusOr<std::vector<T>> Take(absl::string_view tensor, DType dtype, const Shape& shape) {
    const TensorEntry* entry = file_.header().Find(tensor);
    const auto describe = [](DType type, const Shape& sizes) {
      return absl::StrCat(Name(type), " [", absl::StrJoin(sizes, ", "), "]");
    };
    if (entry == nullptr) {
      return InvalidStatistics(
          name_, absl::StrCat("tensor ", tensor, " is missing; expected ", describe(dtype, shape)));
    }
    const bool fits = entry->dtype == dtype &&
                      absl::c_equal(entry->shape, shape, [](int64_t size, int64_t expected) {
                        return expected == -1 || size == expected;
                      });
    if (!fits) {
      return InvalidStatistics(
          name_, absl::StrCat("tensor ", tensor, " is ", describe(entry->dtype, entry->shape),
                              "; expected ", describe(dtype, shape)));
    }
    ++taken_;
    const absl::Span<const std::byte> bytes = *file_.Tensor(tensor);
    std::vector<T> values(bytes.size() / sizeof(T));
    if (!bytes.empty()) std::memcpy(values.data(), bytes.data(), bytes.size());
    return values;
  }

  // Takes sums, as Take does; every value must be finite and, if `at_least_zero`, not negative.
  template <typename T>
  absl::StatusOr<std::vector<T>> TakeSums(absl::string_view tensor, DType dtype, const Shape& shape,
                                          bool at_least_zero) {
    auto values = Take<T>(tensor, dtype, shape);
    if (!values.ok()) return values;
    for (size_t i = 0; i < values->size(); ++i) {
      const T value = (*values)[i];
      if (std::isfinite(value) && (!at_least_zero || value >= 0)) continue;
      return InvalidStatistics(
          name_, absl::StrCat("tensor ", tensor, ", element ", i, " is ", value,
                              "; expected a finite value", at_least_zero ? " of at least 0" : ""));
    }
    return values;
  }

  absl::Status CheckAllTaken() const {
    if (taken_ == file_.header().tensors().size()) return absl::OkStatus();
    return InvalidStatistics(
        name_, absl::StrCat("have ", file_.header().tensors().size(), " tensors; expected ", taken_,
                            " for these params"));
  }

 private:
  absl::string_view name_;
  const SafetensorsView& file_;
  size_t taken_ = 0;
};

}  // namespace salient

#endif  // SALIENT_CORE_STATISTICS_TENSOR_READER_H_
