// The one call of oneDNN whose form differs between the releases that Debian has.
#ifndef SALIENT_CORE_LINALG_ONEDNN_MATMUL_H_
#define SALIENT_CORE_LINALG_ONEDNN_MATMUL_H_

#include "oneapi/dnnl/dnnl.hpp"

namespace salient {

// Describes the product c = a b. Throws dnnl::error, as oneDNN does, if nothing can compute it.
inline dnnl::matmul::primitive_desc DescribeMatmul(const dnnl::engine& engine,
                                                   const dnnl::memory::desc& a,
                                                   const dnnl::memory::desc& b,
                                                   const dnnl::memory::desc& c,
                                                   const dnnl::primitive_attr& attributes) {
#if DNNL_VERSION_MAJOR >= 3  // It has no descriptions of operations any more.
  return dnnl::matmul::primitive_desc(engine, a, b, c, attributes);
#else
  return dnnl::matmul::primitive_desc(dnnl::matmul::desc(a, b, c), attributes, engine);
#endif
}

}  // namespace salient

#endif  // SALIENT_CORE_LINALG_ONEDNN_MATMUL_H_
