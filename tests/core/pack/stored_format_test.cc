#include "core/pack/stored_format.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/tensor/affine_groups.h"
#include "core/tensor/dtype.h"

namespace salient {
namespace {

using ::testing::HasSubstr;

constexpr OutputFormat kOutputs[] = {
    OutputFormat::kAwqGemm,           OutputFormat::kGptq,         OutputFormat::kGptqV2,
    OutputFormat::kCompressedTensors, OutputFormat::kIntQuantized, OutputFormat::kScaledFp16,
    OutputFormat::kDequantizedFp16};

// "3 4s 8 ...": widths that some format has, asymmetric and symmetric (s), with groups of 32.
std::string Widths(OutputFormat output, int64_t group_size, ActivationFormat activations) {
  std::string widths;
  for (int bits = 2; bits <= 8; ++bits) {
    for (const bool symmetric : {false, true}) {
      const StoredFormat stored{{bits, group_size, symmetric}, output, activations};
      if (FindFormatFault(stored).has_value()) continue;
      absl::StrAppend(&widths, widths.empty() ? "" : " ", bits, symmetric ? "s" : "");
    }
  }
  return widths;
}

constexpr char kAll[] = "2 2s 3 3s 4 4s 5 5s 6 6s 7 7s 8 8s";

TEST(StoredFormatTest, EachLayoutHasTheCombinationsThatItsEnginesLoad) {
  constexpr ActivationFormat kNone = ActivationFormat::kNone;
  for (const int64_t group_size : {int64_t{32}, kWholeRow}) {
    EXPECT_EQ(Widths(OutputFormat::kAwqGemm, group_size, kNone), "4 4s");
    EXPECT_EQ(Widths(OutputFormat::kGptq, group_size, kNone), "3s 4s 8s");
    EXPECT_EQ(Widths(OutputFormat::kGptqV2, group_size, kNone), "3 3s 4 4s 8 8s");
    EXPECT_EQ(Widths(OutputFormat::kCompressedTensors, group_size, kNone), "4 4s 8 8s");
    EXPECT_EQ(Widths(OutputFormat::kIntQuantized, group_size, kNone), "");
    EXPECT_EQ(Widths(OutputFormat::kScaledFp16, group_size, kNone), kAll);
    EXPECT_EQ(Widths(OutputFormat::kDequantizedFp16, group_size, kNone), kAll);
  }
  for (const OutputFormat output : kOutputs) {
    const bool plain =
        output == OutputFormat::kScaledFp16 || output == OutputFormat::kDequantizedFp16;
    EXPECT_EQ(Widths(output, kWholeTensor, kNone), plain ? kAll : "") << Name(output);
    for (const auto activations :
         {ActivationFormat::kDynamicToken, ActivationFormat::kStaticTensor}) {
      const bool has = output == OutputFormat::kIntQuantized;
      EXPECT_EQ(Widths(output, kWholeRow, activations), has ? "8s" : "") << Name(output);
      EXPECT_EQ(Widths(output, kWholeTensor, activations), has ? "8s" : "") << Name(output);
      EXPECT_EQ(Widths(output, 32, activations), "") << Name(output);
    }
  }
}

TEST(StoredFormatTest, ScalesOfPackedLayoutsAreF16) {
  for (const OutputFormat output : kOutputs) {
    StoredFormat stored{{4, 32, true, DType::kF32}, output};
    const bool packed = output != OutputFormat::kIntQuantized &&
                        output != OutputFormat::kScaledFp16 &&
                        output != OutputFormat::kDequantizedFp16;
    const auto fault = FindFormatFault(stored);
    EXPECT_EQ(fault.has_value() && fault->field == "scale_dtype", packed) << Name(output);
  }
}

struct Refusal {
  StoredFormat stored;
  std::string field;
  std::string value;
  std::string expected;
};

TEST(StoredFormatTest, RefusalsNameFieldValueAndTheNearestThatWorks) {
  using F = OutputFormat;
  for (const Refusal& refusal : {
           Refusal{{{3, 128, false}, F::kAwqGemm},
                   "bits",
                   "3",
                   "4, the only width of awq-gemm; "
                   "gptq-v2 has 3"},
           {{{3, 128, true}, F::kAwqGemm}, "bits", "3", "gptq has 3"},
           {{{8, 128, false}, F::kAwqGemm}, "bits", "8", "compressed-tensors and gptq-v2 have 8"},
           {{{5, 128, true}, F::kGptq},
            "bits",
            "5",
            "3, 4 or 8, the widths of gptq; "
            "dequantized-fp16 has 2 to 8"},
           {{{4, 128, false}, F::kGptq},
            "symmetric",
            "false",
            "zero points of 0 are read in different ways; gptq-v2 and compressed-tensors hold"},
           {{{3, 128, false}, F::kGptq}, "symmetric", "false", "gptq-v2 holds asymmetric"},
           {{{3, 128, true}, F::kCompressedTensors}, "bits", "3", "gptq has 3"},
           {{{4, kWholeTensor, true}, F::kCompressedTensors}, "group_size", "-2", "-1, one scale"},
           {{{4, kWholeRow, true}, F::kIntQuantized, ActivationFormat::kDynamicToken},
            "bits",
            "4",
            "8, the only width of int-quantized"},
           {{{8, 128, true}, F::kIntQuantized, ActivationFormat::kStaticTensor},
            "group_size",
            "128",
            "compressed-tensors has groups"},
           {{{8, kWholeRow, true}, F::kIntQuantized}, "activations", "none", "dynamic or static"},
           {{{4, 128, false}, F::kAwqGemm, ActivationFormat::kStaticTensor},
            "activations",
            "static",
            "none for awq-gemm; int-quantized"},
       }) {
    const auto fault = FindFormatFault(refusal.stored);
    ASSERT_TRUE(fault.has_value()) << refusal.expected;
    EXPECT_EQ(fault->field, refusal.field);
    EXPECT_EQ(fault->value, refusal.value);
    EXPECT_THAT(fault->expected, HasSubstr(refusal.expected));
  }
}

TEST(StoredFormatTest, NamesAreTold) {
  std::set<absl::string_view> names;
  for (const OutputFormat output : kOutputs) names.insert(Name(output));
  EXPECT_EQ(names.size(), 7u);
  EXPECT_EQ(names.count(""), 0u);
}

}  // namespace
}  // namespace salient
