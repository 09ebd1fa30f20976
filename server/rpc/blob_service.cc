#include "server/rpc/blob_service.h"

#include "server/rpc/simple_rpc.h"

namespace salient {
namespace {

constexpr char kInstead[] = "nothing is stored here; QuantizeTensors takes tensors directly";

Metrics::Rpc& AddRpc(Metrics& metrics, absl::string_view method, RpcType type) {
  return metrics.AddRpc({v1::BlobService::service_full_name(), method, type});
}

}  // namespace

BlobService::BlobService(Metrics& metrics)
    : find_missing_blobs_(AddRpc(metrics, "FindMissingBlobs", RpcType::kUnary)),
      get_blob_status_(AddRpc(metrics, "GetBlobStatus", RpcType::kUnary)),
      write_blob_(AddRpc(metrics, "WriteBlob", RpcType::kClientStream)),
      read_blob_(AddRpc(metrics, "ReadBlob", RpcType::kServerStream)) {}

grpc::ServerUnaryReactor* BlobService::FindMissingBlobs(
    grpc::CallbackServerContext* context, const v1::FindMissingBlobsRequest* /*request*/,
    v1::FindMissingBlobsResponse* /*response*/) {
  return FinishUnary(context, find_missing_blobs_, "FindMissingBlobs",
                     NotHere("FindMissingBlobs", kInstead));
}

grpc::ServerUnaryReactor* BlobService::GetBlobStatus(grpc::CallbackServerContext* context,
                                                     const v1::GetBlobStatusRequest* /*request*/,
                                                     v1::GetBlobStatusResponse* /*response*/) {
  return FinishUnary(context, get_blob_status_, "GetBlobStatus",
                     NotHere("GetBlobStatus", kInstead));
}

grpc::ServerReadReactor<v1::WriteBlobRequest>* BlobService::WriteBlob(
    grpc::CallbackServerContext* context, v1::WriteBlobResponse* /*response*/) {
  return new RefusedRead<v1::WriteBlobRequest>(
      RefuseStream(context, write_blob_, "WriteBlob", kInstead));
}

grpc::ServerWriteReactor<v1::ReadBlobResponse>* BlobService::ReadBlob(
    grpc::CallbackServerContext* context, const v1::ReadBlobRequest* /*request*/) {
  return new RefusedWrite<v1::ReadBlobResponse>(
      RefuseStream(context, read_blob_, "ReadBlob", kInstead));
}

}  // namespace salient
