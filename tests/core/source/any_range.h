// Checks whether a source shows the same bytes however they are asked for.
#ifndef SALIENT_TESTS_CORE_SOURCE_ANY_RANGE_H_
#define SALIENT_TESTS_CORE_SOURCE_ANY_RANGE_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "core/checkpoint/tensor_source.h"

namespace salient::testing {

// Reads `times` ranges of up to `most` bytes, and one beyond the end; `whole` is all of the tensor.
inline void ExpectAnyRange(const TensorSource& source, const std::string& tensor,
                           const std::vector<std::byte>& whole, int times, int64_t most) {
  const auto size = static_cast<int64_t>(whole.size());
  std::mt19937 random(5);
  for (int i = 0; i < times; ++i) {
    const auto begin = static_cast<int64_t>(random() % whole.size());
    const int64_t count = std::min<int64_t>(size - begin, static_cast<int64_t>(random()) % most);
    std::vector<std::byte> part(static_cast<size_t>(count));
    const absl::Status status = source.ReadRange(tensor, begin, absl::MakeSpan(part));
    ASSERT_TRUE(status.ok()) << status;
    EXPECT_TRUE(std::equal(part.begin(), part.end(), whole.begin() + begin))
        << count << " bytes from " << begin;
  }
  std::vector<std::byte> beyond(5);
  EXPECT_EQ(source.ReadRange(tensor, size - 4, absl::MakeSpan(beyond)).code(),
            absl::StatusCode::kOutOfRange);
}

}  // namespace salient::testing

#endif  // SALIENT_TESTS_CORE_SOURCE_ANY_RANGE_H_
