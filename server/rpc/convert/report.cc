#include "server/rpc/convert/report.h"

#include <string>

#include "core/text/utf8.h"

namespace salient {
namespace {

v1::LinearReport ToLinearProto(const LinearReport& report) {
  v1::LinearReport message;
  message.set_name(report.name);
  message.set_out_features(report.out_features);
  message.set_in_features(report.in_features);
  message.set_loss_rtn(report.loss_rtn);
  message.set_loss(report.loss);
  message.set_relative_output_error_rtn(report.relative_output_error_rtn);
  message.set_relative_output_error(report.relative_output_error);
  message.set_clipped_share(report.clipped_share);
  message.set_saturated_zero_point_share(report.saturated_zero_point_share);
  message.set_kept_rtn(report.kept_rtn);
  message.set_bytes_in(report.bytes_in);
  message.set_bytes_out(report.bytes_out);
  message.set_bits(report.bits);
  return message;
}

}  // namespace

v1::GroupReport ToProto(const GroupReport& report, absl::Duration elapsed,
                        const std::string& numerics_id) {
  v1::GroupReport message;
  message.set_name(report.name);
  message.mutable_candidate()->set_identity(report.candidate.identity);
  if (!report.candidate.identity) {
    message.mutable_candidate()->set_weight_aware(report.candidate.weight_aware);
    message.mutable_candidate()->set_ratio(report.candidate.ratio);
    message.mutable_candidate()->set_smoothquant(report.candidate.smoothquant);
  }
  message.set_loss_rtn(report.loss_rtn);
  message.set_loss(report.loss);
  message.set_relative_output_error_rtn(report.relative_output_error_rtn);
  message.set_relative_output_error(report.relative_output_error);
  message.set_exact_loss(report.exact_loss);
  message.set_loss_standard_error(report.loss_standard_error);
  if (report.fold_error.has_value()) message.set_fold_error(*report.fold_error);
  message.set_token_count(report.token_count);
  message.set_row_count(report.row_count);
  message.set_parameters(report.parameters);
  for (const LinearReport& linear : report.linears) *message.add_linears() = ToLinearProto(linear);
  for (const std::string& note : report.notes) message.add_notes(EscapeNonUtf8(note));
  message.set_seconds(absl::ToDoubleSeconds(elapsed));
  message.set_numerics_id(numerics_id);
  return message;
}

}  // namespace salient
