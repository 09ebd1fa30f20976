#include "client/tensors/request_writer.h"

#include <algorithm>
#include <cstddef>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "client/tensors/data_type.h"
#include "core/tensor/dtype.h"
#include "core/text/quote.h"
#include "proto/wire/chunk.h"
#include "proto/wire/crc32c.h"

namespace salient::client {
namespace {

// Says whether the other end still listens, or why we cannot go on.
using Sent = absl::StatusOr<bool>;

absl::Status ReadInto(const SafetensorsFile& file, const TensorEntry& tensor,
                      const ByteRange& range, std::string& bytes) {
  bytes.resize(static_cast<size_t>(range.size));
  return file.ReadRange(tensor.name, range.offset,
                        absl::MakeSpan(reinterpret_cast<std::byte*>(bytes.data()), bytes.size()));
}

Sent SendHeader(const PlannedGroup& group, SendRequest send) {
  v1::QuantizeTensorsRequest request;
  v1::GroupHeader& header = *request.mutable_group();
  header.set_name(group.name);
  header.set_in_features(group.in_features);
  header.set_activation_dtype(ToWire(group.input.dtype));
  for (const PlannedLinear& linear : group.linears) {
    v1::LinearHeader& planned = *header.add_linears();
    planned.set_name(linear.module);
    planned.set_dtype(ToWire(linear.weight.dtype));
    planned.set_out_features(linear.out_features());
  }
  if (group.tied_heads.has_value()) {
    header.mutable_tied_heads()->set_head_dim(group.tied_heads->head_dim);
    header.mutable_tied_heads()->set_query_heads_per_kv_head(
        group.tied_heads->query_heads_per_kv_head);
  }
  return send(request, 0);
}

Sent SendWeights(const TensorsInput& input, const PlannedGroup& group, SendRequest send) {
  v1::QuantizeTensorsRequest request;
  int32_t index = 0;
  for (const PlannedLinear& linear : group.linears) {
    request.mutable_weight()->set_linear_index(index++);
    v1::Chunk& chunk = *request.mutable_weight()->mutable_chunk();
    const int64_t total = linear.weight.SizeBytes();
    for (int64_t offset = 0; offset < total; offset += input.chunk_bytes) {
      const ByteRange range = ChunkAt(total, offset, input.chunk_bytes);
      const auto read = ReadInto(input.weights, linear.weight, range, *chunk.mutable_data());
      if (!read.ok()) return read;
      chunk.set_offset_bytes(offset);
      chunk.set_crc32c(Crc32c(chunk.data()));
      if (!send(request, range.size)) return false;
    }
  }
  return true;
}

Sent SendActivations(const TensorsInput& input, const PlannedGroup& group, SendRequest send) {
  const int64_t token_bytes = group.in_features * SizeOf(group.input.dtype);
  const int64_t batch_tokens = input.chunk_bytes / token_bytes;
  if (batch_tokens < 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        input.activations.header().source(), ": tensor ", QuoteForMessage(group.input.name),
        " has ", token_bytes, " bytes a token; expected at most ", input.chunk_bytes));
  }
  v1::QuantizeTensorsRequest request;
  v1::ActivationBatch& batch = *request.mutable_activations();
  for (size_t row = 0; row < group.lengths.size(); ++row) {
    const int64_t length = group.lengths[row];
    const int64_t row_begin = static_cast<int64_t>(row) * group.tokens * token_bytes;
    for (int64_t position = 0; position < length; position += batch_tokens) {
      const int64_t tokens = std::min(batch_tokens, length - position);
      const ByteRange range = {row_begin + position * token_bytes, tokens * token_bytes};
      const auto read = ReadInto(input.activations, group.input, range, *batch.mutable_data());
      if (!read.ok()) return read;
      batch.set_calibration_row(static_cast<int64_t>(row));
      batch.set_first_position(position);
      batch.set_crc32c(Crc32c(batch.data()));
      if (!send(request, range.size)) return false;
    }
  }
  return true;
}

Sent SendGroup(const TensorsInput& input, const PlannedGroup& group, SendRequest send) {
  if (Sent sent = SendHeader(group, send); !sent.ok() || !*sent) return sent;
  if (Sent sent = SendWeights(input, group, send); !sent.ok() || !*sent) return sent;
  if (Sent sent = SendActivations(input, group, send); !sent.ok() || !*sent) return sent;
  v1::QuantizeTensorsRequest end;
  end.mutable_end_group();
  return send(end, 0);
}

}  // namespace

absl::Status WriteRequests(const TensorsInput& input, SendRequest send) {
  v1::QuantizeTensorsRequest first;
  *first.mutable_options() = input.options;
  if (!send(first, 0)) return absl::OkStatus();
  for (const PlannedGroup& group : input.plan.groups) {
    const Sent sent = SendGroup(input, group, send);
    if (!sent.ok()) return sent.status();
    if (!*sent) return absl::OkStatus();
  }
  return absl::OkStatus();
}

}  // namespace salient::client
