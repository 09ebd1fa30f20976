// Reads bytes of files and of tensors as text, and makes blobs that are no files.
#ifndef SALIENT_TESTS_CLIENT_FILE_CONTENTS_H_
#define SALIENT_TESTS_CLIENT_FILE_CONTENTS_H_

#include <cstddef>
#include <fstream>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "client/transfer/file_digest.h"
#include "client/transfer/local_blob.h"

namespace salient::client {

// Returns what is in a file; "" if there is none.
inline std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

inline std::string Text(const std::vector<std::byte>& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

inline LocalBlob InMemory(std::string content) {
  v1::Digest digest = DigestOfBytes(content);
  return {std::move(digest), "bytes of a test", std::move(content)};
}

}  // namespace salient::client

#endif  // SALIENT_TESTS_CLIENT_FILE_CONTENTS_H_
