#include "core/engines/layout_table.h"

namespace salient {
namespace {

constexpr int k4[] = {4};
constexpr int k8[] = {8};
constexpr int k48[] = {4, 8};
constexpr int k248[] = {2, 4, 8};
constexpr int k2348[] = {2, 3, 4, 8};

constexpr int64_t kTgiAwqGroups[] = {32, 64, 128};
constexpr int64_t kGptqModelGroups[] = {kWholeRow, 16, 32, 64, 128};
constexpr int64_t kOnly128[] = {128};
constexpr int64_t k32And128[] = {32, 128};
constexpr int64_t kRowOrTensor[] = {kWholeRow, kWholeTensor};
constexpr int64_t kOnlyWholeRow[] = {kWholeRow};

constexpr char kV1AddsOne[] =
    "reads the zero points of gptq-v2 as if they were gptq's, stored minus one";
constexpr char kV1ZeroWraps[] =
    "a zero point of 0 in gptq is stored as the largest code, which readers do not agree on";
constexpr char kNoActOrderKnown[] =
    "it is not known whether its kernels take columns that act_order has moved between groups";

constexpr LayoutRemark kAtenRemark[] = {
    {When::kWholeRows, "the ATen kernel for CPUs does not take groups of whole rows; others do"}};
constexpr LayoutRemark kV1Remark[] = {{When::kAsymmetric, kV1ZeroWraps}};
constexpr LayoutRemark kVllmV2Remark[] = {
    {When::kAlways, "versions that do not know checkpoint_format gptq_v2 read other zero points"}};
constexpr LayoutRemark kSglangV2Remark[] = {
    {When::kAlways,
     "its Marlin kernels read no zero points; what its classic kernel makes of gptq-v2 is not "
     "known"}};
constexpr LayoutRemark kVllmCpuRemark[] = {{When::kActOrder, kNoActOrderKnown}};
constexpr LayoutRemark kVllmPackedRemark[] = {
    {When::kAsymmetric, "older versions read symmetric weights alone"},
    {When::kAsymmetric8Bit,
     "asymmetric 8 bit weights are reported to fail in its kernels when the model runs"}};
constexpr LayoutRemark kVllmCpuPackedRemark[] = {
    {When::kEightBit, "8 bit weights in this layout are not known to load on CPUs"},
    {When::kActOrder, kNoActOrderKnown}};
constexpr LayoutRemark kSglangPackedRemark[] = {
    {When::kAlways, "older builds want vLLM installed beside it for this layout"},
    {When::kAsymmetric, "older versions read symmetric weights alone"}};
constexpr LayoutRemark kTgiPackedRemark[] = {
    {When::kAlways, "this layout is read by its fused and row-parallel loaders alone"}};
constexpr LayoutRemark kTgiIntRemark[] = {
    {When::kStatic, "quantizes activations dynamically, whatever the file says"}};
constexpr LayoutRemark kLlamaCppIntRemark[] = {
    {When::kAlways, "takes the weights alone: activations are not quantized"},
    {When::kAsymmetric, "asymmetric weights are not known to be read"}};

using L = OutputFormat;
using E = Engine;
using S = KernelShapes;

// clang-format off
constexpr LayoutRow kRows[] = {
    {L::kAwqGemm, E::kVllm, "", k4, "", {}, {}, true, false, S::kMarlinOrClassic, {}},
    {L::kAwqGemm, E::kVllmCpu, "", k4, "", {}, {}, true, false, S::kThirtyTwo, {}},
    {L::kAwqGemm, E::kSglang, "", k4, "", {}, {}, true, false, S::kMarlinOrClassic, {}},
    {L::kAwqGemm, E::kTgi, "", k4, "", kTgiAwqGroups, {}, true, false, S::kMarlinTiles, {}},
    {L::kAwqGemm, E::kLmdeploy, "", k4, "", kOnly128, {}, true, false, S::kEight, {}},
    {L::kAwqGemm, E::kTransformers, "", k4, "", kGptqModelGroups, {}, true, false, S::kEight, kAtenRemark},
    {L::kAwqGemm, E::kLlamaCpp, "does not read awq; scaled-fp16 and compressed-tensors it does"},

    {L::kGptq, E::kVllm, "", k48, "takes symmetric weights alone, but for old versions", {}, kMarlinGroups, true, true, S::kMarlin, {}},
    {L::kGptq, E::kVllmCpu, "", k4, "takes symmetric weights alone", {}, {}, true, false, S::kThirtyTwo, kVllmCpuRemark},
    {L::kGptq, E::kSglang, "", k2348, "", {}, kMarlinGroups, true, true, S::kMarlin, kV1Remark},
    {L::kGptq, E::kTgi, "", k248, "", {}, kMarlinGroups, true, false, S::kMarlinTiles, kV1Remark},
    {L::kGptq, E::kLmdeploy, "", k4, "takes symmetric weights alone", kOnly128, {}, false, false, S::kEight, {}},
    {L::kGptq, E::kTransformers, "", k2348, "reads asymmetric weights as gptq-v2 alone", {}, kGptqModelGroups, true, true, S::kEight, {}},
    {L::kGptq, E::kLlamaCpp, "", k248, "", {}, {}, true, false, S::kAny, kV1Remark},

    {L::kGptqV2, E::kVllm, "", k48, "takes symmetric weights alone, but for old versions", {}, kMarlinGroups, true, true, S::kMarlin, kVllmV2Remark},
    {L::kGptqV2, E::kVllmCpu, "", k4, "takes symmetric weights alone", {}, {}, true, false, S::kThirtyTwo, kVllmV2Remark},
    {L::kGptqV2, E::kSglang, "", k2348, kV1AddsOne, {}, kMarlinGroups, true, true, S::kMarlin, kSglangV2Remark},
    {L::kGptqV2, E::kTgi, kV1AddsOne},
    {L::kGptqV2, E::kLmdeploy, kV1AddsOne},
    {L::kGptqV2, E::kTransformers, "", k2348, "", {}, kGptqModelGroups, true, true, S::kEight, {}},
    {L::kGptqV2, E::kLlamaCpp, "", k248, "", {}, {}, true, false, S::kAny, {}},

    {L::kCompressedTensors, E::kVllm, "", k48, "", {}, kMarlinGroups, true, true, S::kMarlin, kVllmPackedRemark},
    {L::kCompressedTensors, E::kVllmCpu, "", k48, "", {}, {}, true, true, S::kThirtyTwo, kVllmCpuPackedRemark},
    {L::kCompressedTensors, E::kSglang, "", k48, "", {}, kMarlinGroups, true, true, S::kMarlin, kSglangPackedRemark},
    {L::kCompressedTensors, E::kTgi, "", k48, "looks for the zero points of asymmetric weights under other names", {}, kMarlinGroups, true, true, S::kMarlinTiles, kTgiPackedRemark},
    {L::kCompressedTensors, E::kLmdeploy, "", k4, "", k32And128, {}, true, false, S::kEight, {}},
    {L::kCompressedTensors, E::kTransformers, "", k48, "makes room for zero points that are not packed and refuses those of files", {}, {}, true, true, S::kAny, {}},
    {L::kCompressedTensors, E::kLlamaCpp, "", k48, "", {}, {}, true, false, S::kAny, {}},

    {L::kIntQuantized, E::kVllm, "", k8, "takes symmetric weights alone", kRowOrTensor, {}, true, false, S::kAny, {}},
    {L::kIntQuantized, E::kVllmCpu, "", k8, "takes symmetric weights alone", kRowOrTensor, {}, true, false, S::kAny, {}},
    {L::kIntQuantized, E::kSglang, "", k8, "takes symmetric weights alone", kRowOrTensor, {}, true, false, S::kAny, {}},
    {L::kIntQuantized, E::kTgi, "", k8, "takes symmetric weights alone", kRowOrTensor, {}, true, false, S::kAny, kTgiIntRemark},
    {L::kIntQuantized, E::kLmdeploy, "does not read int-quantized; its own W8A8 is another layout"},
    {L::kIntQuantized, E::kTransformers, "", k8, "", {}, {}, true, true, S::kAny, {}},
    {L::kIntQuantized, E::kLlamaCpp, "", k8, "", kOnlyWholeRow, {}, true, false, S::kAny, kLlamaCppIntRemark},
};
// clang-format on

}  // namespace

const LayoutRow* FindLayoutRow(OutputFormat layout, Engine engine) {
  for (const LayoutRow& row : kRows) {
    if (row.layout == layout && row.engine == engine) return &row;
  }
  return nullptr;
}

}  // namespace salient
