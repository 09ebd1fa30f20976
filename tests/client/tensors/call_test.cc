#include "client/tensors/call.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <functional>
#include <optional>
#include <thread>

#include "client/tensors/group_spec.h"
#include "client/tensors/options.h"
#include "client/tensors/plan.h"
#include "client/terminal/errors.h"
#include "client/transfer/channel.h"
#include "core/safetensors/safetensors.h"
#include "core/tensor/dtype.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "grpcpp/support/error_details.h"
#include "proto/wire/crc32c.h"
#include "tests/client/fake_server.h"
#include "tests/client/file_contents.h"
#include "tests/client/tensor_files.h"

namespace salient::client {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr int64_t kChunkBytes = 1000;  // Neither a multiple of a row nor of a tensor.

// Returns whether the client cancels the call; one that does not is waited for long enough to tell.
bool WaitUntilCancelled(const grpc::ServerContext& context) {
  for (int i = 0; i < 6000 && !context.IsCancelled(); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return context.IsCancelled();
}

// Has two groups: "ab" with a [40, 24] F16 and b [16, 24] F32 on three rows of 50, 7 and 0 tokens
// out of 50; "c" with c [8, 16] BF16 on one row of 9.
class TensorsCallTest : public ::testing::Test {
 protected:
  TensorsCallTest()
      : weights_(WriteAndOpen(directory_.File("w"),
                              {PatternTensor("a.weight", DType::kF16, {40, 24}, 1),
                               PatternTensor("b.weight", DType::kF32, {16, 24}, 2),
                               PatternTensor("c.weight", DType::kBF16, {8, 16}, 3)})),
        activations_(WriteAndOpen(directory_.File("a"),
                                  {PatternTensor("ab", DType::kF32, {3, 50, 24}, 4),
                                   Int64Tensor("ab.lengths", {50, 7, 0}),
                                   PatternTensor("c.input", DType::kF16, {9, 16}, 5)})) {
    auto plan = MakeTensorsPlan(
        weights_, activations_,
        {{{"ab", {"a", "b"}, "", TiedHeadsSpec{6, 2}}, {"c", {"c"}, "", std::nullopt}}});
    EXPECT_TRUE(plan.ok()) << plan.status();
    plan_ = *std::move(plan);
    auto output = PackedOutput::Create(path_);
    EXPECT_TRUE(output.ok()) << output.status();
    output_ = *std::move(output);
  }

  // The deadline turns a deadlock into a failure.
  absl::StatusOr<std::vector<v1::GroupReport>> Call(FakeHandler handler) {
    const FakeServer server(std::move(handler));
    const TensorsServer there = {OpenChannel(server.address()), server.address(),
                                 absl::Seconds(120)};
    Progress progress(log_.get(), Progress::Style::kLines, {plan_.Bytes(), 2});
    return CallQuantizeTensors(there, {plan_, weights_, activations_, options_, kChunkBytes},
                               *output_, progress, interrupt_);
  }

  Interrupt interrupt_;  // First: it must be made before any thread.
  TemporaryDirectory directory_;
  const std::string path_ = directory_.File("packed");
  SafetensorsFile weights_;
  SafetensorsFile activations_;
  TensorsPlan plan_;
  v1::QuantizeTensorsOptions options_ = *ToMessage({.group_size = 8, .seed = 17});
  std::optional<PackedOutput> output_;
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> log_{std::tmpfile(), &std::fclose};
};

TEST_F(TensorsCallTest, BytesOfTheFilesArriveAndResultsComeBack) {
  std::vector<ReceivedGroup> received;
  v1::QuantizeTensorsOptions options;
  const auto reports = Call([&](grpc::ServerContext&, FakeStream& stream) {
    v1::QuantizeTensorsRequest first;
    EXPECT_TRUE(stream.Read(&first));
    options = first.options();
    for (ReceivedGroup group; ReadGroup(stream, group);) {
      received.push_back(group);
      SendResult(stream, group, 333);
    }
    return grpc::Status::OK;
  });
  ASSERT_TRUE(reports.ok()) << reports.status();
  ASSERT_EQ(reports->size(), 2u);
  EXPECT_EQ((*reports)[1].name(), "c");
  EXPECT_EQ(options.SerializeAsString(), options_.SerializeAsString());

  ASSERT_EQ(received.size(), 2u);
  const v1::GroupHeader& header = received[0].header;
  EXPECT_EQ(header.in_features(), 24);
  EXPECT_EQ(header.activation_dtype(), v1::DATA_TYPE_F32);
  EXPECT_EQ(header.tied_heads().head_dim(), 6);
  EXPECT_EQ(header.tied_heads().query_heads_per_kv_head(), 2);
  EXPECT_EQ(header.linears(0).dtype(), v1::DATA_TYPE_F16);
  EXPECT_EQ(header.linears(1).out_features(), 16);
  EXPECT_FALSE(received[1].header.has_tied_heads());
  const std::string rows = Text(*activations_.ReadTensor("ab"));
  const size_t row_bytes = 50 * 24 * 4;
  ASSERT_EQ(received[0].activations.size(), 2u) << "a row of no tokens is not sent";
  EXPECT_EQ(received[0].activations[0], rows.substr(0, row_bytes));
  EXPECT_EQ(received[0].activations[1], rows.substr(row_bytes, 7 * 24 * 4));
  EXPECT_EQ(received[1].activations[0], Text(*activations_.ReadTensor("c.input")));

  ASSERT_TRUE(output_->Commit({}).ok());
  const auto packed = SafetensorsFile::Open(path_);
  ASSERT_TRUE(packed.ok()) << packed.status();
  for (const std::string name : {"a", "b", "c"}) {
    EXPECT_EQ(Text(*packed->ReadTensor(name + ".qweight")),
              Text(*weights_.ReadTensor(name + ".weight")))
        << name;
  }
  const auto scales = packed->ReadTensor("ab.scale");
  ASSERT_TRUE(scales.ok()) << scales.status();
  EXPECT_THAT(packed->header().Find("ab.scale")->shape, ElementsAre(24));
  float last = 0;
  std::memcpy(&last, scales->data() + 23 * 4, 4);
  EXPECT_EQ(last, 23.0f);
}

// Results that nobody read would fill the connection and stop the server from reading on.
TEST_F(TensorsCallTest, ResultsAreReadWhileTheRestIsSent) {
  constexpr int64_t kResultBytes = int64_t{96} << 20;
  const auto reports = Call([&](grpc::ServerContext&, FakeStream& stream) {
    v1::QuantizeTensorsRequest options;
    stream.Read(&options);
    ReceivedGroup group;
    EXPECT_TRUE(ReadGroup(stream, group));
    v1::QuantizeTensorsResponse response;
    *response.mutable_group() = ResultOf(group);
    response.mutable_group()->clear_tensors();
    v1::TensorHeader& tensor = *response.mutable_group()->add_tensors();
    tensor.set_name("large");
    tensor.set_dtype(v1::DATA_TYPE_U8);
    tensor.add_shape(kResultBytes);
    EXPECT_TRUE(stream.Write(response));
    for (int64_t offset = 0; offset < kResultBytes; offset += 1 << 20) {
      response.mutable_chunk()->mutable_chunk()->set_offset_bytes(offset);
      response.mutable_chunk()->mutable_chunk()->set_data(std::string(1 << 20, 'x'));
      EXPECT_TRUE(stream.Write(response));
    }
    EXPECT_TRUE(ReadGroup(stream, group));
    SendResult(stream, group, 1 << 20);
    return grpc::Status::OK;
  });
  EXPECT_TRUE(reports.ok()) << reports.status();
}

TEST_F(TensorsCallTest, ErrorOfTheServerKeepsItsDetails) {
  const auto reports = Call([](grpc::ServerContext&, FakeStream& stream) {
    v1::QuantizeTensorsRequest request;
    for (int i = 0; i < 3; ++i) stream.Read(&request);
    google::rpc::RetryInfo retry;
    retry.mutable_retry_delay()->set_seconds(3);
    google::rpc::Status details;
    details.set_code(grpc::StatusCode::RESOURCE_EXHAUSTED);
    details.set_message("4 calls are active");
    details.add_details()->PackFrom(retry);
    grpc::Status status;
    grpc::SetErrorDetails(details, &status);
    return status;
  });
  EXPECT_EQ(ErrorText(reports.status()), "4 calls are active; try again in 3 s");
  EXPECT_EQ(ExitCodeOf(reports.status()), kExitTryAgain);
}

TEST_F(TensorsCallTest, FileThatShrinksWhileItIsSentCancelsTheCall) {
  ASSERT_EQ(truncate(directory_.File("a").c_str(), 200), 0);
  bool reached_the_end = false;
  bool began = false;  // A cancel may overtake the call.
  bool cancelled = false;
  const auto reports = Call([&](grpc::ServerContext& context, FakeStream& stream) {
    began = true;
    v1::QuantizeTensorsRequest request;
    while (stream.Read(&request)) {
      reached_the_end = reached_the_end || request.has_end_group();
    }
    cancelled = WaitUntilCancelled(context);
    return grpc::Status::OK;
  });
  EXPECT_EQ(reports.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(reports.status().message(), HasSubstr(directory_.File("a")));
  EXPECT_FALSE(reached_the_end);
  EXPECT_EQ(cancelled, began);
}

TEST_F(TensorsCallTest, CtrlCCancelsTheCall) {
  bool cancelled = false;
  const auto reports = Call([&](grpc::ServerContext& context, FakeStream& stream) {
    ReceivedGroup group;
    while (ReadGroup(stream, group)) continue;
    kill(getpid(), SIGINT);
    cancelled = WaitUntilCancelled(context);
    return grpc::Status::OK;
  });
  EXPECT_EQ(reports.status().code(), absl::StatusCode::kCancelled);
  EXPECT_THAT(reports.status().message(), HasSubstr("interrupted"));
  EXPECT_EQ(ExitCodeOf(reports.status()), kExitInterrupted);
  EXPECT_TRUE(cancelled);
}

TEST_F(TensorsCallTest, ServerThatIsGoneIsUnavailable) {
  std::string address;
  {
    address = FakeServer([](auto&, auto&) { return grpc::Status::OK; }).address();
  }
  const auto info = FetchServerInfo(OpenChannel(address), address, absl::Seconds(30), interrupt_);
  EXPECT_EQ(info.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(info.status().message(), HasSubstr("cannot reach a server at " + address));
}

// Says what a broken server sends after the first group, and what is said about it.
struct Fault {
  const char* name;
  std::function<void(std::vector<v1::QuantizeTensorsResponse>& messages)> spoil;
  absl::StatusCode code;
  const char* says;
};

// Each spoils a message of an honest answer to "ab": group, a at 0, a at 1000, b at 0, b at 1000;
// then "c": group, c at 0.
const Fault kFaults[] = {
    {"empty message", [](auto& messages) { messages[1].Clear(); }, absl::StatusCode::kInternal,
     "an empty message"},
    {"chunk first", [](auto& messages) { messages.erase(messages.begin()); },
     absl::StatusCode::kInternal, "a chunk before a group"},
    {"another group's name",
     [](auto& messages) { messages[0].mutable_group()->mutable_report()->set_name("ba"); },
     absl::StatusCode::kInternal, "group \"ba\"; expected \"ab\""},
    {"scales missing",
     [](auto& messages) { messages[0].mutable_group()->mutable_scales()->RemoveLast(); },
     absl::StatusCode::kInternal, "23 scales for group \"ab\"; expected 24"},
    {"unknown data type",
     [](auto& messages) {
       messages[0].mutable_group()->mutable_tensors(0)->set_dtype(v1::DATA_TYPE_UNSPECIFIED);
     },
     absl::StatusCode::kInternal, "\"a.qweight\" of data type 0"},
    {"tensor twice",
     [](auto& messages) { messages[0].mutable_group()->mutable_tensors(1)->set_name("a.qweight"); },
     absl::StatusCode::kInternal, "\"a.qweight\" came twice"},
    {"absurd shape",
     [](auto& messages) {
       messages[0].mutable_group()->mutable_tensors(0)->set_shape(0, int64_t{1} << 62);
       messages[0].mutable_group()->mutable_tensors(0)->add_shape(4);
     },
     absl::StatusCode::kInternal, "expected a size below 2^63 bytes"},
    {"damaged bytes",
     [](auto& messages) {
       (*messages[2].mutable_chunk()->mutable_chunk()->mutable_data())[5] ^= 1;
     },
     absl::StatusCode::kDataLoss, "\"a.qweight\" was damaged on the way"},
    {"lost chunk", [](auto& messages) { messages.erase(messages.begin() + 1); },
     absl::StatusCode::kInternal, "\"a.qweight\" at offset 1000; expected 0"},
    {"chunk of a later tensor",
     [](auto& messages) { messages[2].mutable_chunk()->set_tensor_index(1); },
     absl::StatusCode::kInternal, "a chunk of tensor 1"},
    {"too many bytes",
     [](auto& messages) { messages[0].mutable_group()->mutable_tensors(0)->set_shape(0, 1500); },
     absl::StatusCode::kInternal, "too much"},
    {"next group too early", [](auto& messages) { messages.erase(messages.begin() + 4); },
     absl::StatusCode::kInternal, "group \"c\" before all tensors of group \"ab\""},
    {"last chunk missing", [](auto& messages) { messages.pop_back(); }, absl::StatusCode::kInternal,
     "\"c.qweight\" up to byte 0 only; expected 256"},
    {"last group missing", [](auto& messages) { messages.resize(5); }, absl::StatusCode::kInternal,
     "1 groups; expected 2"},
    {"a group too many",
     [](auto& messages) {
       v1::QuantizeTensorsResponse surplus;
       surplus.mutable_group()->mutable_report()->set_name("d");
       messages.push_back(surplus);
     },
     absl::StatusCode::kInternal, "group \"d\" after the last one"},
};

class BrokenServerTest : public TensorsCallTest, public ::testing::WithParamInterface<Fault> {};

TEST_P(BrokenServerTest, IsNotBelieved) {
  const Fault& fault = GetParam();
  const auto reports = Call([&](grpc::ServerContext&, FakeStream& stream) {
    v1::QuantizeTensorsRequest options;
    stream.Read(&options);
    std::vector<v1::QuantizeTensorsResponse> messages;
    for (ReceivedGroup group; ReadGroup(stream, group);) {
      *messages.emplace_back().mutable_group() = ResultOf(group);
      for (const auto& [index, bytes] : group.weights) {
        for (size_t offset = 0; offset < bytes.size(); offset += 1000) {
          v1::ResultChunk& chunk = *messages.emplace_back().mutable_chunk();
          chunk.set_tensor_index(index);
          chunk.mutable_chunk()->set_offset_bytes(static_cast<int64_t>(offset));
          chunk.mutable_chunk()->set_data(bytes.substr(offset, 1000));
          chunk.mutable_chunk()->set_crc32c(Crc32c(chunk.chunk().data()));
        }
      }
    }
    EXPECT_EQ(messages.size(), 7u);
    fault.spoil(messages);
    for (const auto& message : messages) {
      if (!stream.Write(message)) break;
    }
    return grpc::Status::OK;
  });
  EXPECT_EQ(reports.status().code(), fault.code) << reports.status();
  EXPECT_THAT(reports.status().message(), HasSubstr(fault.says));
}

INSTANTIATE_TEST_SUITE_P(Faults, BrokenServerTest, ::testing::ValuesIn(kFaults),
                         [](const auto& fault) {
                           std::string name = fault.param.name;
                           for (char& c : name) c = std::isalnum(c) != 0 ? c : '_';
                           return name;
                         });

}  // namespace
}  // namespace salient::client
