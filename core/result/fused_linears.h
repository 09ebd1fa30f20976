// Linears that engines multiply by as one weight, under a name that is in no checkpoint.
#ifndef SALIENT_CORE_RESULT_FUSED_LINEARS_H_
#define SALIENT_CORE_RESULT_FUSED_LINEARS_H_

#include <cstddef>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/model/family.h"

namespace salient {

struct FusedLinears {
  absl::string_view name;  // It stands in place of the last part of a part's path.
  LinearRole first;        // The others have the roles that follow.
  absl::Span<const absl::string_view> parts;  // They are the last parts of their paths, by role.

  bool Holds(LinearRole role) const {
    return role >= first && static_cast<size_t>(role) < static_cast<size_t>(first) + parts.size();
  }
};

inline constexpr absl::string_view kQkvParts[] = {"q_proj", "k_proj", "v_proj"};
inline constexpr absl::string_view kGateUpParts[] = {"gate_proj", "up_proj"};
inline constexpr FusedLinears kFusedLinears[] = {
    {"qkv_proj", LinearRole::kQuery, kQkvParts},
    {"gate_up_proj", LinearRole::kGate, kGateUpParts},
};

// Returns nullptr for a Linear that stands alone.
inline const FusedLinears* FindFused(LinearRole role) {
  for (const FusedLinears& fused : kFusedLinears) {
    if (fused.Holds(role)) return &fused;
  }
  return nullptr;
}

}  // namespace salient

#endif  // SALIENT_CORE_RESULT_FUSED_LINEARS_H_
