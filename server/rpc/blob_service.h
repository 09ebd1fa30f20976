// salient.v1.BlobService: of the contract, not yet of this server.
#ifndef SALIENT_SERVER_RPC_BLOB_SERVICE_H_
#define SALIENT_SERVER_RPC_BLOB_SERVICE_H_

#include "salient/v1/blob_service.grpc.pb.h"
#include "server/observe/metrics.h"

namespace salient {

// Every rpc answers UNIMPLEMENTED and says what there is instead.
class BlobService final : public v1::BlobService::CallbackService {
 public:
  explicit BlobService(Metrics& metrics);  // borrows

  grpc::ServerUnaryReactor* FindMissingBlobs(grpc::CallbackServerContext* context,
                                             const v1::FindMissingBlobsRequest* request,
                                             v1::FindMissingBlobsResponse* response) override;
  grpc::ServerUnaryReactor* GetBlobStatus(grpc::CallbackServerContext* context,
                                          const v1::GetBlobStatusRequest* request,
                                          v1::GetBlobStatusResponse* response) override;
  grpc::ServerReadReactor<v1::WriteBlobRequest>* WriteBlob(
      grpc::CallbackServerContext* context, v1::WriteBlobResponse* response) override;
  grpc::ServerWriteReactor<v1::ReadBlobResponse>* ReadBlob(
      grpc::CallbackServerContext* context, const v1::ReadBlobRequest* request) override;

 private:
  Metrics::Rpc& find_missing_blobs_;
  Metrics::Rpc& get_blob_status_;
  Metrics::Rpc& write_blob_;
  Metrics::Rpc& read_blob_;
};

}  // namespace salient

#endif  // SALIENT_SERVER_RPC_BLOB_SERVICE_H_
