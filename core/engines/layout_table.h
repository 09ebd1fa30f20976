// What each engine reads of each layout, as data.
#ifndef SALIENT_CORE_ENGINES_LAYOUT_TABLE_H_
#define SALIENT_CORE_ENGINES_LAYOUT_TABLE_H_

#include <cstdint>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/engines/engine.h"
#include "core/pack/stored_format.h"
#include "core/tensor/affine_groups.h"

namespace salient {

// What Marlin's kernels take.
inline constexpr int64_t kMarlinGroups[] = {kWholeRow, 32, 64, 128};

// How a Linear's shape, as one device has it, meets the engine's kernels.
enum class KernelShapes {
  kAny,
  kMarlin,           // vLLM's: out % 64 and in % 128; the newest versions pad what does not fit
  kMarlinOrClassic,  // the same; else AWQ's classic kernel: out % 64, group % 32, out % group
  kMarlinTiles,      // TGI's: in % 128 and out % 64, or in % 64 and out % 128
  kThirtyTwo,        // in % 32 and out % 32
  kEight,            // out % 8
};

// When a remark is due.
enum class When {
  kAsymmetric,
  kAsymmetric8Bit,
  kEightBit,
  kWholeRows,
  kActOrder,
  kStatic,
  kAlways
};

struct LayoutRemark {
  When when;
  absl::string_view text;  // what comes after "<engine>: "
};

struct LayoutRow {
  OutputFormat layout;
  Engine engine;
  absl::string_view never = "";                 // why the layout is not read at all; empty: it is
  absl::Span<const int> bits = {};              // widths that are read
  absl::string_view never_asymmetric = "";      // why such weights are not; empty: they are
  absl::Span<const int64_t> group_sizes = {};   // that are read; none: all
  absl::Span<const int64_t> known_groups = {};  // others are not known to work; none: all are
  bool act_order = true;                        // columns of a group may be no neighbours
  bool mixes = false;                           // bits and group_size may differ between Linears
  KernelShapes shapes = KernelShapes::kAny;
  absl::Span<const LayoutRemark> remarks = {};
};

// nullptr for a layout that is plain weights, which every engine reads.
const LayoutRow* FindLayoutRow(OutputFormat layout, Engine engine);

}  // namespace salient

#endif  // SALIENT_CORE_ENGINES_LAYOUT_TABLE_H_
