// Serves salient.v1.BlobService: each rpc in a sentence.
#ifndef SALIENT_SERVER_RPC_BLOB_SERVICE_H_
#define SALIENT_SERVER_RPC_BLOB_SERVICE_H_

#include <grpcpp/support/byte_buffer.h>

#include "salient/v1/blob_service.grpc.pb.h"
#include "server/observe/metrics.h"
#include "server/rpc/streams/blob_transfer.h"

namespace salient {

// Every rpc goes by callbacks and as bytes: lanes and workers parse and serialize them.
using BlobCallbacks = v1::BlobService::WithRawCallbackMethod_FindMissingBlobs<
    v1::BlobService::WithRawCallbackMethod_GetBlobStatus<
        v1::BlobService::WithRawCallbackMethod_WriteBlob<
            v1::BlobService::WithRawCallbackMethod_ReadBlob<v1::BlobService::Service>>>>;

class BlobService final : public BlobCallbacks {
 public:
  explicit BlobService(const BlobTransfer& transfer);

  grpc::ServerUnaryReactor* FindMissingBlobs(grpc::CallbackServerContext* context,
                                             const grpc::ByteBuffer* request,
                                             grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* GetBlobStatus(grpc::CallbackServerContext* context,
                                          const grpc::ByteBuffer* request,
                                          grpc::ByteBuffer* response) override;
  grpc::ServerReadReactor<grpc::ByteBuffer>* WriteBlob(grpc::CallbackServerContext* context,
                                                       grpc::ByteBuffer* response) override;
  grpc::ServerWriteReactor<grpc::ByteBuffer>* ReadBlob(grpc::CallbackServerContext* context,
                                                       const grpc::ByteBuffer* request) override;

 private:
  BlobTransfer transfer_;
  Metrics::Rpc& find_missing_blobs_;
  Metrics::Rpc& get_blob_status_;
  Metrics::Rpc& write_blob_;
  Metrics::Rpc& read_blob_;
};

}  // namespace salient

#endif  // SALIENT_SERVER_RPC_BLOB_SERVICE_H_
