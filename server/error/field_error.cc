#include "server/error/field_error.h"

#include "absl/strings/str_cat.h"

namespace salient {

absl::Status BadField(Reason reason, absl::string_view field, absl::string_view value,
                      absl::string_view expected) {
  return WithField(InvalidCall(reason, absl::StrCat(field, " is ", value, "; expected ", expected)),
                   field);
}

absl::Status UnsupportedField(absl::string_view field, absl::string_view value,
                              absl::string_view instead) {
  return WithField(CallError(absl::StatusCode::kUnimplemented, Reason::kUnsupported,
                             absl::StrCat(field, ": this server does not have ", value,
                                          "; the nearest that it has is ", instead)),
                   field);
}

}  // namespace salient
