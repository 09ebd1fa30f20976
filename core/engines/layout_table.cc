#include "core/engines/layout_table.h"

#include "core/tensor/stored_format.h"

namespace salient {
namespace {

constexpr int k4[] = {4};
constexpr int k8[] = {8};
constexpr int k48[] = {4, 8};
constexpr int k248[] = {2, 4, 8};
constexpr int k2348[] = {2, 3, 4, 8};

constexpr int64_t kTgiAwqGroups[] = {32, 64, 128};
constexpr int64_t kGptqModelAwqGroups[] = {kWholeRow, 16, 32, 64, 128};
constexpr int64_t kGptqModelGroups[] = {kWholeRow, 16, 32, 64, 128, 256, 512, 1024};
constexpr int64_t kOnly128[] = {128};
constexpr int64_t k32And128[] = {32, 128};
constexpr int64_t kRowOrTensor[] = {kWholeRow, kWholeTensor};
constexpr int64_t kOnlyWholeRow[] = {kWholeRow};

constexpr char kSymmetricAlone[] = "takes symmetric weights alone";
constexpr char kMarlinAlone[] = "has Marlin's kernels for gptq alone, which take symmetric weights";
constexpr char kV1AddsOne[] =
    "reads the zero points of gptq-v2 as if they were gptq's, stored minus one";
constexpr char kNoOrder[] = "no longer takes columns that act_order has moved between groups";
constexpr char kBesideEachOther[] = "wants the columns of a group beside each other";
constexpr char kIgnoresOrder[] =
    "does not look at weight_g_idx and would give each column the scale of another group";
constexpr char kOtherOrderName[] = "looks for weight_g_idx under another name";
constexpr char kNoPlaceForOrder[] = "has no place for weight_g_idx";
constexpr char kOneInputScale[] =
    "has room for one input_scale where it fuses q, k and v or gate and up; activations that are "
    "quantized dynamically it reads";
constexpr char kNoPlaceForInputScale[] =
    "has no place for input_scale; activations that are quantized dynamically it reads";
constexpr char kPackedAlone[] =
    "reads 8 bit weights of activations that are not quantized as pack-quantized alone";

constexpr LayoutRemark kAtenRemark[] = {
    {When::kWholeRows, "the ATen kernel for CPUs does not take groups of whole rows; others do"}};
constexpr LayoutRemark kV1Remark[] = {
    {When::kAsymmetric,
     "a zero point of 0 in gptq is stored as the largest code, which readers do not agree on"}};
constexpr LayoutRemark kVllmPackedRemark[] = {
    {When::kAsymmetric8Bit,
     "asymmetric 8 bit weights are not for its Marlin kernels; whether its Humming kernels take "
     "them is not known"}};
constexpr LayoutRemark kSglangPackedRemark[] = {
    {When::kAsymmetric8Bit, "it is not known whether its kernels take asymmetric 8 bit weights"}};
constexpr LayoutRemark kTgiPackedRemark[] = {
    {When::kAlways, "this layout is read by its fused and row-parallel loaders alone"}};
constexpr LayoutRemark kSglangIntRemark[] = {
    {When::kWholeTensors,
     "weights with one scale a tensor are reported to fail in its first forward pass"}};
constexpr LayoutRemark kTgiIntRemark[] = {
    {When::kStatic, "quantizes activations dynamically, whatever the file says"}};
constexpr LayoutRemark kLlamaCppIntRemark[] = {
    {When::kAlways, "takes the weights alone: activations are not quantized"},
    {When::kAsymmetric, "asymmetric weights are not known to be read"}};

using L = OutputFormat;
using E = Engine;
using S = KernelShapes;
using M = Mixes;

// clang-format off
constexpr LayoutRow kRows[] = {
    {.layout = L::kAwqGemm, .engine = E::kVllm, .bits = k4, .mixes = M::kNothing, .shapes = S::kAwqOfVllm},
    {.layout = L::kAwqGemm, .engine = E::kVllmCpu, .bits = k4, .mixes = M::kNothing, .shapes = S::kThirtyTwo},
    {.layout = L::kAwqGemm, .engine = E::kSglang, .bits = k4, .mixes = M::kNothing, .shapes = S::kAwqOfSglang},
    {.layout = L::kAwqGemm, .engine = E::kTgi, .bits = k4, .group_sizes = kTgiAwqGroups, .mixes = M::kNothing, .shapes = S::kWhereMarlin},
    {.layout = L::kAwqGemm, .engine = E::kLmdeploy, .bits = k4, .group_sizes = kOnly128, .mixes = M::kNothing, .shapes = S::kEight},
    {.layout = L::kAwqGemm, .engine = E::kTransformers, .bits = k4, .group_sizes = kGptqModelAwqGroups, .mixes = M::kNothing, .shapes = S::kEight, .remarks = kAtenRemark},
    {.layout = L::kAwqGemm, .engine = E::kLlamaCpp, .never = {.layout = "does not read awq; scaled-fp16 and compressed-tensors it does"}},

    {.layout = L::kGptq, .engine = E::kVllm, .bits = k48, .group_sizes = kMarlinGroups, .shapes = S::kPaddedMarlin, .never = {.asymmetric = kSymmetricAlone, .act_order = kNoOrder}},
    {.layout = L::kGptq, .engine = E::kVllmCpu, .bits = k4, .group_sizes = kMarlinGroups, .shapes = S::kThirtyTwo, .never = {.asymmetric = kSymmetricAlone, .act_order = kNoOrder}},
    {.layout = L::kGptq, .engine = E::kSglang, .bits = k48, .group_sizes = kMarlinGroups, .shapes = S::kMarlinTiles, .never = {.asymmetric = kMarlinAlone}},
    {.layout = L::kGptq, .engine = E::kTgi, .bits = k248, .known_groups = kMarlinGroups, .mixes = M::kNothing, .shapes = S::kWhereMarlin, .remarks = kV1Remark},
    {.layout = L::kGptq, .engine = E::kLmdeploy, .bits = k4, .group_sizes = kOnly128, .mixes = M::kNothing, .shapes = S::kEight, .never = {.asymmetric = kSymmetricAlone, .act_order = kBesideEachOther}},
    {.layout = L::kGptq, .engine = E::kTransformers, .bits = k2348, .group_sizes = kGptqModelGroups, .mixes = M::kNothing, .shapes = S::kEight, .remarks = kV1Remark},
    {.layout = L::kGptq, .engine = E::kLlamaCpp, .bits = k248, .mixes = M::kGroupSizes, .remarks = kV1Remark},

    {.layout = L::kGptqV2, .engine = E::kVllm, .bits = k48, .group_sizes = kMarlinGroups, .shapes = S::kPaddedMarlin, .never = {.asymmetric = kSymmetricAlone, .act_order = kNoOrder}},
    {.layout = L::kGptqV2, .engine = E::kVllmCpu, .bits = k4, .group_sizes = kMarlinGroups, .shapes = S::kThirtyTwo, .never = {.asymmetric = kSymmetricAlone, .act_order = kNoOrder}},
    {.layout = L::kGptqV2, .engine = E::kSglang, .bits = k48, .group_sizes = kMarlinGroups, .shapes = S::kMarlinTiles, .never = {.asymmetric = kMarlinAlone}},
    {.layout = L::kGptqV2, .engine = E::kTgi, .never = {.layout = kV1AddsOne}},
    {.layout = L::kGptqV2, .engine = E::kLmdeploy, .never = {.layout = kV1AddsOne}},
    {.layout = L::kGptqV2, .engine = E::kTransformers, .bits = k2348, .group_sizes = kGptqModelGroups, .mixes = M::kNothing, .shapes = S::kEight},
    {.layout = L::kGptqV2, .engine = E::kLlamaCpp, .bits = k248, .mixes = M::kGroupSizes},

    {.layout = L::kCompressedTensors, .engine = E::kVllm, .bits = k48, .known_groups = kMarlinGroups, .shapes = S::kPaddedMarlin, .never = {.act_order = kNoOrder}, .remarks = kVllmPackedRemark},
    {.layout = L::kCompressedTensors, .engine = E::kVllmCpu, .bits = k4, .shapes = S::kThirtyTwo, .never = {.act_order = kNoOrder}},
    {.layout = L::kCompressedTensors, .engine = E::kSglang, .bits = k48, .group_sizes = kMarlinGroups, .shapes = S::kMarlinTiles, .remarks = kSglangPackedRemark},
    {.layout = L::kCompressedTensors, .engine = E::kTgi, .bits = k48, .known_groups = kMarlinGroups, .shapes = S::kWhereMarlin, .never = {.asymmetric = "looks for the zero points of asymmetric weights under other names", .act_order = kOtherOrderName}, .remarks = kTgiPackedRemark},
    {.layout = L::kCompressedTensors, .engine = E::kLmdeploy, .bits = k4, .group_sizes = k32And128, .mixes = M::kNothing, .shapes = S::kEight, .never = {.act_order = kIgnoresOrder}},
    {.layout = L::kCompressedTensors, .engine = E::kTransformers, .bits = k48, .never = {.asymmetric = "makes room for zero points that are not packed and refuses those of files", .act_order = kNoOrder}},
    {.layout = L::kCompressedTensors, .engine = E::kLlamaCpp, .bits = k48, .mixes = M::kNothing, .never = {.act_order = kNoPlaceForOrder}},

    {.layout = L::kIntQuantized, .engine = E::kVllm, .bits = k8, .group_sizes = kRowOrTensor, .mixes = M::kNothing, .never = {.asymmetric = kSymmetricAlone, .float_activations = kPackedAlone}},
    {.layout = L::kIntQuantized, .engine = E::kVllmCpu, .bits = k8, .group_sizes = kRowOrTensor, .mixes = M::kNothing, .never = {.asymmetric = kSymmetricAlone, .float_activations = kPackedAlone}},
    {.layout = L::kIntQuantized, .engine = E::kSglang, .bits = k8, .group_sizes = kRowOrTensor, .mixes = M::kNothing, .never = {.asymmetric = kSymmetricAlone, .static_activations = kOneInputScale, .float_activations = kPackedAlone}, .remarks = kSglangIntRemark},
    {.layout = L::kIntQuantized, .engine = E::kTgi, .bits = k8, .group_sizes = kRowOrTensor, .mixes = M::kNothing, .never = {.asymmetric = kSymmetricAlone}, .remarks = kTgiIntRemark},
    {.layout = L::kIntQuantized, .engine = E::kLmdeploy, .never = {.layout = "does not read int-quantized; its own W8A8 is another layout"}},
    {.layout = L::kIntQuantized, .engine = E::kTransformers, .bits = k8},
    {.layout = L::kIntQuantized, .engine = E::kLlamaCpp, .bits = k8, .group_sizes = kOnlyWholeRow, .mixes = M::kNothing, .never = {.static_activations = kNoPlaceForInputScale}, .remarks = kLlamaCppIntRemark},
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
