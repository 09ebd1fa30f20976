// Holds what AutoAWQ 0.2.9's own functions computed (torch, f32, CPU) against our `autoawq` mode.
#include <cmath>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "core/method/range_clip.h"
#include "core/method/ranges.h"
#include "core/method/round_nearest.h"
#include "core/method/scale_awq.h"
#include "core/method/scale_search.h"
#include "core/pack/awq_gemm.h"
#include "core/parallel/executor.h"
#include "core/safetensors/safetensors.h"
#include "core/statistics/loss_model.h"
#include "core/statistics/statistics.h"
#include "core/tensor/affine_groups.h"
#include "core/tensor/dtype.h"
#include "core/tensor/half.h"
#include "core/tensor/matrix.h"
#include "core/tensor/named_tensor.h"
#include "core/tensor/weight_view.h"
#include "gtest/gtest.h"
#include "tests/support/direct_statistics.h"
#include "tests/support/shared_files.h"

namespace salient {
namespace {

struct AutoAwqCase {
  std::string name;
  std::vector<std::string> linears;
  int64_t group_size;
};

class AutoAwqGolden : public ::testing::TestWithParam<AutoAwqCase> {
 protected:
  void SetUp() override {
    const std::string path = testing::SharedFile("golden/autoawq.safetensors");
    if (path.empty()) GTEST_SKIP() << "SKIPPED: golden/autoawq.safetensors is not here";
    absl::StatusOr<SafetensorsFile> file = SafetensorsFile::Open(path);
    ASSERT_TRUE(file.ok()) << file.status();
    file_ = std::make_unique<SafetensorsFile>(*std::move(file));
  }

  template <class T>
  std::vector<T> Read(const std::string& suffix) const {
    absl::StatusOr<std::vector<std::byte>> bytes = file_->ReadTensor(GetParam().name + suffix);
    EXPECT_TRUE(bytes.ok()) << bytes.status();
    std::vector<T> values(bytes->size() / sizeof(T));
    std::memcpy(values.data(), bytes->data(), bytes->size());
    return values;
  }

  std::unique_ptr<SafetensorsFile> file_;
};

double ShareEqual(const std::vector<float>& a, const std::vector<float>& b, double tolerance) {
  int64_t equal = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    equal += std::abs(a[i] - b[i]) <= tolerance * std::abs(b[i]) ? 1 : 0;
  }
  return static_cast<double>(equal) / static_cast<double>(a.size());
}

TEST_P(AutoAwqGolden, LossesRatioClipBoundsAndCodesAgree) {
  SerialExecutor executor;
  const WeightFormat format{4, GetParam().group_size, false, DType::kF16};
  std::map<std::string, std::vector<std::byte>> bytes;
  std::vector<WeightView> weights;
  int64_t outputs = 0;
  for (const std::string& linear : GetParam().linears) {
    const std::string name = GetParam().name + "." + linear + ".weight";
    absl::StatusOr<const TensorEntry*> entry = file_->header().Get(name);
    ASSERT_TRUE(entry.ok()) << entry.status();
    bytes[linear] = *file_->ReadTensor(name);
    weights.push_back(
        {(*entry)->dtype, bytes[linear].data(), (*entry)->shape[0], (*entry)->shape[1]});
    outputs += (*entry)->shape[0];
  }
  const std::vector<uint16_t> halves = Read<uint16_t>(".input");
  const int64_t columns = weights[0].in_features;
  Matrix x(static_cast<int64_t>(halves.size()) / columns, columns);
  for (size_t i = 0; i < halves.size(); ++i) x.data()[i] = F16ToF32(halves[i]);
  const Statistics statistics = testing::DirectStatistics(x);
  const LossModel model(statistics);

  const absl::StatusOr<ScaleSearch> search =
      SearchAwqScale(weights, statistics, model, format, {true, std::nullopt}, executor);
  ASSERT_TRUE(search.ok()) << search.status();
  const std::vector<double> losses = Read<double>(".losses");
  ASSERT_EQ(search->losses.size(), losses.size());
  size_t golden_best = 0;
  for (size_t c = 0; c < losses.size(); ++c) {
    const double mean = search->losses[c] / static_cast<double>(outputs);
    EXPECT_NEAR(mean, losses[c], 2e-4 * losses[c]) << "ratio " << search->candidates[c].ratio;
    if (losses[c] < losses[golden_best]) golden_best = c;
  }
  EXPECT_EQ(search->chosen, search->candidates[golden_best]);
  const std::vector<float> scales = Read<float>(".scales");
  EXPECT_EQ(ShareEqual(search->scales, scales, 1e-5), 1.0);

  for (size_t i = 0; i < weights.size(); ++i) {
    const std::string prefix = "." + GetParam().linears[i];
    SCOPED_TRACE(prefix);
    const absl::StatusOr<Ranges> ranges =
        RangeClip(weights[i], scales, model, format, /*autoawq=*/true, executor);
    ASSERT_TRUE(ranges.ok()) << ranges.status();
    EXPECT_GE(ShareEqual(ranges->clamps, Read<float>(prefix + ".clip_max"), 1e-5), 0.999);
    EXPECT_GE(ShareEqual(ranges->scales, Read<float>(prefix + ".scale_f32"), 1e-5), 0.999);
    const absl::StatusOr<AffineGroups> groups =
        RoundNearest(weights[i], scales, *ranges, format, executor);
    ASSERT_TRUE(groups.ok()) << groups.status();
    const absl::StatusOr<std::vector<NamedTensor>> packed = PackAwqGemm("x", *groups);
    ASSERT_TRUE(packed.ok()) << packed.status();
    const std::vector<uint32_t> golden = Read<uint32_t>(prefix + ".qweight");
    ASSERT_EQ((*packed)[0].data.size(), golden.size() * 4);
    int64_t equal = 0;
    for (size_t w = 0; w < golden.size(); ++w) {
      uint32_t word;
      std::memcpy(&word, (*packed)[0].data.data() + 4 * w, 4);
      for (int nibble = 0; nibble < 32; nibble += 4) {
        equal += ((word >> nibble) & 15) == ((golden[w] >> nibble) & 15) ? 1 : 0;
      }
    }
    const double share = static_cast<double>(equal) / static_cast<double>(8 * golden.size());
    RecordProperty("equal_codes", std::to_string(share));
    EXPECT_GE(share, 0.999);
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, AutoAwqGolden,
                         ::testing::Values(AutoAwqCase{"down", {"down_proj"}, 128},
                                           AutoAwqCase{"gate_up", {"gate_proj", "up_proj"}, 128},
                                           AutoAwqCase{"down_g32", {"down_proj"}, 32}),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace salient
