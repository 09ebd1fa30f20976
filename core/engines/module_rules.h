// Checks that Linears are alike where they must be.
#ifndef SALIENT_CORE_ENGINES_MODULE_RULES_H_
#define SALIENT_CORE_ENGINES_MODULE_RULES_H_

#include "core/engines/findings.h"
#include "core/engines/layout_table.h"
#include "core/engines/model_description.h"

namespace salient {

// Checks q, k, v and gate, up, which become one weight each: all or none are quantized, all in one
// format.
void CheckFusedSiblings(const LayoutRow& row, const ModelDescription& model, Findings& findings);

// Checks Linears with another width or group size than the first.
void CheckMixedFormats(const LayoutRow& row, const ModelDescription& model, Findings& findings);

}  // namespace salient

#endif  // SALIENT_CORE_ENGINES_MODULE_RULES_H_
