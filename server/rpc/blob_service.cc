#include "server/rpc/blob_service.h"

#include "server/rpc/convert_blob.h"
#include "server/rpc/read_blob_reactor.h"
#include "server/rpc/simple_rpc.h"
#include "server/rpc/write_blob_reactor.h"

namespace salient {
namespace {

Metrics::Rpc& AddBlobRpc(Metrics& metrics, absl::string_view method, RpcType type) {
  return metrics.AddRpc({v1::BlobService::service_full_name(), method, type});
}

absl::Status FindMissing(const BlobStore& store, const v1::FindMissingBlobsRequest& request,
                         v1::FindMissingBlobsResponse& response) {
  const auto digests = ToDigests(request);
  if (!digests.ok()) return digests.status();
  for (const Digest& digest : store.FindMissing(*digests)) {
    *response.add_missing() = ToProto(digest);
  }
  return absl::OkStatus();
}

absl::Status GetStatus(const BlobStore& store, const v1::GetBlobStatusRequest& request,
                       v1::GetBlobStatusResponse& response) {
  const auto digest = ToDigest("digest", request.digest());
  if (!digest.ok()) return digest.status();
  const BlobStatus status = store.Status(*digest);
  response.set_committed_bytes(status.committed_bytes);
  response.set_complete(status.complete);
  return absl::OkStatus();
}

}  // namespace

BlobService::BlobService(const BlobTransfer& transfer)
    : transfer_(transfer),
      find_missing_blobs_(AddBlobRpc(transfer.metrics, "FindMissingBlobs", RpcType::kUnary)),
      get_blob_status_(AddBlobRpc(transfer.metrics, "GetBlobStatus", RpcType::kUnary)),
      write_blob_(AddBlobRpc(transfer.metrics, "WriteBlob", RpcType::kClientStream)),
      read_blob_(AddBlobRpc(transfer.metrics, "ReadBlob", RpcType::kServerStream)) {}

grpc::ServerUnaryReactor* BlobService::FindMissingBlobs(grpc::CallbackServerContext* context,
                                                        const v1::FindMissingBlobsRequest* request,
                                                        v1::FindMissingBlobsResponse* response) {
  return RunUnary(
      {context, find_missing_blobs_, "FindMissingBlobs", &transfer_.gate}, transfer_.pool,
      [this, request, response] { return FindMissing(transfer_.store, *request, *response); });
}

grpc::ServerUnaryReactor* BlobService::GetBlobStatus(grpc::CallbackServerContext* context,
                                                     const v1::GetBlobStatusRequest* request,
                                                     v1::GetBlobStatusResponse* response) {
  return RunUnary(
      {context, get_blob_status_, "GetBlobStatus", &transfer_.gate}, transfer_.pool,
      [this, request, response] { return GetStatus(transfer_.store, *request, *response); });
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
