#include "server/jobs/output_directories.h"

#include <algorithm>
#include <set>

#include "absl/strings/str_cat.h"
#include "core/tensor/stored_format.h"
#include "server/error/call_error.h"

namespace salient {

absl::StatusOr<std::vector<std::string>> OutputDirectories(absl::Span<const StoredFormat> formats) {
  if (formats.empty() || formats.size() > kMaxOutputs) {
    return InvalidCall(Reason::kBadJob, absl::StrCat("formats is a list of ", formats.size(),
                                                     "; expected 1 to ", kMaxOutputs));
  }
  if (formats.size() == 1) return std::vector<std::string>{""};
  std::vector<std::string> names;
  std::set<std::string> used;
  for (size_t i = 0; i < formats.size(); ++i) {
    const StoredFormat& stored = formats[i];
    std::string name(Name(stored.output));
    const auto alike = std::count_if(formats.begin(), formats.end(), [&](const StoredFormat& f) {
      return f.output == stored.output;
    });
    if (alike > 1) {
      absl::StrAppend(&name, "-", stored.format.bits, "bit-g", stored.format.group_size);
    }
    if (!used.insert(name).second) {
      return InvalidCall(Reason::kBadJob,
                         absl::StrCat("quantize.formats[", i, "] would have the directory ", name,
                                      " as one before it; expected formats that differ in "
                                      "output_format, bits or group_size"));
    }
    names.push_back(std::move(name));
  }
  return names;
}

std::string InDirectory(absl::string_view directory, absl::string_view name) {
  return directory.empty() ? std::string(name) : absl::StrCat(directory, "/", name);
}

}  // namespace salient
