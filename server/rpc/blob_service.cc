#include "server/rpc/blob_service.h"

#include "server/rpc/convert/blob.h"
#include "server/rpc/streams/read_blob_reactor.h"
#include "server/rpc/streams/write_blob_reactor.h"
#include "server/rpc/unary/unary_call.h"
#include "server/store/blob_store.h"
#include "server/store/digest.h"
#include "server/workers/cancel_token.h"

namespace salient {
namespace {

Metrics::Rpc& AddBlobRpc(Metrics& metrics, absl::string_view method, RpcType type) {
  return metrics.AddRpc({v1::BlobService::service_full_name(), method, type});
}

absl::StatusOr<v1::FindMissingBlobsResponse> FindMissing(
    const BlobStore& store, const v1::FindMissingBlobsRequest& request) {
  const auto digests = ToDigests(request);
  if (!digests.ok()) return digests.status();
  v1::FindMissingBlobsResponse response;
  for (const Digest& digest : store.FindMissing(*digests)) {
    *response.add_missing() = ToProto(digest);
  }
  return response;
}

absl::StatusOr<v1::GetBlobStatusResponse> GetStatus(const BlobStore& store,
                                                    const v1::GetBlobStatusRequest& request) {
  const auto digest = ToDigest("digest", request.digest());
  if (!digest.ok()) return digest.status();
  const BlobStatus status = store.Status(*digest);
  v1::GetBlobStatusResponse response;
  response.set_committed_bytes(status.committed_bytes);
  response.set_complete(status.complete);
  return response;
}

}  // namespace

BlobService::BlobService(const BlobTransfer& transfer)
    : transfer_(transfer),
      find_missing_blobs_(AddBlobRpc(transfer.metrics, "FindMissingBlobs", RpcType::kUnary)),
      get_blob_status_(AddBlobRpc(transfer.metrics, "GetBlobStatus", RpcType::kUnary)),
      write_blob_(AddBlobRpc(transfer.metrics, "WriteBlob", RpcType::kClientStream)),
      read_blob_(AddBlobRpc(transfer.metrics, "ReadBlob", RpcType::kServerStream)) {}

grpc::ServerUnaryReactor* BlobService::FindMissingBlobs(grpc::CallbackServerContext* context,
                                                        const grpc::ByteBuffer* request,
                                                        grpc::ByteBuffer* response) {
  return RunUnary<v1::FindMissingBlobsRequest>(
      {context, request, response, find_missing_blobs_, "FindMissingBlobs", transfer_.lanes.control,
       kMaxShortRequestBytes, &transfer_.gate},
      [this](const v1::FindMissingBlobsRequest& blobs, const CancelToken& /*stop*/) {
        return FindMissing(transfer_.store, blobs);
      });
}

grpc::ServerUnaryReactor* BlobService::GetBlobStatus(grpc::CallbackServerContext* context,
                                                     const grpc::ByteBuffer* request,
                                                     grpc::ByteBuffer* response) {
  return RunUnary<v1::GetBlobStatusRequest>(
      {context, request, response, get_blob_status_, "GetBlobStatus", transfer_.lanes.control,
       kMaxShortRequestBytes, &transfer_.gate},
      [this](const v1::GetBlobStatusRequest& blob, const CancelToken& /*stop*/) {
        return GetStatus(transfer_.store, blob);
      });
}

grpc::ServerReadReactor<grpc::ByteBuffer>* BlobService::WriteBlob(
    grpc::CallbackServerContext* context, grpc::ByteBuffer* response) {
  return WriteBlobReactor::Start(transfer_, write_blob_, context, response);
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* BlobService::ReadBlob(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request) {
  return ReadBlobReactor::Start(transfer_, read_blob_, context, request);
}

}  // namespace salient
