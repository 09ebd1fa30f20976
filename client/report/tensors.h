// Writes what `salient tensors` says about its result, to people and to machines.
#ifndef SALIENT_CLIENT_REPORT_TENSORS_H_
#define SALIENT_CLIENT_REPORT_TENSORS_H_

#include <cstdint>
#include <string>

#include "absl/types/span.h"
#include "client/terminal/json_text.h"
#include "salient/v1/report.pb.h"

namespace salient::client {

// Returns the chosen scale in short: "identity", "x^0.45", "x^0.45/w^0.55" or "smoothquant 0.45".
std::string RatioText(const v1::ScaleCandidate& candidate);

// Writes loss / loss_rtn as "0.437", or "-" where round-to-nearest loses nothing.
std::string LossOverRtnText(const v1::GroupReport& report);

// Writes a line a group: ratio, losses, relative output error, bytes before and after, seconds;
// below it the notes, each with its group.
std::string GroupTable(absl::Span<const v1::GroupReport> reports);

// Sums over the Linears of a group.
int64_t BytesIn(const v1::GroupReport& report);
int64_t BytesOut(const v1::GroupReport& report);

// Writes one element of the groups below; with `directory` if the job has several results, and with
// `fold_error` behind `ratio` if it folded the group's scale.
JsonObject GroupJson(const v1::GroupReport& report);

// One JSON object: {output, parameters, bytes_in, bytes_out, seconds, groups: [{name, linears,
// candidate, ratio, loss_rtn, loss, relative_output_error, relative_output_error_rtn, exact_loss,
// token_count, row_count, parameters, bytes_in, bytes_out, seconds, kept_rtn, notes, numerics_id,
// linear_reports}]}. `linears` are names, `candidate` is {identity, weight_aware, ratio,
// smoothquant}, `ratio` is RatioText. `seconds` of the whole is wall time.
std::string ResultJson(const std::string& output, double seconds,
                       absl::Span<const v1::GroupReport> reports);

}  // namespace salient::client

#endif  // SALIENT_CLIENT_REPORT_TENSORS_H_
