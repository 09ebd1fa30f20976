#include "server/rpc/convert/tensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>

#include "core/model/numerics.h"
#include "core/tensor/dtype.h"
#include "core/tensor/named_tensor.h"
#include "proto/wire/crc32c.h"
#include "server/calls/result_queue.h"
#include "server/error/call_error.h"

namespace salient {
namespace {

using ::testing::HasSubstr;

TEST(ConvertTensorsTest, AGroupTakesEveryField) {
  v1::QuantizeTensorsRequest request;
  v1::GroupHeader& group = *request.mutable_group();
  group.set_name("g");
  group.set_in_features(64);
  group.set_activation_dtype(v1::DATA_TYPE_BF16);
  group.mutable_tied_heads()->set_head_dim(16);
  group.mutable_tied_heads()->set_query_heads_per_kv_head(2);
  for (const auto dtype : {v1::DATA_TYPE_F32, v1::DATA_TYPE_F16, v1::DATA_TYPE_BF16}) {
    auto& linear = *group.add_linears();
    linear.set_name(v1::DataType_Name(dtype));
    linear.set_dtype(dtype);
    linear.set_out_features(8);
  }
  const auto message = ToCallMessage(std::move(request));
  ASSERT_TRUE(message.ok()) << message.status();
  const auto& spec = std::get<GroupSpec>(*message);
  EXPECT_EQ(spec.name, "g");
  EXPECT_EQ(spec.in_features, 64);
  EXPECT_EQ(spec.activation_dtype, DType::kBF16);
  EXPECT_EQ(spec.tied_heads->head_dim, 16);
  EXPECT_EQ(spec.tied_heads->query_heads_per_kv_head, 2);
  ASSERT_EQ(spec.linears.size(), 3u);
  EXPECT_EQ(spec.linears[0].dtype, DType::kF32);
  EXPECT_EQ(spec.linears[1].dtype, DType::kF16);
  EXPECT_EQ(spec.linears[2].dtype, DType::kBF16);
  EXPECT_EQ(spec.linears[2].name, "DATA_TYPE_BF16");
}

TEST(ConvertTensorsTest, DataAndChecksumsArriveAsTheyAre) {
  v1::QuantizeTensorsRequest request;
  request.mutable_weight()->set_linear_index(3);
  request.mutable_weight()->mutable_chunk()->set_offset_bytes(7);
  request.mutable_weight()->mutable_chunk()->set_data("data");
  request.mutable_weight()->mutable_chunk()->set_crc32c(0);
  auto message = ToCallMessage(std::move(request));
  ASSERT_TRUE(message.ok());
  const auto& weight = std::get<WeightData>(*message);
  EXPECT_EQ(weight.linear_index, 3);
  EXPECT_EQ(weight.chunk.offset_bytes, 7);
  EXPECT_EQ(weight.chunk.data, "data");
  EXPECT_EQ(weight.chunk.crc32c, 0u) << "a checksum of 0 is a checksum";

  v1::QuantizeTensorsRequest batch;
  batch.mutable_activations()->set_data("rows");
  message = ToCallMessage(std::move(batch));
  ASSERT_TRUE(message.ok());
  EXPECT_EQ(std::get<ActivationData>(*message).crc32c, std::nullopt);
}

TEST(ConvertTensorsTest, AnEmptyRequestIsOutOfOrder) {
  EXPECT_EQ(DetailsOf(ToCallMessage(v1::QuantizeTensorsRequest()).status()).reason,
            Reason::kMessageOrder);
}

TEST(ConvertTensorsTest, AWeightTypeThatIsNoFloatNamesItsLinear) {
  for (const int dtype : {0, 4, 99, -1}) {
    v1::QuantizeTensorsRequest request;
    auto& linear = *request.mutable_group()->add_linears();
    linear.set_name("model.q_proj");
    linear.set_dtype(static_cast<v1::DataType>(dtype));
    const absl::Status status = ToCallMessage(std::move(request)).status();
    EXPECT_EQ(DetailsOf(status).reason, Reason::kBadHeader);
    EXPECT_EQ(DetailsOf(status).field, "group.linears[0].dtype");
    EXPECT_THAT(std::string(status.message()), HasSubstr("model.q_proj"));
  }
}

TEST(ConvertTensorsTest, AResultBecomesItsHeadAndItsChunks) {
  auto group = std::make_shared<FinishedGroup>();
  group->elapsed = absl::Milliseconds(1500);
  group->result.scales = {1, 2};
  group->result.report.name = "g";
  group->result.report.candidate = {false, true, 0.35, true};
  group->result.report.loss = 0.25;
  group->result.report.parameters = 1 << 20;
  group->result.report.linears.resize(1);
  group->result.report.linears[0].kept_rtn = true;
  group->result.report.notes = {"a note"};
  NamedTensor tensor{"g.qweight", DType::kI32, {2, 1}, {}};
  for (int i = 0; i < 8; ++i) tensor.data.push_back(static_cast<std::byte>('a' + i));
  group->result.tensors = {tensor};

  const v1::QuantizeTensorsResponse head = ToResponse({group, std::nullopt, {}});
  ASSERT_TRUE(head.has_group());
  EXPECT_EQ(head.group().report().name(), "g");
  EXPECT_EQ(head.group().report().candidate().ratio(), 0.35);
  EXPECT_TRUE(head.group().report().candidate().weight_aware());
  EXPECT_TRUE(head.group().report().candidate().smoothquant());
  EXPECT_EQ(head.group().report().loss(), 0.25);
  EXPECT_EQ(head.group().report().seconds(), 1.5);
  EXPECT_EQ(head.group().report().numerics_id(), NumericsId());
  EXPECT_TRUE(head.group().report().linears(0).kept_rtn());
  EXPECT_EQ(head.group().report().notes(0), "a note");
  EXPECT_EQ(head.group().scales_size(), 2);
  EXPECT_EQ(head.group().tensors(0).name(), "g.qweight");
  EXPECT_EQ(head.group().tensors(0).dtype(), v1::DATA_TYPE_I32);
  EXPECT_EQ(head.group().tensors(0).shape(0), 2);

  const v1::QuantizeTensorsResponse chunk = ToResponse({group, 0, {2, 3}});
  EXPECT_EQ(chunk.chunk().tensor_index(), 0);
  EXPECT_EQ(chunk.chunk().chunk().offset_bytes(), 2);
  EXPECT_EQ(chunk.chunk().chunk().data(), "cde");
  EXPECT_EQ(chunk.chunk().chunk().crc32c(), Crc32c("cde"));
}

}  // namespace
}  // namespace salient
