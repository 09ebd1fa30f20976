#include "client/jobs/result_download.h"

#include <vector>

#include "absl/strings/str_cat.h"
#include "client/transfer/blob_download.h"
#include "client/transfer/file_digest.h"
#include "core/text/quote.h"
#include "proto/wire/sha256.h"

namespace salient::client {

absl::Status DownloadResultFile(const JobServer& server, CallGroup& calls,
                                const v1::ResultFile& file, ResultDirectory& directory,
                                absl::FunctionRef<void(int64_t bytes)> taken) {
  if (auto begun = directory.BeginFile(file.name()); !begun.ok()) return begun;
  std::vector<v1::Digest> parts(file.parts().begin(), file.parts().end());
  if (parts.empty()) parts.push_back(file.digest());  // It is a blob as it is.

  Sha256 whole;
  for (const v1::Digest& part : parts) {
    const absl::Status downloaded = DownloadBlob(server, calls, part, [&](absl::string_view bytes) {
      whole.Update(bytes);
      taken(static_cast<int64_t>(bytes.size()));
      return directory.Append(bytes);
    });
    if (!downloaded.ok()) return downloaded;
  }
  const v1::Digest digest = ToMessage(whole);
  if (digest.sha256() == file.digest().sha256()) return absl::OkStatus();
  return absl::InternalError(absl::StrCat(
      "the parts of result file ", QuoteForMessage(file.name()), " have sha256 ", digest.sha256(),
      "; the server at ", server.address, " announced ", QuoteForMessage(file.digest().sha256())));
}

}  // namespace salient::client
