// Checks what config.json says, and what it must say for Linears that are not quantized.
#ifndef SALIENT_CORE_ENGINES_CONFIG_RULES_H_
#define SALIENT_CORE_ENGINES_CONFIG_RULES_H_

#include "core/engines/findings.h"
#include "core/engines/layout_table.h"
#include "core/engines/model_description.h"

namespace salient {

// Checks Linears that are not quantized, and how the config says so.
void CheckKeptLinears(const LayoutRow& row, const ModelDescription& model, Findings& findings);

// Checks fields that an engine does not know, or wants to say something else.
void CheckConfigFields(const LayoutRow& row, const ModelDescription& model, Findings& findings);

// Checks the dtype that engines compute in.
void CheckDtype(const LayoutRow& row, const ModelDescription& model, Findings& findings);

}  // namespace salient

#endif  // SALIENT_CORE_ENGINES_CONFIG_RULES_H_
