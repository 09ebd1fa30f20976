#include "client/tensors/result_reader.h"

#include <bit>
#include <cstring>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "client/tensors/data_type.h"
#include "core/tensor/dtype.h"
#include "core/text/quote.h"
#include "proto/wire/crc32c.h"

namespace salient::client {
namespace {

static_assert(std::endian::native == std::endian::little, "Tensors are little-endian on the wire.");

template <typename... Parts>
absl::Status ServerFault(const Parts&... parts) {
  return absl::InternalError(absl::StrCat("the server sent ", parts...));
}

}  // namespace

absl::Status ResultReader::Take(const v1::QuantizeTensorsResponse& response) {
  switch (response.message_case()) {
    case v1::QuantizeTensorsResponse::kGroup:
      return TakeGroup(response.group());
    case v1::QuantizeTensorsResponse::kChunk:
      return TakeChunk(response.chunk());
    default:
      return ServerFault("an empty message; expected a group or a chunk");
  }
}

absl::Status ResultReader::TakeGroup(const v1::GroupResult& result) {
  const std::string name = QuoteForMessage(result.report().name());
  if (group_open_) {
    return ServerFault("group ", name, " before all tensors of group ",
                       QuoteForMessage(open_.report().name()));
  }
  if (reports_.size() == plan_.groups.size()) {
    return ServerFault("group ", name, " after the last one, that is ", plan_.groups.size());
  }
  const PlannedGroup& planned = plan_.groups[reports_.size()];
  if (result.report().name() != planned.name) {
    return ServerFault("group ", name, "; expected ", QuoteForMessage(planned.name));
  }
  if (result.scales_size() != planned.in_features) {
    return ServerFault(result.scales_size(), " scales for group ", name, "; expected ",
                       planned.in_features);
  }
  const absl::Status begun =
      output_.BeginTensor(absl::StrCat(planned.name, ".scale"), DType::kF32, {planned.in_features});
  if (!begun.ok()) return begun;
  std::string bytes(static_cast<size_t>(result.scales_size()) * sizeof(float), '\0');
  std::memcpy(bytes.data(), result.scales().data(), bytes.size());
  if (const auto appended = output_.Append(bytes); !appended.ok()) return appended;

  open_ = result;
  group_open_ = true;
  tensor_index_ = -1;
  return OpenNextTensor();
}

absl::Status ResultReader::OpenNextTensor() {
  do {
    if (++tensor_index_ == open_.tensors_size()) {
      reports_.push_back(std::move(*open_.mutable_report()));
      group_open_ = false;
      return absl::OkStatus();
    }
    const v1::TensorHeader& header = open_.tensors(tensor_index_);
    const std::optional<DType> dtype = FromWire(header.dtype());
    if (!dtype.has_value()) {
      return ServerFault("tensor ", QuoteForMessage(header.name()), " of data type ",
                         static_cast<int>(header.dtype()), ", which is unknown here");
    }
    const absl::Status begun =
        output_.BeginTensor(header.name(), *dtype, {header.shape().begin(), header.shape().end()});
    if (!begun.ok()) return ServerFault("what cannot be written: ", begun.message());
    next_offset_ = 0;
  } while (output_.Complete());
  return absl::OkStatus();
}

absl::Status ResultReader::TakeChunk(const v1::ResultChunk& result) {
  const v1::Chunk& chunk = result.chunk();
  if (!group_open_) return ServerFault("a chunk before a group");
  if (result.tensor_index() != tensor_index_) {
    return ServerFault("a chunk of tensor ", result.tensor_index(), " of group ",
                       QuoteForMessage(open_.report().name()), "; expected ", tensor_index_);
  }
  const std::string name = QuoteForMessage(open_.tensors(tensor_index_).name());
  if (chunk.offset_bytes() != next_offset_) {
    return ServerFault("tensor ", name, " at offset ", chunk.offset_bytes(), "; expected ",
                       next_offset_);
  }
  if (chunk.has_crc32c() && Crc32c(chunk.data()) != chunk.crc32c()) {
    return absl::DataLossError(absl::StrCat("tensor ", name,
                                            " was damaged on the way: the bytes at offset ",
                                            chunk.offset_bytes(), " do not have their checksum"));
  }
  if (const auto appended = output_.Append(chunk.data()); !appended.ok()) {
    return absl::IsOutOfRange(appended) ? ServerFault("too much: ", appended.message()) : appended;
  }
  next_offset_ += static_cast<int64_t>(chunk.data().size());
  return output_.Complete() ? OpenNextTensor() : absl::OkStatus();
}

absl::Status ResultReader::Finish() const {
  if (group_open_) {
    return ServerFault("tensor ", QuoteForMessage(open_.tensors(tensor_index_).name()),
                       " up to byte ", next_offset_, " only; expected ", output_.expected_bytes());
  }
  if (reports_.size() < plan_.groups.size()) {
    return ServerFault(reports_.size(), " groups; expected ", plan_.groups.size());
  }
  return absl::OkStatus();
}

}  // namespace salient::client
