// The places of Linears, vectors and groups in the plan of a Llama block, for tests that look into
// one.
#ifndef SALIENT_TESTS_CORE_MODEL_LLAMA_PLACES_H_
#define SALIENT_TESTS_CORE_MODEL_LLAMA_PLACES_H_

#include <cstddef>

namespace salient::testing::llama {

inline constexpr size_t kQuery = 0, kKey = 1, kValue = 2, kOutput = 3, kGate = 4, kUp = 5,
                        kDown = 6, kLinears = 7;
inline constexpr size_t kInputNorm = 0, kPostAttentionNorm = 1;
inline constexpr size_t kQkvGroup = 0, kOutputGroup = 1, kGateUpGroup = 2, kDownGroup = 3,
                        kGroups = 4;

}  // namespace salient::testing::llama

#endif  // SALIENT_TESTS_CORE_MODEL_LLAMA_PLACES_H_
