#include "server/jobs/output_directories.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "core/tensor/stored_format.h"
#include "server/error/call_error.h"
#include "tests/server/jobs/output_fixture.h"

namespace salient {
namespace {

using ::testing::ElementsAre;
using testing::kAwq;
using testing::kPlain;
using testing::Must;
using testing::Stored;

TEST(OutputDirectoriesTest, AreNamedByLayoutAndWhereThatIsNotEnoughByWidthAndGroup) {
  const auto names = [](const std::vector<StoredFormat>& formats) {
    return Must(OutputDirectories(formats));
  };
  EXPECT_THAT(names({Stored(kAwq)}), ElementsAre(""));
  EXPECT_THAT(names({Stored(kAwq), Stored(kPlain)}), ElementsAre("awq-gemm", "dequantized-fp16"));
  EXPECT_THAT(
      names({Stored(OutputFormat::kCompressedTensors, 8, 128), Stored(kAwq),
             Stored(OutputFormat::kCompressedTensors, 4, -1)}),
      ElementsAre("compressed-tensors-8bit-g128", "awq-gemm", "compressed-tensors-4bit-g-1"));
  for (const std::vector<StoredFormat>& formats :
       {std::vector<StoredFormat>{},
        std::vector<StoredFormat>(9, Stored(kAwq)),
        {Stored(kPlain, 3), Stored(kAwq), Stored(kPlain, 3)}}) {
    const absl::Status status = OutputDirectories(formats).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(DetailsOf(status).reason, Reason::kBadJob);
  }
}

}  // namespace
}  // namespace salient
