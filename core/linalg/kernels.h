// Vectorized inner loops: the only room with instruction sets, dispatched at run time.
//
// Element-wise kernels give the same result on every instruction set; sums and fused
// multiply-adds may differ in the last bits between sets, never between calls.
// All are thread-safe and allocate nothing.
#ifndef SALIENT_CORE_LINALG_KERNELS_H_
#define SALIENT_CORE_LINALG_KERNELS_H_

#include <cstdint>
#include <string>
#include <utility>

namespace salient {

// total[i] += partial[i] rounded to a multiple of 2^-24. Such sums are exact, hence
// independent of order, while they stay below 2^29.
void AddRoundedTo24(const float* partial, int64_t n, double* total);

// Widens F16 bits, exactly.
void WidenF16(const uint16_t* bits, int64_t n, float* out);

// out[i] = a[i] * b[i]. `out` may be `a`.
void Multiply(const float* a, const float* b, int64_t n, float* out);

// Smallest and largest of w[0 .. n), n > 0.
std::pair<float, float> MinMax(const float* w, int64_t n);

// One affine map: w' = scale * (code - zero_point).
struct Affine {
  float scale = 1;
  float zero_point = 0;  // an integer, 0 .. max_code
  float max_code = 15;   // 2^bits - 1
};

// errors[i] = w'[i] - w[i] with code = clamp(round(w / scale) + zero_point, 0, max_code), ties
// to even.
void NearestErrors(const float* w, int64_t n, const Affine& affine, float* errors);

// The codes of the same rounding.
void NearestCodes(const float* w, int64_t n, const Affine& affine, uint8_t* codes);

// sum a[i] b[i], products and sum in f64.
double Dot(const float* a, const float* b, int64_t n);

// Panels: kPanelRows output rows side by side, element (column j, row t) at j * kPanelRows + t;
// 64-byte aligned, as is every pointer to kPanelRows floats.
inline constexpr int64_t kPanelRows = 16;

// y = H[:, begin:end] x[begin:end] for a symmetric H [n, n] of row stride ld; x, y [n] panels.
void PanelMultiply(const float* h, int64_t ld, int64_t n, int64_t begin, int64_t end,
                   const float* x, float* y);

// out[t] = sum over columns j in [begin, end) of a(j, t) b(j, t).
void PanelDot(const float* a, const float* b, int64_t begin, int64_t end, float* out);

// The affine maps of a panel: column j belongs to group group_of[j]; group g's scale and zero
// point of row t stand at g * kPanelRows + t.
struct PanelAffine {
  const int32_t* group_of = nullptr;
  const float* scales = nullptr;
  const float* zero_points = nullptr;
  float max_code = 15;
};

// GPTQ inside one block (arXiv:2210.17323, algorithm 1 without lazy batches): visits columns
// order[0], order[1] ...; row p of `work` is column order[p] and is destroyed. U [n, n] with
// U^T U = inverse of the permuted, damped H. codes(order[p], t) receives code - zero_point.
void PanelGptq(const float* upper, int64_t n, const int32_t* order, const PanelAffine& affine,
               float* work, float* codes);

// One sweep of exact coordinate descent on tr(D H D^T) over the codes: column after column is
// set to its best code given all others. `gradient` = H D is kept up to date.
void PanelDescent(const float* h, int64_t ld, int64_t n, const PanelAffine& affine, float* codes,
                  float* gradient);

// Name of the instruction set these kernels use here, e.g. "AVX3".
std::string KernelTarget();

}  // namespace salient

#endif  // SALIENT_CORE_LINALG_KERNELS_H_
