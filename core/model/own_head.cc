#include "core/model/own_head.h"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "core/config/model/model_config.h"
#include "core/model/block_weights.h"
#include "core/tensor/dtype.h"
#include "core/tensor/half.h"

namespace salient {
namespace {

constexpr int64_t kRangeElements = int64_t{1} << 20;
constexpr int64_t kSampleElements = int64_t{1} << 14;
constexpr int64_t kSamples = 16;

// Returns `count` elements of a tensor from element `first` on, widened.
absl::StatusOr<std::vector<float>> ReadElements(const TensorSource& source,
                                                const std::string& tensor, DType dtype,
                                                int64_t first, int64_t count) {
  std::vector<std::byte> bytes(static_cast<size_t>(count * SizeOf(dtype)));
  absl::Status status = source.ReadRange(tensor, first * SizeOf(dtype), absl::MakeSpan(bytes));
  if (!status.ok()) return status;
  std::vector<float> values(static_cast<size_t>(count));
  WidenToF32(dtype, bytes.data(), count, values.data());
  return values;
}

// Returns whether two are one value, which a NaN of unused ids is, too.
bool IsSame(float a, float b) {
  return a == b || std::bit_cast<uint32_t>(a) == std::bit_cast<uint32_t>(b);
}

}  // namespace

bool StoresTiedHead(const TensorSource& source, const Model& model) {
  if (!model.config.TiesHead()) return false;
  const absl::StatusOr<TensorLocation> head = source.Find(model.head);
  return head.ok() && head->entry->SizeBytes() > 0;
}

absl::StatusOr<bool> HasOwnHead(const TensorSource& source, const Model& model,
                                HeadComparison comparison) {
  if (!StoresTiedHead(source, model)) return false;
  const ModelConfig& config = model.config;
  const std::vector<int64_t> shape = {config.vocab_size, model.embedding_size};
  const std::string names[] = {model.embeddings, model.head};
  std::vector<DType> dtypes;
  for (const std::string& name : names) {
    const auto found = FindTensor(source, config, {name, shape});
    if (!found.ok()) return found.status();
    dtypes.push_back(found->entry->dtype);
  }
  const int64_t elements = config.vocab_size * model.embedding_size;
  const bool whole = comparison == HeadComparison::kWhole;
  const int64_t range = std::min(elements, whole ? kRangeElements : kSampleElements);
  const int64_t step = whole ? range : std::max(range, elements / kSamples);
  for (int64_t first = 0; first < elements; first += step) {
    const int64_t count = std::min(range, elements - first);
    const auto embeddings = ReadElements(source, names[0], dtypes[0], first, count);
    if (!embeddings.ok()) return embeddings.status();
    const auto head = ReadElements(source, names[1], dtypes[1], first, count);
    if (!head.ok()) return head.status();
    if (!std::equal(embeddings->begin(), embeddings->end(), head->begin(), IsSame)) return true;
  }
  return false;
}

}  // namespace salient
