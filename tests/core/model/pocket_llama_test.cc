// The trained test model: its perplexity against what tests/interop/llama_np.py computes
// (tests/golden/make_forward_goldens.py).
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "core/linalg/gemm.h"
#include "core/model/activations.h"
#include "core/model/blocks/embedding_and_head.h"
#include "core/model/group_observer.h"
#include "core/quality/perplexity.h"
#include "core/safetensors/safetensors.h"
#include "core/tensor/matrix.h"
#include "tests/core/model/small_model.h"
#include "tests/support/thread_executor.h"

namespace salient {
namespace {

using testing::Must;
using testing::ReadAs;
using testing::SmallModel;
using testing::TestsDirectory;

TEST(PocketLlamaTest, PerplexityOfFourRowsIsThatOfNumPy) {
  LimitThreadToItself();
  const SmallModel model(TestsDirectory() + "data/pocket-llama");
  const std::vector<int32_t> ids =
      ReadAs<int32_t>(Must(SafetensorsFile::Open(TestsDirectory() +
                                                 "data/pocket-llama/evaluation_open.safetensors")),
                      "input_ids");
  const std::vector<double> expected = ReadAs<double>(
      Must(SafetensorsFile::Open(TestsDirectory() + "golden/forward/pocket_llama.safetensors")),
      "negative_log_likelihood");
  ASSERT_EQ(expected.size(), 4u);
  testing::ThreadExecutor executor(2);
  const OutputHead head = Must(OutputHead::Open(model.checkpoint, model.plan));
  Likelihood total;
  double expected_total = 0;
  for (size_t row = 0; row < expected.size(); ++row) {
    const std::vector<int64_t> tokens(ids.begin() + static_cast<int64_t>(row) * 256,
                                      ids.begin() + static_cast<int64_t>(row + 1) * 256);
    const Matrix hidden = model.Hidden(tokens, ComputeDType::kF32, IgnoreGroup, executor);
    const Matrix normed = Must(head.Norm(hidden, executor));
    RowLikelihood likelihood(tokens);
    for (int64_t slice = 0; slice < head.SliceCount(); ++slice) {
      const HeadSlice part = Must(head.Read(slice, executor));
      const Matrix logits = Must(Logits(normed, part, executor));
      ASSERT_TRUE(likelihood.Add(part.first_id, logits.View()).ok());
    }
    const Likelihood found = Must(likelihood.Finish());
    EXPECT_EQ(found.tokens, 255);
    EXPECT_NEAR(found.negative_log_likelihood / expected[row], 1, 1e-5) << "row " << row;
    total.Add(found);
    expected_total += expected[row];
  }
  EXPECT_NEAR(total.Perplexity() / std::exp(expected_total / (4 * 255)), 1, 1e-4);
  EXPECT_NEAR(total.Perplexity(), 19.5257, 2e-3);
}

}  // namespace
}  // namespace salient
