// The name of the arithmetic that results come from.
#ifndef SALIENT_SERVER_JOBS_NUMERICS_H_
#define SALIENT_SERVER_JOBS_NUMERICS_H_

#include <string>

namespace salient {

// {compute dtype, instruction set path, oneDNN version, algorithm version}, e.g.
// "f32/avx512_core_bf16/onednn-2.6.3/salient-1". Equal ids give bit-identical results.
std::string NumericsId();

}  // namespace salient

#endif  // SALIENT_SERVER_JOBS_NUMERICS_H_
