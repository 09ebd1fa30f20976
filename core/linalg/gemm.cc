#include "core/linalg/gemm.h"

#include <omp.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <exception>
#include <map>
#include <new>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/linalg/onednn_matmul.h"
#include "oneapi/dnnl/dnnl.hpp"

namespace salient {
namespace {

using dnnl::matmul;
using dnnl::memory;

const dnnl::engine& Cpu() {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

std::shared_ptr<std::byte[]> Aligned(int64_t bytes) {
  constexpr auto kLine = static_cast<std::align_val_t>(64);
  return {static_cast<std::byte*>(::operator new(static_cast<size_t>(bytes), kLine)),
          [=](std::byte* p) { ::operator delete(p, kLine); }};
}

// The layout of a factor B [n, k]. It belongs to B's shape, whatever A will be.
memory::desc FactorLayout(int64_t n, int64_t k);

// A product of one shape. B is a factor's own layout when `ldb` is 0.
struct ProductShape {
  int64_t m, n, k, lda, ldb, ldc;
  bool adds;
  auto operator<=>(const ProductShape&) const = default;
};

matmul::primitive_desc Describe(const ProductShape& shape, const memory::desc& b) {
  using Type = memory::data_type;
  const memory::desc a({shape.m, shape.k}, Type::bf16, memory::dims{shape.lda, 1});
  const memory::desc c({shape.m, shape.n}, Type::f32, memory::dims{shape.ldc, 1});
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  if (shape.adds) {
    dnnl::post_ops add;
    add.append_sum();
    attributes.set_post_ops(add);
  }
  return DescribeMatmul(Cpu(), a, b, c, attributes);
}

memory::desc FactorLayout(int64_t n, int64_t k) {
  constexpr int64_t kRows = 64;
  const memory::desc any({k, n}, memory::data_type::bf16, memory::format_tag::any);
  return Describe({kRows, n, k, k, 0, n, false}, any).weights_desc();
}

class Product {
 public:
  explicit Product(const ProductShape& shape)
      : description_(Describe(shape, shape.ldb == 0
                                         ? FactorLayout(shape.n, shape.k)
                                         : memory::desc({shape.k, shape.n}, memory::data_type::bf16,
                                                        memory::dims{1, shape.ldb}))),
        primitive_(description_),
        a_(description_.src_desc(), Cpu(), nullptr),
        b_(description_.weights_desc(), Cpu(), nullptr),
        c_(description_.dst_desc(), Cpu(), nullptr),
        scratchpad_(description_.scratchpad_desc(), Cpu(), nullptr),
        arguments_{{DNNL_ARG_SRC, a_},
                   {DNNL_ARG_WEIGHTS, b_},
                   {DNNL_ARG_DST, c_},
                   {DNNL_ARG_SCRATCHPAD, scratchpad_}} {}

  size_t ScratchpadBytes() const { return description_.scratchpad_desc().get_size(); }

  void Run(const void* a, const void* b, float* c, void* scratchpad, dnnl::stream& stream) {
    // oneDNN's handles know no const; of these the product writes c and the scratchpad alone.
    a_.set_data_handle(const_cast<void*>(a));
    b_.set_data_handle(const_cast<void*>(b));
    c_.set_data_handle(c);
    scratchpad_.set_data_handle(scratchpad);
    primitive_.execute(stream, arguments_);
    stream.wait();
  }

 private:
  matmul::primitive_desc description_;
  matmul primitive_;
  memory a_, b_, c_, scratchpad_;
  std::unordered_map<int, memory> arguments_;
};

// Holds what a thread keeps between calls, because a primitive's memory objects are not to be
// shared.
class ThreadProducts {
 public:
  void Run(const ProductShape& shape, const void* a, const void* b, float* c) {
    // Shapes are few: row lengths are padded and tiles fixed. The bound is for the odd client.
    constexpr size_t kMostProducts = 512;
    auto found = products_.find(shape);
    if (found == products_.end()) {
      if (products_.size() >= kMostProducts) products_.clear();
      found = products_.try_emplace(shape, shape).first;
    }
    const size_t bytes = found->second.ScratchpadBytes();
    if (bytes > scratchpad_bytes_) {
      scratchpad_ = Aligned(static_cast<int64_t>(bytes));
      scratchpad_bytes_ = bytes;
    }
    found->second.Run(a, b, c, scratchpad_.get(), stream_);
  }

 private:
  dnnl::stream stream_{Cpu()};
  std::map<ProductShape, Product> products_;
  std::shared_ptr<std::byte[]> scratchpad_;
  size_t scratchpad_bytes_ = 0;
};

absl::Status Refused(int64_t m, int64_t n, int64_t k, const std::exception& error) {
  return absl::InternalError(absl::StrCat("oneDNN bf16 product [", m, ", ", k, "] x [", k, ", ", n,
                                          "] failed: ", error.what()));
}

absl::Status RunProduct(const ProductShape& shape, const void* a, const void* b, float* c) {
  thread_local ThreadProducts products;
  try {
    products.Run(shape, a, b, c);
  } catch (const std::exception& error) {
    return Refused(shape.m, shape.n, shape.k, error);
  }
  return absl::OkStatus();
}

// [rows, cols] of bfloat16 as f32, without gaps.
std::vector<float> Widened(const uint16_t* bits, int64_t rows, int64_t cols, int64_t ld) {
  std::vector<float> wide(static_cast<size_t>(rows * cols));
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < cols; ++j) {
      wide[static_cast<size_t>(i * cols + j)] =
          std::bit_cast<float>(static_cast<uint32_t>(bits[i * ld + j]) << 16);
    }
  }
  return wide;
}

// A product of rows with gaps between them. With a factor laid out by oneDNN, that library leaves
// such ones to its reference loops, a thousand times slower than the copies here.
absl::Status MultiplyBesideGaps(const Bf16Factor& factor, int64_t m, const uint16_t* a, int64_t lda,
                                float beta, float* c, int64_t ldc) {
  const int64_t n = factor.n();
  const int64_t k = factor.k();
  std::vector<uint16_t> dense_a(static_cast<size_t>(m * k));
  std::vector<float> dense_c(static_cast<size_t>(m * n));
  for (int64_t i = 0; i < m; ++i) {
    std::copy(a + i * lda, a + i * lda + k, dense_a.data() + i * k);
    if (beta != 0) std::copy(c + i * ldc, c + i * ldc + n, dense_c.data() + i * n);
  }
  absl::Status status = factor.Multiply(m, dense_a.data(), k, beta, dense_c.data(), n);
  if (!status.ok()) return status;
  for (int64_t i = 0; i < m; ++i) {
    std::copy(dense_c.data() + i * n, dense_c.data() + (i + 1) * n, c + i * ldc);
  }
  return status;
}

}  // namespace

absl::Status Gemm(Op op_a, Op op_b, int64_t m, int64_t n, int64_t k, const float* a, int64_t lda,
                  const float* b, int64_t ldb, float beta, float* c, int64_t ldc) {
  const auto flag = [](Op op) { return op == Op::kTransposed ? 'T' : 'N'; };
  // A primitive would have to be created per shape; this entry is the same jitted kernel
  // without that, keeps no scratchpad between calls and exists in oneDNN 2.6 and 3.x alike.
  const dnnl_status_t status =
      dnnl_sgemm(flag(op_a), flag(op_b), m, n, k, 1.0f, a, lda, b, ldb, beta, c, ldc);
  if (status == dnnl_success) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("oneDNN sgemm [", m, ", ", k, "] x [", k, ", ", n,
                                          "] failed with status ", static_cast<int>(status)));
}

bool MultipliesBf16() {
  // The value of a set has the bits of the sets that it contains.
  static const bool multiplies = (static_cast<int>(dnnl_get_effective_cpu_isa()) &
                                  dnnl_cpu_isa_avx512_core_bf16) == dnnl_cpu_isa_avx512_core_bf16;
  return multiplies;
}

absl::Status GemmBf16(int64_t m, int64_t n, int64_t k, const uint16_t* a, int64_t lda,
                      const uint16_t* b, int64_t ldb, float beta, float* c, int64_t ldc) {
  // Widening costs m k + n k conversions beside m n k products, so it is not kept.
  if (MultipliesBf16()) return RunProduct({m, n, k, lda, ldb, ldc, beta != 0}, a, b, c);
  const std::vector<float> wide_a = Widened(a, m, k, lda);
  const std::vector<float> wide_b = Widened(b, n, k, ldb);
  return Gemm(Op::kPlain, Op::kTransposed, m, n, k, wide_a.data(), k, wide_b.data(), k, beta, c,
              ldc);
}

int64_t Bf16Factor::MemoryBytes(int64_t n, int64_t k) {
  if (!MultipliesBf16()) return n * k * static_cast<int64_t>(sizeof(float));
  // Layouts are in blocks of at most 64 by 64.
  const auto padded = [](int64_t size) { return (size + 63) / 64 * 64; };
  return padded(n) * padded(k) * static_cast<int64_t>(sizeof(uint16_t));
}

absl::StatusOr<Bf16Factor> Bf16Factor::Create(const uint16_t* b, int64_t n, int64_t k, int64_t ld) {
  Bf16Factor factor;
  factor.n_ = n;
  factor.k_ = k;
  if (!MultipliesBf16()) {
    const std::vector<float> wide = Widened(b, n, k, ld);
    auto data = Aligned(n * k * static_cast<int64_t>(sizeof(float)));
    std::memcpy(data.get(), wide.data(), wide.size() * sizeof(float));
    factor.data_ = std::move(data);
    return factor;
  }
  try {
    const memory::desc layout = FactorLayout(n, k);
    auto data = Aligned(static_cast<int64_t>(layout.get_size()));
    const memory::desc plain({k, n}, memory::data_type::bf16, memory::dims{1, ld});
    memory from(plain, Cpu(), const_cast<uint16_t*>(b));
    memory to(layout, Cpu(), data.get());
    dnnl::stream stream(Cpu());
    dnnl::reorder(from, to).execute(stream, from, to);
    stream.wait();
    factor.data_ = std::move(data);
  } catch (const std::exception& error) {
    return Refused(0, n, k, error);
  }
  return factor;
}

absl::Status Bf16Factor::Multiply(int64_t m, const uint16_t* a, int64_t lda, float beta, float* c,
                                  int64_t ldc) const {
  if (MultipliesBf16()) {
    if (lda == k_ && ldc == n_) {
      return RunProduct({m, n_, k_, lda, 0, ldc, beta != 0}, a, data_.get(), c);
    }
    return MultiplyBesideGaps(*this, m, a, lda, beta, c, ldc);
  }
  const std::vector<float> wide = Widened(a, m, k_, lda);
  return Gemm(Op::kPlain, Op::kTransposed, m, n_, k_, wide.data(), k_,
              reinterpret_cast<const float*>(data_.get()), k_, beta, c, ldc);
}

void LimitThreadToItself() { omp_set_num_threads(1); }

std::string OneDnnVersion() {
  const dnnl_version_t* version = dnnl_version();
  return absl::StrCat(version->major, ".", version->minor, ".", version->patch);
}

absl::Status LimitProducts(InstructionSet set) {
  dnnl_cpu_isa_t isa = dnnl_cpu_isa_avx2;
  if (set == InstructionSet::kAvx512Core) isa = dnnl_cpu_isa_avx512_core;
  if (set == InstructionSet::kAvx512CoreBf16) isa = dnnl_cpu_isa_avx512_core_bf16;
  if (set == InstructionSet::kAvx512CoreAmx) isa = dnnl_cpu_isa_avx512_core_amx;
  const dnnl_status_t status = dnnl_set_max_cpu_isa(isa);
  if (status == dnnl_success) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("oneDNN cannot be limited to instruction set ", NameOf(set), " (status ",
                   static_cast<int>(status),
                   "): something was computed before, or it was built without limits"));
}

std::string InstructionPath() {
  switch (dnnl_get_effective_cpu_isa()) {
    case dnnl_cpu_isa_sse41:
      return "sse41";
    case dnnl_cpu_isa_avx:
      return "avx";
    case dnnl_cpu_isa_avx2:
      return "avx2";
    case dnnl_cpu_isa_avx2_vnni:
      return "avx2_vnni";
    case dnnl_cpu_isa_avx512_core:
      return "avx512_core";
    case dnnl_cpu_isa_avx512_core_vnni:
      return "avx512_core_vnni";
    case dnnl_cpu_isa_avx512_core_bf16:
      return "avx512_core_bf16";
    case dnnl_cpu_isa_avx512_core_amx:
      return "avx512_core_amx";
    default:
      // Newer releases know more; the number still tells two of them apart.
      return absl::StrCat("isa_0x", absl::Hex(static_cast<int>(dnnl_get_effective_cpu_isa())));
  }
}

}  // namespace salient
