#include "tests/bench/bare_matmul.h"

#include <cstring>
#include <unordered_map>
#include <vector>

#include "core/linalg/onednn_matmul.h"
#include "oneapi/dnnl/dnnl.hpp"
#include "tests/bench/floor_dtype.h"

namespace salient::bench {
namespace {

using dnnl::matmul;
using dnnl::memory;
using Type = memory::data_type;

const dnnl::engine& Cpu() {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

matmul::primitive_desc Describe(Type type, BareMatmul::Layout layout, int64_t m, int64_t n,
                                int64_t k) {
  const memory::desc a({m, k}, type, memory::dims{k, 1});
  const memory::desc plain({k, n}, type, memory::dims{1, k});
  const memory::desc packed({k, n}, type, memory::format_tag::any);
  const memory::desc& b = layout == BareMatmul::Layout::kPlain ? plain : packed;
  const memory::desc c({m, n}, Type::f32, memory::dims{n, 1});
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  return DescribeMatmul(Cpu(), a, b, c, attributes);
}

// Small and of both signs, without a denormal among them.
memory Filled(const memory::desc& description) {
  memory result(description, Cpu());
  auto* bits = static_cast<uint16_t*>(result.get_data_handle());
  for (size_t i = 0; i < description.get_size() / 2; ++i) {
    bits[i] = static_cast<uint16_t>((i % 3 == 0 ? 0xBF80 : 0x3F80) + i % 64);
  }
  return result;
}

}  // namespace

struct BareMatmul::State {
  explicit State(const matmul::primitive_desc& description)
      : primitive(description),
        arguments{{DNNL_ARG_SRC, Filled(description.src_desc())},
                  {DNNL_ARG_WEIGHTS, Filled(description.weights_desc())},
                  {DNNL_ARG_DST, memory(description.dst_desc(), Cpu())},
                  {DNNL_ARG_SCRATCHPAD, memory(description.scratchpad_desc(), Cpu())}} {}
  dnnl::stream stream{Cpu()};
  matmul primitive;
  std::unordered_map<int, memory> arguments;
};

BareMatmul::BareMatmul(DType factors, Layout layout, int64_t m, int64_t n, int64_t k)
    : flop_(2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k)),
      dtype_(FloorDType(factors)) {
  const matmul::primitive_desc description =
      Describe(dtype_ == DType::kBF16 ? Type::bf16 : Type::f32, layout, m, n, k);
  implementation_ = description.impl_info_str();
  state_ = std::make_unique<State>(description);
}

BareMatmul::~BareMatmul() = default;

void BareMatmul::Run() {
  state_->primitive.execute(state_->stream, state_->arguments);
  state_->stream.wait();
}

double BareMatmul::Flop() const { return flop_; }

}  // namespace salient::bench
