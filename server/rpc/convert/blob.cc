#include "server/rpc/convert/blob.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "proto/wire/chunk.h"
#include "proto/wire/crc32c.h"
#include "server/error/call_error.h"
#include "server/error/field_error.h"

namespace salient {
namespace {

absl::StatusOr<UploadMessage> ToCheckedChunk(v1::Chunk& message) {
  ChunkData chunk;
  chunk.offset_bytes = message.offset_bytes();
  chunk.data = std::move(*message.mutable_data());
  if (static_cast<int64_t>(chunk.data.size()) > kMaxChunkBytes) {
    return WithField(
        InvalidCall(Reason::kChunkTooLarge,
                    absl::StrCat("chunk at offset ", chunk.offset_bytes, ": ", chunk.data.size(),
                                 " bytes; expected at most ", kMaxChunkBytes)),
        "chunk.data");
  }
  if (message.has_crc32c()) {
    const uint32_t actual = Crc32c(chunk.data);
    if (actual != message.crc32c()) {
      return CallError(
          absl::StatusCode::kDataLoss, Reason::kChunkCrc,
          absl::StrFormat("chunk at offset %d: the crc32c of its data is 0x%08x; expected 0x%08x",
                          chunk.offset_bytes, actual, message.crc32c()));
    }
  }
  return chunk;
}

}  // namespace

absl::StatusOr<Digest> ToDigest(absl::string_view field, const v1::Digest& message) {
  auto digest = ParseDigest(field, message.sha256(), message.size_bytes());
  if (digest.ok()) return digest;
  return WithField(WithReason(digest.status(), Reason::kBadDigest), field);
}

v1::Digest ToProto(const Digest& digest) {
  v1::Digest message;
  message.set_sha256(HexSha256(digest));
  message.set_size_bytes(digest.size_bytes);
  return message;
}

absl::StatusOr<std::vector<Digest>> ToDigests(const v1::FindMissingBlobsRequest& request) {
  if (request.digests_size() > kMaxDigestsPerRequest) {
    return BadField(Reason::kBadDigest, "digests",
                    absl::StrCat("a list of ", request.digests_size()),
                    absl::StrCat("at most ", kMaxDigestsPerRequest, " in one request"));
  }
  std::vector<Digest> digests;
  digests.reserve(request.digests_size());
  for (int i = 0; i < request.digests_size(); ++i) {
    const auto digest = ToDigest(absl::StrCat("digests[", i, "]"), request.digests(i));
    if (!digest.ok()) return digest.status();
    digests.push_back(*digest);
  }
  return digests;
}

absl::StatusOr<UploadMessage> ToUploadMessage(v1::WriteBlobRequest&& request) {
  switch (request.message_case()) {
    case v1::WriteBlobRequest::kDigest: {
      const auto digest = ToDigest("digest", request.digest());
      if (!digest.ok()) return digest.status();
      return *digest;
    }
    case v1::WriteBlobRequest::kChunk:
      return ToCheckedChunk(*request.mutable_chunk());
    case v1::WriteBlobRequest::kFinish:
      return UploadEnd{};
    case v1::WriteBlobRequest::MESSAGE_NOT_SET:
      break;
  }
  return InvalidCall(Reason::kMessageOrder,
                     "a request has no message set, or one this server does not know; expected "
                     "digest, chunk or finish");
}

absl::StatusOr<BlobRange> ToBlobRange(const v1::ReadBlobRequest& request) {
  const auto digest = ToDigest("digest", request.digest());
  if (!digest.ok()) return digest.status();
  if (request.offset_bytes() < 0) {
    return BadField(Reason::kBadDigest, "offset_bytes", absl::StrCat(request.offset_bytes()),
                    "at least 0");
  }
  if (request.limit_bytes() < 0) {
    return BadField(Reason::kBadDigest, "limit_bytes", absl::StrCat(request.limit_bytes()),
                    "at least 0 (0: to the end)");
  }
  return BlobRange{*digest, request.offset_bytes(), request.limit_bytes()};
}

v1::ReadBlobResponse ToChunkResponse(int64_t offset_bytes, std::string data) {
  v1::ReadBlobResponse response;
  v1::Chunk& chunk = *response.mutable_chunk();
  chunk.set_offset_bytes(offset_bytes);
  chunk.set_crc32c(Crc32c(data));
  chunk.set_data(std::move(data));
  return response;
}

}  // namespace salient
