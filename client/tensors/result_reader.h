// From the messages of one QuantizeTensors call to tensors and reports.
#ifndef SALIENT_CLIENT_TENSORS_RESULT_READER_H_
#define SALIENT_CLIENT_TENSORS_RESULT_READER_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "client/tensors/packed_output.h"
#include "client/tensors/plan.h"
#include "salient/v1/quantization_service.pb.h"

namespace salient::client {

// Trusts nothing: groups come in the order they were sent, tensors in the order announced, chunks
// without holes, each with its crc32c. Beside a group's tensors the output gets "<group>.scale" F32
// [in_features], the s that the op before the group is to be divided by. Borrows plan and output.
// It is not thread-safe.
class ResultReader {
 public:
  ResultReader(const TensorsPlan& plan, PackedOutput& output) : plan_(plan), output_(output) {}

  // Takes the next message. Returns DATA_LOSS for a chunk that does not have its crc32c; INTERNAL
  // for what a server must not send, naming group, tensor, value and what was expected.
  absl::Status Take(const v1::QuantizeTensorsResponse& response);

  // Returns INTERNAL unless every group came whole. It is called at the end of the stream.
  absl::Status Finish() const;

  // Returns the reports of the groups that came whole so far.
  const std::vector<v1::GroupReport>& reports() const { return reports_; }

 private:
  absl::Status TakeGroup(const v1::GroupResult& result);
  absl::Status TakeChunk(const v1::ResultChunk& result);
  // Opens tensors until one that needs bytes; after the last the group is whole.
  absl::Status OpenNextTensor();

  const TensorsPlan& plan_;
  PackedOutput& output_;
  std::vector<v1::GroupReport> reports_;
  bool group_open_ = false;
  v1::GroupResult open_;       // While group_open_.
  int32_t tensor_index_ = -1;  // Of the open tensor in open_.
  int64_t next_offset_ = 0;    // In the open tensor.
};

}  // namespace salient::client

#endif  // SALIENT_CLIENT_TENSORS_RESULT_READER_H_
