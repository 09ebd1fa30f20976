// Says as data what each engine reads of each layout, in the versions that EngineVersion has.
#ifndef SALIENT_CORE_ENGINES_LAYOUT_TABLE_H_
#define SALIENT_CORE_ENGINES_LAYOUT_TABLE_H_

#include <cstdint>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/engines/engine.h"
#include "core/pack/stored_format.h"
#include "core/tensor/affine_groups.h"
#include "core/tensor/stored_format.h"

namespace salient {

// Marlin's kernels take these.
inline constexpr int64_t kMarlinGroups[] = {kWholeRow, 32, 64, 128};

// Says how a Linear's shape, as one device has it, meets the engine's kernels.
enum class KernelShapes {
  kAny,
  kPaddedMarlin,  // vLLM's pads what is not out % 64 and in % 128.
  // It pads likewise; else AWQ's own kernel wants out % 64, group % 32 and out % group.
  kAwqOfVllm,
  // Marlin's wants out % 64 and in % 128; else AWQ's own takes no group of a whole row.
  kAwqOfSglang,
  kMarlinTiles,  // They want in % 128 and out % 64, or in % 64 and out % 128.
  kWhereMarlin,  // TGI's wants the same for what its Marlin kernels take alone.
  kThirtyTwo,    // They want in % 32 and out % 32.
  kEight,        // They want out % 8.
};

// These properties may differ between the Linears of one checkpoint.
enum class Mixes { kNothing, kGroupSizes, kAll };

// Each text says why some weights are not read; an empty one says that they are.
struct NeverRead {
  absl::string_view layout = "";  // It says why nothing of this layout is read.
  absl::string_view asymmetric = "";
  absl::string_view act_order = "";  // It is about columns of a group that are no neighbours.
  absl::string_view static_activations = "";
  // It is about 8 bit weights alone, of int-quantized.
  absl::string_view float_activations = "";
};

// These say when a remark is due: if it holds of any quantized Linear.
enum class When { kAsymmetric, kAsymmetric8Bit, kWholeRows, kWholeTensors, kStatic, kAlways };

struct LayoutRemark {
  When when;
  absl::string_view text;  // It comes after "<engine>: ".
};

struct LayoutRow {
  OutputFormat layout;
  Engine engine;
  absl::Span<const int> bits = {};             // These widths are read.
  absl::Span<const int64_t> group_sizes = {};  // These sizes are read; none says that all are.
  // Others are not known to work; none says that all are.
  absl::Span<const int64_t> known_groups = {};
  Mixes mixes = Mixes::kAll;
  KernelShapes shapes = KernelShapes::kAny;
  NeverRead never = {};
  absl::Span<const LayoutRemark> remarks = {};
};

// Returns nullptr for a layout that is plain weights, which every engine reads.
const LayoutRow* FindLayoutRow(OutputFormat layout, Engine engine);

}  // namespace salient

#endif  // SALIENT_CORE_ENGINES_LAYOUT_TABLE_H_
