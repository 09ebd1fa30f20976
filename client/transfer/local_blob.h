// Describes bytes on this machine that a server may need.
#ifndef SALIENT_CLIENT_TRANSFER_LOCAL_BLOB_H_
#define SALIENT_CLIENT_TRANSFER_LOCAL_BLOB_H_

#include <optional>
#include <string>

#include "salient/v1/blob_service.pb.h"

namespace salient::client {

// Is a file, or bytes that no file has.
struct LocalBlob {
  v1::Digest digest;
  std::string source;  // It is the path of the file, or what errors call the bytes.
  std::optional<std::string> content;
};

}  // namespace salient::client

#endif  // SALIENT_CLIENT_TRANSFER_LOCAL_BLOB_H_
