#include "client/tensors/call.h"

#include <thread>

#include "absl/time/clock.h"
#include "client/tensors/result_reader.h"
#include "client/terminal/errors.h"
#include "grpcpp/client_context.h"
#include "grpcpp/support/sync_stream.h"
#include "salient/v1/quantization_service.grpc.pb.h"

namespace salient::client {
namespace {

using Stream = grpc::ClientReaderWriter<v1::QuantizeTensorsRequest, v1::QuantizeTensorsResponse>;

// Sends everything; on an error of our own cancels the call, so that the reader wakes up.
absl::Status WriteAll(const TensorsInput& input, Stream& stream, grpc::ClientContext& context,
                      Progress& progress) {
  const absl::Status status =
      WriteRequests(input, [&](const v1::QuantizeTensorsRequest& request, int64_t payload_bytes) {
        if (!stream.Write(request)) return false;
        progress.AddBytesSent(payload_bytes);
        return true;
      });
  if (status.ok()) {
    stream.WritesDone();
  } else {
    context.TryCancel();
  }
  return status;
}

absl::Status ReadAll(ResultReader& reader, Stream& stream, Progress& progress) {
  v1::QuantizeTensorsResponse response;
  while (stream.Read(&response)) {
    const size_t before = reader.reports().size();
    if (const absl::Status taken = reader.Take(response); !taken.ok()) return taken;
    if (reader.reports().size() > before) progress.AddGroup(reader.reports().back());
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<v1::GroupReport>> CallQuantizeTensors(const TensorsServer& server,
                                                                 const TensorsInput& input,
                                                                 PackedOutput& output,
                                                                 Progress& progress,
                                                                 Interrupt& interrupt) {
  const auto stub = v1::QuantizationService::NewStub(server.channel);
  grpc::ClientContext context;
  if (server.timeout != absl::InfiniteDuration()) {
    context.set_deadline(absl::ToChronoTime(absl::Now() + server.timeout));
  }
  Interrupt::Watch watch(interrupt, [&context] { context.TryCancel(); });
  const auto stream = stub->QuantizeTensors(&context);

  absl::Status written;
  std::thread writer([&] { written = WriteAll(input, *stream, context, progress); });
  ResultReader reader(input.plan, output);
  const absl::Status read = ReadAll(reader, *stream, progress);
  if (!read.ok()) context.TryCancel();
  writer.join();
  const grpc::Status finished = stream->Finish();

  // A cancelled call says CANCELLED whatever the cause, so the causes come first.
  if (interrupt.Raised()) return absl::CancelledError("interrupted; the call was cancelled");
  if (!read.ok()) return read;
  if (!written.ok()) return written;
  if (!finished.ok()) return FromGrpcStatus(finished, server.address);
  if (const absl::Status whole = reader.Finish(); !whole.ok()) return whole;
  return reader.reports();
}

}  // namespace salient::client
