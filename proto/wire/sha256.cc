#include "proto/wire/sha256.h"

#include <openssl/evp.h>

#include <cstdlib>

namespace salient {
namespace {

EVP_MD_CTX* AsContext(void* context) { return static_cast<EVP_MD_CTX*>(context); }

// SHA-256 of memory we own cannot fail, except without memory or with a broken OpenSSL.
void Require(bool ok) {
  if (!ok) std::abort();
}

}  // namespace

void Sha256::Free::operator()(void* context) const { EVP_MD_CTX_free(AsContext(context)); }

Sha256::Sha256() : context_(EVP_MD_CTX_new()) {
  Require(context_ != nullptr &&
          EVP_DigestInit_ex(AsContext(context_.get()), EVP_sha256(), nullptr) == 1);
}

void Sha256::Update(absl::string_view data) {
  Require(EVP_DigestUpdate(AsContext(context_.get()), data.data(), data.size()) == 1);
  size_bytes_ += static_cast<int64_t>(data.size());
}

std::array<uint8_t, 32> Sha256::Snapshot() const {
  // Finishing spends a context, hence a copy of it.
  const std::unique_ptr<void, Free> copy(EVP_MD_CTX_new());
  std::array<uint8_t, 32> sha256 = {};
  unsigned int written = 0;
  Require(copy != nullptr &&
          EVP_MD_CTX_copy_ex(AsContext(copy.get()), AsContext(context_.get())) == 1 &&
          EVP_DigestFinal_ex(AsContext(copy.get()), sha256.data(), &written) == 1 &&
          written == sha256.size());
  return sha256;
}

}  // namespace salient
