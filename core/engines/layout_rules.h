// Holds the rules that a layout brings with it: what layout_table says, and the shapes of kernels.
#ifndef SALIENT_CORE_ENGINES_LAYOUT_RULES_H_
#define SALIENT_CORE_ENGINES_LAYOUT_RULES_H_

#include "absl/types/span.h"
#include "core/engines/device_parts.h"
#include "core/engines/findings.h"
#include "core/engines/layout_table.h"
#include "core/engines/model_description.h"

namespace salient {

// Checks widths, group sizes, symmetry, column order and activations of every quantized Linear.
void CheckFormats(const LayoutRow& row, const ModelDescription& model, Findings& findings);

// Returns whether SGLang takes AWQ in such groups with Marlin's kernels, by what the config says.
// What it does not goes to AWQ's own kernel.
bool TakesAwqMarlin(const ModelDescription& model, int64_t group_size);

// Checks the shapes of the quantized parts of a device.
void CheckKernelShapes(const LayoutRow& row, const ModelDescription& model,
                       absl::Span<const DevicePart> parts, Findings& findings);

}  // namespace salient

#endif  // SALIENT_CORE_ENGINES_LAYOUT_RULES_H_
