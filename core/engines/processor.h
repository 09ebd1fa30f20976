// Tells what the CPU that runs this has, of what vLLM asks of CPUs.
#ifndef SALIENT_CORE_ENGINES_PROCESSOR_H_
#define SALIENT_CORE_ENGINES_PROCESSOR_H_

#include <string>

namespace salient {

// Returns whether it has AVX-512 with its parts F, VL, BW and DQ.
bool HasAvx512();

// Says what to mind of 4 bit weights in vLLM on CPUs. A verdict is about a machine that nobody has
// named, so it says what the CPU must have, and whether the one that judges (`this_has_it`) does.
std::string FourBitProcessorRemark(bool this_has_it);

}  // namespace salient

#endif  // SALIENT_CORE_ENGINES_PROCESSOR_H_
