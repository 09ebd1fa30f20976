// Converts blobs between the contract's messages and the store's types.
#ifndef SALIENT_SERVER_RPC_CONVERT_BLOB_H_
#define SALIENT_SERVER_RPC_CONVERT_BLOB_H_

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "salient/v1/blob_service.pb.h"
#include "server/calls/call_messages.h"
#include "server/store/blob_store.h"
#include "server/store/digest.h"

namespace salient {

inline constexpr int kMaxDigestsPerRequest = 1000;

// Returns INVALID_ARGUMENT, BAD_DIGEST, naming `field` and what is wrong with it.
absl::StatusOr<Digest> ToDigest(absl::string_view field, const v1::Digest& message);
v1::Digest ToProto(const Digest& digest);

// Converts as ToDigest, fields "digests[i]"; also for too many of them.
absl::StatusOr<std::vector<Digest>> ToDigests(const v1::FindMissingBlobsRequest& request);

// Ends an upload.
struct UploadEnd {};
using UploadMessage = std::variant<Digest, ChunkData, UploadEnd>;

// Takes the bytes of `request`. MESSAGE_ORDER if nothing is set; as ToDigest; for a chunk
// CHUNK_TOO_LARGE, or DATA_LOSS, CHUNK_CRC.
absl::StatusOr<UploadMessage> ToUploadMessage(v1::WriteBlobRequest&& request);

struct BlobRange {
  Digest digest;
  int64_t offset_bytes = 0;
  int64_t limit_bytes = 0;  // 0 means to the end.
};

// Converts as ToDigest, also for "offset_bytes" and "limit_bytes".
absl::StatusOr<BlobRange> ToBlobRange(const v1::ReadBlobRequest& request);

// Makes a chunk of `data` with its crc32c.
v1::ReadBlobResponse ToChunkResponse(int64_t offset_bytes, std::string data);

}  // namespace salient

#endif  // SALIENT_SERVER_RPC_CONVERT_BLOB_H_
