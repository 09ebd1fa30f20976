// Checks whether an engine has the architecture of a model.
#ifndef SALIENT_CORE_ENGINES_ARCHITECTURE_RULES_H_
#define SALIENT_CORE_ENGINES_ARCHITECTURE_RULES_H_

#include "core/engines/findings.h"
#include "core/engines/model_description.h"

namespace salient {

// Finds a fault where the engine runs no such model, or none that is quantized, and a remark where
// it runs it by another way than its own classes.
void CheckArchitecture(const ModelDescription& model, Findings& findings);

}  // namespace salient

#endif  // SALIENT_CORE_ENGINES_ARCHITECTURE_RULES_H_
